"""Refunds as protobuf: answered, and told by the outbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from chassis.wire import parse_text, parse_uuid, render_amount, render_time
from gateway.domain.payment import Payment
from gateway.domain.refund import Refund, RefundState
from gateway.orders.wire import parse_part
from kernel.money import Amount
from tollgate.gateway.v1 import messages_pb2, payment_pb2, refund_pb2
from tollgate.gateway.v1 import payment_service_pb2 as pb

MESSAGE_KINDS: Mapping[RefundState, str] = {
    RefundState.SUCCEEDED: "refund.succeeded",
    RefundState.DECLINED: "refund.failed",
    RefundState.FAILED: "refund.failed",
    RefundState.REVERSED: "refund.reversed",
}


@dataclass(frozen=True, slots=True)
class NewRefund:
    payment_id: UUID
    amount: Amount | None  # None: all that is left
    reason: str


def parse_new_refund(request: pb.CreateRefundRequest) -> NewRefund:
    return NewRefund(
        payment_id=parse_uuid(request.payment_id, "payment_id"),
        amount=parse_part(request),
        reason=parse_text(request.reason, "reason", minimum=0, maximum=100),
    )


def render_refund(refund: Refund) -> refund_pb2.Refund:
    return refund_pb2.Refund(
        refund_id=str(refund.refund_id),
        payment_id=str(refund.payment_id),
        attempt_id=str(refund.attempt_id),
        amount=render_amount(refund.amount),
        state=render_state(refund.state),
        reason=refund.reason,
        provider_refund_id=refund.provider_refund_id,
        failure_code=refund.failure_code,
        create_time=render_time(refund.create_time),
        update_time=render_time(refund.update_time),
    )


def render_change(payment: Payment, refund: Refund) -> messages_pb2.RefundChanged:
    """What consumers are told. The amount is the provider's word where it gave one."""
    return messages_pb2.RefundChanged(
        refund_id=str(refund.refund_id),
        payment_id=str(refund.payment_id),
        attempt_id=str(refund.attempt_id),
        customer_id=payment.customer_id,
        amount=render_amount(refund.stated or refund.amount),
        source=payment_pb2.SourceDocument(kind=payment.source.kind, id=payment.source.id),
        state=render_state(refund.state),
        failure_code=refund.failure_code,
        reason=refund.reason,
    )


def render_state(state: RefundState) -> refund_pb2.RefundState.ValueType:
    return refund_pb2.RefundState.Value(f"REFUND_STATE_{state.value}")
