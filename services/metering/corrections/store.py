"""Revisions of events in Postgres."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from asyncpg import Record as Row

from chassis.database import Connection
from metering.charging.domain import batch_end, batch_of
from metering.corrections.domain.revision import Refund, Revision, RevisionKind, RevisionState
from metering.events.domain.event import EventState

_COLUMNS = (
    "r.receipt_id, r.origin_id, r.customer_id, r.revision, r.kind, r.supersedes, r.reason,"
    " r.caller, r.request_id, r.fingerprint, r.state, r.refunds, r.create_time"
)


async def find_receipts(tx: Connection, tenant_id: UUID, keys: Iterable[UUID]) -> dict[UUID, UUID]:
    """Receipts of events as they were first received, by event key."""
    rows = await tx.fetch(
        "SELECT event_key, receipt_id FROM event_receipt"
        " WHERE tenant_id = $1 AND event_key = ANY($2::uuid[])",
        tenant_id,
        list(keys),
    )
    return {row["event_key"]: row["receipt_id"] for row in rows}


async def list_of_events(
    tx: Connection, tenant_id: UUID, origin_ids: Iterable[UUID]
) -> list[Revision]:
    """All revisions of these events, oldest first."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event_revision AS r"
        " WHERE r.tenant_id = $1 AND r.origin_id = ANY($2::uuid[])"
        " ORDER BY r.origin_id, r.revision",
        tenant_id,
        list(origin_ids),
    )
    return [_revision(row) for row in rows]


async def list_of_requests(
    tx: Connection, tenant_id: UUID, request_ids: Iterable[str]
) -> dict[str, Revision]:
    """What requests were made before, by key."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event_revision AS r"
        " WHERE r.tenant_id = $1 AND r.request_id = ANY($2::text[])",
        tenant_id,
        list(request_ids),
    )
    return {row["request_id"]: _revision(row) for row in rows}


async def list_with_prefix(
    tx: Connection, tenant_id: UUID, prefix: str, after: str, count_max: int
) -> list[Revision]:
    """Revisions that stand and whose keys begin so, by key."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event_revision AS r WHERE r.tenant_id = $1 AND r.request_id > $2"
        " AND r.request_id < $3 AND r.state = 1 ORDER BY r.request_id LIMIT $4",
        tenant_id,
        after,
        prefix + "~",
        count_max,
    )
    return [_revision(row) for row in rows]


async def list_in_batch(tx: Connection, tenant_id: UUID, batch_id: UUID) -> list[Revision]:
    """The revisions that were decided in one batch."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event_revision AS r WHERE r.tenant_id = $1"
        " AND r.receipt_id >= $2 AND r.receipt_id < $3 ORDER BY r.receipt_id",
        tenant_id,
        batch_of(batch_id),
        batch_end(batch_id),
    )
    return [_revision(row) for row in rows]


async def list_by_receipt(
    tx: Connection, tenant_id: UUID, receipt_ids: Iterable[UUID]
) -> list[Revision]:
    """Revisions by their own receipts; what is none is left out."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event_revision AS r"
        " WHERE r.tenant_id = $1 AND r.receipt_id = ANY($2::uuid[])",
        tenant_id,
        list(receipt_ids),
    )
    return [_revision(row) for row in rows]


async def list_of_customer(tx: Connection, tenant_id: UUID, customer_id: str) -> list[Revision]:
    """All revisions of a customer's events that stand."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM event_revision AS r"
        " WHERE r.tenant_id = $1 AND r.customer_id = $2 AND r.state = 1",
        tenant_id,
        customer_id,
    )
    return [_revision(row) for row in rows]


async def insert_all(tx: Connection, tenant_id: UUID, revisions: Sequence[Revision]) -> bool:
    """Add revisions; False where a request_id was taken meanwhile."""
    columns = zip(*(_row(revision) for revision in revisions), strict=True)
    status = await tx.execute(
        "INSERT INTO event_revision (tenant_id, receipt_id, origin_id, customer_id, revision, kind,"
        " supersedes, reason, caller, request_id, fingerprint, state, refunds, create_time)"
        " SELECT $1, n.* FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::integer[],"
        " $6::smallint[], $7::uuid[], $8::text[], $9::text[], $10::text[], $11::bytea[],"
        " $12::smallint[], $13::jsonb[], $14::timestamptz[]) AS n"
        " ON CONFLICT (tenant_id, request_id) DO NOTHING",
        tenant_id,
        *columns,
    )
    return status == f"INSERT 0 {len(revisions)}"


async def reject(tx: Connection, tenant_id: UUID, receipt_ids: Sequence[UUID]) -> None:
    """Mark revisions as refused by the wallet."""
    await tx.execute(
        "UPDATE event_revision SET state = 2 WHERE tenant_id = $1 AND receipt_id = ANY($2::uuid[])",
        tenant_id,
        receipt_ids,
    )


async def save_refunds(
    tx: Connection, tenant_id: UUID, refunds: Mapping[UUID, Sequence[Refund]]
) -> None:
    """Write again what revisions gave back, after something of it could not be."""
    await tx.execute(
        "UPDATE event_revision AS r SET refunds = v.refunds"
        " FROM unnest($2::uuid[], $3::jsonb[]) AS v (receipt_id, refunds)"
        " WHERE r.tenant_id = $1 AND r.receipt_id = v.receipt_id",
        tenant_id,
        list(refunds),
        [_document(each) for each in refunds.values()],
    )


async def mark_events(
    tx: Connection, tenant_id: UUID, receipt_ids: Sequence[UUID], state: EventState
) -> None:
    """Count events no longer (SUPERSEDED), or again (ACCEPTED)."""
    await tx.execute(
        "UPDATE event SET state = $3 WHERE tenant_id = $1 AND receipt_id = ANY($2::uuid[])",
        tenant_id,
        receipt_ids,
        state.value,
    )


def _row(revision: Revision) -> tuple[object, ...]:
    return (
        revision.receipt_id,
        revision.origin_id,
        revision.customer_id,
        revision.number,
        revision.kind.value,
        revision.supersedes,
        revision.reason,
        revision.caller,
        revision.request_id,
        revision.fingerprint,
        revision.state.value,
        _document(revision.refunds),
        revision.create_time,
    )


def _document(refunds: Sequence[Refund]) -> str:
    return json.dumps([[one.number, one.atoms, one.shortfall, one.parts] for one in refunds])


def _revision(row: Row) -> Revision:
    return Revision(
        row["receipt_id"],
        row["origin_id"],
        row["customer_id"],
        row["revision"],
        RevisionKind(row["kind"]),
        row["supersedes"],
        row["reason"],
        row["caller"],
        row["request_id"],
        bytes(row["fingerprint"]),
        RevisionState(row["state"]),
        [
            Refund(number, atoms, shortfall, [(charge, part) for charge, part in parts])
            for number, atoms, shortfall, parts in json.loads(row["refunds"])
        ],
        row["create_time"],
    )
