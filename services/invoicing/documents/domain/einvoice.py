"""An issued document in the terms of EN 16931, each of which has a number there (BT-, BG-).

A line states one of itself at its net amount where its quantity and price do not multiply to it
exactly: what was used, and how its price came about, is then said in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from invoicing.credits.domain import CreditNote
from invoicing.customers.domain import Customer
from invoicing.invoices.domain.document import Invoice
from invoicing.invoices.domain.line import Line
from invoicing.sellers.domain import Seller
from invoicing.taxes.domain.figures import Share, Tax, spread
from invoicing.taxes.domain.rates import Treatment
from invoicing.taxes.domain.tax_ids import is_eu_vat
from kernel.errors import Kind, Refusal
from kernel.money import Amount, format_decimal, parse_decimal
from kernel.period import Period, parse_zone

COMMERCIAL_INVOICE, CREDIT_NOTE = "380", "381"
PIECE = "C62"  # of UN/ECE recommendation 20: one of something
TRANSFER, UNDEFINED = "58", "1"  # means of payment of UNTDID 4461
MAIL = "EM"  # of the list of electronic address schemes: an e-mail address
PRICE_DIGITS_MAX = 4


class Format(Enum):
    """Kinds of file that a document is given as."""

    PDF = "PDF"
    FACTUR_X = "FACTUR_X"
    CII = "CII"
    UBL = "UBL"
    XRECHNUNG = "XRECHNUNG"


class NoElectronicInvoice(Refusal):
    """What the document says has no place in EN 16931, or what that wants is missing."""

    reason = "NO_ELECTRONIC_INVOICE"
    kind = Kind.PRECONDITION

    def __init__(self, file_format: Format, why: str) -> None:
        super().__init__(
            f"no {file_format.value} of it can be made: {why}", format=file_format.value, why=why
        )


@dataclass(frozen=True, slots=True)
class _Vat:
    """The tax on a line as EN 16931 knows it."""

    category: str
    rate: Decimal
    reason: str = ""
    reason_code: str = ""


NOT_SUBJECT = _Vat("O", Decimal(0), "Not subject to tax", "VATEX-EU-O")
_CATEGORIES = {
    Treatment.STANDARD: ("S", ""),
    Treatment.ZERO: ("Z", ""),
    Treatment.EXEMPT: ("E", ""),
    Treatment.REVERSE_CHARGE: ("AE", "VATEX-EU-AE"),
    Treatment.EXPORT: ("G", "VATEX-EU-G"),
}


@dataclass(frozen=True, slots=True)
class _Item:
    """A line: what it is, net of its taxes."""

    name: str
    note: str
    quantity: str
    unit_price: str
    service: Period | None
    net: Amount
    vat: _Vat


def terms_of_invoice(invoice: Invoice, file_format: Format) -> dict[str, Any]:
    """The terms of an invoice. Raises NoElectronicInvoice."""
    draft, seller, buyer = invoice.draft, invoice.seller, invoice.draft.customer
    _check_parties(seller, buyer, file_format)
    items = [_item(line, draft.taxes, file_format) for line in draft.lines if line.net.atoms]
    items += [_drawn(tax, file_format) for tax in draft.taxes if tax.prepaid]
    total = draft.total - draft.balance_given
    drawn = sum(
        (tax.taxable + tax.amount).atoms for tax in draft.taxes if tax.prepaid and tax.included
    )
    whole = total + Amount(total.asset, drawn)
    due = draft.total - invoice.balance_applied
    terms = _terms(
        COMMERCIAL_INVOICE,
        invoice.number,
        invoice.issue_time,
        seller,
        buyer,
        items,
        whole,
        whole - due,
        due,
        file_format,
    )
    terms["BT-9"] = _local(invoice.due_time, buyer)
    terms["BT-20"] = f"Due {_local(invoice.due_time, buyer).isoformat()}"
    if draft.period is not None:
        terms.update(_period(draft.period, buyer, "BT-73", "BT-74"))
        # What is delivered over a period is delivered by its end.
        terms["BT-72"] = terms["BT-74"]
    return terms


def terms_of_note(note: CreditNote, invoice: Invoice, file_format: Format) -> dict[str, Any]:
    """The terms of a credit note, which names its invoice. Raises NoElectronicInvoice."""
    draft, seller, buyer = note.draft, note.seller, note.customer
    _check_parties(seller, buyer, file_format)
    items = []
    shares = _shares_of_note(note, invoice)
    taxes = {one.position: one.tax for one in draft.taxes}
    for credited, own in zip(draft.lines, shares, strict=True):
        vat = _vat([taxes[share.position] for share in own], file_format)
        held = sum(share.atoms for share in own if taxes[share.position].included)
        net = credited.amount - Amount(credited.amount.asset, held)
        items.append(_Item(credited.description, "", "", "", None, net, vat))
    zero = draft.total.asset.zero()
    terms = _terms(
        CREDIT_NOTE,
        note.number,
        note.issue_time,
        seller,
        buyer,
        items,
        draft.total,
        zero,
        draft.total,
        file_format,
    )
    terms["BG-3"] = [{"BT-25": note.invoice_number, "BT-26": _local(invoice.issue_time, buyer)}]
    terms["BT-20"] = "Settled with the credit note"
    if note.memo:
        terms["BG-1"] = [{"BT-22": note.memo}]
    return terms


def _shares_of_note(note: CreditNote, invoice: Invoice) -> list[tuple[Share, ...]]:
    """Each credited line's shares of the taxes taken back, summing to them exactly."""
    found: list[list[Share]] = [[] for _ in note.draft.lines]
    for one in note.draft.taxes:
        on = [
            index
            for index, line in enumerate(note.draft.lines)
            if any(
                share.position == one.position for share in invoice.draft.lines[line.position].taxes
            )
        ]
        amounts = [note.draft.lines[index].amount.atoms for index in on]
        for index, atoms in zip(on, spread(one.tax.amount.atoms, amounts), strict=True):
            found[index].append(Share(one.position, atoms))
    return [tuple(shares) for shares in found]


def _item(line: Line, taxes: Sequence[Tax], file_format: Format) -> _Item:
    own = [taxes[share.position] for share in line.taxes]
    held = sum(share.atoms for share in line.taxes if taxes[share.position].included)
    net = line.net - Amount(line.net.asset, held)
    quantity, unit_price = _multiplied(line, net)
    notes = [
        " ".join(part for part in (one.description, one.quantity, one.unit_price) if part)
        for one in line.details
    ]
    if line.discount.atoms:
        notes.append(f"less {line.discount.value} of discounts")
    return _Item(
        name=line.description,
        note="; ".join(notes) if not unit_price else "",
        quantity=quantity,
        unit_price=unit_price,
        service=line.service,
        net=net,
        vat=_vat(own, file_format),
    )


def _multiplied(line: Line, net: Amount) -> tuple[str, str]:
    """Quantity and price where they say all there is to say, else nothing."""
    if len(line.details) != 1 or line.tax_included or line.discount.atoms or line.wallet.atoms:
        return "", ""
    price, quantity = line.details[0].unit_price, line.details[0].quantity
    if "/" in price + quantity or not price or quantity != line.quantity:
        return "", ""
    digits = len(price.partition(".")[2])
    product = parse_decimal(price, "price", signed=True) * parse_decimal(
        quantity, "quantity", signed=True
    )
    exact = product == Decimal(net.atoms).scaleb(-net.asset.scale)
    if digits > PRICE_DIGITS_MAX or not exact or price.startswith("-"):
        return "", ""
    return quantity, price


def _drawn(tax: Tax, file_format: Format) -> _Item:
    """What wallets paid and is taxed as it is used; it is on the document as paid already."""
    return _Item(
        "Prepaid usage", "paid as it was used", "", "", None, tax.taxable, _vat([tax], file_format)
    )


def _vat(taxes: Sequence[Tax], file_format: Format) -> _Vat:
    if not taxes:
        return NOT_SUBJECT
    if len(taxes) > 1:
        raise NoElectronicInvoice(file_format, "a line has several taxes, EN 16931 knows one")
    (tax,) = taxes
    category, code = _CATEGORIES[tax.treatment]
    if category == "S" and not tax.rate:
        category = "Z"
    return _Vat(category, tax.rate, tax.reason or ("Exempt" if category == "E" else ""), code)


def _terms(
    kind: str,
    number: str,
    issue_time: datetime,
    seller: Seller,
    buyer: Customer,
    items: Sequence[_Item],
    whole: Amount,
    paid: Amount,
    due: Amount,
    file_format: Format,
) -> dict[str, Any]:
    if not items:
        raise NoElectronicInvoice(file_format, "it has no line that asks for anything")
    vats = list(dict.fromkeys(item.vat for item in items))
    if NOT_SUBJECT in vats and len(vats) > 1:
        # Beside taxed lines EN 16931 has no "not subject": those are exempt.
        exempt = _Vat("E", Decimal(0), NOT_SUBJECT.reason)
        items = [
            _Item(
                item.name, item.note, item.quantity, item.unit_price, item.service, item.net, exempt
            )
            if item.vat == NOT_SUBJECT
            else item
            for item in items
        ]
        vats = list(dict.fromkeys(item.vat for item in items))
    plain = vats == [NOT_SUBJECT]
    net = Amount(whole.asset, sum(item.net.atoms for item in items))
    breakdown, vat_total = _breakdown(items, whole - net, vats)
    terms: dict[str, Any] = {
        "BT-1": number,
        "BT-2": _local(issue_time, buyer),
        "BT-3": kind,
        "BT-5": whole.asset.code,
        "BT-72": _local(issue_time, buyer),
        "BT-10": buyer.buyer_reference or buyer.customer_id,
        "BT-81": TRANSFER if seller.iban else UNDEFINED,
        "BG-4": _seller(seller, plain=plain),
        "BG-7": _buyer(buyer, plain=plain),
        "BG-23": breakdown,
        "BG-25": [_line(index, item, buyer) for index, item in enumerate(items, start=1)],
        "BT-106": _money(net),
        "BT-109": _money(net),
        "BT-110": _money(vat_total),
        "BT-112": _money(whole),
        "BT-113": _money(paid),
        "BT-115": _money(due),
    }
    if seller.iban:
        terms["BT-84"] = seller.iban
        terms["BT-85"] = seller.name
        if seller.bic:
            terms["BT-86"] = seller.bic
    return terms


def _breakdown(
    items: Sequence[_Item], vat_total: Amount, vats: Sequence[_Vat]
) -> tuple[list[dict[str, str]], Amount]:
    """Tax by category and rate. What the document's taxes come to is kept: a cent of rounding
    between taxes of one rate goes to the largest of them."""
    asset = vat_total.asset
    bases = {vat: sum(item.net.atoms for item in items if item.vat == vat) for vat in vats}
    merged: dict[tuple[str, Decimal], list[_Vat]] = {}
    for vat in vats:
        merged.setdefault((vat.category, vat.rate), []).append(vat)
    found = []
    taxes: dict[tuple[str, Decimal], int] = {}
    for key, same in merged.items():
        base = sum(bases[vat] for vat in same)
        exact = Decimal(base) * key[1]
        taxes[key] = int(exact.to_integral_value(rounding="ROUND_HALF_UP"))
    off = vat_total.atoms - sum(taxes.values())
    if off:
        largest = max(taxes, key=lambda key: (key[1], abs(taxes[key])))
        taxes[largest] += off
    for key, same in merged.items():
        category, rate = key
        entry = {
            "BT-116": _money(Amount(asset, sum(bases[vat] for vat in same))),
            "BT-117": _money(Amount(asset, taxes[key])),
            "BT-118": category,
        }
        if category != "O":
            entry["BT-119"] = _percent(rate)
        reasons = list(dict.fromkeys(vat.reason for vat in same if vat.reason))
        if category not in ("S", "Z"):
            entry["BT-120"] = "; ".join(reasons)
            codes = [vat.reason_code for vat in same if vat.reason_code]
            if codes:
                entry["BT-121"] = codes[0]
        found.append(entry)
    return found, vat_total


def _line(index: int, item: _Item, buyer: Customer) -> dict[str, Any]:
    sign = "-" if item.net.atoms < 0 else ""
    line: dict[str, Any] = {
        "BT-126": str(index),
        "BT-129": item.quantity or f"{sign}1",
        "BT-130": PIECE,
        "BT-131": _money(item.net),
        "BT-146": item.unit_price or _money(Amount(item.net.asset, abs(item.net.atoms))),
        "BT-151": item.vat.category,
        "BT-153": item.name,
    }
    if item.vat.category != "O":
        line["BT-152"] = _percent(item.vat.rate)
    if item.note:
        line["BT-154"] = item.note
    if item.service is not None:
        line.update(_period(item.service, buyer, "BT-134", "BT-135"))
    return line


def _check_parties(seller: Seller, buyer: Customer, file_format: Format) -> None:
    """What EN 16931, and XRechnung beyond it, want of who sells and who buys."""
    needed = {
        "the seller's name": seller.name,
        "the seller's country": seller.country,
        "the seller's tax id": seller.tax_id,
    }
    if file_format is Format.XRECHNUNG:
        needed |= {
            "the seller's city": seller.city,
            "the seller's postal code": seller.postal_code,
            "the seller's contact name": seller.contact_name,
            "the seller's phone": seller.phone,
            "the seller's email": seller.email,
            "the customer's city": buyer.city,
            "the customer's postal code": buyer.postal_code,
            "the customer's email": buyer.email,
            "the customer's buyer reference": buyer.buyer_reference,
        }
    missing = [what for what, value in needed.items() if not value]
    if missing:
        raise NoElectronicInvoice(file_format, f"{', '.join(missing)} must be stated")


def _seller(seller: Seller, *, plain: bool) -> dict[str, Any]:
    party = _party(seller.name, seller.address, seller.city, seller.postal_code, seller.country)
    is_vat = is_eu_vat(seller.tax_id, seller.country) or seller.tax_id[:2] == seller.country
    if is_vat and not plain:
        party["vat_identifier"] = seller.tax_id
    else:
        party["tax_identifier"] = seller.tax_id
        # A tax registration alone does not tell who it is; a legal identifier does.
        party["legal_identifier"] = seller.tax_id
    if seller.email:
        party["einvoicing_addr"], party["einvoicing_addr_schemeid"] = seller.email, MAIL
    if seller.contact_name:
        contact = {"name": seller.contact_name, "phone": seller.phone, "email": seller.email}
        party["contacts"] = [{name: value for name, value in contact.items() if value}]
    return party


def _buyer(buyer: Customer, *, plain: bool) -> dict[str, Any]:
    party = _party(buyer.name, buyer.address, buyer.city, buyer.postal_code, buyer.country)
    if buyer.tax_id[:2].isalpha() and not plain:
        party["vat_identifier"] = buyer.tax_id
    if buyer.email:
        party["einvoicing_addr"], party["einvoicing_addr_schemeid"] = buyer.email, MAIL
    return party


def _party(
    name: str, address: Iterable[str], city: str, postal_code: str, country: str
) -> dict[str, Any]:
    party: dict[str, Any] = {"name": name, "country_code": country}
    lines = [line for line in address if line]
    for field, line in zip(("addr_l1", "addr_l2", "addr_l3"), lines, strict=False):
        party[field] = line
    if city:
        party["city"] = city
    if postal_code:
        party["postcode"] = postal_code
    return party


def _period(period: Period, buyer: Customer, start: str, end: str) -> dict[str, date]:
    last = period.end - timedelta(microseconds=1)
    return {start: _local(period.start, buyer), end: _local(last, buyer)}


def _local(instant: datetime, buyer: Customer) -> date:
    return instant.astimezone(parse_zone(buyer.time_zone)).date()


def _money(amount: Amount) -> str:
    value = Decimal(amount.atoms).scaleb(-amount.asset.scale)
    return f"{value:.{amount.asset.scale}f}"


def _percent(rate: Decimal) -> str:
    return format_decimal(rate * 100)
