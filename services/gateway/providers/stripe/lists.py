"""What happened at Stripe, and what its payouts are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.providers.commands import Changes, LineKind, Login, PayoutLine, PayoutLines, Since
from gateway.providers.parsing import content_of, fields, identifier, moment, rows, text
from gateway.providers.plan import Answer, Asked, ask, read_failure
from gateway.providers.stripe.answers import read_event
from gateway.providers.stripe.requests import ATTEMPT, PAGE_SIZE, get, signed_amount

_KINDS = {
    "charge": LineKind.CHARGE,
    "payment": LineKind.CHARGE,
    "refund": LineKind.REFUND,
    "payment_refund": LineKind.REFUND,
    "refund_failure": LineKind.REFUND,
    "payment_failure_refund": LineKind.REFUND,
    "stripe_fee": LineKind.FEE,
    "application_fee": LineKind.FEE,
    "reserve_transaction": LineKind.RESERVE,
    "reserved_funds": LineKind.RESERVE,
}
# The payout itself is what the lines explain.
_PAYOUTS = frozenset({"payout", "payout_cancel", "payout_failure"})


def list_changes(since: Since, login: Login) -> Asked[Changes]:
    """A page of events, newest first; Stripe keeps them for 30 days."""
    query = {
        "created[gte]": str(int(since.time.timestamp())),
        "limit": str(PAGE_SIZE),
        "starting_after": since.page_token,
    }
    reply = yield from ask(get("/v1/events", query))
    content = content_of(reply)
    listed = rows(content, "data")
    if not isinstance(reply, Answer) or reply.status != 200 or listed is None:
        return read_failure(reply)
    items = tuple(item for each in listed if (item := read_event(each)) is not None)
    return Changes(items, _next(content, listed))


def list_payout_lines(since: Since, login: Login) -> Asked[PayoutLines]:
    """A page of balance transactions, of one payout or of all."""
    query = {
        "payout": since.provider_payout_id,
        "limit": str(PAGE_SIZE),
        "starting_after": since.page_token,
        "expand[0]": "data.source",
    }
    if not since.provider_payout_id:
        query["created[gte]"] = str(int(since.time.timestamp()))
    reply = yield from ask(get("/v1/balance_transactions", query))
    content = content_of(reply)
    listed = rows(content, "data")
    if not isinstance(reply, Answer) or reply.status != 200 or listed is None:
        return read_failure(reply)
    lines = (_line(each, since.provider_payout_id) for each in listed)
    return PayoutLines(tuple(each for each in lines if each is not None), _next(content, listed))


def _line(row: Mapping[str, Any], payout_id: str) -> PayoutLine | None:
    kind = text(row, "type")
    gross, fee, net = (signed_amount(row, name) for name in ("amount", "fee", "net"))
    if kind in _PAYOUTS or gross is None or fee is None or net is None:
        return None
    disputed = "dispute" in text(row, "reporting_category")
    other = LineKind.DISPUTE if disputed else LineKind.ADJUSTMENT
    source = fields(row.get("source"))
    is_refund = text(source, "object") == "refund"
    rate = row.get("exchange_rate")
    return PayoutLine(
        id=identifier(row),
        provider_payout_id=payout_id,
        kind=_KINDS.get(kind, other),
        gross=gross,
        fee=fee,
        net=net,
        provider_payment_id=text(source, "payment_intent"),
        provider_refund_id=identifier(source) if is_refund else "",
        reference=text(fields(source.get("metadata")), ATTEMPT),
        exchange_rate=repr(rate) if isinstance(rate, float) else "",
        time=moment(row, "created"),
    )


def _next(content: Mapping[str, Any], listed: list[Mapping[str, Any]]) -> str:
    return text(listed[-1], "id") if listed and content.get("has_more") is True else ""
