"""A capture or cancellation of one attempt, and what answers make of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from gateway.attempts.domain import Kind, Operation
from gateway.attempts.operations import Work
from gateway.collection.domain import Standing
from gateway.domain.attempt import LIVE, Attempt, State
from gateway.domain.outcome import Finding, Outcome, Witness
from gateway.domain.provider_account import Capabilities
from gateway.domain.resolution import (
    NEVER_REACHED_PROVIDER,
    Question,
    absence_is_proof,
    after_empty_find,
    becoming,
    means_of,
    questions_by,
    scheduled,
)
from gateway.providers.driver import Line
from gateway.providers.plan import Cancel, Capture, Plan, Provider

_AIMS = {Kind.CAPTURE: State.SUCCEEDED, Kind.CANCEL: State.CANCELED}
_OWN_ANSWERS = frozenset({Witness.REPLY, Witness.REPLAY})


@dataclass(frozen=True, slots=True)
class Order:
    """An errand about an attempt that the provider has. `work` is the attempt's own."""

    work: Work
    operation: Operation

    @property
    def tenant_id(self) -> UUID:
        return self.work.tenant_id

    @property
    def provider(self) -> Provider:
        return self.work.provider

    @property
    def line(self) -> Line:
        return self.work.line

    @property
    def waited_for(self) -> UUID:
        return self.operation.operation_id

    @property
    def standing(self) -> Standing:
        if self.operation.done or self.work.attempt.state not in LIVE:
            return Standing.ENDED
        if self.operation.acknowledged:
            return Standing.WAITING
        unknown = self.operation.asking.unknown_since is not None
        return Standing.UNKNOWN if unknown else Standing.REQUESTED

    @property
    def stage(self) -> tuple[State, Standing]:
        return self.work.attempt.state, self.standing

    def offered(self, unknown: bool, now: datetime) -> tuple[Question, ...]:
        able = self.work.capabilities
        return questions_by(
            means_of(able),
            self.operation.asking,
            able.key_window,
            replayable=unknown or self.standing is Standing.UNKNOWN,
            has_provider_id=bool(self.work.attempt.provider_payment_id),
            now=now,
        )

    def command(self) -> Capture | Cancel:
        """The request itself: the same, word for word, each time it is sent."""
        attempt, operation = self.work.attempt, self.operation
        if operation.kind is Kind.CANCEL:
            return Cancel(
                reference=operation.reference,
                key=operation.key,
                amount=attempt.amount,
                provider_payment_id=attempt.provider_payment_id,
                notes=operation.notes,
            )
        return Capture(
            reference=operation.reference,
            key=operation.key,
            amount=attempt.capture_amount or attempt.amount,
            authorized=attempt.amount,
            provider_payment_id=attempt.provider_payment_id,
            notes=operation.notes,
        )

    def send(self) -> Plan:
        command = self.command()
        if isinstance(command, Cancel):
            assert self.provider.cancel is not None, "cancel is declared"
            return self.provider.cancel(command, self.line.login)
        assert self.provider.capture is not None, "manual_capture is declared"
        return self.provider.capture(command, self.line.login)

    def read(self) -> Plan:
        return self.work.read()

    def find(self) -> Plan:
        return self.work.find()


def after_answer(
    operation: Operation,
    attempt: Attempt,
    outcome: Outcome,
    witness: Witness,
    capabilities: Capabilities,
    now: datetime,
    last: bool,
) -> Operation:
    """What evidence makes of an order, once it is applied to the attempt."""
    asking = operation.asking
    if attempt.state not in LIVE:
        reached = attempt.state is _AIMS[operation.kind]
        why = "" if reached else outcome.decline_code or attempt.state.value
        return replace(operation, done=True, rejection=why)
    own = witness in _OWN_ANSWERS
    if own and outcome.finding is Finding.REJECTED:
        return replace(operation, done=True, rejection=outcome.decline_code)
    if own and outcome.finding is Finding.PENDING:
        asking = scheduled(becoming(asking, False, now), now)
        return replace(operation, acknowledged=True, asking=asking)
    asking = becoming(asking, not operation.acknowledged, now)
    looked = not own and outcome.finding not in (Finding.SILENCE, Finding.REJECTED)
    if looked and not operation.acknowledged:
        # The payment was seen as it was before: an empty find, as far as the order goes.
        if absence_is_proof(asking, capabilities, now):
            return replace(operation, done=True, rejection=NEVER_REACHED_PROVIDER)
        asking = after_empty_find(asking, capabilities, now)
    return replace(operation, asking=scheduled(asking, now) if last else asking)
