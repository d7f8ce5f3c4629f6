"""Wallets' SQL; balances are only read here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Connection
from kernel.money import Amount, Asset
from wallet.ledger.domain.values import OverCapture, Restrictions, ShortfallMode, WalletState
from wallet.wallets.domain import BalanceView, Wallet

_COLUMNS = (
    "wallet_id, customer_id, name, priority, meters, features, products, shortfall_mode,"
    " late_capture_allowed, state, create_time, over_capture, state_cause, state_time"
)
_BALANCE_COLUMNS = (
    "b.wallet_id, w.customer_id, b.asset, a.scale, b.credited::text, b.debited::text,"
    " b.held::text, b.dormant::text, b.floor::text, (b.overdrawn - b.held_unbacked)::text AS debt,"
    " b.sequence"
)
_BALANCE_TABLES = (
    " FROM balances AS b JOIN wallets AS w USING (tenant_id, wallet_id)"
    " JOIN assets AS a ON a.tenant_id = b.tenant_id AND a.code = b.asset"
)


async def count_wallets(tx: Connection, tenant_id: UUID, customer_id: str) -> int:
    """How many wallets a customer has, new ones kept out until the transaction ends."""
    await tx.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{tenant_id}/{customer_id}"
    )
    count: int = await tx.fetchval(
        "SELECT count(*) FROM wallets WHERE tenant_id = $1 AND customer_id = $2",
        tenant_id,
        customer_id,
    )
    return count


async def insert_wallet(tx: Connection, tenant_id: UUID, wallet: Wallet) -> None:
    """A wallet, and empty balances for what it may overdraw."""
    meters, features, products = wallet.restrictions or ((), (), ())
    await tx.execute(
        f"INSERT INTO wallets (tenant_id, {_COLUMNS})"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        tenant_id,
        UUID(wallet.wallet_id),
        wallet.customer_id,
        wallet.name,
        wallet.priority,
        list(meters),
        list(features),
        list(products),
        int(wallet.shortfall_mode),
        wallet.late_capture_allowed,
        int(wallet.state),
        wallet.create_time,
        int(wallet.over_capture),
        wallet.state_cause,
        wallet.state_time,
    )
    if wallet.overdraft_limits:
        await tx.execute(
            "SELECT open_overdrafts($1, $2, $3, $4)",
            UUID(wallet.wallet_id),
            [limit.asset.code for limit in wallet.overdraft_limits],
            [str(limit.atoms) for limit in wallet.overdraft_limits],
            wallet.create_time,
        )


async def lock_wallet(tx: Connection, tenant_id: UUID, wallet_id: str) -> Wallet | None:
    """The wallet, locked as a batch locks it: nothing moves in it meanwhile."""
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM wallets WHERE tenant_id = $1 AND wallet_id = $2 FOR UPDATE",
        tenant_id,
        UUID(wallet_id),
    )
    return _wallet(row) if row is not None else None


async def save_state(tx: Connection, tenant_id: UUID, wallet: Wallet) -> None:
    await tx.execute(
        "UPDATE wallets SET state = $3, state_cause = $4, state_time = $5"
        " WHERE tenant_id = $1 AND wallet_id = $2",
        tenant_id,
        UUID(wallet.wallet_id),
        int(wallet.state),
        wallet.state_cause,
        wallet.state_time,
    )


async def save_wallet(
    tx: Connection, tenant_id: UUID, wallet: Wallet, now: datetime, *, limits_changed: bool
) -> None:
    """What of a wallet may change, and its overdraft limits where they did."""
    meters, features, products = wallet.restrictions or ((), (), ())
    await tx.execute(
        "UPDATE wallets SET name = $3, priority = $4, meters = $5, features = $6, products = $7,"
        " shortfall_mode = $8, late_capture_allowed = $9, over_capture = $10"
        " WHERE tenant_id = $1 AND wallet_id = $2",
        tenant_id,
        UUID(wallet.wallet_id),
        wallet.name,
        wallet.priority,
        list(meters),
        list(features),
        list(products),
        int(wallet.shortfall_mode),
        wallet.late_capture_allowed,
        int(wallet.over_capture),
    )
    if limits_changed:
        await tx.execute(
            "SELECT set_overdrafts($1, $2, $3, $4)",
            UUID(wallet.wallet_id),
            [limit.asset.code for limit in wallet.overdraft_limits],
            [str(limit.atoms) for limit in wallet.overdraft_limits],
            now,
        )


async def list_wallets(
    tx: Connection, tenant_id: UUID, customer_id: str, after: tuple[str, int, str], count: int
) -> list[Wallet]:
    """Wallets by customer, priority and id, those after a key; of one customer or of all."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM wallets"
        " WHERE tenant_id = $1 AND ($2 = '' OR customer_id = $2)"
        " AND (customer_id, priority, wallet_id) > ($3, $4, $5)"
        " ORDER BY customer_id, priority, wallet_id LIMIT $6",
        tenant_id,
        customer_id,
        after[0],
        after[1],
        UUID(after[2]),
        count,
    )
    return [_wallet(row) for row in rows]


async def list_balances_of_customers(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str]
) -> list[BalanceView]:
    """Every balance of some customers, wallets in the order in which they pay."""
    rows = await tx.fetch(
        f"SELECT {_BALANCE_COLUMNS}{_BALANCE_TABLES}"
        " WHERE w.tenant_id = $1 AND w.customer_id = ANY ($2)"
        " ORDER BY w.customer_id, w.priority, w.wallet_id, b.asset",
        tenant_id,
        list(customer_ids),
    )
    return [_balance(row) for row in rows]


async def list_changed_balances(
    tx: Connection,
    tenant_id: UUID,
    customer_ids: Sequence[str],
    seen: Mapping[tuple[str, str], tuple[int, int]],
) -> list[BalanceView]:
    """Balances of some customers but those that were seen with this number and limit."""
    rows = await tx.fetch(
        f"SELECT {_BALANCE_COLUMNS}{_BALANCE_TABLES}"
        " LEFT JOIN unnest($3::uuid[], $4::text[], $5::bigint[], $6::text[])"
        " AS k (wallet_id, asset, sequence, floor)"
        " ON k.wallet_id = b.wallet_id AND k.asset = b.asset"
        " WHERE w.tenant_id = $1 AND w.customer_id = ANY ($2)"
        " AND (k.sequence IS NULL OR b.sequence > k.sequence OR b.floor <> k.floor::numeric)"
        " ORDER BY w.customer_id, w.priority, w.wallet_id, b.asset",
        tenant_id,
        list(customer_ids),
        [UUID(wallet_id) for wallet_id, _ in seen],
        [asset for _, asset in seen],
        [sequence for sequence, _ in seen.values()],
        [str(floor) for _, floor in seen.values()],
    )
    return [_balance(row) for row in rows]


async def list_balances_of_wallet(
    tx: Connection, tenant_id: UUID, wallet_id: str
) -> list[BalanceView]:
    rows = await tx.fetch(
        f"SELECT {_BALANCE_COLUMNS}{_BALANCE_TABLES}"
        " WHERE b.tenant_id = $1 AND b.wallet_id = $2 ORDER BY b.asset",
        tenant_id,
        UUID(wallet_id),
    )
    return [_balance(row) for row in rows]


def _wallet(row: asyncpg.Record) -> Wallet:
    restrictions: Restrictions = (
        tuple(row["meters"]),
        tuple(row["features"]),
        tuple(row["products"]),
    )
    return Wallet(
        str(row["wallet_id"]),
        row["customer_id"],
        row["name"],
        row["priority"],
        restrictions if any(restrictions) else None,
        ShortfallMode(row["shortfall_mode"]),
        row["late_capture_allowed"],
        WalletState(row["state"]),
        row["create_time"],
        over_capture=OverCapture(row["over_capture"]),
        state_cause=row["state_cause"],
        state_time=row["state_time"],
    )


def _balance(row: asyncpg.Record) -> BalanceView:
    return BalanceView(
        str(row["wallet_id"]),
        row["customer_id"],
        row["asset"],
        row["scale"],
        int(row["credited"]),
        int(row["debited"]),
        int(row["held"]),
        int(row["dormant"]),
        int(row["floor"]),
        int(row["debt"]),
        row["sequence"],
    )


async def list_floors(
    tx: Connection, tenant_id: UUID, wallet_ids: Sequence[str]
) -> dict[str, tuple[Amount, ...]]:
    """Overdraft limits by wallet, as their balances keep them."""
    rows = await tx.fetch(
        "SELECT b.wallet_id, b.asset, a.scale, b.floor::text FROM balances AS b"
        " JOIN assets AS a ON a.tenant_id = b.tenant_id AND a.code = b.asset"
        " WHERE b.tenant_id = $1 AND b.wallet_id = ANY ($2) AND b.floor > 0 ORDER BY b.asset",
        tenant_id,
        [UUID(wallet_id) for wallet_id in wallet_ids],
    )
    floors: dict[str, tuple[Amount, ...]] = {}
    for row in rows:
        limit = Amount(Asset(row["asset"], row["scale"]), int(row["floor"]))
        key = str(row["wallet_id"])
        floors[key] = (*floors.get(key, ()), limit)
    return floors
