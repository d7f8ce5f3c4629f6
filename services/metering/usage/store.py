"""Running usage in Postgres. The callers hold the locks of the customers."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Record as Row

from chassis.database import Connection
from kernel.period import Period
from metering.aggregates.domain.tally import Aggregation, Moment, Rule, Sighting
from metering.aggregates.domain.tally import read_number as read_number
from metering.events.domain.matching import UsageKey
from metering.meters.domain import MeterSet
from metering.ratecards.domain import Entry, Pricing, Stretch, pricing_of_document
from metering.usage.domain import Running, UsageName

KeyPlace = tuple[str, int, str, UUID]  # customer, number of the usage, part, key

_FIGURES = (
    "u.number, u.quantity::text AS quantity, u.event_count, u.rating_state, u.asked::text AS asked,"
    " u.shortfall::text AS shortfall, u.left_over::text AS left_over, u.pricing_id, u.settlement,"
    " u.scale, u.period_start, u.period_end, u.start_time, u.end_time"
)
_IDENTITY = (
    "u.customer_id, u.subscription_item_id, u.price_id, u.plan_code, u.meter, u.dimensions,"
    " u.time_zone, u.asset"
)


async def load_runnings(
    tx: Connection,
    tenant_id: UUID,
    entries: Mapping[UsageKey, Entry],
    meters: MeterSet,
) -> dict[UsageKey, Running]:
    """The running usage that is stored under the keys of these entries."""
    rows = await find_figures(tx, tenant_id, list(entries))
    other = other_pricings(rows, entries)
    pricings = await load_pricings(tx, tenant_id, other) if other else {}
    return make_runnings(rows, entries, meters, pricings)


def other_pricings(rows: Mapping[UsageKey, Row], entries: Mapping[UsageKey, Entry]) -> set[UUID]:
    """Prices that stored usage began with and the rate card no longer has.

    A price never changes, so the entry's is the stored one; but if it did, usage stays rated by
    the price it began with.
    """
    return {row["pricing_id"] for row in rows.values()} - {
        entry.pricing.pricing_id for entry in entries.values()
    }


def make_runnings(
    rows: Mapping[UsageKey, Row],
    entries: Mapping[UsageKey, Entry],
    meters: MeterSet,
    pricings: Mapping[UUID, Pricing],
) -> dict[UsageKey, Running]:
    """Stored figures as running usage, with what the entry of the rate card knows of it."""
    found: dict[UsageKey, Running] = {}
    for key, row in rows.items():
        entry = entries[key]
        pricing = entry.pricing
        if row["pricing_id"] != pricing.pricing_id:
            pricing = pricings.get(row["pricing_id"], pricing)
        found[key] = Running(
            customer_id=key[0],
            subscription_item_id=key[1],
            price_id=key[2],
            plan_code=entry.plan_code,
            meter=entry.meter,
            rule=_rule(meters, entry.meter),
            dimensions=entry.dimensions,
            pricing=pricing,
            time_zone=entry.time_zone,
            **_figures(row),
        )
    return found


async def find_figures(
    tx: Connection, tenant_id: UUID, keys: Sequence[UsageKey]
) -> dict[UsageKey, Row]:
    """Stored rows by key, without what the entry of the rate card knows anyway."""
    if not keys:
        return {}
    customers, items, prices, starts = zip(*keys, strict=True)
    rows = await tx.fetch(
        f"SELECT k.position, {_FIGURES}"
        " FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[])"
        " WITH ORDINALITY AS k (customer_id, item, price_id, period_start, position)"
        " JOIN usage AS u ON u.tenant_id = $1 AND u.customer_id = k.customer_id"
        " AND u.subscription_item_id = k.item AND u.price_id = k.price_id"
        " AND u.period_start = k.period_start",
        tenant_id,
        customers,
        items,
        prices,
        starts,
    )
    return {keys[row["position"] - 1]: row for row in rows}


async def find_named(
    tx: Connection, tenant_id: UUID, numbers: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], UsageName]:
    """What usages are of, by customer and number."""
    wanted = list(numbers)
    if not wanted:
        return {}
    customers, places = zip(*wanted, strict=True)
    rows = await tx.fetch(
        "SELECT u.customer_id, u.number, u.price_id, u.subscription_item_id, u.meter, u.plan_code,"
        " u.asset, u.scale, u.settlement"
        " FROM unnest($2::text[], $3::integer[]) AS k (customer_id, number)"
        " JOIN usage AS u ON u.tenant_id = $1 AND u.customer_id = k.customer_id"
        " AND u.number = k.number",
        tenant_id,
        customers,
        places,
    )
    return {
        (row["customer_id"], row["number"]): UsageName(
            row["price_id"],
            row["subscription_item_id"],
            row["meter"],
            row["plan_code"],
            row["asset"],
            row["scale"],
            row["settlement"] == 2,
        )
        for row in rows
    }


async def list_numbered(
    tx: Connection, tenant_id: UUID, numbers: Iterable[tuple[str, int]]
) -> list[Row]:
    """Stored rows by customer and number, with the document of their price."""
    wanted = list(numbers)
    if not wanted:
        return []
    customers, places = zip(*wanted, strict=True)
    return await tx.fetch(
        f"SELECT {_FIGURES}, {_IDENTITY}, p.document"
        " FROM unnest($2::text[], $3::integer[]) AS k (customer_id, number)"
        " JOIN usage AS u ON u.tenant_id = $1 AND u.customer_id = k.customer_id"
        " AND u.number = k.number"
        " JOIN pricing AS p ON p.tenant_id = $1 AND p.pricing_id = u.pricing_id",
        tenant_id,
        customers,
        places,
    )


async def list_of_customer(tx: Connection, tenant_id: UUID, customer_id: str) -> list[Row]:
    """All stored rows of one customer, with the documents of their prices."""
    return await tx.fetch(
        f"SELECT {_FIGURES}, {_IDENTITY}, p.document FROM usage AS u"
        " JOIN pricing AS p ON p.tenant_id = u.tenant_id AND p.pricing_id = u.pricing_id"
        " WHERE u.tenant_id = $1 AND u.customer_id = $2 ORDER BY u.number",
        tenant_id,
        customer_id,
    )


def running_of(row: Row, pricing: Pricing, meters: MeterSet) -> Running:
    """Running usage from a row of `list_numbered` or `list_of_customer`."""
    return Running(
        customer_id=row["customer_id"],
        subscription_item_id=row["subscription_item_id"],
        price_id=row["price_id"],
        plan_code=row["plan_code"],
        meter=row["meter"],
        rule=_rule(meters, row["meter"]),
        dimensions=tuple(sorted(json.loads(row["dimensions"]).items())),
        pricing=pricing,
        time_zone=row["time_zone"],
        **_figures(row),
    )


def _figures(row: Row) -> dict[str, Any]:
    return {
        "number": row["number"],
        "stretch": Stretch(
            Period(row["period_start"], row["period_end"]),
            Period(row["start_time"], row["end_time"]),
        ),
        "from_wallet": row["settlement"] == 2,
        "scale": row["scale"],
        "quantity": read_number(row["quantity"]),
        "event_count": row["event_count"],
        "rating_state": row["rating_state"],
        "asked": int(row["asked"]),
        "shortfall": int(row["shortfall"]),
        "left_over": int(row["left_over"]),
        "is_new": False,
    }


def _rule(meters: MeterSet, code: str) -> Rule:
    meter = meters.meters.get(code)
    return meter.rule if meter is not None else Rule(Aggregation.SUM)


async def load_pricings(
    tx: Connection, tenant_id: UUID, pricing_ids: Iterable[UUID]
) -> dict[UUID, Pricing]:
    """Stored prices by id."""
    rows = await tx.fetch(
        "SELECT pricing_id, document FROM pricing WHERE tenant_id = $1 AND pricing_id = ANY($2)",
        tenant_id,
        list(pricing_ids),
    )
    return {
        row["pricing_id"]: pricing_of_document(row["document"], row["pricing_id"]) for row in rows
    }


async def insert_runnings(tx: Connection, tenant_id: UUID, runnings: Sequence[Running]) -> None:
    """Add usage that is new, and the documents of its prices."""
    documents = {r.pricing.pricing_id: r.pricing.document for r in runnings}
    await tx.execute(
        "INSERT INTO pricing (tenant_id, pricing_id, document)"
        " SELECT $1, d.pricing_id, d.document FROM unnest($2::uuid[], $3::jsonb[])"
        " AS d (pricing_id, document) ORDER BY d.pricing_id ON CONFLICT DO NOTHING",
        tenant_id,
        list(documents),
        list(documents.values()),
    )
    columns = zip(*(_new_row(running) for running in runnings), strict=True)
    await tx.execute(
        "INSERT INTO usage (tenant_id, customer_id, number, subscription_item_id, price_id,"
        " plan_code, meter, dimensions, period_start, period_end, start_time, end_time, time_zone,"
        " pricing_id, settlement, asset, scale, quantity, event_count, rating_state, asked,"
        " shortfall, left_over)"
        " SELECT $1, n.c, n.n, n.i, n.p, n.pl, n.m, n.d, n.ps, n.pe, n.s, n.e, n.z, n.pr, n.se,"
        " n.a, n.sc, n.q::numeric, n.ec, n.st, n.ask::numeric, n.sh::numeric, n.lo::numeric"
        " FROM unnest($2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[],"
        " $8::jsonb[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[],"
        " $12::timestamptz[], $13::text[], $14::uuid[], $15::smallint[], $16::text[],"
        " $17::smallint[], $18::text[], $19::bigint[], $20::jsonb[], $21::text[], $22::text[],"
        " $23::text[]) AS n (c, n, i, p, pl, m, d, ps, pe, s, e, z, pr, se, a, sc, q, ec, st, ask,"
        " sh, lo)",
        tenant_id,
        *columns,
    )


def _new_row(running: Running) -> tuple[object, ...]:
    stretch = running.stretch
    return (
        running.customer_id,
        running.number,
        running.subscription_item_id,
        running.price_id,
        running.plan_code,
        running.meter,
        json.dumps(dict(running.dimensions)),
        stretch.period.start,
        stretch.period.end,
        stretch.in_force.start,
        stretch.in_force.end,
        running.time_zone,
        running.pricing.pricing_id,
        2 if running.from_wallet else 1,
        running.asset,
        running.scale,
        *_moving(running),
    )


def _moving(running: Running) -> tuple[object, ...]:
    return (
        running.quantity_text(),
        running.event_count,
        running.state_document(),
        str(running.asked),
        str(running.shortfall),
        str(running.left_over),
    )


async def grow_runnings(tx: Connection, tenant_id: UUID, runnings: Sequence[Running]) -> None:
    """Write back the figures of usage that only grew: nothing fell short or is left over, and
    nothing but the total quantity decides the cost."""
    columns = zip(
        *(
            (each.customer_id, each.number, each.quantity_text(), each.event_count, str(each.asked))
            for each in runnings
        ),
        strict=True,
    )
    await tx.execute(
        "UPDATE usage AS u SET quantity = v.quantity::numeric, event_count = v.event_count,"
        " asked = v.asked::numeric"
        " FROM unnest($2::text[], $3::integer[], $4::text[], $5::bigint[], $6::text[])"
        " AS v (customer_id, number, quantity, event_count, asked)"
        " WHERE u.tenant_id = $1 AND u.customer_id = v.customer_id AND u.number = v.number",
        tenant_id,
        *columns,
    )


async def save_runnings(tx: Connection, tenant_id: UUID, runnings: Sequence[Running]) -> None:
    """Write back all figures of usage that was there before."""
    columns = zip(
        *((running.customer_id, running.number, *_moving(running)) for running in runnings),
        strict=True,
    )
    await tx.execute(
        "UPDATE usage AS u SET quantity = v.quantity::numeric, event_count = v.event_count,"
        " rating_state = v.rating_state, asked = v.asked::numeric,"
        " shortfall = v.shortfall::numeric, left_over = v.left_over::numeric"
        " FROM unnest($2::text[], $3::integer[], $4::text[], $5::bigint[], $6::jsonb[], $7::text[],"
        " $8::text[], $9::text[]) AS v (customer_id, number, quantity, event_count, rating_state,"
        " asked, shortfall, left_over)"
        " WHERE u.tenant_id = $1 AND u.customer_id = v.customer_id AND u.number = v.number",
        tenant_id,
        *columns,
    )


async def find_keys(
    tx: Connection, tenant_id: UUID, places: Collection[KeyPlace]
) -> dict[KeyPlace, Sighting]:
    """Those of these keys of unique counts that were met in their usage."""
    if not places:
        return {}
    rows = await tx.fetch(
        "SELECT k.customer_id, k.number, k.part, k.unique_key, k.event_count, k.last_time,"
        " k.last_sequence, k.is_active"
        " FROM unnest($2::text[], $3::integer[], $4::text[], $5::uuid[]) AS p (c, n, part, key)"
        " JOIN usage_key AS k ON k.tenant_id = $1 AND k.customer_id = p.c AND k.number = p.n"
        " AND k.part = p.part AND k.unique_key = p.key",
        tenant_id,
        *zip(*places, strict=True),
    )
    return {
        (row["customer_id"], row["number"], row["part"], row["unique_key"]): _sighting(row)
        for row in rows
    }


async def list_keys(
    tx: Connection, tenant_id: UUID, customer_id: str
) -> dict[int, dict[tuple[str, UUID], Sighting]]:
    """All keys of a customer's unique counts, by number of the usage."""
    rows = await tx.fetch(
        "SELECT number, part, unique_key, event_count, last_time, last_sequence, is_active"
        " FROM usage_key WHERE tenant_id = $1 AND customer_id = $2 AND event_count > 0",
        tenant_id,
        customer_id,
    )
    found: dict[int, dict[tuple[str, UUID], Sighting]] = {}
    for row in rows:
        found.setdefault(row["number"], {})[row["part"], row["unique_key"]] = _sighting(row)
    return found


async def save_keys(tx: Connection, tenant_id: UUID, runnings: Iterable[Running]) -> None:
    """Write back the keys that changed; those of usage that was recounted are written anew."""
    rows = []
    recounted: list[tuple[str, int]] = []
    for running in runnings:
        counter = running.counter
        if counter is None or counter.rule.aggregation is not Aggregation.UNIQUE_COUNT:
            continue
        if counter.is_recounted:
            recounted.append((running.customer_id, running.number))
        for part, key in counter.changed:
            sighting = counter.sightings[part, key]
            rows.append(
                (
                    running.customer_id,
                    running.number,
                    part,
                    key,
                    sighting.event_count,
                    *sighting.last,
                    sighting.is_active,
                )
            )
    if recounted:
        await tx.execute(
            "DELETE FROM usage_key AS k USING unnest($2::text[], $3::integer[]) AS v (c, n)"
            " WHERE k.tenant_id = $1 AND k.customer_id = v.c AND k.number = v.n",
            tenant_id,
            *zip(*recounted, strict=True),
        )
    if rows:
        await tx.execute(
            "INSERT INTO usage_key (tenant_id, customer_id, number, part, unique_key,"
            " event_count, last_time, last_sequence, is_active)"
            " SELECT $1, n.* FROM unnest($2::text[], $3::integer[], $4::text[], $5::uuid[],"
            " $6::bigint[], $7::bigint[], $8::bigint[], $9::boolean[]) AS n"
            " ON CONFLICT (tenant_id, customer_id, number, part, unique_key) DO UPDATE SET"
            " event_count = excluded.event_count, last_time = excluded.last_time,"
            " last_sequence = excluded.last_sequence, is_active = excluded.is_active",
            tenant_id,
            *zip(*rows, strict=True),
        )


async def list_later(
    tx: Connection, tenant_id: UUID, customer_id: str, meter: str, instant: datetime
) -> list[Row]:
    """Stored rows of one meter that begin after an instant, with the documents of their prices."""
    return await tx.fetch(
        f"SELECT {_FIGURES}, {_IDENTITY}, p.document FROM usage AS u"
        " JOIN pricing AS p ON p.tenant_id = u.tenant_id AND p.pricing_id = u.pricing_id"
        " WHERE u.tenant_id = $1 AND u.customer_id = $2 AND u.meter = $3 AND u.start_time > $4"
        " ORDER BY u.number",
        tenant_id,
        customer_id,
        meter,
        instant,
    )


def _sighting(row: Row) -> Sighting:
    return Sighting(
        row["event_count"], Moment(row["last_time"], row["last_sequence"]), row["is_active"]
    )
