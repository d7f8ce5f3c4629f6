"""Credit notes as messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chassis.wire import parse_member, render_time
from invoicing.credits.domain import CreditDraft, CreditNote, CreditReason, Destination
from invoicing.invoices.domain.document import Invoice
from invoicing.invoices.wire import render_tax
from invoicing.refunds.domain import CreditRefund, RefundState
from kernel.errors import InvalidValue
from kernel.money import Amount, Asset, parse_atoms
from tollgate.invoicing.v1 import credit_note_pb2 as pb

LINES_MAX = 1_000
PARTS_MAX = 10
MEMO_MAX = 200

REASONS = {
    pb.CREDIT_REASON_BILLING_ERROR: CreditReason.BILLING_ERROR,
    pb.CREDIT_REASON_SERVICE: CreditReason.SERVICE,
    pb.CREDIT_REASON_DUPLICATE: CreditReason.DUPLICATE,
    pb.CREDIT_REASON_RETURNED: CreditReason.RETURNED,
    pb.CREDIT_REASON_GOODWILL: CreditReason.GOODWILL,
}
RENDERED_REASONS = {reason: number for number, reason in REASONS.items()}
DESTINATIONS = {
    pb.CREDIT_DESTINATION_UNSPECIFIED: Destination.CUSTOMER_BALANCE,
    pb.CREDIT_DESTINATION_CUSTOMER_BALANCE: Destination.CUSTOMER_BALANCE,
    pb.CREDIT_DESTINATION_OUT_OF_BAND: Destination.OUT_OF_BAND,
    pb.CREDIT_DESTINATION_REFUND: Destination.REFUND,
}
REFUND_STATES = {
    RefundState.REQUESTED: pb.CREDIT_REFUND_STATE_REQUESTED,
    RefundState.PENDING: pb.CREDIT_REFUND_STATE_PENDING,
    RefundState.SUCCEEDED: pb.CREDIT_REFUND_STATE_SUCCEEDED,
    RefundState.FAILED: pb.CREDIT_REFUND_STATE_FAILED,
    RefundState.RETURNED: pb.CREDIT_REFUND_STATE_RETURNED,
}


def parse_lines(messages: Sequence[pb.CreditNoteLine], money: Asset) -> dict[int, int]:
    """Minor units by position."""
    if len(messages) > LINES_MAX:
        raise InvalidValue("lines", f"takes at most {LINES_MAX}")
    found: dict[int, int] = {}
    for index, message in enumerate(messages):
        field = f"lines[{index}]"
        if message.position in found:
            raise InvalidValue(f"{field}.position", f"{message.position} is there twice")
        found[message.position] = parse_atoms(
            message.amount, money.scale, f"{field}.amount", signed=True
        )
    return found


def parse_parts(
    messages: Sequence[pb.CreditPart], money: Asset
) -> list[tuple[Destination, Amount]]:
    if len(messages) > PARTS_MAX:
        raise InvalidValue("parts", f"takes at most {PARTS_MAX}")
    return [
        (
            parse_member(message.destination, DESTINATIONS, f"parts[{index}].destination"),
            Amount(money, parse_atoms(message.amount, money.scale, f"parts[{index}].amount")),
        )
        for index, message in enumerate(messages)
    ]


def render_draft(invoice: Invoice, draft: CreditDraft) -> pb.CreditNote:
    """A credit note that is not issued."""
    return pb.CreditNote(
        invoice_id=str(invoice.invoice_id),
        invoice_number=invoice.number,
        customer_id=invoice.draft.customer.customer_id,
        **_figures(draft),
    )


def render_note(note: CreditNote, refund: CreditRefund | None) -> pb.CreditNote:
    """A credit note, and where sending its money back stands."""
    state = pb.CREDIT_REFUND_STATE_UNSPECIFIED if refund is None else REFUND_STATES[refund.state]
    return pb.CreditNote(
        refund_amount=note.refund_amount.value,
        refund_state=state,
        refund_id="" if refund is None else refund.refund_id,
        credit_note_id=str(note.credit_note_id),
        number=note.number,
        invoice_id=str(note.invoice_id),
        invoice_number=note.invoice_number,
        customer_id=note.customer.customer_id,
        reason=RENDERED_REASONS[note.reason],
        memo=note.memo,
        amount_offset=note.amount_offset.value,
        balance_given=note.balance_given.value,
        out_of_band=note.out_of_band.value,
        issue_time=render_time(note.issue_time),
        **_figures(note.draft),
    )


def _figures(draft: CreditDraft) -> dict[str, Any]:
    return {
        "currency": draft.total.asset.code,
        "lines": [
            pb.CreditNoteLine(
                position=one.position, amount=one.amount.value, description=one.description
            )
            for one in draft.lines
        ],
        "subtotal": draft.subtotal.value,
        "taxes": [render_tax(one.tax) for one in draft.taxes],
        "total": draft.total.value,
        "tax_included": draft.tax_included.value,
    }
