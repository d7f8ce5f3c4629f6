"""Figures of usage, read from hours and from raw counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from chassis.database import Connection
from kernel.period import Period
from metering.usage.domain import text_of
from rating.exact import Number


class Selection(NamedTuple):
    """Which usage by hour is asked for, and how it is cut and grouped."""

    customer_ids: list[str]  # empty: all
    meters: list[str]  # empty: all
    interval: Period
    hours: Period | None  # None: only what was counted raw
    broken: list[datetime]
    window: str  # "whole", or a unit of date_trunc
    time_zone: str
    group_by: list[str]


class RawCount(NamedTuple):
    """Usage that was counted from single events."""

    customer_id: str
    meter: str
    instant: datetime
    dimension_values: str
    aggregation: int
    quantity: Number
    event_count: int


class UsageRow(NamedTuple):
    """One figure."""

    customer_id: str
    meter: str
    window_start: datetime
    group: str  # JSON array of the values of the dimensions asked for
    quantity: str
    event_count: int

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Where the page after it begins."""
        return (self.customer_id, self.meter, self.window_start.isoformat(), self.group)


async def list_rows(
    tx: Connection,
    tenant_id: UUID,
    selection: Selection,
    raw: Sequence[RawCount],
    after: tuple[str, ...],
    count_max: int,
) -> list[UsageRow]:
    """Figures by customer, meter, window and group, from hours and from raw counts together."""
    window = "$2::timestamptz"
    if selection.window != "whole":
        window = f"date_trunc('{selection.window}', counted.at, $9)"
    names = ", ".join(
        f"coalesce(counted.dimension_values::jsonb ->> ${19 + place}, '')"
        for place in range(len(selection.group_by))
    )
    group = f"jsonb_build_array({names})::text" if names else "'[]'"
    hours = selection.hours
    rows = await tx.fetch(
        "WITH counted AS ("
        " SELECT h.customer_id, h.meter, h.hour AS at, h.dimension_values, h.aggregation,"
        " h.quantity, h.event_count FROM usage_hour AS h"
        " WHERE h.tenant_id = $1 AND h.hour >= $3 AND h.hour < $4 AND h.event_count > 0"
        " AND $2::timestamptz IS NOT NULL AND $9::text IS NOT NULL"
        " AND ($5::text[] IS NULL OR h.customer_id = ANY($5))"
        " AND ($6::text[] IS NULL OR h.meter = ANY($6))"
        " AND h.customer_id >= $7 AND h.hour <> ALL($8::timestamptz[])"
        " UNION ALL"
        " SELECT r.c, r.m, r.t, r.d, r.a, r.q::numeric, r.e FROM unnest($10::text[], $11::text[],"
        " $12::timestamptz[], $13::text[], $14::smallint[], $15::text[], $16::bigint[])"
        " AS r (c, m, t, d, a, q, e)), windowed AS ("
        f" SELECT counted.customer_id, counted.meter, {window} AS window_start,"
        f' ({group}) COLLATE "C" AS grouped, counted.aggregation, counted.quantity,'
        " counted.event_count FROM counted)"
        " SELECT w.customer_id, w.meter, w.window_start, w.grouped,"
        " CASE WHEN max(w.aggregation) = 3 THEN max(w.quantity) ELSE sum(w.quantity) END::text"
        " AS quantity, sum(w.event_count)::bigint AS event_count"
        " FROM windowed AS w"
        ' WHERE $17::text[] IS NULL OR (w.customer_id COLLATE "C", w.meter COLLATE "C",'
        " w.window_start, w.grouped) > (($17::text[])[1], ($17::text[])[2],"
        " ($17::text[])[3]::timestamptz, ($17::text[])[4])"
        " GROUP BY w.customer_id, w.meter, w.window_start, w.grouped"
        ' ORDER BY w.customer_id COLLATE "C", w.meter COLLATE "C", w.window_start, w.grouped'
        " LIMIT $18",
        tenant_id,
        selection.interval.start,
        hours.start if hours else selection.interval.start,
        hours.end if hours else selection.interval.start,
        selection.customer_ids or None,
        selection.meters or None,
        after[0] if after else "",
        selection.broken,
        selection.time_zone,
        *_columns(raw),
        list(after) or None,
        count_max,
        *selection.group_by,
    )
    return [
        UsageRow(
            row["customer_id"],
            row["meter"],
            row["window_start"],
            row["grouped"],
            canonical(row["quantity"]),
            row["event_count"],
        )
        for row in rows
    ]


def _columns(raw: Sequence[RawCount]) -> list[list[object]]:
    return [
        [each.customer_id for each in raw],
        [each.meter for each in raw],
        [each.instant for each in raw],
        [each.dimension_values for each in raw],
        [each.aggregation for each in raw],
        [text_of(each.quantity) for each in raw],
        [each.event_count for each in raw],
    ]


def canonical(quantity: str) -> str:
    """A decimal string without trailing zeros."""
    return quantity.rstrip("0").rstrip(".") if "." in quantity else quantity
