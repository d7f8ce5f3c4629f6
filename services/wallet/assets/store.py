"""Assets' SQL."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from chassis.database import Connection
from wallet.assets.domain import Asset, AssetKind


async def insert_asset(tx: Connection, tenant_id: UUID, asset: Asset) -> bool:
    """False where the tenant has an asset of that code."""
    status = await tx.execute(
        "INSERT INTO assets (tenant_id, code, scale, kind, create_time)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        tenant_id,
        asset.code,
        asset.scale,
        int(asset.kind),
        asset.create_time,
    )
    return status == "INSERT 0 1"


async def list_assets(tx: Connection, tenant_id: UUID, after: str, count: int) -> list[Asset]:
    """Assets by code, those after a code."""
    rows = await tx.fetch(
        "SELECT code, scale, kind, create_time FROM assets"
        " WHERE tenant_id = $1 AND code > $2 ORDER BY code LIMIT $3",
        tenant_id,
        after,
        count,
    )
    return [_asset(row) for row in rows]


async def list_scales(tx: Connection, tenant_id: UUID, codes: list[str]) -> dict[str, int]:
    """Scales of those codes that exist."""
    rows = await tx.fetch(
        "SELECT code, scale FROM assets WHERE tenant_id = $1 AND code = ANY ($2)",
        tenant_id,
        codes,
    )
    return {row["code"]: row["scale"] for row in rows}


def _asset(row: asyncpg.Record) -> Asset:
    return Asset(row["code"], row["scale"], AssetKind(row["kind"]), row["create_time"])
