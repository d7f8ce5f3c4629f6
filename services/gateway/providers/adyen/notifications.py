"""Adyen's notifications: every item is signed by itself, over eight of its fields and no others.

What is not signed may decorate what people read; it never decides.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.domain.outcome import DeclineClass, Finding, Outcome
from gateway.providers.adyen.requests import amount_of, customer_of, is_live
from gateway.providers.commands import (
    About,
    Delivery,
    Dispute,
    DisputeStage,
    Item,
    Login,
    Reading,
    StoredMethod,
)
from gateway.providers.parsing import fields, identifier, moment, rows, text
from gateway.providers.plan import Answer

_CANCELED = frozenset({"CANCELLATION", "TECHNICAL_CANCEL", "EXPIRE", "OFFER_CLOSED"})
_STAGES = {
    "NOTIFICATION_OF_CHARGEBACK": DisputeStage.INQUIRY,
    "REQUEST_FOR_INFORMATION": DisputeStage.INQUIRY,
    "CHARGEBACK": DisputeStage.OPENED,
    "CHARGEBACK_REVERSED": DisputeStage.UNDER_REVIEW,
    "SECOND_CHARGEBACK": DisputeStage.LOST,
    "PREARBITRATION_OPEN": DisputeStage.UNDER_REVIEW,
    "PREARBITRATION_DECLINED": DisputeStage.UNDER_REVIEW,
    "PREARBITRATION_ACCEPTED": DisputeStage.ACCEPTED,
    "PREARBITRATION_ISSUER_WITHDRAWN": DisputeStage.WON,
    "PREARBITRATION_WON": DisputeStage.WON,
    "PREARBITRATION_LOST": DisputeStage.LOST,
}
_FUNDS = {
    "CHARGEBACK": "withdrawn",
    "SECOND_CHARGEBACK": "withdrawn",
    "CHARGEBACK_REVERSED": "reinstated",
}
_METHOD_STATES = {
    "recurring.token.created": True,
    "recurring.token.updated": True,
    "recurring.token.alreadyExisting": True,
    "recurring.token.disabled": False,
}


def read_notification(delivery: Delivery, login: Login) -> Reading:
    """Check Basic credentials and the signature of every item, or of the body where it has one.

    Of the secrets, those with a colon are "user:password"; the others are keys in hexadecimal.
    """
    logins = [each for each in delivery.secrets if b":" in each]
    keys = [key for each in delivery.secrets if (key := _key(each)) is not None]
    if not _is_login(delivery.headers.get("authorization", ""), logins):
        return Reading(False, why="the Basic credentials do not fit")
    content = fields(Answer(200, {}, delivery.body).json)
    wrapped = rows(content, "notificationItems")
    if wrapped is None:
        signature = delivery.headers.get("hmacsignature", "")
        if not _fits(delivery.body, signature, keys):
            return Reading(False, why="the signature of the body does not fit")
        environment = "live" if is_live(login) else "test"
        if text(content, "environment") != environment:
            return Reading(False, why="of another environment")
    else:
        if text(content, "live") != ("true" if is_live(login) else "false"):
            return Reading(False, why="of another environment")
        for each in wrapped:
            told = fields(each.get("NotificationRequestItem"))
            signature = text(fields(told.get("additionalData")), "hmacSignature")
            if not _fits(signed_text(told).encode("utf-8", "surrogatepass"), signature, keys):
                return Reading(False, why="the signature of an item does not fit")
            if login.merchant and text(told, "merchantAccountCode") != login.merchant:
                return Reading(False, why="of another merchant account")
    items = read_items(delivery.body)
    return Reading(True, items) if items else Reading(False, why="the body is not a notification")


def signed_text(told: Mapping[str, Any]) -> str:
    """What the signature of an item is over. A field that is not there counts as empty."""
    amount = fields(told.get("amount"))
    parts = (
        told.get("pspReference"),
        told.get("originalReference"),
        told.get("merchantAccountCode"),
        told.get("merchantReference"),
        amount.get("value"),
        amount.get("currency"),
        told.get("eventCode"),
        told.get("success"),
    )
    return ":".join("" if part is None else str(part) for part in parts)


def read_items(body: bytes) -> tuple[Item, ...]:
    """The items of a notification; none where the body is not as documented."""
    content = fields(Answer(200, {}, body).json)
    wrapped = rows(content, "notificationItems")
    if wrapped is None:
        token = _read_token(content)
        return (token,) if token else ()
    items = [_read_item(fields(each.get("NotificationRequestItem"))) for each in wrapped]
    # An item that cannot be read must not hide behind one that can.
    return tuple(item for item in items if item) if all(items) else ()


def _read_item(told: Mapping[str, Any]) -> Item | None:
    psp, kind = identifier(told, "pspReference"), text(told, "eventCode")
    success, time = text(told, "success"), moment(told, "eventDate")
    if not psp or not kind or success not in ("true", "false"):
        return None
    # No time is signed: what is unique is the fact itself.
    item_id, good = f"{psp}:{kind}:{success}", success == "true"
    reference = text(told, "merchantReference")
    original = identifier(told, "originalReference")
    if kind in ("REFUND", "REFUND_FAILED", "REFUNDED_REVERSED", "REFUND_WITH_DATA"):
        return Item(
            item_id,
            kind,
            reference,
            original,
            _told_refund(kind, good, told, psp),
            About.REFUND,
            psp,
            time=time,
        )
    if kind in _STAGES:
        dispute = Dispute(
            psp, _STAGES[kind], amount_of(told), text(told, "reason"), funds=_FUNDS.get(kind, "")
        )
        return Item(
            item_id, kind, reference, original, about=About.DISPUTE, object_id=psp,
            dispute=dispute, time=time,
        )  # fmt: skip
    if kind == "REPORT_AVAILABLE":
        return Item(item_id, kind, about=About.PAYOUT, object_id=psp, time=time)
    if kind in ("AUTHORISATION", "CAPTURE", "CAPTURE_FAILED") or kind in _CANCELED:
        payment = original or psp
        return Item(
            item_id, kind, reference, payment, _told_payment(kind, good, told, payment), time=time
        )
    return Item(item_id, kind, reference, original, about=About.OTHER, time=time)


def _told_payment(kind: str, good: bool, told: Mapping[str, Any], payment: str) -> Outcome | None:
    stated = amount_of(told)
    if kind in _CANCELED:
        return Outcome(Finding.CANCELED, provider_payment_id=payment) if good else None
    if kind == "AUTHORISATION" and good:
        return Outcome(
            Finding.AUTHORIZED, provider_payment_id=payment, stated=stated, takes_itself=True
        )
    if kind == "CAPTURE" and good:
        return Outcome(Finding.SUCCEEDED, provider_payment_id=payment, stated=stated)
    # A capture that failed after all takes a success back.
    return Outcome(
        Finding.DECLINED,
        provider_payment_id=payment,
        decline_code="refused" if kind == "AUTHORISATION" else "capture_failed",
        decline_class=DeclineClass.SOFT,
        undoes_success=kind != "AUTHORISATION",
        detail=text(told, "reason"),
    )


def _told_refund(kind: str, good: bool, told: Mapping[str, Any], psp: str) -> Outcome | None:
    if kind in ("REFUND", "REFUND_WITH_DATA"):
        finding = Finding.SUCCEEDED if good else Finding.DECLINED
    elif not good:
        return None
    else:
        finding = Finding.DECLINED if kind == "REFUND_FAILED" else Finding.REVERSED
    return Outcome(
        finding,
        provider_refund_id=psp,
        stated=amount_of(told) if finding is Finding.SUCCEEDED else None,
        decline_code="refused" if finding is Finding.DECLINED else "",
        undoes_success=finding is Finding.DECLINED,
        detail=text(told, "reason"),
    )


def _read_token(content: Mapping[str, Any]) -> Item | None:
    """A notification whose body is signed as a whole: of tokens, or of what is not kept here."""
    kind, stored = text(content, "type"), fields(content.get("data"))
    psp, created = text(stored, "pspReference"), text(content, "createdAt")
    event_id = text(content, "eventId") or (f"{psp}:{kind}:{created}" if psp and created else "")
    if not kind or not event_id:
        return None
    time = moment(content, "createdAt")
    token, usable = identifier(stored, "storedPaymentMethodId"), _METHOD_STATES.get(kind)
    if usable is None or not token:
        return Item(event_id, kind, about=About.OTHER, time=time)
    method = StoredMethod(
        provider_token=token,
        kind=text(stored, "type"),
        usable=usable,
        customer_id=customer_of(text(stored, "shopperReference")),
    )
    return Item(event_id, kind, about=About.METHOD, object_id=token, method=method, time=time)


def _key(secret: bytes) -> bytes | None:
    try:
        return bytes.fromhex(secret.decode("ascii")) or None
    except (ValueError, UnicodeDecodeError):
        return None


def _fits(message: bytes, signature: str, keys: Sequence[bytes]) -> bool:
    """Whether a signature is there and one of the keys made it. Every key is tried."""
    stated = signature.encode("utf-8", "surrogatepass")
    made = [base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()) for key in keys]
    fits = [hmac.compare_digest(each, stated) for each in made]
    return bool(stated) and any(fits)


def _is_login(header: str, logins: Sequence[bytes]) -> bool:
    stated = header.encode("utf-8", "surrogatepass")
    expected = [b"Basic " + base64.b64encode(each) for each in logins]
    fits = [hmac.compare_digest(each, stated) for each in expected]
    return any(fits)
