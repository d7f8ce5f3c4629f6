"""Adyen's requests: JSON with the merchant account in every body, a key header, its own units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.currency import from_provider_units, to_provider_units
from gateway.providers.commands import Login
from gateway.providers.parsing import fields, text, whole
from gateway.providers.plan import API_SECRET, CALL_SECONDS, Call
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount

VERSION = "/v72"
SHOPPER_REFERENCE_MIN = 3  # characters; a shorter id of ours is sent with a prefix
_SHORT = "customer-"

# Where Adyen's minor unit is not ISO 4217's.
_DIGITS = {"CLP": 2, "CVE": 0, "IDR": 0, "ISK": 2}


def digits_of(code: str) -> int:
    """Decimal places of Adyen's unit of a currency."""
    return _DIGITS.get(code, MINOR_DIGITS.get(code, 0))


def units(amount: Amount) -> int:
    """An amount in Adyen's units; raises AmountNotRepresentable."""
    return to_provider_units(amount, digits_of(amount.asset.code))


def amount_body(amount: Amount) -> dict[str, Any]:
    """An amount as Adyen's bodies have it."""
    return {"value": units(amount), "currency": amount.asset.code}


def amount_of(content: Mapping[str, Any]) -> Amount | None:
    """The amount that a body states; None where it states none."""
    stated = fields(content.get("amount"))
    code = text(stated, "currency")
    return from_provider_units(whole(stated, "value"), code, digits_of(code))


def shopper_reference(customer_id: str) -> str:
    """How Adyen knows a customer: by our own id."""
    return customer_id if len(customer_id) >= SHOPPER_REFERENCE_MIN else _SHORT + customer_id


def customer_of(reference: str) -> str:
    """Our id of a shopper."""
    short = reference.removeprefix(_SHORT)
    return short if len(short) < SHOPPER_REFERENCE_MIN else reference


def is_live(login: Login) -> bool:
    """Whether an account works with money: each merchant has a live host of its own."""
    return "-live." in login.endpoint


def post(
    login: Login,
    path: str,
    body: Mapping[str, Any],
    key: str,
    timeout_seconds: float = CALL_SECONDS,
) -> Call:
    """A request with an effect; its key makes it safe to repeat."""
    return Call(
        "POST",
        VERSION + path,
        json={"merchantAccount": login.merchant, **body},
        secret_headers={"x-api-key": API_SECRET},
        key=key,
        timeout_seconds=timeout_seconds,
        safe_to_repeat=True,
    )


def get(path: str, query: Mapping[str, str], method: str = "GET") -> Call:
    """A request that may be repeated without a key."""
    return Call(
        method,
        VERSION + path,
        query={name: value for name, value in query.items() if value},
        secret_headers={"x-api-key": API_SECRET},
        safe_to_repeat=True,
    )
