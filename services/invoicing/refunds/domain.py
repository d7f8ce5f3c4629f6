"""A refund that a credit note asks for: what may be sent back, and where it stands (CRN-5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from invoicing.collection.domain import Collection
from invoicing.invoices.domain.document import Invoice
from kernel.errors import Kind, Refusal
from kernel.money import Amount


class RefundAbovePaid(Refusal):
    """No more is sent back than came through the gateway and is not sent back yet."""

    reason = "REFUND_ABOVE_PAID"
    kind = Kind.PRECONDITION

    def __init__(self, amount: Amount, refundable: Amount) -> None:
        super().__init__(
            f"{amount} are more than the {refundable} that can be sent back",
            amount=amount.value,
            refundable=refundable.value,
        )


class RefundState(Enum):
    """Where a refund stands. What is not sent back after all is kept on the customer's balance."""

    REQUESTED = "REQUESTED"
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    RETURNED = "RETURNED"  # sent back, and it came again


# What is not in the table cannot happen.
CHANGES: Mapping[RefundState, frozenset[RefundState]] = {
    RefundState.REQUESTED: frozenset(set(RefundState) - {RefundState.REQUESTED}),
    RefundState.PENDING: frozenset(
        {RefundState.SUCCEEDED, RefundState.FAILED, RefundState.RETURNED}
    ),
    RefundState.SUCCEEDED: frozenset({RefundState.RETURNED}),
    RefundState.FAILED: frozenset(),
    RefundState.RETURNED: frozenset(),
}
KEPT = frozenset({RefundState.FAILED, RefundState.RETURNED})


@dataclass(frozen=True, slots=True)
class CreditRefund:
    """Money of a credit note on its way back to where it came from."""

    credit_note_id: UUID
    invoice_id: UUID
    customer_id: str
    payment_id: str
    note_number: str
    amount: Amount
    state: RefundState = RefundState.REQUESTED
    refund_id: str = ""
    failure_code: str = ""


def check_refund(invoice: Invoice, collection: Collection, refunded: int, amount: Amount) -> None:
    """Raises RefundAbovePaid. `refunded` counts what earlier notes send back, in minor units."""
    paid = invoice.amount_paid.atoms if collection.payment_id else 0
    if collection.payment_amount is not None:
        paid = min(paid, collection.payment_amount)
    left = Amount(amount.asset, max(paid - refunded, 0))
    if amount.atoms > left.atoms:
        raise RefundAbovePaid(amount, left)
