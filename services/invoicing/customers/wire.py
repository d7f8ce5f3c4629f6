"""Customers as messages."""

from __future__ import annotations

from datetime import datetime

from chassis.wire import parse_text, render_time
from invoicing.customers.domain import Customer
from invoicing.documents.domain.texts import LANGUAGES
from invoicing.taxes.domain.tax_ids import TaxIdKind, check_tax_id
from kernel.currency import currency
from kernel.errors import InvalidValue
from kernel.money import Amount, Asset, parse_atoms
from kernel.period import parse_zone
from tollgate.invoicing.v1 import customer_pb2, tax_pb2

CUSTOMER_ID = r"[A-Za-z0-9_.:-]+"
CUSTOMER_ID_MAX = 128
ADDRESS_LINES_MAX = 6
TAX_ID_MAX = 50
REGION_MAX = 10
POSTAL_CODE_MAX = 20
BUYER_REFERENCE_MAX = 100

TAX_ID_KINDS = {tax_pb2.TaxIdType.Value(f"TAX_ID_TYPE_{kind.value}"): kind for kind in TaxIdKind}
TAX_ID_TYPES = {kind.value: number for number, kind in TAX_ID_KINDS.items()}


def parse_customer_id(text: str, field: str = "customer_id") -> str:
    return parse_text(text, field, maximum=CUSTOMER_ID_MAX, pattern=CUSTOMER_ID)


def parse_address(lines: list[str], field: str) -> tuple[str, ...]:
    if len(lines) > ADDRESS_LINES_MAX:
        raise InvalidValue(field, f"{len(lines)} lines; takes at most {ADDRESS_LINES_MAX}")
    return tuple(
        parse_text(line, f"{field}[{index}]", minimum=0) for index, line in enumerate(lines)
    )


def parse_country(text: str, field: str) -> str:
    return parse_text(text, field, minimum=2, maximum=2, pattern="[A-Z]{2}")


def parse_region(text: str, field: str) -> str:
    return parse_text(text, field, minimum=0, maximum=REGION_MAX, pattern="[A-Z0-9-]*")


def parse_language(text: str, field: str) -> str:
    if text and text not in LANGUAGES:
        raise InvalidValue(field, f"{text!r} is none of {', '.join(LANGUAGES)}")
    return text


def parse_checked_tax_id(
    text: str, kind: tax_pb2.TaxIdType.ValueType, field: str
) -> tuple[str, str]:
    """A tax id and its kind, checked where the kind is stated. Raises TaxIdInvalid."""
    plain = parse_text(text, field, minimum=0, maximum=TAX_ID_MAX)
    found = TAX_ID_KINDS.get(kind)
    return check_tax_id(plain, found, field), found.value if found else ""


def _parse_threshold(text: str, money: Asset) -> int | None:
    if not text:
        return None
    field = "customer.billing_threshold"
    atoms = parse_atoms(text, money.scale, field)
    if not atoms:
        raise InvalidValue(field, "is above zero")
    return atoms


def parse_customer(message: customer_pb2.Customer, now: datetime) -> Customer:
    time_zone = message.time_zone or "UTC"
    parse_zone(time_zone, "customer.time_zone")
    tax_id, tax_id_type = parse_checked_tax_id(
        message.tax_id, message.tax_id_type, "customer.tax_id"
    )
    payer = message.payer_customer_id
    money = currency(message.currency, "customer.currency")
    return Customer(
        customer_id=parse_customer_id(message.customer_id, "customer.customer_id"),
        name=parse_text(message.name, "customer.name"),
        email=parse_text(message.email, "customer.email", minimum=0),
        address=parse_address(list(message.address), "customer.address"),
        country=parse_country(message.country, "customer.country"),
        tax_id=tax_id,
        time_zone=time_zone,
        currency=currency(message.currency, "customer.currency").code,
        suspended=False,
        create_time=now,
        region=parse_region(message.region, "customer.region"),
        tax_id_type=tax_id_type,
        language=parse_language(message.language, "customer.language"),
        city=parse_text(message.city, "customer.city", minimum=0),
        postal_code=parse_text(
            message.postal_code, "customer.postal_code", minimum=0, maximum=POSTAL_CODE_MAX
        ),
        buyer_reference=parse_text(
            message.buyer_reference,
            "customer.buyer_reference",
            minimum=0,
            maximum=BUYER_REFERENCE_MAX,
        ),
        payer_customer_id=parse_customer_id(payer, "customer.payer_customer_id") if payer else "",
        billing_threshold=_parse_threshold(message.billing_threshold, money),
    )


def render_customer(customer: Customer) -> customer_pb2.Customer:
    return customer_pb2.Customer(
        customer_id=customer.customer_id,
        name=customer.name,
        email=customer.email,
        address=customer.address,
        country=customer.country,
        tax_id=customer.tax_id,
        time_zone=customer.time_zone,
        currency=customer.currency,
        suspended=customer.suspended,
        create_time=render_time(customer.create_time),
        region=customer.region,
        tax_id_type=TAX_ID_TYPES.get(customer.tax_id_type, tax_pb2.TAX_ID_TYPE_UNSPECIFIED),
        language=customer.language,
        city=customer.city,
        postal_code=customer.postal_code,
        buyer_reference=customer.buyer_reference,
        payer_customer_id=customer.payer_customer_id,
        billing_threshold=(
            Amount(currency(customer.currency), customer.billing_threshold).value
            if customer.billing_threshold
            else ""
        ),
    )
