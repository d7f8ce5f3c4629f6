"""The ledger's SQL: a money batch is two calls of definer functions in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from chassis.database import Connection, Database
from wallet.budgets.domain.counting import Spending
from wallet.ledger.domain.batch import Bundle
from wallet.ledger.domain.books import Balance, Books, Hold
from wallet.ledger.domain.items import (
    CaptureItem,
    ConvertItem,
    DebitItem,
    ExpireHoldItem,
    GrantItem,
    HoldItem,
    IncreaseItem,
    ReverseItem,
    TouchItem,
    VoidItem,
    WalletItem,
)
from wallet.ledger.domain.outcomes import encode, lists_of
from wallet.ledger.domain.reading import GRANTS_READ, Page, Wanted
from wallet.ledger.domain.values import NEVER

# Rows of a set cross as one text. None of these can be in it: ids, keys and references are
# printable, and JSON escapes what is not.
ROW, FIELD, NULL = "\x1e", "\x1f", "\x1d"

Columns: TypeAlias = list[list[Any]]


def _call(function: str, arguments: int) -> str:
    return f"{function}({', '.join(f'${number}' for number in range(1, arguments + 1))})"


_OPEN = "SELECT * FROM " + _call("wallet.open_batch", 8)
_RECORD = "SELECT " + _call("wallet.record_batch", 10)
_SIGNAL = "SELECT " + _call("wallet.record_signals", 14)


class Place(NamedTuple):
    """Where a hold belongs: what items that name it alone are routed and read by."""

    customer_id: str
    asset: str
    scale: int


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
                    if item.node:
                        wanted.nodes.add((tenant, item.customer_id, item.node))
                case CaptureItem() | IncreaseItem() | VoidItem() | ExpireHoldItem():
                    wanted.holds.add((tenant, item.hold_id))
                    if item.customer_id:
                        wanted.customers.add((tenant, item.customer_id))
                case GrantItem() | TouchItem():
                    wanted.wallets.add((tenant, item.wallet_id))
                case WalletItem():
                    wanted.wallets.add((tenant, item.wallet_id))
                    wanted.adjustments.append(item)
                    if isinstance(item, ReverseItem) and item.original is not None:
                        _want_spending(wanted, tenant, item.original.spending)
                    if isinstance(item, ConvertItem):
                        wanted.assets.add(item.to_asset)
            if not isinstance(item, TouchItem | ExpireHoldItem):
                wanted.keys.add((tenant, item.request_id))
    return wanted


def _want_spending(wanted: Wanted, tenant: str, spending: Spending | None) -> None:
    """Caps are guarded by all wallets of their customer, not by the one that is given back to."""
    if spending is not None:
        wanted.customers.add((tenant, spending.customer_id))
        wanted.spent_nodes.update((tenant, spending.customer_id, node) for node in spending.path)


async def open_batch(tx: Connection, wanted: Wanted) -> Page:
    """Lock the wallets of a batch in key order, then read what its items touch."""
    row = await tx.fetchrow(
        _OPEN,
        pairs_of(wanted.customers),
        pairs_of(wanted.wallets),
        pairs_of(wanted.holds),
        pairs_of(wanted.keys),
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
    balances = [b for w in books.wallets.values() for b in w.balances.values() if b.dirty]
    holds = books.changed_holds.values()
    changed_holds = [hold for hold in holds if not hold.is_new]
    stamps = _Stamps()
    await tx.fetchval(
        _RECORD,
        _operations(books, stamps),
        _balances(books, balances, stamps),
        len(balances),
        _changed_grants(books),
        len(books.changed_grants),
        _new_grants(books, stamps),
        _changed_holds(changed_holds, stamps),
        len(changed_holds),
        _new_holds([hold for hold in holds if hold.is_new], stamps),
        _transfers(books, stamps),
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


class _Stamps(dict[datetime, str]):
    """Instants as Postgres reads them; a batch has few, each written many times."""

    def __missing__(self, instant: datetime) -> str:
        stamp = "infinity" if instant == NEVER else instant.isoformat()
        self[instant] = stamp
        return stamp


def _operations(books: Books, stamps: _Stamps) -> str:
    return ROW.join(
        [
            f"{tenant}\x1f{key}\x1f{kind}\x1f{customer}\x1f{reference}\x1f{fingerprint.hex()}\x1f"
            f"{encode(outcome)}\x1f{stamps[time]}"
            for tenant, key, kind, customer, reference, fingerprint, outcome, time in (
                books.operations
            )
        ]
    )


def _transfers(books: Books, stamps: _Stamps) -> str:
    return ROW.join(
        [
            f"{tenant}\x1f{wallet}\x1f{number}\x1f{kind}\x1f{asset}\x1f{atoms}\x1f{debit}\x1f{credit}"
            f"\x1f{key}\x1f{grants}\x1f{parts}\x1f{stamps[time]}"
            for (
                tenant,
                wallet,
                number,
                kind,
                asset,
                atoms,
                debit,
                credit,
                key,
                grants,
                parts,
                time,
            ) in books.transfers
        ]
    )


def _balances(books: Books, balances: Sequence[Balance], stamps: _Stamps) -> str:
    return ROW.join(
        [
            f"{b.wallet.tenant_id}\x1f{b.wallet.wallet_id}\x1f{b.asset}\x1f{b.credited}\x1f{b.debited}"
            f"\x1f{b.held}\x1f{b.overdrawn}\x1f{b.held_unbacked}\x1f{b.dormant}\x1f{b.forced}"
            f"\x1f{b.restricted_grants}\x1f{stamps[b.next_change]}\x1f{b.sequence}"
            f"\x1f{stamps[b.change_time or books.clock]}\x1f{b.sequence_before}"
            for b in balances
        ]
    )


def _changed_grants(books: Books) -> str:
    return ROW.join(
        [
            f"{wallet.tenant_id}\x1f{wallet.wallet_id}\x1f{grant.grant_id}\x1f{grant.remaining}"
            f"\x1f{grant.held}\x1f{grant.dormant}"
            for wallet, grant in books.changed_grants.values()
        ]
    )


def _new_grants(books: Books, stamps: _Stamps) -> str:
    return ROW.join(
        [
            FIELD.join(
                [
                    balance.wallet.tenant_id,
                    balance.wallet_id,
                    grant.grant_id,
                    balance.asset,
                    str(grant.kind),
                    str(grant.amount),
                    str(grant.remaining),
                    str(grant.held),
                    str(grant.priority),
                    str(grant.breadth),
                    lists_of(grant.restrictions),
                    stamps[grant.effective_time],
                    stamps[grant.expire_time],
                    str(grant.cost_basis),
                    grant.cost_asset,
                    grant.source,
                    grant.request_id,
                    stamps[grant.create_time],
                    str(grant.dormant),
                ]
            )
            for balance, grant in books.new_grants
        ]
    )


def _changed_holds(holds: Sequence[Hold], stamps: _Stamps) -> str:
    return ROW.join(
        [
            f"{hold.tenant_id}\x1f{hold.hold_id}\x1f{hold.captured}\x1f{int(hold.state)}"
            f"\x1f{_end(hold, stamps)}\x1f{_pins(hold)}"
            for hold in holds
        ]
    )


def _new_holds(holds: Sequence[Hold], stamps: _Stamps) -> str:
    return ROW.join(
        [
            FIELD.join(
                [
                    hold.tenant_id,
                    hold.hold_id,
                    hold.customer_id,
                    hold.wallet_id or NULL,
                    hold.asset,
                    str(hold.atoms),
                    str(hold.captured),
                    str(int(hold.state)),
                    *hold.purpose,
                    hold.reference,
                    hold.request_id,
                    stamps[hold.create_time],
                    stamps[hold.expire_time],
                    _end(hold, stamps),
                    _literal([wallet_id for wallet_id, _, _ in hold.shares]),
                    _literal([str(atoms) for _, atoms, _ in hold.shares]),
                    _literal([str(number) for _, _, number in hold.shares]),
                    _pins(hold),
                ]
            )
            for hold in holds
        ]
    )


def _end(hold: Hold, stamps: _Stamps) -> str:
    return NULL if hold.end_time is None else stamps[hold.end_time]


def _pins(hold: Hold) -> str:
    """Three fields."""
    wallets = _literal([wallet_id for wallet_id, _, _ in hold.pins])
    grants = _literal([grant_id or "NULL" for _, grant_id, _ in hold.pins])
    return f"{wallets}\x1f{grants}\x1f{_literal([str(atoms) for _, _, atoms in hold.pins])}"


def _literal(values: Sequence[str]) -> str:
    """A Postgres array of ids or numbers, which need no quotes."""
    return "{" + ",".join(values) + "}"


def _transposed(rows: Sequence[Sequence[Any]], width: int) -> Columns:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * width


def pairs_of(pairs: Iterable[tuple[str, str]]) -> str:
    """Pairs of ids as one text."""
    return ROW.join([f"{first}\x1f{second}" for first, second in pairs])


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


async def archive_oldest_day(connection: Connection, keep_days: int) -> str | None:
    """Archive the journal's oldest day where it is old enough; answers the archived table."""
    archived: str | None = await connection.fetchval("SELECT archive_oldest_day($1)", keep_days)
    return archived


async def extend_journal(connection: Connection, days_ahead: int) -> int:
    """Make the journal's days that are missing; answers how many those were."""
    made: int = await connection.fetchval("SELECT extend_journal($1)", days_ahead)
    return made
