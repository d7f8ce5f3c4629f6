"""The sandbox's dialect: one request a charge, keys kept, found by reference, notifications signed.

Parts of it can be switched off by the endpoint's query (`?without=idempotency,lookup,read`), so
that every way of resolving an unclear outcome can be walked.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gateway.domain.currency import to_provider_units
from gateway.domain.outcome import DeclineClass, Finding, NextAction, Outcome, classify
from gateway.domain.provider_account import Capabilities, Idempotency, Lookup, NotificationAuth
from gateway.providers.plan import (
    CHARGE_SECONDS,
    NOTIFICATION_SECRET,
    Answer,
    Call,
    Charge,
    Delivery,
    Item,
    Login,
    Look,
    Plan,
    Provider,
    Reading,
    Reply,
    ask,
    read_failure,
)
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount, Asset

NAME = "sandbox"
SIGNATURE_HEADER = "sandbox-signature"
SIGNATURE_WINDOW = timedelta(seconds=300)
KEY_WINDOW = timedelta(hours=24)

_FINDINGS = {
    "succeeded": Finding.SUCCEEDED,
    "processing": Finding.PENDING,
    "requires_action": Finding.NEEDS_ACTION,
    "declined": Finding.DECLINED,
    "canceled": Finding.CANCELED,
    "reversed": Finding.REVERSED,
}

DECLINES: dict[str, DeclineClass] = {
    "insufficient_funds": DeclineClass.SOFT,
    "do_not_honor": DeclineClass.SOFT,
    "processing_error": DeclineClass.TECHNICAL,
    "expired_card": DeclineClass.ACTION_REQUIRED,
    "authentication_failed": DeclineClass.ACTION_REQUIRED,
    "card_not_supported": DeclineClass.HARD,
    "stolen_card": DeclineClass.FRAUD,
}

# Something exists under this key or reference: it is looked at, not given up.
_SOMETHING_EXISTS = frozenset({"key_used_with_other_parameters", "reference_used"})

# Refusals that say why: the request never took effect, and would not under this key later.
_REJECTIONS = frozenset(
    {
        "amount_invalid",
        "currency_invalid",
        "field_invalid",
        "key_missing",
        "malformed",
        "no_such_method",
        "reference_invalid",
    }
)


def charge(command: Charge, login: Login) -> Plan:
    """Charge a stored method while the customer is away."""
    headers, secrets = {}, {}
    if login.notification_url:
        # Headers rather than body: where notifications go is no part of what the key stands for.
        headers["sandbox-notify-url"] = login.notification_url
        secrets["sandbox-notify-secret"] = NOTIFICATION_SECRET
    reply = yield from ask(
        Call(
            "POST",
            "/v1/payments",
            json={
                "reference": command.reference,
                "amount": to_provider_units(command.amount, command.amount.asset.scale),
                "currency": command.amount.asset.code,
                "method": command.provider_token,
                "customer": command.customer_id,
                "description": command.description,
                "time": command.time.isoformat(),
            },
            query=_switches(login),
            headers=headers,
            secret_headers=secrets,
            key=command.key,
            timeout_seconds=CHARGE_SECONDS,
            safe_to_repeat=True,
        )
    )
    return _read_charge(reply, command.reference)


def read(look: Look, login: Login) -> Plan:
    """Look at a payment by its id."""
    reply = yield from ask(
        Call(
            "GET",
            f"/v1/payments/{look.provider_payment_id}",
            query=_switches(login),
            safe_to_repeat=True,
        )
    )
    if not isinstance(reply, Answer) or reply.status != 200:
        return read_failure(reply)
    content = reply.json if isinstance(reply.json, dict) else {}
    return _read_payment(content.get("payment"), look.reference)


def find(look: Look, login: Login) -> Plan:
    """Look for a payment by our reference."""
    reply = yield from ask(
        Call(
            "GET",
            "/v1/payments",
            query={"reference": look.reference, **_switches(login)},
            safe_to_repeat=True,
        )
    )
    if not isinstance(reply, Answer) or reply.status != 200:
        return read_failure(reply)
    found = reply.json.get("payments") if isinstance(reply.json, dict) else None
    if not isinstance(found, list):
        return Outcome(Finding.SILENCE, detail="not a list of payments")
    if not found:
        return Outcome(Finding.ABSENT)
    outcomes = [_read_payment(payment, look.reference) for payment in found]
    taken = [outcome for outcome in outcomes if outcome.finding is Finding.SUCCEEDED]
    return (taken or outcomes)[0]


def read_notification(delivery: Delivery, login: Login) -> Reading:
    """Check `Sandbox-Signature: t=<unix>,v1=<hex HMAC-SHA-256 over "t.body">` and read the body."""
    header, body = delivery.headers.get(SIGNATURE_HEADER, ""), delivery.body
    if not header:
        return Reading(False, why="no signature")
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    stamp, signature = parts.get("t", ""), parts.get("v1", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 10):
        return Reading(False, why="no time in the signature")
    if abs(delivery.now - datetime.fromtimestamp(int(stamp), UTC)) > SIGNATURE_WINDOW:
        return Reading(False, why="the signature's time is too far from now")
    signed = stamp.encode() + b"." + body
    expected = [hmac.new(secret, signed, hashlib.sha256).hexdigest() for secret in delivery.secrets]
    # Every secret is tried, so that the time taken does not tell which one fits.
    matches = [hmac.compare_digest(each.encode(), signature.encode()) for each in expected]
    if not any(matches):
        return Reading(False, why="the signature does not fit")
    items = read_items(body)
    return Reading(True, items) if items else Reading(False, why="the body is not a notification")


def read_items(body: bytes) -> tuple[Item, ...]:
    """The one item of a notification; none where the body is not as documented."""
    content = Answer(200, {}, body).json
    if not isinstance(content, dict):
        return ()
    identifier, kind, payment = content.get("id"), content.get("kind"), content.get("payment")
    if not (isinstance(identifier, str) and identifier and isinstance(kind, str)):
        return ()
    if not isinstance(payment, dict):
        return (Item(identifier, kind),)
    reference = str(payment.get("reference", ""))
    return (
        Item(
            identifier,
            kind,
            reference=reference,
            provider_payment_id=str(payment.get("id", "")),
            outcome=_read_payment(payment, reference),
        ),
    )


def sign(body: bytes, secret: bytes, now: datetime) -> str:
    """The signature header's value, as the sandbox sends it."""
    stamp = str(int(now.timestamp()))
    digest = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def capabilities(login: Login) -> Capabilities:
    """What the sandbox offers, less what the endpoint's query switches off."""
    off = set(_switches(login).get("without", "").split(","))
    return Capabilities(
        off_session=True,
        async_settlement=True,
        read_by_id="read" not in off,
        idempotency=Idempotency.NONE if "idempotency" in off else Idempotency.KEY,
        key_window=KEY_WINDOW,
        lookup=Lookup.NONE if "lookup" in off else Lookup.CONSISTENT,
        notification_auth=NotificationAuth.SIGNED_WITH_TIME,
    )


def _read_charge(reply: Reply, reference: str) -> Outcome:
    if not isinstance(reply, Answer):
        return read_failure(reply)
    content = reply.json if isinstance(reply.json, dict) else {}
    if reply.status in (200, 201, 402):
        return _read_payment(content.get("payment"), reference)
    fault = content.get("error")
    code = str(fault.get("code", "")) if isinstance(fault, dict) else ""
    if code in _SOMETHING_EXISTS:
        return Outcome(Finding.SILENCE, detail=code)
    if code in _REJECTIONS:
        meaning = DeclineClass.HARD if code == "no_such_method" else None
        return Outcome(
            Finding.REJECTED,
            decline_code=code,
            decline_class=meaning,
            detail=f"HTTP {reply.status}",
        )
    return read_failure(reply)


def _read_payment(payment: Any, reference: str) -> Outcome:
    """A payment object; one that lacks a field, or belongs to another reference, says nothing."""
    if not isinstance(payment, dict) or payment.get("reference") != reference:
        return Outcome(Finding.SILENCE, detail="no payment of this reference in the answer")
    identifier, stated = payment.get("id"), _read_amount(payment)
    finding = _FINDINGS.get(str(payment.get("state")))
    if not isinstance(identifier, str) or not identifier or stated is None or finding is None:
        return Outcome(Finding.SILENCE, detail="a payment that is not as documented")
    code = str(payment.get("decline_code") or "") if finding is Finding.DECLINED else ""
    url = payment.get("action_url")
    return Outcome(
        finding,
        provider_payment_id=identifier,
        stated=stated,
        decline_code=code,
        decline_class=classify(code, DECLINES) if finding is Finding.DECLINED else None,
        action=NextAction(str(url)) if url and finding is Finding.NEEDS_ACTION else None,
    )


def _read_amount(payment: Mapping[str, Any]) -> Amount | None:
    units, code = payment.get("amount"), payment.get("currency")
    if not isinstance(units, int) or isinstance(units, bool) or not isinstance(code, str):
        return None
    digits = MINOR_DIGITS.get(code)
    return Amount(Asset(code, digits), units) if digits is not None and units > 0 else None


def _switches(login: Login) -> dict[str, str]:
    off = parse_qs(urlsplit(login.endpoint).query).get("without", [])
    return {"without": ",".join(off)} if off else {}


def notification_body(identifier: str, kind: str, payment: Mapping[str, Any]) -> bytes:
    """A notification's body, as the sandbox sends it."""
    content = {"id": identifier, "kind": kind, "payment": payment}
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()


PROVIDER = Provider(
    name=NAME,
    origins=frozenset(),
    capabilities=capabilities,
    units=lambda amount: to_provider_units(amount, amount.asset.scale),
    charge=charge,
    read=read,
    find=find,
    read_notification=read_notification,
    read_items=read_items,
    declines=DECLINES,
)
