"""Recording a payment by hand: named invoices, then the oldest due, the rest to the balance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from invoicing.collection.operations import take_payment
from invoicing.customers.operations import lock_customer
from invoicing.invoices.domain.settlement import PAYABLE, InvoiceNotOpen
from invoicing.invoices.store import StoredInvoice, lock_invoice
from invoicing.payments import store
from invoicing.payments.domain import Allocation, AllocationAboveDue, ReceivedPayment
from kernel.errors import InvalidValue, NotFound
from kernel.ids import new_id
from kernel.money import Amount


async def record_payment(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    amount: Amount,
    reference: str,
    receive_time: datetime,
    allocations: Sequence[Allocation],
    now: datetime,
) -> ReceivedPayment:
    """Spread a payment (PAY-1, `EXPLICIT_THEN_OLDEST_DUE`).

    Raises NotFound, InvoiceNotOpen, AllocationAboveDue, InvalidValue.
    """
    await lock_customer(tx, tenant_id, customer_id)
    left = amount
    taken: dict[UUID, Amount] = {}
    for one in allocations:
        stored = await _named(tx, tenant_id, customer_id, one)
        await take_payment(tx, tenant_id, stored, one.amount)
        taken[one.invoice_id] = one.amount
        left -= one.amount
    for invoice_id in await store.list_owing(tx, tenant_id, customer_id, amount.asset.code):
        if not left.atoms:
            break
        owing = await lock_invoice(tx, tenant_id, invoice_id)
        assert owing is not None
        rest = await take_payment(tx, tenant_id, owing, left)
        if rest != left:
            taken[invoice_id] = taken.get(invoice_id, amount.asset.zero()) + left - rest
        left = rest
    await store.add_to_balance(tx, tenant_id, customer_id, left)
    payment = ReceivedPayment(
        received_payment_id=new_id(now),
        customer_id=customer_id,
        amount=amount,
        reference=reference,
        receive_time=receive_time,
        allocations=tuple(Allocation(invoice_id, part) for invoice_id, part in taken.items()),
        balance_given=left,
    )
    await store.insert_payment(tx, tenant_id, payment)
    return payment


async def _named(
    tx: Connection, tenant_id: UUID, customer_id: str, one: Allocation
) -> StoredInvoice:
    stored = await lock_invoice(tx, tenant_id, one.invoice_id)
    if stored is None or stored.invoice.draft.customer.customer_id != customer_id:
        raise NotFound("invoice", one.invoice_id)
    invoice = stored.invoice
    if invoice.state not in PAYABLE:
        raise InvoiceNotOpen(invoice.invoice_id, invoice.state)
    if invoice.amount_due.asset != one.amount.asset:
        raise InvalidValue(
            "amount.asset", f"invoice {one.invoice_id} is in {invoice.amount_due.asset.code}"
        )
    if one.amount.atoms > invoice.amount_due.atoms:
        raise AllocationAboveDue(one.invoice_id, one.amount, invoice.amount_due)
    return stored
