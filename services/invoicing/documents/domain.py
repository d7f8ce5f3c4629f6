"""What an invoice says on paper: every figure and date as the text that is printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from invoicing.invoices.domain.document import Invoice, InvoiceKind
from invoicing.invoices.domain.line import Detail, Line, LineKind
from invoicing.taxes.domain import Tax, percent
from kernel.money import Amount
from kernel.period import Period, parse_zone
from rating import number_text

UNIT_PRICE_DIGITS_MIN = 2
MINUS = "−"  # as wide as a digit; a hyphen is too short to be seen in a column


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
    drawn = [line for line in draft.lines if line.wallet.atoms]
    return {
        "title": "Top-up invoice" if draft.kind is InvoiceKind.TOP_UP else "Invoice",
        "number": invoice.number,
        "issued": printed_day(invoice.issue_time, zone),
        "issued_iso": invoice.issue_time.isoformat(),
        "due": printed_day(invoice.due_time, zone),
        "period": printed_period(draft.period, zone),
        "currency": money.code,
        "seller": {
            "name": invoice.seller.name,
            "address": list(invoice.seller.address),
            "tax_id": invoice.seller.tax_id,
            "email": invoice.seller.email,
        },
        "buyer": {
            "name": draft.customer.name,
            "id": draft.customer.customer_id,
            "address": [*draft.customer.address, draft.customer.country],
            "tax_id": draft.customer.tax_id,
            "email": draft.customer.email,
        },
        "lines": [_printed_line(line, zone) for line in draft.lines],
        "has_prepaid": bool(drawn),
        "prepaid": _printed_drawdown(drawn),
        "subtotal": grouped_amount(draft.subtotal),
        "taxes": [_printed_tax(tax) for tax in draft.taxes],
        "total": grouped_amount(draft.total),
        "balance_applied": _unless_zero(-invoice.balance_applied),
        "balance_given": _unless_zero(draft.balance_given),
        "amount_due": grouped_amount(draft.total - invoice.balance_applied),
        "terms": _terms(invoice),
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


def _unless_zero(amount: Amount) -> str:
    return grouped_amount(amount) if amount.atoms else ""


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
