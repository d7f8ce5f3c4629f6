"""What an invoice says on paper: every figure and date as the text that is printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

from invoicing.credits.domain import CreditNote, CreditReason
from invoicing.customers.domain import Customer
from invoicing.invoices.domain.document import Invoice, InvoiceKind
from invoicing.invoices.domain.line import Detail, Line, LineKind
from invoicing.sellers.domain import Seller
from invoicing.taxes.domain import Tax, percent
from kernel.money import Amount
from kernel.period import Period, parse_zone
from rating import number_text

UNIT_PRICE_DIGITS_MIN = 2
_REASONS = {
    CreditReason.BILLING_ERROR: "Correction of what was billed",
    CreditReason.SERVICE: "Service not as promised",
    CreditReason.DUPLICATE: "Billed twice",
    CreditReason.RETURNED: "Returned",
    CreditReason.GOODWILL: "As a courtesy",
}
MINUS = "−"  # as wide as a digit; a hyphen is too short to be seen in a column


class Paper(Enum):
    """What is printed."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"


@dataclass(frozen=True, slots=True)
class RenderedDocument:
    """A PDF and the digest of its bytes."""

    pdf: bytes
    sha256: bytes


def printed(invoice: Invoice) -> dict[str, Any]:
    """The data of the template. It follows from the issued document alone (INV-10)."""
    draft = invoice.draft
    zone = draft.customer.time_zone
    money = draft.total.asset
    due = draft.total - invoice.balance_applied
    drawn = [line for line in draft.lines if line.wallet.atoms]
    return {
        "title": "Top-up invoice" if draft.kind is InvoiceKind.TOP_UP else "Invoice",
        "number": invoice.number,
        "facts": [
            ("Invoice date", printed_day(invoice.issue_time, zone)),
            ("Due date", printed_day(invoice.due_time, zone)),
            *([("Period", printed_period(draft.period, zone))] if draft.period else []),
            ("Customer", draft.customer.customer_id),
        ],
        "headline": ("Amount due", grouped_amount(due)),
        "currency": money.code,
        "seller": _printed_seller(invoice.seller),
        "buyer": _printed_buyer(draft.customer),
        "lines": [_printed_line(line, zone) for line in draft.lines],
        "has_prepaid": bool(drawn),
        "prepaid": _printed_drawdown(drawn),
        "subtotal": grouped_amount(draft.subtotal),
        "discounts": [
            (one.description, grouped_amount(-one.amount))
            for one in draft.discounts
            if not one.on_lines
        ],
        "taxes": [_printed_tax(tax) for tax in draft.taxes],
        "total": grouped_amount(draft.total),
        "after_total": _after_total(invoice, due),
        "terms_title": "Payment terms",
        "terms": _terms(invoice),
    }


def printed_note(note: CreditNote) -> dict[str, Any]:
    """The data of the template for a credit note, which has the same parts."""
    draft, zone = note.draft, note.customer.time_zone
    parts = [
        ("Taken off what was still due", note.amount_offset),
        ("Kept on your balance for later invoices", note.balance_given),
        ("Sent back to where it came from", note.refund_amount),
        ("Settled by other ways", note.out_of_band),
    ]
    return {
        "title": "Credit note",
        "number": note.number,
        "facts": [
            ("Date", printed_day(note.issue_time, zone)),
            ("Invoice", note.invoice_number),
            ("Customer", note.customer.customer_id),
        ],
        "headline": ("Amount credited", grouped_amount(draft.total)),
        "currency": draft.total.asset.code,
        "seller": _printed_seller(note.seller),
        "buyer": _printed_buyer(note.customer),
        "lines": [
            {
                "description": line.description,
                "service": "",
                "quantity": "",
                "unit_price": "",
                "amount": grouped_amount(line.amount),
                "details": [],
            }
            for line in draft.lines
        ],
        "has_prepaid": False,
        "prepaid": [],
        "subtotal": grouped_amount(draft.subtotal),
        "discounts": [],
        "taxes": [_printed_tax(one.tax) for one in draft.taxes],
        "total": grouped_amount(draft.total),
        "after_total": [
            (label, grouped_amount(amount), False) for label, amount in parts if amount.atoms
        ],
        "terms_title": "Reason",
        "terms": _REASONS[note.reason] + (f": {note.memo}" if note.memo else "."),
    }


def _after_total(invoice: Invoice, due: Amount) -> list[tuple[str, str, bool]]:
    """What follows the total: label, figure, and whether it is printed like a total."""
    found = []
    if invoice.balance_applied.atoms:
        found += [
            ("Paid from your balance", grouped_amount(-invoice.balance_applied), False),
            ("Amount due", grouped_amount(due), True),
        ]
    given = invoice.draft.balance_given
    if given.atoms:
        found.append(("Kept on your balance for later invoices", grouped_amount(given), False))
    return found


def _printed_seller(seller: Seller) -> dict[str, Any]:
    return {
        "name": seller.name,
        "address": list(seller.address),
        "tax_id": seller.tax_id,
        "email": seller.email,
    }


def _printed_buyer(customer: Customer) -> dict[str, Any]:
    return {
        "name": customer.name,
        "id": customer.customer_id,
        "address": [*customer.address, customer.country],
        "tax_id": customer.tax_id,
        "email": customer.email,
    }


def grouped_amount(amount: Amount) -> str:
    """An amount with all decimal places of its asset and thousands set apart: "1,234.50"."""
    value = Decimal(abs(amount.atoms)).scaleb(-amount.asset.scale)
    return f"{MINUS if amount.atoms < 0 else ''}{value:,.{amount.asset.scale}f}"


def grouped_number(text: str) -> str:
    """A decimal string with thousands set apart; a fraction "n/d" stays as it is."""
    if not text or "/" in text:
        return text
    sign = MINUS if text.startswith("-") else ""
    whole, point, rest = text.removeprefix("-").partition(".")
    return f"{sign}{int(whole):,}{point}{rest}"


def printed_day(instant: datetime, zone: str) -> str:
    """A date as people write it, in the customer's zone: "1 March 2026"."""
    local = instant.astimezone(parse_zone(zone))
    return f"{local.day} {local:%B} {local.year}"


def printed_period(period: Period | None, zone: str) -> str:
    """First and last day of a half-open period: "1 – 31 March 2026"."""
    if period is None:
        return ""
    last = period.end - timedelta(microseconds=1)
    first_day, last_day = printed_day(period.start, zone), printed_day(last, zone)
    if first_day == last_day:
        return first_day
    # What both days share is said once: "1 – 31 March 2026", "15 March – 14 April 2026".
    parts, others = first_day.split(" "), last_day.split(" ")
    while parts and parts[-1] == others[-1]:
        parts.pop()
        others.pop()
    return f"{' '.join(parts)} – {last_day}"


def _printed_line(line: Line, zone: str) -> dict[str, Any]:
    single = _single_price(line)
    return {
        "description": line.description,
        "service": printed_period(line.service, zone),
        "quantity": "" if line.kind is LineKind.MINIMUM else grouped_number(line.quantity),
        "unit_price": _quoted(single) if single else "",
        "cost": grouped_amount(line.cost),
        "asset": line.cost.asset.code,
        "wallet": grouped_amount(-line.wallet) if line.wallet.atoms else "",
        "amount": grouped_amount(line.amount),
        "details": [] if single else [_printed_detail(detail) for detail in line.details],
    }


def _single_price(line: Line) -> Detail | None:
    """The only part of a line, where its quantity and price say all there is to say."""
    if len(line.details) != 1 or line.kind is LineKind.DEDUCTION:
        return None
    detail = line.details[0]
    return detail if detail.unit_price and detail.quantity == line.quantity else None


def _printed_detail(detail: Detail) -> dict[str, str]:
    return {
        "description": detail.description,
        "quantity": grouped_number(_short(detail.quantity)),
        "unit_price": _quoted(detail),
        "cost": _unit_price(detail.cost),
    }


def _quoted(detail: Detail) -> str:
    """A price as it is quoted: "0.50 per 1,000,000"."""
    if not detail.quoted_per or not detail.unit_price:
        return _unit_price(detail.unit_price)
    quoted = number_text(Fraction(detail.unit_price) * Fraction(detail.quoted_per))
    return f"{_unit_price(quoted)} per {grouped_number(detail.quoted_per)}"


def _short(text: str) -> str:
    """A fraction as a decimal of some places: paper is no place for 31 over 7."""
    if "/" not in text:
        return text
    over, _, under = text.partition("/")
    return f"{Decimal(over) / Decimal(under):.6f}"


def _unit_price(text: str) -> str:
    """A price with at least two decimal places, and as many more as it has."""
    text = _short(text)
    if not text:
        return ""
    whole, _, rest = text.partition(".")
    sign = MINUS if text.startswith("-") else ""
    return f"{sign}{int(whole.lstrip('-')):,}.{rest.ljust(UNIT_PRICE_DIGITS_MIN, '0')}"


def _printed_drawdown(lines: Iterable[Line]) -> list[dict[str, str]]:
    """What wallets paid, one sum for each asset."""
    sums: dict[str, Amount] = {}
    for line in lines:
        code = line.wallet.asset.code
        sums[code] = sums[code] + line.wallet if code in sums else line.wallet
    return [{"asset": code, "amount": grouped_amount(amount)} for code, amount in sums.items()]


def _printed_tax(tax: Tax) -> dict[str, str]:
    return {
        "description": tax.description,
        "category": tax.category,
        "rate": percent(tax.rate),
        "taxable": grouped_amount(tax.taxable),
        "amount": grouped_amount(tax.amount),
    }


def _terms(invoice: Invoice) -> str:
    """How it is to be paid. What has been paid meanwhile is not on the document."""
    due = invoice.draft.total - invoice.balance_applied
    if not due.atoms:
        return "No payment is due. This document is a statement of what was used and paid before."
    days = (invoice.due_time - invoice.issue_time) // timedelta(days=1)
    when = "on receipt" if days == 0 else f"within {days} days of the invoice date"
    return (
        f"Payable {when}. Where a payment method is on file it is charged automatically;"
        f" otherwise please state invoice number {invoice.number} with your payment."
    )
