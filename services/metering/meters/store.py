"""Meters in Postgres."""

from __future__ import annotations

import json
from datetime import datetime
from fractions import Fraction
from uuid import UUID

from asyncpg import Record

from chassis.database import Connection
from metering.aggregates.domain.tally import Aggregation, Rounding, RoundingMode
from metering.expressions.domain.values import Type
from metering.meters.domain import Filter, FilterOperator, Meter, MeterState, Missing
from rating.exact import number_text


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
    """Every published version of every meter, archived ones among them, by code and version."""
    rows = await tx.fetch(
        "SELECT * FROM meter WHERE tenant_id = $1 AND from_version IS NOT NULL"
        " ORDER BY code, version",
        tenant_id,
    )
    return [_meter(row) for row in rows]


async def list_page(tx: Connection, tenant_id: UUID, after: str, size: int) -> list[Meter]:
    """Meters whose code comes after another, by code, each in its newest published version."""
    rows = await tx.fetch(
        "SELECT DISTINCT ON (code) * FROM meter"
        " WHERE tenant_id = $1 AND code > $2 AND from_version IS NOT NULL"
        " ORDER BY code, version DESC LIMIT $3",
        tenant_id,
        after,
        size,
    )
    return [_meter(row) for row in rows]


async def list_versions(
    tx: Connection, tenant_id: UUID, code: str, after: int = 0, size: int | None = None
) -> list[Meter]:
    """Versions of one meter after another, in their order; a draft is the last."""
    rows = await tx.fetch(
        "SELECT * FROM meter WHERE tenant_id = $1 AND code = $2 AND version > $3"
        " ORDER BY version LIMIT $4",
        tenant_id,
        code,
        after,
        size,
    )
    return [_meter(row) for row in rows]


async def count(tx: Connection, tenant_id: UUID) -> int:
    """How many versions of meters the tenant has."""
    number: int = await tx.fetchval("SELECT count(*) FROM meter WHERE tenant_id = $1", tenant_id)
    return number


async def insert(tx: Connection, tenant_id: UUID, meter: Meter) -> None:
    """Add a version of a meter; one without a version of the set is a draft."""
    filters = [[f.name, f.operator.value, sorted(f.values)] for f in meter.filters]
    rounding = meter.rounding and [
        meter.rounding.mode.value,
        number_text(meter.rounding.step),
        meter.rounding.of_event,
    ]
    await tx.execute(
        "INSERT INTO meter (tenant_id, code, version, name, event_name, aggregation,"
        " value_property, filters, dimensions, unit, create_time, from_version, effective_time,"
        " value_expression, filter_expression, property_types, operation_property, carries,"
        " rounding, on_missing)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
        " $18, $19, $20)",
        tenant_id,
        meter.code,
        meter.version,
        meter.name,
        meter.event_name,
        meter.aggregation.value,
        meter.value_property,
        json.dumps(filters),
        list(meter.dimensions),
        meter.unit,
        meter.create_time,
        None if meter.state is MeterState.DRAFT else meter.from_version,
        meter.effective_time,
        meter.value_expression,
        meter.filter_expression,
        json.dumps({name: kind.value for name, kind in meter.types}),
        meter.operation_property,
        meter.carries,
        json.dumps(rounding) if rounding else None,
        meter.on_missing.value,
    )


async def delete_draft(tx: Connection, tenant_id: UUID, code: str) -> None:
    """Drop the draft of a meter, if there is one."""
    await tx.execute(
        "DELETE FROM meter WHERE tenant_id = $1 AND code = $2 AND from_version IS NULL",
        tenant_id,
        code,
    )


async def publish(
    tx: Connection, tenant_id: UUID, code: str, version: int, effective_time: datetime | None
) -> None:
    """From this version of the set on, the draft of a meter counts."""
    await tx.execute(
        "UPDATE meter SET from_version = $3, effective_time = $4"
        " WHERE tenant_id = $1 AND code = $2 AND from_version IS NULL",
        tenant_id,
        code,
        version,
        effective_time,
    )


async def archive(tx: Connection, tenant_id: UUID, code: str, version: int) -> None:
    """From this version of the set on, no version of the meter counts anything."""
    await tx.execute(
        "UPDATE meter SET until_version = $3 WHERE tenant_id = $1 AND code = $2"
        " AND from_version IS NOT NULL AND until_version IS NULL",
        tenant_id,
        code,
        version,
    )


def _meter(row: Record) -> Meter:
    rounding = json.loads(row["rounding"]) if row["rounding"] else None
    state = MeterState.PUBLISHED if row["until_version"] is None else MeterState.ARCHIVED
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
        from_version=row["from_version"] or 0,
        until_version=row["until_version"],
        version=row["version"],
        state=MeterState.DRAFT if row["from_version"] is None else state,
        effective_time=row["effective_time"],
        value_expression=row["value_expression"],
        filter_expression=row["filter_expression"],
        types=tuple(
            (name, Type(kind)) for name, kind in sorted(json.loads(row["property_types"]).items())
        ),
        operation_property=row["operation_property"],
        carries=row["carries"],
        rounding=rounding
        and Rounding(RoundingMode(rounding[0]), Fraction(rounding[1]), rounding[2]),
        on_missing=Missing(row["on_missing"]),
    )
