"""Events, their receipts, and batches of charges in Postgres."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from asyncpg import Record as Row

from chassis.database import Connection
from kernel.period import Period
from metering.charging.domain import Refused, batch_end, batch_of
from metering.events.domain.decision import Record
from metering.events.domain.event import Event, EventState, StoredEvent, StoredLine

_COLUMNS = (
    "e.receipt_id, e.event_id, e.customer_id, e.name, e.subject, e.event_time, e.receive_time,"
    " e.sequence, e.meter_version, e.properties, e.authorization_id, e.state, e.lines, e.refusal,"
    " e.node, e.continues"
)


class LockedCustomers(NamedTuple):
    """Customers whose usage nobody else changes until the transaction ends."""

    sequences: dict[str, int]  # the last one given before this batch
    usage_counts: dict[str, int]
    meter_version: int


async def lock_customers(
    tx: Connection, tenant_id: UUID, counts: Mapping[str, int]
) -> LockedCustomers:
    """Lock customers in byte order of their ids and give each as many sequence numbers as it has
    events. The version of the tenant's meters is read in the same breath."""
    ordered = sorted(counts)
    rows = await tx.fetch(
        "INSERT INTO customer AS c (tenant_id, customer_id, sequence, usage_count)"
        " SELECT $1, u.customer_id, u.events, 0"
        " FROM unnest($2::text[], $3::bigint[]) AS u (customer_id, events)"
        " ON CONFLICT (tenant_id, customer_id) DO UPDATE SET sequence = c.sequence"
        " + excluded.sequence"
        " RETURNING customer_id, sequence, usage_count,"
        " (SELECT version FROM meter_set WHERE tenant_id = $1) AS meter_version",
        tenant_id,
        ordered,
        [counts[customer_id] for customer_id in ordered],
    )
    return LockedCustomers(
        {row["customer_id"]: row["sequence"] - counts[row["customer_id"]] for row in rows},
        {row["customer_id"]: row["usage_count"] for row in rows},
        rows[0]["meter_version"] or 0,
    )


async def relock_customers(tx: Connection, tenant_id: UUID, customer_ids: Iterable[str]) -> None:
    """Lock customers that have usage, in byte order of their ids."""
    await tx.execute(
        "SELECT FROM customer WHERE tenant_id = $1 AND customer_id = ANY($2::text[])"
        " ORDER BY customer_id FOR UPDATE",
        tenant_id,
        list(customer_ids),
    )


async def save_usage_counts(tx: Connection, tenant_id: UUID, counts: Mapping[str, int]) -> None:
    """Keep how many usages each customer has."""
    await tx.execute(
        "UPDATE customer AS c SET usage_count = v.usage_count"
        " FROM unnest($2::text[], $3::integer[]) AS v (customer_id, usage_count)"
        " WHERE c.tenant_id = $1 AND c.customer_id = v.customer_id",
        tenant_id,
        list(counts),
        list(counts.values()),
    )


async def claim_receipts(
    tx: Connection, tenant_id: UUID, receipts: Mapping[UUID, UUID]
) -> dict[UUID, UUID]:
    """Take event keys for these receipts; answers key → receipt where another was first.

    Keys are taken in order, so that two batches with the same events wait and do not deadlock.
    """
    keys = sorted(receipts)
    status = await tx.execute(
        "INSERT INTO event_receipt (tenant_id, event_key, receipt_id)"
        " SELECT $1, r.event_key, r.receipt_id"
        " FROM unnest($2::uuid[], $3::uuid[]) AS r (event_key, receipt_id)"
        " ON CONFLICT (tenant_id, event_key) DO NOTHING",
        tenant_id,
        keys,
        [receipts[key] for key in keys],
    )
    if status == f"INSERT 0 {len(keys)}":
        return {}
    # A new statement, so that it sees what the insert waited for.
    rows = await tx.fetch(
        "SELECT event_key, receipt_id FROM event_receipt"
        " WHERE tenant_id = $1 AND event_key = ANY($2::uuid[])",
        tenant_id,
        keys,
    )
    return {
        row["event_key"]: row["receipt_id"]
        for row in rows
        if row["receipt_id"] != receipts[row["event_key"]]
    }


async def release_receipts(tx: Connection, tenant_id: UUID, keys: Sequence[UUID]) -> None:
    """Give back keys whose events are not stored after all."""
    await tx.execute(
        "DELETE FROM event_receipt WHERE tenant_id = $1 AND event_key = ANY($2::uuid[])",
        tenant_id,
        keys,
    )


async def find_receipt(tx: Connection, tenant_id: UUID, key: UUID) -> UUID | None:
    """The receipt of an event."""
    found: UUID | None = await tx.fetchval(
        "SELECT receipt_id FROM event_receipt WHERE tenant_id = $1 AND event_key = $2",
        tenant_id,
        key,
    )
    return found


async def insert_events(
    tx: Connection, tenant_id: UUID, records: Sequence[Record], meter_version: int
) -> None:
    """Add the events of a batch."""
    columns = zip(*(_row(record) for record in records), strict=True)
    await tx.execute(
        "INSERT INTO event (tenant_id, meter_version, state, receipt_id, event_id, customer_id,"
        " name, subject, event_time, receive_time, sequence, properties, authorization_id, lines,"
        " node, continues)"
        " SELECT $1, $2, 1, n.r, n.e, n.c, n.n, n.s, n.t, n.rt, n.q, n.p, n.a, n.l, n.d, n.o"
        " FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],"
        " $8::timestamptz[], $9::timestamptz[], $10::bigint[], $11::jsonb[], $12::uuid[],"
        " $13::jsonb[], $14::text[], $15::boolean[])"
        " AS n (r, e, c, n, s, t, rt, q, p, a, l, d, o)",
        tenant_id,
        meter_version,
        *columns,
    )


def _row(record: Record) -> tuple[object, ...]:
    event = record.match.event
    lines = ",".join(
        f'[{line.running.number},"{line.quantity}",{line.atoms},0]' for line in record.lines
    )
    return (
        record.receipt_id,
        event.event_id,
        event.customer_id,
        event.name,
        event.subject,
        event.event_time,
        record.match.now,
        record.sequence,
        json.dumps(event.properties, ensure_ascii=False),
        event.authorization_id,
        f"[{lines}]",
        event.node,
        event.continues,
    )


async def insert_batch(tx: Connection, tenant_id: UUID, batch_id: UUID) -> None:
    """Note that a batch has charges to be settled."""
    await tx.execute(
        "INSERT INTO charge_batch (tenant_id, batch_id) VALUES ($1, $2)", tenant_id, batch_id
    )


async def delete_batch(tx: Connection, tenant_id: UUID, batch_id: UUID) -> bool:
    """Note that a batch is settled; False where somebody did before."""
    status = await tx.execute(
        "DELETE FROM charge_batch WHERE tenant_id = $1 AND batch_id = $2", tenant_id, batch_id
    )
    return status == "DELETE 1"


async def list_pending(tx: Connection, tenant_id: UUID, batch_ids: Iterable[UUID]) -> set[UUID]:
    """Which of these batches are not settled yet."""
    rows = await tx.fetch(
        "SELECT batch_id FROM charge_batch WHERE tenant_id = $1 AND batch_id = ANY($2::uuid[])",
        tenant_id,
        list(batch_ids),
    )
    return {row["batch_id"] for row in rows}


async def list_batches(tx: Connection, tenant_id: UUID) -> list[UUID]:
    """All batches of the tenant that are not settled yet."""
    rows = await tx.fetch("SELECT batch_id FROM charge_batch WHERE tenant_id = $1", tenant_id)
    return [row["batch_id"] for row in rows]


async def list_events(
    tx: Connection, tenant_id: UUID, receipt_ids: Iterable[UUID]
) -> list[StoredEvent]:
    """Stored events by receipt."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event AS e"
        " WHERE e.tenant_id = $1 AND e.receipt_id = ANY($2::uuid[])",
        tenant_id,
        list(receipt_ids),
    )
    return [_stored(row) for row in rows]


async def list_batch(tx: Connection, tenant_id: UUID, batch_id: UUID) -> list[StoredEvent]:
    """The events of one batch in their order."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event AS e WHERE e.tenant_id = $1"
        " AND e.receipt_id >= $2 AND e.receipt_id < $3 ORDER BY e.receipt_id",
        tenant_id,
        batch_of(batch_id),
        batch_end(batch_id),
    )
    return [_stored(row) for row in rows]


async def list_charged(
    tx: Connection, tenant_id: UUID, after: UUID, count_max: int
) -> list[StoredEvent]:
    """Events that a wallet may have been asked for, from a receipt on, in order of receipt."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event AS e WHERE e.tenant_id = $1 AND e.receipt_id >= $2"
        " AND (e.lines <> '[]' OR e.authorization_id IS NOT NULL)"
        " ORDER BY e.receipt_id LIMIT $3",
        tenant_id,
        after,
        count_max,
    )
    return [_stored(row) for row in rows]


async def list_of_customer(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    start: datetime,
    end: datetime,
    name: str | None = None,
) -> list[StoredEvent]:
    """Accepted events of a customer in [start, end), of one name or of all, in no order."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event AS e WHERE e.tenant_id = $1 AND e.customer_id = $2"
        " AND e.event_time >= $3 AND e.event_time < $4 AND e.state = 1"
        " AND ($5::text IS NULL OR e.name = $5)",
        tenant_id,
        customer_id,
        start,
        end,
        name,
    )
    return [_stored(row) for row in rows]


async def list_between(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str], stretches: Sequence[Period]
) -> list[StoredEvent]:
    """Accepted events in any of these stretches of time, of some customers or of all (empty)."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM unnest($3::timestamptz[], $4::timestamptz[]) AS s (begins, ends)"
        " JOIN event AS e ON e.event_time >= s.begins AND e.event_time < s.ends"
        " WHERE e.tenant_id = $1 AND e.state = 1"
        " AND ($2::text[] IS NULL OR e.customer_id = ANY($2))",
        tenant_id,
        list(customer_ids) or None,
        [stretch.start for stretch in stretches],
        [stretch.end for stretch in stretches],
    )
    return [_stored(row) for row in rows]


async def list_page_between(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    interval: Period,
    after: tuple[datetime, UUID] | None,
    count_max: int,
) -> list[StoredEvent]:
    """Accepted events of a customer in an interval, in order of event time and receipt."""
    time, receipt = after if after else (None, None)
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event AS e WHERE e.tenant_id = $1 AND e.customer_id = $2"
        " AND e.event_time >= $3 AND e.event_time < $4 AND e.state = 1"
        " AND ($5::timestamptz IS NULL OR (e.event_time, e.receipt_id) > ($5, $6::uuid))"
        " ORDER BY e.event_time, e.receipt_id LIMIT $7",
        tenant_id,
        customer_id,
        interval.start,
        interval.end,
        time,
        receipt,
        count_max,
    )
    return [_stored(row) for row in rows]


async def list_page_of_customer(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    after: tuple[datetime, UUID] | None,
    count_max: int,
) -> list[StoredEvent]:
    """All events of a customer, in order of event time and receipt, one page."""
    time, receipt = after if after else (None, None)
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event AS e WHERE e.tenant_id = $1 AND e.customer_id = $2"
        " AND ($3::timestamptz IS NULL OR (e.event_time, e.receipt_id) > ($3, $4::uuid))"
        " ORDER BY e.event_time, e.receipt_id LIMIT $5",
        tenant_id,
        customer_id,
        time,
        receipt,
        count_max,
    )
    return [_stored(row) for row in rows]


async def list_customers(tx: Connection, tenant_id: UUID, after: str, count_max: int) -> list[str]:
    """Customers that ever had events, by id."""
    rows = await tx.fetch(
        "SELECT customer_id FROM customer WHERE tenant_id = $1 AND customer_id > $2"
        " ORDER BY customer_id LIMIT $3",
        tenant_id,
        after,
        count_max,
    )
    return [row["customer_id"] for row in rows]


async def reject_events(tx: Connection, tenant_id: UUID, refusals: Mapping[UUID, Refused]) -> None:
    """Mark events as rejected, with why."""
    await tx.execute(
        "UPDATE event AS e SET state = 2, refusal = v.refusal"
        " FROM unnest($2::uuid[], $3::jsonb[]) AS v (receipt_id, refusal)"
        " WHERE e.tenant_id = $1 AND e.receipt_id = v.receipt_id AND e.state = 1",
        tenant_id,
        list(refusals),
        [json.dumps(list(refusal)) for refusal in refusals.values()],
    )


async def save_lines(
    tx: Connection, tenant_id: UUID, lines: Mapping[UUID, Sequence[StoredLine]]
) -> None:
    """Write the lines of events again, after something of them fell short."""
    await tx.execute(
        "UPDATE event AS e SET lines = v.lines"
        " FROM unnest($2::uuid[], $3::jsonb[]) AS v (receipt_id, lines)"
        " WHERE e.tenant_id = $1 AND e.receipt_id = v.receipt_id",
        tenant_id,
        list(lines),
        [json.dumps([list(line) for line in parts]) for parts in lines.values()],
    )


def _stored(row: Row) -> StoredEvent:
    refusal = row["refusal"]
    return StoredEvent(
        row["receipt_id"],
        Event(
            row["event_id"],
            row["name"],
            row["customer_id"],
            row["subject"],
            row["event_time"],
            json.loads(row["properties"]),
            row["authorization_id"],
            row["node"],
            row["continues"],
        ),
        row["receive_time"],
        row["sequence"],
        row["meter_version"],
        EventState(row["state"]),
        [StoredLine(*line) for line in json.loads(row["lines"])],
        Refused(*json.loads(refusal)) if refusal else None,
    )
