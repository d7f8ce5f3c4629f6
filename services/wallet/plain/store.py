"""The SQL of plain items: one call of a definer function for each way, a transaction of its own."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from chassis.database import Database
from wallet.ledger.domain.batch import NewId
from wallet.ledger.domain.items import CaptureItem, DebitItem, HoldItem
from wallet.ledger.store import NULL, ROW, pairs_of
from wallet.plain.domain import Plain, Plan, Purse

_SPEND = "SELECT * FROM wallet.spend_plain($1, $2, $3)"
_CAPTURE = "SELECT * FROM wallet.capture_plain($1, $2, $3)"


class Done(NamedTuple):
    """A plain item that was done."""

    wallet_id: str
    number: int
    left: int
    instant: datetime


async def spend(
    database: Database, plan: Plan, new_id: NewId, now: datetime
) -> tuple[dict[int, Done], dict[int, str]]:
    """Post debits and place holds, those whose customers are plain; answers what was done by place
    in the plan, and the ids that holds were given."""
    hold_ids: dict[int, str] = {}
    lines: list[str] = []
    for place, (item, purse) in enumerate(plan.items):
        line = _spending(item, purse)
        if isinstance(item, HoldItem):
            hold_ids[place] = hold_id = item.hold_id or str(new_id(item.now or now))
            meter, feature, product = item.purpose
            line += (
                f"\x1f{hold_id}\x1f{meter}\x1f{feature}\x1f{product}"
                f"\x1f{item.time_to_live.total_seconds()}"
            )
        lines.append(line)
    return await _run(database, _SPEND, plan, lines), hold_ids


async def capture(database: Database, plan: Plan) -> dict[int, Done]:
    """Capture holds, those whose customers are plain; answers what was done by place."""
    return await _run(database, _CAPTURE, plan, [_capturing(i, p) for i, p in plan.items])


async def _run(database: Database, statement: str, plan: Plan, lines: list[str]) -> dict[int, Done]:
    row = await database.money_statement(
        statement,
        pairs_of(plan.customers),
        ROW.join([_purse(purse) for purse in plan.purses.values()]),
        ROW.join(lines),
    )
    places = row["places"]
    if places is None:
        return {}
    columns = row["wallets"], row["numbers"], row["lefts"], row["instants"]
    return {
        place - 1: Done(wallet_id, number, int(left), instant)
        for place, wallet_id, number, left, instant in zip(places, *columns, strict=True)
    }


def _purse(purse: Purse) -> str:
    return f"{purse.customer_number}\x1f{purse.asset}\x1f{purse.atoms}\x1f{_time(purse.last_time)}"


def _spending(item: Plain, purse: Purse) -> str:
    assert isinstance(item, DebitItem | HoldItem)
    return (
        f"{purse.number}\x1f{purse.customer_number}\x1f{item.customer_id}\x1f{item.asset}"
        f"\x1f{item.scale}\x1f{item.kind:d}\x1f{item.request_id}\x1f{item.atoms}"
        f"\x1f{item.fingerprint.hex()}\x1f{item.reference}\x1f{_time(item.now)}"
    )


def _capturing(item: Plain, purse: Purse) -> str:
    assert isinstance(item, DebitItem | CaptureItem)
    return (
        f"{purse.number}\x1f{purse.customer_number}\x1f{item.asset}\x1f{item.scale}"
        f"\x1f{item.kind:d}\x1f{item.request_id}\x1f{item.atoms}\x1f{item.fingerprint.hex()}"
        f"\x1f{item.reference}\x1f{_time(item.now)}\x1f{item.hold_id}\x1f{item.final}"
    )


def _time(instant: datetime | None) -> str:
    return NULL if instant is None else instant.isoformat()
