"""SQL of customers."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.customers.domain import Customer

_COLUMNS = (
    "customer_id, name, email, address, country, tax_id, time_zone, currency, suspended,"
    " create_time, rate_card_version, region, tax_id_type, language, city, postal_code,"
    " buyer_reference, payer_customer_id, billing_threshold"
)


async def insert_customer(tx: Connection, tenant_id: UUID, customer: Customer) -> bool:
    """False where a customer of that id exists."""
    return bool(
        await tx.fetchval(
            f"INSERT INTO customer (tenant_id, {_COLUMNS})"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
            " $18, $19, $20) ON CONFLICT (tenant_id, customer_id) DO NOTHING RETURNING true",
            tenant_id,
            customer.customer_id,
            customer.name,
            customer.email,
            list(customer.address),
            customer.country,
            customer.tax_id,
            customer.time_zone,
            customer.currency,
            customer.suspended,
            customer.create_time,
            customer.rate_card_version,
            customer.region,
            customer.tax_id_type,
            customer.language,
            customer.city,
            customer.postal_code,
            customer.buyer_reference,
            customer.payer_customer_id,
            customer.billing_threshold,
        )
    )


async def save_customer(tx: Connection, tenant_id: UUID, customer: Customer) -> None:
    """Write what may change of a customer."""
    await tx.execute(
        "UPDATE customer SET name = $3, email = $4, address = $5, country = $6, tax_id = $7,"
        " region = $8, tax_id_type = $9, language = $10, city = $11, postal_code = $12,"
        " buyer_reference = $13, payer_customer_id = $14, billing_threshold = $15"
        " WHERE tenant_id = $1 AND customer_id = $2",
        tenant_id,
        customer.customer_id,
        customer.name,
        customer.email,
        list(customer.address),
        customer.country,
        customer.tax_id,
        customer.region,
        customer.tax_id_type,
        customer.language,
        customer.city,
        customer.postal_code,
        customer.buyer_reference,
        customer.payer_customer_id,
        customer.billing_threshold,
    )


async def is_payer(tx: Connection, tenant_id: UUID, customer_id: str) -> bool:
    """Whether anybody is paid for by a customer."""
    return bool(
        await tx.fetchval(
            "SELECT EXISTS (SELECT FROM customer WHERE tenant_id = $1 AND payer_customer_id = $2)",
            tenant_id,
            customer_id,
        )
    )


async def find_customer(tx: Connection, tenant_id: UUID, customer_id: str) -> Customer | None:
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM customer WHERE tenant_id = $1 AND customer_id = $2",
        tenant_id,
        customer_id,
    )
    return None if row is None else _customer(row)


async def lock_customer(tx: Connection, tenant_id: UUID, customer_id: str) -> Customer | None:
    """The customer, held until the transaction ends: what it has changes one after the other."""
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM customer WHERE tenant_id = $1 AND customer_id = $2 FOR UPDATE",
        tenant_id,
        customer_id,
    )
    return None if row is None else _customer(row)


async def lock_customers(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str]
) -> dict[str, Customer]:
    """Customers, held until the transaction ends, in one order for all who hold several."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM customer WHERE tenant_id = $1 AND customer_id = ANY ($2)"
        " ORDER BY customer_id FOR UPDATE",
        tenant_id,
        list(customer_ids),
    )
    return {row["customer_id"]: _customer(row) for row in rows}


async def list_paid_for(
    tx: Connection, tenant_id: UUID, payer_ids: Sequence[str]
) -> list[Customer]:
    """Customers whose documents others pay, in order of their ids."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM customer WHERE tenant_id = $1 AND payer_customer_id = ANY ($2)"
        " AND payer_customer_id <> '' ORDER BY customer_id",
        tenant_id,
        list(payer_ids),
    )
    return [_customer(row) for row in rows]


async def list_customers(tx: Connection, tenant_id: UUID, after: str, limit: int) -> list[Customer]:
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM customer WHERE tenant_id = $1 AND customer_id > $2"
        " ORDER BY customer_id LIMIT $3",
        tenant_id,
        after,
        limit,
    )
    return [_customer(row) for row in rows]


async def find_customers(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str]
) -> dict[str, Customer]:
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM customer WHERE tenant_id = $1 AND customer_id = ANY ($2)",
        tenant_id,
        list(customer_ids),
    )
    return {row["customer_id"]: _customer(row) for row in rows}


async def save_suspension(
    tx: Connection, tenant_id: UUID, customer_id: str, suspended: bool
) -> None:
    await tx.execute(
        "UPDATE customer SET suspended = $3 WHERE tenant_id = $1 AND customer_id = $2",
        tenant_id,
        customer_id,
        suspended,
    )


async def raise_rate_card_version(tx: Connection, tenant_id: UUID, customer_id: str) -> int:
    """The next version of the customer's rate card, or 0 where there is no such customer."""
    version: int | None = await tx.fetchval(
        "UPDATE customer SET rate_card_version = rate_card_version + 1"
        " WHERE tenant_id = $1 AND customer_id = $2 RETURNING rate_card_version",
        tenant_id,
        customer_id,
    )
    return version or 0


def _customer(row: asyncpg.Record) -> Customer:
    threshold = row["billing_threshold"]
    changed = {
        "address": tuple(row["address"]),
        "billing_threshold": None if threshold is None else int(threshold),
    }
    return Customer(**{**dict(row), **changed})
