"""How a subscription begins, is renewed and ends: trials, phases, terms, cancelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import assert_never
from uuid import UUID

from invoicing.catalog.domain import Trial, TrialEnd
from invoicing.subscriptions.domain.change import (
    NewId,
    Offer,
    build_items,
    change_plan,
    set_add_on,
)
from invoicing.subscriptions.domain.options import ChangeTimeOutOfRange, Options, When
from invoicing.subscriptions.domain.pauses import stopped
from invoicing.subscriptions.domain.renewal import Renewal, RenewalMode
from invoicing.subscriptions.domain.subscription import (
    AnchorMode,
    Cause,
    Ending,
    Item,
    Subscription,
    SubscriptionEnded,
    SubscriptionState,
    Term,
    Unused,
    find_anchor,
)
from kernel.errors import InvalidValue, Kind, Refusal
from kernel.period import boundary


class NothingScheduled(Refusal):
    """There is no change, pause or cancellation ahead that could be taken back."""

    reason = "NOTHING_SCHEDULED"
    kind = Kind.PRECONDITION

    def __init__(self, subscription_id: UUID) -> None:
        super().__init__(
            f"subscription {subscription_id} has nothing scheduled",
            subscription_id=subscription_id,
        )


@dataclass(frozen=True, slots=True)
class Phase:
    """Another plan or other seats from an instant on."""

    start: datetime
    offer: Offer
    seats: Mapping[str, Decimal]


class CancelWhen(Enum):
    """When a cancellation takes effect (SUB-10)."""

    IMMEDIATE = "IMMEDIATE"
    PERIOD_END = "PERIOD_END"
    TERM_END = "TERM_END"
    AT_TIME = "AT_TIME"


CANCELLED = "CANCELLED"
TRIAL_OVER = "TRIAL_OVER"
TERM_OVER = "TERM_OVER"


def begin(
    empty: Subscription,
    offer: Offer,
    seats: Mapping[str, Decimal],
    mode: AnchorMode,
    trial: Trial | None,
    phases: Sequence[Phase],
    new_id: NewId,
) -> Subscription:
    """A subscription with all that is known of its future. `empty` has its times and grid.

    Raises InvalidValue where phases are not in order of time.
    """
    start, zone = empty.start_time, empty.zone
    counted_from, trial_end = start, None
    if trial is not None:
        trial_end = boundary(start, trial.length, 1, zone)
        counted_from = start if trial.keeps_anchor else trial_end
    anchor = find_anchor(counted_from, offer.every, mode, zone)
    term = Term(
        new_id(), offer.plan_code, offer.plan_version, False, Decimal(1), dict(seats), start, None,
        anchor, offer.every,
    )  # fmt: skip
    free_until = None if trial is None or trial.is_usage_charged else trial_end
    items = build_items(offer, term, trial_end or start, start, free_until, new_id)
    begun = replace(
        empty,
        anchor_time=anchor,
        items=tuple(items),
        terms=(term,),
        trial_end_time=trial_end,
        next_bill_time=start,
    )
    if trial is not None and trial_end is not None:
        begun = _with_trial_end(begun, trial.end, trial_end)
    for index, phase in enumerate(phases):
        earliest = phases[index - 1].start if index else max(start, trial_end or start)
        if phase.start <= earliest:
            why = f"is not after {earliest.isoformat()}: phases do not overlap"
            raise InvalidValue(f"phases[{index}].start_time", why)
        options = Options(when=When.AT_TIME, at=phase.start)
        begun = change_plan(begun, phase.offer, phase.seats, phase.start, options, new_id)
    return _with_renewal(begun)


def _with_trial_end(subscription: Subscription, how: TrialEnd, at: datetime) -> Subscription:
    match how:
        case TrialEnd.CONVERT:
            return subscription
        case TrialEnd.CANCEL:
            return replace(subscription, end_time=at, planned_end_time=at, end_reason=TRIAL_OVER)
        case TrialEnd.PAUSE:
            items = tuple(
                item if item.is_free else stopped(subscription, item, at, Unused.BILLED_SHARE)
                for item in subscription.items
            )
            terms = tuple(replace(one, end=at, cause=Cause.PAUSE) for one in subscription.terms)
            return replace(subscription, items=items, terms=terms, pause_time=at)
        case _:
            assert_never(how)


def _with_renewal(subscription: Subscription) -> Subscription:
    renewal = subscription.renewal
    if renewal.every is None:
        return subscription
    first = term_boundary(subscription, 1)
    end = {
        RenewalMode.AUTO: None,
        RenewalMode.NONE: first,
        RenewalMode.AUTO_UNTIL: renewal.until,
    }[renewal.mode]
    if end is not None and (subscription.end_time is None or end < subscription.end_time):
        subscription = replace(
            subscription, end_time=end, planned_end_time=end, end_reason=TERM_OVER
        )
    return replace(subscription, renewal=replace(renewal, term_end=first))


def term_boundary(subscription: Subscription, number: int) -> datetime:
    """When the first `number` terms are over, counted from the start or the end of the trial."""
    every = subscription.renewal.every
    assert every is not None
    start = subscription.trial_end_time or subscription.start_time
    return boundary(start, every, number, subscription.zone)


def cancel(
    subscription: Subscription, when: CancelWhen, at: datetime | None, ending: Ending, now: datetime
) -> Subscription:
    """The subscription with its end (SUB-10). One that has not started ends at its start.

    Raises SubscriptionEnded, ChangeTimeOutOfRange, InvalidValue.
    """
    if subscription.state(now) is SubscriptionState.ENDED:
        raise SubscriptionEnded(subscription.subscription_id)
    end = _end_of(subscription, when, at, now)
    if subscription.end_time is not None:
        end = min(end, subscription.end_time)
    if end == subscription.end_time and subscription.ending == ending:
        return subscription
    next_bill = subscription.next_bill_time
    return replace(
        subscription,
        end_time=end,
        end_reason=CANCELLED,
        ending=ending,
        # What was billed for time beyond the new end falls due to be given back at that end.
        next_bill_time=end if next_bill is None else min(next_bill, end),
    )


def _end_of(
    subscription: Subscription, when: CancelWhen, at: datetime | None, now: datetime
) -> datetime:
    if when is CancelWhen.AT_TIME:
        if at is None:
            raise InvalidValue("at_time", "is needed with AT_TIME")
        if at < max(now, subscription.start_time):
            raise ChangeTimeOutOfRange(at, max(now, subscription.start_time), None)
        return at
    if now <= subscription.start_time:
        return subscription.start_time
    match when:
        case CancelWhen.IMMEDIATE:
            return now
        case CancelWhen.PERIOD_END:
            return subscription.full_period(now).end
        case CancelWhen.TERM_END:
            if subscription.renewal.term_end is not None:
                return subscription.renewal.term_end
            # Without a term the longest interval in the plan is one.
            ends = [
                subscription.full_period(now, item).end
                for item in subscription.items
                if subscription.starts(item) <= now and (item.end is None or now < item.end)
            ]
            return max(ends, default=subscription.full_period(now).end)
        case _:
            assert_never(when)


def take_back(subscription: Subscription, now: datetime) -> Subscription:
    """The subscription without its cancellation, or else without what is scheduled.

    Raises SubscriptionEnded, NothingScheduled.
    """
    if subscription.state(now) is SubscriptionState.ENDED:
        raise SubscriptionEnded(subscription.subscription_id)
    if subscription.end_reason == CANCELLED:
        planned = subscription.planned_end_time
        reopened = replace(
            subscription,
            end_time=planned,
            end_reason="" if planned is None else TERM_OVER,
            ending=Ending(),
        )
        return _due_again(reopened, now)
    ahead = {term.term_id for term in subscription.terms if term.start > now}
    pauses = subscription.pause_time is not None and subscription.pause_time > now
    cut = [one for one in subscription.terms if one.end is not None and one.end > now]
    if not ahead and not cut and not pauses:
        raise NothingScheduled(subscription.subscription_id)
    terms = tuple(
        replace(term, end=term.start, cause=Cause.CHANGE)
        if term.term_id in ahead
        else replace(term, end=None, cause=Cause.NONE)
        if term in cut
        else term
        for term in subscription.terms
    )
    whole = {term.term_id for term in terms if term.end is None}
    items = tuple(
        _without_schedule(subscription, item, ahead, whole, now) for item in subscription.items
    )
    if pauses:
        subscription = replace(subscription, pause_time=None, resume_time=None)
    return _due_again(replace(subscription, items=items, terms=terms), now)


def _without_schedule(
    subscription: Subscription, item: Item, ahead: set[UUID], whole: set[UUID], now: datetime
) -> Item:
    start = subscription.starts(item)
    if item.term_id in ahead:
        return replace(item, end=start, cause=Cause.CHANGE)
    cut = item.end is not None and item.end > now and item.cause in (Cause.CHANGE, Cause.PAUSE)
    if cut and item.term_id in whole:
        return replace(
            item, end=None, cause=Cause.NONE, prompt_end=False, unused=Unused.BILLED_SHARE
        )
    return item


def renew(subscription: Subscription, offers: Sequence[Offer], new_id: NewId) -> Subscription:
    """The subscription with its next term, in which it has what it had, at the prices of offers."""
    renewal = subscription.renewal
    at = renewal.term_end
    assert at is not None
    options = Options(when=When.AT_TIME, at=at)
    renewed = subscription
    for offer in offers:
        held = _held(subscription, offer, at)
        renewed = (
            set_add_on(renewed, offer, held.quantity, at, options, new_id)
            if offer.is_add_on
            else change_plan(renewed, offer, held.seats, at, options, new_id)
        )
    number = renewal.number + 1
    following = replace(renewal, number=number, term_end=term_boundary(subscription, number + 1))
    return replace(renewed, renewal=following)


def _held(subscription: Subscription, offer: Offer, at: datetime) -> Term:
    return next(
        term
        for term in subscription.terms
        if term.holds(at)
        and term.is_add_on is offer.is_add_on
        and (not offer.is_add_on or term.plan_code == offer.plan_code)
    )


def _due_again(subscription: Subscription, now: datetime) -> Subscription:
    due = subscription.next_due(max(now, subscription.start_time))
    present = subscription.next_bill_time
    if now < subscription.start_time:
        due = subscription.start_time
    if present is not None and (due is None or present < due):
        due = present
    return replace(subscription, next_bill_time=due)


def terms_of(renewal: Renewal) -> Renewal:
    """A renewal that can be kept. Raises InvalidValue where its parts do not go together."""
    if renewal.every is None and renewal != Renewal():
        raise InvalidValue("renewal.term", "is needed")
    if (renewal.mode is RenewalMode.AUTO_UNTIL) != (renewal.until is not None):
        raise InvalidValue("renewal.until_time", "goes with AUTO_UNTIL")
    return renewal
