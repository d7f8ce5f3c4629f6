"""GoCardless's requests: bodies wrapped in the name of what they make, a pinned version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.currency import from_provider_units, to_provider_units
from gateway.providers.parsing import content_of, fields, identifier, rows, text, whole
from gateway.providers.plan import CALL_SECONDS, Answer, Bearer, Call, Reply, Steps, ask
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount

HEADERS = {"gocardless-version": "2015-07-06"}
PAGE_SIZE = 500
ATTEMPT = "tollgate_attempt"  # the names of our references in the metadata of its objects
REFUND = "tollgate_refund"


def units(amount: Amount) -> int:
    """An amount in GoCardless's units, which are ISO 4217's."""
    return to_provider_units(amount, amount.asset.scale)


def amount_of(content: Mapping[str, Any]) -> Amount | None:
    """An amount as GoCardless states it."""
    code = text(content, "currency")
    return from_provider_units(whole(content, "amount"), code, MINOR_DIGITS.get(code, 0))


def get(path: str, query: Mapping[str, str] | None = None) -> Call:
    """A request without effect."""
    kept = {name: value for name, value in (query or {}).items() if value}
    return Call("GET", path, query=kept, headers=HEADERS, auth=Bearer(), safe_to_repeat=True)


def act(path: str) -> Call:
    """An action on an object. It takes no key: the object's state makes a repeat harmless."""
    return Call(
        "POST",
        path,
        json={},
        headers=HEADERS,
        auth=Bearer(),
        safe_to_repeat=True,
        busy_statuses=frozenset(),
    )


def create(
    resource: str, body: Mapping[str, Any], key: str, seconds: float = CALL_SECONDS
) -> Steps[Reply]:
    """Make an object. A key that was used answers 409 with the object's id: that is then read."""
    reply = yield from ask(
        Call(
            "POST",
            f"/{resource}",
            json={resource: body},
            headers=HEADERS,
            auth=Bearer(),
            key=key,
            timeout_seconds=seconds,
            safe_to_repeat=True,
            busy_statuses=frozenset(),
        )
    )
    existing = _existing(reply)
    if existing:
        reply = yield from ask(get(f"/{resource}/{existing}"))
    return reply


def _existing(reply: Reply) -> str:
    if not isinstance(reply, Answer) or reply.status != 409:
        return ""
    for error in rows(fields(content_of(reply).get("error")), "errors") or []:
        if text(error, "reason") == "idempotent_creation_conflict":
            return identifier(fields(error.get("links")), "conflicting_resource_id")
    return ""
