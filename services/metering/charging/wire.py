"""Debits and holds between the domain and the wallet's protobuf."""

from __future__ import annotations

from kernel.money import format_atoms, parse_atoms
from metering.charging.domain import (
    Debit,
    Held,
    HoldGrowth,
    HoldRequest,
    OverUse,
    Posted,
    Refused,
    Reversal,
)
from tollgate.type.v1 import amount_pb2, refusal_pb2
from tollgate.wallet.v1 import adjustment_service_pb2, ledger_pb2, ledger_service_pb2

OVER_CAPTURES = {
    OverUse.REJECT: ledger_pb2.OVER_CAPTURE_REJECT,
    OverUse.CLAMP: ledger_pb2.OVER_CAPTURE_CLAMP,
    OverUse.USE_AVAILABLE: ledger_pb2.OVER_CAPTURE_USE_AVAILABLE,
    OverUse.FORCE: ledger_pb2.OVER_CAPTURE_FORCE,
}


def render_debit(debit: Debit) -> ledger_service_pb2.DebitItem:
    """A debit as the wallet takes it; the same debit always renders the same."""
    item = ledger_service_pb2.DebitItem(
        request_id=debit.charge_id,
        customer_id=debit.customer_id,
        amount=amount_pb2.Amount(asset=debit.asset, value=format_atoms(debit.atoms, debit.scale)),
        purpose=ledger_service_pb2.Purpose(
            meter=debit.meter, feature=debit.feature, product=debit.product
        ),
        reference=debit.reference,
        group=debit.group,
        node=debit.node,
    )
    if debit.capture is not None:
        item.hold_id = debit.capture.hold_id
        item.final = debit.capture.is_final
        item.over_capture = OVER_CAPTURES[debit.capture.over_use]
    return item


def parse_debit_outcome(outcome: ledger_service_pb2.DebitOutcome, scale: int) -> Posted | Refused:
    """What became of a debit."""
    if outcome.HasField("refusal"):
        return parse_refusal(outcome.refusal)
    debit = outcome.debit
    shortfall = debit.shortfall
    return Posted(
        parse_atoms(debit.amount.value, scale, "debit.amount.value"),
        parse_atoms(shortfall, scale, "debit.shortfall") if shortfall not in ("", "0") else 0,
        debit.available,
    )


def render_reversal(reversal: Reversal) -> adjustment_service_pb2.DebitReversal:
    """A reversal as the wallet takes it; the same reversal always renders the same."""
    return adjustment_service_pb2.DebitReversal(
        request_id=reversal.key,
        debit_request_id=reversal.charge_id,
        value=format_atoms(reversal.atoms, reversal.scale),
        reason=f"correction of event {reversal.reference}",
    )


def parse_reversal_outcome(
    outcome: adjustment_service_pb2.DebitReversalOutcome, scale: int
) -> Posted | Refused:
    """What became of a reversal."""
    if outcome.HasField("refusal"):
        return parse_refusal(outcome.refusal)
    return Posted(parse_atoms(outcome.amount.value, scale, "amount.value"), 0, "")


def parse_refusal(refusal: refusal_pb2.Refusal) -> Refused:
    """A refusal inside a batch's answer."""
    return Refused(refusal.reason, refusal.message, dict(refusal.facts))


def render_hold_request(request: HoldRequest) -> ledger_service_pb2.HoldItem:
    """A hold as the wallet takes it. The wallet gives it its id."""
    item = ledger_service_pb2.HoldItem(
        request_id=request.key,
        customer_id=request.customer_id,
        amount=amount_pb2.Amount(
            asset=request.asset, value=format_atoms(request.atoms, request.scale)
        ),
        purpose=ledger_service_pb2.Purpose(
            meter=request.meter, feature=request.feature, product=request.product
        ),
        node=request.node,
    )
    item.time_to_live.FromMilliseconds(int(request.seconds * 1000))
    return item


def render_hold_growth(growth: HoldGrowth) -> ledger_service_pb2.IncreaseItem:
    """An increase as the wallet takes it."""
    item = ledger_service_pb2.IncreaseItem(request_id=growth.key, hold_id=growth.hold_id)
    if growth.atoms:
        item.value = format_atoms(growth.atoms, growth.scale)
    if growth.lasting is not None:
        item.time_to_live.FromTimedelta(growth.lasting)
    return item


def parse_hold_outcome(outcome: ledger_service_pb2.HoldOutcome, scale: int) -> Held | Refused:
    """What became of a hold."""
    if outcome.HasField("refusal"):
        return parse_refusal(outcome.refusal)
    hold = outcome.hold
    return Held(
        hold.hold_id,
        parse_atoms(hold.amount.value, scale, "hold.amount.value"),
        outcome.available,
    )
