"""Parked events, and what tenants want done with them, in Postgres."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from asyncpg import Record as Row

from chassis.database import Connection
from metering.charging.domain import Refused
from metering.events.domain.event import Event, event_key
from metering.parking.domain import IngestChoice, IngestPolicy, Parked

_COLUMNS = (
    "p.receipt_id, p.event_id, p.customer_id, p.name, p.subject, p.event_time, p.receive_time,"
    " p.properties, p.authorization_id, p.refusal, p.meter_version, p.attempts,"
    " p.next_attempt_time, p.node, p.continues"
)


async def find_policy(tx: Connection, tenant_id: UUID) -> IngestPolicy:
    """What a tenant chose; to refuse, where it chose nothing."""
    row = await tx.fetchrow(
        "SELECT unmatched, unusable, unpriced FROM ingest_policy WHERE tenant_id = $1", tenant_id
    )
    return IngestPolicy(*(IngestChoice(value) for value in row)) if row else IngestPolicy()


async def save_policy(tx: Connection, tenant_id: UUID, policy: IngestPolicy) -> None:
    """Keep what a tenant chose."""
    await tx.execute(
        "INSERT INTO ingest_policy (tenant_id, unmatched, unusable, unpriced)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id) DO UPDATE SET"
        " unmatched = excluded.unmatched, unusable = excluded.unusable,"
        " unpriced = excluded.unpriced",
        tenant_id,
        *(choice.value for choice in policy),
    )


async def insert_all(tx: Connection, tenant_id: UUID, parked: Sequence[Parked]) -> None:
    """Park events whose ids are claimed."""
    columns = zip(*(_row(each) for each in parked), strict=True)
    await tx.execute(
        "INSERT INTO parked_event (tenant_id, receipt_id, event_key, event_id, customer_id, name,"
        " subject, event_time, receive_time, properties, authorization_id, refusal, meter_version,"
        " attempts, next_attempt_time, node, continues)"
        " SELECT $1, n.* FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[],"
        " $7::text[], $8::timestamptz[], $9::timestamptz[], $10::jsonb[], $11::uuid[],"
        " $12::jsonb[], $13::integer[], $14::integer[], $15::timestamptz[], $16::text[],"
        " $17::boolean[]) AS n",
        tenant_id,
        *columns,
    )


async def list_by_receipt(
    tx: Connection, tenant_id: UUID, receipt_ids: Iterable[UUID]
) -> list[Parked]:
    """Parked events by receipt."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM parked_event AS p WHERE p.tenant_id = $1"
        " AND p.receipt_id = ANY($2::uuid[]) AND p.discard_time IS NULL",
        tenant_id,
        list(receipt_ids),
    )
    return [_parked(row) for row in rows]


async def list_by_event(tx: Connection, tenant_id: UUID, event_ids: Iterable[str]) -> list[Parked]:
    """Parked events by event id."""
    wanted = {event_key(event_id) for event_id in event_ids}
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM parked_event AS p WHERE p.tenant_id = $1"
        " AND p.event_key = ANY($2::uuid[]) AND p.discard_time IS NULL",
        tenant_id,
        list(wanted),
    )
    return [_parked(row) for row in rows]


async def list_page(
    tx: Connection, tenant_id: UUID, reason: str, after: UUID, count_max: int
) -> list[Parked]:
    """Parked events in the order in which they came."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM parked_event AS p WHERE p.tenant_id = $1 AND p.receipt_id > $2"
        " AND p.discard_time IS NULL AND ($3 = '' OR p.refusal ->> 0 = $3)"
        " ORDER BY p.receipt_id LIMIT $4",
        tenant_id,
        after,
        reason,
        count_max,
    )
    return [_parked(row) for row in rows]


async def list_due(
    tx: Connection, tenant_id: UUID, meter_version: int, count_max: int
) -> list[Parked]:
    """Parked events to be tried now, those that wait longest first."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM parked_event AS p WHERE p.tenant_id = $1"
        " AND p.discard_time IS NULL AND (p.next_attempt_time <= clock_timestamp()"
        " OR p.meter_version < $2) ORDER BY p.receipt_id LIMIT $3",
        tenant_id,
        meter_version,
        count_max,
    )
    return [_parked(row) for row in rows]


async def note_attempts(tx: Connection, tenant_id: UUID, parked: Sequence[Parked]) -> None:
    """Keep why events could not be taken up, and when they are tried again."""
    await tx.execute(
        "UPDATE parked_event AS p SET refusal = v.refusal, meter_version = v.meter_version,"
        " attempts = v.attempts, next_attempt_time = v.next_attempt_time"
        " FROM unnest($2::uuid[], $3::jsonb[], $4::integer[], $5::integer[], $6::timestamptz[])"
        " AS v (receipt_id, refusal, meter_version, attempts, next_attempt_time)"
        " WHERE p.tenant_id = $1 AND p.receipt_id = v.receipt_id",
        tenant_id,
        [each.receipt_id for each in parked],
        [json.dumps(list(each.refusal)) for each in parked],
        [each.meter_version for each in parked],
        [each.attempts for each in parked],
        [each.next_attempt_time for each in parked],
    )


async def take_up(
    tx: Connection, tenant_id: UUID, receipts: Sequence[tuple[UUID, UUID]]
) -> set[UUID]:
    """Let events wait no longer: pairs of the receipt they were parked under and the one they are
    stored under now. Answers the former, without those that somebody else took up or gave up."""
    rows = await tx.fetch(
        "DELETE FROM parked_event AS p WHERE p.tenant_id = $1 AND p.receipt_id = ANY($2::uuid[])"
        " AND p.discard_time IS NULL RETURNING p.receipt_id, p.event_key",
        tenant_id,
        [parked for parked, _ in receipts],
    )
    keys = {row["receipt_id"]: row["event_key"] for row in rows}
    await tx.execute(
        "UPDATE event_receipt AS r SET receipt_id = v.receipt_id"
        " FROM unnest($2::uuid[], $3::uuid[]) AS v (event_key, receipt_id)"
        " WHERE r.tenant_id = $1 AND r.event_key = v.event_key",
        tenant_id,
        [keys[parked] for parked, _ in receipts if parked in keys],
        [receipt for parked, receipt in receipts if parked in keys],
    )
    return set(keys)


async def discard(
    tx: Connection, tenant_id: UUID, receipt_ids: Sequence[UUID], reason: str, now: datetime
) -> list[str]:
    """Give events up and free their ids; answers the ids."""
    rows = await tx.fetch(
        "UPDATE parked_event AS p SET discard_reason = $3, discard_time = $4"
        " WHERE p.tenant_id = $1 AND p.receipt_id = ANY($2::uuid[]) AND p.discard_time IS NULL"
        " RETURNING p.event_id, p.event_key",
        tenant_id,
        receipt_ids,
        reason,
        now,
    )
    await tx.execute(
        "DELETE FROM event_receipt WHERE tenant_id = $1 AND event_key = ANY($2::uuid[])",
        tenant_id,
        [row["event_key"] for row in rows],
    )
    return sorted(row["event_id"] for row in rows)


def _row(each: Parked) -> tuple[object, ...]:
    event = each.event
    return (
        each.receipt_id,
        event_key(event.event_id),
        event.event_id,
        event.customer_id,
        event.name,
        event.subject,
        event.event_time,
        each.receive_time,
        json.dumps(event.properties, ensure_ascii=False),
        event.authorization_id,
        json.dumps(list(each.refusal)),
        each.meter_version,
        each.attempts,
        each.next_attempt_time,
        event.node,
        event.continues,
    )


def _parked(row: Row) -> Parked:
    event = Event(
        row["event_id"],
        row["name"],
        row["customer_id"],
        row["subject"],
        row["event_time"],
        json.loads(row["properties"]),
        row["authorization_id"],
        row["node"],
        row["continues"],
    )
    return Parked(
        row["receipt_id"],
        event,
        row["receive_time"],
        Refused(*json.loads(row["refusal"])),
        row["meter_version"],
        row["attempts"],
        row["next_attempt_time"],
    )
