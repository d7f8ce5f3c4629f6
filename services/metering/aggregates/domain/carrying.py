"""What a period begins with where a meter's usage is carried over: pure folding of what was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from metering.aggregates.domain.counting import Opening, PartKey, Reading
from metering.aggregates.domain.tally import NEVER_SEEN, Aggregation, Sighting, Tally, seen
from metering.usage.domain import Running
from rating import UnpricedUsage


class Group(NamedTuple):
    """What one combination of dimension values came to."""

    properties: Mapping[str, str]
    tally: Tally


class SeenKey(NamedTuple):
    """A key of a unique count in one combination of dimension values."""

    properties: Mapping[str, str]
    key: UUID
    sighting: Sighting


@dataclass(slots=True)
class Past:
    """What happened before: whole hours by dimension values, and single events."""

    groups: list[Group] = field(default_factory=list)
    keys: list[SeenKey] = field(default_factory=list)
    readings: list[tuple[Mapping[str, str], Reading]] = field(default_factory=list)


class Before(NamedTuple):
    """What a usage begins with, by part, and which keys of a unique count are in."""

    openings: dict[str, Opening]
    active: set[PartKey]


def before_of(running: Running, past: Past) -> Before:
    """What the usage of one price begins with."""
    folding = _Folding(running)
    for properties, tally in past.groups:
        folding.add_group(properties, tally)
    for properties, key, sighting in past.keys:
        folding.add_key(properties, key, sighting)
    for properties, reading in past.readings:
        folding.add_reading(properties, reading)
    return folding.result()


class _Folding:
    def __init__(self, running: Running) -> None:
        self._running = running
        self._aggregation = running.rule.aggregation
        self._openings: dict[str, Opening] = {}
        self._sightings: dict[PartKey, Sighting] = {}

    def add_group(self, properties: Mapping[str, str], tally: Tally) -> None:
        opening = self._opening(properties)
        if opening is not None:
            opening.tally.merge(self._aggregation, tally)

    def add_key(self, properties: Mapping[str, str], key: UUID, sighting: Sighting) -> None:
        part = self._part(properties)
        if part is None or self._opening(properties) is None:
            return
        earlier = self._sightings.get((part, key), NEVER_SEEN)
        latest = sighting if sighting.last > earlier.last else earlier
        self._sightings[part, key] = latest

    def add_reading(self, properties: Mapping[str, str], reading: Reading) -> None:
        opening, part = self._opening(properties), self._part(properties)
        if opening is None or part is None:
            return
        if reading.key is None:
            opening.tally.add(self._aggregation, reading.value, reading.moment)
            return
        earlier = self._sightings.get((part, reading.key), NEVER_SEEN)
        self._sightings[part, reading.key] = seen(earlier, reading.is_added, reading.moment)

    def result(self) -> Before:
        active = {place for place, sighting in self._sightings.items() if sighting.is_active}
        for part, _ in active:
            self._openings[part].tally.total += 1
        for opening in self._openings.values():
            # Only what it comes to matters, so that it is the same from hours and from events.
            opening.tally.event_count, opening.tally.leverage = 0, 0
        return Before(self._openings, active)

    def _part(self, properties: Mapping[str, str]) -> str | None:
        if not self._running.is_of(properties):
            return None
        try:
            return self._running.part_at_start(properties)
        except UnpricedUsage:
            # No cell has a price for it now, so there is nothing that it could be carried into.
            return None

    def _opening(self, properties: Mapping[str, str]) -> Opening | None:
        part = self._part(properties)
        if part is None:
            return None
        if part not in self._openings:
            window = self._running.window_at_start()
            assert self._aggregation is not Aggregation.COUNT
            self._openings[part] = Opening(Tally(), properties, window)
        return self._openings[part]
