"""A payment that came by hand, and how it is spread over invoices (PAY-1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kernel.errors import Kind, Refusal
from kernel.money import Amount


class AllocationAboveDue(Refusal):
    """An invoice takes no more than is due of it."""

    reason = "ALLOCATION_ABOVE_DUE"
    kind = Kind.PRECONDITION

    def __init__(self, invoice_id: UUID, amount: Amount, due: Amount) -> None:
        super().__init__(
            f"invoice {invoice_id} takes {due}, not {amount}",
            invoice_id=invoice_id,
            amount=amount.value,
            amount_due=due.value,
        )


@dataclass(frozen=True, slots=True)
class Allocation:
    """The part of a payment that an invoice takes."""

    invoice_id: UUID
    amount: Amount


@dataclass(frozen=True, slots=True)
class ReceivedPayment:
    """Money that a customer paid by hand, all of it accounted for: invoices and balance."""

    received_payment_id: UUID
    customer_id: str
    amount: Amount
    reference: str
    receive_time: datetime
    allocations: tuple[Allocation, ...]
    balance_given: Amount
