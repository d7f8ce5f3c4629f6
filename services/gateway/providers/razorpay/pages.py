"""Razorpay's pages: links where a person pays, or stores a card by a first payment."""

from __future__ import annotations

from typing import Any

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import (
    Login,
    LookSession,
    NewSession,
    Session,
    SessionMode,
    SessionState,
    StoredMethod,
)
from gateway.providers.parsing import (
    content_of,
    identifier,
    moment,
    rows,
    strongest,
    text,
    unclear,
)
from gateway.providers.plan import (
    Answer,
    Asked,
    Plan,
    Reply,
    Steps,
    ask,
    keep,
)
from gateway.providers.razorpay.answers import (
    read_method,
    read_payment,
    read_refusal,
)
from gateway.providers.razorpay.requests import (
    DESCRIPTION_CHARACTERS_MAX,
    LINK,
    contact_fields,
    get,
    is_good,
    link_body,
    post,
)

SETUP_UNITS = 100  # a stored card begins with a payment of at least one unit of currency

_SESSION_STATES = {
    "draft": SessionState.OPEN,
    "issued": SessionState.OPEN,
    "created": SessionState.OPEN,
    "partially_paid": SessionState.OPEN,
    "paid": SessionState.COMPLETED,
    "expired": SessionState.EXPIRED,
    "cancelled": SessionState.CANCELED,
}


def create_session(command: NewSession, login: Login) -> Asked[Session]:
    """Open a page: a payment link, or a link by which a card is stored."""
    if command.mode is SessionMode.SETUP:
        return (yield from _create_setup(command))
    reply = yield from ask(post("/payment_links", link_body(command)))
    link_id = identifier(content_of(reply))
    if not is_good(reply) or not link_id:
        failure = read_refusal(reply)
        if failure.finding is not Finding.SILENCE or not isinstance(reply, Answer):
            return failure
        # Its reference is unique: a link of that reference is ours.
        reply = yield from ask(get("/payment_links", {"reference_id": command.reference}))
        links = rows(content_of(reply), "payment_links") if is_good(reply) else None
        if not links:
            return failure
        yield from keep(LINK, identifier(links[0]))
        return _session(links[0])
    yield from keep(LINK, link_id)
    return _session(content_of(reply))


def _create_setup(command: NewSession) -> Asked[Session]:
    body: dict[str, Any] = {
        "customer": contact_fields(command.contact),
        "type": "link",
        "amount": SETUP_UNITS,
        "currency": command.amount.asset.code,
        "description": command.description[:DESCRIPTION_CHARACTERS_MAX] or command.reference,
        "subscription_registration": {"method": "card"},
        "receipt": command.reference,
        "sms_notify": 0,
        "email_notify": 0,
        "notes": {"tollgate_session": command.reference},
    }
    if command.expire_time is not None:
        body["expire_by"] = int(command.expire_time.timestamp())
    reply = yield from ask(post("/subscription_registration/auth_links", body))
    if not is_good(reply) or not identifier(content_of(reply)):
        return read_refusal(reply)
    return _session(content_of(reply))


def read_session(look: LookSession, login: Login) -> Asked[Session]:
    """Look at a page. What a browser brought back is not even looked at: it proves nothing."""
    kind = "payment_links" if look.mode is SessionMode.PAY else "invoices"
    reply = yield from ask(get(f"/{kind}/{look.provider_session_id}"))
    if not is_good(reply) or identifier(content_of(reply)) != look.provider_session_id:
        return unclear(reply)
    if look.mode is SessionMode.PAY:
        payment = yield from _payment_of_link(reply, look.reference)
        return _session(content_of(reply), payment=payment)
    method = yield from _method_of_setup(reply)
    return _session(content_of(reply), method=method)


def _payment_of_link(link: Reply, reference: str) -> Steps[Outcome | None]:
    """What the payments made on a page amount to; None where there is none yet."""
    content = content_of(link)
    if content.get("reference_id") != reference:
        return Outcome(Finding.SILENCE, detail="a page of another reference")
    outcomes = []
    for made in rows(content, "payments") or []:
        payment_id = identifier(made, "payment_id")
        reply = yield from ask(get(f"/payments/{payment_id}"))
        good = is_good(reply)
        outcomes.append(
            read_payment(content_of(reply), reference, known_id=payment_id)
            if good
            else unclear(reply, payment_id)
        )
    return strongest(outcomes) if outcomes else None


def _method_of_setup(invoice: Reply) -> Steps[StoredMethod | None]:
    """The token that came of a paid setup: its payment names it."""
    payment_id = identifier(content_of(invoice), "payment_id")
    if not payment_id:
        return None
    payment = content_of((yield from ask(get(f"/payments/{payment_id}"))))
    customer_id, token_id = identifier(payment, "customer_id"), identifier(payment, "token_id")
    if not customer_id or not token_id:
        return None
    reply = yield from ask(get(f"/customers/{customer_id}/tokens/{token_id}"))
    return read_method(content_of(reply), customer_id) if is_good(reply) else None


def _session(
    content: Any, payment: Outcome | None = None, method: StoredMethod | None = None
) -> Session:
    return Session(
        provider_session_id=identifier(content),
        state=_SESSION_STATES.get(text(content, "status"), SessionState.OPEN),
        url=text(content, "short_url"),
        expire_time=moment(content, "expire_by"),
        provider_customer_id=text(content, "customer_id"),
        payment=payment,
        method=method,
    )


def find_by_link(link_id: str, reference: str) -> Plan:
    """A payment made on a page. A page without one has not been paid, which is no absence."""
    link = yield from ask(get(f"/payment_links/{link_id}"))
    if not is_good(link):
        return unclear(link)
    state = _SESSION_STATES.get(text(content_of(link), "status"))
    found = yield from _payment_of_link(link, reference)
    if found is None:
        gone = state in (SessionState.EXPIRED, SessionState.CANCELED)
        return Outcome(Finding.CANCELED if gone else Finding.NEEDS_ACTION)
    return found
