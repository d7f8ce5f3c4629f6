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
from invoicing.invoices.domain.document import Invoice, InvoiceKind, InvoiceState
from invoicing.invoices.domain.settlement import (
    PAYABLE,
    InvoiceNotOpen,
    at_rest,
    moved,
    pay,
    take_back,
)
from invoicing.invoices.operations import tell
from invoicing.invoices.store import StoredInvoice, lock_invoice, save_collection
from invoicing.payments.store import add_to_balance
from invoicing.recharges.domain import CHANGES, TopUpState
from invoicing.recharges.store import lock_top_up, save_top_up
from kernel.errors import NotFound
from kernel.money import Amount

log = structlog.get_logger("invoicing.collection")

_DECLINES = (Outcome.DECLINED_SOFT, Outcome.DECLINED_HARD, Outcome.DECLINED_FRAUD)
_STOPPED = (Outcome.DECLINED_HARD, Outcome.DECLINED_FRAUD, Outcome.NO_METHOD)


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
        collection = ask(stored.collection, now, stored.invoice.amount_due.atoms)
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
    known = await store.list_attempt_states(tx, tenant_id, invoice_id, report.attempt_id)
    if not stored.collection.payment_id and not known:
        stored = replace(
            stored, collection=replace(stored.collection, payment_id=report.payment_id)
        )
        await save_collection(tx, tenant_id, stored.invoice, stored.collection)
    if report.outcome is Outcome.PENDING:
        return
    decline = (report.decline_class, report.decline_code)
    if report.outcome is Outcome.ACTION_REQUIRED and known:
        return  # what is known of the attempt is at least as new
    if await store.insert_attempt(
        tx, tenant_id, invoice_id, report.attempt_id, report.state, decline, now
    ):
        await record_outcome(
            tx,
            tenant_id,
            stored,
            report.outcome,
            now,
            amount=report.amount,
            cause=report.decline_code,
        )


async def record_outcome(
    tx: Connection,
    tenant_id: UUID,
    stored: StoredInvoice,
    outcome: Outcome,
    now: datetime,
    *,
    amount: Amount | None = None,
    cause: str = "",
) -> None:
    """Bring an invoice, and the top-up it may bill, to where an outcome leads.

    `amount` is what the provider stated; where it stated none, it is what was due.
    """
    invoice = stored.invoice
    if outcome is Outcome.PAID:
        decided = replace(stored, collection=decide(stored.collection, outcome, now))
        await _paid(tx, tenant_id, decided, amount, now)
        return
    if outcome is Outcome.REVERSED:
        await _reopen(tx, tenant_id, stored, amount, now)
        return
    if invoice.state is not InvoiceState.OPEN:
        return
    collection = decide(stored.collection, outcome, now)
    if outcome in _DECLINES or outcome is Outcome.NO_METHOD:
        await tell(tx, tenant_id, "invoice.payment_failed", invoice)
        if invoice.draft.kind is InvoiceKind.TOP_UP:
            # Bought value is not dunned (DUN-1): the purchase did not happen.
            await end_top_up(
                tx,
                tenant_id,
                invoice,
                TopUpState.FAILING,
                disable_rule=outcome in _STOPPED,
                cause=cause or outcome.value,
            )
            zero = Amount(invoice.amount_due.asset, 0)
            invoice = moved(replace(invoice, amount_due=zero), InvoiceState.VOID)
            collection = replace(collection, state=DunningState.NONE, next_attempt_time=None)
        if outcome is Outcome.DECLINED_FRAUD:
            log.error("payment_declined_as_fraud", invoice_id=str(invoice.invoice_id))
    await save_collection(tx, tenant_id, invoice, collection)


async def give_up_waiting(tx: Connection, tenant_id: UUID, invoice_id: UUID, now: datetime) -> None:
    """The window of an invoice that waited for its customer is over."""
    stored = await lock_invoice(tx, tenant_id, invoice_id)
    if stored is not None and stored.invoice.state is InvoiceState.OPEN:
        await save_collection(tx, tenant_id, stored.invoice, expire(stored.collection, now))


async def _paid(
    tx: Connection,
    tenant_id: UUID,
    stored: StoredInvoice,
    amount: Amount | None,
    now: datetime,
) -> None:
    """A payment came: for what is due, and what exceeds it is the customer's money (PAY-1)."""
    invoice = stored.invoice
    if amount is None:
        asked = stored.collection.payment_amount
        amount = replace(invoice.amount_due, atoms=asked) if asked else invoice.amount_due
    if invoice.state not in PAYABLE:
        log.error(
            "payment_without_due",
            invoice_id=str(invoice.invoice_id),
            amount=str(amount),
            at=str(now),
        )
    rest = await take_payment(tx, tenant_id, stored, amount, at=now)
    await add_to_balance(tx, tenant_id, invoice.draft.customer.customer_id, rest)


async def take_payment(
    tx: Connection,
    tenant_id: UUID,
    stored: StoredInvoice,
    amount: Amount,
    *,
    at: datetime | None = None,
) -> Amount:
    """Give a locked invoice what it takes of an amount; returns the rest.

    With `at`, the payment came through the gateway: what it leaves due is asked for then.
    """
    invoice, rest = pay(stored.invoice, amount)
    if invoice == stored.invoice:
        return rest
    collection = stored.collection
    if invoice.state is InvoiceState.PAID:
        collection = at_rest(collection, recovered=True)
        await tell(tx, tenant_id, "invoice.paid", invoice)
        await end_top_up(tx, tenant_id, invoice, TopUpState.GRANTING)
    elif at is not None:
        # Its payment is used up: the rest takes another.
        collection = replace(collection, payment_id="", next_attempt_time=at)
    await save_collection(tx, tenant_id, invoice, collection)
    return rest


async def end_top_up(
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


async def _reopen(
    tx: Connection, tenant_id: UUID, stored: StoredInvoice, amount: Amount | None, now: datetime
) -> None:
    """Money that came and went again is due again (§8.1)."""
    before = stored.invoice
    invoice = take_back(before, before.amount_paid if amount is None else amount)
    if invoice == before:
        log.error("reversed_without_due", invoice_id=str(before.invoice_id), amount=str(amount))
        return
    collection: Collection = decide(stored.collection, Outcome.REVERSED, now)
    await save_collection(tx, tenant_id, invoice, collection)
    await tell(tx, tenant_id, "invoice.payment_failed", invoice)
