"""Meters in Postgres."""

from __future__ import annotations

import json
from uuid import UUID

from asyncpg import Record

from chassis.database import Connection
from metering.meters.domain import Aggregation, Filter, FilterOperator, Meter


async def lock_version(tx: Connection, tenant_id: UUID) -> int:
    """Take the next version of the tenant's set of meters; changes of it come one by one."""
    version: int = await tx.fetchval(
        "INSERT INTO meter_set AS s (tenant_id, version) VALUES ($1, 1)"
        " ON CONFLICT (tenant_id) DO UPDATE SET version = s.version + 1 RETURNING version",
        tenant_id,
    )
    return version


async def find_version(tx: Connection, tenant_id: UUID) -> int:
    """The version of the tenant's set of meters; 0 where there are none."""
    found: int | None = await tx.fetchval(
        "SELECT version FROM meter_set WHERE tenant_id = $1", tenant_id
    )
    return found or 0


async def list_all(tx: Connection, tenant_id: UUID) -> list[Meter]:
    """Every meter of the tenant, archived ones among them, by code."""
    rows = await tx.fetch("SELECT * FROM meter WHERE tenant_id = $1 ORDER BY code", tenant_id)
    return [_meter(row) for row in rows]


async def list_page(tx: Connection, tenant_id: UUID, after: str, size: int) -> list[Meter]:
    """Meters whose code comes after another, by code."""
    rows = await tx.fetch(
        "SELECT * FROM meter WHERE tenant_id = $1 AND code > $2 ORDER BY code LIMIT $3",
        tenant_id,
        after,
        size,
    )
    return [_meter(row) for row in rows]


async def find(tx: Connection, tenant_id: UUID, code: str) -> Meter | None:
    """One meter."""
    row = await tx.fetchrow(
        "SELECT * FROM meter WHERE tenant_id = $1 AND code = $2", tenant_id, code
    )
    return _meter(row) if row else None


async def count(tx: Connection, tenant_id: UUID) -> int:
    """How many meters the tenant has."""
    number: int = await tx.fetchval("SELECT count(*) FROM meter WHERE tenant_id = $1", tenant_id)
    return number


async def insert(tx: Connection, tenant_id: UUID, meter: Meter) -> bool:
    """Add a meter; False where its code is taken."""
    filters = [[f.name, f.operator.value, sorted(f.values)] for f in meter.filters]
    status = await tx.execute(
        "INSERT INTO meter (tenant_id, code, name, event_name, aggregation, value_property,"
        " filters, dimensions, unit, create_time, from_version)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        " ON CONFLICT (tenant_id, code) DO NOTHING",
        tenant_id,
        meter.code,
        meter.name,
        meter.event_name,
        meter.aggregation.value,
        meter.value_property,
        json.dumps(filters),
        list(meter.dimensions),
        meter.unit,
        meter.create_time,
        meter.from_version,
    )
    return status == "INSERT 0 1"


async def archive(tx: Connection, tenant_id: UUID, code: str, version: int) -> None:
    """From this version of the set on, the meter counts nothing."""
    await tx.execute(
        "UPDATE meter SET until_version = $3 WHERE tenant_id = $1 AND code = $2",
        tenant_id,
        code,
        version,
    )


def _meter(row: Record) -> Meter:
    return Meter(
        code=row["code"],
        name=row["name"],
        event_name=row["event_name"],
        aggregation=Aggregation(row["aggregation"]),
        value_property=row["value_property"],
        filters=tuple(
            Filter(name, FilterOperator(operator), frozenset(values))
            for name, operator, values in json.loads(row["filters"])
        ),
        dimensions=tuple(row["dimensions"]),
        unit=row["unit"],
        create_time=row["create_time"],
        from_version=row["from_version"],
        until_version=row["until_version"],
    )
