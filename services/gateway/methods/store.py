"""SQL of payment methods."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Connection
from gateway.domain.method import PaymentMethod

_SELECT = (
    "SELECT m.payment_method_id, m.customer_id, m.provider_account_id,"
    " a.code AS provider_account, m.provider_token, m.label, m.is_default, m.create_time,"
    " m.kind, m.brand, m.last_four, m.expire_year, m.expire_month, m.provider_customer_id,"
    " m.detach_time"
    " FROM payment_method AS m JOIN provider_account AS a USING (tenant_id, provider_account_id)"
)


async def lock_customer(tx: Connection, tenant_id: UUID, customer_id: str) -> None:
    """Let one transaction at a time choose a customer's default method."""
    await tx.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('payment_method/' || $1 || '/' || $2, 0))",
        str(tenant_id),
        customer_id,
    )


async def insert_method(tx: Connection, tenant_id: UUID, method: PaymentMethod) -> bool:
    """False where the customer has that token already."""
    inserted = await tx.fetchval(
        "INSERT INTO payment_method (tenant_id, payment_method_id, customer_id,"
        " provider_account_id, provider_token, label, is_default, create_time, kind, brand,"
        " last_four, expire_year, expire_month, provider_customer_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        " ON CONFLICT (tenant_id, customer_id, provider_account_id, provider_token) DO NOTHING"
        " RETURNING true",
        tenant_id,
        method.payment_method_id,
        method.customer_id,
        method.provider_account_id,
        method.provider_token,
        method.label,
        method.is_default,
        method.create_time,
        method.kind,
        method.brand,
        method.last_four,
        method.expire_year,
        method.expire_month,
        method.provider_customer_id,
    )
    return bool(inserted)


async def clear_default(tx: Connection, tenant_id: UUID, customer_id: str) -> None:
    await tx.execute(
        "UPDATE payment_method SET is_default = false"
        " WHERE tenant_id = $1 AND customer_id = $2 AND is_default",
        tenant_id,
        customer_id,
    )


async def detach(tx: Connection, tenant_id: UUID, payment_method_id: UUID, now: datetime) -> None:
    """A method is forgotten: its row stays, for what it paid."""
    await tx.execute(
        "UPDATE payment_method SET detach_time = $3, is_default = false"
        " WHERE tenant_id = $1 AND payment_method_id = $2 AND detach_time IS NULL",
        tenant_id,
        payment_method_id,
        now,
    )


async def find_method(
    tx: Connection, tenant_id: UUID, customer_id: str, payment_method_id: UUID | None
) -> PaymentMethod | None:
    """One of a customer's methods, forgotten ones too; without an id, the default."""
    row = await tx.fetchrow(
        f"{_SELECT} WHERE m.tenant_id = $1 AND m.customer_id = $2"
        " AND CASE WHEN $3::uuid IS NULL THEN m.is_default ELSE m.payment_method_id = $3 END",
        tenant_id,
        customer_id,
        payment_method_id,
    )
    return _method(row) if row else None


async def list_methods(
    tx: Connection, tenant_id: UUID, customer_id: str, after: tuple[bool, UUID] | None, size: int
) -> list[PaymentMethod]:
    """The default first, then by id, which is by creation."""
    rows = await tx.fetch(
        f"{_SELECT} WHERE m.tenant_id = $1 AND m.customer_id = $2"
        " AND m.detach_time IS NULL"
        " AND ($3::boolean IS NULL OR (NOT m.is_default, m.payment_method_id) > (NOT $3, $4))"
        " ORDER BY NOT m.is_default, m.payment_method_id LIMIT $5",
        tenant_id,
        customer_id,
        after[0] if after else None,
        after[1] if after else None,
        size,
    )
    return [_method(row) for row in rows]


def _method(row: Any) -> PaymentMethod:
    return PaymentMethod(
        payment_method_id=row["payment_method_id"],
        customer_id=row["customer_id"],
        provider_account_id=row["provider_account_id"],
        provider_account=row["provider_account"],
        provider_token=row["provider_token"],
        label=row["label"],
        is_default=row["is_default"],
        create_time=row["create_time"],
        kind=row["kind"],
        brand=row["brand"],
        last_four=row["last_four"],
        expire_year=row["expire_year"],
        expire_month=row["expire_month"],
        provider_customer_id=row["provider_customer_id"],
        detach_time=row["detach_time"],
    )
