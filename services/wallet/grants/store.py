"""Grants' SQL: looking at them."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from chassis.database import Connection
from wallet.ledger.domain.details import Rollover
from wallet.ledger.domain.outcomes import Granted
from wallet.ledger.domain.reading import read_end
from wallet.ledger.domain.values import Restrictions

LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


async def list_grants(
    tx: Connection, tenant_id: UUID, wallet_id: str, before: str, count: int
) -> list[tuple[Granted, int]]:
    """Grants of a wallet with what is held of each, newest first, those before an id."""
    rows = await tx.fetch(
        "SELECT g.grant_id::text, g.wallet_id::text, g.asset, a.scale, g.amount::text,"
        " g.remaining::text, g.held::text, g.kind, g.priority, g.effective_time, g.expire_time,"
        " g.meters, g.features, g.products, g.cost_basis, g.cost_asset, g.source, g.create_time,"
        " n.rollover_fraction, n.rollover_cap::text, n.rollover_seconds, n.rolled_from::text,"
        " n.void_time"
        " FROM grants AS g JOIN assets AS a ON a.tenant_id = g.tenant_id AND a.code = g.asset"
        " LEFT JOIN grant_terms AS n ON n.tenant_id = g.tenant_id"
        " AND n.wallet_id = g.wallet_id AND n.grant_id = g.grant_id"
        " WHERE g.tenant_id = $1 AND g.wallet_id = $2 AND g.grant_id < $3"
        " ORDER BY g.grant_id DESC LIMIT $4",
        tenant_id,
        UUID(wallet_id),
        UUID(before),
        count,
    )
    grants = []
    for row in rows:
        restrictions: Restrictions = (
            tuple(row["meters"]),
            tuple(row["features"]),
            tuple(row["products"]),
        )
        grant = Granted(
            row["grant_id"],
            row["wallet_id"],
            row["asset"],
            row["scale"],
            int(row["amount"]),
            int(row["remaining"]),
            row["kind"],
            row["priority"],
            row["effective_time"],
            read_end(row["expire_time"]),
            restrictions if any(restrictions) else None,
            row["cost_basis"],
            row["cost_asset"],
            row["source"],
            row["create_time"],
            rollover=_rollover(row),
            rolled_from=row["rolled_from"] or "",
            void_time=row["void_time"],
        )
        grants.append((grant, int(row["held"])))
    return grants


def _rollover(row: asyncpg.Record) -> Rollover | None:
    if row["rollover_fraction"] is None:
        return None
    cap = row["rollover_cap"]
    return Rollover(
        row["rollover_fraction"], None if cap is None else int(cap), row["rollover_seconds"]
    )


async def has_wallet(tx: Connection, tenant_id: UUID, wallet_id: str) -> bool:
    found: bool = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM wallets WHERE tenant_id = $1 AND wallet_id = $2)",
        tenant_id,
        UUID(wallet_id),
    )
    return found
