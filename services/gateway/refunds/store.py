"""SQL of refunds."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from chassis.database import Connection
from gateway.domain.refund import Refund, RefundState
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount, Asset

_SELECT = (
    "SELECT refund_id, payment_id, attempt_id, provider_account_id, asset, minor_digits, atoms,"
    " captured_atoms, refunded_before_atoms, reason, state, provider_refund_id, stated_asset,"
    " stated_atoms, failure_code, create_time, update_time FROM refund"
)


async def insert_refund(tx: Connection, tenant_id: UUID, refund: Refund) -> None:
    await tx.execute(
        "INSERT INTO refund (tenant_id, refund_id, payment_id, attempt_id, provider_account_id,"
        " asset, minor_digits, atoms, captured_atoms, refunded_before_atoms, reason, state,"
        " create_time, update_time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        tenant_id,
        refund.refund_id,
        refund.payment_id,
        refund.attempt_id,
        refund.provider_account_id,
        refund.amount.asset.code,
        refund.amount.asset.scale,
        Decimal(refund.amount.atoms),
        Decimal(refund.captured.atoms),
        Decimal(refund.refunded_before.atoms),
        refund.reason,
        refund.state.value,
        refund.create_time,
        refund.update_time,
    )


async def find_refund(tx: Connection, tenant_id: UUID, refund_id: UUID) -> Refund | None:
    row = await tx.fetchrow(
        f"{_SELECT} WHERE tenant_id = $1 AND refund_id = $2", tenant_id, refund_id
    )
    return _refund(row) if row else None


async def lock_refund(tx: Connection, tenant_id: UUID, refund_id: UUID) -> Refund:
    """A refund that exists. Its payment is locked before."""
    row = await tx.fetchrow(
        f"{_SELECT} WHERE tenant_id = $1 AND refund_id = $2 FOR UPDATE", tenant_id, refund_id
    )
    return _refund(row)


async def find_told_refund(
    tx: Connection,
    tenant_id: UUID,
    provider_account_id: UUID,
    reference: UUID | None,
    provider_refund_id: str,
) -> Refund | None:
    """The refund that a provider speaks of, by our reference or by its own id."""
    row = await tx.fetchrow(
        f"{_SELECT} WHERE tenant_id = $1 AND provider_account_id = $2"
        " AND (refund_id = $3 OR ($4 <> '' AND provider_refund_id = $4))"
        " ORDER BY refund_id = $3 DESC NULLS LAST LIMIT 1",
        tenant_id,
        provider_account_id,
        reference,
        provider_refund_id,
    )
    return _refund(row) if row else None


async def list_refunds(
    tx: Connection,
    tenant_id: UUID,
    payment_id: UUID | None,
    before: tuple[datetime, UUID] | None,
    size: int,
) -> list[Refund]:
    """Newest first, of one payment or of all."""
    rows = await tx.fetch(
        f"{_SELECT} WHERE tenant_id = $1 AND ($2::uuid IS NULL OR payment_id = $2)"
        " AND ($3::timestamptz IS NULL OR (create_time, refund_id) < ($3, $4))"
        " ORDER BY create_time DESC, refund_id DESC LIMIT $5",
        tenant_id,
        payment_id,
        before[0] if before else None,
        before[1] if before else None,
        size,
    )
    return [_refund(row) for row in rows]


async def save_refund(tx: Connection, tenant_id: UUID, refund: Refund) -> None:
    stated = refund.stated
    await tx.execute(
        "UPDATE refund SET state = $3, provider_refund_id = $4, stated_asset = $5,"
        " stated_atoms = $6, failure_code = $7, update_time = $8"
        " WHERE tenant_id = $1 AND refund_id = $2",
        tenant_id,
        refund.refund_id,
        refund.state.value,
        refund.provider_refund_id,
        stated.asset.code if stated else None,
        Decimal(stated.atoms) if stated else None,
        refund.failure_code,
        refund.update_time,
    )


def _refund(row: Any) -> Refund:
    asset = Asset(row["asset"], row["minor_digits"])
    stated = None
    if row["stated_asset"] is not None:
        code = row["stated_asset"]
        stated = Amount(Asset(code, MINOR_DIGITS[code]), int(row["stated_atoms"]))
    return Refund(
        refund_id=row["refund_id"],
        payment_id=row["payment_id"],
        attempt_id=row["attempt_id"],
        provider_account_id=row["provider_account_id"],
        amount=Amount(asset, int(row["atoms"])),
        reason=row["reason"],
        state=RefundState(row["state"]),
        create_time=row["create_time"],
        update_time=row["update_time"],
        captured=Amount(asset, int(row["captured_atoms"])),
        refunded_before=Amount(asset, int(row["refunded_before_atoms"])),
        provider_refund_id=row["provider_refund_id"],
        stated=stated,
        failure_code=row["failure_code"],
    )
