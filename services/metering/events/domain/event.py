"""A usage event, what it must be, and what became of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from kernel.errors import Kind, Refusal
from metering.charging.domain import Refused, refused

BACKDATE = timedelta(days=35)
AHEAD = timedelta(seconds=300)
EVENTS_PER_CALL_MAX = 1_000
PROPERTIES_MAX = 50
PROPERTY_NAME_MAX = 64
PROPERTY_VALUE_MAX = 512
PROPERTIES_TOTAL_MAX = 8_192  # characters of all names and values: an event is no document


class Event(NamedTuple):
    """One fact of usage, as it was sent."""

    event_id: str
    name: str
    customer_id: str
    subject: str
    event_time: datetime
    properties: Mapping[str, str]
    authorization_id: UUID | None
    node: str = ""  # of the customer's budgets, where no authorization says it
    continues: bool = False  # more events of the authorization follow


class EventState(Enum):
    """Where an event stands. ACCEPTED, REJECTED and SUPERSEDED are stored."""

    ACCEPTED = 1
    REJECTED = 2
    PENDING = 3
    INVALID = 4
    SUPERSEDED = 5  # a correction took its place: it is counted no longer
    PARKED = 6
    DEPRECATED = 7


class Charge(NamedTuple):
    """What one price asked for one event."""

    charge_id: str  # empty where nothing was asked
    price_id: str
    subscription_item_id: str
    meter: str
    quantity: str
    asset: str
    scale: int
    atoms: int
    shortfall: int
    available: str


class Outcome(NamedTuple):
    """What became of one event."""

    event_id: str
    state: EventState
    charges: list[Charge]
    refusal: Refused | None
    duplicate: bool


class StoredLine(NamedTuple):
    """One price's part in a stored event."""

    number: int  # of the customer's usage
    quantity: str
    atoms: int
    shortfall: int


class StoredEvent(NamedTuple):
    """An event as it is kept."""

    receipt_id: UUID
    event: Event
    receive_time: datetime
    sequence: int
    meter_version: int
    state: EventState
    lines: list[StoredLine]
    refusal: Refused | None


class BatchTooLarge(Refusal):
    """More items than a batch takes."""

    reason = "BATCH_TOO_LARGE"
    kind = Kind.INVALID

    def __init__(self, field: str, limit: int, count: int) -> None:
        super().__init__(
            f"{field}: {count} items; a batch takes {limit}", field=field, limit=limit, count=count
        )


class EventConflict(Refusal):
    """The event id was used with other content; the first stands."""

    reason = "EVENT_CONFLICT"
    kind = Kind.CONFLICT

    def __init__(self, field: str, event_id: str) -> None:
        super().__init__(
            f"{field}: {event_id!r} was used with other content", field=field, event_id=event_id
        )


class EventTimeOutOfRange(Refusal):
    """The event lies outside the window."""

    reason = "EVENT_TIME_OUT_OF_RANGE"
    kind = Kind.INVALID

    def __init__(self, field: str, instant: datetime, now: datetime) -> None:
        earliest, latest = (now - BACKDATE).isoformat(), (now + AHEAD).isoformat()
        super().__init__(
            f"{field}: {instant.isoformat()} is not between {earliest} and {latest}",
            field=field,
            event_time=instant.isoformat(),
            earliest=earliest,
            latest=latest,
        )


class EventUnmatched(Refusal):
    """No meter reads events of that name."""

    reason = "EVENT_UNMATCHED"
    kind = Kind.INVALID

    def __init__(self, field: str, name: str) -> None:
        super().__init__(f"{field}: no meter reads events named {name!r}", field=field, name=name)


class CustomerUnknown(Refusal):
    """Nobody of that id is billed here."""

    reason = "CUSTOMER_UNKNOWN"
    kind = Kind.NOT_FOUND

    def __init__(self, field: str, customer_id: str) -> None:
        super().__init__(
            f"{field}: no customer {customer_id!r}", field=field, customer_id=customer_id
        )


class UnpricedUsage(Refusal):
    """A price has no part that applies to the event."""

    reason = "UNPRICED_USAGE"
    kind = Kind.PRECONDITION

    def __init__(self, field: str, price_id: str, why: str, dimensions: str) -> None:
        super().__init__(f"{field}: {why}", field=field, price_id=price_id, dimensions=dimensions)


class AuthorizationUnknown(Refusal):
    """There is no such authorization."""

    reason = "NOT_FOUND"
    kind = Kind.NOT_FOUND

    def __init__(self, field: str, authorization_id: UUID) -> None:
        super().__init__(
            f"{field}: no authorization {str(authorization_id)!r}",
            field=field,
            what="authorization",
            name=authorization_id,
        )


class AuthorizationMismatch(Refusal):
    """The authorization is another customer's."""

    reason = "AUTHORIZATION_MISMATCH"
    kind = Kind.PRECONDITION

    def __init__(self, field: str, authorization_id: UUID) -> None:
        super().__init__(
            f"{field}: the authorization is another customer's",
            field=field,
            authorization_id=authorization_id,
        )


def check_time(instant: datetime, now: datetime, field: str) -> None:
    """Raise EventTimeOutOfRange unless the instant is in the window around now."""
    if not now - BACKDATE <= instant <= now + AHEAD:
        raise EventTimeOutOfRange(field, instant, now)


def event_key(event_id: str) -> UUID:
    """A narrow key of an event id: the id itself where it is a UUID, so that ids which rise with
    time keep their order; else 122 bits of its hash, marked as version 8."""
    if len(event_id) == 36:
        try:
            key = UUID(event_id)
        except ValueError:
            pass
        else:
            if str(key) == event_id:
                return key
    bits = int.from_bytes(hashlib.sha256(event_id.encode()).digest()[:16], "big")
    # Version and variant as RFC 9562 §5.8 has them for ids of one's own making.
    bits = bits & ~(0xF << 76) | 0x8 << 76
    return UUID(int=bits & ~(0x3 << 62) | 0x2 << 62)


def invalid(event_id: str, refusal: Refusal) -> Outcome:
    """The outcome of an event that was not stored."""
    return Outcome(event_id, EventState.INVALID, [], refused(refusal), False)
