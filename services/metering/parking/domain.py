"""Which events may wait, and for how long they are left alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from kernel.errors import Refusal
from metering.charging.domain import AssetUnknown, Refused
from metering.events.domain.event import Event, EventUnmatched, UnpricedUsage
from metering.meters.domain import PropertyUnusable

PAUSE = timedelta(seconds=5)  # before the first attempt; doubles with each
PAUSE_MAX = timedelta(minutes=5)  # a published price is found within that


class IngestChoice(Enum):
    """What is done with an event that cannot be taken."""

    REFUSE = 1
    PARK = 2


class IngestPolicy(NamedTuple):
    """A tenant's choices."""

    unmatched: IngestChoice = IngestChoice.REFUSE
    unusable: IngestChoice = IngestChoice.REFUSE
    unpriced: IngestChoice = IngestChoice.REFUSE

    def parks(self, refusal: Refusal) -> bool:
        """Whether an event that was refused so is kept."""
        match refusal:
            case EventUnmatched():
                return self.unmatched is IngestChoice.PARK
            case PropertyUnusable():
                return self.unusable is IngestChoice.PARK
            case UnpricedUsage() | AssetUnknown():
                return self.unpriced is IngestChoice.PARK
        return False


class Parked(NamedTuple):
    """An event that waits."""

    receipt_id: UUID
    event: Event
    receive_time: datetime
    refusal: Refused
    meter_version: int
    attempts: int
    next_attempt_time: datetime


def may_park(refusal: Refusal) -> bool:
    """Whether it depends on the tenant's policy what becomes of an event that was refused so."""
    return isinstance(refusal, EventUnmatched | PropertyUnusable | UnpricedUsage | AssetUnknown)


def next_attempt(attempts: int, now: datetime) -> datetime:
    """When a parked event is tried again."""
    return now + min(PAUSE * (1 << min(attempts, 16)), PAUSE_MAX)
