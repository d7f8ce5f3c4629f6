"""Paddle's requests: calls, inline prices and the names under which our references travel."""

from __future__ import annotations

from typing import Any

from gateway.domain.currency import to_provider_units
from gateway.providers.plan import CALL_SECONDS, Answer, Bearer, Call, Reply
from kernel.money import Amount

ATTEMPT_FIELD = "tollgate_attempt"  # in `custom_data`
SENT, TRANSACTION = "sent", "transaction_id"  # names of notes
PAGE = 30  # the most that one list of transactions answers
NAME_CHARACTERS_MAX = 50
_VERSION = {"paddle-version": "1"}


def units(amount: Amount) -> int:
    """The currency's minor units, as ISO 4217 has them."""
    return to_provider_units(amount, amount.asset.scale)


def price_item(amount: Amount, description: str, reference: str) -> dict[str, Any]:
    """One thing sold, at a price made for this attempt.

    The price holds the tax: what the customer pays is what the invoice says, and Paddle takes the
    tax out of it.
    """
    name = description.strip() or reference
    return {
        "quantity": 1,
        "price": {
            "description": name[:500],
            "name": name[:NAME_CHARACTERS_MAX],
            "tax_mode": "internal",
            "unit_price": {"amount": str(units(amount)), "currency_code": amount.asset.code},
            "quantity": {"minimum": 1, "maximum": 1},
            "custom_data": {ATTEMPT_FIELD: reference},
            "product": {"name": name[:200], "tax_category": "standard"},
        },
    }


def get(path: str, query: dict[str, str] | None = None) -> Call:
    return Call(
        "GET", path, query=query or {}, headers=_VERSION, auth=Bearer(), safe_to_repeat=True
    )


def send(
    method: str, path: str, body: dict[str, Any] | None, timeout_seconds: float = CALL_SECONDS
) -> Call:
    """A request with an effect. Paddle keeps no keys, so it is never repeated by the driver."""
    return Call(
        method,
        path,
        json=body,
        headers=_VERSION,
        auth=Bearer(),
        timeout_seconds=timeout_seconds,
    )


def is_good(reply: Reply) -> bool:
    return isinstance(reply, Answer) and reply.status in (200, 201)
