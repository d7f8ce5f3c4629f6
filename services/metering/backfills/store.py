"""Backfills and what they were fed with, in Postgres."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from asyncpg import Record as Row

from chassis.database import Connection
from kernel.period import Period
from metering.backfills.domain import Backfill, Fed, FedState, Mode, State
from metering.charging.domain import Refused
from metering.events.domain.event import Event, event_key

_FED = (
    "f.position, f.event_id, f.customer_id, f.name, f.subject, f.event_time, f.properties,"
    " f.node, f.state, f.refusal"
)


async def insert(tx: Connection, tenant_id: UUID, backfill: Backfill) -> None:
    """Open a backfill."""
    await tx.execute(
        "INSERT INTO backfill (tenant_id, backfill_id, mode, start_time, end_time, customer_ids,"
        " reason, caller, state, has_replaced, create_time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        tenant_id,
        backfill.backfill_id,
        backfill.mode.value,
        backfill.interval.start,
        backfill.interval.end,
        backfill.customer_ids,
        backfill.reason,
        backfill.caller,
        backfill.state.value,
        backfill.has_replaced,
        backfill.create_time,
    )


async def find(
    tx: Connection, tenant_id: UUID, backfill_id: UUID, *, lock: bool = False
) -> Backfill | None:
    """One backfill; locked, its state is nobody else's to change until the transaction ends."""
    row = await tx.fetchrow(
        "SELECT backfill_id, mode, start_time, end_time, customer_ids, reason, caller, state,"
        " has_replaced, create_time FROM backfill WHERE tenant_id = $1 AND backfill_id = $2"
        + (" FOR UPDATE" if lock else ""),
        tenant_id,
        backfill_id,
    )
    if row is None:
        return None
    return Backfill(
        row["backfill_id"],
        Mode(row["mode"]),
        Period(row["start_time"], row["end_time"]),
        list(row["customer_ids"]),
        row["reason"],
        row["caller"],
        State(row["state"]),
        row["has_replaced"],
        row["create_time"],
    )


async def save_state(
    tx: Connection, tenant_id: UUID, backfill_id: UUID, state: State, *, has_replaced: bool
) -> None:
    """Where the backfill stands."""
    await tx.execute(
        "UPDATE backfill SET state = $3, has_replaced = $4"
        " WHERE tenant_id = $1 AND backfill_id = $2",
        tenant_id,
        backfill_id,
        state.value,
        has_replaced,
    )


async def list_under_way(connection: Connection, count_max: int) -> list[tuple[UUID, UUID]]:
    """Backfills that are being applied or taken back, with their tenants."""
    rows = await connection.fetch(
        "SELECT tenant_id, backfill_id FROM list_backfills_under_way($1)", count_max
    )
    return [(row["tenant_id"], row["backfill_id"]) for row in rows]


async def count_by_state(tx: Connection, tenant_id: UUID, backfill_id: UUID) -> dict[FedState, int]:
    """How many events stand where."""
    rows = await tx.fetch(
        "SELECT state, count(*) AS events FROM backfill_event"
        " WHERE tenant_id = $1 AND backfill_id = $2 GROUP BY state",
        tenant_id,
        backfill_id,
    )
    return {FedState(row["state"]): row["events"] for row in rows}


async def feed(tx: Connection, tenant_id: UUID, backfill_id: UUID, events: Sequence[Event]) -> None:
    """Add events that were not fed before."""
    await tx.execute(
        "INSERT INTO backfill_event (tenant_id, backfill_id, event_key, event_id, customer_id,"
        " name, subject, event_time, properties, node, state)"
        " SELECT $1, $2, n.k, n.e, n.c, n.n, n.s, n.t, n.p, n.d, 1"
        " FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],"
        " $8::timestamptz[], $9::jsonb[], $10::text[])"
        " WITH ORDINALITY AS n (k, e, c, n, s, t, p, d, place)"
        " ORDER BY n.place ON CONFLICT (tenant_id, backfill_id, event_key) DO NOTHING",
        tenant_id,
        backfill_id,
        [event_key(event.event_id) for event in events],
        [event.event_id for event in events],
        [event.customer_id for event in events],
        [event.name for event in events],
        [event.subject for event in events],
        [event.event_time for event in events],
        [json.dumps(event.properties, ensure_ascii=False) for event in events],
        [event.node for event in events],
    )


async def find_fed(
    tx: Connection, tenant_id: UUID, backfill_id: UUID, event_ids: Iterable[str]
) -> dict[str, Fed]:
    """Events that were fed, by event id."""
    rows = await tx.fetch(
        f"SELECT {_FED} FROM backfill_event AS f WHERE f.tenant_id = $1 AND f.backfill_id = $2"
        " AND f.event_key = ANY($3::uuid[])",
        tenant_id,
        backfill_id,
        [event_key(event_id) for event_id in event_ids],
    )
    return {row["event_id"]: _fed(row) for row in rows}


async def list_fed(
    tx: Connection,
    tenant_id: UUID,
    backfill_id: UUID,
    states: Sequence[FedState],
    count_max: int,
    *,
    after: int = 0,
    customer_id: str | None = None,
) -> list[Fed]:
    """Events in some states, in the order in which they were fed; of one customer or of all."""
    rows = await tx.fetch(
        f"SELECT {_FED} FROM backfill_event AS f WHERE f.tenant_id = $1 AND f.backfill_id = $2"
        " AND f.state = ANY($3::smallint[]) AND f.position > $4"
        " AND ($5::text IS NULL OR f.customer_id = $5) ORDER BY f.position LIMIT $6",
        tenant_id,
        backfill_id,
        [state.value for state in states],
        after,
        customer_id,
        count_max,
    )
    return [_fed(row) for row in rows]


async def mark(
    tx: Connection,
    tenant_id: UUID,
    backfill_id: UUID,
    states: Mapping[str, tuple[FedState, Refused | None]],
) -> None:
    """Where events stand, by event id."""
    await tx.execute(
        "UPDATE backfill_event AS f SET state = v.state, refusal = v.refusal"
        " FROM unnest($3::uuid[], $4::smallint[], $5::jsonb[]) AS v (event_key, state, refusal)"
        " WHERE f.tenant_id = $1 AND f.backfill_id = $2 AND f.event_key = v.event_key",
        tenant_id,
        backfill_id,
        [event_key(event_id) for event_id in states],
        [state.value for state, _ in states.values()],
        [json.dumps(list(why)) if why is not None else None for _, why in states.values()],
    )


def _fed(row: Row) -> Fed:
    refusal = row["refusal"]
    event = Event(
        row["event_id"],
        row["name"],
        row["customer_id"],
        row["subject"],
        row["event_time"],
        json.loads(row["properties"]),
        None,
        row["node"],
    )
    return Fed(
        row["position"],
        event,
        FedState(row["state"]),
        Refused(*json.loads(refusal)) if refusal else None,
    )
