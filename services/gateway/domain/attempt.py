"""One try at one provider, and the table of what evidence may do to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from uuid import UUID

from gateway.domain.outcome import DeclineClass, Finding, NextAction, Outcome
from kernel.money import Amount


class State(Enum):
    REQUESTED = "REQUESTED"
    UNKNOWN = "UNKNOWN"
    ACTION_REQUIRED = "ACTION_REQUIRED"
    PROCESSING = "PROCESSING"
    AUTHORIZED = "AUTHORIZED"
    SUCCEEDED = "SUCCEEDED"
    DECLINED = "DECLINED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    REVERSED = "REVERSED"


# At most one attempt of an intent is in one of these; no other may start meanwhile.
LIVE = frozenset(
    {
        State.REQUESTED,
        State.UNKNOWN,
        State.ACTION_REQUIRED,
        State.PROCESSING,
        State.AUTHORIZED,
    }
)


@dataclass(frozen=True, slots=True)
class Step:
    """One cell of the table: where a finding leads, and what is remarkable about it."""

    to: State
    late: bool = False  # an attempt given up came to life
    alert: bool = False  # people are told


# Rows are states, columns findings. A cell that is not here is "no change, counted as stale".
TABLE: Mapping[State, Mapping[Finding, Step]] = {
    State.REQUESTED: {
        Finding.AUTHORIZED: Step(State.AUTHORIZED),
        Finding.SUCCEEDED: Step(State.SUCCEEDED),
        Finding.PENDING: Step(State.PROCESSING),
        Finding.NEEDS_ACTION: Step(State.ACTION_REQUIRED),
        Finding.DECLINED: Step(State.DECLINED),
        Finding.REJECTED: Step(State.FAILED),
        Finding.CANCELED: Step(State.CANCELED),
        Finding.SILENCE: Step(State.UNKNOWN),
    },
    State.UNKNOWN: {
        Finding.AUTHORIZED: Step(State.AUTHORIZED),
        Finding.SUCCEEDED: Step(State.SUCCEEDED),
        Finding.PENDING: Step(State.PROCESSING),
        Finding.NEEDS_ACTION: Step(State.ACTION_REQUIRED),
        Finding.DECLINED: Step(State.DECLINED),
        Finding.REJECTED: Step(State.FAILED),
        Finding.CANCELED: Step(State.CANCELED),
        Finding.ABSENT: Step(State.FAILED),
        Finding.REVERSED: Step(State.REVERSED),
    },
    State.ACTION_REQUIRED: {
        Finding.AUTHORIZED: Step(State.AUTHORIZED),
        Finding.SUCCEEDED: Step(State.SUCCEEDED),
        Finding.PENDING: Step(State.PROCESSING),
        Finding.DECLINED: Step(State.DECLINED),
        Finding.REJECTED: Step(State.FAILED),
        Finding.CANCELED: Step(State.CANCELED),
    },
    State.PROCESSING: {
        Finding.AUTHORIZED: Step(State.AUTHORIZED),
        Finding.SUCCEEDED: Step(State.SUCCEEDED),
        Finding.NEEDS_ACTION: Step(State.ACTION_REQUIRED),
        Finding.DECLINED: Step(State.DECLINED),
        Finding.REJECTED: Step(State.FAILED),
        Finding.CANCELED: Step(State.CANCELED),
        Finding.REVERSED: Step(State.REVERSED),
    },
    State.AUTHORIZED: {
        Finding.SUCCEEDED: Step(State.SUCCEEDED),
        Finding.DECLINED: Step(State.DECLINED),
        Finding.CANCELED: Step(State.CANCELED),
    },
    State.SUCCEEDED: {
        Finding.REVERSED: Step(State.REVERSED, alert=True),
    },
    State.DECLINED: {
        Finding.AUTHORIZED: Step(State.AUTHORIZED, late=True),
        Finding.SUCCEEDED: Step(State.SUCCEEDED, late=True, alert=True),
        Finding.PENDING: Step(State.PROCESSING, late=True),
    },
    State.CANCELED: {
        Finding.AUTHORIZED: Step(State.AUTHORIZED, late=True),
        Finding.SUCCEEDED: Step(State.SUCCEEDED, late=True, alert=True),
        Finding.PENDING: Step(State.PROCESSING, late=True),
    },
    State.FAILED: {
        Finding.AUTHORIZED: Step(State.AUTHORIZED, late=True, alert=True),
        Finding.SUCCEEDED: Step(State.SUCCEEDED, late=True, alert=True),
        Finding.PENDING: Step(State.PROCESSING, late=True, alert=True),
    },
    State.REVERSED: {
        Finding.SUCCEEDED: Step(State.SUCCEEDED),
        Finding.PENDING: Step(State.PROCESSING),
    },
}


class Alert(Enum):
    """What people are told of beside the change itself."""

    REVERSED_AFTER_SUCCESS = "REVERSED_AFTER_SUCCESS"
    LATE_SUCCESS = "LATE_SUCCESS"
    LATE_AFTER_FAILURE = "LATE_AFTER_FAILURE"
    PAID_TWICE = "PAID_TWICE"  # a late success on an intent that another attempt has paid
    TWO_ALIVE = "TWO_ALIVE"  # a late attempt came to life while another lives
    AMOUNT_MISMATCH = "AMOUNT_MISMATCH"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to fulfil an intent. `attempt_id` is the reference that the provider sees."""

    attempt_id: UUID
    payment_id: UUID
    number: int  # 1 for the intent's first
    provider_account_id: UUID
    provider_account: str  # its code
    payment_method_id: UUID | None  # None: a page, where a person chooses
    amount: Amount
    state: State
    create_time: datetime
    update_time: datetime
    provider_payment_id: str = ""
    stated: Amount | None = None
    decline_code: str = ""
    decline_class: DeclineClass | None = None
    action: NextAction | None = None
    told: frozenset[State] = frozenset()  # states that a message has told of
    capture_later: bool = False  # the provider is told to reserve only
    capture_amount: Amount | None = None  # what a capture asked for
    captured: Amount | None = None  # what was taken, in the attempt's own currency
    refunded_atoms: int = 0  # of refunds that have not failed
    disputed_atoms: int = 0  # in disputes that are open or lost

    @property
    def refunded(self) -> Amount:
        return Amount(self.amount.asset, self.refunded_atoms)

    @property
    def disputed(self) -> Amount:
        return Amount(self.amount.asset, self.disputed_atoms)


@dataclass(frozen=True, slots=True)
class Siblings:
    """What the other attempts of the same intent amount to."""

    alive: bool = False
    paid: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """An attempt after a finding. `before` and `attempt.state` are the same where it was stale."""

    before: State
    attempt: Attempt
    alerts: tuple[Alert, ...] = ()
    tell: bool = False  # a message is due for the new state
    ask_again: bool = False  # the evidence may be outdated, or could not be followed

    @property
    def changed(self) -> bool:
        return self.before is not self.attempt.state


def step(state: State, finding: Finding) -> Step | None:
    """Where a finding leads from a state; None where it changes nothing."""
    return TABLE[state].get(finding)


def finding_of(attempt: Attempt, outcome: Outcome) -> Finding:
    """What an outcome says about this very attempt, where its words depend on what was asked."""
    if outcome.takes_itself and not attempt.capture_later:
        return Finding.SUCCEEDED if outcome.finding is Finding.AUTHORIZED else outcome.finding
    if outcome.undoes_success and attempt.state is State.SUCCEEDED:
        return Finding.REVERSED if outcome.finding is Finding.DECLINED else outcome.finding
    return outcome.finding


def apply(
    attempt: Attempt,
    outcome: Outcome,
    siblings: Siblings,
    now: datetime,
    asked_in: State | None = None,
) -> Applied:
    """What an outcome does to an attempt. Evidence that changes nothing may still name its id.

    `asked_in` is the state in which the evidence was asked for, None where it is this one. Two
    witnesses that were asked side by side may answer in either order: what was asked before an
    attempt ended cannot bring it back, but is a reason to ask once more.
    """
    named = attempt
    if outcome.provider_payment_id and not attempt.provider_payment_id:
        named = replace(attempt, provider_payment_id=outcome.provider_payment_id)
    found = step(attempt.state, finding_of(attempt, outcome))
    if found is None:
        return Applied(attempt.state, named)
    if attempt.state not in LIVE and asked_in not in (None, attempt.state):
        return Applied(attempt.state, named, ask_again=True)
    if found.late and found.to in LIVE and siblings.alive:
        # Two live attempts would be two charges in the making. It is asked about until it ends.
        return Applied(attempt.state, named, alerts=(Alert.TWO_ALIVE,), ask_again=True)
    changed = replace(
        named,
        state=found.to,
        stated=outcome.stated or attempt.stated,
        decline_code=outcome.decline_code,
        decline_class=outcome.decline_class,
        action=outcome.action if found.to is State.ACTION_REQUIRED else None,
        update_time=now,
    )
    if changed.state is State.SUCCEEDED:
        changed = replace(changed, captured=_captured(changed))
    changed, tell = _tell(changed)
    return Applied(attempt.state, changed, _alerts(attempt, changed, found, siblings), tell)


def _captured(attempt: Attempt) -> Amount:
    """What was taken, never more than the provider states; never less than what left again."""
    taken = attempt.stated or attempt.capture_amount or attempt.amount
    atoms = taken.atoms if taken.asset == attempt.amount.asset else 0
    gone = attempt.refunded_atoms + attempt.disputed_atoms
    return Amount(attempt.amount.asset, max(atoms, gone))


def _tell(attempt: Attempt) -> tuple[Attempt, bool]:
    """Each state is told once, but success and its reversal undo each other and are told anew."""
    told = attempt.told
    if attempt.state is State.REVERSED:
        told -= {State.SUCCEEDED}
    elif attempt.state is State.SUCCEEDED:
        told -= {State.REVERSED}
    return replace(attempt, told=told | {attempt.state}), attempt.state not in told


def _alerts(before: Attempt, after: Attempt, found: Step, siblings: Siblings) -> tuple[Alert, ...]:
    alerts = []
    if after.state is State.REVERSED and found.alert:
        alerts.append(Alert.REVERSED_AFTER_SUCCESS)
    if found.late and after.state is State.SUCCEEDED:
        alerts.append(Alert.PAID_TWICE if siblings.paid else Alert.LATE_SUCCESS)
    elif found.late and found.alert:
        alerts.append(Alert.LATE_AFTER_FAILURE)
    taken = after.state is State.SUCCEEDED
    expected = (before.capture_amount if taken else None) or before.amount
    if after.stated is not None and after.stated != expected:
        alerts.append(Alert.AMOUNT_MISMATCH)
    return tuple(alerts)
