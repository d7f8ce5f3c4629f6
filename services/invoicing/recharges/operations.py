"""A recharge: the wallet asks, an invoice is raised and paid, the wallet is told how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from chassis.clocks import TenantClocks
from chassis.database import Database
from chassis.messages import Message
from chassis.peers import Peers, RemoteRefusal
from invoicing.customers.store import lock_customer
from invoicing.invoices.domain.document import top_up
from invoicing.invoices.operations import issue_draft
from invoicing.invoices.store import lock_invoice
from invoicing.payments.store import add_to_balance
from invoicing.recharges import store
from invoicing.recharges.domain import Recharge, TopUp, TopUpState
from invoicing.recharges.wire import parse_recharge
from invoicing.sellers.domain import UNSTATED
from invoicing.sellers.store import find_seller
from invoicing.taxes.operations import load_tax_table
from kernel.errors import Kind
from kernel.ids import new_id
from tollgate.type.v1 import amount_pb2, refusal_pb2
from tollgate.wallet.v1 import (
    ledger_pb2,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
    messages_pb2,
    wallet_service_pb2,
    wallet_service_pb2_grpc,
)

LEASE = timedelta(seconds=10)
AT_ONCE = 20
CAUSE_CHARACTERS_MAX = 200

_PASSING = (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME, Kind.EXHAUSTED)

log = structlog.get_logger("invoicing.recharges")


class RechargeStarts:
    """Raises the invoice of a recharge that is due; its collection then goes on by itself."""

    def __init__(
        self,
        database: Database,
        peers: Peers,
        clocks: TenantClocks,
        issued: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._peers = peers
        self._clocks = clocks
        self._issued = issued  # called after every invoice, so that its collection starts at once

    async def on_recharge_due(self, message: Message) -> None:
        """Handle "wallet.recharge_due". A repeat finds the top-up and does nothing."""
        recharge = parse_recharge(messages_pb2.RechargeDue.FromString(message.payload))
        now, _ = await self._clocks.now(message.tenant_id)
        cause = await self._begin(message.tenant_id, recharge, now)
        self._issued()
        if cause is not None:
            # Nobody can be billed for it, and nobody could the next time.
            await end_recharge(
                self._peers,
                message.tenant_id,
                recharge.recharge_id,
                granted=False,
                disable_rule=True,
                cause=cause,
            )

    async def _begin(self, tenant_id: UUID, recharge: Recharge, now: datetime) -> str | None:
        """Issue the invoice; why not where that can never be done."""
        if recharge.price is None:
            return "the price is in no currency"
        async with self._database.transaction(tenant_id) as tx:
            customer = await lock_customer(tx, tenant_id, recharge.customer_id)
            if customer is None:
                return "invoicing knows no such customer"
            if await store.is_known_recharge(tx, tenant_id, recharge.recharge_id):
                return None
            seller = await find_seller(tx, tenant_id) or UNSTATED
            taxes = await load_tax_table(tx, tenant_id, customer, seller)
            buyer = replace(customer, currency=recharge.price.asset.code)
            draft = top_up(
                buyer,
                recharge.price,
                recharge.value,
                recharge.asset,
                recharge.exact_price,
                taxes,
                now,
            )
            invoice = await issue_draft(
                tx,
                tenant_id,
                draft,
                new_id(now),
                seller,
                now,
                recharge_id=recharge.recharge_id,
                payment_method_id=recharge.payment_method_id,
            )
            collecting = bool(invoice.amount_due.atoms)
            await store.insert_top_up(
                tx,
                tenant_id,
                TopUp(
                    recharge_id=recharge.recharge_id,
                    invoice_id=invoice.invoice_id,
                    wallet_id=recharge.wallet_id,
                    asset=recharge.asset,
                    value=recharge.value,
                    cost_basis=recharge.cost_basis,
                    cost_asset=recharge.price.asset.code,
                    state=TopUpState.COLLECTING if collecting else TopUpState.GRANTING,
                ),
            )
        return None


class RechargeEnds:
    """Tells the wallet how recharges ended: a grant keyed by the payment, or that there is none."""

    def __init__(self, database: Database, peers: Peers) -> None:
        self._database = database
        self._peers = peers

    async def tell(self, tenant_id: UUID) -> int:
        """Tell what is decided and not told; returns how many. What fails is told again later."""
        async with self._database.transaction(tenant_id) as tx:
            claimed = await store.claim_top_ups(tx, tenant_id, AT_ONCE, LEASE)
        told = 0
        for one, payment_id in claimed:
            try:
                if one.state is TopUpState.GRANTING:
                    await self._grant(tenant_id, one, payment_id)
                else:
                    await self._fail(tenant_id, one)
                told += 1
            except RemoteRefusal as refusal:
                log.warning(
                    "recharge_not_ended", recharge_id=str(one.recharge_id), why=refusal.message
                )
        return told

    async def _grant(self, tenant_id: UUID, one: TopUp, payment_id: str) -> None:
        stub = ledger_service_pb2_grpc.GrantServiceStub(self._peers.channel("wallet"))
        answer: ledger_service_pb2.CreateGrantsResponse = await self._peers.call(
            stub.CreateGrants,
            ledger_service_pb2.CreateGrantsRequest(
                items=[
                    ledger_service_pb2.GrantItem(
                        # The payment is the key: one payment grants once, whoever tells of it.
                        request_id=payment_id or f"recharge:{one.recharge_id}",
                        wallet_id=str(one.wallet_id),
                        amount=amount_pb2.Amount(asset=one.asset, value=one.value),
                        kind=ledger_pb2.GRANT_KIND_PAID,
                        cost_basis=one.cost_basis,
                        cost_asset=one.cost_asset,
                        source=f"payment {payment_id}" if payment_id else "",
                    )
                ]
            ),
            tenant_id=tenant_id,
        )
        outcome = answer.outcomes[0]
        if outcome.WhichOneof("outcome") == "refusal":
            await self._give_back(tenant_id, one, outcome.refusal)
            return
        await end_recharge(self._peers, tenant_id, one.recharge_id, granted=True)
        await self._save(tenant_id, replace(one, state=TopUpState.GRANTED))

    async def _give_back(self, tenant_id: UUID, one: TopUp, refusal: refusal_pb2.Refusal) -> None:
        """The wallet takes no grants any more: what was paid stays the customer's."""
        log.error("paid_grant_refused", recharge_id=str(one.recharge_id), why=refusal.message)
        async with self._database.transaction(tenant_id) as tx:
            stored = await lock_invoice(tx, tenant_id, one.invoice_id)
            assert stored is not None
            draft = stored.invoice.draft
            customer_id = draft.customer.customer_id
            await add_to_balance(tx, tenant_id, customer_id, draft.total)
            failing = replace(
                one, state=TopUpState.FAILING, disable_rule=True, cause=refusal.reason
            )
            await store.save_top_up(tx, tenant_id, failing)

    async def _fail(self, tenant_id: UUID, one: TopUp) -> None:
        await end_recharge(
            self._peers,
            tenant_id,
            one.recharge_id,
            granted=False,
            disable_rule=one.disable_rule,
            cause=one.cause,
        )
        await self._save(tenant_id, replace(one, state=TopUpState.FAILED))

    async def _save(self, tenant_id: UUID, one: TopUp) -> None:
        async with self._database.transaction(tenant_id) as tx:
            await store.save_top_up(tx, tenant_id, one)


async def end_recharge(
    peers: Peers,
    tenant_id: UUID,
    recharge_id: UUID,
    *,
    granted: bool,
    disable_rule: bool = False,
    cause: str = "",
) -> None:
    """Say how a recharge ended, so that the next may start. Saying it again is no change."""
    stub = wallet_service_pb2_grpc.RechargeServiceStub(peers.channel("wallet"))
    state = (
        wallet_service_pb2.RECHARGE_STATE_GRANTED
        if granted
        else wallet_service_pb2.RECHARGE_STATE_FAILED
    )
    try:
        await peers.call(
            stub.EndRecharge,
            wallet_service_pb2.EndRechargeRequest(
                recharge_id=str(recharge_id),
                state=state,
                disable_rule=disable_rule,
                cause=cause[:CAUSE_CHARACTERS_MAX],
            ),
            tenant_id=tenant_id,
        )
    except RemoteRefusal as refusal:
        if refusal.kind in _PASSING:
            raise
        # It knows no such recharge, or that it ended: either way there is nothing left to tell.
        log.warning("recharge_end_refused", recharge_id=str(recharge_id), why=refusal.message)
