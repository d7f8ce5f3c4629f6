"""What Stripe's objects, errors and notifications mean."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

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
from gateway.providers.parsing import content_of, fields, identifier, moment, signed_by, text, whole
from gateway.providers.plan import Answer, Reply, read_failure, rejected
from gateway.providers.stripe.requests import ATTEMPT, REFUND, amount_of

SIGNATURE_HEADER = "stripe-signature"
SIGNATURE_WINDOW = timedelta(seconds=300)

DECLINES: dict[str, DeclineClass] = {
    **dict.fromkeys(
        (
            "insufficient_funds",
            "do_not_honor",
            "generic_decline",
            "card_velocity_exceeded",
            "withdrawal_count_limit_exceeded",
            "call_issuer",
        ),
        DeclineClass.SOFT,
    ),
    **dict.fromkeys(
        ("processing_error", "issuer_not_available", "try_again_later", "reenter_transaction"),
        DeclineClass.TECHNICAL,
    ),
    **dict.fromkeys(
        ("authentication_required", "expired_card", "invalid_cvc"), DeclineClass.ACTION_REQUIRED
    ),
    **dict.fromkeys(
        (
            "card_not_supported",
            "incorrect_number",
            "revocation_of_authorization",
            "transaction_not_allowed",
            "currency_not_supported",
        ),
        DeclineClass.HARD,
    ),
    **dict.fromkeys(
        ("lost_card", "stolen_card", "pickup_card", "fraudulent", "merchant_blacklist"),
        DeclineClass.FRAUD,
    ),
}

_STATUSES = {
    "succeeded": Finding.SUCCEEDED,
    "requires_capture": Finding.AUTHORIZED,
    "processing": Finding.PENDING,
    "requires_action": Finding.NEEDS_ACTION,
    "canceled": Finding.CANCELED,
}
_REFUND_STATUSES = {
    "succeeded": Finding.SUCCEEDED,
    "pending": Finding.PENDING,
    "requires_action": Finding.PENDING,
    "failed": Finding.DECLINED,
    "canceled": Finding.CANCELED,
}
# Something is there already, or is not where we thought: it is looked at, not given up.
_LOOK = frozenset({"idempotency_error", "payment_intent_unexpected_state", "lock_timeout"})

_STAGES = {
    "warning_needs_response": DisputeStage.INQUIRY,
    "warning_under_review": DisputeStage.INQUIRY,
    "warning_closed": DisputeStage.WON,
    "needs_response": DisputeStage.OPENED,
    "under_review": DisputeStage.UNDER_REVIEW,
    "won": DisputeStage.WON,
    "lost": DisputeStage.LOST,
}
_FUNDS = {
    "charge.dispute.funds_withdrawn": "withdrawn",
    "charge.dispute.funds_reinstated": "reinstated",
}


def read_intent(intent: Mapping[str, Any], reference: str) -> Outcome:
    """A payment intent; one of another reference, or without amounts, says nothing."""
    if text(fields(intent.get("metadata")), ATTEMPT) != reference:
        return Outcome(Finding.SILENCE, detail="no payment intent of this reference")
    intent_id, status = identifier(intent), text(intent, "status")
    failed = fields(intent.get("last_payment_error"))
    finding = _STATUSES.get(status)
    # A decline leaves the intent open; it is canceled by our own plan, and stays a decline.
    if failed and status in ("requires_payment_method", "canceled"):
        finding = Finding.DECLINED
    stated = amount_of(intent, "amount_received" if finding is Finding.SUCCEEDED else "amount")
    # A success that leaves out what was received is one all the same; nothing is stated then.
    unstated = finding is Finding.SUCCEEDED and "amount_received" not in intent
    if not intent_id or finding is None or (stated is None and not unstated):
        return Outcome(Finding.SILENCE, provider_payment_id=intent_id, detail=f"status {status}")
    code = decline_code(failed) if finding is Finding.DECLINED else ""
    redirect = fields(fields(intent.get("next_action")).get("redirect_to_url"))
    url = text(redirect, "url")
    return Outcome(
        finding,
        provider_payment_id=intent_id,
        stated=stated,
        decline_code=code,
        decline_class=classify(code, DECLINES) if finding is Finding.DECLINED else None,
        action=NextAction(url) if url and finding is Finding.NEEDS_ACTION else None,
    )


def decline_code(error: Mapping[str, Any]) -> str:
    """The issuer's word, else Stripe's own; `card_declined` alone says nothing more."""
    return text(error, "decline_code") or text(error, "code") or "generic_decline"


def read_intent_answer(reply: Reply, reference: str) -> Outcome:
    """The answer to a request about a payment intent."""
    if not isinstance(reply, Answer):
        return read_failure(reply)
    content = content_of(reply)
    if reply.status == 200:
        return read_intent(content, reference)
    if reply.status == 402:
        return _read_decline(fields(content.get("error")), reference)
    return read_error(reply)


def _read_decline(error: Mapping[str, Any], reference: str) -> Outcome:
    intent = fields(error.get("payment_intent"))
    if text(fields(intent.get("metadata")), ATTEMPT) not in ("", reference):
        return Outcome(Finding.SILENCE, detail="a decline of another reference")
    if text(error, "type") != "card_error" and text(error, "code") != "card_declined":
        return Outcome(Finding.SILENCE, detail="HTTP 402 without a card error")
    code = decline_code(error)
    return Outcome(
        Finding.DECLINED,
        provider_payment_id=identifier(intent),
        stated=amount_of(intent),
        decline_code=code,
        decline_class=classify(code, DECLINES),
    )


def read_error(reply: Answer) -> Outcome:
    """An error: stated where Stripe says why the request had no effect."""
    error = fields(content_of(reply).get("error"))
    kind, code = text(error, "type"), text(error, "code")
    if kind in _LOOK or code in _LOOK:
        return Outcome(Finding.SILENCE, detail=code or kind)
    if reply.status in (400, 404) and kind == "invalid_request_error":
        return rejected(code or "invalid_request_error", text(error, "param"))
    return read_failure(reply)


def read_refund(refund: Mapping[str, Any], reference: str) -> Outcome:
    """A refund; one of another reference says nothing."""
    if text(fields(refund.get("metadata")), REFUND) != reference:
        return Outcome(Finding.SILENCE, detail="no refund of this reference")
    refund_id, finding = identifier(refund), _REFUND_STATUSES.get(text(refund, "status"))
    stated = amount_of(refund)
    if not refund_id or finding is None or stated is None:
        return Outcome(Finding.SILENCE, provider_refund_id=refund_id, detail="not as documented")
    return Outcome(
        finding,
        provider_payment_id=text(refund, "payment_intent"),
        provider_refund_id=refund_id,
        stated=stated,
        decline_code=text(refund, "failure_reason"),
        undoes_success=finding is Finding.DECLINED,
    )


def read_method(method: Mapping[str, Any]) -> StoredMethod | None:
    """A payment method; None where it has no id."""
    token, kind = identifier(method), text(method, "type")
    if not token:
        return None
    detail = fields(method.get(kind))
    return StoredMethod(
        provider_token=token,
        kind=kind,
        provider_customer_id=text(method, "customer"),
        brand=text(detail, "brand"),
        last_four=text(detail, "last4")[-4:],
        expire_year=whole(detail, "exp_year") or 0,
        expire_month=whole(detail, "exp_month") or 0,
    )


# --- notifications --------------------------------------------------------------------------------


def read_notification(delivery: Delivery, login: Login) -> Reading:
    """Check `Stripe-Signature: t=<unix>,v1=<hex>[,v1=…]` and read the event. v0 is ignored."""
    stamps, signatures = [], []
    for part in delivery.headers.get(SIGNATURE_HEADER, "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            stamps.append(value)
        elif name == "v1":
            signatures.append(value)
    if len(stamps) != 1 or not (stamps[0].isascii() and stamps[0].isdigit()):
        return Reading(False, why="no time in the signature")
    if len(stamps[0]) > 10:
        return Reading(False, why="no time in the signature")
    signed_time = datetime.fromtimestamp(int(stamps[0]), UTC)
    if abs(delivery.now - signed_time) > SIGNATURE_WINDOW:
        return Reading(False, why="the signature's time is too far from now")
    # The prefix "whsec_" is part of the key.
    if not signed_by(stamps[0].encode() + b"." + delivery.body, signatures, delivery.secrets):
        return Reading(False, why="the signature does not fit")
    items = read_items(delivery.body)
    return Reading(True, items) if items else Reading(False, why="the body is not an event")


def read_items(body: bytes) -> tuple[Item, ...]:
    """The one item of an event; none where the body is not as documented."""
    item = read_event(fields(Answer(200, {}, body).json))
    return (item,) if item else ()


def read_event(event: Mapping[str, Any]) -> Item | None:
    """An event, from a notification or from the list of them."""
    event_id, kind = identifier(event), text(event, "type")
    if not event_id or not kind:
        return None
    thing = fields(fields(event.get("data")).get("object"))
    time = moment(event, "created")
    family = kind.rpartition(".")[0]
    metadata = fields(thing.get("metadata"))
    if family == "payment_intent":
        reference = text(metadata, ATTEMPT)
        return Item(
            event_id,
            kind,
            reference=reference,
            provider_payment_id=identifier(thing),
            outcome=_told_intent(kind, thing, reference),
            time=time,
        )
    if family == "refund" or kind == "charge.refund.updated":
        reference = text(metadata, REFUND)
        return Item(
            event_id,
            kind,
            reference=reference,
            provider_payment_id=text(thing, "payment_intent"),
            outcome=read_refund(thing, reference),
            about=About.REFUND,
            object_id=identifier(thing),
            time=time,
        )
    if family == "charge.dispute":
        return Item(
            event_id,
            kind,
            provider_payment_id=text(thing, "payment_intent"),
            about=About.DISPUTE,
            object_id=identifier(thing),
            dispute=_read_dispute(kind, thing),
            time=time,
        )
    if family in ("checkout.session", "setup_intent"):
        reference = text(thing, "client_reference_id")
        return Item(
            event_id, kind, reference, about=About.SESSION, object_id=identifier(thing), time=time
        )
    about = {
        "payment_method": About.METHOD,
        "payout": About.PAYOUT,
    }.get(family, About.REFUND if kind == "charge.refunded" else About.OTHER)
    method = read_method(thing) if about is About.METHOD else None
    return Item(
        event_id,
        kind,
        provider_payment_id=text(thing, "payment_intent"),
        about=about,
        object_id=identifier(thing),
        method=method,
        time=time,
    )


def _told_intent(kind: str, intent: Mapping[str, Any], reference: str) -> Outcome | None:
    """What an event of a payment intent tells; None for kinds that tell nothing of an outcome."""
    told = {
        "payment_intent.succeeded": Finding.SUCCEEDED,
        "payment_intent.amount_capturable_updated": Finding.AUTHORIZED,
        "payment_intent.processing": Finding.PENDING,
        "payment_intent.requires_action": Finding.NEEDS_ACTION,
        "payment_intent.payment_failed": Finding.DECLINED,
        "payment_intent.canceled": Finding.CANCELED,
    }.get(kind)
    if told is None or not reference:
        return None
    outcome = read_intent(intent, reference)
    declined_before = told is Finding.CANCELED and outcome.finding is Finding.DECLINED
    return outcome if outcome.finding is told or declined_before else None


def _read_dispute(kind: str, dispute: Mapping[str, Any]) -> Dispute:
    evidence = fields(dispute.get("evidence_details"))
    return Dispute(
        provider_dispute_id=identifier(dispute),
        stage=_STAGES.get(text(dispute, "status")),
        amount=amount_of(dispute),
        reason=text(dispute, "reason"),
        respond_by=moment(evidence, "due_by"),
        funds=_FUNDS.get(kind, ""),
    )
