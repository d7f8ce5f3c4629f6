"""What falls due: each price of a subscription, once for each of its service periods (INV-1)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from fractions import Fraction
from uuid import UUID

from invoicing.catalog.domain import PriceKind, Settlement, Timing
from invoicing.subscriptions.domain.subscription import Item, Subscription, Unused
from kernel.period import Period
from rating.price import Graduated, Package, Percentage, Unit

# How long after its period usage may still come: what metering accepts, and room for its charging.
LATE = timedelta(days=36)


# Models whose cost never falls as usage grows; others wait for the close of their period.
RISING = (Unit, Package, Graduated, Percentage)


class SourceKind(Enum):
    """What a service period of an item was billed for."""

    CHARGE = "CHARGE"
    DEDUCTION = "DEDUCTION"
    ADJUSTMENT = "ADJUSTMENT"
    PROGRESS = "PROGRESS"


@dataclass(frozen=True, slots=True)
class SourceKey:
    """The identity of a charge: storage holds each at most once."""

    subscription_item_id: UUID
    kind: SourceKind
    service_start: datetime


@dataclass(frozen=True, slots=True)
class BilledSource:
    """A charge that is on an invoice already, or that needed none."""

    key: SourceKey
    service_end: datetime
    amount: int  # minor units that were asked for it
    ordinal: int = 1  # above 1: on what takes the place of a void document
    gross: int | None = None  # before coupons; None where it is the amount
    number: str = ""  # of the document that asked for it
    is_void: bool = False  # what asked for it was cancelled, and nothing took its place


@dataclass(frozen=True, slots=True)
class Late:
    """A usage charge that is billed already: what was asked for it, before coupons, and where."""

    gross: int
    number: str  # empty where the period was billed without a document
    ordinal: int  # of the adjustment that its difference would be


@dataclass(frozen=True, slots=True)
class Progress:
    """Usage of a running period: what was asked for it so far, and the ordinal of the next time."""

    asked: int
    ordinal: int


@dataclass(frozen=True)
class Charge:
    """One price for one service period. `full` is the anchored period around it (SUB-4)."""

    subscription: Subscription
    item: Item
    full: Period
    service: Period
    # With a deduction: what was billed for the service period that is cut short, and which it was.
    billed: BilledSource | None = None
    late: Late | None = None
    progress: Progress | None = None

    @property
    def key(self) -> SourceKey:
        kind = SourceKind.CHARGE if self.billed is None else SourceKind.DEDUCTION
        if self.late is not None:
            kind = SourceKind.ADJUSTMENT
        if self.progress is not None:
            kind = SourceKind.PROGRESS
        return SourceKey(self.item.subscription_item_id, kind, self.service.start)

    @property
    def share(self) -> Fraction:
        return self.subscription.share(self.service, self.item)

    @property
    def plan_code(self) -> str:
        """Code of the plan or add-on that the price is of."""
        return self.item.plan_code or self.subscription.plan_code

    @property
    def is_usage(self) -> bool:
        return self.item.price.kind is PriceKind.USAGE

    @property
    def in_advance(self) -> bool:
        return self.item.price.timing is Timing.ADVANCE

    @property
    def supply_time(self) -> datetime:
        """The last instant of what was served, or the first of what will be."""
        if self.in_advance:
            return self.service.start
        return self.service.end - timedelta(microseconds=1)


def due_charges(
    subscriptions: Sequence[Subscription], billed: Collection[BilledSource], as_of: datetime
) -> list[Charge]:
    """Charges due by an instant and not billed yet, by subscription, period and item.

    Periods that end come before the one that starts, so that a document reads in order of time.
    """
    taken = {source.key for source in billed}
    found: list[Charge] = []
    for subscription in subscriptions:
        charges = [*_charges(subscription, as_of), *_deductions(subscription, billed, as_of)]
        found += [charge for charge in charges if charge.key not in taken]
    return sorted(found, key=_place)


def _place(charge: Charge) -> tuple[bool, datetime, bool]:
    """In order of time, and what is given back before what takes its place."""
    return charge.in_advance, charge.full.start, charge.billed is None


def _charges(subscription: Subscription, as_of: datetime) -> Iterator[Charge]:
    for item in subscription.items:
        ends = subscription.ends(item)
        if item.is_free or (ends is not None and ends <= subscription.bill_from_time):
            continue  # what ended before is billed, and its bills may not even be among those read
        for full in subscription.full_periods(subscription.bill_from_time, as_of, item):
            service = subscription.served(full, item)
            assert service is not None
            charge = Charge(subscription, item, full, service)
            due = service.start if charge.in_advance else service.end
            if due <= as_of and not _is_waived(subscription, charge):
                yield charge


def _is_waived(subscription: Subscription, charge: Charge) -> bool:
    """What a cancellation leaves unasked for (SUB-10)."""
    ending = subscription.ending
    if subscription.end_time is None or charge.service.end != subscription.end_time:
        return False
    if charge.is_usage:
        return ending.waives_usage or ending.skips_invoice
    return ending.skips_invoice and not charge.in_advance


def _deductions(
    subscription: Subscription, billed: Collection[BilledSource], as_of: datetime
) -> Iterator[Charge]:
    """What was billed for time after the end is given back at the end (SUB-10, `DEDUCT`)."""
    items = {item.subscription_item_id: item for item in subscription.items}
    for source in billed:
        item = items.get(source.key.subscription_item_id)
        if item is None or source.key.kind is not SourceKind.CHARGE or source.is_void:
            continue
        end = subscription.ends(item)
        if end is None or end > as_of or source.service_end <= end:
            continue
        if subscription.gives_back(item) is Unused.NONE:
            continue
        unused = Period(max(end, source.key.service_start), source.service_end)
        full = subscription.full_period(source.key.service_start, item)
        yield Charge(subscription, item, full, unused, source)


def late_charges(
    subscriptions: Sequence[Subscription], billed: Collection[BilledSource], now: datetime
) -> list[Charge]:
    """Usage billed of periods for which events may still have come (MTR-9, `NEXT_INVOICE`)."""
    items = {item.subscription_item_id: (one, item) for one in subscriptions for item in one.items}
    found = []
    for source in billed:
        here = items.get(source.key.subscription_item_id)
        too_old = source.service_end <= now - LATE
        if here is None or source.key.kind is not SourceKind.CHARGE or source.is_void or too_old:
            continue
        subscription, item = here
        full = subscription.full_period(source.key.service_start, item)
        service = Period(source.key.service_start, source.service_end)
        if item.price.kind is not PriceKind.USAGE:
            continue
        after = [
            one
            for one in billed
            if one.key.kind is SourceKind.ADJUSTMENT
            and one.key.subscription_item_id == source.key.subscription_item_id
            and one.key.service_start == source.key.service_start
        ]
        asked = sum(_gross(one) for one in (source, *after) if not one.is_void)
        ordinal = 1 + max((one.ordinal for one in after), default=0)
        late = Late(asked, source.number, ordinal)
        found.append(Charge(subscription, item, full, service, late=late))
    return sorted(found, key=lambda charge: charge.full.start)


def progress_charges(
    subscriptions: Sequence[Subscription], billed: Collection[BilledSource], as_of: datetime
) -> list[Charge]:
    """Usage of the periods that run at an instant, of prices whose cost never falls (INV-8)."""
    taken = {source.key for source in billed}
    found = []
    for subscription in subscriptions:
        for item in subscription.items:
            if item.is_free or subscription.starts(item) > as_of:
                continue
            full = subscription.full_period(as_of, item)
            service = subscription.served(full, item)
            if service is None or service.end <= as_of:
                continue
            price = item.price
            asked = asked_so_far(item, full.start, billed)
            charge = Charge(subscription, item, full, service, progress=asked)
            closed = SourceKey(item.subscription_item_id, SourceKind.CHARGE, service.start)
            if (
                charge.is_usage
                and price.settlement is Settlement.INVOICE
                and isinstance(price.pricing.model, RISING)
                and closed not in taken
            ):
                found.append(charge)
    return found


def asked_so_far(item: Item, start: datetime, billed: Collection[BilledSource]) -> Progress:
    """What progressive documents asked for an item's period; what is void they did not."""
    own = [
        one
        for one in billed
        if one.key.kind is SourceKind.PROGRESS
        and one.key.subscription_item_id == item.subscription_item_id
        and one.service_end > start
        and one.key.service_start >= start
    ]
    asked = sum(_gross(one) for one in own if not one.is_void)
    return Progress(asked, 1 + max((one.ordinal for one in own), default=0))


def _gross(source: BilledSource) -> int:
    return source.amount if source.gross is None else source.gross


def charges_of(
    subscriptions: Sequence[Subscription],
    sources: Sequence[BilledSource],
    billed: Collection[BilledSource],
) -> list[Charge]:
    """The charges that a document billed, to be computed again for the one in its place.

    `billed` is what other documents asked for. A deduction whose bill is not among it is gone.
    """
    items = {item.subscription_item_id: (one, item) for one in subscriptions for item in one.items}
    found: list[Charge] = []
    for source in sources:
        subscription, item = items[source.key.subscription_item_id]
        start = source.key.service_start
        full = subscription.full_period(start, item)
        if source.key.kind is SourceKind.CHARGE:
            # The end may have come nearer since: what is served now is what is due now.
            service = subscription.served(full, item)
            if service is not None:
                found.append(Charge(subscription, item, full, service))
            continue
        if source.key.kind in (SourceKind.ADJUSTMENT, SourceKind.PROGRESS):
            continue  # once void, the next document asks for the difference
        of = [one for one in billed if _contains(one, source)]
        if of:
            unused = Period(start, source.service_end)
            found.append(Charge(subscription, item, full, unused, of[-1]))
    return sorted(found, key=lambda charge: (charge.in_advance, charge.full.start))


def _contains(bill: BilledSource, deduction: BilledSource) -> bool:
    same = bill.key.subscription_item_id == deduction.key.subscription_item_id
    charged = bill.key.kind is SourceKind.CHARGE and not bill.is_void
    return (
        same
        and charged
        and bill.key.service_start <= deduction.key.service_start
        and deduction.service_end <= bill.service_end
    )


def next_closing(subscriptions: Sequence[Subscription], now: datetime) -> datetime:
    """When the next invoice falls due: the first end of a running or coming period."""
    ends = []
    for subscription in subscriptions:
        for item in subscription.items:
            first = max(now, subscription.starts(item))
            served = subscription.served(subscription.full_period(first, item), item)
            if served is not None and served.end > now:
                ends.append(served.end)
    return min(ends, default=now)
