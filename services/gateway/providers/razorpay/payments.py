"""Razorpay's payments: an order for each attempt, and in it at most one that takes money.

Payments take no idempotency key. The order is what makes a charge happen once: it is noted before
the payment is asked for, and what it holds is read before anything is said about it.
"""

from __future__ import annotations

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import (
    Capture,
    Charge,
    Login,
    Look,
    LookRefund,
    Refund,
)
from gateway.providers.parsing import (
    content_of,
    fields,
    identifier,
    rows,
    strongest,
    text,
    unclear,
)
from gateway.providers.plan import (
    CHARGE_SECONDS,
    Answer,
    Plan,
    Reply,
    ask,
    keep,
    read_failure,
)
from gateway.providers.razorpay.answers import (
    REFUND_NOTE,
    read_payment,
    read_refund_object,
    read_refusal,
    units,
)
from gateway.providers.razorpay.pages import find_by_link
from gateway.providers.razorpay.requests import (
    LINK,
    ORDER,
    PAGE,
    PAYMENT,
    get,
    is_good,
    order_body,
    post,
    recurring_body,
)

# --- charging -------------------------------------------------------------------------------------


def charge(command: Charge, login: Login) -> Plan:
    """Charge a stored method while the customer is away: an order, then a payment in it."""
    if noted := command.notes.get(ORDER):
        return (yield from _repeated(noted, command.reference))
    reply = yield from ask(post("/orders", order_body(command)))
    order_id = identifier(content_of(reply))
    if not is_good(reply) or not order_id:
        return read_refusal(reply)  # no money can have moved yet
    yield from keep(ORDER, order_id)
    body = recurring_body(command, order_id)
    reply = yield from ask(post("/payments/create/recurring", body, timeout_seconds=CHARGE_SECONDS))
    if not is_good(reply):
        return read_refusal(reply, order_id)
    payment_id = identifier(content_of(reply), "razorpay_payment_id")
    if not payment_id:
        return Outcome(Finding.SILENCE, detail="no id of a payment in the answer")
    yield from keep(PAYMENT, payment_id)
    # The answer names the payment and says nothing about it: not even that it is authorized.
    reply = yield from ask(get(f"/payments/{payment_id}"))
    if not is_good(reply):
        return unclear(reply, payment_id)
    return read_payment(content_of(reply), command.reference, order_id=order_id)


def _repeated(order_id: str, reference: str) -> Plan:
    """A charge that got as far as its order is never sent again, only looked at."""
    reply = yield from ask(get(f"/orders/{order_id}/payments"))
    outcome = _read_list(reply, reference, order_id)
    if outcome.finding is Finding.ABSENT:
        return Outcome(Finding.SILENCE, detail="its payment may still be on its way")
    return outcome


def read(look: Look, login: Login) -> Plan:
    """Look at a payment by its id."""
    reply = yield from ask(get(f"/payments/{look.provider_payment_id}"))
    if not is_good(reply):
        return read_failure(reply)
    return read_payment(content_of(reply), look.reference, known_id=look.provider_payment_id)


def find(look: Look, login: Login) -> Plan:
    """Look for a payment in the noted order, or in those whose receipt is our reference."""
    if link_id := look.notes.get(LINK):
        return (yield from find_by_link(link_id, look.reference))
    order_ids = [look.notes[ORDER]] if ORDER in look.notes else []
    tried: set[str] = set()  # orders that say themselves that a payment was tried in them
    if not order_ids:
        reply = yield from ask(get("/orders", {"receipt": look.reference, "count": str(PAGE)}))
        orders = rows(content_of(reply), "items") if is_good(reply) else None
        if orders is None:
            return unclear(reply)
        ours = [each for each in orders if each.get("receipt") == look.reference]
        order_ids = [identifier(each) for each in ours]
        tried = {identifier(each) for each in ours if each.get("status") != "created"}
    outcomes = []
    for order_id in order_ids:
        reply = yield from ask(get(f"/orders/{order_id}/payments"))
        outcome = _read_list(reply, look.reference, order_id)
        if outcome.finding is Finding.ABSENT and order_id in tried:
            outcome = Outcome(Finding.SILENCE, detail="an order that was tried shows no payment")
        outcomes.append(outcome)
    return strongest(outcomes)


def _read_list(reply: Reply, reference: str, order_id: str) -> Outcome:
    """The payments of one order; ABSENT only where a list as documented is empty."""
    payments = rows(content_of(reply), "items") if is_good(reply) else None
    if payments is None:
        return unclear(reply)
    return strongest(read_payment(each, reference, order_id=order_id) for each in payments)


# --- after the charge -----------------------------------------------------------------------------


def capture(command: Capture, login: Login) -> Plan:
    """Take the whole of an authorization. Its own state keeps it from being taken twice."""
    path = f"/payments/{command.provider_payment_id}"
    body = {"amount": units(command.amount), "currency": command.amount.asset.code}
    reply = yield from ask(post(f"{path}/capture", body, timeout_seconds=CHARGE_SECONDS))
    known_id = command.provider_payment_id
    if is_good(reply):
        return read_payment(content_of(reply), command.reference, known_id=known_id)
    refusal = read_refusal(reply)
    if refusal.finding is not Finding.SILENCE or not isinstance(reply, Answer):
        return refusal
    reply = yield from ask(get(path))
    if not is_good(reply):
        return unclear(reply, known_id)
    return read_payment(content_of(reply), command.reference, known_id=known_id)


def refund(command: Refund, login: Login) -> Plan:
    """Send money back, in whole or in part."""
    body = {
        "amount": units(command.amount),
        "speed": "normal",
        "receipt": command.reference,
        "notes": {REFUND_NOTE: command.reference},
    }
    call = post(
        f"/payments/{command.provider_payment_id}/refund",
        body,
        key=command.key,
        key_header="X-Refund-Idempotency",
        safe_to_repeat=True,
    )
    reply = yield from ask(call)
    if is_good(reply):
        return read_refund_object(content_of(reply), command.reference)
    error = fields(content_of(reply).get("error"))
    if "idempotency" in text(error, "description").lower():
        return unclear(reply)  # the key stands for another body: something exists
    return read_refusal(reply)


def read_refund(look: LookRefund, login: Login) -> Plan:
    """Look at a refund by its id."""
    reply = yield from ask(get(f"/refunds/{look.provider_refund_id}"))
    if not is_good(reply):
        return read_failure(reply)
    return read_refund_object(content_of(reply), look.reference, look.provider_refund_id)


def find_refund(look: LookRefund, login: Login) -> Plan:
    """Look for a refund among those of its payment."""
    path = f"/payments/{look.provider_payment_id}/refunds"
    reply = yield from ask(get(path, {"count": str(PAGE)}))
    refunds = rows(content_of(reply), "items") if is_good(reply) else None
    if refunds is None:
        return unclear(reply)
    ours = [
        each
        for each in refunds
        if fields(each.get("notes")).get(REFUND_NOTE) == look.reference
        or each.get("receipt") == look.reference
    ]
    if not ours and len(refunds) >= PAGE:
        return Outcome(Finding.SILENCE, detail="more refunds than one list shows")
    return strongest(read_refund_object(each, look.reference, identifier(each)) for each in ours)
