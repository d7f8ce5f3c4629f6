"""Subscriptions: one customer's use of one plan version, and the grid its periods are cut on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import assert_never
from uuid import UUID
from zoneinfo import ZoneInfo

from invoicing.catalog.domain import PlanPrice, PriceKind
from kernel.errors import Kind, Refusal
from kernel.period import MONTHS_OF_YEAR, Every, Period, Unit, parse_zone, period_at, unit_floor
from rating.breakdown import rate
from rating.components import Breakdown
from rating.exact import exact
from rating.price import LevelModel, Seat
from rating.state import State


class SubscriptionEnded(Refusal):
    """The subscription is over."""

    reason = "SUBSCRIPTION_ENDED"
    kind = Kind.PRECONDITION

    def __init__(self, subscription_id: UUID) -> None:
        super().__init__(f"subscription {subscription_id} is over", subscription_id=subscription_id)


class CurrencyNotPriced(Refusal):
    """A price is in money that the customer's invoices are not in; nothing is converted."""

    reason = "CURRENCY_NOT_PRICED"
    kind = Kind.PRECONDITION

    def __init__(self, code: str, asset: str, currency: str) -> None:
        super().__init__(
            f"price {code!r} is in {asset}, the customer is billed in {currency}",
            asset=asset,
            currency=currency,
        )


class AnchorMode(Enum):
    """From where periods are counted (SUB-2)."""

    ANNIVERSARY = "ANNIVERSARY"
    CALENDAR = "CALENDAR"


class SubscriptionState(Enum):
    """What a subscription is at an instant."""

    SCHEDULED = "SCHEDULED"
    ACTIVE = "ACTIVE"
    ENDED = "ENDED"


@dataclass(frozen=True)
class Item:
    """One price of a subscription, with the quantity of a seat price."""

    subscription_item_id: UUID
    price: PlanPrice
    quantity: Decimal = Decimal(1)


@dataclass(frozen=True)
class Subscription:
    """A customer's plan version, pinned for ever. The grid is the anchor, interval and zone."""

    subscription_id: UUID
    customer_id: str
    plan_code: str
    plan_version: int
    items: tuple[Item, ...]
    start_time: datetime
    end_time: datetime | None
    anchor_time: datetime
    every: Every
    time_zone: str
    create_time: datetime
    bill_from_time: datetime
    next_bill_time: datetime | None
    revision: int = 1

    @property
    def zone(self) -> ZoneInfo:
        return parse_zone(self.time_zone)

    def state(self, now: datetime) -> SubscriptionState:
        if self.end_time is not None and self.end_time <= now:
            return SubscriptionState.ENDED
        return SubscriptionState.ACTIVE if self.start_time <= now else SubscriptionState.SCHEDULED

    def full_period(self, instant: datetime) -> Period:
        """The anchored period that contains an instant, whether served in full or not (SUB-4)."""
        return period_at(self.anchor_time, self.every, instant, self.zone)

    def served(self, full: Period) -> Period | None:
        """The part of an anchored period for which the subscription lasts, if any."""
        start = max(full.start, self.start_time)
        end = full.end if self.end_time is None else min(full.end, self.end_time)
        return Period(start, end) if start < end else None

    def full_periods(self, since: datetime, until: datetime) -> Iterator[Period]:
        """Anchored periods from the one that contains `since` on, while they start by `until`."""
        full = self.full_period(max(since, self.start_time))
        while full.start <= until and self.served(full) is not None:
            yield full
            full = self.full_period(full.end)


def find_anchor(start: datetime, every: Every, mode: AnchorMode, zone: ZoneInfo) -> datetime:
    """Where periods are counted from: the start itself, or the first of its unit before it."""
    match mode:
        case AnchorMode.ANNIVERSARY:
            return start
        case AnchorMode.CALENDAR:
            return unit_floor(start, every, zone)
        case _:
            assert_never(mode)


def cancel(subscription: Subscription, now: datetime, *, immediately: bool) -> Subscription:
    """The subscription with its end (SUB-10): at once, or at the end of the running period.

    One that has not started ends at its start and was never there. Raises SubscriptionEnded.
    """
    if subscription.state(now) is SubscriptionState.ENDED:
        raise SubscriptionEnded(subscription.subscription_id)
    if now <= subscription.start_time:
        end = subscription.start_time
    elif immediately:
        end = now
    else:
        end = subscription.full_period(now).end
        if subscription.end_time is not None:
            end = min(end, subscription.end_time)
    if end == subscription.end_time:
        return subscription
    next_bill = subscription.next_bill_time
    return replace(
        subscription,
        end_time=end,
        revision=subscription.revision + 1,
        # What was billed for time beyond the new end falls due to be given back at that end.
        next_bill_time=end if next_bill is None else min(next_bill, end),
    )


def billed(subscription: Subscription, as_of: datetime) -> Subscription:
    """The subscription once everything that was due by `as_of` is on an invoice."""
    if subscription.end_time is not None and as_of >= subscription.end_time:
        return replace(
            subscription,
            bill_from_time=max(subscription.bill_from_time, subscription.end_time),
            next_bill_time=None,
        )
    if as_of < subscription.start_time:
        return subscription
    full = subscription.full_period(as_of)
    served = subscription.served(full)
    assert served is not None
    earlier = subscription.next_bill_time
    return replace(
        subscription,
        bill_from_time=max(subscription.bill_from_time, full.start),
        # A run for an earlier instant than the last one moves nothing back.
        next_bill_time=earlier if earlier is not None and earlier > as_of else served.end,
    )


def outdated(subscription: Subscription) -> Subscription:
    """The subscription unchanged, for which nothing that was computed before holds any more."""
    return replace(subscription, revision=subscription.revision + 1)


def fee(item: Item, share: Fraction) -> Breakdown:
    """The exact cost of a fixed or seat price for a share of its full period (SUB-13)."""
    price = item.price.pricing
    if item.price.kind is PriceKind.SEAT and not isinstance(price.model, Seat):
        assert isinstance(price.model, LevelModel)
        price = replace(price, model=Seat(price.model))
    quantity = exact(item.quantity) if item.price.kind is PriceKind.SEAT else 1
    return rate(price, State(quantity=quantity, event_count=1, share=exact(share)))


def months_of(every: Every) -> Fraction:
    """Length of an interval in months, as recurring revenue counts them."""
    match every.unit:
        case Unit.DAY:
            return Fraction(every.count * MONTHS_OF_YEAR, 365)
        case Unit.WEEK:
            return Fraction(every.count * MONTHS_OF_YEAR, 52)
        case Unit.MONTH:
            return Fraction(every.count)
        case Unit.YEAR:
            return Fraction(every.count * MONTHS_OF_YEAR)
        case _:
            assert_never(every.unit)
