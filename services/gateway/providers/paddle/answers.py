"""What Paddle's objects, refusals and notifications mean."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.domain.currency import from_provider_units
from gateway.domain.outcome import DeclineClass, Finding, NextAction, Outcome, classify
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
from gateway.providers.paddle.requests import ATTEMPT_FIELD
from gateway.providers.parsing import (
    content_of,
    fields,
    identifier,
    moment,
    rows,
    signed_by,
    text,
    whole,
)
from gateway.providers.plan import Answer, Reply, read_failure, rejected
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount

SIGNATURE_HEADER = "paddle-signature"
# The vendor's own check allows five seconds, and none at all where its environment says so.
SIGNATURE_WINDOW = timedelta(seconds=300)
SIGNATURES_MAX = 10  # more than one only while a secret is being replaced

DECLINES: dict[str, DeclineClass] = {
    "not_enough_balance": DeclineClass.SOFT,
    "declined": DeclineClass.SOFT,
    "issuer_unavailable": DeclineClass.TECHNICAL,
    "psp_error": DeclineClass.TECHNICAL,
    "system_error": DeclineClass.TECHNICAL,
    "authentication_failed": DeclineClass.ACTION_REQUIRED,
    "expired_card": DeclineClass.ACTION_REQUIRED,
    "redacted_payment_method": DeclineClass.ACTION_REQUIRED,
    "declined_not_retryable": DeclineClass.HARD,
    "blocked_card": DeclineClass.HARD,
    "canceled": DeclineClass.HARD,
    "transaction_not_permitted": DeclineClass.HARD,
    "invalid_payment_details": DeclineClass.HARD,
    "fraud": DeclineClass.FRAUD,
}

# A charge of a subscription was declined; which bank said why stands in the transaction.
PAYMENT_DECLINED = "subscription_payment_declined"

_ADJUSTMENTS = {
    "pending_approval": Finding.PENDING,  # Paddle's people decide
    "approved": Finding.SUCCEEDED,
    "rejected": Finding.DECLINED,
    "reversed": Finding.REVERSED,
}
_DISPUTES = {
    "chargeback_warning": (DisputeStage.INQUIRY, ""),
    "chargeback_warning_reverse": (DisputeStage.WON, ""),
    "chargeback": (DisputeStage.LOST, "withdrawn"),
    "chargeback_reverse": (DisputeStage.WON, "reinstated"),
}


def entity(reply: Reply) -> Mapping[str, Any]:
    """The object of an answer."""
    return fields(content_of(reply).get("data"))


def stated(units: object, code: object) -> Amount | None:
    digits = MINOR_DIGITS.get(code, 0) if isinstance(code, str) else 0
    return from_provider_units(units, code, digits)


def is_ours(transaction: Mapping[str, Any], reference: str) -> bool:
    """Whether a transaction, or a price in it, carries our reference."""
    prices = (fields(each.get("price")) for each in rows(transaction, "items") or [])
    named = [transaction.get("custom_data"), *(price.get("custom_data") for price in prices)]
    return any(fields(each).get(ATTEMPT_FIELD) == reference for each in named)


def reference_of(transaction: Mapping[str, Any]) -> str:
    """Our reference on a transaction; empty where it is not of our making."""
    prices = (fields(each.get("price")) for each in rows(transaction, "items") or [])
    named = [transaction.get("custom_data"), *(price.get("custom_data") for price in prices)]
    stated_by = (text(fields(each), ATTEMPT_FIELD) for each in named)
    return next((each for each in stated_by if each), "")


def read_transaction(transaction: Mapping[str, Any], reference: str, known_id: str = "") -> Outcome:
    """A transaction, ours by its reference or the id it was asked for by."""
    transaction_id = identifier(transaction)
    ours = is_ours(transaction, reference) or bool(known_id and transaction_id == known_id)
    if not transaction_id or not ours:
        return Outcome(Finding.SILENCE, detail="no transaction of ours in the answer")
    code = transaction.get("currency_code")
    totals = fields(fields(transaction.get("details")).get("totals"))
    amount = stated(totals.get("grand_total", totals.get("total")), code)
    finding = _finding(transaction)
    if finding is None or amount is None:
        return Outcome(
            Finding.SILENCE,
            provider_payment_id=transaction_id,
            detail=f"a transaction without a meaning here: {transaction.get('status')!r}",
        )
    declined = finding is Finding.DECLINED
    error = _latest_error(transaction) if declined else ""
    url = text(fields(transaction.get("checkout")), "url")
    return Outcome(
        finding,
        provider_payment_id=transaction_id,
        stated=amount,
        decline_code=error,
        decline_class=classify(error, DECLINES) if declined else None,
        action=NextAction(url) if url and finding is Finding.NEEDS_ACTION else None,
    )


def _finding(transaction: Mapping[str, Any]) -> Finding | None:
    failed = bool(_latest_error(transaction))
    match transaction.get("status"):
        case "paid" | "completed":
            return Finding.SUCCEEDED
        case "canceled":
            return Finding.DECLINED if failed else Finding.CANCELED
        case "past_due":
            return Finding.PENDING  # Paddle tries again by itself
        case "draft" | "ready" | "billed" as status:
            if transaction.get("origin") == "subscription_charge":
                return Finding.DECLINED if failed else Finding.PENDING
            # On a page a person may try again after a decline.
            return Finding.PENDING if status == "billed" else Finding.NEEDS_ACTION
    return None


def _latest_error(transaction: Mapping[str, Any]) -> str:
    """Why the latest payment attempt failed; empty where it did not, or there is none."""
    attempts = rows(transaction, "payments") or []
    if not attempts:
        return ""
    latest = max(attempts, key=lambda each: text(each, "created_at"))
    if latest.get("status") != "error":
        return ""
    return text(latest, "error_code") or "unknown"


def read_refusal(reply: Reply) -> Outcome:
    """What a request was answered instead of what it asked for."""
    error = fields(content_of(reply).get("error"))
    code = text(error, "code")
    asked_wrongly = isinstance(reply, Answer) and reply.status in (400, 404, 409, 422)
    if asked_wrongly and code and text(error, "type") == "request_error":
        return rejected(code)
    return read_failure(reply)


def read_adjustment(adjustment: Mapping[str, Any], reference: str, known_id: str = "") -> Outcome:
    """A refund, ours by the reference in its reason or the id it was asked for by."""
    adjustment_id = identifier(adjustment)
    ours = bool(reference) and reference in text(adjustment, "reason")
    ours = ours or bool(known_id and adjustment_id == known_id)
    totals = fields(adjustment.get("totals"))
    amount = stated(totals.get("total"), adjustment.get("currency_code"))
    finding = _ADJUSTMENTS.get(text(adjustment, "status"))
    is_refund = adjustment.get("action") == "refund"
    if not adjustment_id or not ours or not is_refund or finding is None or amount is None:
        return Outcome(Finding.SILENCE, detail="no refund of ours in the answer")
    return Outcome(
        finding,
        provider_payment_id=text(adjustment, "transaction_id"),
        provider_refund_id=adjustment_id,
        stated=amount,
        decline_code="refund_rejected" if finding is Finding.DECLINED else "",
    )


def read_method(method: Mapping[str, Any], *, usable: bool = False) -> StoredMethod | None:
    """A saved method. Paddle charges it on pages only; away from them it charges subscriptions."""
    method_id, card = identifier(method), fields(method.get("card"))
    if not method_id:
        return None
    last_four = text(card, "last4")
    return StoredMethod(
        provider_token=method_id,
        kind=text(method, "type"),
        usable=usable,
        provider_customer_id=text(method, "customer_id"),
        brand=text(card, "type"),
        last_four=last_four if len(last_four) == 4 and last_four.isdigit() else "",
        expire_year=whole(card, "expiry_year") or 0,
        expire_month=whole(card, "expiry_month") or 0,
    )


def read_notification(delivery: Delivery, login: Login) -> Reading:
    """Check `Paddle-Signature: ts=<unix>;h1=<hex>[;h1=<hex>…]`, an HMAC over "ts:body"."""
    header = delivery.headers.get(SIGNATURE_HEADER, "")
    if not header:
        return Reading(False, why="no signature")
    parts = [part.partition("=")[::2] for part in header.split(";")]
    stamps = [value for name, value in parts if name == "ts"]
    signatures = [value for name, value in parts if name == "h1"]
    if len(stamps) != 1 or not 1 <= len(signatures) <= SIGNATURES_MAX:
        return Reading(False, why="not a signature as documented")
    stamp = stamps[0]
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 10):
        return Reading(False, why="no time in the signature")
    if abs(delivery.now - datetime.fromtimestamp(int(stamp), UTC)) > SIGNATURE_WINDOW:
        return Reading(False, why="the signature's time is too far from now")
    if not signed_by(stamp.encode() + b":" + delivery.body, signatures, delivery.secrets):
        return Reading(False, why="the signature does not fit")
    items = read_items(delivery.body)
    return Reading(True, items) if items else Reading(False, why="the body is not a notification")


def read_items(body: bytes) -> tuple[Item, ...]:
    """The one item of a notification; none where the body is not as documented."""
    item = read_change(fields(Answer(200, {}, body).json))
    return (item,) if item is not None else ()


def read_change(event: Mapping[str, Any]) -> Item | None:
    """An event, as a notification or a list tells it; its id is the same in both."""
    event_id, kind = identifier(event, "event_id"), text(event, "event_type")
    if not event_id or not kind:
        return None
    subject, time = fields(event.get("data")), moment(event, "occurred_at")
    object_id = identifier(subject)
    if kind.startswith("transaction."):
        reference = reference_of(subject)
        outcome = read_transaction(subject, reference, known_id=object_id)
        if kind == "transaction.payment_failed" and outcome.finding is not Finding.SILENCE:
            outcome = _failed(subject, outcome)
        return Item(
            event_id,
            kind,
            reference=reference,
            provider_payment_id=object_id,
            outcome=outcome,
            time=time,
        )
    if kind.startswith("adjustment."):
        return _adjustment_item(event_id, kind, subject, time)
    if kind in ("payment_method.saved", "payment_method.deleted"):
        method = read_method(subject)
        return Item(
            event_id, kind, about=About.METHOD, object_id=object_id, method=method, time=time
        )
    about = About.PAYOUT if kind.startswith("payout.") else About.OTHER
    return Item(event_id, kind, about=about, object_id=object_id, time=time)


def _failed(transaction: Mapping[str, Any], outcome: Outcome) -> Outcome:
    """What one failed attempt says, unless Paddle goes on trying or a later one went through."""
    if outcome.finding in (Finding.SUCCEEDED, Finding.PENDING):
        return outcome
    code = _latest_error(transaction) or "unknown"
    return Outcome(
        Finding.DECLINED,
        provider_payment_id=outcome.provider_payment_id,
        stated=outcome.stated,
        decline_code=code,
        decline_class=classify(code, DECLINES),
    )


def _adjustment_item(
    event_id: str, kind: str, adjustment: Mapping[str, Any], time: datetime | None
) -> Item:
    action, object_id = text(adjustment, "action"), identifier(adjustment)
    payment_id = text(adjustment, "transaction_id")
    if action in _DISPUTES:
        stage, funds = _DISPUTES[action]
        totals = fields(adjustment.get("totals"))
        dispute = Dispute(
            provider_dispute_id=object_id,
            stage=stage,
            amount=stated(totals.get("total"), adjustment.get("currency_code")),
            reason=text(adjustment, "reason"),
            funds=funds,
        )
        return Item(
            event_id,
            kind,
            provider_payment_id=payment_id,
            about=About.DISPUTE,
            object_id=object_id,
            dispute=dispute,
            time=time,
        )
    if action != "refund":
        return Item(event_id, kind, about=About.OTHER, object_id=object_id, time=time)
    return Item(
        event_id,
        kind,
        reference=refund_reference(adjustment),
        provider_payment_id=payment_id,
        outcome=read_adjustment(adjustment, "", known_id=object_id),
        about=About.REFUND,
        object_id=object_id,
        time=time,
    )


def refund_reason(reason: str, reference: str) -> str:
    """The reason that a refund is sent with; it carries our reference."""
    return f"{reason.strip() or 'Refund'} [{reference}]"


def refund_reference(adjustment: Mapping[str, Any]) -> str:
    """Our reference in a refund's reason; empty where it is not of our making."""
    _, bracket, rest = text(adjustment, "reason").rpartition("[")
    return rest[:-1] if bracket and rest.endswith("]") else ""
