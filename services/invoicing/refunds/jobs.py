"""Asks the gateway to send money of credit notes back, until it has clearly answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import structlog

from chassis.database import Database, DatabaseUnavailable
from chassis.messages import Message, consume_once
from chassis.peers import Peers, RemoteRefusal
from invoicing.payments.store import add_to_balance
from invoicing.refunds import store
from invoicing.refunds.domain import CHANGES, KEPT, CreditRefund, RefundState
from kernel.errors import Kind
from tollgate.gateway.v1 import messages_pb2, payment_service_pb2_grpc, refund_pb2
from tollgate.gateway.v1 import payment_service_pb2 as pb
from tollgate.type.v1 import amount_pb2

AT_ONCE = 8
IDLE_PAUSE_SECONDS = 0.5
AWAY_PAUSE_SECONDS = 1.0
REFUND_SECONDS = 15.0  # a provider may take its time; what it then has not said is asked again

# Pauses of the machine's clock before the gateway is asked about one refund again.
LEASE = timedelta(seconds=30)
AWAY_PAUSE = timedelta(seconds=2)
PENDING_PAUSE = timedelta(seconds=60)  # a message will come sooner, as a rule

_PASSING = (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME, Kind.EXHAUSTED)
_STATES: Mapping[int, RefundState] = {
    refund_pb2.REFUND_STATE_SUCCEEDED: RefundState.SUCCEEDED,
    refund_pb2.REFUND_STATE_DECLINED: RefundState.FAILED,
    refund_pb2.REFUND_STATE_FAILED: RefundState.FAILED,
    refund_pb2.REFUND_STATE_REVERSED: RefundState.RETURNED,
}

log = structlog.get_logger("invoicing.refunds")


class RefundSender:
    """Brings refunds to an end. Many may work side by side: a credit note is the key."""

    def __init__(self, database: Database, peers: Peers) -> None:
        self._database = database
        self._peers = peers

    async def run(self) -> None:
        while True:
            pause = IDLE_PAUSE_SECONDS
            try:
                if await self.work_once():
                    pause = 0.0
            except DatabaseUnavailable as error:
                log.warning("refunds_wait", why=str(error))
                pause = AWAY_PAUSE_SECONDS
            await asyncio.sleep(pause)

    async def work_once(self) -> int:
        """One round over every tenant with a refund to ask about; returns how many."""
        async with self._database.unscoped() as connection:
            tenants = await store.list_tenants_to_refund(connection)
        worked = 0
        for tenant_id in tenants:
            async with self._database.transaction(tenant_id) as tx:
                claimed = await store.claim_refunds(tx, tenant_id, AT_ONCE, LEASE)
            async with asyncio.TaskGroup() as group:
                for refund in claimed:
                    group.create_task(self._bring_on(tenant_id, refund))
            worked += len(claimed)
        return worked

    async def on_refund_changed(self, message: Message) -> None:
        """Handle "refund.*": whatever it says, the gateway is asked how the refund stands."""
        changed = messages_pb2.RefundChanged.FromString(message.payload)
        async with self._database.transaction(message.tenant_id) as tx:
            if await consume_once(tx, message):
                await store.ask_again(tx, message.tenant_id, changed.refund_id)

    async def _bring_on(self, tenant_id: UUID, refund: CreditRefund) -> None:
        try:
            answer = await self._ask(tenant_id, refund)
        except RemoteRefusal as refusal:
            if refusal.kind in _PASSING or refusal.reason == "OUTCOME_UNKNOWN":
                await self._save(tenant_id, refund, refund.state, AWAY_PAUSE)
                return
            log.error(
                "refund_refused", credit_note_id=str(refund.credit_note_id), why=refusal.message
            )
            refused = replace(refund, failure_code=refusal.reason)
            await self._save(tenant_id, refused, RefundState.FAILED, None)
            return
        told = replace(refund, refund_id=answer.refund_id, failure_code=answer.failure_code)
        state = _STATES.get(answer.state, RefundState.PENDING)
        pause = PENDING_PAUSE if state is RefundState.PENDING else None
        await self._save(tenant_id, told, state, pause)

    async def _ask(self, tenant_id: UUID, refund: CreditRefund) -> refund_pb2.Refund:
        stub = payment_service_pb2_grpc.RefundServiceStub(self._peers.channel("gateway"))
        if refund.refund_id:
            known: pb.GetRefundResponse = await self._peers.call(
                stub.GetRefund,
                pb.GetRefundRequest(refund_id=refund.refund_id),
                tenant_id=tenant_id,
            )
            return known.refund
        made: pb.CreateRefundResponse = await self._peers.call(
            stub.CreateRefund,
            pb.CreateRefundRequest(
                request_id=f"credit_note:{refund.credit_note_id}",
                payment_id=refund.payment_id,
                amount=amount_pb2.Amount(asset=refund.amount.asset.code, value=refund.amount.value),
                reason=f"Credit note {refund.note_number}",
            ),
            tenant_id=tenant_id,
            timeout=REFUND_SECONDS,
        )
        return made.refund

    async def _save(
        self, tenant_id: UUID, refund: CreditRefund, state: RefundState, pause: timedelta | None
    ) -> None:
        """Record where it stands; what is not sent back after all stays the customer's money."""
        async with self._database.transaction(tenant_id) as tx:
            present = await store.lock_refund(tx, tenant_id, refund.credit_note_id)
            assert present is not None
            moves = state in CHANGES[present.state]
            if moves and state in KEPT:
                await add_to_balance(tx, tenant_id, refund.customer_id, refund.amount)
            final = replace(refund, state=state if moves else present.state)
            await store.save_refund(tx, tenant_id, final, pause)
