"""Issuing a credit note: both caps are checked, and its value moved, under the invoice's lock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from invoicing.credits import store
from invoicing.credits.domain import (
    CREDITABLE,
    CreditDraft,
    Credited,
    CreditNote,
    CreditReason,
    Destination,
    credit,
    split_rest,
)
from invoicing.customers.operations import lock_customer
from invoicing.invoices.domain.charge import SourceKind
from invoicing.invoices.domain.document import Invoice, InvoiceState, LateCredit
from invoicing.invoices.domain.settlement import at_rest, offset
from invoicing.invoices.operations import tell
from invoicing.invoices.store import (
    StoredInvoice,
    find_invoice,
    find_invoice_by_number,
    list_sources,
    lock_invoice,
    save_collection,
    take_number,
)
from invoicing.payments.store import add_to_balance
from invoicing.refunds.domain import CreditRefund, check_refund
from invoicing.refunds.store import insert_refund, sum_refunded
from invoicing.sellers.domain import UNSTATED
from invoicing.sellers.store import find_seller
from kernel.errors import NotFound
from kernel.ids import new_id
from kernel.money import Amount, Asset

LATE_MEMO = "usage was corrected after it was billed"

# What is asked for arrives as text, which only the invoice's currency gives a scale.
Asked = Callable[[Asset], Mapping[int, int]]
Parts = Callable[[Asset], Sequence[tuple[Destination, Amount]]]


async def preview_note(
    tx: Connection, tenant_id: UUID, invoice_id: UUID, asked: Asked
) -> tuple[Invoice, CreditDraft]:
    """What crediting would take back. Raises what `credit` does, and NotFound."""
    stored = await find_invoice(tx, tenant_id, invoice_id)
    if stored is None:
        raise NotFound("invoice", invoice_id)
    return stored.invoice, await _draft(tx, tenant_id, stored.invoice, asked)


async def create_note(
    tx: Connection,
    tenant_id: UUID,
    invoice_id: UUID,
    asked: Asked,
    parts: Parts,
    reason: CreditReason,
    memo: str,
    now: datetime,
) -> CreditNote:
    """Issue a credit note (CRN-1..4). Raises what `credit` and `split_rest` do, and NotFound."""
    found = await find_invoice(tx, tenant_id, invoice_id)
    if found is None:
        raise NotFound("invoice", invoice_id)
    customer_id = found.invoice.draft.customer.customer_id
    await lock_customer(tx, tenant_id, customer_id)
    stored = await lock_invoice(tx, tenant_id, invoice_id)
    assert stored is not None
    draft = await _draft(tx, tenant_id, stored.invoice, asked)
    invoice, rest = offset(stored.invoice, draft.total)
    given = split_rest(rest, parts(rest.asset))
    refunded = await sum_refunded(tx, tenant_id, invoice_id)
    check_refund(stored.invoice, stored.collection, refunded, given[Destination.REFUND])
    await _save(tx, tenant_id, stored, invoice)
    await add_to_balance(tx, tenant_id, customer_id, given[Destination.CUSTOMER_BALANCE])
    seller = await find_seller(tx, tenant_id) or UNSTATED
    # Lower case keeps it apart from every prefix that a seller may state for its invoices.
    series = f"credit notes of {seller.number_prefix}"
    number, issued = await take_number(tx, tenant_id, series, now)
    note = CreditNote(
        credit_note_id=new_id(now),
        number=f"CN-{seller.number_prefix}-{issued:%Y}-{number:06d}",
        series=series,
        series_number=number,
        invoice_id=invoice_id,
        invoice_number=invoice.number,
        reason=reason,
        memo=memo,
        draft=draft,
        amount_offset=draft.total - rest,
        balance_given=given[Destination.CUSTOMER_BALANCE],
        out_of_band=given[Destination.OUT_OF_BAND],
        refund_amount=given[Destination.REFUND],
        issue_time=issued,
        seller=seller,
        customer=invoice.draft.customer,
    )
    await store.insert_note(tx, tenant_id, note)
    if note.refund_amount.atoms:
        await insert_refund(
            tx,
            tenant_id,
            CreditRefund(
                credit_note_id=note.credit_note_id,
                invoice_id=invoice_id,
                customer_id=customer_id,
                payment_id=stored.collection.payment_id,
                note_number=note.number,
                amount=note.refund_amount,
            ),
        )
    return note


async def credit_late(
    tx: Connection, tenant_id: UUID, late: LateCredit, now: datetime
) -> CreditNote | None:
    """Credit what a billed period costs less, on the document that asked for it and as far as that
    has it; None where nothing is left of it, or it takes no credit note any more."""
    found = await find_invoice_by_number(tx, tenant_id, late.number)
    if found is None or found.invoice.state not in CREDITABLE:
        return None
    invoice = found.invoice
    taken = await store.sum_lines(tx, tenant_id, invoice.invoice_id)
    asked: dict[int, int] = {}
    rest = late.atoms
    for position, line in enumerate(invoice.draft.lines):
        whose = (line.subscription_item_id, line.service.start if line.service else None)
        if whose != (late.source.subscription_item_id, late.source.service_start):
            continue
        atoms = min(rest, line.net.atoms - taken.get(position, 0))
        if atoms > 0:
            asked[position] = atoms
            rest -= atoms
    if not asked:
        return None
    return await create_note(
        tx,
        tenant_id,
        invoice.invoice_id,
        lambda _: asked,
        lambda _: (),
        CreditReason.BILLING_ERROR,
        LATE_MEMO,
        now,
    )


async def get_note(tx: Connection, tenant_id: UUID, credit_note_id: UUID) -> CreditNote:
    note = await store.find_note(tx, tenant_id, credit_note_id)
    if note is None:
        raise NotFound("credit note", credit_note_id)
    return note


async def _draft(tx: Connection, tenant_id: UUID, invoice: Invoice, asked: Asked) -> CreditDraft:
    before = Credited(
        lines=await store.sum_lines(tx, tenant_id, invoice.invoice_id),
        taxes=await store.sum_taxes(tx, tenant_id, invoice.invoice_id),
        deducted=await _deducted(tx, tenant_id, invoice),
    )
    return credit(invoice, before, asked(invoice.amount_due.asset))


async def _deducted(tx: Connection, tenant_id: UUID, invoice: Invoice) -> dict[int, int]:
    """What other documents gave back of lines, in minor units by position (P19)."""
    billed = [
        (position, line, line.service)
        for position, line in enumerate(invoice.draft.lines)
        if line.subscription_item_id is not None
        and line.service is not None
        and line.amount.atoms > 0
    ]
    if not billed:
        return {}
    items = [line.subscription_item_id for _, line, _ in billed if line.subscription_item_id]
    since = min(service.start for _, _, service in billed)
    found: dict[int, int] = {}
    for source in await list_sources(tx, tenant_id, items, since):
        if source.key.kind is not SourceKind.DEDUCTION or source.is_void:
            continue
        for position, line, service in billed:
            inside = service.start <= source.key.service_start and source.service_end <= service.end
            if inside and line.subscription_item_id == source.key.subscription_item_id:
                found[position] = found.get(position, 0) - source.amount
    return found


async def _save(tx: Connection, tenant_id: UUID, before: StoredInvoice, invoice: Invoice) -> None:
    collection = before.collection
    settled = invoice.state is InvoiceState.PAID and before.invoice.state is not InvoiceState.PAID
    if settled:
        collection = at_rest(collection)
    await save_collection(tx, tenant_id, invoice, collection)
    await tell(tx, tenant_id, "invoice.credited", invoice)
    if settled:
        await tell(tx, tenant_id, "invoice.paid", invoice)
