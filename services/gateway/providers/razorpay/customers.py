"""Razorpay's customers and their tokens."""

from __future__ import annotations

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import (
    CustomerLink,
    CustomerMethods,
    Detach,
    Login,
    NewCustomer,
    StoredMethod,
)
from gateway.providers.parsing import (
    content_of,
    identifier,
    rows,
)
from gateway.providers.plan import (
    Answer,
    Asked,
    Basic,
    Call,
    Plan,
    ask,
    read_failure,
)
from gateway.providers.razorpay.answers import (
    read_method,
    read_refusal,
)
from gateway.providers.razorpay.requests import (
    contact_fields,
    get,
    is_good,
    post,
)


def create_customer(command: NewCustomer, login: Login) -> Asked[CustomerLink]:
    """Make a customer; one with the same e-mail and phone is given back."""
    body = {
        **contact_fields(command.contact),
        "fail_existing": "0",
        "notes": {"tollgate_customer": command.customer_id},
    }
    reply = yield from ask(post("/customers", body))
    customer_id = identifier(content_of(reply)) if is_good(reply) else ""
    return CustomerLink(customer_id) if customer_id else read_refusal(reply)


def list_methods(command: CustomerMethods, login: Login) -> Asked[tuple[StoredMethod, ...]]:
    """A customer's tokens."""
    reply = yield from ask(get(f"/customers/{command.provider_customer_id}/tokens"))
    tokens = rows(content_of(reply), "items") if is_good(reply) else None
    if tokens is None:
        return read_failure(reply)
    methods = [read_method(each, command.provider_customer_id) for each in tokens]
    return tuple(each for each in methods if each is not None)


def detach_method(command: Detach, login: Login) -> Plan:
    """Forget a token."""
    path = f"/customers/{command.provider_customer_id}/tokens/{command.provider_token}"
    reply = yield from ask(Call("DELETE", path, auth=Basic(), safe_to_repeat=True))
    gone = is_good(reply) and content_of(reply).get("deleted") is True
    if gone or (isinstance(reply, Answer) and reply.status == 404):
        return Outcome(Finding.CANCELED)
    return read_refusal(reply)
