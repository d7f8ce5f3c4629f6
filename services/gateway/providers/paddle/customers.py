"""Paddle's customers, their methods, and the page where they pay."""

from __future__ import annotations

import re
from typing import Any

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import (
    CustomerLink,
    CustomerMethods,
    Detach,
    Login,
    LookSession,
    NewCustomer,
    NewSession,
    Session,
    SessionMode,
    SessionState,
    StoredMethod,
)
from gateway.providers.paddle.answers import (
    entity,
    is_ours,
    read_method,
    read_refusal,
    read_transaction,
)
from gateway.providers.paddle.requests import (
    ATTEMPT_FIELD,
    TRANSACTION,
    get,
    is_good,
    price_item,
    send,
)
from gateway.providers.parsing import content_of, fields, identifier, rows, text, unclear
from gateway.providers.plan import Answer, Asked, Plan, ask, keep, rejected

CUSTOMER_EXISTS = "customer_already_exists"
_CUSTOMER_ID = re.compile(r"ctm_[a-z0-9]{26}")
METHODS_PAGE = 200


def create_customer(command: NewCustomer, login: Login) -> Asked[CustomerLink]:
    """Make a customer; where the e-mail has one, the refusal names it."""
    body: dict[str, Any] = {
        "email": command.contact.email,
        "custom_data": {"tollgate_customer": command.customer_id},
    }
    if command.contact.name:
        body["name"] = command.contact.name
    reply = yield from ask(send("POST", "/customers", body))
    if is_good(reply):
        customer_id = identifier(entity(reply))
        return CustomerLink(customer_id) if customer_id else unclear(reply)
    error = fields(content_of(reply).get("error"))
    named = _CUSTOMER_ID.search(text(error, "detail"))
    conflict = isinstance(reply, Answer) and reply.status == 409
    if conflict and text(error, "code") == CUSTOMER_EXISTS and named:
        return CustomerLink(named.group(0))
    return read_refusal(reply)


def create_session(command: NewSession, login: Login) -> Asked[Session]:
    """Open a page where a person pays. A method can be stored only with a sale."""
    if command.mode is not SessionMode.PAY:
        return rejected("setup_needs_sale")
    if command.notes.get(TRANSACTION):
        return (yield from _session(command.notes[TRANSACTION], command.reference))
    body: dict[str, Any] = {
        "items": [price_item(command.amount, command.description, command.reference)],
        "collection_mode": "automatic",
        "currency_code": command.amount.asset.code,
        "custom_data": {ATTEMPT_FIELD: command.reference},
    }
    if command.provider_customer_id:
        body["customer_id"] = command.provider_customer_id
    reply = yield from ask(send("POST", "/transactions", body))
    transaction_id = identifier(entity(reply)) if is_good(reply) else ""
    if not transaction_id:
        return read_refusal(reply) if not is_good(reply) else unclear(reply)
    yield from keep(TRANSACTION, transaction_id)
    return _read_session(reply, command.reference)


def read_session(look: LookSession, login: Login) -> Asked[Session]:
    """Look at a page. What a browser brought back is not even looked at: it proves nothing."""
    return (yield from _session(look.provider_session_id, look.reference))


def _session(transaction_id: str, reference: str) -> Asked[Session]:
    reply = yield from ask(get(f"/transactions/{transaction_id}"))
    if not is_good(reply) or not is_ours(entity(reply), reference):
        return unclear(reply)
    return _read_session(reply, reference)


def _read_session(reply: Any, reference: str) -> Session:
    transaction = entity(reply)
    payment = read_transaction(transaction, reference, known_id=identifier(transaction))
    state = {
        Finding.SUCCEEDED: SessionState.COMPLETED,
        Finding.CANCELED: SessionState.CANCELED,
        Finding.DECLINED: SessionState.CANCELED,
    }.get(payment.finding, SessionState.OPEN)
    return Session(
        provider_session_id=identifier(transaction),
        state=state,
        url=text(fields(transaction.get("checkout")), "url"),
        provider_customer_id=text(transaction, "customer_id"),
        payment=payment if payment.finding is not Finding.NEEDS_ACTION else None,
        method=_subscription_method(transaction),
    )


def _subscription_method(transaction: Any) -> StoredMethod | None:
    """A sale that began a subscription left something that can be charged."""
    subscription_id = identifier(transaction, "subscription_id")
    if not subscription_id:
        return None
    return StoredMethod(
        provider_token=subscription_id,
        kind="subscription",
        provider_customer_id=text(transaction, "customer_id"),
    )


def list_methods(command: CustomerMethods, login: Login) -> Asked[tuple[StoredMethod, ...]]:
    """Active subscriptions, which can be charged, and saved methods, which only pages use."""
    customer_id = command.provider_customer_id
    query = {"customer_id": customer_id, "status": "active", "per_page": "200"}
    reply = yield from ask(get("/subscriptions", query))
    subscriptions = rows(content_of(reply), "data") if is_good(reply) else None
    if subscriptions is None:
        return read_refusal(reply)
    path = f"/customers/{customer_id}/payment-methods"
    reply = yield from ask(get(path, {"per_page": str(METHODS_PAGE)}))
    saved = rows(content_of(reply), "data") if is_good(reply) else None
    if saved is None:
        return read_refusal(reply)
    chargeable = (
        StoredMethod(
            provider_token=identifier(each),
            kind="subscription",
            provider_customer_id=customer_id,
            state=text(each, "status"),
        )
        for each in subscriptions
        if identifier(each) and each.get("collection_mode", "automatic") == "automatic"
    )
    methods = (read_method(each) for each in saved)
    return (*chargeable, *(each for each in methods if each is not None))


def detach_method(command: Detach, login: Login) -> Plan:
    """Forget a saved method. A subscription is none: ending it is not ours to do here."""
    if not command.provider_token.startswith("paymtd_"):
        return rejected("not_a_saved_method")
    path = f"/customers/{command.provider_customer_id}/payment-methods/{command.provider_token}"
    reply = yield from ask(send("DELETE", path, None))
    if isinstance(reply, Answer) and reply.status in (200, 204, 404):
        return Outcome(Finding.CANCELED)
    return read_refusal(reply)
