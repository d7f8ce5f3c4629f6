"""Asks the gateway for payments that are due, and tells the wallet how recharges ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from chassis.clocks import TenantClocks
from chassis.database import Database, DatabaseUnavailable
from chassis.messages import Message, consume_once
from chassis.peers import Peers, RemoteRefusal
from chassis.wire import parse_uuid
from invoicing.collection import store
from invoicing.collection.domain import WINDOW, Outcome
from invoicing.collection.operations import (
    give_up_waiting,
    plan_ask,
    record_outcome,
    record_report,
)
from invoicing.collection.wire import AttemptReport, report_of_message, reports_of_payment
from invoicing.invoices.store import StoredInvoice, lock_invoice
from invoicing.recharges.operations import RechargeEnds
from kernel.errors import Kind, Refusal
from tollgate.gateway.v1 import messages_pb2, payment_service_pb2_grpc
from tollgate.gateway.v1 import payment_pb2 as payments
from tollgate.gateway.v1 import payment_service_pb2 as pb
from tollgate.type.v1 import amount_pb2

SOURCE_KIND = "invoice"  # of the payments that this service asks for
AT_ONCE = 8  # questions to the gateway under way; each waits for a provider
IDLE_PAUSE_SECONDS = 0.2
AWAY_PAUSE_SECONDS = 1.0
# Between looks at tenants of whom nothing is due by the machine's clock: their own may be ahead.
PLANNED_SECONDS = 2.0
PAYMENT_SECONDS = 15.0  # a provider may take its time; what it then has not said is asked again

# Pauses of the machine's clock before one invoice is looked at again.
LEASE = timedelta(seconds=30)
AWAY_PAUSE = timedelta(seconds=1)  # the gateway did not answer
PENDING_PAUSE = timedelta(seconds=60)  # a message will come sooner, as a rule
FAULT_PAUSE = timedelta(hours=1)  # it refused what it should not: somebody must look

_PASSING = (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME, Kind.EXHAUSTED)

log = structlog.get_logger("invoicing.collection")


class Collector:
    """Brings open invoices to an end. Many may work side by side: every question has a key."""

    def __init__(
        self,
        database: Database,
        peers: Peers,
        clocks: TenantClocks,
        billing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._billing = billing  # whether a run is being billed here, which goes before
        self._peers = peers
        self._clocks = clocks
        self._recharges = RechargeEnds(database, peers)
        self._woken = asyncio.Event()
        self._look_at_planned = 0.0

    def wake(self) -> None:
        """Look at once: something was issued."""
        self._woken.set()

    async def run(self) -> None:
        while True:
            pause = IDLE_PAUSE_SECONDS
            try:
                if await self.work_once():
                    pause = 0.0
            except DatabaseUnavailable as error:
                log.warning("collection_waits", why=str(error))
                pause = AWAY_PAUSE_SECONDS
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), pause)
            except TimeoutError:
                continue

    async def work_once(self) -> int:
        """One round over every tenant with something to collect; returns how much was done."""
        present = asyncio.get_running_loop().time()
        all_planned = present >= self._look_at_planned
        if all_planned:
            self._look_at_planned = present + PLANNED_SECONDS
        async with self._database.unscoped() as connection:
            tenants = await store.list_tenants_to_collect(connection, all_planned=all_planned)
        worked = 0
        for tenant_id in tenants:
            try:
                now, _ = await self._clocks.now(tenant_id)
            except RemoteRefusal as refusal:
                log.warning("tenant_clock_unknown", tenant_id=str(tenant_id), why=refusal.message)
                continue
            worked += await self._work_for(tenant_id, now)
        return worked

    async def _work_for(self, tenant_id: UUID, now: datetime) -> int:
        async with self._database.transaction(tenant_id) as tx:
            due = await store.claim_due(
                tx, tenant_id, now, 2 * AT_ONCE, LEASE, of_runs=not self._billing()
            )
            over = await store.list_waiting(tx, tenant_id, now - WINDOW, AT_ONCE)
            for invoice_id in over:
                await give_up_waiting(tx, tenant_id, invoice_id, now)
        gate = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for invoice_id in due:
                group.create_task(self._collect(tenant_id, invoice_id, now, gate))
        return len(due) + await self._recharges.tell(tenant_id)

    async def _collect(
        self, tenant_id: UUID, invoice_id: UUID, now: datetime, gate: asyncio.Semaphore
    ) -> None:
        async with gate:
            stored = await plan_ask(self._database, tenant_id, invoice_id, now)
            if stored is None:
                return
            try:
                payment = await self._ask(tenant_id, stored)
            except RemoteRefusal as refusal:
                await self._refused(tenant_id, stored, refusal, now)
                return
            await self._record(tenant_id, invoice_id, reports_of_payment(payment), now)

    async def _ask(self, tenant_id: UUID, stored: StoredInvoice) -> payments.Payment:
        """Ask for the payment. The key is the invoice and the number of the question (PAY-2), so
        that asking the same again after a crash charges nothing twice."""
        stub = payment_service_pb2_grpc.PaymentServiceStub(self._peers.channel("gateway"))
        invoice, collection = stored.invoice, stored.collection
        key = f"invoice:{invoice.invoice_id}:{collection.asks}"
        if collection.payment_id:
            retried: pb.RetryPaymentResponse = await self._peers.call(
                stub.RetryPayment,
                pb.RetryPaymentRequest(request_id=key, payment_id=collection.payment_id),
                tenant_id=tenant_id,
                timeout=PAYMENT_SECONDS,
            )
            return retried.payment
        created: pb.CreatePaymentResponse = await self._peers.call(
            stub.CreatePayment,
            pb.CreatePaymentRequest(
                request_id=key,
                customer_id=invoice.draft.customer.customer_id,
                amount=amount_pb2.Amount(
                    asset=invoice.amount_due.asset.code, value=invoice.amount_due.value
                ),
                source=payments.SourceDocument(kind=SOURCE_KIND, id=str(invoice.invoice_id)),
                payment_method_id=collection.payment_method_id,
                description=f"Invoice {invoice.number}",
            ),
            tenant_id=tenant_id,
            timeout=PAYMENT_SECONDS,
        )
        return created.payment

    async def _record(
        self, tenant_id: UUID, invoice_id: UUID, reports: list[AttemptReport], now: datetime
    ) -> None:
        async with self._database.transaction(tenant_id) as tx:
            for report in reports:
                await record_report(tx, tenant_id, invoice_id, report, now)
            await store.set_claim(tx, tenant_id, invoice_id, PENDING_PAUSE)

    async def _refused(
        self, tenant_id: UUID, stored: StoredInvoice, refusal: RemoteRefusal, now: datetime
    ) -> None:
        invoice_id = stored.invoice.invoice_id
        if refusal.kind in _PASSING:
            await self._pause(tenant_id, invoice_id, AWAY_PAUSE)
            return
        # Something happened to the payment that nobody has told us yet.
        untold = refusal.reason in ("RETRY_NOT_ALLOWED", "ATTEMPT_IN_FLIGHT")
        if untold and await self._catch_up(tenant_id, stored, now):
            return
        if refusal.reason in ("METHOD_NOT_USABLE", "RETRY_NOT_ALLOWED"):
            async with self._database.transaction(tenant_id) as tx:
                present = await lock_invoice(tx, tenant_id, invoice_id)
                assert present is not None
                await record_outcome(
                    tx, tenant_id, present, Outcome.NO_METHOD, now, cause=refusal.reason
                )
            return
        if refusal.reason != "ATTEMPT_IN_FLIGHT":
            log.error("payment_refused", invoice_id=str(invoice_id), why=refusal.message)
        pause = PENDING_PAUSE if refusal.reason == "ATTEMPT_IN_FLIGHT" else FAULT_PAUSE
        await self._pause(tenant_id, invoice_id, pause)

    async def _catch_up(self, tenant_id: UUID, stored: StoredInvoice, now: datetime) -> bool:
        """Ask how the payment stands; True where that decided the question under way."""
        stub = payment_service_pb2_grpc.PaymentServiceStub(self._peers.channel("gateway"))
        invoice_id = stored.invoice.invoice_id
        try:
            answer: pb.GetPaymentResponse = await self._peers.call(
                stub.GetPayment,
                pb.GetPaymentRequest(payment_id=stored.collection.payment_id),
                tenant_id=tenant_id,
            )
        except Refusal:
            return False
        await self._record(tenant_id, invoice_id, reports_of_payment(answer.payment), now)
        async with self._database.transaction(tenant_id) as tx:
            present = await lock_invoice(tx, tenant_id, invoice_id)
        return present is None or not present.collection.ask_open

    async def _pause(self, tenant_id: UUID, invoice_id: UUID, pause: timedelta) -> None:
        async with self._database.transaction(tenant_id) as tx:
            await store.set_claim(tx, tenant_id, invoice_id, pause)


class PaymentListener:
    """Takes the gateway's messages. Whichever comes first, message or answer, counts."""

    def __init__(self, database: Database, clocks: TenantClocks) -> None:
        self._database = database
        self._clocks = clocks

    async def on_payment_changed(self, message: Message) -> None:
        """Handle "payment.*" of payments that are for invoices."""
        changed = messages_pb2.PaymentChanged.FromString(message.payload)
        if changed.source.kind != SOURCE_KIND:
            return
        invoice_id = parse_uuid(changed.source.id, "source.id")
        now, _ = await self._clocks.now(message.tenant_id)
        async with self._database.transaction(message.tenant_id) as tx:
            if await consume_once(tx, message):
                report = report_of_message(changed)
                await record_report(tx, message.tenant_id, invoice_id, report, now)
