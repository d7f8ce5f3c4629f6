"""Tax rates as messages."""

from __future__ import annotations

from decimal import Decimal

from chassis.wire import find_time, parse_text, render_time
from invoicing.customers.wire import parse_country
from invoicing.taxes.domain import ALWAYS, TaxRate
from invoicing.wire import parse_code
from kernel.errors import InvalidValue
from kernel.money import format_decimal, parse_decimal
from tollgate.invoicing.v1 import invoice_pb2 as pb

NAME_MAX = 50


def parse_tax_rate(message: pb.TaxRate) -> TaxRate:
    rate = parse_decimal(message.rate, "tax_rate.rate")
    if rate > Decimal(1):
        raise InvalidValue("tax_rate.rate", f'{message.rate} is above 1; "0.2" is twenty percent')
    return TaxRate(
        country=parse_country(message.country, "tax_rate.country"),
        category=parse_code(message.category or "standard", "tax_rate.category"),
        name=parse_text(message.name, "tax_rate.name", maximum=NAME_MAX),
        rate=rate,
        start_time=find_time(message, "start_time") or ALWAYS,
    )


def render_tax_rate(rate: TaxRate) -> pb.TaxRate:
    message = pb.TaxRate(
        country=rate.country,
        category=rate.category,
        name=rate.name,
        rate=format_decimal(rate.rate),
    )
    if rate.start_time != ALWAYS:
        message.start_time.CopyFrom(render_time(rate.start_time))
    return message
