"""Usage by hour in Postgres. The callers that write hold the locks of the customers."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from asyncpg import Record as Row

from chassis.database import Connection
from kernel.period import Period
from metering.aggregates.domain.carrying import Group, SeenKey
from metering.aggregates.domain.tally import (
    SUMS,
    Aggregation,
    Moment,
    Sighting,
    Tally,
    read_number,
)
from metering.events.domain.decision import Hour, HourKey
from metering.usage.domain import text_of


async def add_hours(tx: Connection, tenant_id: UUID, hours: Mapping[HourKey, Hour]) -> None:
    """Add what a batch counted to the hours."""
    levels = {key: hour for key, hour in hours.items() if hour.aggregation not in SUMS}
    sums = hours if not levels else {key: hours[key] for key in hours.keys() - levels.keys()}
    if sums:
        await _add_sums(tx, tenant_id, sums)
    if levels:
        await _add_levels(tx, tenant_id, levels)
        await _add_keys(tx, tenant_id, levels)


async def _add_sums(tx: Connection, tenant_id: UUID, hours: Mapping[HourKey, Hour]) -> None:
    columns = zip(
        *(
            (*key, hour.aggregation.value, text_of(hour.tally.total), hour.tally.event_count)
            for key, hour in hours.items()
        ),
        strict=True,
    )
    await tx.execute(
        "INSERT INTO usage_hour AS h (tenant_id, customer_id, meter, hour, dimension_values,"
        " aggregation, quantity, event_count)"
        " SELECT $1, n.c, n.m, n.h, n.d, n.a, n.q::numeric, n.e"
        " FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::smallint[],"
        " $7::text[], $8::bigint[]) AS n (c, m, h, d, a, q, e)"
        " ON CONFLICT (tenant_id, customer_id, meter, hour, dimension_values) DO UPDATE SET"
        " quantity = h.quantity + excluded.quantity,"
        " event_count = h.event_count + excluded.event_count",
        tenant_id,
        *columns,
    )


async def _add_levels(tx: Connection, tenant_id: UUID, hours: Mapping[HourKey, Hour]) -> None:
    await tx.execute(
        "INSERT INTO usage_hour AS h (tenant_id, customer_id, meter, hour, dimension_values,"
        " aggregation, quantity, event_count, leverage, last_time, last_sequence)"
        " SELECT $1, n.c, n.m, n.h, n.d, n.a, n.q::numeric, n.e, n.l::numeric, n.t, n.s"
        " FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::smallint[],"
        " $7::text[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[])"
        " AS n (c, m, h, d, a, q, e, l, t, s)"
        " ON CONFLICT (tenant_id, customer_id, meter, hour, dimension_values) DO UPDATE SET"
        " quantity = CASE"
        " WHEN h.event_count = 0 THEN excluded.quantity"
        " WHEN h.aggregation = 3 THEN greatest(h.quantity, excluded.quantity)"
        " WHEN h.aggregation <> 4 THEN h.quantity + excluded.quantity"
        " WHEN (excluded.last_time, excluded.last_sequence) > (h.last_time, h.last_sequence)"
        " THEN excluded.quantity ELSE h.quantity END,"
        " (last_time, last_sequence) = (SELECT * FROM (VALUES (h.last_time, h.last_sequence),"
        " (excluded.last_time, excluded.last_sequence)) AS l (t, s) ORDER BY t DESC, s DESC"
        " LIMIT 1),"
        " leverage = h.leverage + excluded.leverage,"
        " event_count = h.event_count + excluded.event_count",
        tenant_id,
        *_level_columns(hours),
    )


def _level_columns(hours: Mapping[HourKey, Hour]) -> Iterable[tuple[object, ...]]:
    return zip(
        *(
            (
                *key,
                hour.aggregation.value,
                text_of(hour.tally.total),
                hour.tally.event_count,
                text_of(hour.tally.leverage),
                *hour.tally.last,
            )
            for key, hour in hours.items()
        ),
        strict=True,
    )


async def _add_keys(tx: Connection, tenant_id: UUID, hours: Mapping[HourKey, Hour]) -> None:
    rows = [
        (customer, meter, key, hour, values, *_columns_of(sighting))
        for (customer, meter, hour, values), counted in hours.items()
        for key, sighting in counted.keys.items()
    ]
    if not rows:
        return
    await tx.execute(
        "INSERT INTO usage_hour_key AS k (tenant_id, customer_id, meter, unique_key, hour,"
        " dimension_values, event_count, last_time, last_sequence, is_active)"
        " SELECT $1, n.c, n.m, n.k, n.h, n.d, n.e, n.t, n.s, n.a"
        " FROM unnest($2::text[], $3::text[], $4::uuid[], $5::timestamptz[], $6::text[],"
        " $7::bigint[], $8::bigint[], $9::bigint[], $10::boolean[])"
        " AS n (c, m, k, h, d, e, t, s, a)"
        " ON CONFLICT (tenant_id, customer_id, meter, unique_key, hour, dimension_values)"
        " DO UPDATE SET event_count = k.event_count + excluded.event_count,"
        " is_active = CASE WHEN (excluded.last_time, excluded.last_sequence)"
        " > (k.last_time, k.last_sequence) THEN excluded.is_active ELSE k.is_active END,"
        " (last_time, last_sequence) = (SELECT * FROM (VALUES (k.last_time, k.last_sequence),"
        " (excluded.last_time, excluded.last_sequence)) AS l (t, s) ORDER BY t DESC, s DESC"
        " LIMIT 1)",
        tenant_id,
        *zip(*rows, strict=True),
    )


def _columns_of(sighting: Sighting) -> tuple[object, ...]:
    return (sighting.event_count, *sighting.last, sighting.is_active)


async def set_hours(tx: Connection, tenant_id: UUID, hours: Mapping[HourKey, Hour]) -> None:
    """Write the figures of hours that were recounted, and their keys."""
    await tx.execute(
        "UPDATE usage_hour AS h SET quantity = v.q::numeric, event_count = v.e,"
        " leverage = v.l::numeric, last_time = v.t, last_sequence = v.s"
        " FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::smallint[],"
        " $7::text[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[])"
        " AS v (c, m, h, d, a, q, e, l, t, s)"
        " WHERE h.tenant_id = $1 AND h.customer_id = v.c AND h.meter = v.m AND h.hour = v.h"
        " AND h.dimension_values = v.d",
        tenant_id,
        *_level_columns(hours),
    )
    unique = {k: h for k, h in hours.items() if h.aggregation is Aggregation.UNIQUE_COUNT}
    if not unique:
        return
    await tx.execute(
        "DELETE FROM usage_hour_key AS k"
        " USING unnest($2::text[], $3::text[], $4::timestamptz[], $5::text[]) AS v (c, m, h, d)"
        " WHERE k.tenant_id = $1 AND k.customer_id = v.c AND k.meter = v.m AND k.hour = v.h"
        " AND k.dimension_values = v.d",
        tenant_id,
        *zip(*unique, strict=True),
    )
    await _add_keys(tx, tenant_id, unique)


async def subtract_hours(tx: Connection, tenant_id: UUID, hours: Mapping[HourKey, Hour]) -> None:
    """Take what was counted by sums off the hours again."""
    columns = zip(
        *(
            (
                *key,
                text_of(hour.tally.total),
                hour.tally.event_count,
                text_of(hour.tally.leverage),
            )
            for key, hour in hours.items()
        ),
        strict=True,
    )
    await tx.execute(
        "UPDATE usage_hour AS h SET quantity = h.quantity - v.q::numeric,"
        " event_count = h.event_count - v.e, leverage = h.leverage - v.l::numeric"
        " FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[],"
        " $7::bigint[], $8::text[]) AS v (c, m, h, d, q, e, l)"
        " WHERE h.tenant_id = $1 AND h.customer_id = v.c AND h.meter = v.m AND h.hour = v.h"
        " AND h.dimension_values = v.d",
        tenant_id,
        *columns,
    )


async def list_hours(tx: Connection, tenant_id: UUID, customer_id: str) -> list[Row]:
    """All hours of one customer that have events."""
    return await tx.fetch(
        "SELECT meter, hour, dimension_values, quantity::text AS quantity, event_count,"
        " leverage::text AS leverage, last_time, last_sequence"
        " FROM usage_hour WHERE tenant_id = $1 AND customer_id = $2 AND event_count > 0",
        tenant_id,
        customer_id,
    )


async def list_hour_keys(tx: Connection, tenant_id: UUID, customer_id: str) -> list[Row]:
    """All keys of unique counts of one customer, by hour."""
    return await tx.fetch(
        "SELECT meter, unique_key, hour, dimension_values, event_count, last_time, last_sequence,"
        " is_active FROM usage_hour_key"
        " WHERE tenant_id = $1 AND customer_id = $2 AND event_count > 0",
        tenant_id,
        customer_id,
    )


async def list_groups_before(
    tx: Connection, tenant_id: UUID, customer_id: str, meter: str, hour: datetime
) -> list[Group]:
    """What a meter counted before an hour, by dimension values: sums, and the last value."""
    rows = await tx.fetch(
        "SELECT DISTINCT ON (h.dimension_values) h.dimension_values, h.aggregation,"
        " h.quantity::text AS quantity, h.last_time, h.last_sequence,"
        " (sum(h.quantity) OVER w)::text AS total, (sum(h.event_count) OVER w)::bigint AS events"
        " FROM usage_hour AS h"
        " WHERE h.tenant_id = $1 AND h.customer_id = $2 AND h.meter = $3 AND h.hour < $4"
        " AND h.event_count > 0 WINDOW w AS (PARTITION BY h.dimension_values)"
        " ORDER BY h.dimension_values, h.last_time DESC, h.last_sequence DESC",
        tenant_id,
        customer_id,
        meter,
        hour,
    )
    return [
        Group(
            json.loads(row["dimension_values"]),
            Tally(
                row["events"],
                read_number(
                    row["quantity"] if row["aggregation"] == Aggregation.LAST.value
                    else row["total"]
                ),
                0,
                Moment(row["last_time"], row["last_sequence"]),
            ),
        )
        for row in rows
    ]  # fmt: skip


async def list_keys_before(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    meter: str,
    hour: datetime,
    keys: Collection[UUID] | None,
) -> list[SeenKey]:
    """Keys that a unique count met before an hour, as their last event left them; of some keys or
    of all (None)."""
    rows = await tx.fetch(
        "SELECT DISTINCT ON (unique_key, dimension_values) unique_key, dimension_values,"
        " event_count, last_time, last_sequence, is_active FROM usage_hour_key"
        " WHERE tenant_id = $1 AND customer_id = $2 AND meter = $3 AND hour < $4"
        " AND event_count > 0 AND ($5::uuid[] IS NULL OR unique_key = ANY($5))"
        " ORDER BY unique_key, dimension_values, last_time DESC, last_sequence DESC",
        tenant_id,
        customer_id,
        meter,
        hour,
        None if keys is None else list(keys),
    )
    return [
        SeenKey(
            json.loads(row["dimension_values"]),
            row["unique_key"],
            sighting_of(row),
        )
        for row in rows
    ]


async def list_tallies(
    tx: Connection, tenant_id: UUID, customer_id: str, meter: str, hours: Period
) -> list[tuple[dict[str, str], datetime, Tally]]:
    """What a meter counted in each of some hours: dimension values, hour, figures."""
    rows = await tx.fetch(
        "SELECT hour, dimension_values, quantity::text AS quantity, event_count,"
        " leverage::text AS leverage, last_time, last_sequence FROM usage_hour"
        " WHERE tenant_id = $1 AND customer_id = $2 AND meter = $3 AND hour >= $4 AND hour < $5"
        " AND event_count > 0",
        tenant_id,
        customer_id,
        meter,
        hours.start,
        hours.end,
    )
    return [(json.loads(row["dimension_values"]), row["hour"], tally_of(row)) for row in rows]


async def list_sightings(
    tx: Connection, tenant_id: UUID, customer_id: str, meter: str, hours: Period
) -> list[tuple[dict[str, str], datetime, UUID, Sighting]]:
    """The keys of a unique count in each of some hours."""
    rows = await tx.fetch(
        "SELECT hour, dimension_values, unique_key, event_count, last_time, last_sequence,"
        " is_active FROM usage_hour_key"
        " WHERE tenant_id = $1 AND customer_id = $2 AND meter = $3 AND hour >= $4 AND hour < $5"
        " AND event_count > 0",
        tenant_id,
        customer_id,
        meter,
        hours.start,
        hours.end,
    )
    return [
        (json.loads(row["dimension_values"]), row["hour"], row["unique_key"], sighting_of(row))
        for row in rows
    ]


async def list_customers(
    tx: Connection, tenant_id: UUID, meters: Sequence[str], after: str, count_max: int
) -> list[str]:
    """Customers with usage of any of these meters, by id."""
    rows = await tx.fetch(
        "SELECT c.customer_id FROM customer AS c WHERE c.tenant_id = $1 AND c.customer_id > $2"
        " AND EXISTS (SELECT FROM usage_hour AS h WHERE h.tenant_id = $1"
        " AND h.customer_id = c.customer_id AND h.meter = ANY($3))"
        " ORDER BY c.customer_id LIMIT $4",
        tenant_id,
        after,
        list(meters),
        count_max,
    )
    return [row["customer_id"] for row in rows]


def tally_of(row: Row) -> Tally:
    """Stored figures of an hour."""
    return Tally(
        row["event_count"],
        read_number(row["quantity"]),
        read_number(row["leverage"]),
        Moment(row["last_time"], row["last_sequence"]),
    )


def sighting_of(row: Row) -> Sighting:
    """A stored key."""
    return Sighting(
        row["event_count"], Moment(row["last_time"], row["last_sequence"]), row["is_active"]
    )


def hour_of(instant: datetime) -> datetime:
    """The hour (UTC) that an instant is in."""
    return instant.replace(minute=0, second=0, microsecond=0)


def next_hour(hour: datetime) -> datetime:
    """The hour after it."""
    return hour + timedelta(hours=1)
