"""Counting for a meter that is not published: in memory, by period and dimension values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from kernel.errors import InvalidValue, Kind, Refusal
from kernel.period import Period
from metering.aggregates.domain.counting import Counter, Opening
from metering.aggregates.domain.tally import Aggregation, Tally
from metering.meters.domain import Meter, PropertyUnusable
from metering.usage.domain import read
from rating.exact import Number

SPAN_MAX = timedelta(days=92)
EVENTS_MAX = 200_000  # read by one preview: some seconds of one core
ROWS_MAX = 10_000
UNUSABLE_TOLD_MAX = 20


class PreviewTooLarge(Refusal):
    """A preview would read more events, or answer more rows, than it may."""

    reason = "PREVIEW_TOO_LARGE"
    kind = Kind.EXHAUSTED

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(
            f"more than {limit} {what}; ask for a shorter interval or fewer customers",
            what=what,
            limit=limit,
        )


class PastEvent(NamedTuple):
    """A stored event, as far as a meter looks at it."""

    event_id: str
    customer_id: str
    event_time: datetime
    sequence: int
    properties: Mapping[str, str]


class Figure(NamedTuple):
    """What one customer used in one period."""

    customer_id: str
    period: Period
    dimensions: Mapping[str, str]
    quantity: Number
    event_count: int


class Unusable(NamedTuple):
    """An event that the meter could not use."""

    event_id: str
    why: str


class Preview:
    """The figures of one preview as events are shown to it, by customer and time."""

    def __init__(self, meter: Meter, periods: Sequence[Period]) -> None:
        self._meter = meter
        self._periods = periods
        self._starts = [period.start for period in periods]
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._dimensions: dict[str, Mapping[str, str]] = {}
        self.events_read = 0
        self.events_counted = 0
        self.events_unusable = 0
        self.unusable: list[Unusable] = []

    def show(self, event: PastEvent) -> None:
        """Count one event. Raises PreviewTooLarge."""
        self.events_read += 1
        if self.events_read > EVENTS_MAX:
            raise PreviewTooLarge("events", EVENTS_MAX)
        meter, properties = self._meter, event.properties
        try:
            if not meter.reads(properties, event.event_time):
                return
            value = meter.value(properties, "event")
        except PropertyUnusable as fault:
            self.events_unusable += 1
            if len(self.unusable) < UNUSABLE_TOLD_MAX:
                self.unusable.append(Unusable(event.event_id, fault.message))
            return
        self.events_counted += 1
        place = bisect_right(self._starts, event.event_time) - 1
        values = meter.dimension_values(properties)
        self._dimensions.setdefault(
            values, {name: properties.get(name, "") for name in meter.dimensions}
        )
        key = (event.customer_id, values, place)
        counter = self._counters.get(key)
        if counter is None:
            if len(self._counters) >= ROWS_MAX:
                raise PreviewTooLarge("rows", ROWS_MAX)
            counter = self._counters[key] = self._open(*key)
        counter.count("", read(value, properties, event.event_time, meter, event.sequence))

    def figures(self) -> list[Figure]:
        """By customer, dimension values and period. Where usage is carried over, periods without
        events have a figure too, from the first event on."""
        found: list[Figure] = []
        for (customer_id, values), keys in groupby(sorted(self._counters), key=lambda k: k[:2]):
            counters = {place: self._counters[customer_id, values, place] for _, _, place in keys}
            last = len(self._periods) - 1 if self._meter.carries else max(counters)
            for place in range(min(counters), last + 1):
                counter = counters.get(place)
                if counter is None:
                    if not self._meter.carries:
                        continue
                    counter = self._open(customer_id, values, place)
                if len(found) >= ROWS_MAX:
                    raise PreviewTooLarge("rows", ROWS_MAX)
                events = counter.parts.get("", Tally()).event_count
                figure = Figure(
                    customer_id,
                    self._periods[place],
                    self._dimensions[values],
                    counter.total(),
                    events,
                )
                found.append(figure)
        return found

    def _open(self, customer_id: str, values: str, place: int) -> Counter:
        """A period's counter, begun where the one before it ended."""
        period = self._periods[place]
        counter = Counter(self._meter.rule, period, period)
        if not self._meter.carries:
            return counter
        before = next(
            (
                found
                for earlier in range(place - 1, -1, -1)
                if (found := self._counters.get((customer_id, values, earlier))) is not None
            ),
            None,
        )
        if before is None:
            return counter
        level = level_at_end(before)
        counter.openings[""] = Opening(Tally(total=level), {}, "")
        if self._meter.aggregation is Aggregation.UNIQUE_COUNT:
            counter.carried = {("", key) for key in active_keys(before)}
        return counter


def level_at_end(counter: Counter) -> Number:
    """The level that a period ends with, as the next one begins with it."""
    own = counter.parts.get("", Tally())
    opening = counter.openings.get("")
    carried = opening.tally.total if opening is not None else 0
    if counter.rule.aggregation is Aggregation.LAST:
        return own.total if own.event_count else carried
    return carried + own.total


def active_keys(counter: Counter) -> set[UUID]:
    """The keys of a unique count that are in at the end of a period."""
    kept = {key for part, key in counter.carried if (part, key) not in counter.sightings}
    return kept | {key for (_, key), seen in counter.sightings.items() if seen.is_active}


def check_span(interval: Period) -> None:
    """Raise InvalidValue where an interval is longer than a preview may be."""
    if interval.end - interval.start > SPAN_MAX:
        raise InvalidValue("interval", f"is longer than {SPAN_MAX.days} days")
