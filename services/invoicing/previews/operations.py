"""What a change would cost: the next invoice with it, made by the code that makes invoices."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from chassis.call import Call
from chassis.database import Database
from chassis.peers import Peers
from invoicing.customers.operations import get_customer
from invoicing.invoices.domain.charge import LATE
from invoicing.invoices.domain.document import Draft
from invoicing.invoices.operations import (
    Basis,
    UsageReader,
    list_charges,
    load_basis,
    make_draft,
)
from invoicing.invoices.store import list_sources
from invoicing.invoices.wire import render_draft
from invoicing.subscriptions.domain.options import Options, Proration, TrialRefused
from invoicing.subscriptions.domain.subscription import Subscription, billed
from invoicing.subscriptions.operations import Target, preview_changed
from tollgate.gateway.v1 import payment_service_pb2, payment_service_pb2_grpc

STEPS_MAX = 1_000  # invoices until a change takes effect; a daily plan has 366 in a year


@dataclass(frozen=True)
class Preview:
    """A subscription after a change that was not made, and the invoice with and without it."""

    subscription: Subscription
    due_time: datetime
    draft: Draft
    without: Draft

    @property
    def digest(self) -> str:
        """Of the money: the same lines and totals give the same digest."""
        told = render_draft(self.draft)
        for line in told.lines:
            line.ClearField("subscription_item_id")
        return hashlib.sha256(told.SerializeToString(deterministic=True)).hexdigest()[:32]


async def preview_change(
    database: Database,
    reader: UsageReader,
    tenant_id: UUID,
    subscription_id: UUID,
    target: Target,
    options: Options,
    call: Call,
) -> Preview:
    """The first invoice that a change is on, if nothing more were used until then.

    Invoices before it are made and taken as issued, so that it shows what will be left for it.
    Raises what the change itself would.
    """
    async with database.transaction(tenant_id) as tx:
        before, after, at = await preview_changed(
            tx, tenant_id, subscription_id, target, options, call.now
        )
        customer = await get_customer(tx, tenant_id, before.customer_id)
        payer = customer.payer_customer_id or customer.customer_id
        basis = await load_basis(tx, tenant_id, payer)
        if before.subscription_id not in basis.revisions:
            # Nothing of it was left to bill, so that its bills were not read either.
            items = [item.subscription_item_id for item in before.items]
            own = await list_sources(tx, tenant_id, items, before.bill_from_time - LATE)
            basis = replace(
                basis, subscriptions=(*basis.subscriptions, before), billed=(*basis.billed, *own)
            )
    subscriptions = [
        after if one.subscription_id == subscription_id else one for one in basis.subscriptions
    ]
    present = basis.subscriptions
    now = options.proration is Proration.INVOICE_NOW
    due, draft = await _first_at(
        reader, tenant_id, replace(basis, subscriptions=tuple(subscriptions)), at, call, now
    )
    _, without = await _first_at(
        reader, tenant_id, replace(basis, subscriptions=present), due, call, True
    )
    return Preview(after, due, draft, without)


async def check_payment_method(peers: Peers, call: Call, customer_id: str) -> None:
    """Raises TrialRefused where no payment method is on file. Not inside a transaction."""
    stub = payment_service_pb2_grpc.PaymentMethodServiceStub(peers.channel("gateway"))
    answer: payment_service_pb2.ListPaymentMethodsResponse = await peers.call(
        stub.ListPaymentMethods,
        payment_service_pb2.ListPaymentMethodsRequest(customer_id=customer_id, page_size=1),
        tenant_id=call.tenant_id,
        call=call,
    )
    if not answer.payment_methods:
        raise TrialRefused(customer_id, "it needs a payment method on file")


async def _first_at(
    reader: UsageReader,
    tenant_id: UUID,
    basis: Basis,
    at: datetime,
    call: Call,
    then: bool,
) -> tuple[datetime, Draft]:
    """The first invoice due at or after an instant, or with `then` exactly at it."""
    at = max(at, call.now)
    for _ in range(STEPS_MAX):
        due = max(_next_bill(basis.subscriptions) or at, call.now)
        if then and due > at:
            due = at
        charges = list_charges(basis, due, call.now)
        consumptions = await reader.read(tenant_id, charges, call, settled=False)
        draft = make_draft(basis, charges, consumptions)
        if due >= at:
            return due, draft
        basis = replace(
            basis,
            billed=(*basis.billed, *draft.sources),
            subscriptions=tuple(billed(one, due) for one in basis.subscriptions),
        )
    raise AssertionError("more invoices than there can be before a change")


def _next_bill(subscriptions: Sequence[Subscription]) -> datetime | None:
    times = [one.next_bill_time for one in subscriptions if one.next_bill_time is not None]
    return min(times, default=None)
