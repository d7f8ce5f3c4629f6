"""Stretches of time that caps count in: calendar windows of a time zone, and the time up to now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from kernel.period import Every, Unit, period_at

COUNT_MAX = 366
ROLLING_MIN, ROLLING_MAX = timedelta(minutes=1), timedelta(days=366)
STEPS = 60  # of a rolling window: use leaves it at most a sixtieth late, and never early
SECONDS_OF_ONE_STEP = 10**10  # longer than any calendar window: all of it is one step

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


class CalendarUnit(IntEnum):
    HOUR = 1
    DAY = 2
    WEEK = 3
    MONTH = 4
    YEAR = 5


_UNITS = {
    CalendarUnit.DAY: Unit.DAY,
    CalendarUnit.WEEK: Unit.WEEK,
    CalendarUnit.MONTH: Unit.MONTH,
    CalendarUnit.YEAR: Unit.YEAR,
}


class Slot(NamedTuple):
    """What is counted together: use in [start, stop) is in the window until `leave`."""

    start: datetime
    stop: datetime
    leave: datetime


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """`count` units of a time zone, counted from an anchor. An hour is 3,600 seconds."""

    unit: CalendarUnit
    count: int
    time_zone: str
    anchor: datetime

    def slot_of(self, instant: datetime) -> Slot:
        if self.unit is CalendarUnit.HOUR:
            length = _HOUR * self.count
            start = self.anchor + (instant - self.anchor) // length * length
            return Slot(start, start + length, start + length)
        zone = ZoneInfo(self.time_zone)
        period = period_at(self.anchor, Every(self.count, _UNITS[self.unit]), instant, zone)
        return Slot(period.start, period.end, period.end)

    def bounds_at(self, now: datetime) -> tuple[datetime, datetime]:
        slot = self.slot_of(now)
        return slot.start, slot.stop

    def counted_since(self, now: datetime) -> tuple[datetime, int]:
        """From when on use still counts at an instant, and the seconds of its steps."""
        slot = self.slot_of(now)
        return slot.start, SECONDS_OF_ONE_STEP

    def text(self) -> str:
        anchor = self.anchor.isoformat()
        return f"calendar/{self.unit.name}/{self.count}/{anchor}/{self.time_zone}"


@dataclass(frozen=True, slots=True)
class RollingWindow:
    """The time up to now, counted in steps of a sixtieth of it, rounded up to whole seconds.

    It is conservative: use is counted until all of its step is older than the window.
    """

    length: timedelta

    @property
    def step(self) -> timedelta:
        return timedelta(seconds=-(-int(self.length.total_seconds()) // STEPS))

    def slot_of(self, instant: datetime) -> Slot:
        step = self.step
        start = _EPOCH + (instant - _EPOCH) // step * step
        return Slot(start, start + step, start + step + self.length)

    def bounds_at(self, now: datetime) -> tuple[datetime, datetime]:
        return now - self.length, now

    def counted_since(self, now: datetime) -> tuple[datetime, int]:
        """From when on use still counts at an instant, and the seconds of its steps."""
        # The oldest step whose last moment is not yet as old as the window is long.
        step = self.step
        return self.slot_of(now - self.length).start, int(step.total_seconds())

    def text(self) -> str:
        return f"rolling/{int(self.length.total_seconds())}"


Window: TypeAlias = CalendarWindow | RollingWindow


def first_anchor(time_zone: str) -> datetime:
    """The first moment of 2024 in a zone: a Monday that begins a year, a month and a week."""
    return datetime(2024, 1, 1, tzinfo=ZoneInfo(time_zone)).astimezone(UTC)


@lru_cache(maxsize=4_096)
def read_window(text: str) -> Window:
    """A window from the text that it is stored as."""
    kind, rest = text.split("/", 1)
    if kind == "rolling":
        return RollingWindow(timedelta(seconds=int(rest)))
    unit, count, anchor, time_zone = rest.split("/", 3)
    return CalendarWindow(CalendarUnit[unit], int(count), time_zone, datetime.fromisoformat(anchor))
