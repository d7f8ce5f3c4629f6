"""What a correction is, and what of an event's charges it gives back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from kernel.errors import Kind, Refusal
from metering.charging.domain import Refused, charge_of
from metering.events.domain.event import Charge, Event, StoredEvent

CORRECTIONS_MAX = 1_000  # in one call; all of them are one transaction
REASON_MAX = 500


class RevisionKind(Enum):
    """What a revision did. The original is no revision."""

    AMENDMENT = 2
    DEPRECATION = 3
    RESTORATION = 4


class RevisionState(Enum):
    """Where a revision stands. The first two are stored."""

    APPLIED = 1
    REJECTED = 2
    PENDING = 3
    INVALID = 4


class Correction(NamedTuple):
    """What is asked for one event."""

    request_id: str
    kind: RevisionKind
    event_id: str
    event: Event | None  # the new content, with an amendment
    reason: str
    fingerprint: bytes
    field: str  # "items[3]"


class Refund(NamedTuple):
    """What is asked for no longer of one usage: of its atoms some fell short, the rest was paid by
    these charges."""

    number: int
    atoms: int
    shortfall: int
    parts: list[tuple[str, int]]

    def and_more(self, other: Refund) -> Refund:
        """Both together, of the same usage."""
        parts = dict(self.parts)
        for charge_id, atoms in other.parts:
            parts[charge_id] = parts.get(charge_id, 0) + atoms
        return Refund(
            self.number,
            self.atoms + other.atoms,
            self.shortfall + other.shortfall,
            list(parts.items()),
        )


class Revision(NamedTuple):
    """A correction as it is kept."""

    receipt_id: UUID
    origin_id: UUID
    customer_id: str
    number: int
    kind: RevisionKind
    supersedes: UUID | None
    reason: str
    caller: str
    request_id: str
    fingerprint: bytes
    state: RevisionState
    refunds: list[Refund]
    create_time: datetime


class Returned(NamedTuple):
    """A part of a charge that went back."""

    charge_id: str
    asset: str
    scale: int
    atoms: int


class CorrectionOutcome(NamedTuple):
    """What became of one correction."""

    event_id: str
    state: RevisionState
    revision: int
    charges: list[Charge]
    returns: list[Returned]
    refusal: Refused | None
    duplicate: bool


class EventPending(Refusal):
    """The event's charge is still being settled."""

    reason = "EVENT_PENDING"
    kind = Kind.UNAVAILABLE

    def __init__(self, field: str, event_id: str) -> None:
        super().__init__(
            f"{field}: the charge of {event_id!r} is still being settled; try again",
            field=field,
            event_id=event_id,
        )


class EventNotCounted(Refusal):
    """There is nothing to correct."""

    reason = "EVENT_NOT_COUNTED"
    kind = Kind.PRECONDITION

    def __init__(self, field: str, event_id: str, state: str) -> None:
        super().__init__(
            f"{field}: {event_id!r} is {state.lower()} and not counted",
            field=field,
            event_id=event_id,
            state=state,
        )


@dataclass(slots=True)
class Paid:
    """What an event asked of one usage, over all its revisions, and still does."""

    asked: int = 0
    shortfall: int = 0
    parts: dict[str, int] = field(default_factory=dict)  # charge → atoms paid, oldest first

    def give_back(self, number: int, atoms: int) -> Refund:
        """Ask for up to so many atoms no longer. What nobody paid goes first, then the newest
        charge."""
        atoms = min(atoms, self.asked)
        short = min(atoms, self.shortfall)
        rest = atoms - short
        parts: list[tuple[str, int]] = []
        for charge_id in reversed(list(self.parts)):
            taken = min(rest, self.parts[charge_id])
            if taken:
                parts.append((charge_id, taken))
                self.parts[charge_id] -= taken
                rest -= taken
        self.asked -= atoms
        self.shortfall -= short
        return Refund(number, atoms, short, parts)


def paid_by_usage(rows: Iterable[StoredEvent], revisions: Iterable[Revision]) -> dict[int, Paid]:
    """What an event's rows, oldest first, ask of each usage after what was given back of it."""
    found: dict[int, Paid] = {}
    for row in rows:
        for place, line in enumerate(row.lines, 1):
            paid = found.setdefault(line.number, Paid())
            paid.asked += line.atoms
            paid.shortfall += line.shortfall
            if line.atoms > line.shortfall:
                paid.parts[charge_of(row.receipt_id, place)] = line.atoms - line.shortfall
    for revision in revisions:
        for refund in revision.refunds:
            paid = found[refund.number]
            paid.asked -= refund.atoms
            paid.shortfall -= refund.shortfall
            for charge_id, atoms in refund.parts:
                paid.parts[charge_id] -= atoms
    return found


class History(NamedTuple):
    """An event with all that was made of it."""

    origin: StoredEvent
    revisions: Sequence[Revision]  # all of them, oldest first
    rows: Mapping[UUID, StoredEvent]  # the origin and every amended form, by receipt

    @property
    def standing(self) -> list[Revision]:
        """Revisions that were not rejected, oldest first."""
        return [one for one in self.revisions if one.state is RevisionState.APPLIED]

    @property
    def last(self) -> StoredEvent:
        """The newest content that was ever counted."""
        for revision in reversed(self.standing):
            if revision.kind is not RevisionKind.DEPRECATION:
                return self.rows[revision.receipt_id]
        return self.origin

    @property
    def is_deprecated(self) -> bool:
        standing = self.standing
        return bool(standing) and standing[-1].kind is RevisionKind.DEPRECATION

    @property
    def receipts(self) -> list[UUID]:
        """Of everything that may have been charged for it."""
        return [self.origin.receipt_id, *(one.receipt_id for one in self.revisions)]

    def paid(self) -> dict[int, Paid]:
        """What it asks of each usage at present."""
        charged = [
            self.origin,
            *(self.rows[one.receipt_id] for one in self.standing if one.receipt_id in self.rows),
        ]
        return paid_by_usage(charged, self.standing)
