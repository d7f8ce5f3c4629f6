"""Rates' SQL, in their tenant's own transaction."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from chassis.database import Connection


class Rate(NamedTuple):
    """What one unit of an asset is in another, from a time on."""

    from_asset: str
    to_asset: str
    effective_time: datetime
    rate: Decimal
    create_time: datetime


async def insert_rate(tx: Connection, tenant_id: UUID, rate: Rate) -> bool:
    """False where there is a rate of those assets and that time."""
    status = await tx.execute(
        "INSERT INTO exchange_rates"
        " (tenant_id, from_asset, to_asset, effective_time, rate, create_time)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        tenant_id,
        *rate,
    )
    return status == "INSERT 0 1"


async def list_rates(
    tx: Connection,
    tenant_id: UUID,
    from_asset: str,
    to_asset: str,
    after: tuple[str, str, datetime],
    count: int,
) -> list[Rate]:
    """Rates by assets and time, those after a key."""
    rows = await tx.fetch(
        "SELECT from_asset, to_asset, effective_time, rate, create_time FROM exchange_rates"
        " WHERE tenant_id = $1 AND ($2 = '' OR from_asset = $2) AND ($3 = '' OR to_asset = $3)"
        " AND (from_asset, to_asset, effective_time) > ($4, $5, $6)"
        " ORDER BY from_asset, to_asset, effective_time LIMIT $7",
        tenant_id,
        from_asset,
        to_asset,
        *after,
        count,
    )
    return [Rate(*row) for row in rows]
