"""The ledger's SQL: a money batch is two calls of definer functions in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from chassis.database import Connection, Database
from wallet.ledger.domain.batch import Bundle
from wallet.ledger.domain.books import Balance, Books, Hold
from wallet.ledger.domain.items import (
    CaptureItem,
    DebitItem,
    ExpireHoldItem,
    GrantItem,
    HoldItem,
    TouchItem,
    VoidItem,
)
from wallet.ledger.domain.outcomes import encode, lists_of
from wallet.ledger.domain.reading import GRANTS_READ, Page, Wanted

OPEN_ARGUMENTS = 12
RECORD_ARGUMENTS = 90
SIGNAL_ARGUMENTS = 14

Columns: TypeAlias = list[list[Any]]


class Place(NamedTuple):
    """Where a hold belongs: what items that name it alone are routed and read by."""

    customer_id: str
    asset: str
    scale: int


def _call(function: str, arguments: int) -> str:
    return f"{function}({', '.join(f'${number}' for number in range(1, arguments + 1))})"


_OPEN = "SELECT * FROM " + _call("wallet.open_batch", OPEN_ARGUMENTS)
_RECORD = "SELECT " + _call("wallet.record_batch", RECORD_ARGUMENTS)
_SIGNAL = "SELECT " + _call("wallet.record_signals", SIGNAL_ARGUMENTS)


def wanted_of(bundles: Sequence[Bundle]) -> Wanted:
    """What the items of a batch touch."""
    wanted = Wanted()
    for bundle in bundles:
        for item in bundle:
            tenant = item.tenant_id
            if item.now is not None:
                known = wanted.clocks.get(tenant)
                wanted.clocks[tenant] = item.now if known is None else max(known, item.now)
            if item.asset:
                wanted.assets.add(item.asset)
            match item:
                case DebitItem() | HoldItem():
                    wanted.customers.add((tenant, item.customer_id))
                    if item.hold_id:
                        wanted.holds.add((tenant, item.hold_id))
                case CaptureItem() | VoidItem() | ExpireHoldItem():
                    wanted.holds.add((tenant, item.hold_id))
                    if item.customer_id:
                        wanted.customers.add((tenant, item.customer_id))
                case GrantItem() | TouchItem():
                    wanted.wallets.add((tenant, item.wallet_id))
            if not isinstance(item, TouchItem | ExpireHoldItem):
                wanted.keys.add((tenant, item.request_id))
    return wanted


async def open_batch(tx: Connection, wanted: Wanted) -> Page:
    """Lock the wallets of a batch in key order, then read what its items touch."""
    row = await tx.fetchrow(
        _OPEN,
        *_pairs(wanted.customers),
        *_pairs(wanted.wallets),
        *_pairs(wanted.holds),
        *_pairs(wanted.keys),
        list(wanted.assets),
        list(wanted.clocks),
        list(wanted.clocks.values()),
        GRANTS_READ,
    )
    return Page(wanted, row)


async def load_grants(tx: Connection, page: Page, balances: Iterable[Balance]) -> None:
    """Read all open grants of some balances of a batch that is under way."""
    keys = {(b.wallet.tenant_id, b.wallet_id, b.asset) for b in balances} - page.whole
    rows = await tx.fetch(
        "SELECT * FROM wallet.list_open_grants($1, $2, $3)",
        [tenant for tenant, _, _ in keys],
        [wallet for _, wallet, _ in keys],
        [asset for _, _, asset in keys],
    )
    page.whole |= keys
    page.grants.extend(tuple(row) for row in rows)


async def record_batch(tx: Connection, books: Books) -> None:
    """Write everything that a batch changed, with the answers its keys were given."""
    await tx.fetchval(
        _RECORD,
        *_balances(books),
        *_changed_grants(books),
        *_new_grants(books),
        *_changed_holds(books),
        *_new_holds(books),
        *_transposed(books.transfers, 12),
        *_operations(books),
    )


async def record_signals(tx: Connection, books: Books) -> None:
    """Write the recharges that a batch started and the alerts that it fired or armed."""
    starts = [
        (
            start.balance.wallet.tenant_id,
            start.balance.wallet_id,
            start.balance.asset,
            start.recharge_id,
            start.balance.wallet.customer_id,
            start.generation,
            str(start.atoms),
            start.month,
            str(start.month_bought),
            start.time,
        )
        for start in books.recharges
    ]
    # An alert may go off and on again in one batch; what it is in the end is written once.
    looked = {id(b): b for b in [*(b for b, _ in books.alerts), *books.rearmed]}
    alerts = [
        (b.wallet.tenant_id, b.wallet_id, b.asset, b.alert.armed)
        for b in looked.values()
        if b.alert is not None
    ]
    await tx.fetchval(_SIGNAL, *_transposed(starts, 10), *_transposed(alerts, 4))


def _balances(books: Books) -> Columns:
    return _transposed(
        [
            (
                wallet.tenant_id,
                wallet.wallet_id,
                b.asset,
                str(b.credited),
                str(b.debited),
                str(b.held),
                str(b.overdrawn),
                str(b.held_unbacked),
                str(b.dormant),
                str(b.forced),
                b.restricted_grants,
                b.next_change,
                b.sequence,
                b.change_time or books.clock,
                b.sequence_before,
            )
            for wallet in books.wallets.values()
            for b in wallet.balances.values()
            if b.dirty
        ],
        15,
    )


def _changed_grants(books: Books) -> Columns:
    return _transposed(
        [
            (
                wallet.tenant_id,
                wallet.wallet_id,
                grant.grant_id,
                str(grant.remaining),
                str(grant.held),
                grant.dormant,
            )
            for wallet, grant in books.changed_grants.values()
        ],
        6,
    )


def _new_grants(books: Books) -> Columns:
    return _transposed(
        [
            (
                balance.wallet.tenant_id,
                balance.wallet_id,
                grant.grant_id,
                balance.asset,
                grant.kind,
                str(grant.amount),
                str(grant.remaining),
                str(grant.held),
                grant.priority,
                grant.breadth,
                lists_of(grant.restrictions),
                grant.effective_time,
                grant.expire_time,
                str(grant.cost_basis),
                grant.cost_asset,
                grant.source,
                grant.request_id,
                grant.create_time,
                grant.dormant,
            )
            for balance, grant in books.new_grants
        ],
        19,
    )


def _changed_holds(books: Books) -> Columns:
    return _transposed(
        [
            (
                hold.tenant_id,
                hold.hold_id,
                str(hold.captured),
                int(hold.state),
                hold.end_time,
                *_pins(hold),
            )
            for hold in books.changed_holds.values()
            if not hold.is_new
        ],
        8,
    )


def _new_holds(books: Books) -> Columns:
    return _transposed(
        [
            (
                hold.tenant_id,
                hold.hold_id,
                hold.customer_id,
                hold.wallet_id,
                hold.asset,
                str(hold.atoms),
                str(hold.captured),
                int(hold.state),
                *hold.purpose,
                hold.reference,
                hold.request_id,
                hold.create_time,
                hold.expire_time,
                hold.end_time,
                _literal([wallet_id for wallet_id, _, _ in hold.shares]),
                _literal([str(atoms) for _, atoms, _ in hold.shares]),
                _literal([str(number) for _, _, number in hold.shares]),
                *_pins(hold),
            )
            for hold in books.changed_holds.values()
            if hold.is_new
        ],
        22,
    )


def _operations(books: Books) -> Columns:
    return _transposed(
        [(*before, encode(outcome), time) for *before, outcome, time in books.operations], 8
    )


def _pins(hold: Hold) -> tuple[str, str, str]:
    return (
        _literal([wallet_id for wallet_id, _, _ in hold.pins]),
        _literal([grant_id or "NULL" for _, grant_id, _ in hold.pins]),
        _literal([str(atoms) for _, _, atoms in hold.pins]),
    )


def _literal(values: Sequence[str]) -> str:
    """A Postgres array of ids or numbers, which need no quotes: rows of a batch differ in length,
    and an array of arrays may not."""
    return "{" + ",".join(values) + "}"


def _transposed(rows: Sequence[Sequence[Any]], width: int) -> Columns:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * width


def _pairs(pairs: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    first, second = [], []
    for one, other in pairs:
        first.append(one)
        second.append(other)
    return first, second


async def find_customers(
    database: Database, tenant_id: str, wallet_ids: Sequence[str]
) -> dict[str, str]:
    """Whose wallets these are."""
    async with database.transaction(UUID(tenant_id)) as tx:
        rows = await tx.fetch(
            "SELECT wallet_id::text, customer_id FROM wallets"
            " WHERE tenant_id = $1 AND wallet_id = ANY ($2)",
            UUID(tenant_id),
            [UUID(wallet_id) for wallet_id in wallet_ids],
        )
    return {row["wallet_id"]: row["customer_id"] for row in rows}


async def find_places(
    database: Database, tenant_id: str, hold_ids: Sequence[str]
) -> dict[str, Place]:
    """Where holds belong. Tombstones belong nowhere and are left out."""
    async with database.transaction(UUID(tenant_id)) as tx:
        rows = await tx.fetch(
            "SELECT h.hold_id::text, h.customer_id, h.asset, a.scale FROM holds AS h"
            " JOIN assets AS a ON a.tenant_id = h.tenant_id AND a.code = h.asset"
            " WHERE h.tenant_id = $1 AND h.hold_id = ANY ($2)",
            UUID(tenant_id),
            [UUID(hold_id) for hold_id in hold_ids],
        )
    return {row["hold_id"]: Place(row["customer_id"], row["asset"], row["scale"]) for row in rows}


class Due(NamedTuple):
    """What time has overtaken: (tenant, wallet, asset), and (tenant, hold, customer, asset)."""

    balances: list[tuple[str, str, str]]
    holds: list[tuple[str, str, str, str]]


async def list_due(
    connection: Connection,
    tenant_id: str | None,
    but: list[str] | None,
    now: datetime | None,
    count: int,
) -> Due:
    """Ids alone, oldest first; of one tenant, or of all but some, at a time or by the database."""
    balances = await connection.fetch(
        "SELECT tenant_id, wallet_id, asset"
        " FROM list_due_balances($1, $2, coalesce($3, clock_timestamp()), $4)",
        tenant_id,
        but,
        now,
        count,
    )
    holds = await connection.fetch(
        "SELECT tenant_id, hold_id, customer_id, asset"
        " FROM list_due_holds($1, $2, coalesce($3, clock_timestamp()), $4)",
        tenant_id,
        but,
        now,
        count,
    )
    return Due([(r[0], r[1], r[2]) for r in balances], [(r[0], r[1], r[2], r[3]) for r in holds])


async def list_tenants(connection: Connection, after: str | None, count: int) -> list[str]:
    """Tenants that have assets, by id, those after one."""
    rows = await connection.fetch("SELECT list_tenants($1, $2)", after, count)
    return [row[0] for row in rows]


async def extend_journal(connection: Connection, days_ahead: int) -> int:
    """Make the journal's days that are missing; answers how many those were."""
    made: int = await connection.fetchval("SELECT extend_journal($1)", days_ahead)
    return made
