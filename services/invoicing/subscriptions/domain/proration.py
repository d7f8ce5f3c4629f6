"""Shares of a period (SUB-13): how much of it a part is, by the basis of the subscription."""

from __future__ import annotations

from datetime import datetime, time
from enum import Enum
from fractions import Fraction
from typing import assert_never
from zoneinfo import ZoneInfo

from kernel.period import MONTHS_OF_YEAR, Every, Period, Unit

DAYS_OF_MONTH = 30
DAYS_OF_YEAR = 360


class Basis(Enum):
    """What a share of a period is counted in."""

    ACTUAL_SECONDS = "ACTUAL_SECONDS"
    ACTUAL_DAYS = "ACTUAL_DAYS"
    ACTUAL_OVER_30 = "ACTUAL_OVER_30"
    THIRTY_360 = "THIRTY_360"
    NONE = "NONE"


def share_of(
    part: Period,
    whole: Period,
    basis: Basis,
    every: Every,
    zone: ZoneInfo,
    billed_day: datetime | None = None,
) -> Fraction:
    """What part of a whole period is, exactly; 1 where it is all of it.

    `every` is the length of the whole where it is a full period. The day of a border belongs to
    what begins there, but the day of `billed_day`, at which a subscription is cancelled, to what
    ends with it.
    """
    if part == whole:
        return Fraction(1)
    match basis:
        case Basis.ACTUAL_SECONDS:
            return part.share_of(whole)
        case Basis.ACTUAL_DAYS:
            return _ratio(_days(part, zone, billed_day), _days(whole, zone, billed_day))
        case Basis.ACTUAL_OVER_30:
            return min(_ratio(_days(part, zone, billed_day), _nominal_days(every)), Fraction(1))
        case Basis.THIRTY_360:
            over = _days_360(whole, zone)
            if not over:  # a period from the 30th to the 31st has no length in such months
                return part.share_of(whole)
            return _ratio(_days_360(part, zone), over)
        case Basis.NONE:
            return Fraction(1)
        case _:
            assert_never(basis)


def share_of_bill(
    unused: Period,
    billed: Period,
    basis: Basis,
    every: Every,
    zone: ZoneInfo,
    billed_day: datetime | None = None,
) -> Fraction:
    """What an unused rest is of the stretch that was billed, which may be part of a period."""
    if basis is Basis.ACTUAL_OVER_30:
        over = _ratio(_days(billed, zone, billed_day), _nominal_days(every))
        over = min(over, Fraction(1))
        rest = share_of(unused, Period(billed.start, billed.end), basis, every, zone, billed_day)
        return min(rest / over, Fraction(1)) if over else Fraction(0)
    return share_of(unused, billed, basis, every, zone, billed_day)


def _ratio(over: int, under: int) -> Fraction:
    return Fraction(over, under) if under else Fraction(0)


def _days(period: Period, zone: ZoneInfo, billed_day: datetime | None) -> int:
    return _day(period.end, zone, billed_day) - _day(period.start, zone, billed_day)


def _day(instant: datetime, zone: ZoneInfo, billed_day: datetime | None) -> int:
    local = instant.astimezone(zone)
    begun = instant == billed_day and local.time() != time()
    return local.date().toordinal() + begun


def _days_360(period: Period, zone: ZoneInfo) -> int:
    return _day_360(period.end, zone) - _day_360(period.start, zone)


def _day_360(instant: datetime, zone: ZoneInfo) -> int:
    local = instant.astimezone(zone)
    return DAYS_OF_YEAR * local.year + DAYS_OF_MONTH * local.month + min(local.day, DAYS_OF_MONTH)


def _nominal_days(every: Every) -> int:
    match every.unit:
        case Unit.DAY:
            return every.count
        case Unit.WEEK:
            return 7 * every.count
        case Unit.MONTH:
            return DAYS_OF_MONTH * every.count
        case Unit.YEAR:
            return DAYS_OF_MONTH * MONTHS_OF_YEAR * every.count
        case _:
            assert_never(every.unit)
