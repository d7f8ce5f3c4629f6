"""Rows of events as they are, and which days are archived, in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from asyncpg import Record as Row

from chassis.database import Connection
from metering.archive.domain import ArchivedDay
from metering.events.domain.event import event_key

# As they are stored: what is JSON stays the text that the database holds.
COLUMNS = (
    "receipt_id", "event_id", "customer_id", "name", "subject", "event_time", "receive_time",
    "sequence", "meter_version", "properties", "authorization_id", "state", "lines", "refusal",
    "node", "continues",
)  # fmt: skip
_ARCHIVED = "day, path, event_count, octets, sha256, create_time, keep_until"


async def list_days(connection: Connection, before: date) -> list[date]:
    """Days with a partition of their own, oldest first."""
    rows = await connection.fetch("SELECT day FROM list_event_days($1)", before)
    return [row["day"] for row in rows]


async def list_tenants(connection: Connection, day: date) -> list[UUID]:
    """Tenants with events of a day."""
    rows = await connection.fetch("SELECT tenant_id FROM list_tenants_of_day($1)", day)
    return [row["tenant_id"] for row in rows]


async def drop_day(connection: Connection, day: date) -> bool:
    """Drop a day whose events are all archived."""
    return bool(await connection.fetchval("SELECT drop_event_partition($1)", day))


async def list_rows(
    tx: Connection, tenant_id: UUID, day: date, after: UUID | None, count_max: int
) -> list[Row]:
    """A tenant's events of a day, in order of receipt."""
    return await tx.fetch(
        f"SELECT {', '.join(COLUMNS)} FROM event WHERE tenant_id = $1"
        " AND receipt_id >= receipt_bound($2) AND receipt_id < receipt_bound($2 + 1)"
        " AND ($3::uuid IS NULL OR receipt_id > $3) ORDER BY receipt_id LIMIT $4",
        tenant_id,
        day,
        after,
        count_max,
    )


async def forget_ids(tx: Connection, tenant_id: UUID, events: Sequence[tuple[str, UUID]]) -> None:
    """Free the ids of events that leave the database, longer ago than any window for repetitions.
    `events` are ids with their receipts."""
    await tx.execute(
        "DELETE FROM event_receipt AS r USING unnest($2::uuid[], $3::uuid[]) AS v (key, receipt_id)"
        " WHERE r.tenant_id = $1 AND r.event_key = v.key AND r.receipt_id = v.receipt_id",
        tenant_id,
        [event_key(event_id) for event_id, _ in events],
        [receipt_id for _, receipt_id in events],
    )


async def insert_rows(tx: Connection, tenant_id: UUID, columns: Sequence[Sequence[Any]]) -> int:
    """Put events back as they were, `columns` in the order of COLUMNS; answers how many were not
    there."""
    status = await tx.execute(
        f"INSERT INTO event (tenant_id, {', '.join(COLUMNS)})"
        " SELECT $1, n.* FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],"
        " $7::timestamptz[], $8::timestamptz[], $9::bigint[], $10::integer[], $11::jsonb[],"
        " $12::uuid[], $13::smallint[], $14::jsonb[], $15::jsonb[], $16::text[],"
        " $17::boolean[]) AS n"
        " ON CONFLICT (tenant_id, receipt_id) DO NOTHING",
        tenant_id,
        *columns,
    )
    return int(status.rpartition(" ")[2])


async def make_day(tx: Connection, day: date) -> None:
    """Make the partition of a day where it has none."""
    await tx.execute("SELECT make_event_partition($1)", day)


async def save_day(tx: Connection, archived: ArchivedDay) -> None:
    """Note that a day's file is whole."""
    await tx.execute(
        f"INSERT INTO event_archive (tenant_id, {_ARCHIVED})"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
        " ON CONFLICT (tenant_id, day) DO UPDATE SET path = excluded.path,"
        " event_count = excluded.event_count, octets = excluded.octets, sha256 = excluded.sha256,"
        " create_time = excluded.create_time, keep_until = excluded.keep_until",
        *archived,
    )


async def find_day(tx: Connection, tenant_id: UUID, day: date) -> ArchivedDay | None:
    """One archived day."""
    row = await tx.fetchrow(
        f"SELECT {_ARCHIVED} FROM event_archive WHERE tenant_id = $1 AND day = $2", tenant_id, day
    )
    return _archived(tenant_id, row) if row else None


async def list_archived(
    tx: Connection, tenant_id: UUID, after: date, count_max: int
) -> list[ArchivedDay]:
    """Archived days, oldest first."""
    rows = await tx.fetch(
        f"SELECT {_ARCHIVED} FROM event_archive WHERE tenant_id = $1 AND day > $2"
        " ORDER BY day LIMIT $3",
        tenant_id,
        after,
        count_max,
    )
    return [_archived(tenant_id, row) for row in rows]


async def find_last_day(tx: Connection, tenant_id: UUID) -> date | None:
    """The last day of which events left, or may have left, the database."""
    found: date | None = await tx.fetchval(
        "SELECT max(day) FROM event_archive WHERE tenant_id = $1", tenant_id
    )
    return found


def _archived(tenant_id: UUID, row: Row) -> ArchivedDay:
    return ArchivedDay(
        tenant_id,
        row["day"],
        row["path"],
        row["event_count"],
        row["octets"],
        bytes(row["sha256"]),
        row["create_time"],
        row["keep_until"],
    )
