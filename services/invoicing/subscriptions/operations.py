"""What can be done with subscriptions. Each takes the transaction it is one with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from uuid import UUID

from chassis.database import Connection
from invoicing.catalog.domain import (
    PlanKind,
    PlanVersion,
    PriceKind,
    Trial,
)
from invoicing.catalog.operations import get_published
from invoicing.customers.domain import Customer
from invoicing.customers.operations import change_rate_card, lock_customer
from invoicing.subscriptions import store
from invoicing.subscriptions.domain.change import (
    Offer,
    change_plan,
    change_seats,
    set_add_on,
)
from invoicing.subscriptions.domain.lifecycle import (
    CancelWhen,
    Phase,
    begin,
    cancel,
    take_back,
)
from invoicing.subscriptions.domain.options import (
    AddOnRefused,
    ChangeTimeOutOfRange,
    Options,
    TrialRefused,
    When,
    effective_time,
)
from invoicing.subscriptions.domain.pauses import pause, resume
from invoicing.subscriptions.domain.proration import Basis
from invoicing.subscriptions.domain.renewal import LOCKED_FOREVER, Renewal
from invoicing.subscriptions.domain.subscription import (
    AnchorMode,
    CurrencyNotPriced,
    Ending,
    Pausing,
    Subscription,
    SubscriptionState,
    fee,
    months_of,
)
from kernel.currency import currency, is_currency
from kernel.errors import InvalidValue, NotFound
from kernel.ids import new_id
from kernel.money import Amount, round_to_atoms

BACKDATED_DAYS_MAX = 3_660  # ten years: every period since then is billed at once


@dataclass(frozen=True, slots=True)
class AddOnWish:
    """So many of an add-on."""

    plan_code: str
    plan_version: int
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class PhaseWish:
    """Another plan or other seats from an instant on; an empty plan is the one before it."""

    start_time: datetime
    plan_code: str
    plan_version: int
    quantities: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks a subscription to be."""

    customer_id: str
    plan_code: str
    plan_version: int
    quantities: Mapping[str, Decimal]  # by price code, where it differs from 1
    start_time: datetime | None
    anchor_mode: AnchorMode
    currency: str = ""
    basis: Basis = Basis.ACTUAL_SECONDS
    trial: Trial | None = None
    without_trial: bool = False
    phases: tuple[PhaseWish, ...] = ()
    renewal: Renewal = LOCKED_FOREVER
    add_ons: tuple[AddOnWish, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """What is to change of a subscription; what is empty stays."""

    plan_code: str = ""
    plan_version: int = 0
    quantities: Mapping[str, Decimal] | None = None
    add_ons: tuple[AddOnWish, ...] = ()


async def find_trial(tx: Connection, tenant_id: UUID, wish: Wish) -> Trial | None:
    """The trial that a wish would begin with: what it says, or else what its plan does.

    Raises NotFound, PlanNotPublished, TrialRefused.
    """
    if wish.without_trial:
        return None
    plan = await get_published(tx, tenant_id, wish.plan_code, wish.plan_version)
    trial = wish.trial or plan.trial
    if trial is None or not trial.is_once:
        return trial
    if await store.had_trial(tx, tenant_id, wish.customer_id, plan.code):
        if wish.trial is not None:
            raise TrialRefused(wish.customer_id, f"it had a trial of {plan.code!r} before")
        return None
    return trial


async def create_subscription(
    tx: Connection, tenant_id: UUID, wish: Wish, now: datetime
) -> Subscription:
    """Raises NotFound, PlanNotPublished, CurrencyNotPriced, AddOnRefused, InvalidValue."""
    customer = await lock_customer(tx, tenant_id, wish.customer_id)
    plan = await get_published(tx, tenant_id, wish.plan_code, wish.plan_version)
    if plan.kind is PlanKind.ADD_ON:
        raise AddOnRefused(plan.code, "it is an add-on, which goes with a subscription")
    if wish.currency not in ("", customer.currency):
        why = f"invoices of {customer.customer_id!r} are in {customer.currency}"
        raise InvalidValue("currency", why)
    start = wish.start_time or now
    if start < now - timedelta(days=BACKDATED_DAYS_MAX):
        raise InvalidValue("start_time", f"is more than {BACKDATED_DAYS_MAX} days ago")
    fresh = partial(new_id, now)
    trial = await find_trial(tx, tenant_id, wish)
    empty = Subscription(
        subscription_id=new_id(now),
        customer_id=customer.customer_id,
        plan_code=plan.code,
        plan_version=plan.version,
        items=(),
        start_time=start,
        end_time=None,
        anchor_time=start,
        every=plan.every,
        time_zone=customer.time_zone,
        create_time=now,
        bill_from_time=start,
        next_bill_time=start,
        currency=customer.currency,
        basis=wish.basis,
        renewal=wish.renewal,
    )
    phases = await _phases(tx, tenant_id, wish, plan, customer)
    begun = begin(
        empty,
        offer_of(plan, customer.currency),
        check_seats(plan, wish.quantities),
        wish.anchor_mode,
        trial,
        phases,
        fresh,
    )
    for wanted in wish.add_ons:
        options = Options(when=When.AT_TIME, at=start)
        begun = await _with_add_on(tx, tenant_id, begun, wanted, start, options, fresh)
    begun = replace(begun, next_bill_time=start)
    await store.insert_subscription(tx, tenant_id, begun)
    await store.insert_change(tx, tenant_id, begun, "CREATE", start, now)
    await change_rate_card(tx, tenant_id, customer.customer_id)
    return begun


async def _phases(
    tx: Connection, tenant_id: UUID, wish: Wish, plan: PlanVersion, customer: Customer
) -> list[Phase]:
    phases = []
    for index, one in enumerate(wish.phases):
        if one.plan_code:
            plan = await get_published(tx, tenant_id, one.plan_code, one.plan_version)
            if plan.kind is PlanKind.ADD_ON:
                raise AddOnRefused(plan.code, "it is an add-on, which is no phase")
        seats = check_seats(plan, one.quantities, f"phases[{index}].items")
        phases.append(Phase(one.start_time, offer_of(plan, customer.currency), seats))
    return phases


def offer_of(plan: PlanVersion, money: str) -> Offer:
    """A plan in a currency. Raises CurrencyNotPriced; nothing is converted."""
    pricings = {}
    prices = []
    for price in plan.prices:
        document = price.document_in(money)
        if document is None:
            raise CurrencyNotPriced(price.code, price.asset, money)
        if document is not price.document:
            pricings[price.price_id] = document
        prices.append(price.priced(document))
    return Offer(
        plan.code,
        plan.version,
        plan.kind is PlanKind.ADD_ON,
        plan.every,
        tuple(prices),
        pricings,
    )


def check_seats(
    plan: PlanVersion, quantities: Mapping[str, Decimal], field: str = "items"
) -> dict[str, Decimal]:
    """Quantities of all of a plan's seat prices, 1 where none is stated. Raises InvalidValue."""
    by_code = {price.code: price for price in plan.prices}
    for index, code in enumerate(quantities):
        if code not in by_code:
            raise InvalidValue(f"{field}[{index}].price_code", f"the plan has no price {code!r}")
        if by_code[code].kind is not PriceKind.SEAT:
            raise InvalidValue(f"{field}[{index}].quantity", "only a SEAT price has a quantity")
    return {
        code: quantities.get(code, Decimal(1))
        for code, price in by_code.items()
        if price.kind is PriceKind.SEAT
    }


async def changed(
    tx: Connection,
    tenant_id: UUID,
    subscription: Subscription,
    target: Target,
    options: Options,
    now: datetime,
) -> tuple[Subscription, datetime]:
    """A subscription as a change would make it, and from when. Writes nothing.

    Raises SubscriptionEnded, SubscriptionPaused, ChangeTimeOutOfRange, ChangePending, NotFound,
    PlanNotPublished, CurrencyNotPriced, AddOnRefused, InvalidValue.
    """
    if not options.is_when_stated and _only_lowers(subscription, target, now):
        options = replace(options, when=When.PERIOD_END)
    at = effective_time(subscription, options, now)
    fresh = partial(new_id, now)
    wanted = subscription
    if target.plan_code:
        plan = await get_published(tx, tenant_id, target.plan_code, target.plan_version)
        if plan.kind is PlanKind.ADD_ON:
            raise AddOnRefused(plan.code, "it is an add-on, which is no plan to change to")
        seats = check_seats(plan, target.quantities or {}, "target.items")
        offer = offer_of(plan, subscription.currency)
        wanted = change_plan(wanted, offer, seats, at, options, fresh)
    elif target.quantities:
        wanted = change_seats(wanted, target.quantities, at, options, fresh)
    for add_on in target.add_ons:
        wanted = await _with_add_on(tx, tenant_id, wanted, add_on, at, options, fresh)
    if wanted is subscription:
        raise InvalidValue("target", "names nothing to change")
    return replace(wanted, revision=subscription.revision + 1), at


def _only_lowers(subscription: Subscription, target: Target, now: datetime) -> bool:
    """Seats that are given up are paid for until the period ends, unless it is said otherwise."""
    if target.plan_code or target.add_ons or not target.quantities:
        return False
    present = subscription.latest_term(now).seats
    return all(
        quantity < present.get(code, Decimal(0)) for code, quantity in target.quantities.items()
    )


async def _with_add_on(
    tx: Connection,
    tenant_id: UUID,
    subscription: Subscription,
    wanted: AddOnWish,
    at: datetime,
    options: Options,
    fresh: Callable[[], UUID],
) -> Subscription:
    plan = await get_published(tx, tenant_id, wanted.plan_code, wanted.plan_version)
    if plan.kind is not PlanKind.ADD_ON:
        raise AddOnRefused(plan.code, "it is a plan, not an add-on")
    if plan.quantity_max is not None and wanted.quantity > plan.quantity_max:
        raise AddOnRefused(plan.code, f"there are at most {plan.quantity_max} of it")
    base = subscription.latest_term(at)
    if plan.compatible_plans and base.plan_code not in plan.compatible_plans:
        raise AddOnRefused(plan.code, f"it does not go with {base.plan_code!r}")
    held = any(term.plan_code == plan.code for term in subscription.terms if term.is_add_on)
    if not wanted.quantity and not held:
        raise AddOnRefused(plan.code, "the subscription has none of it")
    offer = offer_of(plan, subscription.currency)
    return set_add_on(subscription, offer, wanted.quantity, at, options, fresh)


async def get_subscription(
    tx: Connection, tenant_id: UUID, subscription_id: UUID, *, lock: bool = False
) -> Subscription:
    """Raises NotFound. Where it is locked its customer is too, which everything locks first."""
    found = await store.find_subscription(tx, tenant_id, subscription_id)
    if found is None:
        raise NotFound("subscription", subscription_id)
    if not lock:
        return found
    await lock_customer(tx, tenant_id, found.customer_id)
    locked = await store.lock_subscription(tx, tenant_id, subscription_id)
    assert locked is not None
    return locked


async def change_subscription(
    tx: Connection,
    tenant_id: UUID,
    subscription_id: UUID,
    target: Target,
    options: Options,
    now: datetime,
) -> tuple[Subscription, datetime]:
    """Make a change; raises what `changed` does."""
    before = await get_subscription(tx, tenant_id, subscription_id, lock=True)
    after, at = await changed(tx, tenant_id, before, target, options, now)
    await save(tx, tenant_id, before, after, "CHANGE", at, now, _told(target, options))
    return after, at


def _told(target: Target, options: Options) -> str:
    parts = [f"plan {target.plan_code}"] if target.plan_code else []
    parts += [f"{code} × {quantity}" for code, quantity in (target.quantities or {}).items()]
    parts += [f"add-on {one.plan_code} × {one.quantity}" for one in target.add_ons]
    return f"{', '.join(parts)}; {options.proration.value}"


async def save(
    tx: Connection,
    tenant_id: UUID,
    before: Subscription,
    after: Subscription,
    kind: str,
    at: datetime,
    now: datetime,
    note: str = "",
) -> None:
    """Write a change down, with its trace and its message."""
    await store.save_changes(tx, tenant_id, before, after)
    await store.insert_change(tx, tenant_id, after, kind, at, now, note)
    await change_rate_card(tx, tenant_id, after.customer_id)


async def cancel_subscription(
    tx: Connection,
    tenant_id: UUID,
    subscription_id: UUID,
    when: CancelWhen,
    at: datetime | None,
    ending: Ending,
    now: datetime,
) -> Subscription:
    """Raises NotFound, SubscriptionEnded, ChangeTimeOutOfRange."""
    before = await get_subscription(tx, tenant_id, subscription_id, lock=True)
    ended = cancel(before, when, at, ending, now)
    if ended is before:
        return before
    ended = replace(ended, revision=before.revision + 1)
    assert ended.end_time is not None
    await save(tx, tenant_id, before, ended, "CANCEL", ended.end_time, now)
    return ended


async def reactivate_subscription(
    tx: Connection, tenant_id: UUID, subscription_id: UUID, now: datetime
) -> Subscription:
    """Take back what is scheduled, or begin anew what is over.

    Raises NotFound, NothingScheduled, and where it is over what `create_subscription` does.
    """
    before = await get_subscription(tx, tenant_id, subscription_id, lock=True)
    if before.state(now) is SubscriptionState.ENDED:
        last = before.latest_term(before.end_time or now)
        wish = Wish(
            customer_id=before.customer_id,
            plan_code=last.plan_code,
            plan_version=last.plan_version,
            quantities=last.seats,
            start_time=None,
            anchor_mode=AnchorMode.ANNIVERSARY,
            basis=before.basis,
            without_trial=True,
        )
        return await create_subscription(tx, tenant_id, wish, now)
    after = replace(take_back(before, now), revision=before.revision + 1)
    await save(tx, tenant_id, before, after, "TAKE_BACK", now, now)
    return after


async def pause_subscription(
    tx: Connection,
    tenant_id: UUID,
    subscription_id: UUID,
    options: Options,
    resume_time: datetime | None,
    pausing: Pausing,
    now: datetime,
) -> Subscription:
    """Raises what `effective_time` does, and InvalidValue."""
    before = await get_subscription(tx, tenant_id, subscription_id, lock=True)
    at = effective_time(before, options, now)
    paused = pause(before, at, resume_time, pausing, partial(new_id, now))
    paused = replace(paused, revision=before.revision + 1)
    await save(tx, tenant_id, before, paused, "PAUSE", at, now)
    return paused


async def resume_subscription(
    tx: Connection, tenant_id: UUID, subscription_id: UUID, at: datetime | None, now: datetime
) -> Subscription:
    """Raises NotFound, SubscriptionNotPaused, ChangeTimeOutOfRange."""
    before = await get_subscription(tx, tenant_id, subscription_id, lock=True)
    instant = at or now
    if instant < now:
        raise ChangeTimeOutOfRange(instant, now, before.end_time)
    resumed = resume(before, instant, partial(new_id, now))
    resumed = replace(resumed, revision=before.revision + 1)
    await save(tx, tenant_id, before, resumed, "RESUME", instant, now)
    return resumed


async def preview_changed(
    tx: Connection,
    tenant_id: UUID,
    subscription_id: UUID,
    target: Target,
    options: Options,
    now: datetime,
) -> tuple[Subscription, Subscription, datetime]:
    """A subscription before and after a change that is not made, and from when it would be."""
    before = await get_subscription(tx, tenant_id, subscription_id)
    after, at = await changed(tx, tenant_id, before, target, options, now)
    return before, after, at


async def recurring_revenue(tx: Connection, tenant_id: UUID, instant: datetime) -> list[Amount]:
    """Fixed and seat prices in force ÷ months of their interval, one amount per currency.

    Each currency's sum is exact and rounded once, to its minor unit.
    """
    totals: dict[str, Fraction] = {}
    for subscription in await store.list_active(tx, tenant_id, instant):
        for item in subscription.items:
            ends = subscription.ends(item)
            holds = subscription.starts(item) <= instant and (ends is None or instant < ends)
            if item.is_usage or not holds:
                continue
            monthly = fee(item, Fraction(1)).cost / months_of(item.every or subscription.every)
            totals[item.price.asset] = totals.get(item.price.asset, Fraction(0)) + monthly
    return _rounded(totals)


def _rounded(totals: Mapping[str, Fraction]) -> list[Amount]:
    amounts: list[Amount] = []
    for code, total in sorted(totals.items()):
        assert is_currency(code)
        asset = currency(code)
        amounts.append(Amount(asset, round_to_atoms(total, asset.scale)))
    return amounts
