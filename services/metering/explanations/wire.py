"""Explanations in protobuf, and what the wallet and invoicing tell for them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from google.protobuf.json_format import ParseDict

from chassis.wire import render_time
from kernel.money import format_atoms
from metering.corrections.domain.revision import History
from metering.events.domain.event import Outcome
from metering.events.wire import render_outcome, render_stored
from metering.explanations.domain import BilledLine, Counted, Payment, PricedLine
from metering.usage.domain import text_of
from rating.request import render_component
from tollgate.invoicing.v1 import invoice_pb2
from tollgate.metering.v1 import event_pb2
from tollgate.type.v1 import amount_pb2, price_pb2
from tollgate.wallet.v1 import adjustment_service_pb2

OVERDRAFT = "overdraft"  # what no grant paid


def read_debits(debits: Iterable[adjustment_service_pb2.DebitDetail]) -> list[Payment]:
    """Debits, transfer by transfer."""
    return [
        Payment(
            debit.request_id,
            transfer.transfer_id,
            debit.amount.asset,
            transfer.value,
            transfer.reversed,
            {part.grant_id or OVERDRAFT: part.value for part in transfer.grants},
        )
        for debit in debits
        for transfer in debit.transfers
    ]


def read_lines(
    invoices: Iterable[invoice_pb2.Invoice], subscription_item_id: str, instant: datetime
) -> list[BilledLine]:
    """Lines of an item whose service period holds an instant, adjustments among them."""
    return [
        BilledLine(invoice.invoice_id, invoice.number, line.description, line.asset, line.amount)
        for invoice in invoices
        for line in invoice.lines
        if line.subscription_item_id == subscription_item_id
        and line.service_period.start_time.ToDatetime(tzinfo=UTC)
        <= instant
        < line.service_period.end_time.ToDatetime(tzinfo=UTC)
    ]


def render_explanation(
    history: History,
    outcome: Outcome,
    counted: Iterable[Counted],
    lines: Iterable[PricedLine],
) -> event_pb2.ExplainChargeResponse:
    """An explained event."""
    stored = render_stored(history, outcome)
    return event_pb2.ExplainChargeResponse(
        event=stored.event,
        outcome=render_outcome(outcome),
        receive_time=stored.receive_time,
        revision=stored.revision,
        counted=[
            event_pb2.CountedBy(
                meter=each.meter.code,
                meter_version=history.last.meter_version,
                hour=render_time(each.hour),
                dimensions=json.loads(each.dimension_values),
            )
            for each in counted
        ],
        prices=[_render_line(line) for line in lines],
    )


def _render_line(line: PricedLine) -> event_pb2.PricedBy:
    running = line.running
    period = running.stretch.period
    return event_pb2.PricedBy(
        price_id=running.price_id,
        subscription_item_id=running.subscription_item_id,
        plan_code=running.plan_code,
        meter=running.meter,
        period=amount_pb2.Interval(
            start_time=render_time(period.start), end_time=render_time(period.end)
        ),
        pricing=running.pricing.document,
        quantity=line.quantity,
        usage_before="" if line.before is None else text_of(line.before),
        components=[
            ParseDict(render_component(part), price_pb2.Component()) for part in line.components
        ],
        charged=amount_pb2.Amount(
            asset=running.asset, value=format_atoms(line.atoms, running.scale)
        ),
        payments=[
            event_pb2.PaidBy(
                charge_id=one.charge_id,
                transfer_id=one.transfer_id,
                amount=amount_pb2.Amount(asset=one.asset, value=one.value),
                returned=one.returned,
                grants=one.grants,
            )
            for one in line.payments
        ],
        billed=[
            event_pb2.BilledOn(
                invoice_id=one.invoice_id,
                number=one.number,
                description=one.description,
                amount=amount_pb2.Amount(asset=one.asset, value=one.amount),
            )
            for one in line.billed
        ],
    )
