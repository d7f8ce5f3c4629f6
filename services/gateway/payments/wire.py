"""Payments as protobuf."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.wire import find_uuid, parse_text, render_amount, render_time
from gateway.attempts.wire import render_attempt
from gateway.domain.currency import collectable
from gateway.domain.payment import Payment, Source
from gateway.methods.wire import parse_customer_id
from kernel.errors import InvalidValue
from kernel.money import Amount
from tollgate.gateway.v1 import payment_pb2
from tollgate.gateway.v1 import payment_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class NewPayment:
    customer_id: str
    amount: Amount
    source: Source
    payment_method_id: UUID | None  # None: the customer's default
    description: str
    capture_later: bool = False


def parse_new_payment(request: pb.CreatePaymentRequest) -> NewPayment:
    return NewPayment(
        customer_id=parse_customer_id(request.customer_id),
        amount=collectable(request.amount.asset, request.amount.value),
        source=Source(
            parse_text(request.source.kind, "source.kind", maximum=32),
            parse_text(request.source.id, "source.id", maximum=128),
        ),
        payment_method_id=find_uuid(request.payment_method_id, "payment_method_id"),
        description=parse_text(request.description, "description", minimum=0, maximum=100),
        capture_later=request.capture_later,
    )


def parse_after(after: tuple[str, ...]) -> tuple[datetime, UUID] | None:
    """The key of the last payment of the page before."""
    if not after:
        return None
    try:
        return datetime.fromisoformat(after[0]), UUID(after[1])
    except ValueError:
        raise InvalidValue("page_token", "is not from this list") from None


def render_payment(payment: Payment) -> payment_pb2.Payment:
    return payment_pb2.Payment(
        payment_id=str(payment.payment_id),
        customer_id=payment.customer_id,
        amount=render_amount(payment.amount),
        state=payment_pb2.PaymentState.Value(f"PAYMENT_STATE_{payment.state.value}"),
        source=payment_pb2.SourceDocument(kind=payment.source.kind, id=payment.source.id),
        outcome_unknown=payment.outcome_unknown,
        attempts=[render_attempt(attempt) for attempt in payment.attempts],
        create_time=render_time(payment.create_time),
        capture_later=payment.capture_later,
        cancel_requested=payment.cancel_requested,
    )
