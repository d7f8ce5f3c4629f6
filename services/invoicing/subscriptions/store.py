"""SQL of subscriptions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.catalog.store import PRICE_COLUMNS, every_of, price_of
from invoicing.subscriptions.domain.proration import Basis
from invoicing.subscriptions.domain.settings import (
    ending_document,
    ending_of,
    pausing_document,
    pausing_of,
    renewal_document,
    renewal_of,
)
from invoicing.subscriptions.domain.subscription import Cause, Item, Subscription, Term, Unused

_COLUMNS = (
    "s.subscription_id, s.customer_id, s.plan_code, s.plan_version, s.start_time, s.end_time,"
    " s.anchor_time, s.interval_count, s.interval_unit, s.time_zone, s.create_time, s.revision,"
    " s.bill_from_time, s.next_bill_time, s.currency, s.proration_basis, s.trial_end_time,"
    " s.pause_time, s.resume_time, s.planned_end_time, s.end_reason, s.ending, s.pausing,"
    " s.renewal"
)


async def insert_subscription(tx: Connection, tenant_id: UUID, subscription: Subscription) -> None:
    await tx.execute(
        "INSERT INTO subscription (tenant_id, subscription_id, customer_id, plan_code,"
        " plan_version, start_time, end_time, anchor_time, interval_count, interval_unit,"
        " time_zone, create_time, bill_from_time, next_bill_time, currency, proration_basis,"
        " trial_end_time, pause_time, resume_time, planned_end_time, end_reason, ending, pausing,"
        " renewal) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,"
        " $17, $18, $19, $20, $21, $22::jsonb, $23::jsonb, $24::jsonb)",
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
        subscription.currency,
        subscription.basis.value,
        subscription.trial_end_time,
        subscription.pause_time,
        subscription.resume_time,
        subscription.planned_end_time,
        subscription.end_reason,
        json.dumps(ending_document(subscription.ending)),
        json.dumps(pausing_document(subscription.pausing)),
        json.dumps(renewal_document(subscription.renewal)),
    )
    await _insert_terms(tx, tenant_id, subscription.subscription_id, subscription.terms)
    await _insert_items(tx, tenant_id, subscription.subscription_id, subscription.items, 0)


async def save_changes(
    tx: Connection, tenant_id: UUID, old: Subscription, new: Subscription
) -> None:
    """Write what differs of a subscription: new terms and items, and what ended of those before."""
    await save_terms(tx, tenant_id, new)
    terms = {term.term_id: term for term in old.terms}
    items = {item.subscription_item_id: item for item in old.items}
    added = [term for term in new.terms if term.term_id not in terms]
    await _insert_terms(tx, tenant_id, new.subscription_id, added)
    fresh = [item for item in new.items if item.subscription_item_id not in items]
    await _insert_items(tx, tenant_id, new.subscription_id, fresh, len(items))
    await tx.executemany(
        "UPDATE subscription_term SET end_time = $4, cause = $5"
        " WHERE tenant_id = $1 AND subscription_id = $2 AND term_id = $3",
        [
            (tenant_id, new.subscription_id, term.term_id, term.end, term.cause.value)
            for term in new.terms
            if term.term_id in terms and terms[term.term_id] != term
        ],
    )
    await tx.executemany(
        "UPDATE subscription_item SET end_time = $3, unused = $4, prompt_end = $5, cause = $6"
        " WHERE tenant_id = $1 AND subscription_item_id = $2",
        [
            (
                tenant_id,
                item.subscription_item_id,
                item.end,
                item.unused.value,
                item.prompt_end,
                item.cause.value,
            )
            for item in new.items
            if item.subscription_item_id in items and items[item.subscription_item_id] != item
        ],
    )


async def _insert_terms(
    tx: Connection, tenant_id: UUID, subscription_id: UUID, terms: Sequence[Term]
) -> None:
    await tx.executemany(
        "INSERT INTO subscription_term (tenant_id, subscription_id, term_id, plan_code,"
        " plan_version, is_add_on, quantity, seats, start_time, end_time, anchor_time,"
        " interval_count, interval_unit, cause)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10, $11, $12, $13, $14)",
        [
            (
                tenant_id,
                subscription_id,
                term.term_id,
                term.plan_code,
                term.plan_version,
                term.is_add_on,
                term.quantity,
                json.dumps({code: str(seats) for code, seats in term.seats.items()}),
                term.start,
                term.end,
                term.anchor,
                term.every.count,
                term.every.unit.value,
                term.cause.value,
            )
            for term in terms
        ],
    )


async def _insert_items(
    tx: Connection, tenant_id: UUID, subscription_id: UUID, items: Sequence[Item], position: int
) -> None:
    await tx.executemany(
        "INSERT INTO subscription_item (tenant_id, subscription_item_id, subscription_id, price_id,"
        " position, quantity, term_id, start_time, end_time, anchor_time, interval_count,"
        " interval_unit, pricing, is_free, is_whole, unused, prompt_start, prompt_end, cause)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb, $14, $15, $16,"
        " $17, $18, $19)",
        [
            (
                tenant_id,
                item.subscription_item_id,
                subscription_id,
                item.price.price_id,
                place,
                item.quantity,
                item.term_id,
                item.start,
                item.end,
                item.anchor,
                None if item.every is None else item.every.count,
                None if item.every is None else item.every.unit.value,
                None if item.pricing is None else json.dumps(item.pricing),
                item.is_free,
                item.is_whole,
                item.unused.value,
                item.prompt_start,
                item.prompt_end,
                item.cause.value,
            )
            for place, item in enumerate(items, start=position)
        ],
    )


async def insert_change(
    tx: Connection,
    tenant_id: UUID,
    subscription: Subscription,
    kind: str,
    effective_time: datetime,
    now: datetime,
    note: str = "",
) -> None:
    await tx.execute(
        "INSERT INTO subscription_change (tenant_id, subscription_id, revision, kind,"
        " effective_time, create_time, note) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        tenant_id,
        subscription.subscription_id,
        subscription.revision,
        kind,
        effective_time,
        now,
        note,
    )


async def list_changes(
    tx: Connection, tenant_id: UUID, subscription_id: UUID, before: int, limit: int
) -> list[asyncpg.Record]:
    """Newest first, of revisions below `before`."""
    rows: list[asyncpg.Record] = await tx.fetch(
        "SELECT revision, kind, effective_time, create_time, note FROM subscription_change"
        " WHERE tenant_id = $1 AND subscription_id = $2 AND revision < $3"
        " ORDER BY revision DESC LIMIT $4",
        tenant_id,
        subscription_id,
        before,
        limit,
    )
    return rows


async def had_trial(tx: Connection, tenant_id: UUID, customer_id: str, plan_code: str) -> bool:
    """Whether a customer's earlier subscription to a plan began with a trial."""
    return bool(
        await tx.fetchval(
            "SELECT true FROM subscription WHERE tenant_id = $1 AND customer_id = $2"
            " AND plan_code = $3 AND trial_end_time IS NOT NULL LIMIT 1",
            tenant_id,
            customer_id,
            plan_code,
        )
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


async def find_subscription(
    tx: Connection, tenant_id: UUID, subscription_id: UUID
) -> Subscription | None:
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM subscription AS s"
        " WHERE s.tenant_id = $1 AND s.subscription_id = $2",
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


async def list_renewing(
    tx: Connection, tenant_id: UUID, payers: Sequence[str], as_of: datetime
) -> list[UUID]:
    """Subscriptions with terms, of customers or of whom they pay for, that fall due, in order."""
    rows = await tx.fetch(
        "SELECT s.subscription_id FROM subscription AS s"
        " JOIN customer AS c ON c.tenant_id = s.tenant_id AND c.customer_id = s.customer_id"
        " WHERE s.tenant_id = $1 AND s.next_bill_time <= $3 AND s.renewal <> '{}'"
        " AND (s.customer_id = ANY ($2) OR c.payer_customer_id = ANY ($2))"
        " ORDER BY s.customer_id, s.subscription_id",
        tenant_id,
        list(payers),
        as_of,
    )
    return [row["subscription_id"] for row in rows]


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
    """Write what changes of a subscription itself."""
    await tx.execute(
        "UPDATE subscription SET end_time = $3, revision = $4, bill_from_time = $5,"
        " next_bill_time = $6, pause_time = $7, resume_time = $8, planned_end_time = $9,"
        " end_reason = $10, ending = $11::jsonb, pausing = $12::jsonb, renewal = $13::jsonb"
        " WHERE tenant_id = $1 AND subscription_id = $2",
        tenant_id,
        subscription.subscription_id,
        subscription.end_time,
        subscription.revision,
        subscription.bill_from_time,
        subscription.next_bill_time,
        subscription.pause_time,
        subscription.resume_time,
        subscription.planned_end_time,
        subscription.end_reason,
        json.dumps(ending_document(subscription.ending)),
        json.dumps(pausing_document(subscription.pausing)),
        json.dumps(renewal_document(subscription.renewal)),
    )


async def _with_items(
    tx: Connection, tenant_id: UUID, rows: Sequence[asyncpg.Record]
) -> list[Subscription]:
    if not rows:
        return []
    ids = [row["subscription_id"] for row in rows]
    found = await tx.fetch(
        "SELECT i.subscription_id, i.subscription_item_id, i.quantity, i.term_id, i.start_time,"
        " i.end_time, i.anchor_time, i.interval_count, i.interval_unit, i.pricing AS own_pricing,"
        " i.is_free, i.is_whole, i.unused, i.prompt_start, i.prompt_end, i.cause, p.plan_code,"
        f" {PRICE_COLUMNS} FROM subscription_item AS i"
        " JOIN price AS p ON p.tenant_id = i.tenant_id AND p.price_id = i.price_id"
        " WHERE i.tenant_id = $1 AND i.subscription_id = ANY ($2)"
        " ORDER BY i.subscription_id, i.position",
        tenant_id,
        ids,
    )
    items: dict[UUID, list[Item]] = {}
    for row in found:
        items.setdefault(row["subscription_id"], []).append(_item(row))
    terms: dict[UUID, list[Term]] = {}
    for row in await tx.fetch(
        "SELECT * FROM subscription_term WHERE tenant_id = $1 AND subscription_id = ANY ($2)"
        " ORDER BY subscription_id, start_time, term_id",
        tenant_id,
        ids,
    ):
        terms.setdefault(row["subscription_id"], []).append(_term(row))
    return [
        _subscription(
            row, items.get(row["subscription_id"], []), terms.get(row["subscription_id"], [])
        )
        for row in rows
    ]


def _item(row: asyncpg.Record) -> Item:
    own = row["own_pricing"]
    pricing = None if own is None else json.loads(own)
    return Item(
        subscription_item_id=row["subscription_item_id"],
        price=price_of(row).priced(pricing),
        quantity=row["quantity"],
        term_id=row["term_id"],
        start=row["start_time"],
        end=row["end_time"],
        anchor=row["anchor_time"],
        every=None if row["interval_count"] is None else every_of(row),
        pricing=pricing,
        plan_code=row["plan_code"],
        is_free=row["is_free"],
        is_whole=row["is_whole"],
        unused=Unused(row["unused"]),
        prompt_start=row["prompt_start"],
        prompt_end=row["prompt_end"],
        cause=Cause(row["cause"]),
    )


def _term(row: asyncpg.Record) -> Term:
    seats = json.loads(row["seats"])
    return Term(
        term_id=row["term_id"],
        plan_code=row["plan_code"],
        plan_version=row["plan_version"],
        is_add_on=row["is_add_on"],
        quantity=row["quantity"],
        seats={code: Decimal(quantity) for code, quantity in seats.items()},
        start=row["start_time"],
        end=row["end_time"],
        anchor=row["anchor_time"],
        every=every_of(row),
        cause=Cause(row["cause"]),
    )


def _subscription(
    row: asyncpg.Record, items: Sequence[Item], terms: Sequence[Term]
) -> Subscription:
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
        terms=tuple(terms),
        currency=row["currency"],
        basis=Basis(row["proration_basis"]),
        trial_end_time=row["trial_end_time"],
        pause_time=row["pause_time"],
        resume_time=row["resume_time"],
        planned_end_time=row["planned_end_time"],
        end_reason=row["end_reason"],
        ending=ending_of(json.loads(row["ending"])),
        pausing=pausing_of(json.loads(row["pausing"])),
        renewal=renewal_of(json.loads(row["renewal"])),
    )
