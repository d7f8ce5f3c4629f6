"""What a backfill is, which events belong into it, and where it may go."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from kernel.errors import Kind, Refusal
from kernel.period import Period
from metering.charging.domain import Refused
from metering.corrections.domain.revision import Correction, RevisionKind
from metering.events.domain.event import AHEAD, Event, event_key

INTERVAL_MAX = timedelta(days=400)  # a year and its late events
CUSTOMERS_MAX = 1_000
EVENTS_MAX = 200_000  # of one backfill; a larger one is made in parts


class Mode(Enum):
    """What is done with the events that are there."""

    ADD = 1
    REPLACE = 2


class State(Enum):
    """Where a backfill stands."""

    OPEN = 1
    CLOSING = 2
    CLOSED = 3
    REVERTING = 4
    REVERTED = 5


class FedState(Enum):
    """Where an event that was fed stands."""

    WAITING = 1
    ADDING = 2  # no event of its id was there, and it is on its way
    ADDED = 3
    AMENDED = 4
    UNCHANGED = 5
    REFUSED = 6


# What a caller may ask for: from → to. Asked again where it leads, it changes nothing.
CLOSING = {State.OPEN: State.CLOSING}
REVERTING = {State.OPEN: State.REVERTED, State.CLOSED: State.REVERTING}
ENDS = {State.CLOSING: State.CLOSED, State.REVERTING: State.REVERTED}


class Backfill(NamedTuple):
    """One run."""

    backfill_id: UUID
    mode: Mode
    interval: Period
    customer_ids: list[str]
    reason: str
    caller: str
    state: State
    has_replaced: bool
    create_time: datetime

    def correction(
        self, step: str, kind: RevisionKind, event_id: str, event: Event | None = None
    ) -> Correction:
        """A correction of this run; the same step of the same event has the same key."""
        key = f"backfill:{self.backfill_id}:{step}:{event_key(event_id)}"
        return Correction(key, kind, event_id, event, self.reason, key.encode(), "backfill")


class Fed(NamedTuple):
    """An event that a backfill was fed with."""

    position: int
    event: Event
    state: FedState
    refusal: Refused | None


class BackfillState(Refusal):
    """The backfill is in a state that does not allow it."""

    reason = "BACKFILL_STATE"

    def __init__(self, backfill_id: UUID, state: State) -> None:
        super().__init__(
            f"backfill {backfill_id} is {state.name}", backfill_id=backfill_id, state=state.name
        )


class OutsideBackfill(Refusal):
    """The event lies outside the backfill."""

    reason = "OUTSIDE_BACKFILL"
    kind = Kind.INVALID

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}", field=field, why=why)


def check_event(backfill: Backfill, event: Event, field: str, now: datetime) -> None:
    """Raise unless an event belongs into a backfill."""
    if event.event_time not in backfill.interval:
        raise OutsideBackfill(f"{field}.event_time", "is not in the backfill's interval")
    if event.event_time > now + AHEAD:
        raise OutsideBackfill(f"{field}.event_time", "is in the future")
    if event.customer_id not in backfill.customer_ids:
        raise OutsideBackfill(f"{field}.customer_id", "is none of the backfill's customers")
    if event.authorization_id is not None:
        raise OutsideBackfill(f"{field}.authorization_id", "is not taken in a backfill")
