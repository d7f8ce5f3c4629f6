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

from gateway.domain.currency import to_provider_units
from gateway.domain.outcome import Finding, Outcome
from gateway.domain.provider_account import Capabilities, Idempotency, Lookup, NotificationAuth
from gateway.providers.commands import About
from gateway.providers.plan import (
    CHARGE_SECONDS,
    NOTIFICATION_SECRET,
    Answer,
    Call,
    Cancel,
    Capture,
    Charge,
    Delivery,
    Item,
    Login,
    Look,
    LookRefund,
    Plan,
    Provider,
    Reading,
    Refund,
    Reply,
    ask,
    read_failure,
)
from gateway.providers.sandbox_answers import (
    DECLINES,
    read_payment,
    read_refund_object,
    read_refusal,
    switches,
)
from gateway.providers.sandbox_pages import (
    create_session,
    detach_method,
    list_methods,
    read_session,
)

NAME = "sandbox"
SIGNATURE_HEADER = "sandbox-signature"
SIGNATURE_WINDOW = timedelta(seconds=300)
KEY_WINDOW = timedelta(hours=24)


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
                **({"capture": False} if command.capture_later else {}),
            },
            query=switches(login),
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
            query=switches(login),
            safe_to_repeat=True,
        )
    )
    if not isinstance(reply, Answer) or reply.status != 200:
        return read_failure(reply)
    content = reply.json if isinstance(reply.json, dict) else {}
    return read_payment(content.get("payment"), look.reference)


def find(look: Look, login: Login) -> Plan:
    """Look for a payment by our reference."""
    reply = yield from ask(
        Call(
            "GET",
            "/v1/payments",
            query={"reference": look.reference, **switches(login)},
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
    outcomes = [read_payment(payment, look.reference) for payment in found]
    taken = [outcome for outcome in outcomes if outcome.finding is Finding.SUCCEEDED]
    return (taken or outcomes)[0]


def capture(command: Capture, login: Login) -> Plan:
    """Take what was reserved, or a part of it; the rest is released."""
    units = to_provider_units(command.amount, command.amount.asset.scale)
    reply = yield from ask(
        _change(login, command.key, f"{_path(command)}/capture", {"amount": units})
    )
    return _read_charge(reply, command.reference)


def cancel(command: Cancel, login: Login) -> Plan:
    """Call a payment off before its money is taken."""
    reply = yield from ask(_change(login, command.key, f"{_path(command)}/cancel", {}))
    return _read_charge(reply, command.reference)


def refund(command: Refund, login: Login) -> Plan:
    """Send money back."""
    content = {
        "payment": command.provider_payment_id,
        "reference": command.reference,
        "amount": to_provider_units(command.amount, command.amount.asset.scale),
        "reason": command.reason,
    }
    reply = yield from ask(_change(login, command.key, "/v1/refunds", content))
    if isinstance(reply, Answer) and reply.status in (200, 201):
        content = reply.json if isinstance(reply.json, dict) else {}
        return read_refund_object(content.get("refund"), command.reference)
    return read_refusal(reply)


def read_refund(look: LookRefund, login: Login) -> Plan:
    """Look at a refund by its id."""
    path = f"/v1/refunds/{look.provider_refund_id}"
    reply = yield from ask(Call("GET", path, query=switches(login), safe_to_repeat=True))
    if not isinstance(reply, Answer) or reply.status != 200:
        return read_failure(reply)
    content = reply.json if isinstance(reply.json, dict) else {}
    return read_refund_object(content.get("refund"), look.reference)


def find_refund(look: LookRefund, login: Login) -> Plan:
    """Look for a refund by our reference."""
    query = {"reference": look.reference, **switches(login)}
    reply = yield from ask(Call("GET", "/v1/refunds", query=query, safe_to_repeat=True))
    if not isinstance(reply, Answer) or reply.status != 200:
        return read_failure(reply)
    found = reply.json.get("refunds") if isinstance(reply.json, dict) else None
    if not isinstance(found, list):
        return Outcome(Finding.SILENCE, detail="not a list of refunds")
    return read_refund_object(found[0], look.reference) if found else Outcome(Finding.ABSENT)


def _path(command: Capture | Cancel) -> str:
    return f"/v1/payments/{command.provider_payment_id}"


def _change(login: Login, key: str, path: str, content: Mapping[str, Any]) -> Call:
    return Call(
        "POST",
        path,
        json=content,
        query=switches(login),
        key=key,
        timeout_seconds=CHARGE_SECONDS,
        safe_to_repeat=True,
    )


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
    refund_told = content.get("refund")
    if isinstance(refund_told, dict):
        reference = str(refund_told.get("reference", ""))
        return (
            Item(
                identifier,
                kind,
                reference=reference,
                provider_payment_id=str(refund_told.get("payment", "")),
                outcome=read_refund_object(refund_told, reference),
                about=About.REFUND,
                object_id=str(refund_told.get("id", "")),
            ),
        )
    session = content.get("session")
    if isinstance(session, dict):
        reference, session_id = str(session.get("reference", "")), str(session.get("id", ""))
        return (Item(identifier, kind, reference, about=About.SESSION, object_id=session_id),)
    if not isinstance(payment, dict):
        return (Item(identifier, kind, about=About.OTHER),)
    reference = str(payment.get("reference", ""))
    return (
        Item(
            identifier,
            kind,
            reference=reference,
            provider_payment_id=str(payment.get("id", "")),
            outcome=read_payment(payment, reference),
        ),
    )


def sign(body: bytes, secret: bytes, now: datetime) -> str:
    """The signature header's value, as the sandbox sends it."""
    stamp = str(int(now.timestamp()))
    digest = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def capabilities(login: Login) -> Capabilities:
    """What the sandbox offers, less what the endpoint's query switches off."""
    off = set(switches(login).get("without", "").split(","))
    idempotency = Idempotency.NONE if "idempotency" in off else Idempotency.KEY
    lookup = Lookup.NONE if "lookup" in off else Lookup.CONSISTENT
    return Capabilities(
        off_session=True,
        hosted_setup="pages" not in off,
        hosted_pay="pages" not in off,
        manual_capture=True,
        partial_capture=True,
        cancel=True,
        refund="refund" not in off,
        partial_refund="partial_refund" not in off,
        async_settlement=True,
        read_by_id="read" not in off,
        idempotency=idempotency,
        key_window=KEY_WINDOW,
        lookup=lookup,
        refund_idempotency=idempotency,
        refund_read_by_id="read" not in off,
        refund_lookup=lookup,
        notification_auth=NotificationAuth.SIGNED_WITH_TIME,
    )


def _read_charge(reply: Reply, reference: str) -> Outcome:
    if not isinstance(reply, Answer):
        return read_failure(reply)
    content = reply.json if isinstance(reply.json, dict) else {}
    if reply.status in (200, 201, 402):
        return read_payment(content.get("payment"), reference)
    return read_refusal(reply)


def notification_body(
    identifier: str, kind: str, told: Mapping[str, Any], about: str = "payment"
) -> bytes:
    """A notification's body, as the sandbox sends it."""
    content = {"id": identifier, "kind": kind, about: told}
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()


PROVIDER = Provider(
    name=NAME,
    origins=frozenset(),
    capabilities=capabilities,
    units=lambda amount: to_provider_units(amount, amount.asset.scale),
    charge=charge,
    read=read,
    find=find,
    capture=capture,
    cancel=cancel,
    refund=refund,
    read_refund=read_refund,
    find_refund=find_refund,
    create_session=create_session,
    read_session=read_session,
    list_methods=list_methods,
    detach_method=detach_method,
    read_notification=read_notification,
    read_items=read_items,
    declines=DECLINES,
)
