"""What Chargebee's objects, refusals and notifications mean."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any

from gateway.domain.currency import from_provider_units
from gateway.domain.outcome import DeclineClass, Finding, Outcome, classify
from gateway.providers.adyen.answers import DECLINES as ADYEN_DECLINES
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
from gateway.providers.gocardless.answers import DECLINES as GOCARDLESS_DECLINES
from gateway.providers.parsing import (
    content_of,
    fields,
    identifier,
    moment,
    rows,
    text,
    unclear,
    whole,
)
from gateway.providers.plan import Answer, Reply, read_failure, rejected
from gateway.providers.razorpay.answers import DECLINES as RAZORPAY_DECLINES
from gateway.providers.stripe.answers import DECLINES as STRIPE_DECLINES
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount

FINDINGS = {
    "success": Finding.SUCCEEDED,
    "in_progress": Finding.PENDING,
    "failure": Finding.DECLINED,
    "voided": Finding.CANCELED,
    "late_failure": Finding.REVERSED,
    "timeout": Finding.SILENCE,
    "needs_attention": Finding.SILENCE,
}

# Codes are those of the gateway behind Chargebee; gateways that are not here have no table.
GATEWAY_DECLINES: dict[str, Mapping[str, DeclineClass]] = {
    "adyen": ADYEN_DECLINES,
    "gocardless": GOCARDLESS_DECLINES,
    "razorpay": RAZORPAY_DECLINES,
    "stripe": STRIPE_DECLINES,
}

_PAYMENT_KINDS = frozenset(
    {"payment_initiated", "payment_succeeded", "payment_failed", "authorization_succeeded"}
)
_PAYMENT_KINDS |= {"authorization_voided"}
_REFUND_KINDS = frozenset({"payment_refunded", "refund_initiated"})
_METHOD_KINDS = frozenset(
    f"payment_source_{each}"
    for each in ("added", "updated", "deleted", "expiring", "expired", "locally_deleted")
)
_USABLE = frozenset({"valid", "expiring"})


def transaction_of(reply: Reply) -> Mapping[str, Any]:
    return fields(content_of(reply).get("transaction"))


def invoice_of(reply: Reply) -> Mapping[str, Any]:
    return fields(content_of(reply).get("invoice"))


def listed(reply: Reply, name: str) -> list[Mapping[str, Any]] | None:
    """The objects of a list, each of which is wrapped in its name; None where it is no list."""
    entries = rows(content_of(reply), "list")
    if entries is None or not all(isinstance(each.get(name), dict) for each in entries):
        return None
    return [each[name] for each in entries]


def stated(content: Mapping[str, Any], name: str = "amount") -> Amount | None:
    code = content.get("currency_code")
    digits = MINOR_DIGITS.get(code, 0) if isinstance(code, str) else 0
    return from_provider_units(content.get(name), code, digits)


def read_transaction(
    transaction: Mapping[str, Any], *, invoice_id: str = "", known_id: str = ""
) -> Outcome:
    """A payment or an authorization, ours by its invoice or the id it was asked for by."""
    transaction_id, kind = identifier(transaction), transaction.get("type")
    linked = rows(transaction, "linked_invoices") or []
    ours = bool(known_id and transaction_id == known_id)
    ours = ours or bool(invoice_id and any(each.get("invoice_id") == invoice_id for each in linked))
    if not transaction_id or not ours or kind not in ("payment", "authorization"):
        return Outcome(Finding.SILENCE, detail="no payment of ours in the answer")
    finding, amount = FINDINGS.get(text(transaction, "status")), stated(transaction)
    if finding is None or amount is None or finding is Finding.SILENCE:
        return Outcome(
            Finding.SILENCE,
            provider_payment_id=transaction_id,
            detail=f"a transaction whose state says nothing: {transaction.get('status')!r}",
        )
    if kind == "authorization" and finding is Finding.SUCCEEDED:
        taken = _taken(transaction)
        finding = Finding.SUCCEEDED if taken else Finding.AUTHORIZED
        amount = Amount(amount.asset, taken) if taken else amount
    declined = finding in (Finding.DECLINED, Finding.REVERSED)
    code = decline_code(transaction) if declined else ""
    return Outcome(
        finding,
        provider_payment_id=transaction_id,
        stated=amount,
        decline_code=code,
        decline_class=decline_class(transaction) if finding is Finding.DECLINED else None,
    )


def _taken(authorization: Mapping[str, Any]) -> int:
    """What was taken of an authorization, which itself stays as it was: its payments tell."""
    payments = rows(authorization, "linked_payments") or []
    return sum(whole(each, "amount") or 0 for each in payments if each.get("status") == "success")


def decline_code(transaction: Mapping[str, Any]) -> str:
    """The code of the gateway behind Chargebee."""
    detail = fields(transaction.get("error_detail"))
    return text(transaction, "error_code") or text(detail, "decline_code")


def decline_class(transaction: Mapping[str, Any]) -> DeclineClass:
    """Read with the table of the gateway that is named in the payment, else SOFT."""
    table = GATEWAY_DECLINES.get(text(transaction, "gateway"), {})
    return classify(decline_code(transaction), table)


def read_refusal(reply: Reply) -> Outcome:
    """What a request was answered instead of what it asked for."""
    content = content_of(reply)
    code = text(content, "api_error_code")
    if not isinstance(reply, Answer) or reply.status not in (400, 404, 409, 422) or not code:
        return read_failure(reply)
    if "idempotency" in code or reply.status == 409:
        return unclear(reply)  # the key is in use, or stands for something else that exists
    if text(content, "type") == "payment":
        return unclear(reply)  # the gateway said no, or nothing: the transactions tell which
    return rejected(code)


def read_refund_transaction(
    transaction: Mapping[str, Any], payment_id: str, refund_id: str = ""
) -> Outcome:
    """A refund, as a transaction of its own."""
    transaction_id, amount = identifier(transaction), stated(transaction)
    finding = FINDINGS.get(text(transaction, "status"))
    expected = not refund_id or transaction_id == refund_id
    is_refund = transaction.get("type") == "refund"
    if not transaction_id or amount is None or finding is None or not expected or not is_refund:
        return Outcome(Finding.SILENCE, detail="no refund of ours in the answer")
    return Outcome(
        finding,
        provider_payment_id=payment_id,
        provider_refund_id=transaction_id,
        stated=amount,
        decline_code=decline_code(transaction) if finding is Finding.DECLINED else "",
    )


def read_method(source: Mapping[str, Any]) -> StoredMethod | None:
    """A payment source."""
    source_id, card = identifier(source), fields(source.get("card"))
    if not source_id:
        return None
    last_four = text(card, "last4") or text(fields(source.get("bank_account")), "last4")
    status = text(source, "status")
    return StoredMethod(
        provider_token=source_id,
        kind=text(source, "type"),
        usable=status in _USABLE and source.get("deleted") is not True,
        provider_customer_id=text(source, "customer_id"),
        customer_id=text(source, "customer_id"),
        brand=text(card, "brand"),
        last_four=last_four if len(last_four) == 4 and last_four.isdigit() else "",
        expire_year=whole(card, "expiry_year") or 0,
        expire_month=whole(card, "expiry_month") or 0,
        state=status,
    )


def read_notification(delivery: Delivery, login: Login) -> Reading:
    """Check the Basic credentials, "user:password" each. Nothing that is sent is signed.

    So whoever knows the credentials may write what they like: the object is read before any money
    is believed to have moved, which NotificationAuth.BASIC says to whoever applies this.
    """
    scheme, _, encoded = delivery.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return Reading(False, why="no Basic credentials")
    try:
        stated_login = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return Reading(False, why="the credentials are not in Base64")
    # A secret without a colon would be a user with no password: anyone may guess that.
    secrets = [each for each in delivery.secrets if b":" in each.strip(b":")]
    fits = [hmac.compare_digest(each, stated_login) for each in secrets]
    if not any(fits):
        return Reading(False, why="the credentials do not fit")
    items = read_items(delivery.body)
    return Reading(True, items) if items else Reading(False, why="the body is not a notification")


def read_items(body: bytes) -> tuple[Item, ...]:
    """The one item of a notification; none where the body is not as documented."""
    item = read_event(fields(Answer(200, {}, body).json))
    return (item,) if item is not None else ()


def read_event(event: Mapping[str, Any]) -> Item | None:
    """An event, as a notification or a list tells it; its id is the same in both."""
    event_id, kind = identifier(event), text(event, "event_type")
    if not event_id or not kind:
        return None
    content, time = fields(event.get("content")), moment(event, "occurred_at")
    transaction = fields(content.get("transaction"))
    transaction_id = identifier(transaction)
    if kind in _PAYMENT_KINDS:
        invoice = fields(content.get("invoice"))
        return Item(
            event_id,
            kind,
            reference=text(invoice, "po_number"),
            provider_payment_id=transaction_id,
            outcome=read_transaction(transaction, known_id=transaction_id),
            time=time,
        )
    if kind in _REFUND_KINDS and transaction.get("payment_method") == "chargeback":
        dispute = Dispute(transaction_id, DisputeStage.LOST, stated(transaction), funds="withdrawn")
        return Item(
            event_id,
            kind,
            provider_payment_id=_refunded(transaction),
            about=About.DISPUTE,
            object_id=transaction_id,
            dispute=dispute,
            time=time,
        )
    if kind in _REFUND_KINDS:
        payment_id = _refunded(transaction)
        return Item(
            event_id,
            kind,
            provider_payment_id=payment_id,
            outcome=read_refund_transaction(transaction, payment_id),
            about=About.REFUND,
            object_id=transaction_id,
            time=time,
        )
    if kind in _METHOD_KINDS:
        source = fields(content.get("payment_source"))
        return Item(
            event_id,
            kind,
            about=About.METHOD,
            object_id=identifier(source),
            method=read_method(source),
            time=time,
        )
    return Item(event_id, kind, about=About.OTHER, time=time)


def _refunded(refund: Mapping[str, Any]) -> str:
    """The payment that a refund sends back."""
    return text(refund, "refunded_txn_id") or text(refund, "reference_transaction_id")
