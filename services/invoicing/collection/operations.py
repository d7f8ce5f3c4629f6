"""Collecting an invoice: plan, ask the gateway outside any transaction, record what it said."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

import structlog

from chassis.database import Connection, Database
from invoicing.collection import store
from invoicing.collection.domain import (
    Collection,
    DunningState,
    Outcome,
    ask,
    decide,
    expire,
    resume,
)
from invoicing.collection.wire import AttemptReport
from invoicing.invoices.domain.document import (
    STATE_CHANGES,
    Invoice,
    InvoiceKind,
    InvoiceState,
)
from invoicing.invoices.operations import tell
from invoicing.invoices.store import (
    StoredInvoice,
    lock_balance,
    lock_invoice,
    save_balance,
    save_collection,
)
from invoicing.recharges.domain import CHANGES, TopUpState
from invoicing.recharges.store import lock_top_up, save_top_up
from kernel.errors import Kind, NotFound, Refusal
from kernel.money import Amount

log = structlog.get_logger("invoicing.collection")

_DECLINES = (Outcome.DECLINED_SOFT, Outcome.DECLINED_HARD, Outcome.DECLINED_FRAUD)
_STOPPED = (Outcome.DECLINED_HARD, Outcome.DECLINED_FRAUD, Outcome.NO_METHOD)


class InvoiceNotOpen(Refusal):
    """Only an open invoice is collected."""

    reason = "INVOICE_NOT_OPEN"
    kind = Kind.PRECONDITION

    def __init__(self, invoice_id: UUID, state: InvoiceState) -> None:
        super().__init__(
            f"invoice {invoice_id} is {state.value}", invoice_id=invoice_id, state=state.value
        )


async def collect_now(
    tx: Connection, tenant_id: UUID, invoice_id: UUID, now: datetime
) -> StoredInvoice:
    """Plan a payment attempt for now. Raises NotFound, InvoiceNotOpen."""
    stored = await lock_invoice(tx, tenant_id, invoice_id)
    if stored is None:
        raise NotFound("invoice", invoice_id)
    if stored.invoice.state is not InvoiceState.OPEN:
        raise InvoiceNotOpen(invoice_id, stored.invoice.state)
    collection = resume(stored.collection, now)
    await save_collection(tx, tenant_id, stored.invoice, collection)
    return replace(stored, collection=collection)


async def plan_ask(
    database: Database, tenant_id: UUID, invoice_id: UUID, now: datetime
) -> StoredInvoice | None:
    """Write down that the gateway is asked, before it is; None where there is nothing to ask."""
    async with database.transaction(tenant_id) as tx:
        stored = await lock_invoice(tx, tenant_id, invoice_id)
        if stored is None or stored.invoice.state is not InvoiceState.OPEN:
            return None
        collection = ask(stored.collection, now)
        await save_collection(tx, tenant_id, stored.invoice, collection)
        return replace(stored, collection=collection)


async def record_report(
    tx: Connection, tenant_id: UUID, invoice_id: UUID, report: AttemptReport, now: datetime
) -> None:
    """What one attempt came to, told by an answer or a message, whichever is first."""
    stored = await lock_invoice(tx, tenant_id, invoice_id)
    if stored is None:
        log.warning("payment_of_no_invoice", invoice_id=str(invoice_id))
        return
    if not stored.collection.payment_id:
        stored = replace(
            stored, collection=replace(stored.collection, payment_id=report.payment_id)
        )
        await save_collection(tx, tenant_id, stored.invoice, stored.collection)
    if report.outcome is Outcome.PENDING:
        return
    decline = (report.decline_class, report.decline_code)
    known = await store.list_attempt_states(tx, tenant_id, invoice_id, report.attempt_id)
    if report.outcome is Outcome.ACTION_REQUIRED and known:
        return  # what is known of the attempt is at least as new
    if await store.insert_attempt(
        tx, tenant_id, invoice_id, report.attempt_id, report.state, decline, now
    ):
        await record_outcome(tx, tenant_id, stored, report.outcome, now, cause=report.decline_code)


async def record_outcome(
    tx: Connection,
    tenant_id: UUID,
    stored: StoredInvoice,
    outcome: Outcome,
    now: datetime,
    *,
    cause: str = "",
) -> None:
    """Bring an invoice, and the top-up it may bill, to where an outcome leads."""
    invoice = stored.invoice
    if outcome is Outcome.PAID and invoice.state is not InvoiceState.OPEN:
        await _keep_for_customer(tx, tenant_id, invoice, now)
        return
    if outcome is Outcome.REVERSED:
        await _reopen(tx, tenant_id, stored, now)
        return
    if invoice.state is not InvoiceState.OPEN:
        return
    collection = decide(stored.collection, outcome, now)
    if outcome is Outcome.PAID:
        invoice = _settled(invoice, InvoiceState.PAID)
        await tell(tx, tenant_id, "invoice.paid", invoice)
        await _end_top_up(tx, tenant_id, invoice, TopUpState.GRANTING)
    elif outcome in _DECLINES or outcome is Outcome.NO_METHOD:
        await tell(tx, tenant_id, "invoice.payment_failed", invoice)
        if invoice.draft.kind is InvoiceKind.TOP_UP:
            # Bought value is not dunned (DUN-1): the purchase did not happen.
            await _end_top_up(
                tx,
                tenant_id,
                invoice,
                TopUpState.FAILING,
                disable_rule=outcome in _STOPPED,
                cause=cause or outcome.value,
            )
            invoice = _settled(invoice, InvoiceState.VOID)
            collection = replace(collection, state=DunningState.NONE, next_attempt_time=None)
        if outcome is Outcome.DECLINED_FRAUD:
            log.error("payment_declined_as_fraud", invoice_id=str(invoice.invoice_id))
    await save_collection(tx, tenant_id, invoice, collection)


async def give_up_waiting(tx: Connection, tenant_id: UUID, invoice_id: UUID, now: datetime) -> None:
    """The window of an invoice that waited for its customer is over."""
    stored = await lock_invoice(tx, tenant_id, invoice_id)
    if stored is not None and stored.invoice.state is InvoiceState.OPEN:
        await save_collection(tx, tenant_id, stored.invoice, expire(stored.collection, now))


def _settled(invoice: Invoice, state: InvoiceState) -> Invoice:
    assert state in STATE_CHANGES[invoice.state]
    return replace(invoice, state=state, amount_due=Amount(invoice.amount_due.asset, 0))


async def _end_top_up(
    tx: Connection,
    tenant_id: UUID,
    invoice: Invoice,
    state: TopUpState,
    *,
    disable_rule: bool = False,
    cause: str = "",
) -> None:
    top_up = await lock_top_up(tx, tenant_id, invoice.invoice_id)
    if top_up is not None and state in CHANGES[top_up.state]:
        ended = replace(top_up, state=state, disable_rule=disable_rule, cause=cause)
        await save_top_up(tx, tenant_id, ended)


async def _reopen(tx: Connection, tenant_id: UUID, stored: StoredInvoice, now: datetime) -> None:
    """Money that came and went again is due again (§8.1)."""
    invoice = stored.invoice
    if invoice.state is not InvoiceState.PAID:
        return
    due = invoice.draft.total - invoice.balance_applied
    invoice = replace(invoice, state=InvoiceState.OPEN, amount_due=due)
    collection: Collection = decide(stored.collection, Outcome.REVERSED, now)
    await save_collection(tx, tenant_id, invoice, collection)
    await tell(tx, tenant_id, "invoice.payment_failed", invoice)


async def _keep_for_customer(
    tx: Connection, tenant_id: UUID, invoice: Invoice, now: datetime
) -> None:
    """A payment for a document that asks for nothing: it is the customer's money (PAY-1)."""
    paid = invoice.draft.total - invoice.balance_applied
    log.error(
        "payment_without_due", invoice_id=str(invoice.invoice_id), amount=str(paid), at=str(now)
    )
    await add_to_balance(tx, tenant_id, invoice.draft.customer.customer_id, paid)


async def add_to_balance(tx: Connection, tenant_id: UUID, customer_id: str, amount: Amount) -> None:
    """Keep an amount for the customer's next invoices."""
    balance = await lock_balance(tx, tenant_id, customer_id, amount.asset)
    await save_balance(tx, tenant_id, customer_id, balance + amount)
