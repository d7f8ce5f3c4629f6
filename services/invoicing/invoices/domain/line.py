"""Lines: an exact cost, rounded once, and what of it is still due (§8.3, PRC-8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from uuid import UUID

from invoicing.catalog.domain import PriceKind
from invoicing.invoices.domain.charge import Charge, Late, Progress
from invoicing.subscriptions.domain.subscription import Unused, fee
from invoicing.taxes.domain.figures import Share
from kernel.currency import is_currency
from kernel.errors import InvalidValue
from kernel.money import Amount, Asset, Exact, format_decimal, round_to_atoms
from kernel.period import Period
from rating import Component, Price, State, close, exact, minimum_due, number_text
from rating.breakdown import rate
from rating.components import Breakdown, total
from rating.margin import Closing
from rating.price import Graduated, Volume


class LineKind(Enum):
    """What a line is for."""

    FIXED = "FIXED"
    SEAT = "SEAT"
    USAGE = "USAGE"
    MINIMUM = "MINIMUM"
    TOP_UP = "TOP_UP"
    DEDUCTION = "DEDUCTION"
    ADJUSTMENT = "ADJUSTMENT"


@dataclass(frozen=True, slots=True)
class Detail:
    """Part of a line: a tier, a cell, a fee. Numbers are exact, as text.

    `unit_price` is of one unit, and people are quoted the price of `quoted_per` units.
    """

    description: str
    quantity: str
    unit_price: str
    cost: str
    quoted_per: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """`cost` and `wallet` are in the price's asset, `amount` in the invoice's currency."""

    kind: LineKind
    description: str
    service: Period | None
    quantity: str
    cost: Amount
    wallet: Amount
    amount: Amount
    exact_cost: str
    tax_category: str
    supply_time: datetime
    details: tuple[Detail, ...] = ()
    price_id: UUID | None = None
    subscription_item_id: UUID | None = None
    taxes: tuple[Share, ...] = ()  # its shares of the document's taxes
    tax_included: bool | None = None  # whether amounts hold them; None: as the seller's prices do
    customer_id: str = ""  # whose it is, where that is not the buyer
    off: int = 0  # minor units of the amount that coupons on the document take off

    @property
    def discount(self) -> Amount:
        return Amount(self.amount.asset, self.off)

    @property
    def net(self) -> Amount:
        """What is taxed and asked for."""
        return self.amount - self.discount

    @property
    def is_empty(self) -> bool:
        """True where it would say nothing: no cost, nothing used."""
        return not self.cost.atoms and self.quantity == "0"


@dataclass(frozen=True, slots=True)
class Consumption:
    """What metering counted for one usage price in one period, and what wallets paid for it."""

    state: State
    charged: Fraction
    asset: Asset  # of the price, with the scale that wallets keep it at


@dataclass(frozen=True, slots=True)
class Off:
    """What a coupon takes off the exact cost of a charge, and what it is called."""

    name: str
    cost: Fraction


def bill(
    charge: Charge,
    currency: Asset,
    consumption: Consumption | None,
    deducted: int = 0,
    offs: Sequence[Off] = (),
) -> list[Line]:
    """The lines of a charge, the line of the charge itself first.

    `consumption` is there for usage; `deducted` is what earlier deductions took of the same bill;
    `offs` come off before a price's maximum and minimum.
    """
    if charge.billed is not None:
        return [_deduction(charge, currency, charge.billed.amount, deducted)]
    if charge.late is not None:
        assert consumption is not None
        return [_adjustment(charge, currency, consumption, charge.late)]
    if charge.progress is not None:
        assert consumption is not None
        return [_progress(charge, currency, consumption, charge.progress)]
    if charge.is_usage:
        assert consumption is not None
        return _usage(charge, currency, consumption, offs)
    return [_fee(charge, currency, offs)]


def base_cost(charge: Charge, consumption: Consumption | None) -> Fraction:
    """The exact cost of a charge before discounts, its price's maximum and minimum."""
    if not charge.is_usage:
        return fee(charge.item, charge.share).cost
    assert consumption is not None
    state = replace(consumption.state, share=exact(charge.share))
    return rate(replace(charge.item.price.pricing, maximum=None), state).cost


def _close(price: Price, state: State, charged: Fraction, offs: Sequence[Off]) -> Closing:
    """The end of a period: discounts, then the maximum, then the minimum (§8.3 steps 2 and 3)."""
    if not offs:
        return close(price, state, charged)
    rated = rate(replace(price, maximum=None), state)
    parts = [*rated.components, *(Component(off.name, exact(-off.cost)) for off in offs)]
    cost = rated.cost - sum((off.cost for off in offs), Fraction(0))
    if price.maximum is not None and cost > Fraction(price.maximum):
        parts.append(Component("maximum", exact(Fraction(price.maximum) - cost)))
        cost = Fraction(price.maximum)
    minimum = minimum_due(price, state, cost)
    return Closing(Breakdown(price.asset, tuple(parts)), cost, minimum, charged)


def _fee(charge: Charge, currency: Asset, offs: Sequence[Off]) -> Line:
    breakdown = fee(charge.item, charge.share)
    exact_cost = breakdown.cost - sum((off.cost for off in offs), Fraction(0))
    cost = _rounded(currency, exact_cost)
    is_seat = charge.item.price.kind is PriceKind.SEAT
    line = _line(charge, LineKind.SEAT if is_seat else LineKind.FIXED, cost, currency)
    full = fee(charge.item, Fraction(1)).cost
    quantity = format_decimal(charge.item.quantity if is_seat else Decimal(1))
    details = []
    if charge.share != 1:
        part = f"{_percentage(charge.share)} of the full period"
        details.append(Detail(part, number_text(charge.share), number_text(full), ""))
    elif is_seat and charge.item.quantity > 1:
        each = number_text(full / Fraction(charge.item.quantity))
        details.append(Detail("each", quantity, each, number_text(full)))
    return replace(
        line,
        quantity=quantity,
        exact_cost=number_text(exact_cost),
        details=(*details, *(Detail(off.name, "", "", number_text(-off.cost)) for off in offs)),
    )


def _usage(
    charge: Charge, currency: Asset, consumption: Consumption, offs: Sequence[Off]
) -> list[Line]:
    price = charge.item.price.pricing
    if price.asset != consumption.asset.code:
        raise InvalidValue("asset", f"{consumption.asset.code} was charged for {price.asset}")
    state = replace(consumption.state, share=exact(charge.share))
    closing = _close(price, state, consumption.charged, offs)
    paid_in_money = is_currency(price.asset)
    asset = currency if paid_in_money else consumption.asset
    cost = _rounded(asset, closing.cost)
    # What wallets could not be charged in a unit of their own has no price in money.
    left = closing.cost - consumption.charged if paid_in_money else Fraction(0)
    amount = Amount(currency, max(_rounded(currency, left).atoms, 0))
    wallet = cost - amount if paid_in_money else _rounded(asset, consumption.charged)
    parts = [part for part in closing.breakdown.components if part.name != "minimum"]
    usage = replace(
        _line(charge, LineKind.USAGE, cost, currency),
        quantity=number_text(exact(state.quantity)),
        wallet=wallet,
        amount=amount,
        exact_cost=number_text(closing.cost),
        details=tuple(_details(price, parts)),
    )
    if not closing.minimum:
        return [usage]
    # From rounded figures, so that both lines together are the promised minimum (RND-5).
    added = _rounded(currency, closing.cost + closing.minimum) - _rounded(currency, closing.cost)
    minimum = replace(
        _line(charge, LineKind.MINIMUM, added, currency),
        description=f"{charge.item.price.description}, up to the minimum",
        quantity="1",
        exact_cost=number_text(closing.minimum),
    )
    return [usage, minimum]


def _adjustment(charge: Charge, currency: Asset, consumption: Consumption, late: Late) -> Line:
    """The difference between what a billed period costs now and what was asked for it."""
    lines = _usage(charge, currency, consumption, ())
    now = sum(line.amount.atoms for line in lines)
    difference = Amount(currency, now - late.gross)
    line = _line(charge, LineKind.ADJUSTMENT, difference, currency)
    missed = f" of invoice {late.number}" if late.number else ""
    return replace(
        line,
        description=f"{charge.item.price.description}, late usage{missed}",
        quantity=lines[0].quantity if difference.atoms else "0",
        exact_cost=difference.value,
        details=(
            Detail("cost of the period", "", "", Amount(currency, now).value),
            Detail("billed before", "", "", Amount(currency, -late.gross).value),
        ),
    )


def _progress(charge: Charge, currency: Asset, consumption: Consumption, so_far: Progress) -> Line:
    """What usage of a running period adds to what was asked for it, never below zero."""
    price = charge.item.price.pricing
    state = replace(consumption.state, share=exact(charge.share))
    breakdown = rate(price, state)
    now = _rounded(currency, Fraction(total(breakdown.components)))
    difference = Amount(currency, max(now.atoms - so_far.asked, 0))
    details = tuple(_details(price, breakdown.components))
    if so_far.asked:
        details += (Detail("billed before", "", "", Amount(currency, -so_far.asked).value),)
    return replace(
        _line(charge, LineKind.USAGE, difference, currency),
        quantity=number_text(exact(state.quantity)) if difference.atoms else "0",
        exact_cost=difference.value,
        details=details,
    )


def already_asked(charge: Charge, currency: Asset, asked: int) -> Line:
    """What progressive documents asked of a period that closes."""
    taken_off = Amount(currency, -asked)
    return replace(
        _line(charge, LineKind.DEDUCTION, taken_off, currency),
        description=f"{charge.item.price.description}, billed before",
        quantity="1",
        exact_cost=taken_off.value,
    )


def _deduction(charge: Charge, currency: Asset, billed: int, deducted: int) -> Line:
    assert charge.billed is not None
    whole = Period(charge.billed.key.service_start, charge.billed.service_end)
    share = charge.subscription.share_unused(charge.service, whole, charge.item)
    of = Fraction(billed)
    if charge.subscription.gives_back(charge.item) is Unused.LIST_SHARE:
        listed = fee(charge.item, charge.subscription.share(whole, charge.item)).cost
        of = Fraction(round_to_atoms(listed, currency.scale))
    # SUB-13: a share of what was actually billed, and never more than is left of it.
    back = min(share * of, Fraction(billed - deducted))
    atoms = -round_to_atoms(back, 0)
    line = _line(charge, LineKind.DEDUCTION, Amount(currency, atoms), currency)
    part = f"{_percentage(share)} of the billed period is unused"
    return replace(
        line,
        quantity="1",
        exact_cost=number_text(-back / 10**currency.scale),
        details=(Detail(part, number_text(share), Amount(currency, billed).value, ""),),
    )


def _line(charge: Charge, kind: LineKind, cost: Amount, currency: Asset) -> Line:
    price = charge.item.price
    return Line(
        kind=kind,
        description=price.description,
        service=charge.service,
        quantity="0",
        cost=cost,
        wallet=Amount(cost.asset, 0),
        amount=cost if cost.asset == currency else Amount(currency, 0),
        exact_cost="0",
        tax_category=price.tax_category,
        supply_time=charge.supply_time,
        price_id=price.price_id,
        subscription_item_id=charge.item.subscription_item_id,
    )


def _rounded(asset: Asset, value: Fraction) -> Amount:
    return Amount(asset, round_to_atoms(value, asset.scale))


def _details(price: Price, parts: Sequence[Component]) -> list[Detail]:
    scale = _units_of_one(price)
    return [_detail(part, scale) for part in parts if part.amount or part.quantity]


def _units_of_one(price: Price) -> Fraction:
    """Units of the meter in one unit that tiers count: a million where tokens are priced by the
    million. Packages are counted as packages."""
    model = price.model
    packages = isinstance(model, Graduated | Volume) and any(
        tier.package_size is not None for tier in model.tiers
    )
    return Fraction(1) if packages else Fraction(price.divide_by)


def _detail(part: Component, scale: Fraction) -> Detail:
    if part.over is None:
        scale = Fraction(1)  # fees, packages and shares of amounts are no units of the meter
    quantity = None if part.quantity is None else exact(part.quantity * scale)
    unit_price = None if part.unit_price is None else exact(part.unit_price / scale)
    return Detail(
        description=_describe(part, scale),
        quantity="" if quantity is None else number_text(quantity),
        unit_price="" if unit_price is None else number_text(unit_price),
        cost=number_text(exact(part.amount)),
        quoted_per="" if scale == 1 else number_text(scale),
    )


def _describe(part: Component, scale: Fraction) -> str:
    """What a tier is called on a bill: "first 1,000", "up to 5,000", "above 5,000"."""
    name = part.name
    if part.over is not None:
        over = part.over * scale
        if part.up_to is None:
            name = f"above {grouped(over)}" if over else "all units"
        elif over:
            name = f"up to {grouped(part.up_to * scale)}"
        else:
            name = f"first {grouped(part.up_to * scale)}"
    return f"{part.group}: {name}" if part.group else name


def grouped(value: Exact) -> str:
    """A number for people: thousands are set apart by commas."""
    text = number_text(value)
    if "/" in text:
        return text
    whole, point, fraction = text.partition(".")
    return f"{int(whole):,}{point}{fraction}"


def _percentage(share: Fraction) -> str:
    return f"{format_decimal(Decimal(round_to_atoms(share * 100, 2)).scaleb(-2))}%"
