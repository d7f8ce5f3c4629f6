"""Spend alerts' SQL, in their tenant's own transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from chassis.database import Connection
from wallet.alerts.domain import Sample, SpendAlert, SpendAlertKind

_COLUMNS = (
    "r.wallet_id::text, r.asset, a.scale, r.kind, r.threshold, r.window_hours, r.armed"
    " FROM spend_alerts AS r JOIN assets AS a ON a.tenant_id = r.tenant_id AND a.code = r.asset"
)


@dataclass(frozen=True, slots=True)
class Funds:
    """What is available in a balance, and the number of the wallet's last change."""

    customer_id: str
    available: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Expiring:
    """A grant that expires soon and was not told of."""

    grant_id: str
    remaining: int
    expire_time: datetime


async def save_alert(tx: Connection, tenant_id: UUID, alert: SpendAlert) -> None:
    """Set or change an alert; it is armed."""
    await tx.execute(
        "INSERT INTO spend_alerts (tenant_id, wallet_id, asset, kind, threshold, window_hours,"
        " armed) VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT (tenant_id, wallet_id, asset, kind) DO UPDATE SET"
        " threshold = excluded.threshold, window_hours = excluded.window_hours, armed = true",
        tenant_id,
        UUID(alert.wallet_id),
        alert.asset,
        int(alert.kind),
        alert.threshold,
        alert.window_hours,
        alert.armed,
    )


async def remove_alert(tx: Connection, tenant_id: UUID, alert: SpendAlert) -> None:
    await tx.execute(
        "DELETE FROM spend_alerts"
        " WHERE tenant_id = $1 AND wallet_id = $2 AND asset = $3 AND kind = $4",
        tenant_id,
        UUID(alert.wallet_id),
        alert.asset,
        int(alert.kind),
    )


async def list_alerts(
    tx: Connection, tenant_id: UUID, wallet_id: str, after: tuple[str, str, int], count: int
) -> list[SpendAlert]:
    """Alerts by wallet, asset and kind, those after a key; of one wallet or of all."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} WHERE r.tenant_id = $1 AND ($2::uuid IS NULL OR r.wallet_id = $2)"
        " AND (r.wallet_id, r.asset, r.kind) > ($3, $4, $5)"
        " ORDER BY r.wallet_id, r.asset, r.kind LIMIT $6",
        tenant_id,
        UUID(wallet_id) if wallet_id else None,
        UUID(after[0]),
        after[1],
        after[2],
        count,
    )
    return [_alert(row) for row in rows]


async def list_alerted_wallets(
    connection: Connection, after: tuple[str, str], count: int
) -> list[tuple[str, str]]:
    """Tenants and wallets with alerts, ids alone."""
    rows = await connection.fetch("SELECT * FROM list_alerted_wallets($1, $2, $3)", *after, count)
    return [(row[0], row[1]) for row in rows]


async def lock_alerts(tx: Connection, tenant_id: UUID, wallet_id: str) -> list[SpendAlert]:
    """The alerts of a wallet, but for those that another process looks at now."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} WHERE r.tenant_id = $1 AND r.wallet_id = $2"
        " ORDER BY r.asset, r.kind FOR UPDATE OF r SKIP LOCKED",
        tenant_id,
        UUID(wallet_id),
    )
    return [_alert(row) for row in rows]


async def save_armed(tx: Connection, tenant_id: UUID, alert: SpendAlert, *, armed: bool) -> None:
    await tx.execute(
        "UPDATE spend_alerts SET armed = $5"
        " WHERE tenant_id = $1 AND wallet_id = $2 AND asset = $3 AND kind = $4",
        tenant_id,
        UUID(alert.wallet_id),
        alert.asset,
        int(alert.kind),
        armed,
    )


async def find_funds(tx: Connection, tenant_id: UUID, wallet_id: str, asset: str) -> Funds | None:
    row = await tx.fetchrow(
        "SELECT w.customer_id, b.sequence,"
        " (b.credited - b.debited - b.held - b.dormant + b.floor)::text AS available"
        " FROM balances AS b JOIN wallets AS w USING (tenant_id, wallet_id)"
        " WHERE b.tenant_id = $1 AND b.wallet_id = $2 AND b.asset = $3",
        tenant_id,
        UUID(wallet_id),
        asset,
    )
    return Funds(row["customer_id"], int(row["available"]), row["sequence"]) if row else None


async def list_samples(tx: Connection, tenant_id: UUID, wallet_id: str, asset: str) -> list[Sample]:
    """Samples, oldest first."""
    rows = await tx.fetch(
        "SELECT sample_time, sequence, used::text FROM burn_samples"
        " WHERE tenant_id = $1 AND wallet_id = $2 AND asset = $3 ORDER BY sample_time",
        tenant_id,
        UUID(wallet_id),
        asset,
    )
    return [Sample(row["sample_time"], row["sequence"], int(row["used"])) for row in rows]


async def find_beginning(
    tx: Connection, tenant_id: UUID, wallet_id: str, asset: str, since: datetime
) -> Sample | None:
    """Where the count begins: the last move before an instant, or else the first one after it."""
    row = await tx.fetchrow(
        "SELECT min(create_time) AS first, max(sequence) FILTER (WHERE create_time < $4) AS last"
        " FROM transfers WHERE tenant_id = $1 AND wallet_id = $2 AND asset = $3",
        tenant_id,
        UUID(wallet_id),
        asset,
        since,
    )
    if row is None or row["first"] is None:
        return None
    return Sample(max(since, row["first"]), row["last"] or 0, 0)


async def sum_used(
    tx: Connection, tenant_id: UUID, wallet_id: str, asset: str, after: int, through: int
) -> int:
    """What debits and captures took between two numbers."""
    used: str = await tx.fetchval(
        "SELECT coalesce(sum(atoms), 0)::text FROM transfers"
        " WHERE tenant_id = $1 AND wallet_id = $2 AND asset = $3 AND sequence > $4"
        " AND sequence <= $5 AND kind IN (2, 4)",
        tenant_id,
        UUID(wallet_id),
        asset,
        after,
        through,
    )
    return int(used)


async def keep_sample(
    tx: Connection, tenant_id: UUID, wallet_id: str, asset: str, sample: Sample, since: datetime
) -> None:
    """Keep a sample, and of those before an instant the last one only."""
    await tx.execute(
        "INSERT INTO burn_samples (tenant_id, wallet_id, asset, sample_time, sequence, used)"
        " VALUES ($1, $2, $3, $4, $5, $6::text::numeric) ON CONFLICT DO NOTHING",
        tenant_id,
        UUID(wallet_id),
        asset,
        sample.time,
        sample.sequence,
        str(sample.used),
    )
    await tx.execute(
        "DELETE FROM burn_samples AS s WHERE s.tenant_id = $1 AND s.wallet_id = $2"
        " AND s.asset = $3 AND s.sample_time < (SELECT max(u.sample_time) FROM burn_samples AS u"
        "  WHERE u.tenant_id = $1 AND u.wallet_id = $2 AND u.asset = $3 AND u.sample_time <= $4)",
        tenant_id,
        UUID(wallet_id),
        asset,
        since,
    )


async def note_expiring(
    tx: Connection, tenant_id: UUID, wallet_id: str, asset: str, now: datetime, ahead: timedelta
) -> list[Expiring]:
    """Grants that expire soon and were not told of, noted as told. One that was moved away from
    its expiry is forgotten, so that it is told of again."""
    await tx.execute(
        "DELETE FROM expiry_notices AS n USING grants AS g WHERE n.tenant_id = $1"
        " AND n.wallet_id = $2 AND g.tenant_id = n.tenant_id AND g.wallet_id = n.wallet_id"
        " AND g.grant_id = n.grant_id AND g.asset = $3 AND g.expire_time > $4",
        tenant_id,
        UUID(wallet_id),
        asset,
        now + ahead,
    )
    rows = await tx.fetch(
        "WITH told AS (INSERT INTO expiry_notices (tenant_id, wallet_id, grant_id)"
        "  SELECT g.tenant_id, g.wallet_id, g.grant_id FROM grants AS g"
        "   WHERE g.tenant_id = $1 AND g.wallet_id = $2 AND g.asset = $3 AND g.open"
        "     AND g.expire_time > $4 AND g.expire_time <= $5"
        "  ON CONFLICT DO NOTHING RETURNING grant_id)"
        " SELECT g.grant_id::text, g.remaining::text, g.expire_time FROM grants AS g"
        " JOIN told USING (grant_id) WHERE g.tenant_id = $1 AND g.wallet_id = $2"
        " ORDER BY g.expire_time, g.grant_id",
        tenant_id,
        UUID(wallet_id),
        asset,
        now,
        now + ahead,
    )
    return [Expiring(row[0], int(row[1]), row[2]) for row in rows]


def _alert(row: asyncpg.Record) -> SpendAlert:
    return SpendAlert(
        row["wallet_id"],
        row["asset"],
        row["scale"],
        SpendAlertKind(row["kind"]),
        row["threshold"],
        row["window_hours"],
        row["armed"],
    )
