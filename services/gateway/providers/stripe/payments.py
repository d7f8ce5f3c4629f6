"""Charging, capturing, canceling, refunding, and finding out what became of it, at Stripe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import Cancel, Capture, Charge, Login, Look, LookRefund, Refund
from gateway.providers.parsing import content_of, fields, rows, strongest, text
from gateway.providers.plan import (
    CHARGE_SECONDS,
    Answer,
    Plan,
    Steps,
    ask,
    keep,
    read_failure,
)
from gateway.providers.stripe.answers import (
    read_error,
    read_intent,
    read_intent_answer,
)
from gateway.providers.stripe.answers import read_refund as read_refund_object
from gateway.providers.stripe.requests import ATTEMPT, PAGE_SIZE, REFUND, get, post, units

SCAN_PAGES_MAX = 10  # of a customer's payments, newest first; beyond that, absence is not claimed


def charge(command: Charge, login: Login) -> Plan:
    """Create and confirm a payment intent off-session; a declined one is canceled at once, since
    it could otherwise still be confirmed."""
    customer = command.provider_customer_id or command.notes.get("customer", "")
    if not customer:
        found = yield from _customer_of(command.provider_token)
        if isinstance(found, Outcome):
            return found
        customer = found
        if customer:
            yield from keep("customer", customer)
    form = {
        "amount": str(units(command.amount)),
        "currency": command.amount.asset.code.lower(),
        "customer": customer,
        "payment_method": command.provider_token,
        "payment_method_types[0]": command.method_kind or "card",
        "confirm": "true",
        "off_session": "true",
        "capture_method": "manual" if command.capture_later else "",
        "description": command.description,
        f"metadata[{ATTEMPT}]": command.reference,
    }
    reply = yield from ask(post("/v1/payment_intents", form, command.key, CHARGE_SECONDS))
    outcome = read_intent_answer(reply, command.reference)
    if outcome.provider_payment_id:
        yield from keep("payment_intent", outcome.provider_payment_id)
    if outcome.finding is Finding.DECLINED and outcome.provider_payment_id:
        # The decline is final whatever comes of this.
        path = f"/v1/payment_intents/{outcome.provider_payment_id}/cancel"
        yield from ask(post(path, {}, f"{command.key}-cancel"))
    return outcome


def _customer_of(token: str) -> Steps[str | Outcome]:
    """Whose method it is; an Outcome where Stripe did not say. Nothing can have moved yet."""
    reply = yield from ask(get(f"/v1/payment_methods/{token}"))
    if isinstance(reply, Answer) and reply.status == 200:
        return text(content_of(reply), "customer")
    return read_error(reply) if isinstance(reply, Answer) else read_failure(reply)


def capture(command: Capture, login: Login) -> Plan:
    """Take what was reserved, or a part of it; the rest is released."""
    path = f"/v1/payment_intents/{command.provider_payment_id}/capture"
    form = {"amount_to_capture": str(units(command.amount))}
    reply = yield from ask(post(path, form, command.key, CHARGE_SECONDS))
    return read_intent_answer(reply, command.reference)


def cancel(command: Cancel, login: Login) -> Plan:
    """Release what was reserved."""
    path = f"/v1/payment_intents/{command.provider_payment_id}/cancel"
    reply = yield from ask(post(path, {}, command.key))
    return read_intent_answer(reply, command.reference)


def read(look: Look, login: Login) -> Plan:
    """Look at a payment intent by its id."""
    reply = yield from ask(get(f"/v1/payment_intents/{look.provider_payment_id}"))
    return read_intent_answer(reply, look.reference)


def find(look: Look, login: Login) -> Plan:
    """List the customer's payment intents and compare our reference. No time narrows the list:
    a clock that differs from Stripe's would make a payment look absent."""
    customer = look.provider_customer_id or look.notes.get("customer", "")
    if not customer and look.provider_token:
        found = yield from _customer_of(look.provider_token)
        customer = found if isinstance(found, str) else ""
    if not customer:
        return Outcome(Finding.SILENCE, detail="whose payments to list is not known")
    outcome = yield from _scan(
        "/v1/payment_intents",
        {"customer": customer},
        lambda each: text(fields(each.get("metadata")), ATTEMPT) == look.reference,
        lambda each: read_intent(each, look.reference),
    )
    return outcome


def refund(command: Refund, login: Login) -> Plan:
    """Send money back."""
    form = {
        "payment_intent": command.provider_payment_id,
        "amount": str(units(command.amount)),
        f"metadata[{REFUND}]": command.reference,
    }
    reply = yield from ask(post("/v1/refunds", form, command.key, CHARGE_SECONDS))
    if isinstance(reply, Answer) and reply.status != 200:
        return read_error(reply)
    if not isinstance(reply, Answer):
        return read_failure(reply)
    return read_refund_object(content_of(reply), command.reference)


def read_refund(look: LookRefund, login: Login) -> Plan:
    """Look at a refund by its id."""
    reply = yield from ask(get(f"/v1/refunds/{look.provider_refund_id}"))
    if not isinstance(reply, Answer) or reply.status != 200:
        return read_failure(reply)
    return read_refund_object(content_of(reply), look.reference)


def find_refund(look: LookRefund, login: Login) -> Plan:
    """List the payment's refunds and compare our reference."""
    outcome = yield from _scan(
        "/v1/refunds",
        {"payment_intent": look.provider_payment_id},
        lambda each: text(fields(each.get("metadata")), REFUND) == look.reference,
        lambda each: read_refund_object(each, look.reference),
    )
    return outcome


def _scan(
    path: str,
    query: Mapping[str, str],
    is_ours: Callable[[Mapping[str, Any]], bool],
    read_one: Callable[[Mapping[str, Any]], Outcome],
) -> Plan:
    """Page through a list; ABSENT only where it was seen whole."""
    after = ""
    for _ in range(SCAN_PAGES_MAX):
        page = {**query, "limit": str(PAGE_SIZE), "starting_after": after}
        reply = yield from ask(get(path, page))
        if not isinstance(reply, Answer) or reply.status != 200:
            return read_failure(reply)
        content = content_of(reply)
        listed, more = rows(content, "data"), content.get("has_more")
        if listed is None or not isinstance(more, bool):
            return Outcome(Finding.SILENCE, detail="not a list")
        ours = [read_one(each) for each in listed if is_ours(each)]
        if ours:
            return strongest(ours)
        if not more:
            return Outcome(Finding.ABSENT)
        after = text(listed[-1], "id") if listed else ""
        if not after:
            break
    return Outcome(Finding.SILENCE, detail="not found among the newest, and there are more")
