"""Billing periods: half-open intervals cut at boundaries counted from one anchor (SUB-1 to SUB-4).

Boundary k is always computed from the anchor, never from boundary k − 1, so that 31 January is
followed by 28 February and then by 31 March. Local wall time is kept across clock changes.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from fractions import Fraction
from typing import assert_never
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kernel.errors import InvalidValue

MONTHS_OF_YEAR = 12
COUNT_MAX = 1_000  # a period longer than that is a typing error


class Unit(Enum):
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    YEAR = "YEAR"


@dataclass(frozen=True, slots=True)
class Every:
    """An interval of `count` units; a quarter is three months."""

    count: int
    unit: Unit

    def __post_init__(self) -> None:
        if not 1 <= self.count <= COUNT_MAX:
            raise InvalidValue("interval.count", f"{self.count} is not between 1 and {COUNT_MAX}")


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open stretch of time [start, end), both ends in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise InvalidValue("end_time", "must be after start_time")

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def share_of(self, full: Period) -> Fraction:
        """This period's length as an exact share of a longer one, by seconds (ACTUAL_SECONDS)."""
        return Fraction(_microseconds(self), _microseconds(full))

    def intersect(self, other: Period) -> Period | None:
        """What two periods have in common, or None where they do not meet."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Period(start, end) if start < end else None


def parse_zone(name: str, field: str = "time_zone") -> ZoneInfo:
    """Read an IANA zone name such as "Europe/Paris"; raises InvalidValue where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidValue(field, f"{name!r} is not an IANA time zone") from error


def boundary(anchor: datetime, every: Every, index: int, zone: ZoneInfo) -> datetime:
    """The instant at which period `index` starts, counted from the anchor; negative goes back."""
    local = anchor.astimezone(zone).replace(tzinfo=None)
    steps = every.count * index
    match every.unit:
        case Unit.DAY:
            moved = local + timedelta(days=steps)
        case Unit.WEEK:
            moved = local + timedelta(weeks=steps)
        case Unit.MONTH:
            moved = _add_months(local, steps)
        case Unit.YEAR:
            moved = _add_months(local, 12 * steps)
        case _:
            assert_never(every.unit)
    return _from_local(moved, zone)


def unit_floor(start: datetime, every: Every, zone: ZoneInfo) -> datetime:
    """The first of its unit at or before an instant: midnight, Monday, the 1st, 1 January."""
    local = start.astimezone(zone).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    match every.unit:
        case Unit.DAY:
            pass
        case Unit.WEEK:
            local -= timedelta(days=local.weekday())
        case Unit.MONTH:
            # Quarters and halves count from January; a length that does not fit a year has no
            # calendar of its own and counts from its first month.
            fits = MONTHS_OF_YEAR % every.count == 0
            back = (local.month - 1) % every.count if fits else 0
            local = local.replace(day=1, month=local.month - back)
        case Unit.YEAR:
            local = local.replace(day=1, month=1)
        case _:
            assert_never(every.unit)
    return _from_local(local, zone)


def period_at(anchor: datetime, every: Every, instant: datetime, zone: ZoneInfo) -> Period:
    """The period that contains an instant."""
    index = _estimate(anchor, every, instant)
    while boundary(anchor, every, index, zone) > instant:
        index -= 1
    while boundary(anchor, every, index + 1, zone) <= instant:
        index += 1
    return Period(boundary(anchor, every, index, zone), boundary(anchor, every, index + 1, zone))


def _estimate(anchor: datetime, every: Every, instant: datetime) -> int:
    days = {Unit.DAY: 1.0, Unit.WEEK: 7.0, Unit.MONTH: 30.436875, Unit.YEAR: 365.2425}[every.unit]
    return int((instant - anchor).total_seconds() / (86_400 * days * every.count))


def _add_months(local: datetime, months: int) -> datetime:
    year, month0 = divmod(local.year * 12 + local.month - 1 + months, 12)
    last_day = calendar.monthrange(year, month0 + 1)[1]
    return local.replace(year=year, month=month0 + 1, day=min(local.day, last_day))


def _from_local(local: datetime, zone: ZoneInfo) -> datetime:
    # An ambiguous wall time means the earlier instant (fold 0). One that the clock jumps over is
    # read with the offset before the jump, which lands just as far behind it: the next that exists.
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _microseconds(period: Period) -> int:
    return (period.end - period.start) // timedelta(microseconds=1)
