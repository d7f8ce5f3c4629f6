"""Limits of entitlements: their windows, what is used and set aside, and whether usage fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from kernel.errors import Refusal
from kernel.period import Every, Period, period_at
from metering.aggregates.domain.tally import ADDS_UP, Aggregation
from metering.meters.domain import Meter
from rating.exact import Number, number_text

HOUR = timedelta(hours=1)
# A limit for life counts all hours there are.
FIRST_INSTANT, LAST_INSTANT = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class Reset(Enum):
    """When the count begins anew."""

    GRID = 1  # billing periods and calendars alike: an anchor and an interval
    ROLLING = 2  # a window opens with the first use after the last one closed
    NEVER = 3


class Limit(NamedTuple):
    """One limit of one feature's entitlement."""

    feature: str
    meter: str
    quantity: Number
    is_hard: bool
    reset: Reset
    anchor: datetime
    every: Every | None
    zone: ZoneInfo
    seconds: int  # length of a rolling window

    def window(self, now: datetime, opened: datetime | None) -> Period:
        """The window that an instant is in. A rolling one that is not open opens now."""
        match self.reset:
            case Reset.GRID:
                assert self.every is not None
                return period_at(self.anchor, self.every, now, self.zone)
            case Reset.ROLLING:
                length = timedelta(seconds=self.seconds)
                start = opened if opened is not None and now < opened + length else now
                return Period(start, start + length)
            case Reset.NEVER:
                return Period(FIRST_INSTANT, LAST_INSTANT)


class WindowKey(NamedTuple):
    """A rolling window's place."""

    customer_id: str
    feature: str
    seconds: int


class Count(NamedTuple):
    """A meter of a customer in a window: what has to be read to decide a limit."""

    customer_id: str
    meter: str
    window: Period

    @property
    def hours(self) -> Period:
        """The window in whole hours (UTC), as usage is summed up."""
        start = self.window.start.replace(minute=0, second=0, microsecond=0)
        end = self.window.end.replace(minute=0, second=0, microsecond=0)
        return Period(start, end if end == self.window.end else end + HOUR)

    @property
    def before(self) -> Period | None:
        """What of the first hour lies before the window; None where the window begins with it."""
        start = self.hours.start
        return None if start == self.window.start else Period(start, self.window.start)


@dataclass(slots=True)
class Used:
    """What is counted in a window: added up, and the highest value."""

    total: Number = 0
    highest: Number = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """A limit as it stands for some usage."""

    limit: Limit
    window: Period
    used: Number
    reserved: Number
    needed: Number

    @property
    def left(self) -> Number:
        """What there is room for before the usage; never below zero."""
        return max(self.limit.quantity - self.used - self.reserved, 0)

    @property
    def fits(self) -> bool:
        return self.needed <= self.left

    @property
    def overage(self) -> Number:
        return max(self.needed - self.left, 0)

    @property
    def reset_time(self) -> datetime | None:
        return None if self.limit.reset is Reset.NEVER else self.window.end


class LimitReached(Refusal):
    """A limit of the customer's entitlement has no room for this."""

    reason = "LIMIT_REACHED"

    def __init__(self, standing: Standing) -> None:
        limit = standing.limit
        left, needed = text_of(standing.left), text_of(standing.needed)
        reset = standing.reset_time
        super().__init__(
            f"{needed} of {limit.meter!r} needed, {left} left of the limit of {limit.feature!r}",
            feature=limit.feature,
            meter=limit.meter,
            limit=text_of(limit.quantity),
            used=text_of(standing.used),
            reserved=text_of(standing.reserved),
            remaining=left,
            needed=needed,
            reset_time="" if reset is None else reset.isoformat(),
        )


@dataclass(slots=True)
class LimitBook:
    """What limits of a batch are decided by; its requests see what earlier ones set aside."""

    opened: Mapping[WindowKey, datetime] = field(default_factory=dict)
    used: Mapping[Count, Used] = field(default_factory=dict)
    reserved: dict[tuple[str, str], Number] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)  # of the customers' guards

    def standings(
        self,
        customer_id: str,
        limits: Mapping[str, Sequence[Limit]],
        measured: Iterable[tuple[Meter, Number]],
        now: datetime,
    ) -> list[Standing]:
        """How every limit stands that the usage counts against."""
        found = []
        for meter, value in added_up(measured):
            for limit in limits.get(meter.code, ()):
                window = limit.window(now, self._opened(customer_id, limit))
                counted = self.used.get(Count(customer_id, meter.code, window), Used())
                if meter.aggregation not in ADDS_UP:
                    # A level: it neither adds to what is used nor is it set aside. One over time
                    # is known at the end of its period only.
                    if meter.aggregation is not Aggregation.WEIGHTED_SUM:
                        found.append(Standing(limit, window, 0, 0, value))
                    continue
                reserved = self.reserved.get((customer_id, meter.code), 0)
                found.append(Standing(limit, window, counted.total, reserved, value))
        return found

    def set_aside(self, customer_id: str, measured: Iterable[tuple[Meter, Number]]) -> None:
        """Note what an answer sets aside, for those that come after it."""
        for meter, value in added_up(measured):
            if meter.aggregation in ADDS_UP:
                key = (customer_id, meter.code)
                self.reserved[key] = self.reserved.get(key, 0) + value

    def openings(
        self, customer_id: str, standings: Sequence[Standing]
    ) -> dict[WindowKey, datetime]:
        """The rolling windows that open with an answer."""
        return {
            key: standing.window.start
            for standing in standings
            if standing.limit.reset is Reset.ROLLING
            and self.opened.get(key := window_key(customer_id, standing.limit))
            != standing.window.start
        }

    def _opened(self, customer_id: str, limit: Limit) -> datetime | None:
        return self.opened.get(window_key(customer_id, limit))


def text_of(quantity: Number) -> str:
    """A quantity as a decimal string."""
    return str(quantity) if isinstance(quantity, int) else number_text(quantity)


def window_key(customer_id: str, limit: Limit) -> WindowKey:
    return WindowKey(customer_id, limit.feature, limit.seconds)


def added_up(measured: Iterable[tuple[Meter, Number]]) -> list[tuple[Meter, Number]]:
    """Each meter once."""
    sums: dict[str, tuple[Meter, Number]] = {}
    for meter, value in measured:
        known = sums.get(meter.code)
        sums[meter.code] = (meter, value if known is None else known[1] + value)
    return list(sums.values())


def room_of(standings: Sequence[Standing]) -> Number | None:
    """What every hard limit has room for; None where none limits it."""
    hard = [standing.left for standing in standings if standing.limit.is_hard]
    return min(hard) if hard else None
