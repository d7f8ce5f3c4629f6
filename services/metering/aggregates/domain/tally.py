"""What events come to, kept so that it is the same in whatever order they arrive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from fractions import Fraction
from typing import Any, NamedTuple

from kernel.period import Period
from rating.exact import Number, ceil_div, exact, floor_div, nearest_div, number_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Aggregation(Enum):
    """How values become usage."""

    COUNT = 1
    SUM = 2
    MAX = 3
    LAST = 4
    UNIQUE_COUNT = 5
    WEIGHTED_SUM = 6


ADDS_UP = frozenset({Aggregation.COUNT, Aggregation.SUM, Aggregation.UNIQUE_COUNT})
SUMS = frozenset({Aggregation.COUNT, Aggregation.SUM})
SUBTRACTABLE = SUMS | {Aggregation.WEIGHTED_SUM}  # taken back without a recount of the hour
LEVELS = frozenset(
    {Aggregation.SUM, Aggregation.LAST, Aggregation.UNIQUE_COUNT, Aggregation.WEIGHTED_SUM}
)  # what may be carried into the next period


class RoundingMode(Enum):
    """Which neighbour a value between two goes to."""

    ROUND = 1  # the nearest, a half away from zero
    CEIL = 2
    FLOOR = 3


class Rounding(NamedTuple):
    """Usage in whole steps: of each event, or of what a period comes to."""

    mode: RoundingMode
    step: Fraction
    of_event: bool

    def apply(self, value: Number) -> Number:
        """The value in whole steps."""
        match self.mode:
            case RoundingMode.ROUND:
                count = nearest_div(value, self.step)
            case RoundingMode.CEIL:
                count = ceil_div(value, self.step)
            case RoundingMode.FLOOR:
                count = floor_div(value, self.step)
        return exact(count * self.step)


class Rule(NamedTuple):
    """How a meter's values are added up; the same in all versions of the meter."""

    aggregation: Aggregation
    carries: bool = False  # a period begins where the one before it ended
    rounding: Rounding | None = None

    @property
    def is_simple(self) -> bool:
        """Whether usage is the sum of what each event adds, and nothing else is to be known."""
        return (
            self.aggregation in (Aggregation.COUNT, Aggregation.SUM)
            and not self.carries
            and (self.rounding is None or self.rounding.of_event)
        )

    @property
    def is_additive_by_hour(self) -> bool:
        """Whether the figure of any stretch of time is the sum, or the greatest, of its hours'."""
        return (
            self.aggregation in (*SUMS, Aggregation.MAX)
            and not self.carries
            and (self.rounding is None or self.rounding.of_event)
        )

    @property
    def is_live(self) -> bool:
        """Whether a charge can be known when the event comes; else at the end of the period."""
        return self.aggregation is not Aggregation.WEIGHTED_SUM

    def rounded(self, value: Number) -> Number:
        """What a period comes to, as it is priced."""
        if self.rounding is None or self.rounding.of_event:
            return value
        return self.rounding.apply(value)


class Moment(NamedTuple):
    """When an event happened and which it was of those at one instant."""

    microseconds: int
    sequence: int

    @classmethod
    def of(cls, instant: datetime, sequence: int) -> Moment:
        return cls(microseconds(instant), sequence)


_BEGINNING = Moment(-1, -1)


class Sighting(NamedTuple):
    """A key of a unique count: in how many events it was, and whether the last one left it in."""

    event_count: int
    last: Moment
    is_active: bool


NEVER_SEEN = Sighting(0, _BEGINNING, False)


@dataclass(slots=True)
class Tally:
    """Figures of some events. `total` is the sum, the greatest or the last value, or how many keys
    are in; `leverage` is Σ value × time, from which the weight of any end of time follows."""

    event_count: int = 0
    total: Number = 0
    leverage: Number = 0
    last: Moment = _BEGINNING

    def add(self, aggregation: Aggregation, value: Number, moment: Moment) -> None:
        """One event more. Keys of a unique count are told by `change`."""
        self.event_count += 1
        match aggregation:
            case Aggregation.COUNT | Aggregation.SUM:
                self.total += value
            case Aggregation.MAX:
                if self.event_count == 1 or value > self.total:
                    self.total = value
            case Aggregation.LAST:
                if moment > self.last:
                    self.total, self.last = value, moment
            case Aggregation.WEIGHTED_SUM:
                self.total += value
                self.leverage += value * moment.microseconds
            case Aggregation.UNIQUE_COUNT:
                pass

    def merge(self, aggregation: Aggregation, other: Tally) -> None:
        """The events of another one too."""
        if aggregation is Aggregation.MAX:
            if other.event_count and (not self.event_count or other.total > self.total):
                self.total = other.total
        elif aggregation is Aggregation.LAST:
            if other.last > self.last:
                self.total, self.last = other.total, other.last
        else:
            self.total += other.total
            self.leverage += other.leverage
        self.event_count += other.event_count

    def copy(self) -> Tally:
        return replace(self)


def value_of(rule: Rule, own: Tally, before: Tally, window: Period, whole: Period) -> Number:
    """What a window comes to, before rounding. `before` is what it began with; a weighted sum is
    over the length of the whole period, of which the window may be a part."""
    carried: Number = before.total if rule.carries else 0
    match rule.aggregation:
        case Aggregation.COUNT | Aggregation.SUM | Aggregation.UNIQUE_COUNT:
            return own.total + carried
        case Aggregation.MAX:
            return max(own.total, 0)
        case Aggregation.LAST:
            return own.total if own.event_count else carried
        case Aggregation.WEIGHTED_SUM:
            start, end = microseconds(window.start), microseconds(window.end)
            length = microseconds(whole.end) - microseconds(whole.start)
            stayed = carried * (end - start) + own.total * end - own.leverage
            return exact(Fraction(stayed) / length)


def seen(earlier: Sighting, is_added: bool, moment: Moment) -> Sighting:
    """A key after one event more."""
    count = earlier.event_count + 1
    if moment > earlier.last:
        return Sighting(count, moment, is_added)
    return earlier._replace(event_count=count)


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970."""
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def render_tally(tally: Tally) -> list[Any]:
    """A tally as JSON."""
    return [
        tally.event_count,
        number_text(tally.total),
        number_text(tally.leverage),
        *tally.last,
    ]


def parse_tally(stored: list[Any]) -> Tally:
    """A tally from JSON."""
    return Tally(
        stored[0],
        read_number(stored[1]),
        read_number(stored[2]),
        Moment(stored[3], stored[4]),
    )


def read_number(text: str) -> Number:
    """A number that was stored: a sum may have more digits than any one quantity."""
    return int(text) if text.isdigit() else exact(Fraction(text))
