"""What the sandbox's objects and errors mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gateway.domain.currency import from_provider_units
from gateway.domain.outcome import DeclineClass, Finding, NextAction, Outcome, classify
from gateway.providers.commands import Login
from gateway.providers.plan import Answer, Reply, read_failure
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount

_FINDINGS = {
    "authorized": Finding.AUTHORIZED,
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

_REFUND_FINDINGS = {
    "succeeded": Finding.SUCCEEDED,
    "processing": Finding.PENDING,
    "declined": Finding.DECLINED,
    "reversed": Finding.REVERSED,
}

# Something exists under this key or reference, or the payment is not where we thought: it is
# looked at, not given up.
_SOMETHING_EXISTS = frozenset(
    {"key_used_with_other_parameters", "reference_used", "state_conflict"}
)

# Refusals that say why: the request never took effect, and would not under this key later.
_REJECTIONS = frozenset(
    {
        "amount_invalid",
        "currency_invalid",
        "field_invalid",
        "key_missing",
        "malformed",
        "no_such_method",
        "no_such_payment",
        "reference_invalid",
        "refund_exceeds_captured",
    }
)


def read_refusal(reply: Reply) -> Outcome:
    """An answer that is no object: why the request had no effect, where it says so."""
    if not isinstance(reply, Answer):
        return read_failure(reply)
    fault = reply.json.get("error") if isinstance(reply.json, dict) else None
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


def read_payment(payment: Any, reference: str) -> Outcome:
    """A payment object; one that lacks a field, or belongs to another reference, says nothing."""
    if not isinstance(payment, dict) or payment.get("reference") != reference:
        return Outcome(Finding.SILENCE, detail="no payment of this reference in the answer")
    field = "captured" if payment.get("state") == "succeeded" else "amount"
    identifier, stated = payment.get("id"), _read_amount(payment, field)
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


def read_refund_object(refund: Any, reference: str) -> Outcome:
    """A refund object; one that lacks a field, or belongs to another reference, says nothing."""
    if not isinstance(refund, dict) or refund.get("reference") != reference:
        return Outcome(Finding.SILENCE, detail="no refund of this reference in the answer")
    identifier, stated = refund.get("id"), _read_amount(refund, "amount")
    finding = _REFUND_FINDINGS.get(str(refund.get("state")))
    if not isinstance(identifier, str) or not identifier or stated is None or finding is None:
        return Outcome(Finding.SILENCE, detail="a refund that is not as documented")
    return Outcome(
        finding,
        provider_payment_id=str(refund.get("payment", "")),
        provider_refund_id=identifier,
        stated=stated,
        decline_code=str(refund.get("failure_code") or ""),
    )


def _read_amount(content: Mapping[str, Any], field: str) -> Amount | None:
    # What was taken is told apart from what was asked for only where the two can differ.
    units, code = content.get(field, content.get("amount")), content.get("currency")
    stated = from_provider_units(units, code, MINOR_DIGITS.get(str(code), 0))
    return stated if stated is not None and stated.atoms > 0 and isinstance(units, int) else None


def switches(login: Login) -> dict[str, str]:
    off = parse_qs(urlsplit(login.endpoint).query).get("without", [])
    return {"without": ",".join(off)} if off else {}
