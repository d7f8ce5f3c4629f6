"""One batch of events between its arrival and its answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from chassis.call import Call
from kernel.errors import NotFound, Refusal
from kernel.ids import new_id
from metering.charging.domain import batch_of, receipt_of
from metering.events.domain.decision import Record
from metering.events.domain.event import (
    Event,
    EventConflict,
    EventState,
    Outcome,
    event_key,
    invalid,
)
from metering.events.domain.matching import Match
from metering.parking.domain import may_park


class Arrival(NamedTuple):
    """An event on its way in."""

    event: Event
    field: str  # "events[3]"
    call: Call
    parked: UUID | None = None  # the receipt that it was parked under, where it is taken up


class Inflow:
    """One batch between its arrival and its answers."""

    def __init__(self, tenant_id: UUID, arrivals: Sequence[Arrival]) -> None:
        self.tenant_id = tenant_id
        # Receipts rise with real time, whatever a test clock says: days of receipt are kept and
        # dropped as a whole.
        self.batch_id = batch_of(new_id(datetime.now(UTC)))
        self.matches: dict[int, Match] = {}
        self.unusable: dict[int, Refusal] = {}  # what the tenant may want to be parked
        self._arrivals = arrivals
        self._outcomes: dict[int, Outcome] = {}
        self._first: dict[str, int] = {}
        self._first_unusable: dict[str, int] = {}
        self._followers: dict[int, int] = {}

    def receipt(self, position: int) -> UUID:
        return receipt_of(self.batch_id, position)

    def event(self, position: int) -> Event:
        return self._arrivals[position].event

    def now(self, position: int) -> datetime:
        return self._arrivals[position].call.now

    def refuse(self, position: int, refusal: Refusal) -> None:
        arrival = self._arrivals[position]
        self.matches.pop(position, None)
        self._outcomes[position] = invalid(arrival.event.event_id, refusal)
        if may_park(refusal) and arrival.parked is None:
            first = self._first_unusable.setdefault(arrival.event.event_id, position)
            if first == position:
                self.unusable[position] = refusal
            elif self._arrivals[first].event == arrival.event:
                self._followers[position] = first

    def list_parked(self) -> list[tuple[int, UUID]]:
        """Matched events that were parked, with the receipts they were parked under."""
        parked = ((position, self._arrivals[position].parked) for position in self.matches)
        return [(position, receipt) for position, receipt in parked if receipt is not None]

    def drop(self, keys: set[UUID]) -> None:
        """Leave out events that were parked and are no longer ours to take up."""
        for position, match in list(self.matches.items()):
            event_id = match.event.event_id
            if event_key(event_id) in keys:
                self.refuse(position, NotFound("parked event", event_id))

    def keep(self, position: int, outcome: Outcome) -> None:
        self._outcomes[position] = outcome

    def repeat_parked(self, position: int, event: Event, outcome: Outcome) -> None:
        """Answer what an event of that id was answered before, if this is the same."""
        arrival = self._arrivals[position]
        if event == arrival.event:
            self._outcomes[position] = outcome._replace(duplicate=True)
        else:
            field = f"{arrival.field}.event_id"
            self.refuse(position, EventConflict(field, arrival.event.event_id))

    def admit(self, position: int, match: Match) -> None:
        """Take a match in, unless an earlier one of this batch has the same event id."""
        first = self._first.setdefault(match.event.event_id, position)
        if first == position:
            self.matches[position] = match
        elif self._arrivals[first].event == match.event:
            self._followers[position] = first
        else:
            field = f"{match.field}.event_id"
            self.refuse(position, EventConflict(field, match.event.event_id))

    def repeat(self, position: int, event: Event, outcome: Outcome) -> None:
        """Answer what an event of that id was answered before, if this is the same."""
        match = self.matches.pop(position)
        if event == match.event:
            self._outcomes[position] = outcome._replace(duplicate=True)
        else:
            field = f"{match.field}.event_id"
            self.refuse(position, EventConflict(field, match.event.event_id))

    def settle(self, record: Record, outcome: Outcome) -> None:
        position = (record.receipt_id.int - self.batch_id.int) >> 8
        self._outcomes[position] = outcome

    def count_by_customer(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for match in self.matches.values():
            customer_id = match.event.customer_id
            counts[customer_id] = counts.get(customer_id, 0) + 1
        return counts

    def answer(self) -> list[Outcome]:
        for position, first in self._followers.items():
            outcome = self._outcomes[first]
            duplicate = outcome.state is not EventState.INVALID
            self._outcomes[position] = outcome._replace(duplicate=duplicate)
        return [self._outcomes[position] for position in range(len(self._arrivals))]
