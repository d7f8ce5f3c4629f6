"""What Razorpay's objects, refusals and notifications mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.domain.currency import from_provider_units, to_provider_units
from gateway.domain.outcome import DeclineClass, Finding, Outcome, classify
from gateway.providers.commands import (
    About,
    Delivery,
    Dispute,
    DisputeStage,
    Item,
    LineKind,
    Login,
    PayoutLine,
    Reading,
    StoredMethod,
)
from gateway.providers.parsing import (
    content_of,
    fields,
    identifier,
    moment,
    signed_by,
    text,
    unclear,
    whole,
)
from gateway.providers.plan import Answer, Reply, read_failure, rejected
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount

ATTEMPT_NOTE = "tollgate_attempt"  # the names of our references in the notes of its objects
REFUND_NOTE = "tollgate_refund"
SIGNATURE_HEADER = "x-razorpay-signature"

# Above this a card or UPI debit waits for the customer's approval: the regulator's limit in paise.
APPROVAL_ABOVE_PAISE = 1_500_000
_APPROVED_BY_CUSTOMERS = frozenset({"card", "upi"})

DECLINES: dict[str, DeclineClass] = {
    "insufficient_funds": DeclineClass.SOFT,
    "card_declined": DeclineClass.SOFT,
    "payment_timed_out": DeclineClass.SOFT,
    "gateway_technical_error": DeclineClass.TECHNICAL,
    "bank_technical_error": DeclineClass.TECHNICAL,
    "bank_not_available": DeclineClass.TECHNICAL,
    "bank_cutoff_in_progress": DeclineClass.TECHNICAL,
    "authentication_failed": DeclineClass.ACTION_REQUIRED,
    "card_expired": DeclineClass.ACTION_REQUIRED,
    "customer_action_required": DeclineClass.ACTION_REQUIRED,
    "card_number_invalid": DeclineClass.HARD,
    "bank_account_invalid": DeclineClass.HARD,
    "debit_instrument_blocked": DeclineClass.HARD,
    "debit_instrument_inactive": DeclineClass.HARD,
    "payment_risk_check_failed": DeclineClass.FRAUD,
}

_DISPUTE_STAGES = {
    "payment.dispute.created": DisputeStage.OPENED,
    "payment.dispute.action_required": DisputeStage.OPENED,
    "payment.dispute.under_review": DisputeStage.UNDER_REVIEW,
    "payment.dispute.won": DisputeStage.WON,
    "payment.dispute.lost": DisputeStage.LOST,
}
_METHOD_KINDS = frozenset(f"token.{each}" for each in ("confirmed", "rejected", "paused"))
_METHOD_KINDS |= {"token.cancelled"}
_SESSION_OBJECTS = ("payment_link", "invoice")
_LINE_KINDS = {"payment": LineKind.CHARGE, "refund": LineKind.REFUND}


def units(amount: Amount) -> int:
    """The currency's minor units. Of three decimals the last is always 0 here."""
    if amount.asset.scale == 3:
        to_provider_units(amount, 2)
    return to_provider_units(amount, amount.asset.scale)


def stated(content: Mapping[str, Any], name: str = "amount") -> Amount | None:
    """An amount as an object states it."""
    code = content.get("currency")
    return from_provider_units(content.get(name), code, _digits(code))


def read_payment(
    payment: Mapping[str, Any], reference: str, *, order_id: str = "", known_id: str = ""
) -> Outcome:
    """A payment. It must be ours by its note, its order or the id it was asked for by."""
    payment_id, amount = identifier(payment), stated(payment)
    ours = (
        fields(payment.get("notes")).get(ATTEMPT_NOTE) == reference
        or (order_id and payment.get("order_id") == order_id)
        or (known_id and payment_id == known_id)
    )
    if not payment_id or amount is None or not ours:
        return Outcome(Finding.SILENCE, detail="no payment of ours in the answer")
    finding = _finding(payment, amount)
    if finding is None:
        return Outcome(
            Finding.SILENCE,
            provider_payment_id=payment_id,
            detail=f"a payment in a state without a meaning here: {payment.get('status')!r}",
        )
    declined = finding is Finding.DECLINED
    code = text(payment, "error_reason") or text(payment, "error_code")
    return Outcome(
        finding,
        provider_payment_id=payment_id,
        stated=amount,
        decline_code=code if declined else "",
        decline_class=classify(code, DECLINES) if declined else None,
    )


def _finding(payment: Mapping[str, Any], amount: Amount) -> Finding | None:
    match payment.get("status"):
        case "captured":
            return Finding.SUCCEEDED
        case "authorized":
            return Finding.AUTHORIZED
        case "failed":
            return Finding.DECLINED
        case "created":
            asks = amount.asset.code == "INR" and amount.atoms > APPROVAL_ABOVE_PAISE
            waits = asks and text(payment, "method") in _APPROVED_BY_CUSTOMERS
            return Finding.NEEDS_ACTION if waits else Finding.PENDING
        case "refunded":
            # What was never captured was given up by Razorpay; what was captured did succeed, and
            # where it went since is told by its refunds.
            captured = payment.get("captured")
            if captured is True:
                return Finding.SUCCEEDED
            return Finding.CANCELED if captured is False else None
    return None


def read_refusal(reply: Reply, order_id: str = "") -> Outcome:
    """What a request for a payment was answered instead of one."""
    error = fields(content_of(reply).get("error"))
    if not isinstance(reply, Answer) or reply.status not in (400, 404, 422) or not error:
        return read_failure(reply)
    reason = text(error, "reason")
    about = fields(error.get("metadata"))
    payment_id = identifier(about, "payment_id")
    if "already" in text(error, "description").lower():
        # An order that is paid, a payment that is captured: something exists, and is looked at.
        return unclear(reply, payment_id)
    if payment_id and about.get("order_id") in (None, "", order_id):
        code = reason or text(error, "code")
        return Outcome(
            Finding.DECLINED,
            provider_payment_id=payment_id,
            decline_code=code,
            decline_class=classify(code, DECLINES),
        )
    if text(error, "code") == "BAD_REQUEST_ERROR":
        code = reason if reason not in ("", "NA") else "BAD_REQUEST_ERROR"
        return rejected(code, decline_class=DECLINES.get(code))
    return read_failure(reply)


def read_refund_object(refund: Mapping[str, Any], reference: str, known_id: str = "") -> Outcome:
    """A refund, ours by its note or the id it was asked for by."""
    refund_id, amount = identifier(refund), stated(refund)
    ours = fields(refund.get("notes")).get(REFUND_NOTE) == reference
    ours = ours or bool(known_id and refund_id == known_id)
    finding = {
        "pending": Finding.PENDING,
        "processed": Finding.SUCCEEDED,
        "failed": Finding.DECLINED,
    }.get(text(refund, "status"))
    if not refund_id or amount is None or not ours or finding is None:
        return Outcome(Finding.SILENCE, detail="no refund of ours in the answer")
    return Outcome(
        finding,
        provider_payment_id=text(refund, "payment_id"),
        provider_refund_id=refund_id,
        stated=amount,
        decline_code="refund_failed" if finding is Finding.DECLINED else "",
    )


def read_method(token: Mapping[str, Any], provider_customer_id: str = "") -> StoredMethod | None:
    """A token as a method. Only a confirmed one may be charged while the customer is away."""
    token_id, card = identifier(token), fields(token.get("card"))
    if not token_id:
        return None
    state = text(fields(token.get("recurring_details")), "status")
    last_four = str(card.get("last4") or "")
    return StoredMethod(
        provider_token=token_id,
        kind=text(token, "method"),
        usable=token.get("recurring") is True and state == "confirmed",
        provider_customer_id=text(token, "customer_id") or provider_customer_id,
        brand=text(card, "network"),
        last_four=last_four if len(last_four) == 4 and last_four.isdigit() else "",
        expire_year=whole(card, "expiry_year") or 0,
        expire_month=whole(card, "expiry_month") or 0,
        state=state,
    )


def read_notification(delivery: Delivery, login: Login) -> Reading:
    """Check `X-Razorpay-Signature: <hex HMAC-SHA-256 over the body>` and read the body.

    What a browser brings back is signed with the API secret instead, and is no notification.
    """
    signature = delivery.headers.get(SIGNATURE_HEADER, "")
    if not signature:
        return Reading(False, why="no signature")
    if not signed_by(delivery.body, [signature], delivery.secrets):
        return Reading(False, why="the signature does not fit")
    items = read_items(delivery.body)
    return Reading(True, items) if items else Reading(False, why="the body is not a notification")


def read_items(body: bytes) -> tuple[Item, ...]:
    """The one item of a notification; none where the body is not as documented.

    Its id is made of what is signed. `x-razorpay-event-id` is not, so whoever repeats an old body
    could give it a new one.
    """
    content = fields(Answer(200, {}, body).json)
    kind, time = text(content, "event"), moment(content, "created_at")
    payload = fields(content.get("payload"))
    if not kind or not payload:
        return ()
    entities = {name: fields(fields(each).get("entity")) for name, each in payload.items()}
    subject = entities.get(_subject(kind, entities), {})
    stamp = int(time.timestamp()) if time else 0
    return (_item(f"{kind}:{identifier(subject)}:{stamp}", kind, subject, entities, time),)


def _subject(kind: str, entities: Mapping[str, Mapping[str, Any]]) -> str:
    """What an event is about: `payment.dispute.won` a dispute, `order.paid` a payment."""
    if kind.startswith("payment.dispute."):
        return "dispute"
    if kind == "order.paid":
        return "payment"
    name = kind.partition(".")[0]
    return name if name in entities else ""


def _item(
    identity: str,
    kind: str,
    subject: Mapping[str, Any],
    entities: Mapping[str, Mapping[str, Any]],
    time: Any,
) -> Item:
    about, object_id = About.OTHER, identifier(subject)
    if kind in _DISPUTE_STAGES or kind.startswith("payment.dispute."):
        return Item(
            identity,
            kind,
            provider_payment_id=text(subject, "payment_id"),
            about=About.DISPUTE,
            object_id=object_id,
            dispute=_dispute(kind, subject),
            time=time,
        )
    if kind.startswith("payment.") or kind == "order.paid":
        notes = fields(subject.get("notes"))
        reference = text(notes, ATTEMPT_NOTE)
        if not reference:
            # A payment made on a page may lack our note; its order has our receipt.
            reference = text(entities.get("order", {}), "receipt")
        return Item(
            identity,
            kind,
            reference=reference,
            provider_payment_id=object_id,
            outcome=read_payment(subject, reference, known_id=object_id),
            time=time,
        )
    if kind.startswith("refund."):
        reference = text(fields(subject.get("notes")), REFUND_NOTE)
        return Item(
            identity,
            kind,
            reference=reference,
            provider_payment_id=text(subject, "payment_id"),
            outcome=read_refund_object(subject, reference, object_id),
            about=About.REFUND,
            object_id=object_id,
            time=time,
        )
    if kind in _METHOD_KINDS:
        method = read_method(subject)
        return Item(
            identity, kind, about=About.METHOD, object_id=object_id, method=method, time=time
        )
    if kind.startswith("settlement."):
        about = About.PAYOUT
    elif kind.partition(".")[0] in _SESSION_OBJECTS:
        about = About.SESSION
    return Item(identity, kind, about=about, object_id=object_id, time=time)


def _dispute(kind: str, dispute: Mapping[str, Any]) -> Dispute:
    stage = _DISPUTE_STAGES.get(kind)
    if stage is DisputeStage.OPENED and dispute.get("phase") == "retrieval":
        stage = DisputeStage.INQUIRY
    deducted = whole(dispute, "amount_deducted") or 0
    funds = ""
    if deducted > 0 and stage in (DisputeStage.OPENED, DisputeStage.LOST):
        funds = "withdrawn"
    elif deducted > 0 and stage is DisputeStage.WON:
        funds = "reinstated"
    return Dispute(
        provider_dispute_id=identifier(dispute),
        stage=stage,
        amount=stated(dispute),
        reason=text(dispute, "reason_code"),
        respond_by=moment(dispute, "respond_by"),
        funds=funds,
    )


def read_payout_line(line: Mapping[str, Any]) -> PayoutLine | None:
    """A line of the combined reconciliation; None where it is not as documented."""
    gross, credit, debit = stated(line), stated(line, "credit"), stated(line, "debit")
    line_id, settlement_id = identifier(line, "entity_id"), identifier(line, "settlement_id")
    if gross is None or credit is None or debit is None or not line_id:
        return None
    net = credit.atoms - debit.atoms
    sign = -1 if net < 0 else 1
    kind = _LINE_KINDS.get(text(line, "type"), LineKind.ADJUSTMENT)
    if kind is LineKind.ADJUSTMENT and line.get("dispute_id"):
        kind = LineKind.DISPUTE
    is_refund = kind is LineKind.REFUND
    return PayoutLine(
        id=f"{settlement_id}:{line_id}",
        provider_payout_id=settlement_id,
        kind=kind,
        gross=Amount(gross.asset, sign * gross.atoms),
        fee=Amount(gross.asset, sign * gross.atoms - net),
        net=Amount(gross.asset, net),
        provider_payment_id=text(line, "payment_id") if is_refund else _payment_of(line),
        provider_refund_id=line_id if is_refund else "",
        reference=text(_notes(line), ATTEMPT_NOTE) or text(line, "order_receipt"),
        time=moment(line, "settled_at"),
    )


def _payment_of(line: Mapping[str, Any]) -> str:
    own = identifier(line, "entity_id") if line.get("type") == "payment" else ""
    return own or text(line, "payment_id")


def _notes(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Notes come as an object, as an object written as text, or as any other text."""
    notes = line.get("notes")
    if isinstance(notes, str):
        try:
            notes = json.loads(notes)
        except (ValueError, RecursionError):
            return {}
    return fields(notes)


def _digits(code: object) -> int:
    return MINOR_DIGITS.get(code, 0) if isinstance(code, str) else 0
