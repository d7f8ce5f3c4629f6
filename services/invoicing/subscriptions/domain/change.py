"""Changes of what a subscription has: its plan, quantities and add-ons (SUB-7, SUB-8).

A change ends the items it replaces and begins others; nothing that was billed is touched, and what
was billed beyond an item's end is given back as a deduction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from invoicing.catalog.domain import PlanPrice, PriceKind
from invoicing.subscriptions.domain.options import (
    AnchorChange,
    Options,
    Proration,
    UsageChange,
)
from invoicing.subscriptions.domain.subscription import Cause, Item, Subscription, Term, Unused
from kernel.errors import InvalidValue
from kernel.period import MONTHS_OF_YEAR, Every, Unit
from rating.scale import scale_document

NewId = Callable[[], UUID]


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan or add-on as one subscription gets it: pricings where they are not the price's own."""

    plan_code: str
    plan_version: int
    is_add_on: bool
    every: Every
    prices: tuple[PlanPrice, ...]
    pricings: Mapping[UUID, Mapping[str, Any]]  # by price id
    is_scaled: bool = False  # fees are those of the whole quantity already


def fits(old: Every, new: Every) -> bool:
    """Whether each boundary of the old grid is one of the new grid from the same anchor."""
    months = {Unit.MONTH: 1, Unit.YEAR: MONTHS_OF_YEAR}
    days = {Unit.DAY: 1, Unit.WEEK: 7}
    for units in (months, days):
        if old.unit in units and new.unit in units:
            return old.count * units[old.unit] % (new.count * units[new.unit]) == 0
    return False


def change_plan(
    subscription: Subscription,
    offer: Offer,
    seats: Mapping[str, Decimal],
    at: datetime,
    options: Options,
    new_id: NewId,
) -> Subscription:
    """The subscription with another plan from an instant on. Its add-ons stay.

    Where periods are counted anew the add-ons are too, for they end with the plan's periods.
    """
    old = subscription.latest_term(at)
    resets = options.anchor is AnchorChange.RESET or not fits(old.every, offer.every)
    anchor = at if resets else old.anchor
    changed = _swap(subscription, _is_plan, offer, seats, Decimal(1), anchor, at, options, new_id)
    if resets:
        for term in [one for one in subscription.terms if one.is_add_on and one.holds(at)]:
            again = offer_held(subscription, term, at)
            changed = _swap(
                changed,
                _is_add_on(term.plan_code),
                again,
                term.seats,
                term.quantity,
                anchor,
                at,
                options,
                new_id,
            )
    return changed


def set_add_on(
    subscription: Subscription,
    offer: Offer,
    quantity: Decimal,
    at: datetime,
    options: Options,
    new_id: NewId,
) -> Subscription:
    """The subscription with so many of an add-on from an instant on; 0 takes it off."""
    anchor = subscription.latest_term(at).anchor
    seats = {price.code: quantity for price in offer.prices if price.kind is PriceKind.SEAT}
    return _swap(
        subscription,
        _is_add_on(offer.plan_code),
        offer if quantity else None,
        seats,
        quantity,
        anchor,
        at,
        options,
        new_id,
    )


def change_seats(
    subscription: Subscription,
    seats: Mapping[str, Decimal],
    at: datetime,
    options: Options,
    new_id: NewId,
) -> Subscription:
    """The subscription with other quantities of its plan's seat prices from an instant on.

    Raises InvalidValue where the plan has no such price.
    """
    term = subscription.latest_term(at)
    mine = [
        item
        for item in subscription.items
        if item.term_id not in subscription.add_ons
        and item.price.kind is PriceKind.SEAT
        and (item.end is None or item.end > at)
    ]
    for index, code in enumerate(seats):
        if code not in {item.price.code for item in mine}:
            raise InvalidValue(f"items[{index}].price_code", f"the plan has no seats {code!r}")
    border = _border(subscription, at, options)
    items: list[Item] = []
    new_term = replace(
        term,
        term_id=new_id(),
        seats={**term.seats, **seats},
        start=at,
        end=None,
        cause=Cause.NONE,
    )
    starts = border
    if subscription.trial_end_time is not None:
        starts = max(border, subscription.trial_end_time)
    latest: dict[str, Item] = {}
    for item in subscription.items:
        if item not in mine or item.price.code not in seats:
            items.append(item)
            continue
        items.append(_ended(subscription, item, border, options))
        # Where fees still wait for the next period there are two, of which the later one stays.
        present = latest.get(item.price.code)
        if present is None or subscription.starts(item) >= subscription.starts(present):
            latest[item.price.code] = item
    items += [
        replace(
            item,
            subscription_item_id=new_id(),
            quantity=seats[code],
            term_id=new_term.term_id,
            start=starts,
            end=None,
            prompt_start=_prompt(starts, at, options),
            is_whole=options.proration is Proration.FULL_CHARGE and starts == at,
            unused=Unused.BILLED_SHARE,
            prompt_end=False,
            cause=Cause.NONE,
        )
        for code, item in latest.items()
    ]
    terms = [*_cut(subscription.terms, _is_plan, at), new_term]
    return _with(subscription, tuple(items), tuple(terms), at, options)


_Mine = Callable[[Term], bool]


def _is_plan(term: Term) -> bool:
    return not term.is_add_on


def _is_add_on(code: str) -> _Mine:
    return lambda term: term.is_add_on and term.plan_code == code


def _swap(
    subscription: Subscription,
    is_mine: _Mine,
    offer: Offer | None,
    seats: Mapping[str, Decimal],
    quantity: Decimal,
    anchor: datetime,
    at: datetime,
    options: Options,
    new_id: NewId,
) -> Subscription:
    """End what a subscription has of a plan or an add-on at an instant, and begin an offer."""
    mine = {term.term_id for term in subscription.terms if is_mine(term)}
    border = _border(subscription, at, options)
    usage_border = at
    if options.usage is UsageChange.OLD_UNTIL_PERIOD_END:
        usage_border = _period_end(subscription, at)
    items = [
        _ended(subscription, item, usage_border if item.is_usage else border, options)
        if item.term_id in mine
        else item
        for item in subscription.items
    ]
    terms = [*_cut(subscription.terms, is_mine, at)]
    if offer is not None:
        term = Term(
            new_id(),
            offer.plan_code,
            offer.plan_version,
            offer.is_add_on,
            quantity,
            dict(seats),
            at,
            None,
            anchor,
            offer.every,
        )
        terms.append(term)
        trial_end = subscription.trial_end_time
        free_until = None
        if trial_end is not None and trial_end > at:
            border = max(border, trial_end)
            is_free = any(item.is_free for item in subscription.items) or offer.is_add_on
            free_until = trial_end if is_free else None
        items += build_items(offer, term, border, usage_border, free_until, new_id, options)
    return _with(subscription, tuple(items), tuple(terms), at, options)


def build_items(
    offer: Offer,
    term: Term,
    fees_from: datetime,
    usage_from: datetime,
    free_until: datetime | None,
    new_id: NewId,
    options: Options | None = None,
) -> list[Item]:
    """The items of a term: fees and usage each from their instant, usage free until another."""
    found = []
    for price in offer.prices:
        starts = usage_from if price.kind is PriceKind.USAGE else fees_from
        pricing = offer.pricings.get(price.price_id)
        if price.kind is PriceKind.FIXED and term.quantity != 1 and not offer.is_scaled:
            # Several of an add-on cost as many times its fee.
            pricing = scale_document(price.document, term.quantity)
        base = Item(
            subscription_item_id=new_id(),
            price=price.priced(pricing),
            quantity=term.seats.get(price.code, Decimal(1)),
            term_id=term.term_id,
            start=starts,
            anchor=term.anchor,
            every=price.every or offer.every,
            pricing=pricing,
            plan_code=offer.plan_code,
            prompt_start=options is None or _prompt(starts, term.start, options),
            is_whole=options is not None
            and options.proration is Proration.FULL_CHARGE
            and starts == term.start,
        )
        if price.kind is PriceKind.USAGE and free_until is not None and free_until > starts:
            found.append(replace(base, end=free_until, is_free=True, cause=Cause.TRIAL))
            base = replace(base, subscription_item_id=new_id(), start=free_until)
        found.append(base)
    return found


def _prompt(start: datetime, at: datetime, options: Options) -> bool:
    return options.proration is Proration.INVOICE_NOW or start > at


def _border(subscription: Subscription, at: datetime, options: Options) -> datetime:
    """Until when old fees run: the change itself, or with NONE the end of the running period."""
    return _period_end(subscription, at) if options.proration is Proration.NONE else at


def _period_end(subscription: Subscription, at: datetime) -> datetime:
    full = subscription.full_period(at)
    return at if full.start == at else full.end


def _ended(subscription: Subscription, item: Item, border: datetime, options: Options) -> Item:
    """An item that lasts until a border; one that would begin after it never does."""
    start = subscription.starts(item)
    end = max(start, border)
    if item.end is not None and item.end <= end:
        return item
    keeps = options.proration is Proration.FULL_CHARGE
    return replace(
        item,
        end=end,
        unused=Unused.NONE if keeps else options.unused,
        prompt_end=options.proration is Proration.INVOICE_NOW,
        cause=Cause.CHANGE,
    )


def _cut(terms: Iterable[Term], is_mine: _Mine, at: datetime) -> list[Term]:
    return [
        replace(term, end=max(term.start, at), cause=Cause.CHANGE)
        if is_mine(term) and (term.end is None or term.end > max(term.start, at))
        else term
        for term in terms
    ]


def uplifted(offer: Offer, percent: Decimal) -> Offer:
    """An offer of which everything costs so many percent more."""
    if not percent:
        return offer
    factor = 1 + percent / 100
    pricings = {one.price_id: scale_document(one.document, factor) for one in offer.prices}
    prices = tuple(one.priced(pricings[one.price_id]) for one in offer.prices)
    return replace(offer, prices=prices, pricings=pricings)


def offer_held(subscription: Subscription, term: Term, at: datetime) -> Offer:
    """What a subscription has of a plan or add-on at an instant, as an offer to have it again."""
    same = _is_add_on(term.plan_code) if term.is_add_on else _is_plan
    mine = {one.term_id for one in subscription.terms if same(one)}
    held = {
        item.price.price_id: item
        for item in subscription.items
        if item.term_id in mine
        and not item.is_free
        and (item.end is None or (item.end > at and item.end > subscription.starts(item)))
    }
    return Offer(
        term.plan_code,
        term.plan_version,
        term.is_add_on,
        term.every,
        tuple(item.price for item in held.values()),
        {key: item.pricing for key, item in held.items() if item.pricing is not None},
        is_scaled=True,
    )


def _with(
    subscription: Subscription,
    items: tuple[Item, ...],
    terms: tuple[Term, ...],
    at: datetime,
    options: Options,
) -> Subscription:
    changed = replace(subscription, items=items, terms=terms)
    pause = changed.pause_time
    if options.drops_scheduled and pause is not None and pause > at:
        changed = replace(changed, pause_time=None, resume_time=None)
    due = at if options.proration is Proration.INVOICE_NOW else changed.next_due(at)
    present = changed.next_bill_time
    if present is None or (due is not None and due < present):
        changed = replace(changed, next_bill_time=due)
    return changed
