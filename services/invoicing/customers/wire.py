"""Customers as messages."""

from __future__ import annotations

from datetime import datetime

from chassis.wire import parse_text, render_time
from invoicing.customers.domain import Customer
from kernel.currency import currency
from kernel.errors import InvalidValue
from kernel.period import parse_zone
from tollgate.invoicing.v1 import customer_pb2

CUSTOMER_ID = r"[A-Za-z0-9_.:-]+"
CUSTOMER_ID_MAX = 128
ADDRESS_LINES_MAX = 6
TAX_ID_MAX = 50


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


def parse_customer(message: customer_pb2.Customer, now: datetime) -> Customer:
    time_zone = message.time_zone or "UTC"
    parse_zone(time_zone, "customer.time_zone")
    return Customer(
        customer_id=parse_customer_id(message.customer_id, "customer.customer_id"),
        name=parse_text(message.name, "customer.name"),
        email=parse_text(message.email, "customer.email", minimum=0),
        address=parse_address(list(message.address), "customer.address"),
        country=parse_country(message.country, "customer.country"),
        tax_id=parse_text(message.tax_id, "customer.tax_id", minimum=0, maximum=TAX_ID_MAX),
        time_zone=time_zone,
        currency=currency(message.currency, "customer.currency").code,
        suspended=False,
        create_time=now,
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
    )
