"""Stripe's requests: forms with bracketed names, a Bearer key, and amounts in its own units."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.currency import from_provider_units, to_provider_units
from gateway.providers.parsing import text, whole
from gateway.providers.plan import CALL_SECONDS, Bearer, Call
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount

VERSION = "2024-06-20"  # of the API; answers keep their shape until Tollgate moves on
PAGE_SIZE = 100
ATTEMPT = "tollgate_attempt"  # the names of our references in the metadata of its objects
REFUND = "tollgate_refund"
CUSTOMER = "tollgate_customer"

# Where Stripe's minor unit is not ISO 4217's: two digits of which both are 0, or none at all.
_DIGITS = {"ISK": 2, "UGX": 2, "MGA": 0}


def digits_of(code: str) -> int:
    """Decimal places of Stripe's unit of a currency."""
    return _DIGITS.get(code, MINOR_DIGITS.get(code, 0))


def units(amount: Amount) -> int:
    """An amount in Stripe's units; raises AmountNotRepresentable.

    Amounts of three decimals end in 0: the last place is there and may not be used.
    """
    digits = digits_of(amount.asset.code)
    if digits == 3:
        return to_provider_units(amount, 2) * 10
    return to_provider_units(amount, digits)


def amount_of(content: Mapping[str, object], name: str = "amount") -> Amount | None:
    """An amount as Stripe states it, in the currency beside it."""
    code = text(content, "currency").upper()
    return from_provider_units(whole(content, name), code, digits_of(code))


def signed_amount(content: Mapping[str, object], name: str) -> Amount | None:
    """The same where money that leaves is negative."""
    code, stated = text(content, "currency").upper(), whole(content, name)
    size = None if stated is None else from_provider_units(abs(stated), code, digits_of(code))
    return -size if size is not None and stated is not None and stated < 0 else size


def post(
    path: str, form: Mapping[str, str], key: str, timeout_seconds: float = CALL_SECONDS
) -> Call:
    """A request with an effect; its key makes it safe to repeat."""
    return Call(
        "POST",
        path,
        form={name: value for name, value in form.items() if value},
        headers={"stripe-version": VERSION},
        auth=Bearer(),
        key=key,
        timeout_seconds=timeout_seconds,
        safe_to_repeat=True,
    )


def get(path: str, query: Mapping[str, str] | None = None) -> Call:
    """A request without effect."""
    return Call(
        "GET",
        path,
        query={name: value for name, value in (query or {}).items() if value},
        headers={"stripe-version": VERSION},
        auth=Bearer(),
        safe_to_repeat=True,
    )
