"""What a meter counts in an event, and which version of it counts when.

A published version never changes. A new one may read other events and properties; how values are
added up stays, because usage of one period is one figure.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import assert_never
from uuid import UUID

from kernel.errors import InvalidValue, Kind, Refusal
from kernel.money import parse_decimal
from metering.aggregates.domain.tally import Aggregation as Aggregation
from metering.aggregates.domain.tally import Rounding, Rule
from metering.expressions.domain.compiling import Expression, compile_expression
from metering.expressions.domain.values import Type, Unusable
from rating.exact import Number, exact

CODE_FORM = r"[A-Za-z0-9_.-]+"
FILTERS_MAX = 20
FILTER_VALUES_MAX = 100
DIMENSIONS_MAX = 10
METERS_MAX = 1_000  # versions of one tenant: all of them are kept in memory
DIMENSION_VALUES_MAX = 1_500  # bytes of an event's dimension values: they are part of a key


class FilterOperator(Enum):
    """What a filter compares. A missing property is the empty string; a comparison of numbers
    does not pass where there is no number."""

    IN = 1
    NOT_IN = 2
    EXISTS = 3
    NOT_EXISTS = 4
    EQUALS = 5
    NOT_EQUALS = 6
    LESS = 7
    AT_MOST = 8
    MORE = 9
    AT_LEAST = 10


COMPARISONS: Mapping[FilterOperator, Callable[[Decimal, Decimal], bool]] = {
    FilterOperator.LESS: operator.lt,
    FilterOperator.AT_MOST: operator.le,
    FilterOperator.MORE: operator.gt,
    FilterOperator.AT_LEAST: operator.ge,
}


class Missing(Enum):
    """What becomes of an event without a usable value."""

    REFUSE = 1
    ZERO = 2
    SKIP = 3


class MeterState(Enum):
    """Where a version of a meter stands."""

    DRAFT = 1
    PUBLISHED = 2
    ARCHIVED = 3


class PropertyUnusable(Refusal):
    """A property has no usable value for a meter."""

    reason = "PROPERTY_UNUSABLE"
    kind = Kind.INVALID

    def __init__(self, field: str, name: str, meter: str, why: str) -> None:
        super().__init__(f"{field}: {why}", field=field, property=name, meter=meter, why=why)


class MeterUnchangeable(Refusal):
    """A new version would add up values otherwise than the versions before."""

    reason = "METER_UNCHANGEABLE"
    kind = Kind.PRECONDITION

    def __init__(self, code: str, field: str) -> None:
        super().__init__(
            f"meter.{field}: stays the same in all versions of {code!r}; create another meter",
            field=f"meter.{field}",
            meter=code,
        )


class MeterArchived(Refusal):
    """The meter was archived; it gets no new versions."""

    reason = "METER_ARCHIVED"

    def __init__(self, code: str) -> None:
        super().__init__(f"meter {code!r} is archived", meter=code)


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
            case FilterOperator.IN | FilterOperator.EQUALS:
                return value in self.values
            case FilterOperator.NOT_IN | FilterOperator.NOT_EQUALS:
                return value not in self.values
            case FilterOperator.EXISTS:
                return value != ""
            case FilterOperator.NOT_EXISTS:
                return value == ""
            case (
                FilterOperator.LESS
                | FilterOperator.AT_MOST
                | FilterOperator.MORE
                | FilterOperator.AT_LEAST
            ):
                return self._compares(value)
            case _:
                assert_never(self.operator)

    def _compares(self, value: str) -> bool:
        (bound,) = self.values
        try:
            number = parse_decimal(value, self.name, signed=True)
        except InvalidValue:
            return False
        return COMPARISONS[self.operator](number, Decimal(bound))


@dataclass(frozen=True, slots=True)
class Meter:
    """One version of a rule that turns events of one name into usage."""

    code: str
    name: str
    event_name: str
    aggregation: Aggregation
    value_property: str  # empty where events are only counted, or an expression says it
    filters: tuple[Filter, ...]
    dimensions: tuple[str, ...]
    unit: str
    create_time: datetime
    from_version: int = 0  # of the tenant's set of meters; it counts events decided under it
    until_version: int | None = None
    version: int = 1  # of this meter
    state: MeterState = MeterState.PUBLISHED
    effective_time: datetime | None = None  # of events; None: however old they are
    superseded_time: datetime | None = None  # from when a later version of the set counts
    value_expression: str = ""
    filter_expression: str = ""
    types: tuple[tuple[str, Type], ...] = ()  # of the properties that expressions read
    operation_property: str = ""  # of a unique count: "REMOVE" takes the key out
    carries: bool = False
    rounding: Rounding | None = None
    on_missing: Missing = Missing.REFUSE

    # What the hot path asks of it, worked out once.
    rule: Rule = field(init=False, compare=False, repr=False)
    is_simple: bool = field(init=False, compare=False, repr=False)
    is_additive_by_hour: bool = field(init=False, compare=False, repr=False)
    is_selective: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        rule = Rule(self.aggregation, self.carries, self.rounding)
        object.__setattr__(self, "rule", rule)
        object.__setattr__(self, "is_simple", rule.is_simple)
        object.__setattr__(self, "is_additive_by_hour", rule.is_additive_by_hour)
        selective = (
            self.filters
            or self.filter_expression
            or self.effective_time
            or self.superseded_time
            or self.on_missing is Missing.SKIP
        )
        object.__setattr__(self, "is_selective", bool(selective))

    @property
    def is_signed(self) -> bool:
        """Whether values may be negative: those of levels are changes, or levels themselves."""
        return self.carries or self.aggregation in (Aggregation.LAST, Aggregation.WEIGHTED_SUM)

    def is_counting(self, version: int) -> bool:
        """Whether events that were decided under this version of the set are counted by it."""
        return self.from_version <= version and (
            self.until_version is None or version < self.until_version
        )

    def is_in_force(self, instant: datetime) -> bool:
        """Whether events of this instant are counted by it rather than by another version."""
        return (self.effective_time is None or self.effective_time <= instant) and (
            self.superseded_time is None or instant < self.superseded_time
        )

    def counts(self, properties: Mapping[str, str], field: str = "event") -> bool:
        """Whether an event of its name passes its filters. Raises PropertyUnusable."""
        for condition in self.filters:
            if not condition.passes(properties):
                return False
        if self.filter_expression:
            try:
                if not self._expression(self.filter_expression).holds(properties):
                    return False
            except Unusable as fault:
                if self.on_missing is Missing.REFUSE:
                    raise self._unusable(field, fault) from None
                return False
        return self.on_missing is not Missing.SKIP or self._has_value(properties)

    def reads(self, properties: Mapping[str, str], instant: datetime, field: str = "event") -> bool:
        """Whether it counts an event of its name and of an instant. Raises PropertyUnusable."""
        return self.is_in_force(instant) and self.counts(properties, field)

    def value(self, properties: Mapping[str, str], field: str) -> Number:
        """What an event says: the number that is added up, or 1. Raises PropertyUnusable."""
        if self.aggregation is Aggregation.COUNT:
            return 1
        if self.aggregation is Aggregation.UNIQUE_COUNT:
            self.key(properties, field)
            return 1
        try:
            number = self._number(properties)
        except Unusable as fault:
            if self.on_missing is not Missing.ZERO:
                raise self._unusable(field, fault) from None
            number = 0
        if self.rounding is not None and self.rounding.of_event:
            return self.rounding.apply(number)
        return number

    def key(self, properties: Mapping[str, str], field: str) -> UUID:
        """With a unique count: 128 bits of the key's hash. Raises PropertyUnusable."""
        try:
            text = self._text(properties)
        except Unusable as fault:
            raise self._unusable(field, fault) from None
        return UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])

    def is_added(self, properties: Mapping[str, str]) -> bool:
        """With a unique count: whether the event puts its key in rather than takes it out."""
        if not self.operation_property:
            return True
        return properties.get(self.operation_property, "").upper() != "REMOVE"

    def dimension_values(self, properties: Mapping[str, str]) -> str:
        """The canonical text of an event's dimension values, for grouping."""
        if not self.dimensions:
            return "{}"
        return json.dumps({name: properties.get(name, "") for name in self.dimensions})

    def check_dimensions(self, properties: Mapping[str, str], field: str) -> None:
        """Raise PropertyUnusable where an event's dimension values are too long for a key."""
        size = sum(len(properties.get(name, "").encode()) for name in self.dimensions)
        if size > DIMENSION_VALUES_MAX:
            longest = max(self.dimensions, key=lambda name: len(properties.get(name, "")))
            why = f"dimension values of {size} bytes; takes at most {DIMENSION_VALUES_MAX}"
            raise PropertyUnusable(f"{field}.properties.{longest}", longest, self.code, why)

    def _number(self, properties: Mapping[str, str]) -> Number:
        if self.value_expression:
            number = self._expression(self.value_expression).number(properties)
            if number < 0 and not self.is_signed:
                raise Unusable("", "the expression gives a negative value")
            return number
        name = self.value_property
        text = properties.get(name, "")
        # The usual value is a short whole number, and needs no decimal arithmetic.
        if len(text) <= 18 and text.isdecimal() and text.isascii():
            return int(text)
        if not text:
            raise Unusable(name, f"meter {self.code!r} needs it")
        try:
            return exact(parse_decimal(text, name, signed=self.is_signed))
        except InvalidValue as error:
            raise Unusable(name, error.why) from None

    def _text(self, properties: Mapping[str, str]) -> str:
        if self.value_expression:
            return self._expression(self.value_expression).text(properties)
        text = properties.get(self.value_property, "")
        if not text:
            raise Unusable(self.value_property, f"meter {self.code!r} needs it")
        return text

    def _has_value(self, properties: Mapping[str, str]) -> bool:
        try:
            if self.aggregation is Aggregation.UNIQUE_COUNT:
                self._text(properties)
            elif self.aggregation is not Aggregation.COUNT:
                self._number(properties)
        except Unusable:
            return False
        return True

    def _expression(self, text: str) -> Expression:
        return compile_expression(text, self.types)

    def _unusable(self, field: str, fault: Unusable) -> PropertyUnusable:
        place = f"{field}.properties.{fault.name}" if fault.name else f"{field}.properties"
        return PropertyUnusable(place, fault.name, self.code, fault.why)


def check_same_rule(earlier: Meter, later: Meter) -> None:
    """Raise MeterUnchangeable where a new version would add values up otherwise."""
    for name, was, becomes in (
        ("aggregation", earlier.aggregation, later.aggregation),
        ("carry_over", earlier.carries, later.carries),
        ("rounding", earlier.rounding, later.rounding),
        ("unit", earlier.unit, later.unit),
    ):
        if was != becomes:
            raise MeterUnchangeable(later.code, name)


def next_effective_time(earlier: Meter, asked: datetime | None, now: datetime) -> datetime:
    """From when a new version counts: not before now, so that what is counted stays as it is, and
    after the version before it. Raises InvalidValue."""
    chosen = now if asked is None else asked
    if chosen < now:
        raise InvalidValue("effective_time", f"is before now, {now.isoformat()}")
    if earlier.effective_time is not None and chosen <= earlier.effective_time:
        when = earlier.effective_time.isoformat()
        raise InvalidValue("effective_time", f"is not after {when} of the version before it")
    return chosen


@dataclass(frozen=True, slots=True)
class MeterSet:
    """All meters of a tenant at one version of the set, by the name of the events they read."""

    version: int
    meters: Mapping[str, Meter]  # by code, in the version that was published last
    counting: Mapping[str, tuple[Meter, ...]]
    versions: Mapping[str, tuple[Meter, ...]]  # by code, in their order
    are_simple: bool  # none does more than add up what events say
    carried: Mapping[str, tuple[str, ...]]  # meters that carry usage over, by name of event

    @classmethod
    def of(cls, version: int, meters: Iterable[Meter]) -> MeterSet:
        versions: dict[str, list[Meter]] = {}
        for meter in meters:
            if meter.state is not MeterState.DRAFT:
                versions.setdefault(meter.code, []).append(meter)
        by_code = {
            code: tuple(sorted(found, key=lambda one: one.version))
            for code, found in versions.items()
        }
        counting: dict[str, tuple[Meter, ...]] = {}
        for found in by_code.values():
            for meter in _in_force(found, version):
                counting[meter.event_name] = (*counting.get(meter.event_name, ()), meter)
        newest = {code: found[-1] for code, found in by_code.items()}
        simple = all(meter.is_simple for meter in newest.values())
        carried: dict[str, tuple[str, ...]] = {}
        for code, found in by_code.items():
            if found[-1].carries:
                for name in {meter.event_name for meter in found}:
                    carried[name] = (*carried.get(name, ()), code)
        return cls(version, newest, counting, by_code, simple, carried)

    def reading(self, event_name: str, version: int) -> tuple[Meter, ...]:
        """The meters that read events of a name which were decided under an older version."""
        if version == self.version:
            return self.counting.get(event_name, ())
        return tuple(
            meter
            for found in self.versions.values()
            for meter in _in_force(found, version)
            if meter.event_name == event_name
        )

    def of_event(self, code: str, version: int, instant: datetime) -> Meter:
        """The version of a meter that counted an event of an instant, decided under a version of
        the set."""
        for meter in _in_force(self.versions[code], version):
            if meter.is_in_force(instant):
                return meter
        return self.versions[code][-1]

    def dimensions(self, code: str) -> set[str]:
        """The dimensions that all versions of a meter have."""
        return set.intersection(*(set(meter.dimensions) for meter in self.versions[code]))

    def event_names(self, code: str) -> set[str]:
        """Names of the events that any version of a meter reads."""
        return {meter.event_name for meter in self.versions[code]}


def _in_force(found: tuple[Meter, ...], version: int) -> list[Meter]:
    """The versions of one meter that count under a version of the set, each until the next."""
    counting = [meter for meter in found if meter.is_counting(version)]
    if len(counting) < 2:
        return counting
    # A later version that takes effect earlier hides what would have begun after it.
    kept: list[Meter] = []
    ends: datetime | None = None
    for meter in reversed(counting):
        if ends is None or meter.effective_time is None or meter.effective_time < ends:
            kept.append(meter if ends is None else replace(meter, superseded_time=ends))
            ends = meter.effective_time
            if ends is None:
                break
    return kept[::-1]
