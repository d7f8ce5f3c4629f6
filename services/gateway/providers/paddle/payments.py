"""Paddle's payments: a one-time charge of a subscription, and the look that must follow it.

There are no idempotency keys. That a charge may have left is noted before it leaves, and from then
on nothing is sent, only looked for. Transactions are compared here, since Paddle has no filter for
what is ours.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from gateway.domain.outcome import DeclineClass, Finding, Outcome
from gateway.providers.commands import Cancel, Charge, Login, Look
from gateway.providers.paddle.answers import (
    PAYMENT_DECLINED,
    entity,
    is_ours,
    read_refusal,
    read_transaction,
)
from gateway.providers.paddle.requests import (
    PAGE,
    SENT,
    TRANSACTION,
    get,
    is_good,
    price_item,
    send,
)
from gateway.providers.parsing import content_of, fields, identifier, moment, rows, text, unclear
from gateway.providers.plan import (
    CHARGE_SECONDS,
    Answer,
    Phase,
    Plan,
    Silence,
    ask,
    keep,
    read_failure,
    rejected,
)

PAGES_MAX = 20  # of newest transactions; beyond them nothing is claimed
# Older transactions than this before the attempt are not ours. A time is compared here and never
# sent as a filter: the attempt's may be a test clock's, and a filter in the future hides a charge.
OLDEST_BEFORE = timedelta(days=1)
NEEDS_SUBSCRIPTION = "needs_subscription"


def charge(command: Charge, login: Login) -> Plan:
    """Charge a subscription while the customer is away, and look what came of it."""
    subscription_id = command.provider_token
    if not subscription_id.startswith("sub_"):
        return rejected(
            NEEDS_SUBSCRIPTION,
            "without a subscription there, a customer pays on a page",
            DeclineClass.ACTION_REQUIRED,
        )
    query = {"subscription_id": subscription_id}
    if SENT in command.notes:
        outcome = yield from _search(query, command.reference, command.time)
        return _not_absent(outcome)
    body = {
        "effective_from": "immediately",
        "items": [price_item(command.amount, command.description, command.reference)],
        "on_payment_failure": "prevent_change",
    }
    yield from keep(SENT, subscription_id)
    call = send("POST", f"/subscriptions/{subscription_id}/charge", body, CHARGE_SECONDS)
    reply = yield from ask(call)
    if isinstance(reply, Silence) and reply.phase is Phase.BEFORE_SEND:
        return read_failure(reply)
    refusal = read_refusal(reply)
    declined = refusal.decline_code == PAYMENT_DECLINED
    if not is_good(reply) and not declined and refusal.finding is not Finding.SILENCE:
        return refusal
    # The answer is the subscription, not the payment; and a decline has no reason in it.
    outcome = yield from _search(query, command.reference, command.time)
    if declined and outcome.finding in (Finding.SILENCE, Finding.ABSENT):
        return Outcome(
            Finding.DECLINED, decline_code=PAYMENT_DECLINED, decline_class=DeclineClass.SOFT
        )
    return _not_absent(outcome)


def _not_absent(outcome: Outcome) -> Outcome:
    """Right after a charge, a list without it proves nothing: lists lag."""
    if outcome.finding is not Finding.ABSENT:
        return outcome
    return Outcome(Finding.SILENCE, detail="the charge is not yet in the list")


def read(look: Look, login: Login) -> Plan:
    """Look at a transaction by its id."""
    reply = yield from ask(get(f"/transactions/{look.provider_payment_id}"))
    if not is_good(reply):
        return read_failure(reply)
    return read_transaction(entity(reply), look.reference, known_id=look.provider_payment_id)


def find(look: Look, login: Login) -> Plan:
    """Look for a transaction that carries our reference."""
    if transaction_id := look.notes.get(TRANSACTION):
        reply = yield from ask(get(f"/transactions/{transaction_id}"))
        if not is_good(reply):
            return unclear(reply)
        return read_transaction(entity(reply), look.reference, known_id=transaction_id)
    subscription_id = look.notes.get(SENT) or look.provider_token
    if subscription_id.startswith("sub_"):
        query = {"subscription_id": subscription_id}
    elif look.provider_customer_id:
        query = {"customer_id": look.provider_customer_id}
    else:
        return Outcome(Finding.SILENCE, detail="neither a subscription nor a customer to look at")
    return (yield from _search(query, look.reference, look.time))


def _search(query: dict[str, str], reference: str, time: datetime | None) -> Plan:
    """The newest transaction of ours; ABSENT where all that can be ours were compared."""
    after = ""
    for _ in range(PAGES_MAX):
        page = {**query, "order_by": "id[DESC]", "per_page": str(PAGE)}
        reply = yield from ask(get("/transactions", {**page, "after": after} if after else page))
        listed = rows(content_of(reply), "data") if is_good(reply) else None
        if listed is None:
            return unclear(reply)
        for transaction in listed:
            if is_ours(transaction, reference):
                yield from keep(TRANSACTION, identifier(transaction))
                return read_transaction(transaction, reference)
        pagination = fields(fields(content_of(reply).get("meta")).get("pagination"))
        more = pagination.get("has_more")
        if more is False:
            return Outcome(Finding.ABSENT)
        after = identifier(listed[-1]) if listed else ""
        if more is not True or not after:
            return Outcome(Finding.SILENCE, detail="a list that does not say whether it ends")
        oldest = moment(listed[-1], "created_at")
        if time is not None and oldest is not None and oldest < time - OLDEST_BEFORE:
            return Outcome(Finding.ABSENT)
    return Outcome(Finding.SILENCE, detail="more transactions than are compared")


def cancel(command: Cancel, login: Login) -> Plan:
    """Call an unpaid transaction off. One that is paid stays so, and is told as it is."""
    transaction_id = command.provider_payment_id or command.notes.get(TRANSACTION, "")
    if not transaction_id:
        return rejected("transaction_unknown")
    path = f"/transactions/{transaction_id}"
    reply = yield from ask(send("PATCH", path, {"status": "canceled"}))
    if is_good(reply):
        return read_transaction(entity(reply), command.reference, known_id=transaction_id)
    if not isinstance(reply, Answer):
        return read_failure(reply)
    refused = reply
    reply = yield from ask(get(path))
    if is_good(reply) and text(entity(reply), "status") in ("paid", "completed", "canceled"):
        return read_transaction(entity(reply), command.reference, known_id=transaction_id)
    return read_refusal(refused)
