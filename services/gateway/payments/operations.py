"""What can be done with payments: the intent is committed first, then the provider is asked."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import Page
from chassis.requests import claim, record
from gateway.accounts.store import find_provider_account
from gateway.attempts.domain import Operation
from gateway.attempts.operations import Work
from gateway.attempts.store import insert_attempt, insert_operation
from gateway.collection.operations import Collector
from gateway.domain.attempt import Attempt, State
from gateway.domain.method import MethodNotUsable, PaymentMethod
from gateway.domain.payment import DECLINES_WINDOW, Payment, PaymentState, check_retry
from gateway.domain.provider_account import check_takes_payments
from gateway.domain.resolution import Asking
from gateway.methods.store import find_method
from gateway.payments import store
from gateway.payments.wire import NewPayment, parse_after, render_payment
from gateway.providers.lines import Lines
from kernel.errors import NotFound
from kernel.ids import new_id
from tollgate.gateway.v1 import payment_service_pb2 as pb

# Kept back from the caller's time, so that the answer "still under way" reaches it.
REPLY_MARGIN_SECONDS = 0.25


class PaymentOperations:
    """Payments of tenants. A repeated request is answered with the payment as it now stands."""

    def __init__(self, database: Database, collector: Collector, lines: Lines) -> None:
        self._database = database
        self._collector = collector
        self._lines = lines

    async def create(
        self, call: Call, request: pb.CreatePaymentRequest, new: NewPayment
    ) -> Payment:
        """Collect an amount; raises MethodNotUsable, ProviderAccountDisabled, CapabilityMissing,
        AmountNotRepresentable, IdempotencyConflict."""
        tenant_id, work = call.tenant_id, None
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                first = pb.CreatePaymentResponse.FromString(recorded).payment
                payment_id = UUID(first.payment_id)
            else:
                payment_id = new_id(call.now)
                payment = Payment(
                    payment_id=payment_id,
                    customer_id=new.customer_id,
                    amount=new.amount,
                    source=new.source,
                    description=new.description,
                    state=PaymentState.PROCESSING,
                    outcome_unknown=False,
                    create_time=call.now,
                    capture_later=new.capture_later,
                )
                method = await find_method(tx, tenant_id, new.customer_id, new.payment_method_id)
                await store.insert_payment(tx, tenant_id, payment)
                work = await self._intend(tx, tenant_id, payment, method, call.now)
                response = pb.CreatePaymentResponse(payment=render_payment(work.payment))
                await record(tx, tenant_id, request.request_id, response)
        return await self._collect(call, payment_id, work)

    async def retry(
        self, call: Call, request: pb.RetryPaymentRequest, payment_id: UUID, method_id: UUID | None
    ) -> Payment:
        """Try an open payment again; raises NotFound, AttemptInFlight, RetryNotAllowed and what
        `create` raises."""
        tenant_id, work = call.tenant_id, None
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is None:
                payment = await store.lock_payment(tx, tenant_id, payment_id)
                if payment is None:
                    raise NotFound("payment", payment_id)
                method = await find_method(tx, tenant_id, payment.customer_id, method_id)
                if method is None:
                    raise MethodNotUsable(payment.customer_id)
                since = call.now - DECLINES_WINDOW
                declines = await store.list_declines(tx, tenant_id, method.payment_method_id, since)
                check_retry(payment, method.payment_method_id, declines, call.now, method.brand)
                await store.save_state(
                    tx, tenant_id, payment_id, PaymentState.PROCESSING, False, call.now
                )
                payment = replace(payment, state=PaymentState.PROCESSING, outcome_unknown=False)
                work = await self._intend(tx, tenant_id, payment, method, call.now)
                response = pb.RetryPaymentResponse(payment=render_payment(work.payment))
                await record(tx, tenant_id, request.request_id, response)
        return await self._collect(call, payment_id, work)

    async def find(self, tenant_id: UUID, payment_id: UUID) -> Payment:
        """One payment with its attempts; raises NotFound."""
        async with self._database.transaction(tenant_id) as tx:
            payment = await store.find_payment(tx, tenant_id, payment_id)
        if payment is None:
            raise NotFound("payment", payment_id)
        return payment

    async def list(self, tenant_id: UUID, customer_id: str | None, page: Page) -> list[Payment]:
        """A page of payments, newest first."""
        before = parse_after(page.after)
        async with self._database.transaction(tenant_id) as tx:
            return await store.list_payments(tx, tenant_id, customer_id, before, page.size)

    async def _intend(
        self,
        tx: Connection,
        tenant_id: UUID,
        payment: Payment,
        method: PaymentMethod | None,
        now: datetime,
    ) -> Work:
        """Write down an attempt and its operation; nothing is sent before they are committed."""
        if method is None or method.detach_time is not None:
            raise MethodNotUsable(payment.customer_id)
        account = await find_provider_account(tx, tenant_id, method.provider_account_id)
        assert account is not None, "a method has a provider account"
        provider, line = self._lines.of(account)
        able = provider.capabilities(line.login)
        check_takes_payments(account, able, capture_later=payment.capture_later)
        provider.units(payment.amount)
        attempt = Attempt(
            attempt_id=new_id(now),
            payment_id=payment.payment_id,
            number=len(payment.attempts) + 1,
            provider_account_id=account.provider_account_id,
            provider_account=account.code,
            payment_method_id=method.payment_method_id,
            amount=payment.amount,
            state=State.REQUESTED,
            create_time=now,
            update_time=now,
            capture_later=payment.capture_later,
        )
        # Leases and schedules run on the machine's clock: a test clock may stand still or leap.
        present = self._collector.clock.now()
        asking = Asking(
            start_time=present, sent_time=present, ask_time=present + self._collector.lease
        )
        operation = Operation(
            operation_id=new_id(now),
            target_id=attempt.attempt_id,
            provider_account_id=account.provider_account_id,
            key=str(uuid.uuid4()),
            reference=str(attempt.attempt_id),
            asking=asking,
            tries=1,
        )
        payment = replace(payment, attempts=(*payment.attempts, attempt))
        token = method.provider_token
        work = Work(
            tenant_id, payment, attempt, operation, token, provider, line, now, method=method
        )
        await insert_attempt(tx, tenant_id, attempt)
        await insert_operation(tx, tenant_id, operation, work.fingerprint())
        return work

    async def _collect(self, call: Call, payment_id: UUID, work: Work | None) -> Payment:
        """Ask the provider, or join who asks already, for as long as the caller has time."""
        if work is not None:
            self._collector.start(work)
            payment = work.payment
        else:
            payment = await self.find(call.tenant_id, payment_id)
        seconds = call.seconds_left() - REPLY_MARGIN_SECONDS
        await self._collector.wait(payment.attempts[-1].attempt_id, seconds)
        return await self.find(call.tenant_id, payment_id)
