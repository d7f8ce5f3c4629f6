"""Customers, hosted pages and stored methods at Stripe."""

from __future__ import annotations

from collections.abc import Mapping
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
from gateway.providers.parsing import content_of, fields, identifier, moment, rows, text
from gateway.providers.plan import Answer, Asked, Plan, Reply, ask, read_failure
from gateway.providers.stripe.answers import read_error, read_intent, read_method
from gateway.providers.stripe.requests import ATTEMPT, CUSTOMER, PAGE_SIZE, get, post, units

_STATES = {
    "open": SessionState.OPEN,
    "complete": SessionState.COMPLETED,
    "expired": SessionState.EXPIRED,
}


def create_customer(command: NewCustomer, login: Login) -> Asked[CustomerLink]:
    """Make a customer; the key gives an earlier one back."""
    form = {
        "name": command.contact.name,
        "email": command.contact.email,
        "phone": command.contact.phone,
        f"metadata[{CUSTOMER}]": command.customer_id,
    }
    reply = yield from ask(post("/v1/customers", form, command.key))
    made = identifier(content_of(reply))
    if not isinstance(reply, Answer) or reply.status != 200 or not made:
        return _failure(reply)
    return CustomerLink(made)


def create_session(command: NewSession, login: Login) -> Asked[Session]:
    """Open a Checkout page: to pay and store the method with it, or to store one."""
    code = command.amount.asset.code.lower()
    form = {
        "customer": command.provider_customer_id,
        "client_reference_id": command.reference,
        "success_url": command.return_url,
        "cancel_url": command.return_url,
    }
    if command.expire_time is not None:
        form["expires_at"] = str(int(command.expire_time.timestamp()))
    if command.mode is SessionMode.SETUP:
        form |= {"mode": "setup", "currency": code}
    else:
        form |= {
            "mode": "payment",
            "line_items[0][quantity]": "1",
            "line_items[0][price_data][currency]": code,
            "line_items[0][price_data][unit_amount]": str(units(command.amount)),
            "line_items[0][price_data][product_data][name]": command.description or "Payment",
            "payment_intent_data[setup_future_usage]": "off_session",
            f"payment_intent_data[metadata][{ATTEMPT}]": command.reference,
        }
    reply = yield from ask(post("/v1/checkout/sessions", form, command.key))
    content = content_of(reply)
    session = _session(content, command.reference)
    if not isinstance(reply, Answer) or reply.status != 200 or session is None or not session.url:
        return _failure(reply)
    return session


def read_session(look: LookSession, login: Login) -> Asked[Session]:
    """Look at a page, with the payment or the method that came of it."""
    query = {
        "expand[0]": "payment_intent",
        "expand[1]": "setup_intent.payment_method",
        "expand[2]": "payment_intent.payment_method",
    }
    path = f"/v1/checkout/sessions/{look.provider_session_id}"
    reply = yield from ask(get(path, query))
    session = _session(content_of(reply), look.reference)
    if not isinstance(reply, Answer) or reply.status != 200 or session is None:
        return _failure(reply)
    return session


def list_methods(command: CustomerMethods, login: Login) -> Asked[tuple[StoredMethod, ...]]:
    """The customer's methods, of every kind."""
    query = {"customer": command.provider_customer_id, "limit": str(PAGE_SIZE)}
    reply = yield from ask(get("/v1/payment_methods", query))
    listed = rows(content_of(reply), "data")
    if not isinstance(reply, Answer) or reply.status != 200 or listed is None:
        return _failure(reply)
    return tuple(method for each in listed if (method := read_method(each)) is not None)


def detach_method(command: Detach, login: Login) -> Plan:
    """Forget a method; one that is not attached any more counts as gone."""
    path = f"/v1/payment_methods/{command.provider_token}/detach"
    reply = yield from ask(post(path, {}, command.key))
    content = content_of(reply)
    if isinstance(reply, Answer) and reply.status == 200 and not content.get("customer"):
        return Outcome(Finding.CANCELED)
    return _failure(reply)


def _session(content: Mapping[str, Any], reference: str) -> Session | None:
    session_id, state = identifier(content), _STATES.get(text(content, "status"))
    if not session_id or state is None:
        return None
    intent, setup = fields(content.get("payment_intent")), fields(content.get("setup_intent"))
    stored = fields(setup.get("payment_method")) or fields(intent.get("payment_method"))
    return Session(
        provider_session_id=session_id,
        state=state,
        url=text(content, "url"),
        expire_time=moment(content, "expires_at"),
        provider_customer_id=text(content, "customer"),
        payment=read_intent(intent, reference) if intent else None,
        method=read_method(stored) if state is SessionState.COMPLETED else None,
    )


def _failure(reply: Reply) -> Outcome:
    return read_error(reply) if isinstance(reply, Answer) else read_failure(reply)
