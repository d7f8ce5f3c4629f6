"""Invoices as messages, and the usage that metering tells of."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from chassis.wire import parse_text, parse_time, render_time
from invoicing.catalog.wire import document_of, render_pricing
from invoicing.collection.domain import DunningState
from invoicing.invoices.domain.charge import Charge
from invoicing.invoices.domain.document import Draft, InvoiceKind, InvoiceState
from invoicing.invoices.domain.line import Consumption, Line, LineKind
from invoicing.invoices.domain.one_off import StatedLine
from invoicing.invoices.store import StoredInvoice
from invoicing.taxes.domain.figures import Tax
from invoicing.taxes.wire import TREATMENTS
from invoicing.wire import parse_code
from kernel.errors import InvalidValue
from kernel.money import Amount, Asset, format_decimal, parse_decimal
from kernel.period import Period
from rating.fields import Fields
from rating.request import parse_usage
from tollgate.invoicing.v1 import invoice_pb2 as pb
from tollgate.metering.v1 import usage_pb2
from tollgate.type.v1 import amount_pb2

STATED_COUPONS_MAX = 10
STATED_LINES_MAX = 200  # as many as prices of a plan

KINDS = {
    InvoiceKind.SUBSCRIPTION: pb.INVOICE_KIND_SUBSCRIPTION,
    InvoiceKind.TOP_UP: pb.INVOICE_KIND_TOP_UP,
    InvoiceKind.ONE_OFF: pb.INVOICE_KIND_ONE_OFF,
    InvoiceKind.PROGRESSIVE: pb.INVOICE_KIND_PROGRESSIVE,
}
STATES = {
    InvoiceState.DRAFT: pb.INVOICE_STATE_DRAFT,
    InvoiceState.OPEN: pb.INVOICE_STATE_OPEN,
    InvoiceState.PAID: pb.INVOICE_STATE_PAID,
    InvoiceState.VOID: pb.INVOICE_STATE_VOID,
    InvoiceState.UNCOLLECTIBLE: pb.INVOICE_STATE_UNCOLLECTIBLE,
}
DUNNING_STATES = {
    DunningState.NONE: pb.DUNNING_STATE_NONE,
    DunningState.RETRYING: pb.DUNNING_STATE_RETRYING,
    DunningState.WAITING_FOR_CUSTOMER: pb.DUNNING_STATE_WAITING_FOR_CUSTOMER,
    DunningState.EXHAUSTED: pb.DUNNING_STATE_EXHAUSTED,
    DunningState.RECOVERED: pb.DUNNING_STATE_RECOVERED,
}
LINE_KINDS = {
    LineKind.FIXED: pb.LINE_KIND_FIXED,
    LineKind.SEAT: pb.LINE_KIND_SEAT,
    LineKind.USAGE: pb.LINE_KIND_USAGE,
    LineKind.MINIMUM: pb.LINE_KIND_MINIMUM,
    LineKind.TOP_UP: pb.LINE_KIND_TOP_UP,
    LineKind.DEDUCTION: pb.LINE_KIND_DEDUCTION,
    LineKind.ADJUSTMENT: pb.LINE_KIND_ADJUSTMENT,
}


def render_invoice(stored: StoredInvoice) -> pb.Invoice:
    """An issued invoice and where its collection stands."""
    invoice, collection = stored.invoice, stored.collection
    message = render_draft(invoice.draft)
    message.invoice_id = str(invoice.invoice_id)
    message.number = invoice.number
    message.state = STATES[invoice.state]
    message.amount_due = invoice.amount_due.value
    message.balance_applied = invoice.balance_applied.value
    message.issue_time.CopyFrom(render_time(invoice.issue_time))
    message.due_time.CopyFrom(render_time(invoice.due_time))
    message.dunning_state = DUNNING_STATES[collection.state]
    message.dunning_attempts = collection.attempts
    message.payment_id = collection.payment_id
    message.amount_paid = invoice.amount_paid.value
    message.reissue_of = str(invoice.reissue_of or "")
    message.reissued_as = str(invoice.reissued_as or "")
    message.close_reason = invoice.close_reason
    message.amount_credited = invoice.amount_credited.value
    message.amount_offset = invoice.amount_offset.value
    message.amount_written_off = Amount(invoice.amount_due.asset, invoice.amount_written_off).value
    if collection.next_attempt_time is not None:
        message.next_attempt_time.CopyFrom(render_time(collection.next_attempt_time))
    return message


def render_draft(draft: Draft) -> pb.Invoice:
    """A document that is not issued."""
    message = pb.Invoice(
        customer_id=draft.customer.customer_id,
        kind=KINDS[draft.kind],
        state=pb.INVOICE_STATE_DRAFT,
        lines=[render_line(line) for line in draft.lines],
        currency=draft.total.asset.code,
        subtotal=draft.subtotal.value,
        taxes=[render_tax(tax) for tax in draft.taxes],
        discounts=[
            pb.InvoiceDiscount(
                coupon_code=one.code, description=one.description, amount=one.amount.value
            )
            for one in draft.discounts
            if not one.on_lines
        ],
        discount_total=draft.discount_total.value,
        tax_total=draft.tax_total.value,
        tax_included=draft.tax_included.value,
        total=draft.total.value,
        amount_due=draft.total.value,
        balance_applied="0",
        amount_paid="0",
        amount_credited="0",
        amount_offset="0",
        amount_written_off="0",
        balance_given=draft.balance_given.value,
    )
    if draft.period is not None:
        message.period.CopyFrom(render_interval(draft.period))
    return message


def parse_coupon_codes(codes: Sequence[str]) -> tuple[str, ...]:
    """Up to 10 coupons, each once."""
    if len(codes) > STATED_COUPONS_MAX or len(set(codes)) < len(codes):
        raise InvalidValue("coupon_codes", f"takes up to {STATED_COUPONS_MAX}, each once")
    return tuple(parse_text(code, "coupon_codes") for code in codes)


def parse_stated_lines(messages: Sequence[pb.OneOffLine]) -> tuple[StatedLine, ...]:
    """1 to 200 lines that somebody states."""
    if not 1 <= len(messages) <= STATED_LINES_MAX:
        raise InvalidValue("lines", f"takes 1 to {STATED_LINES_MAX} lines")
    return tuple(_stated(message, f"lines[{index}]") for index, message in enumerate(messages))


def _stated(message: pb.OneOffLine, field: str) -> StatedLine:
    service = None
    if message.HasField("service_period"):
        period = message.service_period
        start, end = parse_time(period, "start_time"), parse_time(period, "end_time")
        if start >= end:
            raise InvalidValue(f"{field}.service_period", "ends before it starts")
        service = Period(start, end)
    return StatedLine(
        description=parse_text(message.description, f"{field}.description"),
        quantity=parse_decimal(message.quantity or "1", f"{field}.quantity"),
        unit_price=parse_decimal(message.unit_price, f"{field}.unit_price"),
        tax_category=parse_code(message.tax_category or "standard", f"{field}.tax_category"),
        service=service,
        tax_included=message.tax_included if message.HasField("tax_included") else None,
    )


def render_line(line: Line) -> pb.InvoiceLine:
    message = pb.InvoiceLine(
        kind=LINE_KINDS[line.kind],
        description=line.description,
        quantity=line.quantity,
        asset=line.cost.asset.code,
        cost=line.cost.value,
        wallet_amount=line.wallet.value,
        amount=line.amount.value,
        details=[
            pb.LineDetail(
                description=detail.description,
                quantity=detail.quantity,
                unit_price=detail.unit_price,
                cost=detail.cost,
                quoted_per=detail.quoted_per,
            )
            for detail in line.details
        ],
        price_id=str(line.price_id or ""),
        subscription_item_id=str(line.subscription_item_id or ""),
        exact_cost=line.exact_cost,
        discount=line.discount.value,
        tax_included=bool(line.tax_included),
        customer_id=line.customer_id,
        taxes=[
            pb.InvoiceLineTax(
                position=share.position, amount=Amount(line.amount.asset, share.atoms).value
            )
            for share in line.taxes
        ],
    )
    if line.service is not None:
        message.service_period.CopyFrom(render_interval(line.service))
    return message


def render_tax(tax: Tax) -> pb.InvoiceTax:
    return pb.InvoiceTax(
        description=tax.description,
        rate=format_decimal(tax.rate),
        taxable=tax.taxable.value,
        amount=tax.amount.value,
        category=tax.category,
        jurisdiction=tax.jurisdiction,
        treatment=TREATMENTS[tax.treatment],
        reason=tax.reason,
        included=tax.included,
        prepaid=tax.prepaid,
        compound=tax.compound,
    )


def render_interval(period: Period) -> amount_pb2.Interval:
    return amount_pb2.Interval(
        start_time=render_time(period.start), end_time=render_time(period.end)
    )


def render_period_key(charge: Charge) -> usage_pb2.PeriodKey:
    """Metering counts by the anchored period, whether it was served in full or not."""
    return usage_pb2.PeriodKey(
        customer_id=charge.subscription.customer_id,
        subscription_item_id=str(charge.item.subscription_item_id),
        price_id=str(charge.item.price.price_id),
        period=render_interval(charge.full),
        meter=charge.item.price.meter,
        dimensions=charge.item.price.dimensions,
        in_force=render_interval(charge.service),
        time_zone=charge.subscription.time_zone,
        pricing=render_pricing(charge.item.price),
    )


def parse_consumption(message: usage_pb2.PeriodUsage, charge: Charge, asset: Asset) -> Consumption:
    """What was counted for a charge. Raises what rating raises where it makes no sense."""
    price = charge.item.price.pricing
    usage = parse_usage(Fields(document_of(message.usage), "usage"))
    charged = parse_decimal(message.charged.value or "0", "charged.value", signed=True)
    return Consumption(usage.state_for(price), Fraction(charged), asset)
