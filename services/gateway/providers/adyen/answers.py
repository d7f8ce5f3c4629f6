"""What Adyen's answers mean. HTTP 200 includes refusals; modifications only say `received`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.outcome import DeclineClass, Finding, NextAction, Outcome, classify
from gateway.providers.adyen.requests import amount_of
from gateway.providers.parsing import content_of, fields, identifier, text
from gateway.providers.plan import Answer, Reply, read_failure, rejected

IN_FLIGHT = "704"  # the same request is under way, or was made with other parameters

DECLINES: dict[str, DeclineClass] = {
    **dict.fromkeys(("2", "3", "12", "27", "28", "29"), DeclineClass.SOFT),
    **dict.fromkeys(("4", "9", "21"), DeclineClass.TECHNICAL),
    **dict.fromkeys(("6", "11", "24", "38", "42"), DeclineClass.ACTION_REQUIRED),
    **dict.fromkeys(("5", "7", "8", "10", "23", "25", "26", "46"), DeclineClass.HARD),
    **dict.fromkeys(("14", "20", "22", "31"), DeclineClass.FRAUD),
}

_RESULTS = {
    "Refused": Finding.DECLINED,
    "Error": Finding.DECLINED,
    "Cancelled": Finding.CANCELED,
    "Received": Finding.PENDING,
    "Pending": Finding.PENDING,
    "RedirectShopper": Finding.NEEDS_ACTION,
    "IdentifyShopper": Finding.NEEDS_ACTION,
    "ChallengeShopper": Finding.NEEDS_ACTION,
    "PresentToShopper": Finding.NEEDS_ACTION,
}
PARTIALLY = "PartiallyAuthorised"


def read_payment_answer(reply: Reply, reference: str, *, capture_later: bool) -> Outcome:
    """The answer to a payment request."""
    if not isinstance(reply, Answer):
        return read_failure(reply)
    if reply.status != 200:
        return read_error(reply)
    return read_result(content_of(reply), reference, capture_later=capture_later)


def read_result(content: Mapping[str, Any], reference: str, *, capture_later: bool) -> Outcome:
    """A payment's result; one of another reference says nothing."""
    result, psp = text(content, "resultCode"), identifier(content, "pspReference")
    if text(content, "merchantReference") not in ("", reference):
        return Outcome(Finding.SILENCE, detail="a payment of another reference")
    if result == "Authorised":
        finding: Finding | None = Finding.AUTHORIZED if capture_later else Finding.SUCCEEDED
    else:
        finding = _RESULTS.get(result)
    named = bool(psp) or finding is Finding.NEEDS_ACTION  # a redirect may come before the payment
    if finding is None or not named:
        return Outcome(Finding.SILENCE, provider_payment_id=psp, detail=f"result {result}")
    declined = finding is Finding.DECLINED
    code = text(content, "refusalReasonCode") if declined else ""
    meaning = classify(code, DECLINES) if declined else None
    if result == "Error":
        meaning = DeclineClass.TECHNICAL
    url = text(fields(content.get("action")), "url")
    return Outcome(
        finding,
        provider_payment_id=psp,
        stated=amount_of(content),
        decline_code=code or ("error" if result == "Error" else "refused" if declined else ""),
        decline_class=meaning,
        action=NextAction(url) if url and finding is Finding.NEEDS_ACTION else None,
        detail=text(content, "refusalReason"),
    )


def read_received(reply: Reply, refund: bool = False) -> Outcome:
    """A capture, cancellation or refund that was taken on; what comes of it is notified."""
    if not isinstance(reply, Answer):
        return read_failure(reply)
    content = content_of(reply)
    if reply.status not in (200, 201):
        return read_error(reply)
    psp = identifier(content, "pspReference")
    if text(content, "status") != "received" or not psp:
        return Outcome(Finding.SILENCE, detail="not as documented")
    return Outcome(
        Finding.PENDING,
        provider_payment_id=identifier(content, "paymentPspReference"),
        provider_refund_id=psp if refund else "",
    )


def read_error(reply: Answer) -> Outcome:
    """An error: stated where Adyen says why the request had no effect."""
    code = text(content_of(reply), "errorCode")
    passing = reply.headers.get("transient-error", "").lower() == "true"
    if passing or code == IN_FLIGHT:
        return Outcome(Finding.SILENCE, detail=f"error {code}, which passes")
    if reply.status in (400, 404, 422) and code:
        return rejected(code, text(content_of(reply), "message"))
    return read_failure(reply)
