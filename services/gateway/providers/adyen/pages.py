"""Hosted pages and stored methods at Adyen. A customer is known there by our own id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.adyen.answers import read_error, read_result
from gateway.providers.adyen.requests import (
    amount_body,
    customer_of,
    get,
    post,
    shopper_reference,
)
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
from gateway.providers.parsing import content_of, identifier, moment, rows, text
from gateway.providers.plan import Answer, Asked, Plan, Reply, ask, read_failure

_STATES = {
    "active": SessionState.OPEN,
    "paymentPending": SessionState.OPEN,
    "completed": SessionState.COMPLETED,
    "expired": SessionState.EXPIRED,
    "canceled": SessionState.CANCELED,
    "refused": SessionState.CANCELED,
}


def create_session(command: NewSession, login: Login) -> Asked[Session]:
    """Open a hosted page; an amount of zero stores a method without a payment."""
    body: dict[str, Any] = {
        "mode": "hosted",
        "amount": amount_body(command.amount),
        "reference": command.reference,
        "returnUrl": command.return_url,
        "shopperReference": shopper_reference(command.customer_id),
        "shopperInteraction": "Ecommerce",
        "recurringProcessingModel": "UnscheduledCardOnFile",
        "storePaymentMethodMode": "enabled",
    }
    if command.mode is SessionMode.PAY:
        body["captureDelayHours"] = 0
    if command.country:
        body["countryCode"] = command.country
    if command.contact.email:
        body["shopperEmail"] = command.contact.email
    if command.expire_time is not None:
        body["expiresAt"] = command.expire_time.isoformat()
    reply = yield from ask(post(login, "/sessions", body, command.key))
    content = content_of(reply)
    session_id, url = identifier(content), text(content, "url")
    if not isinstance(reply, Answer) or reply.status != 201 or not session_id or not url:
        return _failure(reply)
    return Session(session_id, SessionState.OPEN, url, moment(content, "expiresAt"))


def read_session(look: LookSession, login: Login) -> Asked[Session]:
    """Look at a page, by what it handed the browser when it sent it back."""
    path, query = f"/sessions/{look.provider_session_id}", {"sessionResult": look.result}
    reply = yield from ask(get(path, query))
    content = content_of(reply)
    state = _STATES.get(text(content, "status"))
    session_id = identifier(content)
    if not isinstance(reply, Answer) or reply.status != 200 or state is None or not session_id:
        return _failure(reply)
    payments = rows(content, "payments") or []
    results = [read_result(each, look.reference, capture_later=False) for each in payments]
    known = [each for each in results if each.finding is not Finding.SILENCE]
    payment = known[-1] if known and look.mode is SessionMode.PAY else None
    return Session(session_id, state, payment=payment)


def list_methods(command: CustomerMethods, login: Login) -> Asked[tuple[StoredMethod, ...]]:
    """The shopper's stored methods."""
    query = {
        "merchantAccount": login.merchant,
        "shopperReference": shopper_reference(command.customer_id),
    }
    reply = yield from ask(get("/storedPaymentMethods", query))
    listed = rows(content_of(reply), "storedPaymentMethods")
    if not isinstance(reply, Answer) or reply.status != 200 or listed is None:
        return _failure(reply)
    return tuple(method for each in listed if (method := _method(each)) is not None)


def detach_method(command: Detach, login: Login) -> Plan:
    """Forget a stored method; one that is not there any more counts as gone."""
    query = {
        "merchantAccount": login.merchant,
        "shopperReference": shopper_reference(command.customer_id),
    }
    path = f"/storedPaymentMethods/{command.provider_token}"
    reply = yield from ask(get(path, query, method="DELETE"))
    if isinstance(reply, Answer) and reply.status in (200, 204, 404):
        return Outcome(Finding.CANCELED)
    return _failure(reply)


def _method(content: Mapping[str, Any]) -> StoredMethod | None:
    token, year = identifier(content), text(content, "expiryYear")
    if not token:
        return None
    month = text(content, "expiryMonth")
    full = f"20{year}" if len(year) == 2 else year
    return StoredMethod(
        provider_token=token,
        kind=text(content, "type"),
        customer_id=customer_of(text(content, "shopperReference")),
        brand=text(content, "brand"),
        last_four=text(content, "lastFour")[-4:],
        expire_year=int(full) if full.isascii() and full.isdigit() else 0,
        expire_month=int(month) if month.isascii() and month.isdigit() else 0,
    )


def _failure(reply: Reply) -> Outcome:
    return read_error(reply) if isinstance(reply, Answer) else read_failure(reply)
