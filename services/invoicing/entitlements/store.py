"""SQL of features, overrides and grants, and of what plans grant."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.entitlements.domain.resolve import Grant, Override, Provision, Source
from invoicing.entitlements.domain.value import (
    Feature,
    FeatureKind,
    Merge,
    PlanEntitlement,
    Value,
    entitlements_of,
    value_document,
    value_of,
)
from kernel.period import Every, Unit

NOBODY = UUID(int=0)  # the subscription of a customer's own override
_FEATURE = "code, name, kind, meter, merge, default_value, create_time"
_OVERRIDE = "customer_id, feature_code, subscription_id, value, start_time, end_time"
_GRANT = "grant_id, customer_id, feature_code, value, start_time, end_time, reason"


async def insert_feature(tx: Connection, tenant_id: UUID, feature: Feature) -> bool:
    """False where a feature of that code exists."""
    return bool(
        await tx.fetchval(
            f"INSERT INTO feature (tenant_id, {_FEATURE})"
            " VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8) ON CONFLICT DO NOTHING RETURNING true",
            tenant_id,
            feature.code,
            feature.name,
            feature.kind.value,
            feature.meter,
            feature.merge.value,
            _json(feature.default),
            feature.create_time,
        )
    )


async def lock_feature(tx: Connection, tenant_id: UUID, code: str) -> Feature | None:
    row = await tx.fetchrow(
        f"SELECT {_FEATURE} FROM feature WHERE tenant_id = $1 AND code = $2 FOR UPDATE",
        tenant_id,
        code,
    )
    return None if row is None else _feature(row)


async def save_feature(tx: Connection, tenant_id: UUID, feature: Feature) -> None:
    await tx.execute(
        "UPDATE feature SET name = $3, merge = $4, default_value = $5::jsonb"
        " WHERE tenant_id = $1 AND code = $2",
        tenant_id,
        feature.code,
        feature.name,
        feature.merge.value,
        _json(feature.default),
    )


async def list_features(tx: Connection, tenant_id: UUID, after: str, limit: int) -> list[Feature]:
    rows = await tx.fetch(
        f"SELECT {_FEATURE} FROM feature WHERE tenant_id = $1 AND code > $2 ORDER BY code LIMIT $3",
        tenant_id,
        after,
        limit,
    )
    return [_feature(row) for row in rows]


async def find_features(
    tx: Connection, tenant_id: UUID, codes: Collection[str]
) -> dict[str, Feature]:
    """Features by code: those named, and those of which everybody has something."""
    rows = await tx.fetch(
        f"SELECT {_FEATURE} FROM feature WHERE tenant_id = $1"
        " AND (code = ANY ($2) OR default_value IS NOT NULL)",
        tenant_id,
        list(codes),
    )
    return {row["code"]: _feature(row) for row in rows}


async def list_provisions(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str], now: datetime
) -> dict[str, list[Provision]]:
    """What customers' subscriptions have or will have of plans, older subscriptions first."""
    rows = await tx.fetch(
        "SELECT s.customer_id, s.subscription_id, s.time_zone, t.plan_code, t.is_add_on,"
        " t.quantity, t.seats, t.anchor_time, t.interval_count, t.interval_unit, t.start_time,"
        " least(t.end_time, s.end_time) AS end_time, v.features, v.entitlements"
        " FROM subscription AS s JOIN subscription_term AS t ON t.tenant_id = s.tenant_id"
        "  AND t.subscription_id = s.subscription_id"
        " JOIN plan_version AS v ON v.tenant_id = t.tenant_id"
        "  AND v.code = t.plan_code AND v.version = t.plan_version"
        " WHERE s.tenant_id = $1 AND s.customer_id = ANY ($2)"
        "  AND (least(t.end_time, s.end_time) IS NULL OR (least(t.end_time, s.end_time) > $3"
        "   AND least(t.end_time, s.end_time) > t.start_time))"
        " ORDER BY s.customer_id, s.start_time, s.subscription_id, t.start_time, t.term_id",
        tenant_id,
        list(customer_ids),
        now,
    )
    found: dict[str, list[Provision]] = {}
    for row in rows:
        provision = Provision(
            subscription_id=row["subscription_id"],
            source=Source.ADD_ON if row["is_add_on"] else Source.PLAN,
            name=row["plan_code"],
            quantity=row["quantity"],
            values=_granted(row),
            seats={code: Decimal(seats) for code, seats in json.loads(row["seats"]).items()},
            anchor=row["anchor_time"],
            every=Every(row["interval_count"], Unit(row["interval_unit"])),
            time_zone=row["time_zone"],
            start=row["start_time"],
            end=row["end_time"],
        )
        found.setdefault(row["customer_id"], []).append(provision)
    return found


def _granted(row: asyncpg.Record) -> tuple[PlanEntitlement, ...]:
    stated = entitlements_of(json.loads(row["entitlements"]))
    named = {one.feature_code for one in stated}
    plain = (PlanEntitlement(code, Value()) for code in row["features"] if code not in named)
    return (*stated, *plain)


async def has_subscription(
    tx: Connection, tenant_id: UUID, customer_id: str, subscription_id: UUID
) -> bool:
    return bool(
        await tx.fetchval(
            "SELECT true FROM subscription WHERE tenant_id = $1 AND subscription_id = $2"
            " AND customer_id = $3",
            tenant_id,
            subscription_id,
            customer_id,
        )
    )


async def save_override(tx: Connection, tenant_id: UUID, override: Override) -> None:
    await tx.execute(
        f"INSERT INTO entitlement_override (tenant_id, {_OVERRIDE})"
        " VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7)"
        " ON CONFLICT ON CONSTRAINT one_override_per_feature DO UPDATE"
        " SET value = excluded.value, start_time = excluded.start_time,"
        " end_time = excluded.end_time",
        tenant_id,
        override.customer_id,
        override.feature_code,
        override.subscription_id or NOBODY,
        json.dumps(value_document(override.value)),
        override.start,
        override.end,
    )


async def delete_override(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    subscription_id: UUID | None,
    feature_code: str,
) -> bool:
    """False where there was none."""
    return bool(
        await tx.fetchval(
            "DELETE FROM entitlement_override WHERE tenant_id = $1 AND customer_id = $2"
            " AND feature_code = $3 AND subscription_id = $4 RETURNING true",
            tenant_id,
            customer_id,
            feature_code,
            subscription_id or NOBODY,
        )
    )


async def list_overrides(
    tx: Connection, tenant_id: UUID, customer_id: str, after: tuple[str, UUID], limit: int
) -> list[Override]:
    rows = await tx.fetch(
        f"SELECT {_OVERRIDE} FROM entitlement_override WHERE tenant_id = $1 AND customer_id = $2"
        " AND (feature_code, subscription_id) > ($3, $4)"
        " ORDER BY feature_code, subscription_id LIMIT $5",
        tenant_id,
        customer_id,
        *after,
        limit,
    )
    return [_override(row) for row in rows]


async def list_overrides_of(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str], now: datetime
) -> dict[str, list[Override]]:
    """Overrides that hold or will hold, by customer."""
    rows = await tx.fetch(
        f"SELECT {_OVERRIDE} FROM entitlement_override WHERE tenant_id = $1"
        " AND customer_id = ANY ($2) AND (end_time IS NULL OR end_time > $3)",
        tenant_id,
        list(customer_ids),
        now,
    )
    found: dict[str, list[Override]] = {}
    for row in rows:
        found.setdefault(row["customer_id"], []).append(_override(row))
    return found


async def insert_grant(tx: Connection, tenant_id: UUID, grant: Grant) -> None:
    await tx.execute(
        f"INSERT INTO entitlement_grant (tenant_id, {_GRANT})"
        " VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8)",
        tenant_id,
        grant.grant_id,
        grant.customer_id,
        grant.feature_code,
        json.dumps(value_document(grant.value)),
        grant.start,
        grant.end,
        grant.reason,
    )


async def lock_grant(tx: Connection, tenant_id: UUID, grant_id: UUID) -> Grant | None:
    row = await tx.fetchrow(
        f"SELECT {_GRANT} FROM entitlement_grant WHERE tenant_id = $1 AND grant_id = $2 FOR UPDATE",
        tenant_id,
        grant_id,
    )
    return None if row is None else _grant(row)


async def save_grant(tx: Connection, tenant_id: UUID, grant: Grant) -> None:
    await tx.execute(
        "UPDATE entitlement_grant SET end_time = $3 WHERE tenant_id = $1 AND grant_id = $2",
        tenant_id,
        grant.grant_id,
        grant.end,
    )


async def list_grants(
    tx: Connection, tenant_id: UUID, customer_id: str, before: UUID | None, limit: int
) -> list[Grant]:
    """Newest first."""
    rows = await tx.fetch(
        f"SELECT {_GRANT} FROM entitlement_grant WHERE tenant_id = $1 AND customer_id = $2"
        " AND ($3::uuid IS NULL OR grant_id < $3) ORDER BY grant_id DESC LIMIT $4",
        tenant_id,
        customer_id,
        before,
        limit,
    )
    return [_grant(row) for row in rows]


async def list_grants_of(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str], now: datetime
) -> dict[str, list[Grant]]:
    """Grants that hold or will hold, by customer, oldest first."""
    rows = await tx.fetch(
        f"SELECT {_GRANT} FROM entitlement_grant WHERE tenant_id = $1 AND customer_id = ANY ($2)"
        " AND (end_time IS NULL OR (end_time > $3 AND end_time > start_time)) ORDER BY grant_id",
        tenant_id,
        list(customer_ids),
        now,
    )
    found: dict[str, list[Grant]] = {}
    for row in rows:
        found.setdefault(row["customer_id"], []).append(_grant(row))
    return found


def _json(value: Value | None) -> str | None:
    return None if value is None else json.dumps(value_document(value))


def _feature(row: asyncpg.Record) -> Feature:
    default = row["default_value"]
    return Feature(
        code=row["code"],
        name=row["name"],
        kind=FeatureKind(row["kind"]),
        create_time=row["create_time"],
        meter=row["meter"],
        merge=Merge(row["merge"]),
        default=None if default is None else value_of(json.loads(default)),
    )


def _override(row: asyncpg.Record) -> Override:
    nobody = row["subscription_id"] == NOBODY
    return Override(
        customer_id=row["customer_id"],
        subscription_id=None if nobody else row["subscription_id"],
        feature_code=row["feature_code"],
        value=value_of(json.loads(row["value"])),
        start=row["start_time"],
        end=row["end_time"],
    )


def _grant(row: asyncpg.Record) -> Grant:
    return Grant(
        grant_id=row["grant_id"],
        customer_id=row["customer_id"],
        feature_code=row["feature_code"],
        value=value_of(json.loads(row["value"])),
        start=row["start_time"],
        end=row["end_time"],
        reason=row["reason"],
    )
