"""Attempts as protobuf: inside payments, and in what the outbox tells."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.wire import render_amount, render_time
from gateway.domain.attempt import Attempt, State
from gateway.domain.outcome import DeclineClass
from gateway.domain.payment import Payment
from tollgate.gateway.v1 import messages_pb2, payment_pb2

MESSAGE_KINDS: Mapping[State, str] = {
    State.SUCCEEDED: "payment.succeeded",
    State.DECLINED: "payment.declined",
    State.FAILED: "payment.failed",
    State.ACTION_REQUIRED: "payment.action_required",
    State.AUTHORIZED: "payment.authorized",
    State.CANCELED: "payment.canceled",
    State.REVERSED: "payment.reversed",
    State.UNKNOWN: "payment.unknown",
}


def render_attempt(attempt: Attempt) -> payment_pb2.Attempt:
    action = attempt.action
    return payment_pb2.Attempt(
        attempt_id=str(attempt.attempt_id),
        provider_account=attempt.provider_account,
        payment_method_id=str(attempt.payment_method_id) if attempt.payment_method_id else "",
        state=render_state(attempt.state),
        provider_payment_id=attempt.provider_payment_id,
        decline_code=attempt.decline_code,
        decline_class=render_decline_class(attempt.decline_class),
        create_time=render_time(attempt.create_time),
        update_time=render_time(attempt.update_time),
        action_url=action.url if action else "",
        captured=render_amount(attempt.captured) if attempt.captured else None,
        refunded=render_amount(attempt.refunded) if attempt.refunded_atoms else None,
    )


def render_change(payment: Payment, attempt: Attempt) -> messages_pb2.PaymentChanged:
    """What consumers are told. The amount is the provider's word where it gave one."""
    return messages_pb2.PaymentChanged(
        payment_id=str(payment.payment_id),
        attempt_id=str(attempt.attempt_id),
        customer_id=payment.customer_id,
        amount=render_amount(attempt.stated or payment.amount),
        source=payment_pb2.SourceDocument(kind=payment.source.kind, id=payment.source.id),
        state=render_state(attempt.state),
        decline_class=render_decline_class(attempt.decline_class),
        decline_code=attempt.decline_code,
    )


def render_state(state: State) -> payment_pb2.AttemptState.ValueType:
    return payment_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state.value}")


def render_decline_class(found: DeclineClass | None) -> payment_pb2.DeclineClass.ValueType:
    name = found.value if found else "UNSPECIFIED"
    return payment_pb2.DeclineClass.Value(f"DECLINE_CLASS_{name}")
