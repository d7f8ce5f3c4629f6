"""Time is an argument. A clock is the one thing allowed to know what time it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the present instant, always with the UTC zone attached."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class FixedClock:
    """A clock that stands still until it is set, for tests and test clocks."""

    instant: datetime

    def now(self) -> datetime:
        return self.instant
