"""One-off documents: lines that somebody stated, through the pipeline of all others (INV-7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from invoicing.coupons.domain import HeldCoupon
from invoicing.customers.domain import Customer
from invoicing.invoices.domain.discount import discount_lines
from invoicing.invoices.domain.document import Draft, InvoiceKind, compose
from invoicing.invoices.domain.line import Detail, Line, LineKind
from invoicing.taxes.domain.assessment import Taxing
from kernel.currency import currency
from kernel.money import Amount, Asset, format_decimal, round_to_atoms
from kernel.period import Period
from rating import number_text


@dataclass(frozen=True, slots=True)
class StatedLine:
    """A line as it was asked for. Prices are in the customer's currency."""

    description: str
    quantity: Decimal
    unit_price: Decimal
    tax_category: str
    service: Period | None
    tax_included: bool | None = None  # None: as the seller's prices do


def one_off(
    customer: Customer,
    stated: Sequence[StatedLine],
    taxing: Taxing,
    now: datetime,
    coupons: Sequence[HeldCoupon] = (),
) -> Draft:
    """The document that stated lines make, less what coupons on documents take off."""
    money = currency(customer.currency)
    lines = [_line(one, money, now) for one in stated]
    lines, taken = discount_lines(lines, coupons, lambda _: "")
    return compose(InvoiceKind.ONE_OFF, customer, lines, taxing, taken)


def again(draft: Draft, taxing: Taxing) -> Draft:
    """The same stated lines at the rates of today, for the document that takes a void one's place.

    They keep the time of their supply, and with it their rate unless the table was corrected; and
    what coupons took off, which the void document gave back.
    """
    kept = [one for one in draft.discounts if not one.on_lines]
    return compose(InvoiceKind.ONE_OFF, draft.customer, draft.lines, taxing, kept)


def _line(stated: StatedLine, money: Asset, now: datetime) -> Line:
    exact_cost = Fraction(stated.quantity) * Fraction(stated.unit_price)
    cost = Amount(money, round_to_atoms(exact_cost, money.scale))
    quantity, unit_price = format_decimal(stated.quantity), format_decimal(stated.unit_price)
    each = Detail("each", quantity, unit_price, number_text(exact_cost))
    supply = stated.service.end - timedelta(microseconds=1) if stated.service else now
    return Line(
        kind=LineKind.FIXED,
        description=stated.description,
        service=stated.service,
        quantity=quantity,
        cost=cost,
        wallet=Amount(money, 0),
        amount=cost,
        exact_cost=number_text(exact_cost),
        tax_category=stated.tax_category,
        supply_time=min(supply, now),
        details=() if stated.quantity == 1 else (each,),
        tax_included=stated.tax_included,
    )
