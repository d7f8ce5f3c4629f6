"""Paddle's refunds: adjustments that Paddle approves, ours by the reference in their reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import Login, LookRefund, Refund
from gateway.providers.paddle.answers import (
    entity,
    read_adjustment,
    read_refusal,
    refund_reason,
    refund_reference,
)
from gateway.providers.paddle.requests import get, is_good, send, units
from gateway.providers.parsing import (
    content_of,
    fields,
    identifier,
    rows,
    strongest,
    unclear,
    whole,
)
from gateway.providers.plan import Call, Plan, Reply, ask, rejected

PAGE = 50  # the most that one list of adjustments answers


def refund(command: Refund, login: Login) -> Plan:
    """Send money back. There are no keys, so it is first looked for."""
    reply = yield from ask(_adjustments(command.provider_payment_id))
    adjustments = _all(reply)
    if adjustments is None:
        return _not_yet(reply)
    found = _ours(adjustments, command.reference)
    if found.finding is not Finding.ABSENT:
        return found
    body: dict[str, Any] = {
        "action": "refund",
        "transaction_id": command.provider_payment_id,
        "reason": refund_reason(command.reason, command.reference),
    }
    if command.amount == command.captured and not command.refunded_before.atoms:
        body["type"] = "full"
    else:
        reply = yield from ask(get(f"/transactions/{command.provider_payment_id}"))
        if not is_good(reply):
            return _not_yet(reply)
        items = _partial_items(entity(reply), adjustments, units(command.amount))
        if items is None:
            return rejected("refund_exceeds_lines")
        body |= {"type": "partial", "items": items}
    reply = yield from ask(send("POST", "/adjustments", body))
    if not is_good(reply):
        return read_refusal(reply)
    return read_adjustment(entity(reply), command.reference)


def read_refund(look: LookRefund, login: Login) -> Plan:
    """Look at a refund by its id."""
    reply = yield from ask(get("/adjustments", {"id": look.provider_refund_id}))
    listed = rows(content_of(reply), "data") if is_good(reply) else None
    if listed is None:
        return unclear(reply)
    known = [each for each in listed if each.get("id") == look.provider_refund_id]
    if not known:
        return Outcome(Finding.SILENCE, detail="no refund of that id in the answer")
    return read_adjustment(known[0], look.reference, known_id=look.provider_refund_id)


def find_refund(look: LookRefund, login: Login) -> Plan:
    """Look for a refund among the adjustments of its transaction."""
    reply = yield from ask(_adjustments(look.provider_payment_id))
    adjustments = _all(reply)
    return unclear(reply) if adjustments is None else _ours(adjustments, look.reference)


def _adjustments(transaction_id: str) -> Call:
    return get("/adjustments", {"transaction_id": transaction_id, "per_page": str(PAGE)})


def _all(reply: Reply) -> list[Mapping[str, Any]] | None:
    """All adjustments of a transaction; None where the answer does not show that it has all."""
    listed = rows(content_of(reply), "data") if is_good(reply) else None
    pagination = fields(fields(content_of(reply).get("meta")).get("pagination"))
    return listed if pagination.get("has_more") is False else None


def _ours(adjustments: Sequence[Mapping[str, Any]], reference: str) -> Outcome:
    ours = [each for each in adjustments if refund_reference(each) == reference]
    return strongest(read_adjustment(each, reference) for each in ours)


def _not_yet(reply: Reply) -> Outcome:
    """A look failed before anything with an effect was asked for."""
    return unclear(reply) if is_good(reply) else read_refusal(reply)


def _partial_items(
    transaction: Mapping[str, Any], adjustments: Sequence[Mapping[str, Any]], wanted: int
) -> list[dict[str, str]] | None:
    """What to send back of which line; None where the lines do not hold as much any more."""
    lines = rows(fields(transaction.get("details")), "line_items") or []
    taken: dict[str, int] = {}
    for adjustment in adjustments:
        if adjustment.get("status") in ("rejected", "reversed"):
            continue
        for item in rows(adjustment, "items") or []:
            total = whole(fields(item.get("totals")), "total") or whole(item, "amount") or 0
            item_id = identifier(item, "item_id")
            taken[item_id] = taken.get(item_id, 0) + total
    items = []
    for line in lines:
        line_id = identifier(line)
        left = (whole(fields(line.get("totals")), "total") or 0) - taken.get(line_id, 0)
        part = min(wanted, left)
        if part > 0:
            items.append({"item_id": line_id, "type": "partial", "amount": str(part)})
            wanted -= part
    return items if not wanted else None
