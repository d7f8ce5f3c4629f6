"""Tax rates, tax ids and exemptions as messages."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from chassis.wire import find_time, parse_text, render_time
from invoicing.customers.wire import (
    TAX_ID_KINDS,
    TAX_ID_MAX,
    parse_country,
    parse_customer_id,
    parse_region,
)
from invoicing.taxes.domain.rates import ALWAYS, Exemption, PrepaidTiming, TaxRate, Treatment
from invoicing.taxes.domain.tax_ids import TaxIdKind
from invoicing.wire import parse_code
from kernel.currency import currency
from kernel.errors import InvalidValue
from kernel.ids import new_id
from kernel.money import format_decimal, parse_decimal
from tollgate.invoicing.v1 import invoice_pb2 as pb
from tollgate.invoicing.v1 import tax_pb2

NAME_MAX = 50
REASON_MAX = 200
CERTIFICATE_MAX = 100

TREATMENTS = {
    Treatment.STANDARD: tax_pb2.TAX_TREATMENT_STANDARD,
    Treatment.ZERO: tax_pb2.TAX_TREATMENT_ZERO,
    Treatment.EXEMPT: tax_pb2.TAX_TREATMENT_EXEMPT,
    Treatment.REVERSE_CHARGE: tax_pb2.TAX_TREATMENT_REVERSE_CHARGE,
    Treatment.EXPORT: tax_pb2.TAX_TREATMENT_EXPORT,
}
# What a table states; the others follow from who buys.
_STATED = (Treatment.STANDARD, Treatment.ZERO, Treatment.EXEMPT)
TIMINGS = {
    PrepaidTiming.AT_PURCHASE: tax_pb2.PREPAID_TAX_TIMING_AT_PURCHASE,
    PrepaidTiming.AT_REDEMPTION: tax_pb2.PREPAID_TAX_TIMING_AT_REDEMPTION,
}


def parse_tax_rate(message: pb.TaxRate) -> TaxRate:
    rate = parse_decimal(message.rate, "tax_rate.rate")
    if rate > Decimal(1):
        raise InvalidValue("tax_rate.rate", f'{message.rate} is above 1; "0.2" is twenty percent')
    component = message.component
    return TaxRate(
        country=parse_country(message.country, "tax_rate.country"),
        category=parse_code(message.category or "standard", "tax_rate.category"),
        name=parse_text(message.name, "tax_rate.name", maximum=NAME_MAX),
        rate=rate,
        start_time=find_time(message, "start_time") or ALWAYS,
        region=parse_region(message.region, "tax_rate.region"),
        component=parse_code(component, "tax_rate.component") if component else "",
        treatment=_parse_treatment(message, rate),
        compound=message.compound,
        reason=parse_text(message.reason, "tax_rate.reason", minimum=0, maximum=REASON_MAX),
    )


def _parse_treatment(message: pb.TaxRate, rate: Decimal) -> Treatment:
    if message.treatment == tax_pb2.TAX_TREATMENT_UNSPECIFIED:
        return Treatment.STANDARD if rate else Treatment.ZERO
    for treatment in _STATED:
        if TREATMENTS[treatment] == message.treatment:
            if treatment is not Treatment.STANDARD and rate:
                raise InvalidValue("tax_rate.treatment", f"{treatment.value} has the rate 0")
            return treatment
    raise InvalidValue("tax_rate.treatment", "is standard, zero or exempt in a table")


def render_tax_rate(rate: TaxRate) -> pb.TaxRate:
    message = pb.TaxRate(
        country=rate.country,
        category=rate.category,
        name=rate.name,
        rate=format_decimal(rate.rate),
        region=rate.region,
        component=rate.component,
        treatment=TREATMENTS[rate.treatment],
        compound=rate.compound,
        reason=rate.reason,
    )
    if rate.start_time != ALWAYS:
        message.start_time.CopyFrom(render_time(rate.start_time))
    return message


def parse_tax_id(request: tax_pb2.CheckTaxIdRequest) -> tuple[str, TaxIdKind]:
    """A text and the kind of tax id that it should be."""
    text = parse_text(request.tax_id, "tax_id", maximum=TAX_ID_MAX)
    kind = TAX_ID_KINDS.get(request.tax_id_type)
    if kind is None:
        raise InvalidValue("tax_id_type", "names the kind that is to be checked")
    return text, kind


def parse_exemption(message: tax_pb2.TaxExemption, now: datetime) -> Exemption:
    start = find_time(message, "start_time") or ALWAYS
    end = find_time(message, "end_time")
    if end is not None and end <= start:
        raise InvalidValue("exemption.end_time", "is not after the start")
    country, category = message.country, message.category
    return Exemption(
        exemption_id=new_id(now),
        customer_id=parse_customer_id(message.customer_id, "exemption.customer_id"),
        country=parse_country(country, "exemption.country") if country else "",
        category=parse_code(category, "exemption.category") if category else "",
        reason=parse_text(message.reason, "exemption.reason", maximum=REASON_MAX),
        certificate=parse_text(
            message.certificate, "exemption.certificate", minimum=0, maximum=CERTIFICATE_MAX
        ),
        start_time=start,
        end_time=end,
    )


def render_exemption(exemption: Exemption) -> tax_pb2.TaxExemption:
    message = tax_pb2.TaxExemption(
        exemption_id=str(exemption.exemption_id),
        customer_id=exemption.customer_id,
        country=exemption.country,
        category=exemption.category,
        reason=exemption.reason,
        certificate=exemption.certificate,
    )
    if exemption.start_time != ALWAYS:
        message.start_time.CopyFrom(render_time(exemption.start_time))
    if exemption.end_time is not None:
        message.end_time.CopyFrom(render_time(exemption.end_time))
    return message


def parse_prepaid_tax(message: tax_pb2.PrepaidTax) -> tuple[str, PrepaidTiming]:
    """An asset and when it is taxed. Only currencies: what a unit was worth when it was used is
    the wallet's to know."""
    asset = currency(message.asset, "prepaid_tax.asset").code
    for timing, value in TIMINGS.items():
        if value == message.timing:
            return asset, timing
    raise InvalidValue("prepaid_tax.timing", "is at purchase or at redemption")


def render_prepaid_tax(asset: str, timing: PrepaidTiming) -> tax_pb2.PrepaidTax:
    return tax_pb2.PrepaidTax(asset=asset, timing=TIMINGS[timing])
