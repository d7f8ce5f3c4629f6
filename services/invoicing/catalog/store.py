"""SQL of plans, prices and rate cards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import asyncpg

from chassis.database import Connection
from invoicing.catalog.domain import (
    CardEntry,
    PlanKind,
    PlanPrice,
    PlanVersion,
    PriceKind,
    Settlement,
    Timing,
    Trial,
    TrialEnd,
    VersionState,
    free_of_charge,
)
from invoicing.entitlements.domain.value import entitlement_documents, entitlements_of
from kernel.period import Every, Unit

PRICES_KEPT_MAX = 4_096  # prices of many plans; each is a few kilobytes
PRICE_COLUMNS = (
    "p.price_id, p.code AS price_code, p.description, p.kind, p.meter, p.dimensions, p.pricing,"
    " p.settlement, p.timing, p.tax_category, p.interval_count AS price_interval_count,"
    " p.interval_unit AS price_interval_unit, p.currency_pricings"
)
_VERSION_COLUMNS = (
    "v.code, v.version, v.name, v.state, v.interval_count, v.interval_unit, v.features,"
    " v.create_time, v.publish_time, v.entitlements, v.kind, v.quantity_max, v.compatible_plans,"
    " v.trial"
)


async def take_version(tx: Connection, tenant_id: UUID, code: str) -> int:
    """The number of the plan's next version; of two that race, the second gets the one after."""
    version: int = await tx.fetchval(
        "INSERT INTO plan (tenant_id, code, last_version) VALUES ($1, $2, 1)"
        " ON CONFLICT (tenant_id, code) DO UPDATE SET last_version = plan.last_version + 1"
        " RETURNING last_version",
        tenant_id,
        code,
    )
    return version


async def find_kind(tx: Connection, tenant_id: UUID, code: str) -> PlanKind | None:
    """What a code stands for; None where nothing has it."""
    kind = await tx.fetchval(
        "SELECT kind FROM plan_version WHERE tenant_id = $1 AND code = $2 LIMIT 1", tenant_id, code
    )
    return None if kind is None else PlanKind(kind)


async def insert_version(tx: Connection, tenant_id: UUID, plan: PlanVersion) -> None:
    await tx.execute(
        "INSERT INTO plan_version (tenant_id, code, version, name, state, interval_count,"
        " interval_unit, features, create_time, entitlements, kind, quantity_max,"
        " compatible_plans, trial)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11, $12, $13, $14::jsonb)",
        tenant_id,
        plan.code,
        plan.version,
        plan.name,
        plan.state.value,
        plan.every.count,
        plan.every.unit.value,
        list(plan.features),
        plan.create_time,
        json.dumps(entitlement_documents(plan.entitlements)),
        plan.kind.value,
        plan.quantity_max,
        list(plan.compatible_plans),
        None if plan.trial is None else json.dumps(_trial_document(plan.trial)),
    )
    await tx.executemany(
        "INSERT INTO price (tenant_id, price_id, plan_code, plan_version, position, code,"
        " description, kind, meter, dimensions, pricing, settlement, timing, tax_category,"
        " interval_count, interval_unit, currency_pricings)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11::jsonb, $12, $13, $14, $15,"
        " $16, $17::jsonb)",
        [
            (
                tenant_id,
                price.price_id,
                plan.code,
                plan.version,
                position,
                price.code,
                price.description,
                price.kind.value,
                price.meter,
                json.dumps(price.dimensions),
                json.dumps(price.document),
                price.settlement.value,
                price.timing.value,
                price.tax_category,
                None if price.every is None else price.every.count,
                None if price.every is None else price.every.unit.value,
                json.dumps(price.currency_pricings),
            )
            for position, price in enumerate(plan.prices)
        ],
    )


async def save_published(tx: Connection, tenant_id: UUID, plan: PlanVersion) -> None:
    """Freeze a version and make it the one that new subscriptions take."""
    await tx.execute(
        "UPDATE plan_version SET state = $4, publish_time = $5"
        " WHERE tenant_id = $1 AND code = $2 AND version = $3",
        tenant_id,
        plan.code,
        plan.version,
        plan.state.value,
        plan.publish_time,
    )
    await tx.execute(
        "UPDATE plan SET default_version = $3 WHERE tenant_id = $1 AND code = $2",
        tenant_id,
        plan.code,
        plan.version,
    )


async def save_archived(tx: Connection, tenant_id: UUID, plan: PlanVersion) -> None:
    """Take a version off the shelf; where it was the default one, the latest left takes over."""
    await tx.execute(
        "UPDATE plan_version SET state = $4 WHERE tenant_id = $1 AND code = $2 AND version = $3",
        tenant_id,
        plan.code,
        plan.version,
        plan.state.value,
    )
    await tx.execute(
        "UPDATE plan SET default_version = (SELECT max(v.version) FROM plan_version AS v"
        "  WHERE v.tenant_id = $1 AND v.code = $2 AND v.state = 'PUBLISHED')"
        " WHERE tenant_id = $1 AND code = $2 AND default_version = $3",
        tenant_id,
        plan.code,
        plan.version,
    )


async def find_default_version(tx: Connection, tenant_id: UUID, code: str) -> int | None:
    """The published version that new subscriptions take, 0 where there is none yet, None where
    there is no such plan."""
    row = await tx.fetchrow(
        "SELECT default_version FROM plan WHERE tenant_id = $1 AND code = $2", tenant_id, code
    )
    return None if row is None else row["default_version"] or 0


async def find_version(
    tx: Connection, tenant_id: UUID, code: str, version: int, *, lock: bool = False
) -> PlanVersion | None:
    row = await tx.fetchrow(
        f"SELECT {_VERSION_COLUMNS} FROM plan_version AS v"
        " WHERE v.tenant_id = $1 AND v.code = $2 AND v.version = $3"
        + (" FOR UPDATE" if lock else ""),
        tenant_id,
        code,
        version,
    )
    if row is None:
        return None
    prices = await _prices_of(tx, tenant_id, [code])
    return _version(row, prices.get((code, version), []))


async def list_versions(
    tx: Connection, tenant_id: UUID, after: tuple[str, int], limit: int
) -> list[PlanVersion]:
    rows = await tx.fetch(
        f"SELECT {_VERSION_COLUMNS} FROM plan_version AS v"
        " WHERE v.tenant_id = $1 AND (v.code, v.version) > ($2, $3)"
        " ORDER BY v.code, v.version LIMIT $4",
        tenant_id,
        *after,
        limit,
    )
    prices = await _prices_of(tx, tenant_id, sorted({row["code"] for row in rows}))
    return [_version(row, prices.get((row["code"], row["version"]), [])) for row in rows]


async def list_card_entries(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str], ended_after: datetime
) -> dict[str, list[CardEntry]]:
    """Usage prices by customer, older subscriptions first."""
    rows = await tx.fetch(
        "SELECT s.customer_id, i.subscription_item_id, p.plan_code, s.time_zone,"
        " coalesce(i.anchor_time, s.anchor_time) AS anchor_time,"
        " coalesce(i.interval_count, s.interval_count) AS interval_count,"
        " coalesce(i.interval_unit, s.interval_unit) AS interval_unit,"
        " coalesce(i.start_time, s.start_time) AS start_time,"
        " least(i.end_time, s.end_time) AS end_time, i.pricing AS own_pricing, i.is_free,"
        f" {PRICE_COLUMNS} FROM subscription AS s"
        " JOIN subscription_item AS i ON i.tenant_id = s.tenant_id"
        "  AND i.subscription_id = s.subscription_id"
        " JOIN price AS p ON p.tenant_id = i.tenant_id AND p.price_id = i.price_id"
        " WHERE s.tenant_id = $1 AND s.customer_id = ANY ($2)"
        "  AND p.kind = 'USAGE' AND (least(i.end_time, s.end_time) IS NULL"
        "   OR (least(i.end_time, s.end_time) > $3"
        "    AND least(i.end_time, s.end_time) > coalesce(i.start_time, s.start_time)))"
        " ORDER BY s.customer_id, s.start_time, s.subscription_id, i.position",
        tenant_id,
        list(customer_ids),
        ended_after,
    )
    found: dict[str, list[CardEntry]] = {}
    for row in rows:
        entry = CardEntry(
            price=_price_in_force(row),
            subscription_item_id=row["subscription_item_id"],
            plan_code=row["plan_code"],
            anchor_time=row["anchor_time"],
            every=every_of(row),
            time_zone=row["time_zone"],
            start_time=row["start_time"],
            end_time=row["end_time"],
        )
        found.setdefault(row["customer_id"], []).append(entry)
    return found


def _price_in_force(row: asyncpg.Record) -> PlanPrice:
    own = row["own_pricing"]
    price = price_of(row).priced(None if own is None else json.loads(own))
    return free_of_charge(price) if row["is_free"] else price


async def _prices_of(
    tx: Connection, tenant_id: UUID, codes: Sequence[str]
) -> dict[tuple[str, int], list[PlanPrice]]:
    rows = await tx.fetch(
        f"SELECT p.plan_code, p.plan_version, {PRICE_COLUMNS} FROM price AS p"
        " WHERE p.tenant_id = $1 AND p.plan_code = ANY ($2)"
        " ORDER BY p.plan_code, p.plan_version, p.position",
        tenant_id,
        list(codes),
    )
    prices: dict[tuple[str, int], list[PlanPrice]] = {}
    for row in rows:
        prices.setdefault((row["plan_code"], row["plan_version"]), []).append(price_of(row))
    return prices


def every_of(row: asyncpg.Record) -> Every:
    return Every(row["interval_count"], Unit(row["interval_unit"]))


def price_of(row: asyncpg.Record) -> PlanPrice:
    """The price in a row. Equal rows give the same value, so that it is parsed once."""
    return _price(
        row["price_id"],
        row["price_code"],
        row["description"],
        row["kind"],
        row["meter"],
        row["dimensions"],
        row["pricing"],
        row["settlement"],
        row["timing"],
        row["tax_category"],
        row["price_interval_count"],
        row["price_interval_unit"],
        row["currency_pricings"],
    )


@lru_cache(maxsize=PRICES_KEPT_MAX)
def _price(
    price_id: UUID,
    code: str,
    description: str,
    kind: str,
    meter: str,
    dimensions: str,
    pricing: str,
    settlement: str,
    timing: str,
    tax_category: str,
    count: int | None,
    unit: str | None,
    currency_pricings: str,
) -> PlanPrice:
    return PlanPrice(
        price_id=price_id,
        code=code,
        description=description,
        kind=PriceKind(kind),
        meter=meter,
        dimensions=json.loads(dimensions),
        document=json.loads(pricing),
        settlement=Settlement(settlement),
        timing=Timing(timing),
        tax_category=tax_category,
        every=None if count is None or unit is None else Every(count, Unit(unit)),
        currency_pricings=json.loads(currency_pricings),
    )


def _trial_document(trial: Trial) -> dict[str, Any]:
    return {
        "count": trial.length.count,
        "unit": trial.length.unit.value,
        "requires_payment_method": trial.requires_payment_method,
        "end": trial.end.value,
        "is_usage_charged": trial.is_usage_charged,
        "keeps_anchor": trial.keeps_anchor,
        "is_once": trial.is_once,
    }


def _trial(text: str | None) -> Trial | None:
    if text is None:
        return None
    document = json.loads(text)
    length = Every(document.pop("count"), Unit(document.pop("unit")))
    return Trial(length=length, **{**document, "end": TrialEnd(document["end"])})


def _version(row: asyncpg.Record, prices: Sequence[PlanPrice]) -> PlanVersion:
    return PlanVersion(
        code=row["code"],
        version=row["version"],
        name=row["name"],
        state=VersionState(row["state"]),
        prices=tuple(prices),
        every=every_of(row),
        features=tuple(row["features"]),
        create_time=row["create_time"],
        publish_time=row["publish_time"],
        entitlements=entitlements_of(json.loads(row["entitlements"])),
        kind=PlanKind(row["kind"]),
        quantity_max=row["quantity_max"],
        compatible_plans=tuple(row["compatible_plans"]),
        trial=_trial(row["trial"]),
    )
