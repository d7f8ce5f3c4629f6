"""SQL of refunds that credit notes ask for."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.refunds.domain import CreditRefund, RefundState
from kernel.money import Amount, Asset


async def insert_refund(tx: Connection, tenant_id: UUID, refund: CreditRefund) -> None:
    await tx.execute(
        "INSERT INTO credit_refund (tenant_id, credit_note_id, invoice_id, customer_id, payment_id,"
        " note_number, currency, scale, amount, state)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        tenant_id,
        refund.credit_note_id,
        refund.invoice_id,
        refund.customer_id,
        refund.payment_id,
        refund.note_number,
        refund.amount.asset.code,
        refund.amount.asset.scale,
        refund.amount.atoms,
        refund.state.value,
    )


async def sum_refunded(tx: Connection, tenant_id: UUID, invoice_id: UUID) -> int:
    """Minor units of an invoice that are sent back or on their way."""
    return int(
        await tx.fetchval(
            "SELECT coalesce(sum(amount), 0) FROM credit_refund WHERE tenant_id = $1"
            " AND invoice_id = $2 AND state NOT IN ('FAILED', 'RETURNED')",
            tenant_id,
            invoice_id,
        )
    )


async def list_tenants_to_refund(connection: Connection) -> list[UUID]:
    rows = await connection.fetch("SELECT * FROM tenants_to_refund()")
    return [row[0] for row in rows]


async def claim_refunds(
    tx: Connection, tenant_id: UUID, limit: int, lease: timedelta
) -> list[CreditRefund]:
    """Refunds that the gateway is to be asked about, for this worker alone during the lease."""
    rows = await tx.fetch(
        "UPDATE credit_refund AS r SET next_try_time = clock_timestamp() + $3"
        " FROM (SELECT credit_note_id FROM credit_refund WHERE tenant_id = $1"
        "  AND next_try_time <= clock_timestamp() ORDER BY next_try_time LIMIT $2"
        "  FOR UPDATE SKIP LOCKED) AS due"
        " WHERE r.tenant_id = $1 AND r.credit_note_id = due.credit_note_id RETURNING r.*",
        tenant_id,
        limit,
        lease,
    )
    return [_refund(row) for row in rows]


async def lock_refund(tx: Connection, tenant_id: UUID, credit_note_id: UUID) -> CreditRefund | None:
    """The refund, held until the transaction ends."""
    row = await tx.fetchrow(
        "SELECT * FROM credit_refund WHERE tenant_id = $1 AND credit_note_id = $2 FOR UPDATE",
        tenant_id,
        credit_note_id,
    )
    return None if row is None else _refund(row)


async def list_refunds(
    tx: Connection, tenant_id: UUID, credit_note_ids: list[UUID]
) -> dict[UUID, CreditRefund]:
    """The refunds of credit notes, by credit note."""
    rows = await tx.fetch(
        "SELECT * FROM credit_refund WHERE tenant_id = $1 AND credit_note_id = ANY ($2)",
        tenant_id,
        credit_note_ids,
    )
    return {row["credit_note_id"]: _refund(row) for row in rows}


async def save_refund(
    tx: Connection, tenant_id: UUID, refund: CreditRefund, pause: timedelta | None
) -> None:
    """Write where a refund stands. With no pause nobody asks until a message comes."""
    await tx.execute(
        "UPDATE credit_refund SET state = $3, refund_id = $4, failure_code = $5,"
        " next_try_time = coalesce(clock_timestamp() + $6::interval, 'infinity')"
        " WHERE tenant_id = $1 AND credit_note_id = $2",
        tenant_id,
        refund.credit_note_id,
        refund.state.value,
        refund.refund_id,
        refund.failure_code,
        pause,
    )


async def ask_again(tx: Connection, tenant_id: UUID, refund_id: str) -> None:
    """Something happened to a refund at the gateway: look now."""
    await tx.execute(
        "UPDATE credit_refund SET next_try_time = '-infinity'"
        " WHERE tenant_id = $1 AND refund_id = $2",
        tenant_id,
        refund_id,
    )


def _refund(row: asyncpg.Record) -> CreditRefund:
    return CreditRefund(
        credit_note_id=row["credit_note_id"],
        invoice_id=row["invoice_id"],
        customer_id=row["customer_id"],
        payment_id=row["payment_id"],
        note_number=row["note_number"],
        amount=Amount(Asset(row["currency"], row["scale"]), int(row["amount"])),
        state=RefundState(row["state"]),
        refund_id=row["refund_id"],
        failure_code=row["failure_code"],
    )
