"""Chargebee's refunds. They carry no reference, so what was there before is noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.chargebee.answers import (
    read_refund_transaction,
    read_refusal,
    transaction_of,
)
from gateway.providers.chargebee.requests import get, in_path, is_good, post, units
from gateway.providers.commands import Login, LookRefund, Refund
from gateway.providers.parsing import identifier, rows, text, unclear, whole
from gateway.providers.plan import Plan, Reply, Steps, ask, keep, rejected

BEFORE = "refunds_before"  # the note: ids of the payment's refunds when ours was not sent yet
_NONE = "none"


def refund(command: Refund, login: Login) -> Plan:
    """Send money back, in whole or in part."""
    reply = yield from _payment(command.provider_payment_id, login)
    payment = transaction_of(reply)
    payment_id = identifier(payment)
    if not is_good(reply):
        return read_refusal(reply)  # only looked at so far
    if not payment_id or payment.get("type") != "payment":
        return rejected("payment_not_refundable")
    if BEFORE not in command.notes:
        yield from keep(BEFORE, " ".join(sorted(_refunds(payment))) or _NONE)
    form = {
        "amount": str(units(command.amount)),
        "comment": f"{command.reason.strip() or 'Refund'} [{command.reference}]"[:300],
    }
    path = f"/transactions/{in_path(payment_id)}/refund"
    reply = yield from ask(post(login, path, form, command.key))
    if not is_good(reply):
        return read_refusal(reply)
    return read_refund_transaction(transaction_of(reply), command.provider_payment_id)


def read_refund(look: LookRefund, login: Login) -> Plan:
    """Look at a refund by its id."""
    path = f"/transactions/{in_path(look.provider_refund_id)}"
    reply = yield from ask(get(login, path))
    if not is_good(reply):
        return unclear(reply)
    refund_id = look.provider_refund_id
    return read_refund_transaction(transaction_of(reply), look.provider_payment_id, refund_id)


def find_refund(look: LookRefund, login: Login) -> Plan:
    """Look for the refund of our amount that was not there before; of two, neither is claimed."""
    reply = yield from _payment(look.provider_payment_id, login)
    payment = transaction_of(reply)
    if not is_good(reply) or payment.get("type") != "payment":
        return unclear(reply)
    before = set(look.notes.get(BEFORE, "").split())
    wanted = units(look.amount)
    fresh = [
        refund_id
        for refund_id, amount in _refunds(payment).items()
        if amount == wanted and refund_id not in before
    ]
    if not fresh:
        return Outcome(Finding.ABSENT)
    if len(fresh) > 1 or not before:
        return Outcome(Finding.SILENCE, detail="a refund of this amount may be ours")
    reply = yield from ask(get(login, f"/transactions/{in_path(fresh[0])}"))
    if not is_good(reply):
        return unclear(reply)
    return read_refund_transaction(transaction_of(reply), look.provider_payment_id, fresh[0])


def _payment(transaction_id: str, login: Login) -> Steps[Reply]:
    """The payment itself; of an authorization, the payment that took it."""
    reply = yield from ask(get(login, f"/transactions/{in_path(transaction_id)}"))
    transaction = transaction_of(reply)
    if not is_good(reply) or transaction.get("type") != "authorization":
        return reply
    made = rows(transaction, "linked_payments") or []
    taken = [identifier(each) for each in made if each.get("status") == "success"]
    if not taken:
        return reply
    return (yield from ask(get(login, f"/transactions/{in_path(taken[0])}")))


def _refunds(payment: Mapping[str, Any]) -> dict[str, int | None]:
    """The refunds of a payment that were not refused: id → amount."""
    linked = rows(payment, "linked_refunds") or []
    return {
        identifier(each, "txn_id"): whole(each, "txn_amount")
        for each in linked
        if text(each, "txn_status") not in ("failure", "voided")
    }
