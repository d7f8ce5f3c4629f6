"""A customer's subscription: terms and items over time, and the grids its periods are cut on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, assert_never
from uuid import UUID
from zoneinfo import ZoneInfo

from invoicing.catalog.domain import PlanPrice, PriceKind
from invoicing.subscriptions.domain.proration import Basis, share_of, share_of_bill
from invoicing.subscriptions.domain.renewal import LOCKED_FOREVER, Renewal
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
    TRIALING = "TRIALING"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ENDED = "ENDED"


class Unused(Enum):
    """What is given back of a fee that was billed for time after its end."""

    BILLED_SHARE = "BILLED_SHARE"
    LIST_SHARE = "LIST_SHARE"
    NONE = "NONE"


class Cause(Enum):
    """Why a term or an item ends before its subscription does."""

    NONE = ""
    CHANGE = "CHANGE"
    PAUSE = "PAUSE"
    TRIAL = "TRIAL"


@dataclass(frozen=True)
class Term:
    """A plan or an add-on that a subscription has from `start` to `end`."""

    term_id: UUID
    plan_code: str
    plan_version: int
    is_add_on: bool
    quantity: Decimal
    seats: Mapping[str, Decimal]
    start: datetime
    end: datetime | None
    anchor: datetime
    every: Every
    cause: Cause = Cause.NONE

    def holds(self, instant: datetime) -> bool:
        return self.start <= instant and (self.end is None or instant < self.end)


@dataclass(frozen=True)
class Item:
    """One price of a subscription for a time, with the quantity of a seat price.

    Times and grid are the subscription's where they are None. `pricing` is a document in place of
    the price's own.
    """

    subscription_item_id: UUID
    price: PlanPrice
    quantity: Decimal = Decimal(1)
    term_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None
    anchor: datetime | None = None
    every: Every | None = None
    pricing: Mapping[str, Any] | None = None
    plan_code: str = ""
    is_free: bool = False  # usage of a trial: counted, never charged
    is_whole: bool = False  # the first stretch costs as much as a full period
    unused: Unused = Unused.BILLED_SHARE
    prompt_start: bool = True  # what falls due at its start is asked for then, not later
    prompt_end: bool = False
    cause: Cause = Cause.NONE

    @property
    def is_usage(self) -> bool:
        return self.price.kind is PriceKind.USAGE


@dataclass(frozen=True)
class Ending:
    """How what is left at a cancellation is settled (SUB-10)."""

    unused: Unused = Unused.BILLED_SHARE
    waives_usage: bool = False
    skips_invoice: bool = False
    bills_last_day: bool = True


class PausedUsage(Enum):
    """What becomes of usage while a subscription is paused (SUB-9)."""

    REFUSE = "REFUSE"
    BILL = "BILL"
    FREE = "FREE"


@dataclass(frozen=True)
class Pausing:
    """How a pause is settled (SUB-9)."""

    keeps_billing: bool = False
    usage: PausedUsage = PausedUsage.REFUSE
    extends_period: bool = False


@dataclass(frozen=True)
class Subscription:
    """A customer's subscription. Plan, anchor and interval are those that it began with; what it
    has at an instant is told by its terms."""

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
    terms: tuple[Term, ...] = ()
    currency: str = ""
    basis: Basis = Basis.ACTUAL_SECONDS
    trial_end_time: datetime | None = None
    pause_time: datetime | None = None
    resume_time: datetime | None = None
    planned_end_time: datetime | None = None
    end_reason: str = ""
    ending: Ending = Ending()
    pausing: Pausing = Pausing()
    renewal: Renewal = LOCKED_FOREVER

    @property
    def zone(self) -> ZoneInfo:
        return parse_zone(self.time_zone)

    def state(self, now: datetime) -> SubscriptionState:
        if self.end_time is not None and self.end_time <= now:
            return SubscriptionState.ENDED
        if now < self.start_time:
            return SubscriptionState.SCHEDULED
        paused = self.pause_time is not None and self.pause_time <= now
        if paused and (self.resume_time is None or now < self.resume_time):
            return SubscriptionState.PAUSED
        if self.trial_end_time is not None and now < self.trial_end_time:
            return SubscriptionState.TRIALING
        return SubscriptionState.ACTIVE

    def term_at(self, instant: datetime) -> Term | None:
        """The plan that holds at an instant; none while that is paused."""
        for term in self.terms:
            if not term.is_add_on and term.holds(instant):
                return term
        return None

    def latest_term(self, instant: datetime) -> Term:
        """The plan at an instant; the last one before it where none holds, else the first."""
        plans = [term for term in self.terms if not term.is_add_on and term.end != term.start]
        begun = [term for term in plans if term.start <= instant]
        found = max(begun, key=lambda term: term.start) if begun else plans[0]
        return self.term_at(instant) or found

    @property
    def add_ons(self) -> frozenset[UUID]:
        """Ids of the terms that are add-ons'."""
        return frozenset(term.term_id for term in self.terms if term.is_add_on)

    def starts(self, item: Item | None) -> datetime:
        own = None if item is None else item.start
        return self.start_time if own is None else own

    def ends(self, item: Item | None) -> datetime | None:
        """When an item ends: its own end, or the subscription's where that comes first."""
        own = None if item is None else item.end
        if own is None or self.end_time is None:
            return self.end_time if own is None else own
        return min(own, self.end_time)

    def full_period(self, instant: datetime, item: Item | None = None) -> Period:
        """The anchored period that contains an instant, whether served in full or not (SUB-4)."""
        if item is not None:
            anchor, every = item.anchor or self.anchor_time, item.every or self.every
        elif self.terms:
            term = self.latest_term(instant)
            anchor, every = term.anchor, term.every
        else:
            anchor, every = self.anchor_time, self.every
        return period_at(anchor, every, instant, self.zone)

    def served(self, full: Period, item: Item | None = None) -> Period | None:
        """The part of an anchored period for which an item lasts, if any."""
        start, ends = max(full.start, self.starts(item)), self.ends(item)
        end = full.end if ends is None else min(full.end, ends)
        return Period(start, end) if start < end else None

    def full_periods(
        self, since: datetime, until: datetime, item: Item | None = None
    ) -> Iterator[Period]:
        """Anchored periods from the one that contains `since` on, while they start by `until`."""
        full = self.full_period(max(since, self.starts(item)), item)
        while full.start <= until and self.served(full, item) is not None:
            yield full
            full = self.full_period(full.end, item)

    def gives_back(self, item: Item) -> Unused:
        """What of an item's fee beyond its end is given back."""
        if self.end_time is not None and self.ends(item) == self.end_time:
            skips = self.ending.skips_invoice
            own_end = item.end is not None and item.end <= self.end_time
            return item.unused if own_end else Unused.NONE if skips else self.ending.unused
        return item.unused

    def share(self, service: Period, item: Item) -> Fraction:
        """What a stretch of service is of the full anchored period around it (SUB-13)."""
        if item.is_whole and service.start == self.starts(item):
            return Fraction(1)
        full = self.full_period(service.start, item)
        return share_of(
            service, full, self.basis, item.every or self.every, self.zone, self._billed_day
        )

    def share_unused(self, unused: Period, whole: Period, item: Item) -> Fraction:
        """What an unused rest is of the stretch that was billed."""
        every = item.every or self.every
        return share_of_bill(unused, whole, self.basis, every, self.zone, self._billed_day)

    @property
    def _billed_day(self) -> datetime | None:
        return self.end_time if self.ending.bills_last_day else None

    def next_due(self, as_of: datetime) -> datetime | None:
        """When something falls due next, once all that was due by an instant is asked for."""
        if self.end_time is not None and self.end_time <= as_of:
            return None
        found = [due for item in self.items or (None,) for due in self._dues(item, as_of)]
        if found and self.end_time is not None:
            found.append(self.end_time)
        if self.renewal.prepare_time is not None:
            found.append(self.renewal.prepare_time)
        return min(found, default=None)

    def _dues(self, item: Item | None, as_of: datetime) -> Iterator[datetime]:
        start, end = self.starts(item), self.ends(item)
        if end is not None and end <= max(as_of, start):
            return
        if as_of < start:
            # What a change makes due waits for the next document, unless it was wanted at once.
            prompt = item is None or item.prompt_start
            yield start if prompt else self.full_period(start, item).end
            return
        yield self.full_period(as_of, item).end
        if item is not None and item.prompt_end and end is not None:
            yield end


def find_anchor(start: datetime, every: Every, mode: AnchorMode, zone: ZoneInfo) -> datetime:
    """Where periods are counted from: the start itself, or the first of its unit before it."""
    match mode:
        case AnchorMode.ANNIVERSARY:
            return start
        case AnchorMode.CALENDAR:
            return unit_floor(start, every, zone)
        case _:
            assert_never(mode)


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
    starts = [
        subscription.full_period(as_of, item).start
        for item in subscription.items or (None,)
        if subscription.starts(item) <= as_of
        and ((end := subscription.ends(item)) is None or as_of < end)
    ]
    earlier = subscription.next_bill_time
    return replace(
        subscription,
        bill_from_time=max(subscription.bill_from_time, min(starts, default=as_of)),
        # A run for an earlier instant than the last one moves nothing back.
        next_bill_time=(
            earlier if earlier is not None and earlier > as_of else subscription.next_due(as_of)
        ),
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
