"""SQL of tax rates."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.taxes.domain import TaxRate

_COLUMNS = "country, category, name, rate, start_time"


async def save_tax_rate(tx: Connection, tenant_id: UUID, rate: TaxRate) -> None:
    await tx.execute(
        f"INSERT INTO tax_rate (tenant_id, {_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (tenant_id, country, category, start_time)"
        " DO UPDATE SET name = excluded.name, rate = excluded.rate",
        tenant_id,
        rate.country,
        rate.category,
        rate.name,
        rate.rate,
        rate.start_time,
    )


async def list_tax_rates(
    tx: Connection, tenant_id: UUID, after: tuple[str, str, datetime], limit: int
) -> list[TaxRate]:
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM tax_rate WHERE tenant_id = $1"
        " AND (country, category, start_time) > ($2, $3, $4)"
        " ORDER BY country, category, start_time LIMIT $5",
        tenant_id,
        *after,
        limit,
    )
    return [_tax_rate(row) for row in rows]


async def list_rates_of_country(tx: Connection, tenant_id: UUID, country: str) -> list[TaxRate]:
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM tax_rate WHERE tenant_id = $1 AND country = $2"
        " ORDER BY category, start_time",
        tenant_id,
        country,
    )
    return [_tax_rate(row) for row in rows]


def _tax_rate(row: asyncpg.Record) -> TaxRate:
    return TaxRate(
        country=row["country"],
        category=row["category"],
        name=row["name"],
        rate=row["rate"],
        start_time=row["start_time"],
    )
