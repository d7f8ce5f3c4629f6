"""A payment intent: the promise to collect one amount, by one live attempt at a time at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from gateway.domain.attempt import LIVE, Attempt, Siblings, State
from gateway.domain.outcome import DeclineClass
from kernel.errors import InvalidValue, Refusal
from kernel.money import Amount


@dataclass(frozen=True, slots=True)
class Cap:
    """How often a method may be declined within a while before it rests."""

    declines: int
    window: timedelta


# What card networks allow before they fine the merchant: of one method, over all payments. A
# network that is not listed, or not known, has the strictest that holds elsewhere.
CAPS: Mapping[str, tuple[Cap, ...]] = {
    "mastercard": (Cap(10, timedelta(hours=24)), Cap(35, timedelta(days=30))),
}
_CAPS_ELSEWHERE = (Cap(15, timedelta(days=30)),)
_BRANDS = {"mc": "mastercard"}  # other words that providers have for a network
DECLINES_MAX = 35  # as many as any cap counts
DECLINES_WINDOW = timedelta(days=30)


def caps_of(brand: str) -> tuple[Cap, ...]:
    """The caps of a card network, by the word that a provider has for it."""
    word = "".join(brand.lower().split())
    return CAPS.get(_BRANDS.get(word, word), _CAPS_ELSEWHERE)


# With these, the same method gives the same answer until somebody does something about it.
_NOT_WITH_THE_SAME_METHOD = frozenset(
    {DeclineClass.ACTION_REQUIRED, DeclineClass.HARD, DeclineClass.FRAUD}
)


class PaymentState(Enum):
    """What an intent's attempts amount to."""

    OPEN = "OPEN"
    PROCESSING = "PROCESSING"
    ACTION_REQUIRED = "ACTION_REQUIRED"
    AUTHORIZED = "AUTHORIZED"
    SUCCEEDED = "SUCCEEDED"
    REVERSED = "REVERSED"
    CANCELED = "CANCELED"


@dataclass(frozen=True, slots=True)
class Source:
    """The document that a payment is for."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Payment:
    payment_id: UUID
    customer_id: str
    amount: Amount
    source: Source
    description: str
    state: PaymentState
    outcome_unknown: bool
    create_time: datetime
    attempts: tuple[Attempt, ...] = ()  # oldest first
    capture_later: bool = False  # reserved only, until it is captured
    cancel_requested: bool = False  # nobody wants it any more


class AttemptInFlight(Refusal):
    """An attempt of this payment still lives; another could charge a second time."""

    reason = "ATTEMPT_IN_FLIGHT"

    def __init__(self, payment_id: UUID) -> None:
        super().__init__(f"an attempt of payment {payment_id} still lives", payment_id=payment_id)


class StateNotAllowed(Refusal):
    """A payment is in a state that does not allow what was asked."""

    reason = "STATE_NOT_ALLOWED"

    def __init__(self, payment_id: UUID, state: str) -> None:
        super().__init__(f"payment {payment_id} is {state}", payment_id=payment_id, state=state)


class OutcomeUnknown(Refusal):
    """What became of an earlier capture or cancellation is not known yet."""

    reason = "OUTCOME_UNKNOWN"

    def __init__(self, payment_id: UUID) -> None:
        super().__init__(
            f"a capture or cancellation of payment {payment_id} is still open",
            payment_id=payment_id,
        )


class RetryNotAllowed(Refusal):
    """A retry would be refused, is not allowed yet, or has nothing left to collect."""

    reason = "RETRY_NOT_ALLOWED"


def project(
    states: Sequence[State], *, cancel_requested: bool = False
) -> tuple[PaymentState, bool]:
    """An intent's state from its attempts' states, and whether its outcome is unknown."""
    if State.SUCCEEDED in states:
        return PaymentState.SUCCEEDED, False
    for state in states:
        if state in LIVE:
            return _LIVE_STATES[state], state is State.UNKNOWN
    if cancel_requested:
        return PaymentState.CANCELED, False
    if State.REVERSED in states:
        return PaymentState.REVERSED, False
    return PaymentState.OPEN, False


_LIVE_STATES = {
    State.REQUESTED: PaymentState.PROCESSING,
    State.PROCESSING: PaymentState.PROCESSING,
    State.UNKNOWN: PaymentState.PROCESSING,
    State.ACTION_REQUIRED: PaymentState.ACTION_REQUIRED,
    State.AUTHORIZED: PaymentState.AUTHORIZED,
}


def siblings_of(attempt_id: UUID, states: dict[UUID, State]) -> Siblings:
    """What the other attempts of an intent amount to."""
    others = [state for other, state in states.items() if other != attempt_id]
    return Siblings(alive=any(state in LIVE for state in others), paid=State.SUCCEEDED in others)


def capture_amount(payment: Payment, asked: Amount | None) -> tuple[Attempt, Amount]:
    """The attempt that holds what is reserved, and how much of it to take.

    Raises StateNotAllowed, InvalidValue.
    """
    attempt = payment.attempts[-1]
    if attempt.state is not State.AUTHORIZED or payment.cancel_requested:
        stands = "CANCELED" if payment.cancel_requested else payment.state.value
        raise StateNotAllowed(payment.payment_id, stands)
    amount = payment.amount if asked is None else asked
    if amount.asset != payment.amount.asset:
        raise InvalidValue("amount.asset", f"the payment is in {payment.amount.asset.code}")
    if not 0 < amount.atoms <= payment.amount.atoms:
        raise InvalidValue("amount.value", f"must be above zero and at most {payment.amount}")
    return attempt, amount


def check_retry(
    payment: Payment,
    payment_method_id: UUID,
    declines: Sequence[datetime],
    now: datetime,
    brand: str = "",
) -> None:
    """Raise AttemptInFlight or RetryNotAllowed where no further attempt may start.

    `declines` are the times at which this method was declined, over all payments; `brand` is the
    card network's, empty where it is none, or not known.
    """
    if any(attempt.state in LIVE for attempt in payment.attempts):
        raise AttemptInFlight(payment.payment_id)
    if payment.state not in (PaymentState.OPEN, PaymentState.REVERSED):
        raise RetryNotAllowed(
            f"payment {payment.payment_id} is {payment.state.value}", state=payment.state.value
        )
    last = payment.attempts[-1]
    same_method = last.payment_method_id == payment_method_id
    if same_method and last.decline_class in _NOT_WITH_THE_SAME_METHOD:
        raise RetryNotAllowed(
            f"declined with {last.decline_code}: not again with the same method",
            decline_class=last.decline_class.value,
            decline_code=last.decline_code,
        )
    for cap in caps_of(brand):
        recent = sorted(time for time in declines if time > now - cap.window)
        if len(recent) >= cap.declines:
            retry_after = recent[-cap.declines] + cap.window
            raise RetryNotAllowed(
                f"declined {len(recent)} times in {_length(cap.window)}",
                decline_class=last.decline_class.value if last.decline_class else "",
                retry_after=retry_after.isoformat(),
            )


def _length(window: timedelta) -> str:
    return f"{window.days} days" if window.days > 1 else f"{int(window.total_seconds()) // 3600} h"
