"""Answering questions about last values, unique counts, weighted sums and what is carried over.

Whole hours come from rollups, single events only where a boundary of the question divides an hour.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from chassis.database import Connection
from kernel.period import Period
from metering.aggregates.domain.series import Series
from metering.aggregates.domain.tally import Aggregation, microseconds
from metering.events import store as events
from metering.meters.domain import Meter, MeterSet
from metering.queries.domain import Cut, Question, begin_of, windows_of
from metering.queries.store import UsageRow
from metering.rollups import store as rollups
from metering.usage.domain import text_of
from metering.usage.operations import read_all

CUSTOMERS_PER_READ = 100


class _Part(NamedTuple):
    """One customer and meter of a question."""

    customer_id: str
    meter: Meter


def level_meters(meters: MeterSet, question: Question) -> list[Meter]:
    """The meters of a question whose figures are not sums or maxima of hours."""
    wanted = set(question.meters) or meters.meters.keys()
    return [meters.meters[code] for code in sorted(wanted & meters.meters.keys())
            if not meters.meters[code].is_additive_by_hour]  # fmt: skip


async def list_level_rows(
    tx: Connection,
    tenant_id: UUID,
    meters: MeterSet,
    question: Question,
    parts: Cut,
    after: tuple[str, ...],
    count_max: int,
    now: datetime,
) -> list[UsageRow]:
    """Figures by customer, meter, window and group, as those of other meters are listed."""
    windows = windows_of(question.interval, question.window, question.zone)
    starts = [window.start for window in windows]
    last = max(bisect_right(starts, now) - 1, 0)
    rows: list[UsageRow] = []
    levels = level_meters(meters, question)
    async for customer_id in _customers(tx, tenant_id, question, levels, after):
        for meter in levels:
            found = await _rows_of(
                tx, tenant_id, meters, question, parts, _Part(customer_id, meter), windows, last
            )
            rows += [row for row in found if not after or _order(row) > _place(after)]
        if len(rows) >= count_max:
            break
    return sorted(rows, key=_order)[:count_max]


def merge(rows: Sequence[UsageRow], levels: Sequence[UsageRow], count_max: int) -> list[UsageRow]:
    """Both in their common order, cut to a page."""
    return sorted([*rows, *levels], key=_order)[:count_max]


def _order(row: UsageRow) -> tuple[str, str, datetime, str]:
    return (row.customer_id, row.meter, row.window_start, row.group)


def _place(after: tuple[str, ...]) -> tuple[str, str, datetime, str]:
    customer_id, meter, start, group = after
    return (customer_id, meter, datetime.fromisoformat(start), group)


async def _customers(
    tx: Connection,
    tenant_id: UUID,
    question: Question,
    levels: Sequence[Meter],
    after: tuple[str, ...],
) -> AsyncIterator[str]:
    first = after[0] if after else ""
    if question.customer_ids:
        for customer_id in sorted(set(question.customer_ids)):
            if customer_id >= first:
                yield customer_id
        return
    if first:
        yield first
    codes = [meter.code for meter in levels]
    while True:
        found = await rollups.list_customers(tx, tenant_id, codes, first, CUSTOMERS_PER_READ)
        for customer_id in found:
            yield customer_id
        if len(found) < CUSTOMERS_PER_READ:
            return
        first = found[-1]


async def _rows_of(
    tx: Connection,
    tenant_id: UUID,
    meters: MeterSet,
    question: Question,
    parts: Cut,
    part: _Part,
    windows: Sequence[Period],
    last: int,
) -> list[UsageRow]:
    customer_id, meter = part
    series = _Groups(question, meter, windows)
    if meter.carries:
        await _begin(tx, tenant_id, meters, question, part, series)
    for stretch in _whole_hours(parts):
        for group, hour, tally in await rollups.list_tallies(
            tx, tenant_id, customer_id, meter.code, stretch
        ):
            series.of(group).add(series.place(microseconds(hour)), tally)
        if meter.aggregation is Aggregation.UNIQUE_COUNT:
            for group, hour, key, sighting in await rollups.list_sightings(
                tx, tenant_id, customer_id, meter.code, stretch
            ):
                place = series.place(microseconds(hour))
                series.of(group).add_key(place, key, sighting)
    for stretch in parts.raw:
        for name in sorted(meters.event_names(meter.code)):
            stored = await events.list_of_customer(
                tx, tenant_id, customer_id, stretch.start, stretch.end, name
            )
            for properties, reading in read_all(meter.code, stored, meters):
                series.of(properties).read(series.place(reading.moment.microseconds), reading)
    return series.rows(customer_id, last)


async def _begin(
    tx: Connection,
    tenant_id: UUID,
    meters: MeterSet,
    question: Question,
    part: _Part,
    series: _Groups,
) -> None:
    customer_id, meter = part
    start = question.interval.start
    hour = rollups.hour_of(start)
    groups = await rollups.list_groups_before(tx, tenant_id, customer_id, meter.code, hour)
    for group, tally in groups:
        series.of(group).begin(tally)
    if meter.aggregation is Aggregation.UNIQUE_COUNT:
        keys = await rollups.list_keys_before(tx, tenant_id, customer_id, meter.code, hour, None)
        for group, key, sighting in keys:
            series.of(group).begin_key(key, sighting)
    if hour == start:
        return
    for name in sorted(meters.event_names(meter.code)):
        stored = await events.list_of_customer(tx, tenant_id, customer_id, hour, start, name)
        for properties, reading in read_all(meter.code, stored, meters):
            series.of(properties).begin_reading(reading)


def _whole_hours(parts: Cut) -> list[Period]:
    """The stretches of whole hours between those that a boundary divides."""
    if parts.hours is None:
        return []
    found: list[Period] = []
    start = parts.hours.start
    for broken in [*parts.broken, parts.hours.end]:
        if broken > start:
            found.append(Period(start, broken))
        start = max(start, rollups.next_hour(broken))
    return found


class _Groups:
    """The series of one customer and meter, by values of the dimensions asked for."""

    def __init__(self, question: Question, meter: Meter, windows: Sequence[Period]) -> None:
        self._group_by = question.group_by
        # As windows of other meters are told: whole, and cut to the interval when they are shown.
        self._begins = [
            begin_of(window.start, question.window, question.zone) for window in windows
        ]
        self._meter = meter
        self._windows = windows
        self._starts = [microseconds(window.start) for window in windows]
        self._series: dict[str, Series] = {}

    def of(self, properties: Mapping[str, str]) -> Series:
        dimensions = self._meter.dimensions
        values = [properties.get(name, "") if name in dimensions else "" for name in self._group_by]
        group = json.dumps(values, ensure_ascii=False)
        if group not in self._series:
            self._series[group] = Series(self._meter.rule, self._windows)
        return self._series[group]

    def place(self, instant: int) -> int:
        return max(bisect_right(self._starts, instant) - 1, 0)

    def rows(self, customer_id: str, last: int) -> list[UsageRow]:
        return [
            UsageRow(
                customer_id,
                self._meter.code,
                self._begins[figure.place],
                group,
                text_of(figure.quantity),
                figure.event_count,
            )
            for group, series in self._series.items()
            for figure in series.figures(last)
        ]
