"""SQL of notifications."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from chassis.database import Connection
from gateway.notifications.domain import Kept, NotificationState
from gateway.providers.plan import Item


async def insert_item(
    tx: Connection,
    tenant_id: UUID,
    notification_id: UUID,
    provider_account_id: UUID,
    item: Item,
    headers: Mapping[str, str],
    body: bytes,
    digest: bytes,
    now: datetime,
) -> bool:
    """Keep an item; False where it was kept before."""
    inserted = await tx.fetchval(
        "INSERT INTO notification (tenant_id, notification_id, provider_account_id,"
        " provider_item_id, kind, headers, body, body_digest, state, receive_time, next_try_time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'RECEIVED', $9, $9)"
        " ON CONFLICT (tenant_id, provider_account_id, provider_item_id) WHERE state <> 'REFUSED'"
        " DO NOTHING RETURNING true",
        tenant_id,
        notification_id,
        provider_account_id,
        item.id,
        item.kind,
        json.dumps(dict(headers)),
        body,
        digest,
        now,
    )
    return bool(inserted)


async def insert_refused(
    tx: Connection,
    tenant_id: UUID,
    notification_id: UUID,
    provider_account_id: UUID,
    headers: Mapping[str, str],
    digest: bytes,
    why: str,
    now: datetime,
) -> None:
    await tx.execute(
        "INSERT INTO notification (tenant_id, notification_id, provider_account_id,"
        " provider_item_id, kind, headers, body_digest, state, error, receive_time, next_try_time)"
        " VALUES ($1, $2, $3, '', '', $4, $5, 'REFUSED', $6, $7, $7)",
        tenant_id,
        notification_id,
        provider_account_id,
        json.dumps(dict(headers)),
        digest,
        why,
        now,
    )


async def count_refused(
    tx: Connection, tenant_id: UUID, provider_account_id: UUID, since: datetime, most: int
) -> int:
    """How many were refused since; counts no further than `most`."""
    return int(
        await tx.fetchval(
            "SELECT count(*) FROM (SELECT FROM notification WHERE tenant_id = $1"
            " AND provider_account_id = $2 AND state = 'REFUSED' AND receive_time > $3"
            " LIMIT $4) AS refused",
            tenant_id,
            provider_account_id,
            since,
            most,
        )
    )


async def list_due(
    connection: Connection, now: datetime, count_max: int
) -> list[tuple[UUID, UUID]]:
    """(tenant, notification) of what is to be applied now, of every tenant."""
    rows = await connection.fetch("SELECT * FROM notifications_due($1, $2)", now, count_max)
    return [(row["tenant_id"], row["notification_id"]) for row in rows]


async def take(
    tx: Connection, tenant_id: UUID, notification_id: UUID, now: datetime, lease: timedelta
) -> Kept | None:
    """Take a notification that is due, for a while; None where another has it."""
    row = await tx.fetchrow(
        "UPDATE notification SET tries = tries + 1, next_try_time = $4"
        " WHERE tenant_id = $1 AND notification_id = $2 AND state = 'RECEIVED'"
        " AND next_try_time <= $3"
        " RETURNING provider_account_id, provider_item_id, kind, body, tries",
        tenant_id,
        notification_id,
        now,
        now + lease,
    )
    if row is None:
        return None
    return Kept(
        notification_id=notification_id,
        provider_account_id=row["provider_account_id"],
        provider_item_id=row["provider_item_id"],
        kind=row["kind"],
        body=bytes(row["body"]),
        tries=row["tries"],
    )


async def save_state(
    tx: Connection,
    tenant_id: UUID,
    notification_id: UUID,
    state: NotificationState,
    error: str = "",
    next_try_time: datetime | None = None,
) -> None:
    await tx.execute(
        "UPDATE notification SET state = $3, error = $4,"
        " next_try_time = coalesce($5, next_try_time)"
        " WHERE tenant_id = $1 AND notification_id = $2",
        tenant_id,
        notification_id,
        state.value,
        error,
        next_try_time,
    )
