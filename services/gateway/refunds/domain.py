"""The errand that sends a refund."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.attempts.domain import Operation
from gateway.collection.domain import Standing
from gateway.domain.attempt import Attempt
from gateway.domain.payment import Payment
from gateway.domain.provider_account import Capabilities
from gateway.domain.refund import OPEN, Refund, RefundState
from gateway.domain.resolution import Question, questions_by, refund_means_of
from gateway.providers import plan
from gateway.providers.driver import Line
from gateway.providers.plan import LookRefund, Plan, Provider


@dataclass(frozen=True, slots=True)
class RefundWork:
    """All that is needed to send a refund, or to ask about it."""

    tenant_id: UUID
    payment: Payment
    attempt: Attempt
    refund: Refund
    operation: Operation
    provider: Provider
    line: Line
    now: datetime | None = None  # the tenant's time as the call had it; None: work without a call

    @property
    def capabilities(self) -> Capabilities:
        return self.provider.capabilities(self.line.login)

    @property
    def waited_for(self) -> UUID:
        return self.refund.refund_id

    @property
    def standing(self) -> Standing:
        match self.refund.state:
            case RefundState.REQUESTED:
                return Standing.REQUESTED
            case RefundState.UNKNOWN:
                return Standing.UNKNOWN
        return Standing.WAITING if self.refund.state in OPEN else Standing.ENDED

    @property
    def stage(self) -> RefundState:
        return self.refund.state

    def offered(self, unknown: bool, now: datetime) -> tuple[Question, ...]:
        able = self.capabilities
        return questions_by(
            refund_means_of(able),
            self.operation.asking,
            able.key_window,
            replayable=unknown or self.refund.state is RefundState.UNKNOWN,
            has_provider_id=bool(self.refund.provider_refund_id),
            now=now,
        )

    def command(self) -> plan.Refund:
        """The request itself: the same, word for word, each time it is sent."""
        return plan.Refund(
            reference=self.operation.reference,
            key=self.operation.key,
            amount=self.refund.amount,
            provider_payment_id=self.attempt.provider_payment_id,
            payment_reference=str(self.attempt.attempt_id),
            captured=self.refund.captured,
            refunded_before=self.refund.refunded_before,
            reason=self.refund.reason,
            time=self.refund.create_time,
            notes=self.operation.notes,
        )

    def send(self) -> Plan:
        assert self.provider.refund is not None, "refund is declared"
        return self.provider.refund(self.command(), self.line.login)

    def read(self) -> Plan:
        assert self.provider.read_refund is not None, "refund_read_by_id is declared"
        return self.provider.read_refund(self._look(), self.line.login)

    def find(self) -> Plan:
        assert self.provider.find_refund is not None, "refund_lookup is declared"
        return self.provider.find_refund(self._look(), self.line.login)

    def _look(self) -> LookRefund:
        return LookRefund(
            reference=self.operation.reference,
            amount=self.refund.amount,
            provider_payment_id=self.attempt.provider_payment_id,
            provider_refund_id=self.refund.provider_refund_id,
            time=self.refund.create_time,
            notes=self.operation.notes,
        )
