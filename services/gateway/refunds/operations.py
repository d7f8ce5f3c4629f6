"""What can be done with refunds: the intent reserves the amount, then the provider is asked."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import structlog

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.messages import append
from chassis.requests import claim, record
from gateway.accounts.store import find_provider_account
from gateway.attempts.domain import Kind, Operation, fingerprint_of
from gateway.attempts.operations import TenantNow, judge_account, weigh
from gateway.attempts.store import (
    Evidence,
    append_calls,
    append_evidence,
    correct_refunded,
    find_charge,
    insert_operation,
    lock_operation,
    reserve_refund,
    save_operation,
)
from gateway.collection.operations import Collector
from gateway.domain.attempt import State
from gateway.domain.outcome import UNCLEAR, Witness, as_evidence
from gateway.domain.payment import Payment, StateNotAllowed
from gateway.domain.provider_account import CapabilityMissing
from gateway.domain.refund import (
    OPEN,
    AppliedToRefund,
    Refund,
    RefundState,
    apply,
    new_refund,
    refund_amount,
)
from gateway.domain.resolution import Asking, becoming, scheduled
from gateway.payments import store as payments
from gateway.providers.driver import Played
from gateway.providers.lines import Lines
from gateway.refunds import store
from gateway.refunds.domain import RefundWork
from gateway.refunds.wire import MESSAGE_KINDS, NewRefund, render_change, render_refund
from kernel.clock import Clock
from kernel.errors import NotFound
from kernel.ids import new_id
from tollgate.gateway.v1 import payment_service_pb2 as pb

# Kept back from the caller's time, so that the answer "still under way" reaches it.
REPLY_MARGIN_SECONDS = 0.25

log = structlog.get_logger("gateway.refunds")


class RefundOperations:
    """Refunds of tenants. A repeated request is answered with the refund as it now stands."""

    def __init__(self, database: Database, collector: Collector, refunds: RefundRecorder) -> None:
        self._database = database
        self._collector = collector
        self._refunds = refunds

    async def create(self, call: Call, request: pb.CreateRefundRequest, new: NewRefund) -> Refund:
        """Send money back; raises NotFound, StateNotAllowed, RefundExceedsCaptured,
        CapabilityMissing, InvalidValue, IdempotencyConflict."""
        tenant_id, work = call.tenant_id, None
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                first = pb.CreateRefundResponse.FromString(recorded).refund
                refund_id = UUID(first.refund_id)
            else:
                work = await self._intend(tx, call, new)
                refund_id = work.refund.refund_id
                response = pb.CreateRefundResponse(refund=render_refund(work.refund))
                await record(tx, tenant_id, request.request_id, response)
        if work is not None:
            self._collector.start(work)
        await self._collector.wait(refund_id, call.seconds_left() - REPLY_MARGIN_SECONDS)
        return await self.find(tenant_id, refund_id)

    async def find(self, tenant_id: UUID, refund_id: UUID) -> Refund:
        """One refund; raises NotFound."""
        async with self._database.transaction(tenant_id) as tx:
            refund = await store.find_refund(tx, tenant_id, refund_id)
        if refund is None:
            raise NotFound("refund", refund_id)
        return refund

    async def list(
        self,
        tenant_id: UUID,
        payment_id: UUID | None,
        before: tuple[datetime, UUID] | None,
        size: int,
    ) -> list[Refund]:
        """A page of refunds, newest first."""
        async with self._database.transaction(tenant_id) as tx:
            return await store.list_refunds(tx, tenant_id, payment_id, before, size)

    async def _intend(self, tx: Connection, call: Call, new: NewRefund) -> RefundWork:
        """Reserve the amount and write the operation down; nothing is sent before the commit."""
        tenant_id = call.tenant_id
        # The lock makes two refunds of one payment take turns: the second sees what the first left.
        payment = await payments.lock_payment(tx, tenant_id, new.payment_id)
        if payment is None:
            raise NotFound("payment", new.payment_id)
        taken = [each for each in payment.attempts if each.state is State.SUCCEEDED]
        if not taken:
            raise StateNotAllowed(payment.payment_id, payment.state.value)
        attempt = taken[-1]
        amount = refund_amount(attempt, new.amount)
        refund = new_refund(attempt, amount, new.reason, call.now)
        present = self._collector.clock.now()
        operation = Operation(
            operation_id=new_id(present),
            target_id=refund.refund_id,
            provider_account_id=attempt.provider_account_id,
            key=str(uuid.uuid4()),
            reference=str(refund.refund_id),
            asking=Asking(present, present, present + self._collector.lease),
            kind=Kind.REFUND,
            tries=1,
        )
        work = await self._refunds.assemble(tx, tenant_id, payment, refund, operation)
        able = work.capabilities
        if not able.refund:
            raise CapabilityMissing("refund", attempt.provider_account)
        if amount != attempt.captured and not able.partial_refund:
            raise CapabilityMissing("partial_refund", attempt.provider_account)
        work.provider.units(amount)
        await store.insert_refund(tx, tenant_id, refund)
        await reserve_refund(tx, tenant_id, attempt.attempt_id, amount.atoms)
        await insert_operation(tx, tenant_id, operation, fingerprint_of(work.command()))
        return replace(work, now=call.now)


class RefundRecorder:
    """Loads the work of refunds, and records what was found out about them."""

    def __init__(
        self, database: Database, lines: Lines, clock: Clock, tenant_now: TenantNow
    ) -> None:
        self._database = database
        self._lines = lines
        self._clock = clock
        self._tenant_now = tenant_now

    async def load(
        self, tx: Connection, tenant_id: UUID, operation: Operation
    ) -> RefundWork | None:
        """The work of a refund as it stands."""
        refund = await store.find_refund(tx, tenant_id, operation.target_id)
        if refund is None:
            return None
        payment = await payments.find_payment(tx, tenant_id, refund.payment_id)
        assert payment is not None, "a refund has a payment"
        return await self.assemble(tx, tenant_id, payment, refund, operation)

    async def assemble(
        self,
        tx: Connection,
        tenant_id: UUID,
        payment: Payment,
        refund: Refund,
        operation: Operation,
    ) -> RefundWork:
        """The same of parts at hand; what the charge noted on its way goes with it."""
        account = await find_provider_account(tx, tenant_id, refund.provider_account_id)
        assert account is not None, "a refund has a provider account"
        charge = await find_charge(tx, tenant_id, refund.attempt_id)
        attempt = next(each for each in payment.attempts if each.attempt_id == refund.attempt_id)
        operation = replace(operation, notes={**charge.notes, **operation.notes})
        provider, line = self._lines.of(account)
        return RefundWork(tenant_id, payment, attempt, refund, operation, provider, line)

    async def record(
        self,
        errand: RefundWork,
        played: Played,
        witness: Witness,
        *,
        last: bool,
        machine_now: datetime | None = None,
    ) -> RefundWork:
        """Record what a plan came to, and set when to ask next; returns the work as it is now."""
        present = machine_now or self._clock.now()
        tenant_now = errand.now or await self._tenant_now(errand.tenant_id)
        async with self._database.transaction(errand.tenant_id) as tx:
            applied = await self.apply(
                tx, errand, played, witness, last=last, present=present, tenant_now=tenant_now
            )
        self.report(errand, applied)
        return replace(errand, refund=applied.refund)

    async def apply(
        self,
        tx: Connection,
        work: RefundWork,
        played: Played,
        witness: Witness,
        *,
        last: bool,
        present: datetime,
        tenant_now: datetime,
    ) -> AppliedToRefund:
        """The same inside a caller's transaction."""
        tenant_id, refund_id = work.tenant_id, work.refund.refund_id
        # Lock before looking: of two witnesses of one fact, the second must find it decided.
        await payments.lock_payment(tx, tenant_id, work.payment.payment_id)
        refund = await store.lock_refund(tx, tenant_id, refund_id)
        operation = await lock_operation(tx, tenant_id, refund_id)
        outcome, asking = weigh(
            as_evidence(played.outcome, witness), operation.asking, work.capabilities, present
        )
        applied = apply(refund, outcome, tenant_now)
        if applied.refund != refund:
            await store.save_refund(tx, tenant_id, applied.refund)
        if applied.reserves:
            await correct_refunded(tx, tenant_id, refund.attempt_id, applied.reserves)
        evidence = Evidence(
            refund.attempt_id,
            witness,
            outcome.finding,
            applied.before.value,
            applied.refund.state.value,
            outcome.detail,
            [applied.alert] if applied.alert else [],
            refund_id,
        )
        await append_evidence(tx, tenant_id, evidence, present)
        await append_calls(tx, tenant_id, operation.operation_id, played.calls, present)
        asking = becoming(asking, applied.refund.state is RefundState.UNKNOWN, present)
        if last or outcome.finding not in UNCLEAR:
            asking = scheduled(asking, present)
        done = applied.refund.state not in OPEN
        await save_operation(tx, tenant_id, operation.operation_id, asking, done=done)
        if asking.handed_over and not operation.asking.handed_over:
            log.error("refund_needs_people", refund_id=str(refund_id))
        kind = MESSAGE_KINDS.get(applied.refund.state)
        if applied.changed and kind is not None:
            await append(tx, tenant_id, kind, render_change(work.payment, applied.refund))
        await judge_account(tx, tenant_id, work.line.account, played)
        return applied

    def report(self, work: RefundWork, applied: AppliedToRefund) -> None:
        """Tell people what they must know of, once it is committed."""
        if applied.alert:
            log.error(
                "refund_alert",
                alert=applied.alert,
                tenant_id=str(work.tenant_id),
                refund_id=str(work.refund.refund_id),
            )
