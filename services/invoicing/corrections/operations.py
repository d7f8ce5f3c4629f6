"""Cancelling an invoice, alone or for another in its place, and giving one up (INV-5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from invoicing.collection.operations import end_top_up
from invoicing.coupons.domain import HeldCoupon
from invoicing.coupons.store import list_held, return_redemptions
from invoicing.customers.operations import get_customer, lock_customer
from invoicing.invoices import store
from invoicing.invoices.domain.charge import BilledSource, SourceKey, SourceKind, charges_of
from invoicing.invoices.domain.document import Draft, InvoiceKind, InvoiceState
from invoicing.invoices.domain.one_off import again
from invoicing.invoices.domain.settlement import InvoiceNotVoidable, at_rest, void, write_off
from invoicing.invoices.operations import (
    Basis,
    StaleDraft,
    UsageReader,
    issue_draft,
    make_draft,
    redeem,
    redeem_stated,
    tell,
)
from invoicing.invoices.store import StoredInvoice
from invoicing.payments.store import add_to_balance
from invoicing.recharges.domain import TopUpState
from invoicing.sellers.domain import UNSTATED
from invoicing.sellers.store import find_seller
from invoicing.subscriptions.store import list_of_items
from invoicing.taxes.operations import load_tax_table
from kernel.errors import InvalidValue, NotFound
from kernel.ids import new_id
from kernel.money import parse_atoms


@dataclass(frozen=True)
class Successor:
    """What is to take an invoice's place, and what it was computed from."""

    draft: Draft
    revisions: dict[UUID, int]
    coupons: tuple[HeldCoupon, ...] = ()


async def compute_successor(
    database: Database, reader: UsageReader, tenant_id: UUID, invoice_id: UUID, call: Call
) -> Successor | None:
    """The same charges at current rates; None where the invoice is not open any more.

    Outside any transaction, for metering is asked. Raises NotFound, UsageNotSettled.
    """
    async with database.transaction(tenant_id) as tx:
        stored = await store.find_invoice(tx, tenant_id, invoice_id)
        if stored is None:
            raise NotFound("invoice", invoice_id)
        invoice = stored.invoice
        if invoice.state is not InvoiceState.OPEN:
            return None
        if invoice.draft.kind is InvoiceKind.TOP_UP:
            raise InvoiceNotVoidable(invoice, "a recharge is asked for again by its wallet")
        customer = await get_customer(tx, tenant_id, invoice.draft.customer.customer_id)
        taxes = await load_tax_table(tx, tenant_id, customer)
        if invoice.draft.kind is InvoiceKind.ONE_OFF:
            return Successor(again(replace(invoice.draft, customer=customer), taxes), {})
        sources = await store.list_sources_of_invoice(tx, tenant_id, invoice_id)
        items = [source.key.subscription_item_id for source in sources]
        subscriptions = await list_of_items(tx, tenant_id, items)
        since = min(source.key.service_start for source in sources)
        billed = await store.list_sources(tx, tenant_id, items, since)
        # As if the document had never had them.
        coupons = await list_held(tx, tenant_id, customer.customer_id, without_invoice=invoice_id)
    own = {source.key: source for source in sources}
    others = tuple(source for source in billed if source.key not in own)
    basis = Basis(customer, tuple(subscriptions), others, taxes, tuple(coupons))
    charges = charges_of(subscriptions, sources, others)
    consumptions = await reader.read(tenant_id, charges, call, settled=True)
    draft = make_draft(basis, charges, consumptions)
    return Successor(_next_ordinals(draft, own), basis.revisions, basis.coupons)


def _next_ordinals(draft: Draft, own: dict[SourceKey, BilledSource]) -> Draft:
    return replace(
        draft,
        sources=tuple(
            replace(source, ordinal=own[source.key].ordinal + 1) for source in draft.sources
        ),
    )


async def void_invoice(
    tx: Connection, tenant_id: UUID, invoice_id: UUID, reason: str, now: datetime
) -> StoredInvoice:
    """Cancel an invoice; the customer is locked first, as by whatever issues.

    Raises NotFound, InvoiceNotVoidable.
    """
    found = await store.find_invoice(tx, tenant_id, invoice_id)
    if found is None:
        raise NotFound("invoice", invoice_id)
    customer_id = found.invoice.draft.customer.customer_id
    await lock_customer(tx, tenant_id, customer_id)
    stored = await store.lock_invoice(tx, tenant_id, invoice_id)
    assert stored is not None
    invoice = void(stored.invoice, stored.collection, reason)
    sources = await store.list_sources_of_invoice(tx, tenant_id, invoice_id)
    if await _is_deducted_from(tx, tenant_id, sources):
        raise InvoiceNotVoidable(stored.invoice, "another document gave a part of it back")
    collection = at_rest(stored.collection)
    await store.save_collection(tx, tenant_id, invoice, collection)
    await add_to_balance(tx, tenant_id, customer_id, invoice.balance_applied)
    await return_redemptions(tx, tenant_id, invoice_id)
    await end_top_up(tx, tenant_id, invoice, TopUpState.FAILING, cause="VOIDED")
    await tell(tx, tenant_id, "invoice.voided", invoice)
    return StoredInvoice(invoice, collection)


async def _is_deducted_from(
    tx: Connection, tenant_id: UUID, sources: Sequence[BilledSource]
) -> bool:
    """Whether what a document billed was given back in part by another one."""
    charged = [source for source in sources if source.key.kind is SourceKind.CHARGE]
    if not charged:
        return False
    items = [source.key.subscription_item_id for source in charged]
    since = min(source.key.service_start for source in charged)
    own = {source.key for source in sources}
    return any(
        other.key.kind is SourceKind.DEDUCTION
        and not other.is_void
        and other.key not in own
        and other.key.subscription_item_id == one.key.subscription_item_id
        and one.key.service_start <= other.key.service_start
        and other.service_end <= one.service_end
        for other in await store.list_sources(tx, tenant_id, items, since)
        for one in charged
    )


async def reissue(
    tx: Connection,
    tenant_id: UUID,
    old: StoredInvoice,
    successor: Successor,
    now: datetime,
) -> StoredInvoice | None:
    """Issue what takes a void invoice's place; None where nothing is left to bill.

    Raises StaleDraft where the terms changed since it was computed.
    """
    draft = successor.draft
    one_off = draft.kind is InvoiceKind.ONE_OFF
    items = [source.key.subscription_item_id for source in draft.sources]
    present = await list_of_items(tx, tenant_id, items)
    if any(successor.revisions[one.subscription_id] != one.revision for one in present):
        raise StaleDraft(draft.customer.customer_id)
    invoice_id = new_id(now) if draft.says_something else None
    if not one_off:
        await redeem(tx, tenant_id, draft, invoice_id, successor.coupons)
    elif invoice_id is not None:
        await redeem_stated(tx, tenant_id, draft, invoice_id)
    if not await store.insert_sources(
        tx, tenant_id, [(source, invoice_id) for source in draft.sources]
    ):
        raise StaleDraft(draft.customer.customer_id)
    if invoice_id is None:
        return None
    seller = await find_seller(tx, tenant_id) or UNSTATED
    await issue_draft(
        tx,
        tenant_id,
        draft,
        invoice_id,
        seller,
        now,
        reissue_of=old.invoice.invoice_id,
    )
    return await store.find_invoice(tx, tenant_id, invoice_id)


async def write_off_invoice(
    tx: Connection, tenant_id: UUID, invoice_id: UUID, reason: str, amount: str = ""
) -> StoredInvoice:
    """Give an open invoice up, or an amount of it. Raises NotFound, InvoiceNotOpen,
    WriteOffAboveDue, InvalidValue."""
    stored = await store.lock_invoice(tx, tenant_id, invoice_id)
    if stored is None:
        raise NotFound("invoice", invoice_id)
    part = None
    if amount:
        part = parse_atoms(amount, stored.invoice.amount_due.asset.scale, "amount")
        if not part:
            raise InvalidValue("amount", "is above zero")
    invoice = write_off(stored.invoice, reason, part)
    if invoice.state is InvoiceState.OPEN:
        # The rest is collected: by another payment, since the amount of one does not change.
        await store.save_collection(tx, tenant_id, invoice, stored.collection)
        await tell(tx, tenant_id, "invoice.written_off", invoice)
        return StoredInvoice(invoice, stored.collection)
    collection = at_rest(stored.collection)
    await store.save_collection(tx, tenant_id, invoice, collection)
    await end_top_up(tx, tenant_id, invoice, TopUpState.FAILING, cause="WRITTEN_OFF")
    await tell(tx, tenant_id, "invoice.written_off", invoice)
    return StoredInvoice(invoice, collection)
