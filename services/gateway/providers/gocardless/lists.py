"""What happened at GoCardless, and what its payouts are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.providers.commands import Changes, LineKind, Login, PayoutLine, PayoutLines, Since
from gateway.providers.gocardless.answers import read_error, read_event
from gateway.providers.gocardless.requests import PAGE_SIZE, get
from gateway.providers.parsing import content_of, fields, identifier, moment, rows, text
from gateway.providers.plan import Answer, Asked, ask
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount, Asset

PAYOUTS_A_PAGE = 10  # each takes a call of its own for its lines

_KINDS = {
    "payment_paid_out": LineKind.CHARGE,
    "payment_refunded": LineKind.REFUND,
    "refund": LineKind.REFUND,
    "refund_funds_returned": LineKind.REFUND,
    "payment_charged_back": LineKind.DISPUTE,
    "gocardless_fee": LineKind.FEE,
    "app_fee": LineKind.FEE,
    "surcharge_fee": LineKind.FEE,
    "revenue_share": LineKind.FEE,
}
_TENTHS = re.compile(r"(-?)([0-9]{1,15})(?:\.([0-9])0{0,3})?")


def list_changes(since: Since, login: Login) -> Asked[Changes]:
    """A page of events, newest first."""
    query = {
        "created_at[gte]": since.time.isoformat(),
        "limit": str(PAGE_SIZE),
        "after": since.page_token,
    }
    reply = yield from ask(get("/events", query))
    content = content_of(reply)
    listed = rows(content, "events")
    if not isinstance(reply, Answer) or reply.status != 200 or listed is None:
        return read_error(reply)
    items = tuple(item for each in listed if (item := read_event(each)) is not None)
    return Changes(items, _after(content))


def list_payout_lines(since: Since, login: Login) -> Asked[PayoutLines]:
    """The lines of one payout, page by page, or of all since a time, payout by payout."""
    if since.provider_payout_id:
        reply = yield from ask(get(f"/payouts/{since.provider_payout_id}"))
        payouts = [fields(content_of(reply).get("payouts"))]
    else:
        query = {
            "created_at[gte]": since.time.isoformat(),
            "limit": str(PAYOUTS_A_PAGE),
            "after": since.page_token,
        }
        reply = yield from ask(get("/payouts", query))
        payouts = list(rows(content_of(reply), "payouts") or [])
    if not isinstance(reply, Answer) or reply.status != 200:
        return read_error(reply)
    next_page = "" if since.provider_payout_id else _after(content_of(reply))
    lines: list[PayoutLine] = []
    for payout in payouts:
        after, position = "", 0
        while True:
            query = {"payout": identifier(payout), "limit": str(PAGE_SIZE), "after": after}
            reply = yield from ask(get("/payout_items", query))
            listed = rows(content_of(reply), "payout_items")
            if not isinstance(reply, Answer) or reply.status != 200 or listed is None:
                return read_error(reply)
            for row in listed:
                line = _line(row, payout, position)
                position += 1
                if line is not None:
                    lines.append(line)
            after = _after(content_of(reply))
            if not after or not listed:
                break
    return PayoutLines(tuple(lines), next_page)


def _line(row: Mapping[str, Any], payout: Mapping[str, Any], position: int) -> PayoutLine | None:
    amount = _signed(text(row, "amount"), text(payout, "currency"))
    payout_id, links = identifier(payout), fields(row.get("links"))
    if amount is None or not payout_id:
        return None
    kind = text(row, "type")
    return PayoutLine(
        # Lines have no ids of their own; their place in the payout is fixed.
        id=f"{payout_id}:{position}",
        provider_payout_id=payout_id,
        kind=_KINDS.get(kind, LineKind.ADJUSTMENT),
        gross=amount,
        fee=Amount(amount.asset, 0),
        net=amount,
        provider_payment_id=identifier(links, "payment"),
        provider_refund_id=identifier(links, "refund"),
        time=moment(payout, "created_at"),
    )


def _signed(stated: str, code: str) -> Amount | None:
    """Minor units to one decimal place, such as "-45.5": fees are kept finer than can be paid."""
    found, digits = _TENTHS.fullmatch(stated), MINOR_DIGITS.get(code)
    if found is None or digits is None:
        return None
    size = Amount(Asset(code, digits + 1), int(found[2]) * 10 + int(found[3] or "0"))
    return -size if found[1] else size


def _after(content: Mapping[str, Any]) -> str:
    return text(fields(fields(content.get("meta")).get("cursors")), "after")
