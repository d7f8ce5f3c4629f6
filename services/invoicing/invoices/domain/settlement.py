"""How an issued invoice ends: paid in parts, cancelled, written off."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from invoicing.collection.domain import Collection, DunningState
from invoicing.invoices.domain.document import STATE_CHANGES, Invoice, InvoiceState
from kernel.errors import Kind, Refusal
from kernel.money import Amount

PAYABLE = frozenset({InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE})


class InvoiceNotOpen(Refusal):
    """Only an open invoice is collected."""

    reason = "INVOICE_NOT_OPEN"
    kind = Kind.PRECONDITION

    def __init__(self, invoice_id: UUID, state: InvoiceState) -> None:
        super().__init__(
            f"invoice {invoice_id} is {state.value}", invoice_id=invoice_id, state=state.value
        )


class InvoiceNotVoidable(Refusal):
    """Only an invoice that nobody has paid anything of is cancelled (INV-5)."""

    reason = "INVOICE_NOT_VOIDABLE"
    kind = Kind.PRECONDITION

    def __init__(self, invoice: Invoice, why: str) -> None:
        super().__init__(
            f"invoice {invoice.invoice_id} is not voided: {why}",
            invoice_id=invoice.invoice_id,
            state=invoice.state.value,
            why=why,
        )


class WriteOffAboveDue(Refusal):
    """No more is written off than is due."""

    reason = "WRITE_OFF_ABOVE_DUE"
    kind = Kind.PRECONDITION

    def __init__(self, invoice: Invoice, amount: Amount) -> None:
        super().__init__(
            f"{amount} are more than the {invoice.amount_due} that are due",
            invoice_id=invoice.invoice_id,
            amount=amount.value,
            amount_due=invoice.amount_due.value,
        )


def pay(invoice: Invoice, amount: Amount) -> tuple[Invoice, Amount]:
    """The invoice with a payment, and what of the payment it does not take (PAY-1)."""
    if invoice.state not in PAYABLE:
        return invoice, amount
    taken = Amount(amount.asset, min(amount.atoms, invoice.amount_due.atoms))
    due = invoice.amount_due - taken
    paid = replace(invoice, amount_paid=invoice.amount_paid + taken, amount_due=due)
    return (paid if due.atoms else moved(paid, InvoiceState.PAID)), amount - taken


def take_back(invoice: Invoice, amount: Amount) -> Invoice:
    """Money that came and went again is due again (§8.1)."""
    if invoice.state not in (InvoiceState.OPEN, InvoiceState.PAID):
        return invoice
    back = Amount(amount.asset, min(amount.atoms, invoice.amount_paid.atoms))
    if not back.atoms:
        return invoice
    owed = replace(
        invoice,
        amount_paid=invoice.amount_paid - back,
        amount_due=invoice.amount_due + back,
    )
    return owed if owed.state is InvoiceState.OPEN else moved(owed, InvoiceState.OPEN)


def offset(invoice: Invoice, total: Amount) -> tuple[Invoice, Amount]:
    """The invoice with a credit note of a total, and what of it exceeds what is due (CRN-4).

    What was written off nobody paid: crediting it gives nothing back.
    """
    lowered = Amount(total.asset, min(total.atoms, invoice.amount_due.atoms))
    due = invoice.amount_due - lowered
    bad = min((total - lowered).atoms, invoice.amount_written_off)
    lowered = lowered + Amount(total.asset, bad)
    credited = replace(
        invoice,
        amount_credited=invoice.amount_credited + total,
        amount_offset=invoice.amount_offset + lowered,
        amount_due=due,
        amount_written_off=invoice.amount_written_off - bad,
    )
    if not due.atoms and invoice.state is InvoiceState.OPEN:
        credited = moved(credited, InvoiceState.PAID)
    return credited, total - lowered


def void(invoice: Invoice, collection: Collection, reason: str) -> Invoice:
    """The invoice cancelled. Raises InvoiceNotVoidable."""
    if invoice.state is not InvoiceState.OPEN:
        raise InvoiceNotVoidable(invoice, f"it is {invoice.state.value}")
    if invoice.amount_paid.atoms:
        raise InvoiceNotVoidable(invoice, f"{invoice.amount_paid} of it are paid")
    if invoice.amount_credited.atoms:
        raise InvoiceNotVoidable(invoice, f"{invoice.amount_credited} of it are credited")
    # Money could still come for it. Who waits for its customer gets it onto the balance instead.
    if collection.ask_open and collection.state is not DunningState.WAITING_FOR_CUSTOMER:
        raise InvoiceNotVoidable(invoice, "a payment of it is under way")
    zero = Amount(invoice.amount_due.asset, 0)
    return moved(replace(invoice, amount_due=zero, close_reason=reason), InvoiceState.VOID)


def write_off(invoice: Invoice, reason: str, part: int | None = None) -> Invoice:
    """The invoice that nobody expects money for. What is due of it stays known.

    With a part, in minor units, that much is given up and the rest stays due.
    Raises InvoiceNotOpen, WriteOffAboveDue.
    """
    if invoice.state is not InvoiceState.OPEN:
        raise InvoiceNotOpen(invoice.invoice_id, invoice.state)
    if part is not None and part > invoice.amount_due.atoms:
        raise WriteOffAboveDue(invoice, Amount(invoice.amount_due.asset, part))
    if part is not None and part < invoice.amount_due.atoms:
        return replace(
            invoice,
            amount_due=invoice.amount_due - Amount(invoice.amount_due.asset, part),
            amount_written_off=invoice.amount_written_off + part,
        )
    return moved(replace(invoice, close_reason=reason), InvoiceState.UNCOLLECTIBLE)


def moved(invoice: Invoice, state: InvoiceState) -> Invoice:
    """The invoice in another state, if the table allows it."""
    assert state in STATE_CHANGES[invoice.state], (invoice.state, state)
    return replace(invoice, state=state)


def at_rest(collection: Collection, *, recovered: bool = False) -> Collection:
    """Collection of an invoice that asks for nothing more; a question under way stays known."""
    state = DunningState.NONE
    if recovered and collection.state is not DunningState.NONE:
        state = DunningState.RECOVERED
    return replace(collection, state=state, next_attempt_time=None)
