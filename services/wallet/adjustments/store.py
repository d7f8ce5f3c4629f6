"""SQL of what few items of a batch need and leave, and looking at what is to be adjusted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from chassis.database import Connection
from wallet.budgets.domain.counting import Spending
from wallet.ledger.domain.books import Books, Grant, Wallet
from wallet.ledger.domain.details import Rollover
from wallet.ledger.domain.items import (
    ChangeExpiryItem,
    ConvertItem,
    CorrectItem,
    Original,
    ReverseItem,
    VoidGrantItem,
    WalletItem,
)
from wallet.ledger.domain.outcomes import Posted, decode
from wallet.ledger.domain.reading import Page, Row
from wallet.ledger.domain.values import NEVER, OperationKind, TransferKind
from wallet.ledger.store import FIELD, NULL, ROW

_BY_HAND = (
    int(OperationKind.VOID_GRANT),
    int(OperationKind.CORRECT),
    int(OperationKind.CONVERT),
)


async def open_details(tx: Connection, page: Page) -> None:
    """Read what the batch's adjustments need, after its locks are held."""
    items = page.wanted.adjustments
    grants = {key for item in items for key in _grants_of(item)}
    if grants:
        page.details.append(("grants", await _fetch(tx, "list_grant_details", _rows(grants))))
        tenants = sorted({tenant for tenant, _, _ in grants})
        page.details.append(("closed", await _fetch(tx, "list_closed_periods", tenants)))
    transfers = {
        (item.tenant_id, item.wallet_id, str(item.sequence))
        for item in items
        if isinstance(item, ReverseItem)
    }
    if transfers:
        page.details.append(("reversed", await _fetch(tx, "list_reversed", _rows(transfers))))
    pairs = {
        (
            item.tenant_id,
            item.asset,
            item.to_asset,
            NULL if item.now is None else item.now.isoformat(),
        )
        for item in items
        if isinstance(item, ConvertItem)
    }
    if pairs:
        page.details.append(("rates", await _fetch(tx, "list_rates", _rows(pairs))))


async def load_terms(tx: Connection, page: Page, wallets: Iterable[Wallet]) -> None:
    """Read what the grants of some wallets roll over, and the wallets' policies."""
    keys = {(wallet.tenant_id, wallet.wallet_id) for wallet in wallets} - page.terms_of
    page.terms += await _fetch(tx, "list_rollovers", _rows(keys))
    page.policies += await _fetch(tx, "list_policies", _rows(keys))
    page.terms_of |= keys


async def _fetch(tx: Connection, function: str, argument: object) -> list[Row]:
    rows = await tx.fetch(f"SELECT * FROM wallet.{function}($1)", argument)
    return [tuple(row) for row in rows]


async def record_details(tx: Connection, books: Books) -> None:
    """Write what a batch did beyond balances, grants, holds and transfers; usually nothing."""
    terms = [
        (balance.wallet, grant)
        for balance, grant in books.new_grants
        if grant.rollover is not None or grant.rolled_from
    ]
    details = books.details
    if not (terms or books.voided_grants or books.moved_expiries or details.adjustments):
        return
    await tx.fetchval(
        "SELECT wallet.record_details($1, $2, $3, $4, $5, $6)",
        _rows(
            [
                (*_key(wallet, grant), *_rollover(grant.rollover), grant.rolled_from or NULL)
                for wallet, grant in terms
            ]
        ),
        _rows(
            [
                (*_key(wallet, grant), _stamp(grant.void_time))
                for wallet, grant in books.voided_grants
            ]
        ),
        _rows(
            [
                (*_key(wallet, grant), _stamp(grant.expire_time))
                for wallet, grant in books.moved_expiries.values()
            ]
        ),
        len(books.moved_expiries),
        _rows(
            [
                (tenant, wallet_id, str(number), key, str(atoms), _stamp(time))
                for tenant, wallet_id, number, key, atoms, time in details.reversals
            ]
        ),
        _rows(
            [
                (tenant, key, str(kind), wallet_id, reason, approver, caller, _stamp(time))
                for tenant, key, kind, wallet_id, reason, approver, caller, time in (
                    details.adjustments
                )
            ]
        ),
    )


class Found(NamedTuple):
    """A transfer that is to be reversed, with its asset."""

    asset: str
    scale: int
    original: Original


async def find_transfer(
    tx: Connection, tenant_id: UUID, wallet_id: str, sequence: int
) -> Found | None:
    """A transfer of the journal; it never changes."""
    row = await tx.fetchrow(
        "SELECT t.kind, t.asset, a.scale, t.atoms::text, t.grant_ids::text[],"
        " t.grant_atoms::text[], o.kind AS operation, e.customer_id AS spender, e.path, e.meter,"
        " e.count_time FROM transfers AS t"
        " JOIN assets AS a ON a.tenant_id = t.tenant_id AND a.code = t.asset"
        " LEFT JOIN operations AS o"
        " ON o.tenant_id = t.tenant_id AND o.request_id = t.request_id AND t.request_id <> ''"
        " LEFT JOIN budget_entries AS e"
        " ON e.tenant_id = t.tenant_id AND e.request_id = t.request_id AND t.request_id <> ''"
        " WHERE t.tenant_id = $1 AND t.wallet_id = $2 AND t.sequence = $3",
        tenant_id,
        UUID(wallet_id),
        sequence,
    )
    if row is None:
        return None
    split = tuple(
        (grant_id, int(atoms))
        for grant_id, atoms in zip(row["grant_ids"], row["grant_atoms"], strict=True)
    )
    by_hand = row["operation"] in _BY_HAND
    spending = None
    if row["spender"] is not None:
        path = tuple(row["path"])
        spending = Spending(row["spender"], path, row["meter"], row["count_time"])
    original = Original(TransferKind(row["kind"]), int(row["atoms"]), split, by_hand, spending)
    return Found(row["asset"], row["scale"], original)


async def find_posted(tx: Connection, tenant_id: UUID, keys: Iterable[str]) -> dict[str, Posted]:
    """What debits and captures were answered, by key; refused ones are left out."""
    rows = await tx.fetch(
        "SELECT request_id, outcome FROM operations"
        " WHERE tenant_id = $1 AND request_id = ANY($2::text[])",
        tenant_id,
        list(keys),
    )
    answers = {row["request_id"]: decode(row["outcome"]) for row in rows}
    return {key: answer for key, answer in answers.items() if isinstance(answer, Posted)}


async def find_reversed(
    tx: Connection, tenant_id: UUID, transfers: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], dict[str, int]]:
    """What was given back of transfers, by the key of who did."""
    wanted = sorted(transfers)
    rows = await tx.fetch(
        "SELECT r.wallet_id::text, r.sequence, r.request_id, r.atoms::text"
        " FROM unnest($2::uuid[], $3::bigint[]) AS t (wallet_id, sequence)"
        " JOIN reversals AS r ON r.tenant_id = $1 AND r.wallet_id = t.wallet_id"
        " AND r.sequence = t.sequence",
        tenant_id,
        [UUID(wallet_id) for wallet_id, _ in wanted],
        [sequence for _, sequence in wanted],
    )
    found: dict[tuple[str, int], dict[str, int]] = {}
    for wallet_id, sequence, key, atoms in rows:
        found.setdefault((wallet_id, sequence), {})[key] = int(atoms)
    return found


async def find_grant_asset(
    tx: Connection, tenant_id: UUID, wallet_id: str, grant_id: str
) -> tuple[str, int] | None:
    """Asset and scale of a grant, which never change."""
    row = await tx.fetchrow(
        "SELECT g.asset, a.scale FROM grants AS g"
        " JOIN assets AS a ON a.tenant_id = g.tenant_id AND a.code = g.asset"
        " WHERE g.tenant_id = $1 AND g.wallet_id = $2 AND g.grant_id = $3",
        tenant_id,
        UUID(wallet_id),
        UUID(grant_id),
    )
    return (row["asset"], row["scale"]) if row is not None else None


class Adjustment(NamedTuple):
    """Who did what by hand, and why."""

    request_id: str
    kind: int
    wallet_id: str
    reason: str
    approver: str
    caller: str
    create_time: datetime


async def list_adjustments(
    tx: Connection, tenant_id: UUID, wallet_id: str, after: str, count: int
) -> list[Adjustment]:
    """Adjustments by key, those after a key; of one wallet or of all."""
    rows = await tx.fetch(
        "SELECT request_id, kind, wallet_id::text, reason, approver, caller, create_time"
        " FROM adjustments WHERE tenant_id = $1 AND ($2 = '' OR wallet_id = $2::text::uuid)"
        " AND request_id > $3 ORDER BY request_id LIMIT $4",
        tenant_id,
        wallet_id,
        after,
        count,
    )
    return [Adjustment(*row) for row in rows]


async def close_period(tx: Connection, tenant_id: UUID, through: datetime) -> datetime:
    """Close the books until an instant, or leave them closed longer; answers until when."""
    closed: datetime = await tx.fetchval(
        "INSERT INTO closed_periods AS c (tenant_id, through_time) VALUES ($1, $2)"
        " ON CONFLICT (tenant_id) DO UPDATE"
        " SET through_time = greatest(c.through_time, excluded.through_time)"
        " RETURNING through_time",
        tenant_id,
        through,
    )
    return closed


def _grants_of(item: WalletItem) -> list[tuple[str, str, str]]:
    ids: list[str | None] = []
    match item:
        case VoidGrantItem() | ChangeExpiryItem() | CorrectItem():
            ids = [item.grant_id]
        case ReverseItem() if item.original is not None:
            ids = [grant_id for grant_id, _ in item.original.split]
    return [(item.tenant_id, item.wallet_id, grant_id) for grant_id in ids if grant_id]


def _key(wallet: Wallet, grant: Grant) -> tuple[str, str, str]:
    return wallet.tenant_id, wallet.wallet_id, grant.grant_id


def _rollover(rollover: Rollover | None) -> tuple[str, str, str]:
    if rollover is None:
        return NULL, NULL, NULL
    cap, seconds = rollover.cap, rollover.seconds
    return (
        str(rollover.fraction),
        NULL if cap is None else str(cap),
        NULL if seconds is None else str(seconds),
    )


def _stamp(instant: datetime | None) -> str:
    if instant is None:
        return NULL
    return "infinity" if instant == NEVER else instant.isoformat()


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return ROW.join([FIELD.join(row) for row in rows])
