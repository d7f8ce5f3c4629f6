"""Credit notes: lines taken back, tax with them in proportion, never more than was billed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from fractions import Fraction
from uuid import UUID

from invoicing.customers.domain import Customer
from invoicing.invoices.domain.document import Invoice, InvoiceKind, InvoiceState
from invoicing.sellers.domain import Seller
from invoicing.taxes.domain.figures import Tax
from kernel.errors import InvalidValue, Kind, Refusal
from kernel.money import Amount, round_to_atoms

CREDITABLE = frozenset({InvoiceState.OPEN, InvoiceState.PAID})


class InvoiceNotCreditable(Refusal):
    """Only lines of an open or paid invoice are credited, and no bought value."""

    reason = "INVOICE_NOT_CREDITABLE"
    kind = Kind.PRECONDITION

    def __init__(self, invoice: Invoice) -> None:
        state, kind = invoice.state.value, invoice.draft.kind.value
        super().__init__(
            f"invoice {invoice.invoice_id} takes no credit note: it is {state}, of kind {kind}",
            invoice_id=invoice.invoice_id,
            state=state,
            kind=kind,
        )


class CreditAboveBilled(Refusal):
    """No more is credited than was billed (CRN-2)."""

    reason = "CREDIT_ABOVE_BILLED"
    kind = Kind.PRECONDITION

    def __init__(self, what: str, amount: Amount, left: Amount) -> None:
        super().__init__(
            f"{amount} are more than the {left} that are left of {what}",
            what=what,
            amount=amount.value,
            left=left.value,
        )


class CreditReason(Enum):
    """Why something is credited."""

    BILLING_ERROR = "BILLING_ERROR"
    SERVICE = "SERVICE"
    DUPLICATE = "DUPLICATE"
    RETURNED = "RETURNED"
    GOODWILL = "GOODWILL"


class Destination(Enum):
    """Where value goes that exceeds what is due of the invoice (CRN-4)."""

    CUSTOMER_BALANCE = "CUSTOMER_BALANCE"
    OUT_OF_BAND = "OUT_OF_BAND"
    REFUND = "REFUND"


@dataclass(frozen=True, slots=True)
class CreditLine:
    """What is taken back of the invoice's line at a position."""

    position: int
    amount: Amount
    description: str


@dataclass(frozen=True, slots=True)
class CreditTax:
    """What is taken back of the invoice's tax at a position."""

    position: int
    tax: Tax


@dataclass(frozen=True, slots=True)
class Credited:
    """What earlier credit notes took back of an invoice, in minor units by position, and what
    deductions on other documents gave back of its lines."""

    lines: Mapping[int, int]
    taxes: Mapping[int, int]
    deducted: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class CreditDraft:
    """A credit note that is not issued."""

    lines: tuple[CreditLine, ...]
    taxes: tuple[CreditTax, ...]
    subtotal: Amount
    tax_total: Amount

    @property
    def tax_included(self) -> Amount:
        """The part of the taxes that is in the lines' amounts."""
        held = sum(one.tax.amount.atoms for one in self.taxes if one.tax.included)
        return Amount(self.subtotal.asset, held)

    @property
    def total(self) -> Amount:
        return self.subtotal + self.tax_total - self.tax_included


@dataclass(frozen=True, slots=True)
class CreditNote:
    """An issued credit note. It never changes."""

    credit_note_id: UUID
    number: str
    series: str
    series_number: int
    invoice_id: UUID
    invoice_number: str
    reason: CreditReason
    memo: str
    draft: CreditDraft
    amount_offset: Amount
    balance_given: Amount
    out_of_band: Amount
    refund_amount: Amount
    issue_time: datetime
    seller: Seller
    customer: Customer


def credit(invoice: Invoice, before: Credited, asked: Mapping[int, int]) -> CreditDraft:
    """Take lines back: minor units by position, or with nothing asked all that is left.

    Raises InvoiceNotCreditable, CreditAboveBilled, InvalidValue.
    """
    if invoice.state not in CREDITABLE or invoice.draft.kind is InvoiceKind.TOP_UP:
        raise InvoiceNotCreditable(invoice)
    lines = invoice.draft.lines
    left = {
        position: line.net.atoms - before.lines.get(position, 0) - before.deducted.get(position, 0)
        for position, line in enumerate(lines)
    }
    taken = dict(asked) if asked else {position: atoms for position, atoms in left.items() if atoms}
    for position, atoms in taken.items():
        _check_line(invoice, position, atoms, left)
    money = invoice.amount_due.asset
    taxes = _reversed_taxes(invoice, before, taken)
    draft = CreditDraft(
        lines=tuple(
            CreditLine(position, Amount(money, atoms), lines[position].description)
            for position, atoms in sorted(taken.items())
        ),
        taxes=taxes,
        subtotal=Amount(money, sum(taken.values())),
        tax_total=Amount(money, sum(one.tax.amount.atoms for one in taxes)),
    )
    rest = invoice.draft.total - invoice.amount_credited
    if draft.total.atoms > rest.atoms:
        raise CreditAboveBilled("the document", draft.total, rest)
    if draft.total.atoms <= 0:
        raise InvalidValue("lines", "nothing is left to be credited")
    return draft


def _check_line(invoice: Invoice, position: int, atoms: int, left: Mapping[int, int]) -> None:
    if position not in left:
        raise InvalidValue("lines", f"the invoice has no line at position {position}")
    money = invoice.amount_due.asset
    # A line that gave something back is taken back the same way: by less of less than nothing.
    sign = -1 if invoice.draft.lines[position].amount.atoms < 0 else 1
    if not 0 < atoms * sign <= left[position] * sign:
        raise CreditAboveBilled(
            f"line {position}", Amount(money, atoms), Amount(money, left[position])
        )


def _reversed_taxes(
    invoice: Invoice, before: Credited, taken: Mapping[int, int]
) -> tuple[CreditTax, ...]:
    """CRN-3: reversed so far = round(original × credited share), less what was reversed before."""
    found = []
    for index, tax in enumerate(invoice.draft.taxes):
        mine = {
            position: line.net.atoms
            for position, line in enumerate(invoice.draft.lines)
            if any(share.position == index for share in line.taxes)
        }
        whole = sum(mine.values())
        old = sum(before.lines.get(position, 0) for position in mine)
        new = old + sum(taken.get(position, 0) for position in mine)
        if new == old or not whole:
            continue
        money = tax.amount.asset
        share = Fraction(new, whole)
        if share > 1:
            raise CreditAboveBilled(
                f"what {tax.description} is on", Amount(money, new), Amount(money, whole)
            )
        now = round_to_atoms(share * tax.amount.atoms, 0) - before.taxes.get(index, 0)
        was = round_to_atoms(Fraction(old, whole) * tax.taxable.atoms, 0)
        part = replace(
            tax,
            taxable=Amount(money, round_to_atoms(share * tax.taxable.atoms, 0) - was),
            amount=Amount(money, now),
        )
        found.append(CreditTax(index, part))
    return tuple(found)


def split_rest(
    rest: Amount, parts: Sequence[tuple[Destination, Amount]]
) -> dict[Destination, Amount]:
    """Where the value beyond what is due goes. Raises InvalidValue where the parts do not sum."""
    found = {destination: rest.asset.zero() for destination in Destination}
    if not parts:
        found[Destination.CUSTOMER_BALANCE] = rest
        return found
    for destination, amount in parts:
        found[destination] += amount
    stated = sum(amount.atoms for _, amount in parts)
    if stated != rest.atoms:
        raise InvalidValue(
            "parts", f"sum to {Amount(rest.asset, stated)}; {rest} exceed what is due"
        )
    return found
