"""How a question about usage cuts time, and which hours it cuts in two."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from kernel.errors import InvalidValue
from kernel.period import Every, Period, Unit, boundary

WINDOWS_MAX = 10_000  # of days or months in one question
RAW_MAX = timedelta(days=35)  # of hours that do not begin on the hour in UTC

HOUR = timedelta(hours=1)


class Window(Enum):
    """Width of a window."""

    WHOLE = "whole"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Cut(NamedTuple):
    """How usage by hour answers a question: all hours inside, but those that a boundary divides;
    their events are looked at one by one."""

    hours: Period | None  # whole hours, broken ones among them
    broken: list[datetime]
    raw: list[Period]  # stretches of the interval that lie in broken hours


class Question(NamedTuple):
    """What is asked about usage."""

    customer_ids: list[str]  # empty: all
    meters: list[str]  # empty: all
    interval: Period
    window: Window
    time_zone: str
    zone: ZoneInfo
    group_by: list[str]


def cut(interval: Period, window: Window, zone: ZoneInfo) -> Cut:
    """Find the hours that the interval's ends or a window's boundary divide.

    Raises InvalidValue where the question has too many windows.
    """
    if window is Window.HOUR and not _begins_on_hours(interval, zone):
        if interval.end - interval.start > RAW_MAX:
            raise InvalidValue(
                "interval", f"hours of this zone are counted over {RAW_MAX.days} days at most"
            )
        return Cut(None, [], [interval])
    edges = {interval.start, interval.end, *_boundaries(interval, window, zone)}
    broken = sorted({_floor(edge) for edge in edges if _floor(edge) != edge})
    raw = [
        part
        for hour in broken
        if (part := Period(hour, hour + HOUR).intersect(interval)) is not None
    ]
    first, last = _floor(interval.start), _floor(interval.end - timedelta(microseconds=1))
    return Cut(Period(first, last + HOUR), broken, raw)


def window_at(start: datetime, window: Window, zone: ZoneInfo, interval: Period) -> Period:
    """The window that begins at an instant, as far as it lies in the interval."""
    if window is Window.WHOLE:
        return interval
    if window is Window.HOUR:
        end = start + HOUR
    else:
        unit = Unit.DAY if window is Window.DAY else Unit.MONTH
        end = boundary(start, Every(1, unit), 1, zone)
    return Period(max(start, interval.start), min(end, interval.end))


def begin_of(start: datetime, window: Window, zone: ZoneInfo) -> datetime:
    """The beginning of the whole window that a part of it begins at."""
    if window is Window.WHOLE:
        return start
    if window is Window.HOUR:
        return _floor(start) - _offset(start, zone) % HOUR
    local = start.astimezone(zone)
    midnight = datetime(local.year, local.month, 1 if window is Window.MONTH else local.day)
    return midnight.replace(tzinfo=zone).astimezone(UTC)


def windows_of(interval: Period, window: Window, zone: ZoneInfo) -> list[Period]:
    """The windows of an interval in their order. Raises InvalidValue where there are too many."""
    if window is Window.HOUR:
        edges = _hours(interval, zone)
    else:
        edges = [interval.start, *_boundaries(interval, window, zone)]
    ends = [*edges[1:], interval.end]
    return [Period(start, end) for start, end in zip(edges, ends, strict=True)]


def _hours(interval: Period, zone: ZoneInfo) -> list[datetime]:
    """The start of an interval and the beginnings of local hours in it."""
    edges = [interval.start]
    edge = _floor(interval.start) - _offset(interval.start, zone) % HOUR
    while (edge := edge + HOUR) < interval.end:
        if edge > interval.start:
            edges.append(edge)
        if len(edges) > WINDOWS_MAX:
            raise InvalidValue("interval", f"has more than {WINDOWS_MAX} windows")
    return edges


def _boundaries(interval: Period, window: Window, zone: ZoneInfo) -> Iterator[datetime]:
    if window not in (Window.DAY, Window.MONTH):
        return
    local = interval.start.astimezone(zone)
    midnight = datetime(local.year, local.month, 1 if window is Window.MONTH else local.day)
    start = midnight.replace(tzinfo=zone).astimezone(UTC)
    every = Every(1, Unit.DAY if window is Window.DAY else Unit.MONTH)
    for index in range(1, WINDOWS_MAX + 2):
        edge = boundary(start, every, index, zone)
        if edge >= interval.end:
            return
        if edge > interval.start:
            yield edge
    raise InvalidValue("interval", f"has more than {WINDOWS_MAX} windows")


def _begins_on_hours(interval: Period, zone: ZoneInfo) -> bool:
    """Whether the zone's hours are those of UTC throughout."""
    instant = interval.start
    while instant < interval.end:
        if _offset(instant, zone) % HOUR:
            return False
        instant += timedelta(days=1)
    return not _offset(interval.end, zone) % HOUR


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)


def _floor(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)
