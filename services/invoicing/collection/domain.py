"""Collection: what an invoice's payment attempts amount to, and when the next one is (DUN-1..3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never

ATTEMPTS_MAX = 8
WINDOW = timedelta(days=14)
# Days after the first attempt (DUN-01): often at first, when a declined card may just be short.
OFFSETS_DAYS = (0, 1, 2, 3, 5, 7, 10, 14)


class DunningState(Enum):
    """Where collection stands."""

    NONE = "NONE"
    RETRYING = "RETRYING"
    WAITING_FOR_CUSTOMER = "WAITING_FOR_CUSTOMER"
    EXHAUSTED = "EXHAUSTED"
    RECOVERED = "RECOVERED"


class Outcome(Enum):
    """What became of asking for a payment, as far as it is known."""

    PAID = "PAID"
    PENDING = "PENDING"  # not decided; a message or a later question tells
    ACTION_REQUIRED = "ACTION_REQUIRED"  # the customer must act; the attempt stays open
    DECLINED_SOFT = "DECLINED_SOFT"  # may succeed later
    DECLINED_HARD = "DECLINED_HARD"  # never with this method
    DECLINED_FRAUD = "DECLINED_FRAUD"  # stop, and tell somebody
    NO_METHOD = "NO_METHOD"  # nobody was asked, for the customer has given no way to pay
    REVERSED = "REVERSED"  # it was paid and is no more


@dataclass(frozen=True, slots=True)
class Collection:
    """How one invoice is being collected. `asks` counts questions to the gateway, decided or not;
    `attempts` those that a provider decided (DUN-2)."""

    state: DunningState = DunningState.NONE
    attempts: int = 0
    first_attempt_time: datetime | None = None
    next_attempt_time: datetime | None = None
    payment_id: str = ""
    payment_amount: int | None = None  # minor units that the payment was asked for
    payment_method_id: str = ""
    asks: int = 0
    ask_open: bool = False

    @property
    def window_end_time(self) -> datetime | None:
        """When waiting for the customer is over."""
        return None if self.first_attempt_time is None else self.first_attempt_time + WINDOW


def begin(now: datetime) -> Collection:
    """Collection of an invoice that was just issued: the first attempt is due at once."""
    return Collection(next_attempt_time=now)


def ask(collection: Collection, now: datetime, due: int | None = None) -> Collection:
    """One more question to the gateway, or the same again while the last one is undecided.

    A payment that was asked for another amount than is `due` now is left, for a new one.
    """
    if collection.ask_open:
        return collection
    first = collection.first_attempt_time or now
    other = due is not None and collection.payment_amount not in (None, due)
    return replace(
        collection,
        payment_id="" if other else collection.payment_id,
        payment_amount=due,
        asks=collection.asks + 1,
        ask_open=True,
        first_attempt_time=first,
        next_attempt_time=None,
    )


def decide(collection: Collection, outcome: Outcome, now: datetime) -> Collection:
    """What an outcome makes of a collection. The same outcome twice must be told apart before."""
    match outcome:
        case Outcome.PAID:
            recovered = collection.state is not DunningState.NONE
            state = DunningState.RECOVERED if recovered else DunningState.NONE
            return _closed(collection, state, counted=True)
        case Outcome.PENDING:
            return collection
        case Outcome.ACTION_REQUIRED:
            return replace(collection, state=DunningState.WAITING_FOR_CUSTOMER)
        case Outcome.DECLINED_SOFT:
            return _retry(_closed(collection, DunningState.RETRYING, counted=True), now)
        case Outcome.DECLINED_HARD | Outcome.DECLINED_FRAUD:
            return _closed(collection, DunningState.WAITING_FOR_CUSTOMER, counted=True)
        case Outcome.NO_METHOD:
            return _closed(collection, DunningState.WAITING_FOR_CUSTOMER, counted=False)
        case Outcome.REVERSED:
            return _closed(collection, DunningState.WAITING_FOR_CUSTOMER, counted=False)
        case _:
            assert_never(outcome)


def expire(collection: Collection, now: datetime) -> Collection:
    """Give up waiting for the customer once the window is over."""
    end = collection.window_end_time
    if collection.state is not DunningState.WAITING_FOR_CUSTOMER or end is None or now < end:
        return collection
    return _closed(collection, DunningState.EXHAUSTED, counted=False)


def resume(collection: Collection, now: datetime) -> Collection:
    """Ask again now, because somebody says that it will work; a window of its own begins."""
    state = collection.state
    if state is not DunningState.NONE:
        state = DunningState.RETRYING
    restarted = replace(collection, state=state, next_attempt_time=now)
    if collection.state in (DunningState.EXHAUSTED, DunningState.WAITING_FOR_CUSTOMER):
        restarted = replace(restarted, first_attempt_time=None)
    return restarted


def _closed(collection: Collection, state: DunningState, *, counted: bool) -> Collection:
    return replace(
        collection,
        state=state,
        attempts=collection.attempts + counted,
        next_attempt_time=None,
        ask_open=False,
    )


def _retry(collection: Collection, now: datetime) -> Collection:
    """The next offset that is not over; a clock that jumped makes one attempt, not many."""
    first = collection.first_attempt_time or now
    if collection.attempts < ATTEMPTS_MAX:
        for days in OFFSETS_DAYS[collection.attempts :]:
            planned = first + timedelta(days=days)
            if planned > now and planned <= first + WINDOW:
                return replace(collection, next_attempt_time=planned)
    return replace(collection, state=DunningState.EXHAUSTED)
