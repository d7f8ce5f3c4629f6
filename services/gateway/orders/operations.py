"""Captures and cancellations: what can be asked of a provider about a payment that it has."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.requests import claim, record
from gateway.attempts import store
from gateway.attempts.domain import Kind, Operation, fingerprint_of
from gateway.attempts.operations import Recorder, TenantNow
from gateway.collection.operations import Collector
from gateway.domain.attempt import Attempt, State
from gateway.domain.outcome import Witness, as_evidence
from gateway.domain.payment import (
    OutcomeUnknown,
    Payment,
    PaymentState,
    StateNotAllowed,
    capture_amount,
    project,
)
from gateway.domain.provider_account import Capabilities, CapabilityMissing
from gateway.domain.resolution import Asking
from gateway.orders.domain import Order, after_answer
from gateway.orders.wire import Ordered
from gateway.payments import store as payments
from gateway.providers.driver import Played
from kernel.clock import Clock
from kernel.errors import NotFound
from kernel.ids import new_id
from kernel.money import Amount
from tollgate.gateway.v1 import payment_service_pb2 as pb

# Kept back from the caller's time, so that the answer "still under way" reaches it.
REPLY_MARGIN_SECONDS = 0.25
# What a cancellation can reach. Before that, nobody knows the provider's object.
_CANCELABLE = frozenset({State.ACTION_REQUIRED, State.PROCESSING, State.AUTHORIZED})


class OrderOperations:
    """Captures and cancellations of tenants. A repeat is answered with how things now stand."""

    def __init__(self, database: Database, collector: Collector, orders: OrderRecorder) -> None:
        self._database = database
        self._collector = collector
        self._orders = orders

    async def capture(
        self, call: Call, request: pb.CapturePaymentRequest, payment_id: UUID, asked: Amount | None
    ) -> Ordered:
        """Take what is reserved; raises NotFound, StateNotAllowed, OutcomeUnknown,
        CapabilityMissing, InvalidValue."""
        tenant_id, order = call.tenant_id, None
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is None:
                payment = await _lock(tx, tenant_id, payment_id)
                attempt, amount = capture_amount(payment, asked)
                able, code = await self._able(tx, tenant_id, attempt)
                if not able.manual_capture:
                    raise CapabilityMissing("manual_capture", code)
                if amount != payment.amount and not able.partial_capture:
                    raise CapabilityMissing("partial_capture", code)
                if await store.has_open_order(tx, tenant_id, attempt.attempt_id):
                    raise OutcomeUnknown(payment_id)
                await store.save_capture_amount(tx, tenant_id, attempt.attempt_id, amount)
                order = await self._intend(tx, tenant_id, attempt, Kind.CAPTURE)
                await record(tx, tenant_id, request.request_id, pb.CapturePaymentResponse())
        return await self._carry_out(call, payment_id, order)

    async def cancel(
        self, call: Call, request: pb.CancelPaymentRequest, payment_id: UUID
    ) -> Ordered:
        """Call a payment off; raises NotFound, StateNotAllowed, OutcomeUnknown."""
        tenant_id, order = call.tenant_id, None
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is None:
                payment = await _lock(tx, tenant_id, payment_id)
                if payment.state is PaymentState.SUCCEEDED:
                    raise StateNotAllowed(payment_id, payment.state.value)
                order = await self._call_off(tx, call, payment)
                await record(tx, tenant_id, request.request_id, pb.CancelPaymentResponse())
        return await self._carry_out(call, payment_id, order)

    async def _call_off(self, tx: Connection, call: Call, payment: Payment) -> Order | None:
        """Note that nobody wants a payment; what its live attempt still needs, if anything."""
        tenant_id, attempt = call.tenant_id, payment.attempts[-1]
        open_order = await store.find_last_order(tx, tenant_id, attempt.attempt_id)
        if open_order is not None and open_order.done:
            open_order = None
        if open_order is not None and open_order.kind is Kind.CAPTURE:
            raise OutcomeUnknown(payment.payment_id)
        await payments.save_cancel_requested(tx, tenant_id, payment.payment_id)
        states = [each.state for each in payment.attempts]
        state, unknown = project(states, cancel_requested=True)
        await payments.save_state(tx, tenant_id, payment.payment_id, state, unknown, call.now)
        if attempt.state not in _CANCELABLE or not attempt.provider_payment_id or open_order:
            return None
        able, _ = await self._able(tx, tenant_id, attempt)
        return await self._intend(tx, tenant_id, attempt, Kind.CANCEL) if able.cancel else None

    async def _able(
        self, tx: Connection, tenant_id: UUID, attempt: Attempt
    ) -> tuple[Capabilities, str]:
        charge = await store.find_charge(tx, tenant_id, attempt.attempt_id)
        work = await self._orders.attempts.load(tx, tenant_id, charge)
        assert work is not None, "an attempt has an operation"
        return work.capabilities, attempt.provider_account

    async def _intend(self, tx: Connection, tenant_id: UUID, attempt: Attempt, kind: Kind) -> Order:
        """Write down a capture or cancellation; nothing is sent before it is committed."""
        present = self._collector.clock.now()
        operation = Operation(
            operation_id=new_id(present),
            target_id=attempt.attempt_id,
            provider_account_id=attempt.provider_account_id,
            key=str(uuid.uuid4()),
            reference=str(attempt.attempt_id),
            asking=Asking(present, present, present + self._collector.lease),
            kind=kind,
            tries=1,
        )
        order = await self._orders.load(tx, tenant_id, operation)
        assert order is not None, "an attempt has an operation"
        await store.insert_operation(tx, tenant_id, operation, fingerprint_of(order.command()))
        return order

    async def _carry_out(self, call: Call, payment_id: UUID, order: Order | None) -> Ordered:
        """Ask the provider, or join who asks already, for as long as the caller has time."""
        operation_id: UUID | None
        if order is not None:
            self._collector.start(order)
            operation_id = order.operation.operation_id
        else:
            _, operation_id = await self._find(call.tenant_id, payment_id)
        if operation_id is not None:
            seconds = call.seconds_left() - REPLY_MARGIN_SECONDS
            await self._collector.wait(operation_id, seconds)
        return (await self._find(call.tenant_id, payment_id))[0]

    async def _find(self, tenant_id: UUID, payment_id: UUID) -> tuple[Ordered, UUID | None]:
        async with self._database.transaction(tenant_id) as tx:
            payment = await payments.find_payment(tx, tenant_id, payment_id)
            if payment is None:
                raise NotFound("payment", payment_id)
            last = await store.find_last_order(tx, tenant_id, payment.attempts[-1].attempt_id)
        if last is None:
            return Ordered(payment), None
        unknown = not last.done and not last.acknowledged
        return Ordered(payment, unknown, last.rejection), last.operation_id


class OrderRecorder:
    """Loads captures and cancellations, and records what came of them on their attempt."""

    def __init__(
        self, database: Database, attempts: Recorder, clock: Clock, tenant_now: TenantNow
    ) -> None:
        self.attempts = attempts
        self._database = database
        self._clock = clock
        self._tenant_now = tenant_now

    async def load(self, tx: Connection, tenant_id: UUID, operation: Operation) -> Order | None:
        """The order as it stands, with what the charge noted on its way."""
        charge = await store.find_charge(tx, tenant_id, operation.target_id)
        notes = {**charge.notes, **operation.notes}
        operation = replace(operation, notes=notes)
        work = await self.attempts.load(tx, tenant_id, charge)
        return Order(replace(work, operation=operation), operation) if work else None

    async def record(
        self,
        errand: Order,
        played: Played,
        witness: Witness,
        *,
        last: bool,
        machine_now: datetime | None = None,
    ) -> Order:
        """Record what a plan came to, and set when to ask next; returns the order as it is now."""
        present = machine_now or self._clock.now()
        work, tenant_id = errand.work, errand.tenant_id
        tenant_now = work.now or await self._tenant_now(tenant_id)
        operation_id = errand.operation.operation_id
        async with self._database.transaction(tenant_id) as tx:
            applied = await self.attempts.apply(
                tx, work, played, witness, last=True, present=present, tenant_now=tenant_now
            )
            operation = await store.lock_order(tx, tenant_id, operation_id)
            if not operation.done or applied.changed:
                outcome = as_evidence(played.outcome, witness)
                operation = after_answer(
                    operation, applied.attempt, outcome, witness, work.capabilities, present, last
                )
                await store.save_order(tx, tenant_id, operation)
                await store.save_operation(
                    tx, tenant_id, operation_id, operation.asking, done=operation.done
                )
        self.attempts.report(work, applied)
        operation = replace(operation, notes=errand.operation.notes)
        return Order(replace(work, attempt=applied.attempt, operation=operation), operation)


async def _lock(tx: Connection, tenant_id: UUID, payment_id: UUID) -> Payment:
    payment = await payments.lock_payment(tx, tenant_id, payment_id)
    if payment is None:
        raise NotFound("payment", payment_id)
    return payment
