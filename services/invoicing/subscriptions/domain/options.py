"""What a caller chooses of a change: when it takes effect, and how the period is settled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import assert_never
from uuid import UUID

from invoicing.subscriptions.domain.subscription import (
    Subscription,
    SubscriptionEnded,
    SubscriptionState,
    Unused,
)
from kernel.errors import InvalidValue, Kind, Refusal


class ChangeTimeOutOfRange(Refusal):
    """A change takes effect neither in the past nor once the subscription is over."""

    reason = "CHANGE_TIME_OUT_OF_RANGE"
    kind = Kind.PRECONDITION

    def __init__(self, wanted: datetime, earliest: datetime, latest: datetime | None) -> None:
        until = "" if latest is None else latest.isoformat()
        told = f"from {earliest.isoformat()} on" + (f" and before {until}" if until else "")
        super().__init__(
            f"{wanted.isoformat()} is out of range: a change takes effect {told}",
            time=wanted.isoformat(),
            earliest=earliest.isoformat(),
            latest=until,
        )


class ChangePending(Refusal):
    """Something is scheduled after the instant of a change, and was not said to be dropped."""

    reason = "SUBSCRIPTION_CHANGE_PENDING"
    kind = Kind.PRECONDITION

    def __init__(self, subscription_id: UUID, scheduled: datetime) -> None:
        super().__init__(
            f"subscription {subscription_id} has a change scheduled at {scheduled.isoformat()}",
            subscription_id=subscription_id,
            scheduled=scheduled.isoformat(),
        )


class SubscriptionPaused(Refusal):
    """What is paused is resumed before it is changed."""

    reason = "SUBSCRIPTION_PAUSED"
    kind = Kind.PRECONDITION

    def __init__(self, subscription_id: UUID) -> None:
        super().__init__(
            f"subscription {subscription_id} is paused", subscription_id=subscription_id
        )


class TrialRefused(Refusal):
    """The trial needs a payment method on file, or was had before."""

    reason = "TRIAL_REFUSED"
    kind = Kind.PRECONDITION

    def __init__(self, customer_id: str, why: str) -> None:
        super().__init__(f"no trial for {customer_id!r}: {why}", customer_id=customer_id, why=why)


class AddOnRefused(Refusal):
    """An add-on is no plan, a plan no add-on, or the two do not go together."""

    reason = "ADD_ON_REFUSED"
    kind = Kind.PRECONDITION

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"{code!r} is refused: {why}", code=code, why=why)


class PreviewChanged(Refusal):
    """The money differs from that of the preview."""

    reason = "PREVIEW_CHANGED"
    kind = Kind.PRECONDITION

    def __init__(self, expected: str, present: str) -> None:
        super().__init__(
            "what the change would cost is not what was shown",
            expected=expected,
            present=present,
        )


class When(Enum):
    """When a change takes effect."""

    IMMEDIATE = "IMMEDIATE"
    PERIOD_END = "PERIOD_END"
    AT_TIME = "AT_TIME"


class Proration(Enum):
    """How the running period is settled."""

    NEXT_INVOICE = "NEXT_INVOICE"
    INVOICE_NOW = "INVOICE_NOW"
    NONE = "NONE"
    FULL_CHARGE = "FULL_CHARGE"


class AnchorChange(Enum):
    """Whether periods are counted from where they were, or anew from the change."""

    KEEP = "KEEP"
    RESET = "RESET"


class UsageChange(Enum):
    """Whether usage has the new prices from the change on, or from the next period."""

    SPLIT = "SPLIT"
    OLD_UNTIL_PERIOD_END = "OLD_UNTIL_PERIOD_END"


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller chose; nothing is inferred from amounts."""

    when: When = When.IMMEDIATE
    is_when_stated: bool = True
    at: datetime | None = None
    proration: Proration = Proration.NEXT_INVOICE
    anchor: AnchorChange = AnchorChange.KEEP
    usage: UsageChange = UsageChange.SPLIT
    unused: Unused = Unused.BILLED_SHARE
    drops_scheduled: bool = False


def effective_time(subscription: Subscription, options: Options, now: datetime) -> datetime:
    """When a change takes effect.

    Raises SubscriptionEnded, SubscriptionPaused, ChangeTimeOutOfRange, ChangePending.
    """
    state = subscription.state(now)
    if state is SubscriptionState.ENDED:
        raise SubscriptionEnded(subscription.subscription_id)
    if state is SubscriptionState.PAUSED:
        raise SubscriptionPaused(subscription.subscription_id)
    earliest = max(now, subscription.start_time)
    match options.when:
        case When.IMMEDIATE:
            at = earliest
        case When.PERIOD_END:
            at = subscription.full_period(earliest).end
        case When.AT_TIME:
            if options.at is None:
                raise InvalidValue("at_time", "is needed with AT_TIME")
            at = options.at
        case _:
            assert_never(options.when)
    if at < earliest or (subscription.end_time is not None and at >= subscription.end_time):
        raise ChangeTimeOutOfRange(at, earliest, subscription.end_time)
    scheduled = next_scheduled(subscription, at)
    if scheduled is not None and not options.drops_scheduled:
        raise ChangePending(subscription.subscription_id, scheduled)
    return at


def next_scheduled(subscription: Subscription, after: datetime) -> datetime | None:
    """When the next phase, change or pause after an instant takes effect."""
    instants = [term.start for term in subscription.terms if term.end != term.start]
    instants += [
        term.end for term in subscription.terms if term.end is not None and term.end != term.start
    ]
    if subscription.pause_time is not None:
        instants.append(subscription.pause_time)
    return min((one for one in instants if one > after), default=None)
