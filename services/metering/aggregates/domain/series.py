"""Figures of consecutive windows of time, each begun where the one before it ended if carried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from kernel.period import Period
from metering.aggregates.domain.counting import Reading
from metering.aggregates.domain.tally import (
    NEVER_SEEN,
    Aggregation,
    Rule,
    Sighting,
    Tally,
    seen,
    value_of,
)
from rating.exact import Number


class Figure(NamedTuple):
    """What one window came to."""

    place: int  # of the window
    quantity: Number
    event_count: int


class Series:
    """What one customer and group used, window by window."""

    def __init__(self, rule: Rule, windows: Sequence[Period]) -> None:
        self._rule = rule
        self._windows = windows
        self._own: dict[int, Tally] = {}
        self._keys: dict[int, dict[UUID, Sighting]] = {}
        self._before = Tally()
        self._keys_before: dict[UUID, Sighting] = {}
        self._has_past = False

    def add(self, place: int, tally: Tally) -> None:
        """Events of a window that were added up before."""
        self._own.setdefault(place, Tally()).merge(self._rule.aggregation, tally)

    def add_key(self, place: int, key: UUID, sighting: Sighting) -> None:
        """A key that was met in a window; its events are told by `add`."""
        _meet(self._keys.setdefault(place, {}), key, sighting)

    def read(self, place: int, reading: Reading) -> None:
        """One event of a window."""
        tally = self._own.setdefault(place, Tally())
        tally.add(self._rule.aggregation, reading.value, reading.moment)
        if reading.key is not None:
            self.add_key(place, reading.key, seen(NEVER_SEEN, reading.is_added, reading.moment))

    def begin(self, tally: Tally) -> None:
        """Events before the first window that were added up."""
        self._has_past = True
        self._before.merge(self._rule.aggregation, tally)

    def begin_key(self, key: UUID, sighting: Sighting) -> None:
        """A key that was met before the first window."""
        self._has_past = True
        _meet(self._keys_before, key, sighting)

    def begin_reading(self, reading: Reading) -> None:
        """One event before the first window."""
        self._has_past = True
        self._before.add(self._rule.aggregation, reading.value, reading.moment)
        if reading.key is not None:
            self.begin_key(reading.key, seen(NEVER_SEEN, reading.is_added, reading.moment))

    def figures(self, last: int) -> Iterator[Figure]:
        """Windows with events; where usage is carried over, every window up to the last that
        begins by now, from the first event on."""
        carried = Tally(total=self._before.total)
        active = {key for key, sighting in self._keys_before.items() if sighting.is_active}
        first = 0 if self._has_past else min(self._own, default=0)
        places = range(first, last + 1) if self._rule.carries else sorted(self._own)
        if not self._own and not self._has_past:
            return
        for place in places:
            own = self._own.get(place) or Tally()
            if self._rule.aggregation is Aggregation.UNIQUE_COUNT:
                met = self._keys.get(place, {})
                kept = active - met.keys() if self._rule.carries else set()
                active = kept | {key for key, sighting in met.items() if sighting.is_active}
                quantity = self._rule.rounded(len(active))
            else:
                window = self._windows[place]
                value = value_of(self._rule, own, carried, window, window)
                quantity = self._rule.rounded(value)
                carried = Tally(total=self._level(own, carried))
            yield Figure(place, quantity, own.event_count)

    def _level(self, own: Tally, carried: Tally) -> Number:
        if self._rule.aggregation is Aggregation.LAST:
            return own.total if own.event_count else carried.total
        return carried.total + own.total


def _meet(keys: dict[UUID, Sighting], key: UUID, sighting: Sighting) -> None:
    earlier = keys.get(key, NEVER_SEEN)
    keys[key] = sighting if sighting.last > earlier.last else earlier
