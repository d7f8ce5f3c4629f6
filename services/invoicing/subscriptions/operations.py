"""What can be done with subscriptions. Each takes the transaction it is one with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from chassis.database import Connection
from invoicing.catalog.domain import PlanVersion, PriceKind
from invoicing.catalog.operations import get_published
from invoicing.customers.domain import Customer
from invoicing.customers.operations import change_rate_card, lock_customer
from invoicing.subscriptions import store
from invoicing.subscriptions.domain import (
    AnchorMode,
    CurrencyNotPriced,
    Item,
    Subscription,
    cancel,
    fee,
    find_anchor,
    months_of,
)
from kernel.currency import currency, is_currency
from kernel.errors import InvalidValue, NotFound
from kernel.ids import new_id
from kernel.money import Amount, round_to_atoms
from kernel.period import parse_zone

BACKDATED_DAYS_MAX = 3_660  # ten years: every period since then is billed at once


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks a subscription to be."""

    customer_id: str
    plan_code: str
    plan_version: int
    quantities: Mapping[str, Decimal]  # by price code, where it differs from 1
    start_time: datetime | None
    anchor_mode: AnchorMode


async def create_subscription(
    tx: Connection, tenant_id: UUID, wish: Wish, now: datetime
) -> Subscription:
    """Raises NotFound, PlanNotPublished, CurrencyNotPriced, InvalidValue."""
    customer = await lock_customer(tx, tenant_id, wish.customer_id)
    plan = await get_published(tx, tenant_id, wish.plan_code, wish.plan_version)
    _check_currency(plan, customer)
    start = wish.start_time or now
    if start < now - timedelta(days=BACKDATED_DAYS_MAX):
        raise InvalidValue("start_time", f"is more than {BACKDATED_DAYS_MAX} days ago")
    subscription = Subscription(
        subscription_id=new_id(now),
        customer_id=customer.customer_id,
        plan_code=plan.code,
        plan_version=plan.version,
        items=_items(plan, wish.quantities, now),
        start_time=start,
        end_time=None,
        anchor_time=find_anchor(
            start, plan.every, wish.anchor_mode, parse_zone(customer.time_zone)
        ),
        every=plan.every,
        time_zone=customer.time_zone,
        create_time=now,
        bill_from_time=start,
        next_bill_time=start,
    )
    await store.insert_subscription(tx, tenant_id, subscription)
    await change_rate_card(tx, tenant_id, customer.customer_id)
    return subscription


def _check_currency(plan: PlanVersion, customer: Customer) -> None:
    for price in plan.prices:
        if is_currency(price.asset) and price.asset != customer.currency:
            raise CurrencyNotPriced(price.code, price.asset, customer.currency)


def _items(plan: PlanVersion, quantities: Mapping[str, Decimal], now: datetime) -> tuple[Item, ...]:
    by_code = {price.code: price for price in plan.prices}
    for index, code in enumerate(quantities):
        if code not in by_code:
            raise InvalidValue(f"items[{index}].price_code", f"the plan has no price {code!r}")
        if by_code[code].kind is not PriceKind.SEAT:
            raise InvalidValue(f"items[{index}].quantity", "only a SEAT price has a quantity")
    return tuple(
        Item(new_id(now), price, quantities.get(price.code, Decimal(1))) for price in plan.prices
    )


async def cancel_subscription(
    tx: Connection,
    tenant_id: UUID,
    subscription_id: UUID,
    now: datetime,
    *,
    immediately: bool,
) -> Subscription:
    """Raises NotFound, SubscriptionEnded."""
    subscription = await store.lock_subscription(tx, tenant_id, subscription_id)
    if subscription is None:
        raise NotFound("subscription", subscription_id)
    ended = cancel(subscription, now, immediately=immediately)
    if ended is not subscription:
        await store.save_terms(tx, tenant_id, ended)
        await change_rate_card(tx, tenant_id, ended.customer_id)
    return ended


async def recurring_revenue(tx: Connection, tenant_id: UUID, instant: datetime) -> list[Amount]:
    """Fixed and seat prices in force ÷ months of their interval, one amount per currency.

    Each currency's sum is exact and rounded once, to its minor unit.
    """
    totals: dict[str, Fraction] = {}
    for subscription in await store.list_active(tx, tenant_id, instant):
        months = months_of(subscription.every)
        for item in subscription.items:
            if item.price.kind is not PriceKind.USAGE:
                monthly = fee(item, Fraction(1)).cost / months
                totals[item.price.asset] = totals.get(item.price.asset, Fraction(0)) + monthly
    amounts = []
    for code, total in sorted(totals.items()):
        asset = currency(code)
        amounts.append(Amount(asset, round_to_atoms(total, asset.scale)))
    return amounts
