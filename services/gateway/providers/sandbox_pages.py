"""The sandbox's pages and stored methods: one request each, and signed notifications of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.currency import to_provider_units
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
from gateway.providers.parsing import content_of, fields, identifier, moment, rows, text, whole
from gateway.providers.plan import (
    CHARGE_SECONDS,
    NOTIFICATION_SECRET,
    Answer,
    Asked,
    Call,
    Plan,
    Reply,
    ask,
    read_failure,
)
from gateway.providers.sandbox_answers import read_payment, read_refusal, switches

_STATES = {
    "open": SessionState.OPEN,
    "complete": SessionState.COMPLETED,
    "canceled": SessionState.CANCELED,
    "expired": SessionState.EXPIRED,
}


def create_session(command: NewSession, login: Login) -> Asked[Session]:
    """Open a page."""
    headers, secrets = {}, {}
    if login.notification_url:
        headers["sandbox-notify-url"] = login.notification_url
        secrets["sandbox-notify-secret"] = NOTIFICATION_SECRET
    body: dict[str, Any] = {
        "mode": command.mode.value,
        "reference": command.reference,
        "currency": command.amount.asset.code,
        "customer": command.customer_id,
        "description": command.description,
        "return_url": command.return_url,
    }
    if command.mode is SessionMode.PAY:
        body["amount"] = to_provider_units(command.amount, command.amount.asset.scale)
    reply = yield from ask(
        Call(
            "POST",
            "/v1/sessions",
            json=body,
            query=switches(login),
            headers=headers,
            secret_headers=secrets,
            key=command.key,
            timeout_seconds=CHARGE_SECONDS,
            safe_to_repeat=True,
        )
    )
    if not isinstance(reply, Answer) or reply.status != 201:
        return read_refusal(reply)
    return _session(reply, command.reference)


def read_session(look: LookSession, login: Login) -> Asked[Session]:
    """Look at a page, with the payment or the method that came of it."""
    path = f"/v1/sessions/{look.provider_session_id}"
    reply = yield from ask(Call("GET", path, query=switches(login), safe_to_repeat=True))
    if not isinstance(reply, Answer) or reply.status != 200:
        return read_failure(reply)
    return _session(reply, look.reference)


def list_methods(command: CustomerMethods, login: Login) -> Asked[tuple[StoredMethod, ...]]:
    """A customer's stored methods."""
    query = {"customer": command.customer_id, **switches(login)}
    reply = yield from ask(Call("GET", "/v1/methods", query=query, safe_to_repeat=True))
    listed = rows(content_of(reply), "methods")
    if not isinstance(reply, Answer) or reply.status != 200 or listed is None:
        return read_failure(reply)
    return tuple(method for each in listed if (method := _method(each)) is not None)


def detach_method(command: Detach, login: Login) -> Plan:
    """Forget a stored method; one that is not there any more counts as gone."""
    path = f"/v1/methods/{command.provider_token}"
    reply = yield from ask(Call("DELETE", path, query=switches(login), safe_to_repeat=True))
    if isinstance(reply, Answer) and reply.status in (200, 404):
        return Outcome(Finding.CANCELED)
    return read_failure(reply)


def _session(reply: Reply, reference: str) -> Session | Outcome:
    told = fields(content_of(reply).get("session"))
    session_id, state = identifier(told), _STATES.get(text(told, "state"))
    if not session_id or state is None or text(told, "reference") != reference:
        return Outcome(Finding.SILENCE, detail="no session of this reference in the answer")
    payment = told.get("payment")
    return Session(
        session_id,
        state,
        url=text(told, "url"),
        expire_time=moment(told, "expire_time"),
        payment=read_payment(payment, reference) if payment else None,
        method=_method(fields(told.get("method"))),
    )


def _method(told: Mapping[str, Any]) -> StoredMethod | None:
    token = text(told, "id")
    if not token:
        return None
    return StoredMethod(
        provider_token=token,
        kind="card",
        customer_id=text(told, "customer"),
        brand=text(told, "brand"),
        last_four=text(told, "last_four")[-4:],
        expire_year=whole(told, "expire_year") or 0,
        expire_month=whole(told, "expire_month") or 0,
    )
