"""Money sent back against one attempt, and the table of what evidence may do to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from uuid import UUID

from gateway.domain.attempt import Attempt, State
from gateway.domain.outcome import Finding, Outcome
from gateway.domain.payment import StateNotAllowed
from kernel.errors import InvalidValue, Refusal
from kernel.ids import new_id
from kernel.money import Amount


class RefundState(Enum):
    REQUESTED = "REQUESTED"
    UNKNOWN = "UNKNOWN"
    PROCESSING = "PROCESSING"
    SUCCEEDED = "SUCCEEDED"
    DECLINED = "DECLINED"
    FAILED = "FAILED"
    REVERSED = "REVERSED"  # sent back, and returned to the merchant


# Asked about until they end.
OPEN = frozenset({RefundState.REQUESTED, RefundState.UNKNOWN, RefundState.PROCESSING})
# Their amount cannot be refunded again.
RESERVING = OPEN | {RefundState.SUCCEEDED}

_ENDINGS = {
    Finding.SUCCEEDED: RefundState.SUCCEEDED,
    Finding.DECLINED: RefundState.DECLINED,
    Finding.REJECTED: RefundState.FAILED,
    Finding.CANCELED: RefundState.FAILED,
}
# A refund given up that went through after all. Money left: it is booked, and people are told.
_LATE = {
    Finding.SUCCEEDED: RefundState.SUCCEEDED,
    Finding.PENDING: RefundState.PROCESSING,
}

# Rows are states, columns findings. A cell that is not here is "no change, counted as stale".
TABLE: Mapping[RefundState, Mapping[Finding, RefundState]] = {
    RefundState.REQUESTED: {
        **_ENDINGS,
        Finding.PENDING: RefundState.PROCESSING,
        Finding.SILENCE: RefundState.UNKNOWN,
    },
    RefundState.UNKNOWN: {
        **_ENDINGS,
        Finding.PENDING: RefundState.PROCESSING,
        Finding.ABSENT: RefundState.FAILED,
        Finding.REVERSED: RefundState.REVERSED,
    },
    RefundState.PROCESSING: {**_ENDINGS, Finding.REVERSED: RefundState.REVERSED},
    RefundState.SUCCEEDED: {Finding.REVERSED: RefundState.REVERSED},
    RefundState.DECLINED: _LATE,
    RefundState.FAILED: _LATE,
    RefundState.REVERSED: {},
}


@dataclass(frozen=True, slots=True)
class Refund:
    """`refund_id` is the reference that the provider sees."""

    refund_id: UUID
    payment_id: UUID
    attempt_id: UUID
    provider_account_id: UUID
    amount: Amount
    reason: str
    state: RefundState
    create_time: datetime
    update_time: datetime
    captured: Amount  # of the attempt, when the refund was asked for
    refunded_before: Amount  # of the attempt, without this refund
    provider_refund_id: str = ""
    stated: Amount | None = None
    failure_code: str = ""


@dataclass(frozen=True, slots=True)
class AppliedToRefund:
    """A refund after a finding; `before` and `refund.state` are the same where it was stale."""

    before: RefundState
    refund: Refund
    alert: str = ""

    @property
    def changed(self) -> bool:
        return self.before is not self.refund.state

    @property
    def reserves(self) -> int:
        """By how many atoms the attempt's reserved amount grows; below zero: it shrinks."""
        was, now = self.before in RESERVING, self.refund.state in RESERVING
        return (now - was) * self.refund.amount.atoms


class RefundExceedsCaptured(Refusal):
    """More than was taken and has not been refunded yet."""

    reason = "REFUND_EXCEEDS_CAPTURED"

    def __init__(self, refundable: Amount, asked: Amount) -> None:
        super().__init__(
            f"{asked} cannot be refunded: {refundable} is left",
            refundable=refundable.value,
            asset=refundable.asset.code,
        )


def refundable(attempt: Attempt) -> Amount:
    """What may still be sent back of an attempt."""
    captured = attempt.captured or Amount(attempt.amount.asset, 0)
    return captured - attempt.refunded - attempt.disputed


def refund_amount(attempt: Attempt, asked: Amount | None) -> Amount:
    """How much a new refund sends back: what was asked for, or all that is left.

    Raises StateNotAllowed, InvalidValue, RefundExceedsCaptured.
    """
    if attempt.state is not State.SUCCEEDED:
        raise StateNotAllowed(attempt.payment_id, attempt.state.value)
    left = refundable(attempt)
    amount = left if asked is None else asked
    if amount.asset != left.asset:
        raise InvalidValue("amount.asset", f"the payment is in {left.asset.code}")
    if not 0 < amount.atoms <= left.atoms:
        raise RefundExceedsCaptured(left, amount)
    return amount


def new_refund(attempt: Attempt, amount: Amount, reason: str, now: datetime) -> Refund:
    """A refund to be asked for."""
    return Refund(
        refund_id=new_id(now),
        payment_id=attempt.payment_id,
        attempt_id=attempt.attempt_id,
        provider_account_id=attempt.provider_account_id,
        amount=amount,
        reason=reason,
        state=RefundState.REQUESTED,
        create_time=now,
        update_time=now,
        captured=attempt.captured or Amount(attempt.amount.asset, 0),
        refunded_before=attempt.refunded,
    )


def apply(refund: Refund, outcome: Outcome, now: datetime) -> AppliedToRefund:
    """What an outcome does to a refund. Evidence that changes nothing may still name its id."""
    named = refund
    if outcome.provider_refund_id and not refund.provider_refund_id:
        named = replace(refund, provider_refund_id=outcome.provider_refund_id)
    finding = outcome.finding
    if outcome.undoes_success and refund.state is RefundState.SUCCEEDED:
        finding = Finding.REVERSED if finding is Finding.DECLINED else finding
    state = TABLE[refund.state].get(finding)
    if state is None:
        return AppliedToRefund(refund.state, named)
    changed = replace(
        named,
        state=state,
        stated=outcome.stated or refund.stated,
        failure_code=outcome.decline_code,
        update_time=now,
    )
    return AppliedToRefund(refund.state, changed, _alert(refund, changed))


def _alert(before: Refund, after: Refund) -> str:
    if after.state is RefundState.REVERSED:
        return "REFUND_REVERSED"
    if before.state not in RESERVING:
        return "REFUND_AFTER_FAILURE"
    differs = after.stated is not None and after.stated != before.amount
    return "AMOUNT_MISMATCH" if differs else ""
