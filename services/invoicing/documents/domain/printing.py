"""What an invoice says on paper: every figure and date as the text that is printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from fractions import Fraction
from typing import Any

from invoicing.credits.domain import CreditNote
from invoicing.customers.domain import Customer
from invoicing.documents.domain.texts import TEXTS, Texts, shortened, texts_of
from invoicing.invoices.domain.document import Invoice, InvoiceKind
from invoicing.invoices.domain.line import Detail, Line, LineKind
from invoicing.sellers.domain import Seller
from invoicing.taxes.domain.assessment import EXPORT, REVERSE_CHARGE
from invoicing.taxes.domain.figures import Tax
from kernel.money import Amount
from kernel.period import Period
from rating import number_text

INLINE_PARTS_MAX = 4  # of a line; more go to the details of usage at the end
ACCENT = "#12507b"


class Paper(Enum):
    """What is printed."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"


@dataclass(frozen=True, slots=True)
class RenderedDocument:
    """A file and the digest of its bytes."""

    content: bytes
    sha256: bytes


def printed(invoice: Invoice) -> dict[str, Any]:
    """The data of the template. It follows from the issued document alone (INV-10)."""
    draft = invoice.draft
    texts = texts_of(draft.customer.language, invoice.seller.language)
    zone = draft.customer.time_zone
    due = draft.total - invoice.balance_applied
    drawn = [line for line in draft.lines if line.wallet.atoms]
    period = printed_period(draft.period, zone, texts)
    return {
        **_frame(texts, invoice.seller, draft.customer, draft.total),
        "title": texts.say("top_up" if draft.kind is InvoiceKind.TOP_UP else "invoice"),
        "number": invoice.number,
        "facts": [
            (texts.say("invoice_date"), texts.day(invoice.issue_time, zone)),
            (texts.say("due_date"), texts.day(invoice.due_time, zone)),
            *([(texts.say("period"), period)] if draft.period else []),
            (texts.say("customer"), draft.customer.customer_id),
        ],
        "headline": (texts.say("amount_due"), texts.amount(due)),
        "lines": [_printed_line(line, zone, texts) for line in draft.lines],
        "appendix": [
            _appendix(line, zone, texts) for line in draft.lines if _goes_to_appendix(line)
        ],
        "has_prepaid": bool(drawn),
        "prepaid": _printed_drawdown(drawn, texts),
        "subtotal": texts.amount(draft.subtotal),
        "discounts": [
            (one.description, texts.amount(-one.amount))
            for one in draft.discounts
            if not one.on_lines
        ],
        "taxes": [_printed_tax(tax, texts) for tax in draft.taxes],
        "total": texts.amount(draft.total),
        "after_total": _after_total(invoice, due, texts),
        "terms_title": texts.say("payment_terms"),
        "terms": _terms(invoice, texts),
    }


def printed_note(note: CreditNote) -> dict[str, Any]:
    """The data of the template for a credit note, which has the same parts."""
    draft, zone = note.draft, note.customer.time_zone
    texts = texts_of(note.customer.language, note.seller.language)
    parts = [
        ("offset", note.amount_offset),
        ("to_balance", note.balance_given),
        ("refunded", note.refund_amount),
        ("out_of_band", note.out_of_band),
    ]
    reason = texts.say(note.reason.value)
    return {
        **_frame(texts, note.seller, note.customer, draft.total),
        "title": texts.say("credit_note"),
        "number": note.number,
        "facts": [
            (texts.say("date"), texts.day(note.issue_time, zone)),
            (texts.say("of_invoice"), note.invoice_number),
            (texts.say("customer"), note.customer.customer_id),
        ],
        "headline": (texts.say("amount_credited"), texts.amount(draft.total)),
        "lines": [
            {
                "description": texts.line_name(line.description),
                "service": "",
                "quantity": "",
                "unit_price": "",
                "amount": texts.amount(line.amount),
                "details": [],
            }
            for line in draft.lines
        ],
        "appendix": [],
        "has_prepaid": False,
        "prepaid": [],
        "subtotal": texts.amount(draft.subtotal),
        "discounts": [],
        "taxes": [_printed_tax(one.tax, texts) for one in draft.taxes],
        "total": texts.amount(draft.total),
        "after_total": [
            (texts.say(word), texts.amount(amount), False) for word, amount in parts if amount.atoms
        ],
        "terms_title": texts.say("reason"),
        "terms": f"{reason}: {note.memo}" if note.memo else reason + texts.say("stop"),
    }


def _frame(texts: Texts, seller: Seller, customer: Customer, total: Amount) -> dict[str, Any]:
    """What every document has: who, in which language and look."""
    return {
        "language": texts.language,
        "words": dict(texts.words),
        "currency": total.asset.code,
        "accent": seller.brand_color or ACCENT,
        "seller": {
            "name": seller.name,
            "address": _address(seller.address, seller.postal_code, seller.city, seller.country),
            "tax_id": texts.say("tax_id", id=seller.tax_id) if seller.tax_id else "",
            "email": seller.email,
        },
        "buyer": {
            "name": customer.name,
            "id": customer.customer_id,
            "address": _address(
                customer.address, customer.postal_code, customer.city, customer.country
            ),
            "tax_id": texts.say("tax_id", id=customer.tax_id) if customer.tax_id else "",
            "email": customer.email,
        },
    }


def _address(lines: Sequence[str], postal_code: str, city: str, country: str) -> list[str]:
    town = f"{postal_code} {city}".strip()
    return [*lines, *([town] if town else []), *([country] if country else [])]


def _after_total(invoice: Invoice, due: Amount, texts: Texts) -> list[tuple[str, str, bool]]:
    """What follows the total: label, figure, and whether it is printed like a total."""
    found = []
    if invoice.balance_applied.atoms:
        found += [
            (texts.say("from_balance"), texts.amount(-invoice.balance_applied), False),
            (texts.say("amount_due"), texts.amount(due), True),
        ]
    given = invoice.draft.balance_given
    if given.atoms:
        found.append((texts.say("to_balance"), texts.amount(given), False))
    return found


def printed_period(period: Period | None, zone: str, texts: Texts = TEXTS["en"]) -> str:
    """First and last day of a half-open period: "1 – 31 March 2026"."""
    if period is None:
        return ""
    last = period.end - timedelta(microseconds=1)
    first_day, last_day = texts.day(period.start, zone), texts.day(last, zone)
    if first_day == last_day:
        return first_day
    # What both days share is said once: "1 – 31 March 2026", "15 March – 14 April 2026".
    parts, others = first_day.split(" "), last_day.split(" ")
    while parts and parts[-1] == others[-1]:
        parts.pop()
        others.pop()
    return f"{' '.join(parts)} – {last_day}"


def _printed_line(line: Line, zone: str, texts: Texts) -> dict[str, Any]:
    single = _single_price(line)
    inline = not single and not _goes_to_appendix(line)
    return {
        "description": texts.line_name(line.description),
        "service": " · ".join(
            part for part in (line.customer_id, printed_period(line.service, zone, texts)) if part
        ),
        "quantity": "" if line.kind is LineKind.MINIMUM else texts.number(shortened(line.quantity)),
        "unit_price": _quoted(single, texts) if single else "",
        "cost": texts.amount(line.cost),
        "asset": line.cost.asset.code,
        "wallet": texts.amount(-line.wallet) if line.wallet.atoms else "",
        "amount": texts.amount(line.amount),
        "details": [_printed_detail(one, texts) for one in line.details] if inline else [],
        "elsewhere": texts.say("see_details") if _goes_to_appendix(line) else "",
    }


def _goes_to_appendix(line: Line) -> bool:
    return len(line.details) > INLINE_PARTS_MAX


def _appendix(line: Line, zone: str, texts: Texts) -> dict[str, Any]:
    """The parts of a line that has too many for the page it is on."""
    return {
        "description": texts.line_name(line.description),
        "service": printed_period(line.service, zone, texts),
        "cost": texts.amount(line.cost),
        "asset": line.cost.asset.code,
        "details": [_printed_detail(one, texts) for one in line.details],
    }


def _single_price(line: Line) -> Detail | None:
    """The only part of a line, where its quantity and price say all there is to say."""
    if len(line.details) != 1 or line.kind is LineKind.DEDUCTION:
        return None
    detail = line.details[0]
    return detail if detail.unit_price and detail.quantity == line.quantity else None


def _printed_detail(detail: Detail, texts: Texts) -> dict[str, str]:
    return {
        "description": texts.part_name(detail.description),
        "quantity": texts.number(shortened(detail.quantity)),
        "unit_price": _quoted(detail, texts),
        "cost": texts.unit_price(detail.cost),
    }


def _quoted(detail: Detail, texts: Texts) -> str:
    """A price as it is quoted: "0.50 per 1,000,000"."""
    if not detail.quoted_per or not detail.unit_price:
        return texts.unit_price(detail.unit_price)
    quoted = number_text(Fraction(detail.unit_price) * Fraction(detail.quoted_per))
    return texts.say("per", price=texts.unit_price(quoted), number=texts.number(detail.quoted_per))


def _printed_drawdown(lines: Iterable[Line], texts: Texts) -> list[dict[str, str]]:
    """What wallets paid, one sum for each asset."""
    sums: dict[str, Amount] = {}
    for line in lines:
        code = line.wallet.asset.code
        sums[code] = sums[code] + line.wallet if code in sums else line.wallet
    return [{"asset": code, "amount": texts.amount(amount)} for code, amount in sums.items()]


def _printed_tax(tax: Tax, texts: Texts) -> dict[str, str]:
    name = f"{tax.name} {texts.percent(tax.rate)}"
    taxable = texts.amount(tax.taxable)
    if tax.prepaid:
        says = texts.say("tax_prepaid", tax=name)
    elif tax.included:
        says = texts.say("tax_in", tax=name)
    else:
        says = texts.say("tax_on", tax=name, amount=taxable)
    # Words that law wants are said in the document's language; what a table states, as it stands.
    reasons = {REVERSE_CHARGE: "reverse_charge", EXPORT: "export"}
    reason = texts.say(reasons[tax.reason]) if tax.reason in reasons else tax.reason
    return {
        "says": says,
        "description": name,
        "category": tax.category,
        "rate": texts.percent(tax.rate),
        "taxable": taxable,
        "amount": texts.amount(tax.amount),
        "reason": reason,
    }


def _terms(invoice: Invoice, texts: Texts) -> str:
    """How it is to be paid. What has been paid meanwhile is not on the document."""
    due = invoice.draft.total - invoice.balance_applied
    if not due.atoms:
        return texts.say("nothing_due")
    days = (invoice.due_time - invoice.issue_time) // timedelta(days=1)
    when = texts.say("payable", days=str(days)) if days else texts.say("payable_now")
    said = [when, texts.say("how_paid", number=invoice.number)]
    seller = invoice.seller
    if seller.iban:
        said.append(texts.say("bank_transfer", name=seller.name, iban=seller.iban))
        said[-1] += texts.say("stop")
    return " ".join(said)
