"""Chargebee's pages: a checkout where a person pays, and one where methods are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.chargebee.answers import (
    listed,
    read_method,
    read_refusal,
    read_transaction,
)
from gateway.providers.chargebee.requests import (
    DESCRIPTION_CHARACTERS_MAX,
    HOSTED_PAGE,
    get,
    in_path,
    is_good,
    post,
    units,
)
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
    answer_time,
    content_of,
    fields,
    identifier,
    moment,
    strongest,
    text,
    unclear,
)
from gateway.providers.plan import Asked, Plan, Reply, Steps, ask, keep

_STATES = {
    "created": SessionState.OPEN,
    "requested": SessionState.OPEN,
    "succeeded": SessionState.COMPLETED,
    "acknowledged": SessionState.COMPLETED,
    "cancelled": SessionState.CANCELED,
}


def create_session(command: NewSession, login: Login) -> Asked[Session]:
    """Open a page."""
    customer_id = command.provider_customer_id or command.customer_id
    if command.mode is SessionMode.SETUP:
        path = "/hosted_pages/manage_payment_sources"
        form = {"customer[id]": customer_id, "redirect_url": command.return_url}
    else:
        path = "/hosted_pages/checkout_one_time_for_items"
        name = command.description.strip()[:DESCRIPTION_CHARACTERS_MAX]
        form = {
            "customer[id]": customer_id,
            "currency_code": command.amount.asset.code,
            "charges[amount][0]": str(units(command.amount)),
            "charges[description][0]": name or command.reference,
            "charges[taxable][0]": "false",
            "invoice[po_number]": command.reference,
            "redirect_url": command.return_url,
            "pass_thru_content": command.reference,
        }
    reply = yield from ask(post(login, path, form, command.key))
    page = _page(reply)
    if not is_good(reply):
        return read_refusal(reply)
    if not identifier(page):
        return unclear(reply)
    yield from keep(HOSTED_PAGE, identifier(page))
    return _session(reply)


def read_session(look: LookSession, login: Login) -> Asked[Session]:
    """Look at a page. What a browser brought back is not even looked at: it proves nothing."""
    reply = yield from ask(get(login, f"/hosted_pages/{in_path(look.provider_session_id)}"))
    if not is_good(reply) or identifier(_page(reply)) != look.provider_session_id:
        return unclear(reply)
    if look.mode is SessionMode.PAY:
        return _session(reply, payment=(yield from _payment_of(reply, login)))
    source = fields(fields(_page(reply).get("content")).get("payment_source"))
    return _session(reply, method=read_method(source))


def find_by_page(page_id: str, login: Login) -> Plan:
    """What was paid on a page. A page without a payment is no absence while it is open."""
    reply = yield from ask(get(login, f"/hosted_pages/{in_path(page_id)}"))
    if not is_good(reply):
        return unclear(reply)
    payment = yield from _payment_of(reply, login)
    if payment is not None:
        return payment
    open_still = _session(reply).state is SessionState.OPEN
    return Outcome(Finding.NEEDS_ACTION if open_still else Finding.CANCELED)


def _payment_of(reply: Reply, login: Login) -> Steps[Outcome | None]:
    """What the invoice of a page was paid with, read anew; None where there is no invoice."""
    invoice_id = identifier(fields(fields(_page(reply).get("content")).get("invoice")))
    if not invoice_id:
        return None
    path = f"/invoices/{in_path(invoice_id)}/payments"
    reply = yield from ask(get(login, path))
    payments = listed(reply, "transaction") if is_good(reply) else None
    if not payments:
        return unclear(reply)
    return strongest(read_transaction(each, invoice_id=invoice_id) for each in payments)


def _page(reply: Reply) -> Mapping[str, Any]:
    return fields(content_of(reply).get("hosted_page"))


def _session(
    reply: Reply, payment: Outcome | None = None, method: StoredMethod | None = None
) -> Session:
    page = _page(reply)
    state = _STATES.get(text(page, "state"), SessionState.OPEN)
    expire_time, present = moment(page, "expires_at"), answer_time(reply)
    if state is SessionState.OPEN and expire_time and present and present >= expire_time:
        state = SessionState.EXPIRED
    return Session(
        provider_session_id=identifier(page),
        state=state,
        url=text(page, "url"),
        expire_time=expire_time,
        payment=payment,
        method=method,
    )
