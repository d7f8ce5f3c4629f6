"""A document: lines, tax on what is due of them, totals, and how it begins its life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from invoicing.coupons.domain import HeldCoupon
from invoicing.customers.domain import Customer
from invoicing.invoices.domain.charge import (
    BilledSource,
    Charge,
    SourceKey,
    SourceKind,
    asked_so_far,
)
from invoicing.invoices.domain.discount import Discount, discount_charges, discount_lines
from invoicing.invoices.domain.line import Consumption, Line, LineKind, already_asked, bill
from invoicing.sellers.domain import Seller
from invoicing.taxes.domain.assessment import Taxable, Taxing, Untaxed, assess
from invoicing.taxes.domain.figures import Tax, tax_parts
from invoicing.taxes.domain.rates import PrepaidTiming
from kernel.currency import currency
from kernel.money import Amount
from kernel.period import Period


class InvoiceKind(Enum):
    """What asked for a document."""

    SUBSCRIPTION = "SUBSCRIPTION"
    TOP_UP = "TOP_UP"
    ONE_OFF = "ONE_OFF"
    PROGRESSIVE = "PROGRESSIVE"


class InvoiceState(Enum):
    """States of an invoice. Only finalized ones are stored; a draft is computed when asked for."""

    DRAFT = "DRAFT"
    OPEN = "OPEN"
    PAID = "PAID"
    VOID = "VOID"
    UNCOLLECTIBLE = "UNCOLLECTIBLE"


# What is not in the table cannot happen (§8.1). Paid goes back to open when a payment is reversed.
STATE_CHANGES: Mapping[InvoiceState, frozenset[InvoiceState]] = {
    InvoiceState.DRAFT: frozenset({InvoiceState.OPEN, InvoiceState.PAID}),
    InvoiceState.OPEN: frozenset(
        {InvoiceState.PAID, InvoiceState.VOID, InvoiceState.UNCOLLECTIBLE}
    ),
    InvoiceState.PAID: frozenset({InvoiceState.OPEN}),
    InvoiceState.VOID: frozenset(),
    InvoiceState.UNCOLLECTIBLE: frozenset({InvoiceState.PAID}),
}


@dataclass(frozen=True, slots=True)
class LateCredit:
    """What a billed period costs less than was asked for it, in minor units, and where it was."""

    number: str
    source: SourceKey
    atoms: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A document that is not issued: everything but number, dates and the customer's balance."""

    kind: InvoiceKind
    customer: Customer
    period: Period | None
    lines: tuple[Line, ...]
    taxes: tuple[Tax, ...]
    subtotal: Amount
    tax_total: Amount
    discounts: tuple[Discount, ...] = ()
    # What is billed by it, with the minor units asked for each; also of charges without a line.
    sources: tuple[BilledSource, ...] = ()
    at_zero: bool = False  # it is issued though nothing is due or used
    credits: tuple[LateCredit, ...] = ()  # what is credited on earlier documents instead

    @property
    def tax_included(self) -> Amount:
        """The part of the taxes that is in the lines' amounts, or in what wallets paid."""
        held = sum(tax.amount.atoms for tax in self.taxes if tax.included)
        return Amount(self.subtotal.asset, held)

    @property
    def discount_total(self) -> Amount:
        """What coupons take off the lines, those apart that are in the lines' amounts."""
        taken = sum(one.amount.atoms for one in self.discounts if not one.on_lines)
        return Amount(self.subtotal.asset, taken)

    @property
    def balance_given(self) -> Amount:
        """Where deductions exceed what is due, the rest goes to the customer's balance (INV-6)."""
        sum_ = self.subtotal - self.discount_total + self.tax_total - self.tax_included
        return Amount(sum_.asset, max(-sum_.atoms, 0))

    @property
    def total(self) -> Amount:
        taxes = self.tax_total - self.tax_included
        return self.subtotal - self.discount_total + taxes + self.balance_given

    @property
    def says_something(self) -> bool:
        """Zero invoices are skipped, but for those that list what wallets paid (INV-6, PRC-8)."""
        return self.at_zero or any(line.cost.atoms for line in self.lines)


def draft_of(
    customer: Customer,
    charges: Sequence[Charge],
    consumptions: Mapping[SourceKey, Consumption],
    billed: Sequence[BilledSource],
    taxing: Taxing,
    coupons: Sequence[HeldCoupon] = (),
    *,
    at_zero: bool = False,
    crediting: bool = False,
) -> Draft:
    """The document that charges make. Pure: the same inputs give the same document.

    Where it says nothing it lists what there could have been `at_zero`. With `crediting`, what
    late usage made less is credited where it was asked for, and no line here.
    """
    money = currency(customer.currency)
    offs, discounts = discount_charges(charges, consumptions, coupons, money)
    lines: list[Line] = []
    of: list[Charge] = []  # the charge of each line
    empty: list[Line] = []
    credits: list[LateCredit] = []
    gross: dict[SourceKey, int] = {}
    for charge in charges:
        deducted = _deducted(charge, billed)
        made = bill(charge, money, consumptions.get(charge.key), deducted, offs.get(charge.key, ()))
        plain = bill(charge, money, consumptions.get(charge.key)) if charge.key in offs else made
        gross[charge.key] = sum(line.amount.atoms for line in plain)
        whose = charge.subscription.customer_id
        other = "" if whose == customer.customer_id else whose
        if charge.is_usage and charge.key.kind is SourceKind.CHARGE:
            asked_before = asked_so_far(charge.item, charge.full.start, billed).asked
            if asked_before:
                made = [*made, already_asked(charge, money, asked_before)]
        if crediting and charge.late is not None and charge.late.number and gross[charge.key] < 0:
            credits.append(LateCredit(charge.late.number, charge.key, -gross[charge.key]))
            made = []
        made = [replace(line, customer_id=other) for line in made]
        empty += [line for line in made if line.is_empty and charge.late is None]
        shown = [line for line in made if not line.is_empty]
        lines += shown
        of += [charge] * len(shown)
    at_zero = at_zero and bool(empty) and not any(line.cost.atoms for line in lines)
    plans = {one.item.subscription_item_id: one.plan_code for one in charges}
    lines, taken = discount_lines(
        lines, coupons, lambda line: plans.get(line.subscription_item_id or UUID(int=0), "")
    )
    asked = dict.fromkeys((charge.key for charge in charges), 0)
    for charge, line in zip(of, lines, strict=True):
        asked[charge.key] += line.net.atoms
    sources = (
        BilledSource(
            one.key,
            one.service.end,
            asked[one.key],
            ordinal=_ordinal(one),
            gross=gross[one.key],
        )
        for one in charges
        if (one.late is None and one.progress is None) or gross[one.key]
    )
    if at_zero:
        lines += empty
    progressive = any(charge.progress is not None for charge in charges)
    kind = InvoiceKind.PROGRESSIVE if progressive else InvoiceKind.SUBSCRIPTION
    document = compose(kind, customer, lines, taxing, (*discounts, *taken))
    return replace(
        document,
        period=_period(charges),
        sources=tuple(sources),
        at_zero=at_zero,
        credits=tuple(credits),
    )


def _ordinal(charge: Charge) -> int:
    if charge.late is not None:
        return charge.late.ordinal
    return charge.progress.ordinal if charge.progress is not None else 1


def compose(
    kind: InvoiceKind,
    customer: Customer,
    lines: Sequence[Line],
    taxing: Taxing,
    discounts: Sequence[Discount] = (),
) -> Draft:
    """Subtotal and taxes of lines; both count what is due of them, in whole minor units.

    What wallets paid of an asset that is taxed in use is taxed too: its taxes are in it.
    """
    money = currency(customer.currency)
    subtotal = Amount(money, sum(line.amount.atoms for line in lines))
    settled = [_settled(line, taxing) for line in lines]
    due = [index for index, line in enumerate(settled) if line.net.atoms]
    parts = [
        Taxable(line.tax_category, line.net, line.supply_time, bool(line.tax_included))
        for line in (settled[index] for index in due)
    ]
    parts += [
        Taxable(line.tax_category, line.wallet, line.supply_time, included=True, prepaid=True)
        for line in settled
        if line.wallet.atoms
        and line.wallet.asset == money
        and taxing.prepaid(money.code) is PrepaidTiming.AT_REDEMPTION
    ]
    taxed = tax_parts(money, parts, assess(taxing, parts), taxing.rounding)
    for index, shares in zip(due, taxed.shares, strict=False):
        settled[index] = replace(settled[index], taxes=shares)
    tax_total = Amount(money, sum(tax.amount.atoms for tax in taxed.taxes))
    return Draft(
        kind, customer, None, tuple(settled), taxed.taxes, subtotal, tax_total, tuple(discounts)
    )


def _settled(line: Line, taxing: Taxing) -> Line:
    """The line, saying whether its amount holds its taxes; shares of another document are gone."""
    included = taxing.prices_include_tax if line.tax_included is None else line.tax_included
    return replace(line, tax_included=included, taxes=())


def _deducted(charge: Charge, billed: Sequence[BilledSource]) -> int:
    """Minor units that earlier deductions took of the bill this one deducts from."""
    if charge.billed is None:
        return 0
    return -sum(
        source.amount
        for source in billed
        if source.key.kind is SourceKind.DEDUCTION
        and not source.is_void
        and source.key.subscription_item_id == charge.billed.key.subscription_item_id
        and charge.billed.key.service_start <= source.key.service_start
        and source.service_end <= charge.billed.service_end
    )


def _period(charges: Sequence[Charge]) -> Period | None:
    """The period that closes with a document; on a first one, the period that it pays for."""
    charges = [charge for charge in charges if charge.late is None] or charges
    closed = [charge.service for charge in charges if not charge.in_advance]
    shown = closed or [charge.service for charge in charges]
    if not shown:
        return None
    return Period(min(one.start for one in shown), max(one.end for one in shown))


@dataclass(frozen=True, slots=True)
class Invoice:
    """An issued document. Only what is paid of it, and how it is collected, ever changes."""

    invoice_id: UUID
    number: str
    series: str
    series_number: int
    draft: Draft
    state: InvoiceState
    issue_time: datetime
    due_time: datetime
    seller: Seller
    balance_applied: Amount
    amount_paid: Amount
    amount_due: Amount
    # What credit notes took back, and what of that lowered the amount due.
    amount_credited: Amount
    amount_offset: Amount
    run_id: UUID | None = None
    recharge_id: UUID | None = None
    # The void document whose place it takes, and the one that takes its own.
    reissue_of: UUID | None = None
    reissued_as: UUID | None = None
    close_reason: str = ""
    amount_written_off: int = 0  # minor units given up while the rest stays due


def issue(
    draft: Draft,
    invoice_id: UUID,
    seller: Seller,
    series_number: int,
    issue_time: datetime,
    balance: Amount,
    net_terms_days: int | None = None,
) -> Invoice:
    """The document with its number, date and what the customer's balance pays (step 11)."""
    applied = Amount(balance.asset, min(balance.atoms, draft.total.atoms))
    due = draft.total - applied
    days = seller.net_terms_days if net_terms_days is None else net_terms_days
    return Invoice(
        invoice_id=invoice_id,
        number=f"{seller.number_prefix}-{issue_time:%Y}-{series_number:06d}",
        series=seller.number_prefix,
        series_number=series_number,
        draft=draft,
        state=InvoiceState.OPEN if due.atoms else InvoiceState.PAID,
        issue_time=issue_time,
        due_time=issue_time + timedelta(days=days),
        seller=seller,
        balance_applied=applied,
        amount_paid=due.asset.zero(),
        amount_due=due,
        amount_credited=due.asset.zero(),
        amount_offset=due.asset.zero(),
    )


def top_up(
    customer: Customer,
    price: Amount,
    value: str,
    asset: str,
    exact_price: str,
    taxing: Taxing,
    now: datetime,
) -> Draft:
    """Value for a wallet, taxed when it is bought unless its asset is taxed in use (TAX-3)."""
    line = Line(
        kind=LineKind.TOP_UP,
        description=f"Top-up of {value} {asset}",
        service=None,
        quantity=value,
        cost=price,
        wallet=Amount(price.asset, 0),
        amount=price,
        exact_cost=exact_price,
        tax_category="standard",
        supply_time=now,
    )
    later = taxing.prepaid(asset) is PrepaidTiming.AT_REDEMPTION
    return compose(InvoiceKind.TOP_UP, customer, [line], Untaxed() if later else taxing)
