"""What GoCardless's objects, errors and notifications mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.outcome import DeclineClass, Finding, Outcome, classify
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
from gateway.providers.gocardless.requests import ATTEMPT, REFUND, amount_of
from gateway.providers.parsing import content_of, fields, identifier, moment, rows, signed_by, text
from gateway.providers.plan import Answer, Reply, read_failure, rejected

SIGNATURE_HEADER = "webhook-signature"

DECLINES: dict[str, DeclineClass] = {
    **dict.fromkeys(("insufficient_funds", "refer_to_payer"), DeclineClass.SOFT),
    "mandate_expired": DeclineClass.ACTION_REQUIRED,
    **dict.fromkeys(
        (
            "bank_account_closed",
            "bank_account_transferred",
            "direct_debit_not_enabled",
            "invalid_bank_details",
            "mandate_cancelled",
            "authorisation_disputed",
        ),
        DeclineClass.HARD,
    ),
}

_STATUSES = {
    "pending_customer_approval": Finding.PENDING,
    "pending_submission": Finding.PENDING,
    "submitted": Finding.PENDING,
    "confirmed": Finding.SUCCEEDED,
    "paid_out": Finding.SUCCEEDED,
    "cancelled": Finding.CANCELED,
    "customer_approval_denied": Finding.CANCELED,
    "failed": Finding.DECLINED,
}
_REFUND_STATUSES = {
    "created": Finding.PENDING,
    "pending_submission": Finding.PENDING,
    "submitted": Finding.PENDING,
    "paid": Finding.SUCCEEDED,
    "cancelled": Finding.CANCELED,
    "failed": Finding.DECLINED,
    "bounced": Finding.DECLINED,
    "funds_returned": Finding.REVERSED,
}
_PAYMENT_ACTIONS = {
    "created": Finding.PENDING,
    "customer_approval_granted": Finding.PENDING,
    "submitted": Finding.PENDING,
    "resubmission_requested": Finding.PENDING,
    "confirmed": Finding.SUCCEEDED,
    "failed": Finding.DECLINED,
    "cancelled": Finding.CANCELED,
    "customer_approval_denied": Finding.CANCELED,
}
_REFUND_ACTIONS = {
    "created": Finding.PENDING,
    "paid": Finding.SUCCEEDED,
    "failed": Finding.DECLINED,
    "bounced": Finding.DECLINED,
    "refund_settled": None,
    "funds_returned": Finding.REVERSED,
    "refund_returned": Finding.REVERSED,
}
_DISPUTE_ACTIONS = {
    "charged_back": (DisputeStage.LOST, "withdrawn"),
    "chargeback_cancelled": (DisputeStage.WON, "reinstated"),
    "chargeback_settled": (DisputeStage.LOST, ""),
}
_USABLE_MANDATES = frozenset(
    {"pending_customer_approval", "pending_submission", "submitted", "active"}
)
_MANDATE_ENDS = frozenset({"failed", "cancelled", "expired", "blocked", "consumed", "replaced"})
# Words for a mandate that takes no payments any more; a repeat would be refused the same way.
_DEAD_MANDATE = frozenset(
    {
        "mandate_is_inactive",
        "mandate_not_active",
        "mandate_cancelled",
        "mandate_expired",
        "bank_account_disabled",
        "mandate_suspended_by_payer",
    }
)


def read_payment(payment: Mapping[str, Any], reference: str) -> Outcome:
    """A payment; one of another reference says nothing."""
    if text(fields(payment.get("metadata")), ATTEMPT) != reference:
        return Outcome(Finding.SILENCE, detail="no payment of this reference")
    payment_id, status = identifier(payment), text(payment, "status")
    finding, stated = _STATUSES.get(status), amount_of(payment)
    if not payment_id or finding is None or stated is None:
        return Outcome(Finding.SILENCE, provider_payment_id=payment_id, detail=f"status {status}")
    return _judged(finding, "failed", provider_payment_id=payment_id, stated=stated)


def _judged(finding: Finding, code: str, **told: Any) -> Outcome:
    """A failure may come weeks after a success, and takes it back then."""
    declined = finding is Finding.DECLINED
    return Outcome(
        finding,
        decline_code=code if declined else "",
        decline_class=classify(code, DECLINES) if declined else None,
        undoes_success=declined,
        **told,
    )


def read_payment_answer(reply: Reply, reference: str) -> Outcome:
    """The answer to a request about a payment."""
    if isinstance(reply, Answer) and reply.status in (200, 201):
        return read_payment(fields(content_of(reply).get("payments")), reference)
    return read_error(reply)


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
        provider_payment_id=text(fields(refund.get("links")), "payment"),
        provider_refund_id=refund_id,
        stated=stated,
        decline_code=text(refund, "status") if finding is Finding.DECLINED else "",
        undoes_success=finding is Finding.DECLINED,
    )


def read_error(reply: Reply) -> Outcome:
    """An error: stated where GoCardless says why the request had no effect."""
    if not isinstance(reply, Answer):
        return read_failure(reply)
    error = fields(content_of(reply).get("error"))
    kind, errors = text(error, "type"), rows(error, "errors") or []
    if reply.status in (400, 404, 422) and kind in ("validation_failed", "invalid_state"):
        code = next((text(each, "reason") for each in errors if text(each, "reason")), kind)
        dead = DeclineClass.HARD if code in _DEAD_MANDATE else None
        return rejected(code, text(error, "message"), dead)
    return read_failure(reply)


def read_mandate(mandate: Mapping[str, Any]) -> StoredMethod | None:
    """A mandate; None where it has no id."""
    token, links = identifier(mandate), fields(mandate.get("links"))
    if not token:
        return None
    status = text(mandate, "status")
    return StoredMethod(
        provider_token=token,
        kind=text(mandate, "scheme"),
        usable=status in _USABLE_MANDATES,
        provider_customer_id=text(links, "customer"),
        replaced_by=text(links, "new_mandate"),
        state=status,
    )


# --- notifications --------------------------------------------------------------------------------


def read_notification(delivery: Delivery, login: Login) -> Reading:
    """Check `Webhook-Signature: <hex HMAC-SHA-256 of the body>` and read up to 250 items."""
    signature = delivery.headers.get(SIGNATURE_HEADER, "")
    if not signature or not signed_by(delivery.body, [signature], delivery.secrets):
        return Reading(False, why="the signature does not fit")
    items = read_items(delivery.body)
    return Reading(True, items) if items else Reading(False, why="the body is not a notification")


def read_items(body: bytes) -> tuple[Item, ...]:
    """The items of a notification; none where the body is not as documented."""
    listed = rows(fields(Answer(200, {}, body).json), "events") or []
    return tuple(item for each in listed if (item := read_event(each)) is not None)


def read_event(event: Mapping[str, Any]) -> Item | None:
    """An event, from a notification or from the list of them. Only ids are taken from it."""
    event_id, action = identifier(event), text(event, "action")
    resource, links = text(event, "resource_type"), fields(event.get("links"))
    if not event_id or not action or not resource:
        return None
    kind, time = f"{resource}.{action}", moment(event, "created_at")
    details = fields(event.get("details"))
    payment = identifier(links, "payment")
    if resource == "payments" and action in _DISPUTE_ACTIONS:
        stage, funds = _DISPUTE_ACTIONS[action]
        dispute = Dispute(payment, stage, reason=text(details, "cause"), funds=funds)
        return Item(
            event_id, kind, provider_payment_id=payment, about=About.DISPUTE, object_id=payment,
            dispute=dispute, time=time,
        )  # fmt: skip
    if resource == "payments":
        return Item(
            event_id,
            kind,
            provider_payment_id=payment,
            outcome=_told_payment(action, details, payment),
            time=time,
        )
    if resource == "refunds":
        refund = identifier(links, "refund")
        found = _REFUND_ACTIONS.get(action)
        outcome = Outcome(found, provider_refund_id=refund) if found and refund else None
        return Item(
            event_id, kind, provider_payment_id=payment, outcome=outcome, about=About.REFUND,
            object_id=refund, time=time,
        )  # fmt: skip
    if resource == "mandates":
        token = identifier(links, "mandate")
        method = StoredMethod(
            provider_token=token,
            kind=text(details, "scheme"),
            usable=action not in _MANDATE_ENDS,
            replaced_by=identifier(links, "new_mandate"),
            state=action,
        )
        return Item(event_id, kind, about=About.METHOD, object_id=token, method=method, time=time)
    about, link = {
        "billing_requests": (About.SESSION, "billing_request"),
        "payouts": (About.PAYOUT, "payout"),
    }.get(resource, (About.OTHER, ""))
    return Item(event_id, kind, about=about, object_id=identifier(links, link), time=time)


def _told_payment(action: str, details: Mapping[str, Any], payment: str) -> Outcome | None:
    found = _PAYMENT_ACTIONS.get(action)
    if found is None or not payment:
        return None
    if found is Finding.DECLINED and details.get("will_attempt_retry") is True:
        found = Finding.PENDING
    return _judged(found, text(details, "cause") or "failed", provider_payment_id=payment)
