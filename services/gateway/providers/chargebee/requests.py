"""Chargebee's requests: form bodies, keys and the notes that they leave."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from gateway.domain.currency import to_provider_units
from gateway.providers.commands import Login
from gateway.providers.plan import CALL_SECONDS, Answer, Basic, Call, Reply
from kernel.money import Amount

# Names of notes.
INVOICE, AUTHORIZATION, PAYMENT = "invoice_id", "authorization_id", "transaction_id"
HOSTED_PAGE = "hosted_page_id"

PAGE = 100  # the most that one list answers
ID_CHARACTERS_MAX = 50
DESCRIPTION_CHARACTERS_MAX = 250
KEY_HEADER = "chargebee-idempotency-key"
_ROOT = "/api/v2"


def units(amount: Amount) -> int:
    """The currency's minor units, as ISO 4217 has them."""
    return to_provider_units(amount, amount.asset.scale)


def get(login: Login, path: str, query: dict[str, str] | None = None) -> Call:
    return Call("GET", _path(login, path), query=query or {}, auth=Basic(), safe_to_repeat=True)


def post(
    login: Login,
    path: str,
    form: dict[str, str],
    key: str,
    timeout_seconds: float = CALL_SECONDS,
) -> Call:
    return Call(
        "POST",
        _path(login, path),
        form=form,
        key=key,
        key_header=KEY_HEADER,
        auth=Basic(),
        safe_to_repeat=True,
        timeout_seconds=timeout_seconds,
    )


def in_path(identity: str) -> str:
    """An id of ours, or of another's making, as one part of a path."""
    return quote(identity, safe="")


def invoice_form(amount: Amount, customer: str, description: str, reference: str) -> dict[str, str]:
    """An invoice of one charge that Chargebee neither collects nor duns by itself.

    It is not taxed: the tax is in the amount already.
    """
    return {
        "customer_id": customer,
        "currency_code": amount.asset.code,
        "charges[amount][0]": str(units(amount)),
        "charges[description][0]": description.strip()[:DESCRIPTION_CHARACTERS_MAX] or reference,
        "charges[taxable][0]": "false",
        "po_number": reference,
        "auto_collection": "off",
    }


def is_good(reply: Reply) -> bool:
    return isinstance(reply, Answer) and reply.status == 200


def _path(login: Login, path: str) -> str:
    """Endpoints are written with and without the version of the API."""
    versioned = urlsplit(login.endpoint).path.rstrip("/").endswith(_ROOT)
    return path if versioned else _ROOT + path
