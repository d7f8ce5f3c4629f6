"""Recharge rules', recharges' and alerts' SQL, in their tenant's own transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg

from chassis.database import Connection
from wallet.recharge.domain import RechargeMode, RechargeState


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule as it was set; amounts in atoms of the asset."""

    wallet_id: str
    asset: str
    scale: int
    threshold: int
    mode: RechargeMode
    value: int
    unit_price: Decimal
    price_asset: str
    price_scale: int
    monthly_cap: int
    payment_method_id: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class Recharge:
    """A recharge, from the crossing of the threshold to its end."""

    recharge_id: str
    wallet_id: str
    customer_id: str
    asset: str
    scale: int
    atoms: int
    state: RechargeState
    create_time: datetime
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """A threshold on available, in atoms."""

    wallet_id: str
    asset: str
    scale: int
    threshold: int
    armed: bool


_RULE = (
    "r.wallet_id::text, r.asset, a.scale, r.threshold::text, r.mode, r.value::text, r.unit_price,"
    " r.price_asset, r.price_scale, r.monthly_cap::text, r.payment_method_id, r.enabled"
)
_RECHARGE = (
    "r.recharge_id::text, r.wallet_id::text, r.customer_id, r.asset, a.scale, r.atoms::text,"
    " r.state, r.create_time, r.end_time"
)
_ASSET = " JOIN assets AS a ON a.tenant_id = r.tenant_id AND a.code = r.asset"


async def lock_wallet(tx: Connection, tenant_id: UUID, wallet_id: str) -> bool:
    """Lock a wallet as a batch does, so that its rules stand still; false where there is none."""
    found = await tx.fetchval(
        "SELECT true FROM wallets WHERE tenant_id = $1 AND wallet_id = $2 FOR UPDATE",
        tenant_id,
        UUID(wallet_id),
    )
    return bool(found)


async def save_rule(tx: Connection, tenant_id: UUID, rule: StoredRule) -> None:
    """Set or change a rule; what it has in flight and has bought this month stays."""
    await tx.execute(
        "INSERT INTO recharge_rules (tenant_id, wallet_id, asset, threshold, mode, value,"
        " unit_price, price_asset, price_scale, monthly_cap, payment_method_id, enabled)"
        " VALUES ($1, $2, $3, $4::text::numeric, $5, $6::text::numeric, $7, $8, $9,"
        " $10::text::numeric, $11, $12)"
        " ON CONFLICT (tenant_id, wallet_id, asset) DO UPDATE SET"
        " threshold = excluded.threshold, mode = excluded.mode, value = excluded.value,"
        " unit_price = excluded.unit_price, price_asset = excluded.price_asset,"
        " price_scale = excluded.price_scale, monthly_cap = excluded.monthly_cap,"
        " payment_method_id = excluded.payment_method_id, enabled = excluded.enabled,"
        " pause_until = 'epoch'",
        tenant_id,
        UUID(rule.wallet_id),
        rule.asset,
        str(rule.threshold),
        int(rule.mode),
        str(rule.value),
        rule.unit_price,
        rule.price_asset,
        rule.price_scale,
        str(rule.monthly_cap),
        rule.payment_method_id,
        rule.enabled,
    )


async def list_rules(
    tx: Connection, tenant_id: UUID, customer_id: str, after: tuple[str, str], count: int
) -> list[StoredRule]:
    """Rules by wallet and asset, those after a key; of one customer or of all."""
    rows = await tx.fetch(
        f"SELECT {_RULE} FROM recharge_rules AS r{_ASSET}"
        " JOIN wallets AS w ON w.tenant_id = r.tenant_id AND w.wallet_id = r.wallet_id"
        " WHERE r.tenant_id = $1 AND ($2 = '' OR w.customer_id = $2)"
        " AND (r.wallet_id, r.asset) > ($3, $4) ORDER BY r.wallet_id, r.asset LIMIT $5",
        tenant_id,
        customer_id,
        UUID(after[0]),
        after[1],
        count,
    )
    return [_rule(row) for row in rows]


async def find_recharge(tx: Connection, tenant_id: UUID, recharge_id: str) -> Recharge | None:
    row = await tx.fetchrow(
        f"SELECT {_RECHARGE} FROM recharges AS r{_ASSET}"
        " WHERE r.tenant_id = $1 AND r.recharge_id = $2",
        tenant_id,
        UUID(recharge_id),
    )
    return _recharge(row) if row is not None else None


async def list_recharges(
    tx: Connection, tenant_id: UUID, customer_id: str, before: str, count: int
) -> list[Recharge]:
    """Recharges, newest first, those before an id; of one customer or of all."""
    rows = await tx.fetch(
        f"SELECT {_RECHARGE} FROM recharges AS r{_ASSET}"
        " WHERE r.tenant_id = $1 AND ($2 = '' OR r.customer_id = $2) AND r.recharge_id < $3"
        " ORDER BY r.recharge_id DESC LIMIT $4",
        tenant_id,
        customer_id,
        UUID(before),
        count,
    )
    return [_recharge(row) for row in rows]


async def save_end(tx: Connection, tenant_id: UUID, recharge: Recharge, cause: str) -> None:
    await tx.execute(
        "UPDATE recharges SET state = $3, cause = $4, end_time = $5"
        " WHERE tenant_id = $1 AND recharge_id = $2",
        tenant_id,
        UUID(recharge.recharge_id),
        int(recharge.state),
        cause,
        recharge.end_time,
    )


async def release_rule(
    tx: Connection,
    tenant_id: UUID,
    recharge: Recharge,
    *,
    pause_until: datetime | None,
    switch_off: bool,
) -> None:
    """Let the rule start again. What failed was not bought, so the month's count is given back."""
    failed = recharge.state is RechargeState.FAILED
    await tx.execute(
        "UPDATE recharge_rules AS r SET in_flight = NULL,"
        " enabled = r.enabled AND NOT $5, pause_until = coalesce($6, r.pause_until),"
        " month_bought = r.month_bought - CASE WHEN $7 AND r.month = c.month"
        " THEN least(c.atoms, r.month_bought) ELSE 0 END"
        " FROM recharges AS c"
        " WHERE r.tenant_id = $1 AND r.wallet_id = $2 AND r.asset = $3 AND r.in_flight = $4"
        " AND c.tenant_id = r.tenant_id AND c.recharge_id = r.in_flight",
        tenant_id,
        UUID(recharge.wallet_id),
        recharge.asset,
        UUID(recharge.recharge_id),
        switch_off,
        pause_until,
        failed,
    )


async def save_alert(tx: Connection, tenant_id: UUID, alert: StoredAlert) -> None:
    """Set a threshold; armed, so that the next look tells where available is below it already."""
    await tx.execute(
        "INSERT INTO balance_alerts (tenant_id, wallet_id, asset, threshold, armed)"
        " VALUES ($1, $2, $3, $4::text::numeric, $5)"
        " ON CONFLICT (tenant_id, wallet_id, asset) DO UPDATE SET"
        " threshold = excluded.threshold, armed = excluded.armed",
        tenant_id,
        UUID(alert.wallet_id),
        alert.asset,
        str(alert.threshold),
        alert.armed,
    )


async def remove_alert(tx: Connection, tenant_id: UUID, wallet_id: str, asset: str) -> None:
    await tx.execute(
        "DELETE FROM balance_alerts WHERE tenant_id = $1 AND wallet_id = $2 AND asset = $3",
        tenant_id,
        UUID(wallet_id),
        asset,
    )


async def list_alerts(
    tx: Connection, tenant_id: UUID, customer_id: str, after: tuple[str, str], count: int
) -> list[StoredAlert]:
    """Alerts by wallet and asset, those after a key; of one customer or of all."""
    rows = await tx.fetch(
        "SELECT r.wallet_id::text, r.asset, a.scale, r.threshold::text, r.armed"
        f" FROM balance_alerts AS r{_ASSET}"
        " JOIN wallets AS w ON w.tenant_id = r.tenant_id AND w.wallet_id = r.wallet_id"
        " WHERE r.tenant_id = $1 AND ($2 = '' OR w.customer_id = $2)"
        " AND (r.wallet_id, r.asset) > ($3, $4) ORDER BY r.wallet_id, r.asset LIMIT $5",
        tenant_id,
        customer_id,
        UUID(after[0]),
        after[1],
        count,
    )
    return [StoredAlert(r[0], r[1], r[2], int(r[3]), r[4]) for r in rows]


def _rule(row: asyncpg.Record) -> StoredRule:
    return StoredRule(
        row["wallet_id"],
        row["asset"],
        row["scale"],
        int(row["threshold"]),
        RechargeMode(row["mode"]),
        int(row["value"]),
        row["unit_price"],
        row["price_asset"],
        row["price_scale"],
        int(row["monthly_cap"]),
        row["payment_method_id"],
        row["enabled"],
    )


def _recharge(row: asyncpg.Record) -> Recharge:
    return Recharge(
        row["recharge_id"],
        row["wallet_id"],
        row["customer_id"],
        row["asset"],
        row["scale"],
        int(row["atoms"]),
        RechargeState(row["state"]),
        row["create_time"],
        row["end_time"],
    )
