"""What a meter counts in an event. A published meter never changes; it can only be archived."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import assert_never

from kernel.errors import InvalidValue, Kind, Refusal
from kernel.money import parse_decimal
from rating.exact import Number, exact

CODE_FORM = r"[A-Za-z0-9_.-]+"
FILTERS_MAX = 20
FILTER_VALUES_MAX = 100
DIMENSIONS_MAX = 10
METERS_MAX = 1_000  # of one tenant: all of them are kept in memory


class Aggregation(Enum):
    """How values become usage."""

    COUNT = 1
    SUM = 2
    MAX = 3


class FilterOperator(Enum):
    """What a filter compares. A missing property is the empty string."""

    IN = 1
    NOT_IN = 2
    EXISTS = 3


class PropertyUnusable(Refusal):
    """A property has no usable value for a meter."""

    reason = "PROPERTY_UNUSABLE"
    kind = Kind.INVALID

    def __init__(self, field: str, name: str, meter: str, why: str) -> None:
        super().__init__(f"{field}: {why}", field=field, property=name, meter=meter, why=why)


class AlreadyExists(Refusal):
    """Something of that code exists already."""

    reason = "ALREADY_EXISTS"
    kind = Kind.CONFLICT

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"{what} {name!r} exists already", what=what, name=name)


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one property."""

    name: str
    operator: FilterOperator
    values: frozenset[str]

    def passes(self, properties: Mapping[str, str]) -> bool:
        value = properties.get(self.name, "")
        match self.operator:
            case FilterOperator.IN:
                return value in self.values
            case FilterOperator.NOT_IN:
                return value not in self.values
            case FilterOperator.EXISTS:
                return value != ""
            case _:
                assert_never(self.operator)


@dataclass(frozen=True, slots=True)
class Meter:
    """A rule that turns events of one name into usage."""

    code: str
    name: str
    event_name: str
    aggregation: Aggregation
    value_property: str  # empty where events are only counted
    filters: tuple[Filter, ...]
    dimensions: tuple[str, ...]
    unit: str
    create_time: datetime
    from_version: int = 0  # of the tenant's set of meters; it counts events decided under it
    until_version: int | None = None

    def is_counting(self, version: int) -> bool:
        """Whether events that were decided under this version of the set are counted by it."""
        return self.from_version <= version and (
            self.until_version is None or version < self.until_version
        )

    def counts(self, properties: Mapping[str, str]) -> bool:
        """Whether an event of its name passes its filters."""
        return all(condition.passes(properties) for condition in self.filters)

    def value(self, properties: Mapping[str, str], field: str) -> Number:
        """What an event adds. Raises PropertyUnusable naming the property under `field`."""
        if self.aggregation is Aggregation.COUNT:
            return 1
        name = self.value_property
        text = properties.get(name, "")
        # The usual value is a short whole number, and needs no decimal arithmetic.
        if len(text) <= 18 and text.isdecimal() and text.isascii():
            return int(text)
        place = f"{field}.properties.{name}"
        if not text:
            raise PropertyUnusable(place, name, self.code, f"meter {self.code!r} needs it")
        try:
            return exact(parse_decimal(text, place))
        except InvalidValue as error:
            raise PropertyUnusable(place, name, self.code, error.why) from None

    def dimension_values(self, properties: Mapping[str, str]) -> str:
        """The canonical text of an event's dimension values, for grouping."""
        if not self.dimensions:
            return "{}"
        return json.dumps({name: properties.get(name, "") for name in self.dimensions})


@dataclass(frozen=True, slots=True)
class MeterSet:
    """All meters of a tenant at one version of the set, by the name of the events they read."""

    version: int
    meters: Mapping[str, Meter]
    counting: Mapping[str, tuple[Meter, ...]]

    @classmethod
    def of(cls, version: int, meters: Iterable[Meter]) -> MeterSet:
        by_code = {meter.code: meter for meter in meters}
        counting: dict[str, tuple[Meter, ...]] = {}
        for meter in by_code.values():
            if meter.is_counting(version):
                counting[meter.event_name] = (*counting.get(meter.event_name, ()), meter)
        return cls(version, by_code, counting)

    def reading(self, event_name: str, version: int) -> tuple[Meter, ...]:
        """The meters that read events of a name which were decided under an older version."""
        if version == self.version:
            return self.counting.get(event_name, ())
        return tuple(
            meter
            for meter in self.meters.values()
            if meter.event_name == event_name and meter.is_counting(version)
        )
