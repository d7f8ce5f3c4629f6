"""Hosted pages and mandates at GoCardless; the page makes customer, bank details and mandate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import (
    CustomerMethods,
    Detach,
    Login,
    LookSession,
    NewSession,
    Session,
    SessionMode,
    SessionState,
    StoredMethod,
)
from gateway.providers.gocardless.answers import read_error, read_mandate, read_payment_answer
from gateway.providers.gocardless.requests import ATTEMPT, PAGE_SIZE, act, create, get, units
from gateway.providers.parsing import content_of, fields, identifier, moment, rows, text
from gateway.providers.plan import Answer, Asked, Plan, ask, keep

_STATES = {
    "pending": SessionState.OPEN,
    "ready_to_fulfil": SessionState.OPEN,
    "fulfilling": SessionState.OPEN,
    "fulfilled": SessionState.COMPLETED,
    "cancelled": SessionState.CANCELED,
}


def create_session(command: NewSession, login: Login) -> Asked[Session]:
    """Make a billing request, and a page to go through it with."""
    code = command.amount.asset.code
    if command.mode is SessionMode.SETUP:
        body: dict[str, Any] = {"mandate_request": {"currency": code}}
    else:
        body = {
            "payment_request": {
                "amount": units(command.amount),
                "currency": code,
                "description": command.description or "Payment",
                "metadata": {ATTEMPT: command.reference},
            }
        }
    body["metadata"] = {ATTEMPT: command.reference}
    if command.provider_customer_id:
        body["links"] = {"customer": command.provider_customer_id}
    request_id = command.notes.get("billing_request", "")
    if not request_id:
        reply = yield from create("billing_requests", body, command.key)
        request_id = identifier(fields(content_of(reply).get("billing_requests")))
        if not isinstance(reply, Answer) or reply.status not in (200, 201) or not request_id:
            return read_error(reply)
        yield from keep("billing_request", request_id)
    flow = {
        "redirect_uri": command.return_url,
        "exit_uri": command.return_url,
        "links": {"billing_request": request_id},
    }
    reply = yield from create("billing_request_flows", flow, f"{command.key}-flow")
    made = fields(content_of(reply).get("billing_request_flows"))
    url = text(made, "authorisation_url")
    if not isinstance(reply, Answer) or reply.status not in (200, 201) or not url:
        return read_error(reply)
    return Session(request_id, SessionState.OPEN, url, moment(made, "expires_at"))


def read_session(look: LookSession, login: Login) -> Asked[Session]:
    """Look at a billing request, and at the payment or the mandate that came of it."""
    reply = yield from ask(get(f"/billing_requests/{look.provider_session_id}"))
    content = fields(content_of(reply).get("billing_requests"))
    state = _STATES.get(text(content, "status"))
    if not isinstance(reply, Answer) or reply.status != 200 or state is None:
        return read_error(reply)
    links = fields(content.get("links"))
    session = Session(look.provider_session_id, state, provider_customer_id=text(links, "customer"))
    payment = identifier(links, "payment_request_payment")
    if look.mode is SessionMode.PAY and payment:
        reply = yield from ask(get(f"/payments/{payment}"))
        return replace(session, payment=read_payment_answer(reply, look.reference))
    mandate = identifier(links, "mandate_request_mandate")
    if look.mode is SessionMode.SETUP and mandate:
        reply = yield from ask(get(f"/mandates/{mandate}"))
        return replace(session, method=read_mandate(_mandate_in(reply)))
    return session


def list_methods(command: CustomerMethods, login: Login) -> Asked[tuple[StoredMethod, ...]]:
    """The customer's mandates."""
    query = {"customer": command.provider_customer_id, "limit": str(PAGE_SIZE)}
    reply = yield from ask(get("/mandates", query))
    listed = rows(content_of(reply), "mandates")
    if not isinstance(reply, Answer) or reply.status != 200 or listed is None:
        return read_error(reply)
    return tuple(method for each in listed if (method := read_mandate(each)) is not None)


def detach_method(command: Detach, login: Login) -> Plan:
    """Cancel a mandate; payments of it that are not submitted yet are canceled with it."""
    reply = yield from ask(act(f"/mandates/{command.provider_token}/actions/cancel"))
    outcome = read_error(reply)
    ended = text(_mandate_in(reply), "status") == "cancelled"
    gone = outcome.decline_code == "mandate_not_cancellable"
    return Outcome(Finding.CANCELED) if ended or gone else outcome


def _mandate_in(reply: object) -> Mapping[str, Any]:
    return fields(content_of(reply).get("mandates")) if isinstance(reply, Answer) else {}
