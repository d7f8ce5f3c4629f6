"""Counting for a meter that is not published: in memory, by period and dimension values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from kernel.errors import InvalidValue, Kind, Refusal
from kernel.period import Period
from metering.aggregates.domain.series import Series
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
    """The figures of one preview as events are shown to it. What is carried over begins with
    nothing at the start of the interval."""

    def __init__(self, meter: Meter, periods: Sequence[Period]) -> None:
        self._meter = meter
        self._periods = periods
        self._starts = [period.start for period in periods]
        self._series: dict[tuple[str, str], Series] = {}
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
            meter.check_dimensions(properties, "event")
        except PropertyUnusable as fault:
            self.events_unusable += 1
            if len(self.unusable) < UNUSABLE_TOLD_MAX:
                self.unusable.append(Unusable(event.event_id, fault.message))
            return
        self.events_counted += 1
        values = meter.dimension_values(properties)
        series = self._series.get((event.customer_id, values))
        if series is None:
            if len(self._series) >= ROWS_MAX:
                raise PreviewTooLarge("rows", ROWS_MAX)
            series = Series(meter.rule, self._periods)
            self._series[event.customer_id, values] = series
            self._dimensions[values] = {n: properties.get(n, "") for n in meter.dimensions}
        place = bisect_right(self._starts, event.event_time) - 1
        series.read(place, read(value, properties, event.event_time, meter, event.sequence))

    def figures(self) -> list[Figure]:
        """By customer, dimension values and period; with usage that is carried over also for
        periods without events, from the first event on. Raises PreviewTooLarge."""
        found: list[Figure] = []
        for (customer_id, values), series in sorted(self._series.items(), key=lambda one: one[0]):
            for place, quantity, count in series.figures(len(self._periods) - 1):
                if len(found) >= ROWS_MAX:
                    raise PreviewTooLarge("rows", ROWS_MAX)
                dimensions, period = self._dimensions[values], self._periods[place]
                found.append(Figure(customer_id, period, dimensions, quantity, count))
        return found


def check_span(interval: Period) -> None:
    """Raise InvalidValue where an interval is longer than a preview may be."""
    if interval.end - interval.start > SPAN_MAX:
        raise InvalidValue("interval", f"is longer than {SPAN_MAX.days} days")
