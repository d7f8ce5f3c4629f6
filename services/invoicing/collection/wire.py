"""Payments as the gateway tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from invoicing.collection.domain import Outcome
from kernel.currency import currency, is_currency
from kernel.money import Amount, parse_atoms
from tollgate.gateway.v1 import messages_pb2 as gateway_messages
from tollgate.gateway.v1 import payment_pb2 as payments
from tollgate.type.v1 import amount_pb2

_DECIDED: Mapping[int, Outcome] = {
    payments.ATTEMPT_STATE_REQUESTED: Outcome.PENDING,
    payments.ATTEMPT_STATE_UNKNOWN: Outcome.PENDING,
    payments.ATTEMPT_STATE_PROCESSING: Outcome.PENDING,
    payments.ATTEMPT_STATE_AUTHORIZED: Outcome.PENDING,
    payments.ATTEMPT_STATE_ACTION_REQUIRED: Outcome.ACTION_REQUIRED,
    payments.ATTEMPT_STATE_SUCCEEDED: Outcome.PAID,
    payments.ATTEMPT_STATE_REVERSED: Outcome.REVERSED,
}
# Declined, failed or cancelled: what it means for a retry. Unmapped classes are soft (DUN-3).
_DECLINED: Mapping[int, Outcome] = {
    payments.DECLINE_CLASS_ACTION_REQUIRED: Outcome.DECLINED_HARD,
    payments.DECLINE_CLASS_HARD: Outcome.DECLINED_HARD,
    payments.DECLINE_CLASS_FRAUD: Outcome.DECLINED_FRAUD,
}


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """What is known of one attempt at a provider."""

    payment_id: str
    attempt_id: str
    state: str
    outcome: Outcome
    decline_class: str
    decline_code: str
    amount: Amount | None = None  # where the provider stated one, in whole minor units


def report_of_message(message: gateway_messages.PaymentChanged) -> AttemptReport:
    return _report(
        message.payment_id,
        message.attempt_id,
        message.state,
        message.decline_class,
        message.decline_code,
        message.amount,
    )


def reports_of_payment(payment: payments.Payment) -> list[AttemptReport]:
    """All attempts of a payment, oldest first."""
    return [
        _report(
            payment.payment_id,
            attempt.attempt_id,
            attempt.state,
            attempt.decline_class,
            attempt.decline_code,
            payment.amount,
        )
        for attempt in payment.attempts
    ]


def _report(
    payment_id: str,
    attempt_id: str,
    state: payments.AttemptState.ValueType,
    decline_class: payments.DeclineClass.ValueType,
    decline_code: str,
    amount: amount_pb2.Amount,
) -> AttemptReport:
    outcome = _DECIDED.get(state)
    if outcome is None:
        outcome = _DECLINED.get(decline_class, Outcome.DECLINED_SOFT)
    return AttemptReport(
        payment_id=payment_id,
        attempt_id=attempt_id,
        state=payments.AttemptState.Name(state).removeprefix("ATTEMPT_STATE_"),
        outcome=outcome,
        decline_class=payments.DeclineClass.Name(decline_class).removeprefix("DECLINE_CLASS_"),
        decline_code=decline_code,
        amount=_amount(amount),
    )


def _amount(message: amount_pb2.Amount) -> Amount | None:
    if not is_currency(message.asset):
        return None
    money = currency(message.asset)
    return Amount(money, parse_atoms(message.value, money.scale, "amount"))
