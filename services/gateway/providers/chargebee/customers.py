"""Chargebee's customers, whose ids are ours, and their payment sources."""

from __future__ import annotations

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.chargebee.answers import listed, read_method, read_refusal
from gateway.providers.chargebee.requests import (
    ID_CHARACTERS_MAX,
    PAGE,
    get,
    in_path,
    is_good,
    post,
)
from gateway.providers.commands import (
    CustomerLink,
    CustomerMethods,
    Detach,
    Login,
    NewCustomer,
    StoredMethod,
)
from gateway.providers.parsing import content_of, fields, text, unclear
from gateway.providers.plan import Answer, Asked, Plan, ask, rejected

PAGES_MAX = 5


def create_customer(command: NewCustomer, login: Login) -> Asked[CustomerLink]:
    """Make a customer under our own id; one that is there already is the same."""
    if len(command.customer_id) > ID_CHARACTERS_MAX:
        return rejected("customer_id_too_long")
    contact = command.contact
    form = {"id": command.customer_id, "auto_collection": "off"}
    optional = {"first_name": contact.name, "email": contact.email, "phone": contact.phone}
    form |= {name: value for name, value in optional.items() if value}
    reply = yield from ask(post(login, "/customers", form, command.key))
    content = content_of(reply)
    made = text(fields(content.get("customer")), "id")
    if is_good(reply):
        return CustomerLink(made) if made == command.customer_id else unclear(reply)
    if text(content, "api_error_code") == "duplicate_entry" and content.get("param") == "id":
        return CustomerLink(command.customer_id)
    return read_refusal(reply)


def list_methods(command: CustomerMethods, login: Login) -> Asked[tuple[StoredMethod, ...]]:
    """A customer's payment sources."""
    methods: list[StoredMethod] = []
    offset = ""
    for _ in range(PAGES_MAX):
        query = {
            "customer_id[is]": command.provider_customer_id or command.customer_id,
            "limit": str(PAGE),
        }
        if offset:
            query["offset"] = offset
        reply = yield from ask(get(login, "/payment_sources", query))
        sources = listed(reply, "payment_source") if is_good(reply) else None
        if sources is None:
            return read_refusal(reply) if not is_good(reply) else unclear(reply)
        methods += [each for each in map(read_method, sources) if each is not None]
        offset = text(content_of(reply), "next_offset")
        if not offset:
            break
    return tuple(methods)


def detach_method(command: Detach, login: Login) -> Plan:
    """Forget a payment source."""
    path = f"/payment_sources/{in_path(command.provider_token)}/delete"
    reply = yield from ask(post(login, path, {}, command.key))
    if is_good(reply) or (isinstance(reply, Answer) and reply.status == 404):
        return Outcome(Finding.CANCELED)
    return read_refusal(reply)
