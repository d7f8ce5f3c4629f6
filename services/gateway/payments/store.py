"""SQL of payment intents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from chassis.database import Connection
from gateway.attempts.store import list_attempts
from gateway.domain.payment import DECLINES_MAX, Payment, PaymentState, Source
from kernel.money import Amount, Asset

_SELECT = (
    "SELECT payment_id, customer_id, asset, minor_digits, atoms, source_kind, source_id,"
    " description, state, outcome_unknown, create_time, capture_later, cancel_requested"
    " FROM payment"
)


async def insert_payment(tx: Connection, tenant_id: UUID, payment: Payment) -> None:
    await tx.execute(
        "INSERT INTO payment (tenant_id, payment_id, customer_id, asset, minor_digits, atoms,"
        " source_kind, source_id, description, state, outcome_unknown, create_time, update_time,"
        " capture_later) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13)",
        tenant_id,
        payment.payment_id,
        payment.customer_id,
        payment.amount.asset.code,
        payment.amount.asset.scale,
        Decimal(payment.amount.atoms),
        payment.source.kind,
        payment.source.id,
        payment.description,
        payment.state.value,
        payment.outcome_unknown,
        payment.create_time,
        payment.capture_later,
    )


async def lock_payment(tx: Connection, tenant_id: UUID, payment_id: UUID) -> Payment | None:
    """The payment with its attempts, which change under this lock alone."""
    row = await tx.fetchrow(
        f"{_SELECT} WHERE tenant_id = $1 AND payment_id = $2 FOR UPDATE", tenant_id, payment_id
    )
    if row is None:
        return None
    return (await _with_attempts(tx, tenant_id, [_payment(row)]))[0]


async def find_payment(tx: Connection, tenant_id: UUID, payment_id: UUID) -> Payment | None:
    row = await tx.fetchrow(
        f"{_SELECT} WHERE tenant_id = $1 AND payment_id = $2", tenant_id, payment_id
    )
    if row is None:
        return None
    return (await _with_attempts(tx, tenant_id, [_payment(row)]))[0]


async def list_payments(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str | None,
    before: tuple[datetime, UUID] | None,
    size: int,
) -> list[Payment]:
    """Newest first, of one customer or of all."""
    rows = await tx.fetch(
        f"{_SELECT} WHERE tenant_id = $1 AND ($2::text IS NULL OR customer_id = $2)"
        " AND ($3::timestamptz IS NULL OR (create_time, payment_id) < ($3, $4))"
        " ORDER BY create_time DESC, payment_id DESC LIMIT $5",
        tenant_id,
        customer_id,
        before[0] if before else None,
        before[1] if before else None,
        size,
    )
    return await _with_attempts(tx, tenant_id, [_payment(row) for row in rows])


async def save_state(
    tx: Connection,
    tenant_id: UUID,
    payment_id: UUID,
    state: PaymentState,
    outcome_unknown: bool,
    now: datetime,
) -> None:
    await tx.execute(
        "UPDATE payment SET state = $3, outcome_unknown = $4, update_time = $5"
        " WHERE tenant_id = $1 AND payment_id = $2",
        tenant_id,
        payment_id,
        state.value,
        outcome_unknown,
        now,
    )


async def save_cancel_requested(tx: Connection, tenant_id: UUID, payment_id: UUID) -> None:
    """Nobody wants the payment any more."""
    await tx.execute(
        "UPDATE payment SET cancel_requested = true WHERE tenant_id = $1 AND payment_id = $2",
        tenant_id,
        payment_id,
    )


async def list_declines(
    tx: Connection, tenant_id: UUID, payment_method_id: UUID, since: datetime
) -> list[datetime]:
    """When a method was declined last, over all payments; as many as any cap counts."""
    rows = await tx.fetch(
        "SELECT update_time FROM attempt WHERE tenant_id = $1 AND payment_method_id = $2"
        " AND state = 'DECLINED' AND update_time > $3 ORDER BY update_time DESC LIMIT $4",
        tenant_id,
        payment_method_id,
        since,
        DECLINES_MAX,
    )
    return [row["update_time"] for row in rows]


async def _with_attempts(
    tx: Connection, tenant_id: UUID, payments: Sequence[Payment]
) -> list[Payment]:
    attempts = await list_attempts(tx, tenant_id, [each.payment_id for each in payments])
    return [replace(each, attempts=tuple(attempts.get(each.payment_id, ()))) for each in payments]


def _payment(row: Any) -> Payment:
    return Payment(
        payment_id=row["payment_id"],
        customer_id=row["customer_id"],
        amount=Amount(Asset(row["asset"], row["minor_digits"]), int(row["atoms"])),
        source=Source(row["source_kind"], row["source_id"]),
        description=row["description"],
        state=PaymentState(row["state"]),
        outcome_unknown=row["outcome_unknown"],
        create_time=row["create_time"],
        capture_later=row["capture_later"],
        cancel_requested=row["cancel_requested"],
    )
