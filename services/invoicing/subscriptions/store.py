"""SQL of subscriptions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.catalog.store import PRICE_COLUMNS, every_of, price_of
from invoicing.subscriptions.domain import Item, Subscription

_COLUMNS = (
    "s.subscription_id, s.customer_id, s.plan_code, s.plan_version, s.start_time, s.end_time,"
    " s.anchor_time, s.interval_count, s.interval_unit, s.time_zone, s.create_time, s.revision,"
    " s.bill_from_time, s.next_bill_time"
)


async def insert_subscription(tx: Connection, tenant_id: UUID, subscription: Subscription) -> None:
    await tx.execute(
        "INSERT INTO subscription (tenant_id, subscription_id, customer_id, plan_code,"
        " plan_version, start_time, end_time, anchor_time, interval_count, interval_unit,"
        " time_zone, create_time, bill_from_time, next_bill_time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        tenant_id,
        subscription.subscription_id,
        subscription.customer_id,
        subscription.plan_code,
        subscription.plan_version,
        subscription.start_time,
        subscription.end_time,
        subscription.anchor_time,
        subscription.every.count,
        subscription.every.unit.value,
        subscription.time_zone,
        subscription.create_time,
        subscription.bill_from_time,
        subscription.next_bill_time,
    )
    await tx.executemany(
        "INSERT INTO subscription_item (tenant_id, subscription_item_id, subscription_id, price_id,"
        " position, quantity) VALUES ($1, $2, $3, $4, $5, $6)",
        [
            (
                tenant_id,
                item.subscription_item_id,
                subscription.subscription_id,
                item.price.price_id,
                position,
                item.quantity,
            )
            for position, item in enumerate(subscription.items)
        ],
    )


async def lock_subscription(
    tx: Connection, tenant_id: UUID, subscription_id: UUID
) -> Subscription | None:
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM subscription AS s"
        " WHERE s.tenant_id = $1 AND s.subscription_id = $2 FOR UPDATE",
        tenant_id,
        subscription_id,
    )
    found = await _with_items(tx, tenant_id, [] if row is None else [row])
    return found[0] if found else None


async def list_subscriptions(
    tx: Connection, tenant_id: UUID, customer_id: str, before: UUID | None, limit: int
) -> list[Subscription]:
    """Newest first; an empty customer_id means everybody's."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM subscription AS s WHERE s.tenant_id = $1"
        " AND ($2 = '' OR s.customer_id = $2)"
        " AND ($3::uuid IS NULL OR s.subscription_id < $3)"
        " ORDER BY s.subscription_id DESC LIMIT $4",
        tenant_id,
        customer_id,
        before,
        limit,
    )
    return await _with_items(tx, tenant_id, rows)


async def list_of_customers(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str], *, lock: bool = False
) -> list[Subscription]:
    """Subscriptions of customers of which something may be unbilled, oldest first."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM subscription AS s"
        " WHERE s.tenant_id = $1 AND s.customer_id = ANY ($2) AND s.next_bill_time IS NOT NULL"
        " ORDER BY s.subscription_id" + (" FOR UPDATE" if lock else ""),
        tenant_id,
        list(customer_ids),
    )
    return await _with_items(tx, tenant_id, rows)


async def list_of_items(
    tx: Connection, tenant_id: UUID, items: Sequence[UUID]
) -> list[Subscription]:
    """The subscriptions that have any of the items, ended ones too, oldest first."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM subscription AS s WHERE s.tenant_id = $1"
        " AND s.subscription_id IN (SELECT i.subscription_id FROM subscription_item AS i"
        "  WHERE i.tenant_id = $1 AND i.subscription_item_id = ANY ($2))"
        " ORDER BY s.subscription_id",
        tenant_id,
        list(items),
    )
    return await _with_items(tx, tenant_id, rows)


async def list_active(tx: Connection, tenant_id: UUID, instant: datetime) -> list[Subscription]:
    """Subscriptions in force at an instant."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM subscription AS s WHERE s.tenant_id = $1"
        " AND s.start_time <= $2 AND (s.end_time IS NULL OR s.end_time > $2)",
        tenant_id,
        instant,
    )
    return await _with_items(tx, tenant_id, rows)


async def save_terms(tx: Connection, tenant_id: UUID, subscription: Subscription) -> None:
    """Write what changes of a subscription."""
    await tx.execute(
        "UPDATE subscription SET end_time = $3, revision = $4, bill_from_time = $5,"
        " next_bill_time = $6 WHERE tenant_id = $1 AND subscription_id = $2",
        tenant_id,
        subscription.subscription_id,
        subscription.end_time,
        subscription.revision,
        subscription.bill_from_time,
        subscription.next_bill_time,
    )


async def _with_items(
    tx: Connection, tenant_id: UUID, rows: Sequence[asyncpg.Record]
) -> list[Subscription]:
    if not rows:
        return []
    found = await tx.fetch(
        f"SELECT i.subscription_id, i.subscription_item_id, i.quantity, {PRICE_COLUMNS}"
        " FROM subscription_item AS i"
        " JOIN price AS p ON p.tenant_id = i.tenant_id AND p.price_id = i.price_id"
        " WHERE i.tenant_id = $1 AND i.subscription_id = ANY ($2)"
        " ORDER BY i.subscription_id, i.position",
        tenant_id,
        [row["subscription_id"] for row in rows],
    )
    items: dict[UUID, list[Item]] = {}
    for row in found:
        item = Item(row["subscription_item_id"], price_of(row), row["quantity"])
        items.setdefault(row["subscription_id"], []).append(item)
    return [_subscription(row, items.get(row["subscription_id"], [])) for row in rows]


def _subscription(row: asyncpg.Record, items: Sequence[Item]) -> Subscription:
    return Subscription(
        subscription_id=row["subscription_id"],
        customer_id=row["customer_id"],
        plan_code=row["plan_code"],
        plan_version=row["plan_version"],
        items=tuple(items),
        start_time=row["start_time"],
        end_time=row["end_time"],
        anchor_time=row["anchor_time"],
        every=every_of(row),
        time_zone=row["time_zone"],
        create_time=row["create_time"],
        bill_from_time=row["bill_from_time"],
        next_bill_time=row["next_bill_time"],
        revision=row["revision"],
    )
