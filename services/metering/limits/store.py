"""What limits are decided by, in Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Connection, Database
from metering.limits.domain import Count, LimitBook, Used, WindowKey
from metering.usage.store import read_number


class LimitsMoved(Exception):
    """Another answer set something of the same limits aside meanwhile; it is decided again."""


async def list_windows(
    tx: Connection, tenant_id: UUID, customer_ids: Iterable[str]
) -> dict[WindowKey, datetime]:
    """When rolling windows were opened last."""
    rows = await tx.fetch(
        "SELECT customer_id, feature, seconds, open_time FROM limit_window"
        " WHERE tenant_id = $1 AND customer_id = ANY($2::text[])",
        tenant_id,
        list(customer_ids),
    )
    return {WindowKey(row[0], row[1], row[2]): row[3] for row in rows}


async def read(
    database: Database,
    tenant_id: UUID,
    now: datetime,
    customer_ids: Sequence[str],
    counts: Sequence[Count],
) -> LimitBook:
    """Guards, usage by hour and what is set aside: one trip, one snapshot."""
    rows = await database.fetch_once(
        "SELECT * FROM read_limits($1, $2, $3, $4, $5, $6, $7)",
        tenant_id,
        now,
        list(customer_ids),
        [count.customer_id for count in counts],
        [count.meter for count in counts],
        [count.hours.start for count in counts],
        [count.hours.end for count in counts],
    )
    versions: dict[str, int] = {}
    used: dict[Count, Used] = {}
    book = LimitBook(used=used, versions=versions)
    for row in rows:
        match row["kind"]:
            case 0:
                versions[row["customer_id"]] = row["version"]
            case 1:
                used[counts[row["position"] - 1]] = Used(
                    read_number(row["total"]), read_number(row["highest"])
                )
            case _:
                key = (row["customer_id"], row["meter"])
                book.reserved[key] = read_number(row["total"])
    return book


async def pass_guards(
    tx: Connection,
    tenant_id: UUID,
    versions: Sequence[tuple[str, int]],
    windows: Sequence[tuple[WindowKey, datetime]],
) -> None:
    """Take the guards of customers on from what was read. Raises LimitsMoved."""
    try:
        await tx.execute(
            "SELECT pass_guards($1, $2, $3, $4, $5, $6, $7)",
            tenant_id,
            *guard_columns(versions, windows),
        )
    except asyncpg.SerializationError as error:
        raise LimitsMoved from error


def guard_columns(
    versions: Sequence[tuple[str, int]], windows: Sequence[tuple[WindowKey, datetime]]
) -> tuple[list[object], ...]:
    """Guards and windows as `pass_guards` takes them."""
    return (
        [customer_id for customer_id, _ in versions],
        [version for _, version in versions],
        [key.customer_id for key, _ in windows],
        [key.feature for key, _ in windows],
        [key.seconds for key, _ in windows],
        [opened for _, opened in windows],
    )
