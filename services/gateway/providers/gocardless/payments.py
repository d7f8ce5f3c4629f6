"""Collecting by mandate, canceling, refunding, and finding out what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gateway.domain.outcome import Finding, Outcome, classify
from gateway.providers.commands import Cancel, Charge, Login, Look, LookRefund, Refund
from gateway.providers.gocardless.answers import (
    DECLINES,
    read_error,
    read_payment,
    read_payment_answer,
)
from gateway.providers.gocardless.answers import read_refund as read_refund_object
from gateway.providers.gocardless.requests import (
    ATTEMPT,
    PAGE_SIZE,
    REFUND,
    act,
    create,
    get,
    units,
)
from gateway.providers.parsing import content_of, fields, rows, text
from gateway.providers.plan import CHARGE_SECONDS, Answer, Plan, Steps, ask, read_failure

SCAN_PAGES_MAX = 10  # of a mandate's payments, newest first; beyond that, absence is not claimed


def charge(command: Charge, login: Login) -> Plan:
    """Collect at the next day that the bank allows. GoCardless's own retries are never used."""
    body = {
        "amount": units(command.amount),
        "currency": command.amount.asset.code,
        "links": {"mandate": command.provider_token},
        "retry_if_possible": False,
        "metadata": {ATTEMPT: command.reference},
        **({"description": command.description} if command.description else {}),
    }
    reply = yield from create("payments", body, command.key, CHARGE_SECONDS)
    return read_payment_answer(reply, command.reference)


def cancel(command: Cancel, login: Login) -> Plan:
    """Call a payment off that was not submitted to the bank yet."""
    reply = yield from ask(act(f"/payments/{command.provider_payment_id}/actions/cancel"))
    return read_payment_answer(reply, command.reference)


def read(look: Look, login: Login) -> Plan:
    """Look at a payment; why one failed is told by its events alone."""
    reply = yield from ask(get(f"/payments/{look.provider_payment_id}"))
    outcome = read_payment_answer(reply, look.reference)
    if outcome.finding is Finding.DECLINED:
        outcome = yield from _with_cause(outcome)
    return outcome


def find(look: Look, login: Login) -> Plan:
    """List the mandate's payments and compare our reference. No time narrows the list: a clock
    that differs from GoCardless's would make a payment look absent."""
    if not look.provider_token:
        return Outcome(Finding.SILENCE, detail="whose payments to list is not known")
    outcome = yield from _scan(
        "payments",
        {"mandate": look.provider_token},
        lambda each: text(fields(each.get("metadata")), ATTEMPT) == look.reference,
        lambda each: read_payment(each, look.reference),
    )
    if outcome.finding is Finding.DECLINED:
        outcome = yield from _with_cause(outcome)
    return outcome


def _with_cause(outcome: Outcome) -> Steps[Outcome]:
    """The same failure with its cause, where that can be had. The failure stands without it."""
    query = {"payment": outcome.provider_payment_id, "action": "failed"}
    reply = yield from ask(get("/events", query))
    if not isinstance(reply, Answer) or reply.status != 200:
        return outcome
    for event in rows(content_of(reply), "events") or []:
        cause = text(fields(event.get("details")), "cause")
        if cause:
            return replace(outcome, decline_code=cause, decline_class=classify(cause, DECLINES))
    return outcome


def refund(command: Refund, login: Login) -> Plan:
    """Send money back; the total so far is stated, so that none is sent twice by mistake."""
    body = {
        "amount": units(command.amount),
        "total_amount_confirmation": units(command.refunded_before + command.amount),
        "links": {"payment": command.provider_payment_id},
        "metadata": {REFUND: command.reference},
    }
    reply = yield from create("refunds", body, command.key, CHARGE_SECONDS)
    if isinstance(reply, Answer) and reply.status in (200, 201):
        return read_refund_object(fields(content_of(reply).get("refunds")), command.reference)
    return read_error(reply)


def read_refund(look: LookRefund, login: Login) -> Plan:
    """Look at a refund by its id."""
    reply = yield from ask(get(f"/refunds/{look.provider_refund_id}"))
    if not isinstance(reply, Answer) or reply.status != 200:
        return read_failure(reply)
    return read_refund_object(fields(content_of(reply).get("refunds")), look.reference)


def find_refund(look: LookRefund, login: Login) -> Plan:
    """List the payment's refunds and compare our reference."""
    outcome = yield from _scan(
        "refunds",
        {"payment": look.provider_payment_id},
        lambda each: text(fields(each.get("metadata")), REFUND) == look.reference,
        lambda each: read_refund_object(each, look.reference),
    )
    return outcome


def _scan(
    resource: str,
    query: Mapping[str, str],
    is_ours: Callable[[Mapping[str, Any]], bool],
    read_one: Callable[[Mapping[str, Any]], Outcome],
) -> Plan:
    """Page through a list; ABSENT only where it was seen whole."""
    after = ""
    for _ in range(SCAN_PAGES_MAX):
        page = {**query, "limit": str(PAGE_SIZE), "after": after}
        reply = yield from ask(get(f"/{resource}", page))
        if not isinstance(reply, Answer) or reply.status != 200:
            return read_failure(reply)
        content = content_of(reply)
        listed = rows(content, resource)
        cursors = fields(fields(content.get("meta")).get("cursors"))
        if listed is None or "after" not in cursors:
            return Outcome(Finding.SILENCE, detail="not a list")
        ours = [each for each in listed if is_ours(each)]
        if ours:
            return read_one(ours[0])
        after = text(cursors, "after")
        if not after:
            return Outcome(Finding.ABSENT)
    return Outcome(Finding.SILENCE, detail="not found among the newest, and there are more")
