"""Pauses (SUB-9): what a subscription has stops at an instant and goes on from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from invoicing.catalog.domain import Timing
from invoicing.subscriptions.domain.change import NewId
from invoicing.subscriptions.domain.subscription import (
    Cause,
    Item,
    PausedUsage,
    Pausing,
    Subscription,
    Term,
    Unused,
)
from kernel.errors import InvalidValue, Kind, Refusal


class SubscriptionNotPaused(Refusal):
    """Only what is paused is resumed."""

    reason = "SUBSCRIPTION_NOT_PAUSED"
    kind = Kind.PRECONDITION

    def __init__(self, subscription_id: UUID) -> None:
        super().__init__(
            f"subscription {subscription_id} is not paused", subscription_id=subscription_id
        )


def pause(
    subscription: Subscription,
    at: datetime,
    resume_time: datetime | None,
    pausing: Pausing,
    new_id: NewId,
) -> Subscription:
    """The subscription stopped at an instant, and going on at another where that is known."""
    if resume_time is not None and resume_time <= at:
        raise InvalidValue("resume_time", f"is not after the pause at {at.isoformat()}")
    items: list[Item] = []
    for item in subscription.items:
        start = subscription.starts(item)
        over = item.end is not None and (item.end <= at or item.end == start)
        keeps = pausing.usage is PausedUsage.BILL if item.is_usage else pausing.keeps_billing
        if over or keeps:
            items.append(item)
            continue
        extends = pausing.extends_period and not item.is_usage and start < at
        if extends and item.price.timing is Timing.ADVANCE:
            # It is paid for the whole period, of which the rest comes after the pause.
            items.append(stopped(subscription, item, _rest(subscription, item, at), Unused.NONE))
            continue
        ended = stopped(subscription, item, at, Unused.BILLED_SHARE)
        if item.end is not None and not item.is_free:
            # Fees that were to last until the next period are not those it goes on with.
            ended = replace(ended, cause=Cause.CHANGE)
        items.append(ended)
        if item.is_usage and pausing.usage is PausedUsage.FREE:
            items.append(
                replace(
                    item,
                    subscription_item_id=new_id(),
                    start=max(at, start),
                    end=None,
                    is_free=True,
                    cause=Cause.NONE,
                )
            )
    terms = subscription.terms
    if pausing.usage is PausedUsage.REFUSE:
        terms = tuple(
            replace(term, end=max(at, term.start), cause=Cause.PAUSE)
            if term.end is None or term.end > max(at, term.start)
            else term
            for term in terms
        )
    next_bill = subscription.next_bill_time
    paused = replace(
        subscription,
        items=tuple(items),
        terms=terms,
        pause_time=at,
        resume_time=None,
        pausing=pausing,
        next_bill_time=at if next_bill is None else min(next_bill, at),
    )
    return paused if resume_time is None else resume(paused, resume_time, new_id)


def resume(subscription: Subscription, at: datetime, new_id: NewId) -> Subscription:
    """The paused subscription going on from an instant. Raises SubscriptionNotPaused."""
    began = subscription.pause_time
    if began is None or subscription.resume_time is not None or at < began:
        raise SubscriptionNotPaused(subscription.subscription_id)
    extends = subscription.pausing.extends_period
    terms: list[Term] = []
    again: dict[UUID, UUID] = {}
    for term in subscription.terms:
        if term.cause is not Cause.PAUSE:
            terms.append(term)
            continue
        again[term.term_id] = new_id()
        terms.append(replace(term, cause=Cause.CHANGE))
        anchor = term.anchor
        if extends:
            anchor = at + (_full_end(subscription, began) - began)
        terms.append(
            replace(
                term,
                term_id=again[term.term_id],
                start=max(at, term.start),
                end=None,
                anchor=anchor,
                cause=Cause.NONE,
            )
        )
    items: list[Item] = []
    for item in subscription.items:
        start = subscription.starts(item)
        if item.is_free and item.end is None and start >= began:
            items.append(replace(item, end=max(at, start)))  # free while it was paused
            continue
        if item.cause is not Cause.PAUSE:
            items.append(item)
            continue
        items.append(replace(item, cause=Cause.CHANGE))
        resumed = _resumed(subscription, item, began, at, again, new_id)
        items += [] if resumed is None else [resumed]
    next_bill = subscription.next_bill_time
    return replace(
        subscription,
        items=tuple(items),
        terms=tuple(terms),
        resume_time=at,
        next_bill_time=at if next_bill is None else min(next_bill, at),
    )


def _resumed(
    subscription: Subscription,
    item: Item,
    began: datetime,
    at: datetime,
    again: Mapping[UUID, UUID],
    new_id: NewId,
) -> Item | None:
    """The item that goes on in place of one that was stopped; none of what is over meanwhile."""
    trial_end = subscription.trial_end_time
    in_trial = trial_end is not None and at < trial_end
    if item.is_free and not in_trial:
        return None
    start = at
    if trial_end is not None and in_trial and not item.is_free and subscription.starts(item) > at:
        start = trial_end
    anchor = item.anchor
    if subscription.pausing.extends_period and subscription.starts(item) < began:
        rest = _rest(subscription, item, began) - began
        anchor = at + rest
        paid = not item.is_usage and item.price.timing is Timing.ADVANCE
        start = at + rest if paid else at
    return replace(
        item,
        subscription_item_id=new_id(),
        term_id=again.get(item.term_id or UUID(int=0), item.term_id),
        start=start,
        end=trial_end if item.is_free else None,
        anchor=anchor,
        unused=Unused.BILLED_SHARE,
        prompt_start=True,
        prompt_end=False,
        is_whole=False,
        cause=Cause.NONE,
    )


def stopped(subscription: Subscription, item: Item, at: datetime, unused: Unused) -> Item:
    """An item that ends with a pause, to be begun again when that is over."""
    end = max(at, subscription.starts(item))
    return replace(item, end=end, unused=unused, cause=Cause.PAUSE, prompt_end=True)


def _rest(subscription: Subscription, item: Item, at: datetime) -> datetime:
    """The end of the item's period around an instant; the instant itself where one begins."""
    full = subscription.full_period(at, item)
    return at if full.start == at else full.end


def _full_end(subscription: Subscription, at: datetime) -> datetime:
    full = subscription.full_period(at)
    return at if full.start == at else full.end
