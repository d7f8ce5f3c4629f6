"""Counting for one running usage whose figure is more than the sum of what each event adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from kernel.period import Period
from metering.aggregates.domain.tally import (
    NEVER_SEEN,
    Aggregation,
    Moment,
    Rule,
    Sighting,
    Tally,
    parse_tally,
    render_tally,
    seen,
    value_of,
)
from rating.exact import Number


class Reading(NamedTuple):
    """What an event says to a meter."""

    value: Number
    moment: Moment
    key: UUID | None = None  # with a unique count
    is_added: bool = True


class Opening(NamedTuple):
    """What a part of a period begins with, and properties of an event that would be of the part."""

    tally: Tally
    properties: Mapping[str, str]
    window: str


NOTHING = Tally()
PartKey = tuple[str, UUID]


class Counter:
    """The figures of one usage, by part: the cells or windows that a price looks at by themselves,
    or a single one. They change in place, as running usage does."""

    def __init__(
        self,
        rule: Rule,
        window: Period,
        whole: Period,
        parts: Mapping[str, Tally] | None = None,
        openings: Mapping[str, Opening] | None = None,
    ) -> None:
        self.rule = rule
        self.window = window
        self.whole = whole
        self.parts: dict[str, Tally] = dict(parts or {})
        self.openings: dict[str, Opening] = dict(openings or {})
        # Of a unique count: the keys that a batch meets, and whether each was in at the beginning.
        self.sightings: dict[PartKey, Sighting] = {}
        self.carried: set[PartKey] = set()
        self.changed: set[PartKey] = set()
        self.is_recounted = False

    def total(self) -> Number:
        """What the period comes to."""
        return sum((self._value(part) for part in self.parts.keys() | self.openings.keys()), 0)

    def count(self, part: str, reading: Reading) -> Number:
        """Count one event; answers how much more the part comes to."""
        before = self._value(part)
        tally = self.parts.setdefault(part, Tally())
        tally.add(self.rule.aggregation, reading.value, reading.moment)
        if reading.key is not None:
            tally.total += self._sight((part, reading.key), reading)
        return self._value(part) - before

    def preview(self, part: str, reading: Reading) -> Number:
        """How much more the part would come to. A key that was not looked up counts as new."""
        tally = self.parts.get(part, NOTHING).copy()
        tally.add(self.rule.aggregation, reading.value, reading.moment)
        if reading.key is not None:
            _, change = self._look((part, reading.key), reading)
            tally.total += change
        return self._value(part, tally) - self._value(part)

    def restart(self) -> None:
        """Forget what was counted, for a recount; what the period began with stays."""
        self.parts = {}
        self.sightings = {}
        self.changed = set()
        self.is_recounted = True

    def know(self, sightings: Mapping[PartKey, Sighting], carried: Iterable[PartKey]) -> None:
        """Keys as they are stored."""
        self.sightings.update(sightings)
        self.carried.update(carried)

    def render(self) -> dict[str, Any]:
        """What must be stored of it, as JSON."""
        return {
            "parts": {part: render_tally(tally) for part, tally in sorted(self.parts.items())},
            "openings": {
                part: [render_tally(opening.tally), dict(opening.properties), opening.window]
                for part, opening in sorted(self.openings.items())
            },
        }

    def read(self, document: Mapping[str, Any]) -> None:
        """Take what was stored of it."""
        self.parts = {part: parse_tally(tally) for part, tally in document["parts"].items()}
        self.openings = {
            part: Opening(parse_tally(tally), properties, window)
            for part, (tally, properties, window) in document["openings"].items()
        }

    def opening_value(self, part: str) -> Number:
        """What a part comes to as long as nothing happens in it."""
        return self._value(part, NOTHING)

    def _value(self, part: str, own: Tally | None = None) -> Number:
        opening = self.openings.get(part)
        before = NOTHING if opening is None else opening.tally
        if own is None:
            own = self.parts.get(part, NOTHING)
        return self.rule.rounded(value_of(self.rule, own, before, self.window, self.whole))

    def _sight(self, place: PartKey, reading: Reading) -> int:
        """Note a key; answers whether one more or one less is in."""
        self.sightings[place], change = self._look(place, reading)
        self.changed.add(place)
        return change

    def _look(self, place: PartKey, reading: Reading) -> tuple[Sighting, int]:
        """A key after one event more, and whether one more or one less is in then."""
        earlier = self.sightings.get(place, NEVER_SEEN)
        was = earlier.is_active if earlier.event_count else place in self.carried
        later = seen(earlier, reading.is_added, reading.moment)
        return later, int(later.is_active) - int(was)


def is_unique(rule: Rule) -> bool:
    """Whether keys must be looked up before an event is counted."""
    return rule.aggregation is Aggregation.UNIQUE_COUNT
