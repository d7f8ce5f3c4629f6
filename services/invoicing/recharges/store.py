"""SQL of top-ups."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.recharges.domain import TopUp, TopUpState


async def insert_top_up(tx: Connection, tenant_id: UUID, top_up: TopUp) -> None:
    await tx.execute(
        "INSERT INTO top_up (tenant_id, recharge_id, invoice_id, wallet_id, asset, value,"
        " cost_basis, cost_asset, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tenant_id,
        top_up.recharge_id,
        top_up.invoice_id,
        top_up.wallet_id,
        top_up.asset,
        top_up.value,
        top_up.cost_basis,
        top_up.cost_asset,
        top_up.state.value,
    )


async def is_known_recharge(tx: Connection, tenant_id: UUID, recharge_id: UUID) -> bool:
    return bool(
        await tx.fetchval(
            "SELECT true FROM top_up WHERE tenant_id = $1 AND recharge_id = $2",
            tenant_id,
            recharge_id,
        )
    )


async def lock_top_up(tx: Connection, tenant_id: UUID, invoice_id: UUID) -> TopUp | None:
    """The top-up that an invoice bills, held until the transaction ends."""
    row = await tx.fetchrow(
        "SELECT * FROM top_up WHERE tenant_id = $1 AND invoice_id = $2 FOR UPDATE",
        tenant_id,
        invoice_id,
    )
    return None if row is None else _top_up(row)


async def save_top_up(tx: Connection, tenant_id: UUID, top_up: TopUp) -> None:
    await tx.execute(
        "UPDATE top_up SET state = $3, disable_rule = $4, cause = $5,"
        " next_try_time = '-infinity' WHERE tenant_id = $1 AND recharge_id = $2",
        tenant_id,
        top_up.recharge_id,
        top_up.state.value,
        top_up.disable_rule,
        top_up.cause,
    )


async def claim_top_ups(
    tx: Connection, tenant_id: UUID, limit: int, lease: timedelta
) -> list[tuple[TopUp, str]]:
    """Top-ups whose end is to be told to the wallet, each with its payment's id."""
    rows = await tx.fetch(
        "UPDATE top_up AS t SET next_try_time = clock_timestamp() + $3"
        " FROM (SELECT d.recharge_id, v.payment_id FROM top_up AS d"
        "  JOIN invoice AS v ON v.tenant_id = d.tenant_id AND v.invoice_id = d.invoice_id"
        "  WHERE d.tenant_id = $1 AND d.state IN ('GRANTING', 'FAILING')"
        "  AND d.next_try_time <= clock_timestamp()"
        "  ORDER BY d.recharge_id LIMIT $2 FOR UPDATE OF d SKIP LOCKED) AS due"
        " WHERE t.tenant_id = $1 AND t.recharge_id = due.recharge_id"
        " RETURNING t.*, due.payment_id",
        tenant_id,
        limit,
        lease,
    )
    return [(_top_up(row), row["payment_id"]) for row in rows]


def _top_up(row: asyncpg.Record) -> TopUp:
    return TopUp(
        recharge_id=row["recharge_id"],
        invoice_id=row["invoice_id"],
        wallet_id=row["wallet_id"],
        asset=row["asset"],
        value=row["value"],
        cost_basis=row["cost_basis"],
        cost_asset=row["cost_asset"],
        state=TopUpState(row["state"]),
        disable_rule=row["disable_rule"],
        cause=row["cause"],
    )
