"""Charges and findings as they are answered."""

from __future__ import annotations

from collections.abc import Iterable

from chassis.paging import next_token
from kernel.money import format_atoms
from metering.events.wire import STATES
from metering.verification.operations import EventCharge, Verification
from tollgate.metering.v1 import event_pb2
from tollgate.type.v1 import amount_pb2


def render_charges(charges: Iterable[EventCharge]) -> list[event_pb2.EventCharge]:
    """Charges with the events behind them."""
    return [
        event_pb2.EventCharge(
            charge_id=charge.charge_id,
            event_id=charge.event_id,
            customer_id=charge.customer_id,
            state=STATES[charge.state],
            amount=amount_pb2.Amount(
                asset=charge.asset, value=format_atoms(charge.atoms, charge.scale)
            ),
            shortfall=format_atoms(charge.shortfall, charge.scale),
        )
        for charge in charges
    ]


def render_verification(found: Verification) -> event_pb2.VerifyUsageResponse:
    """What a page of customers was found to be."""
    return event_pb2.VerifyUsageResponse(
        customers_checked=found.customers,
        events_checked=found.events,
        batches_pending=found.batches_pending,
        disagreements=[
            event_pb2.UsageDisagreement(
                customer_id=each.customer_id,
                figure=each.figure,
                stored=each.stored,
                derived=each.derived,
            )
            for each in found.disagreements
        ],
        next_page_token=next_token(found.after) if found.after else "",
    )
