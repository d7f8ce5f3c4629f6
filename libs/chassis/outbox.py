"""A service's outbox: messages written in the transaction of the change they tell of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.message import Message as ProtoMessage
from opentelemetry import trace as tracing

from chassis.database import Connection
from kernel.ids import new_id

STREAM_PREFIX = "tollgate:"
KIND_LENGTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Message:
    """One message as its consumer sees it. `kind` reads "wallet.recharge_due"."""

    message_id: UUID
    tenant_id: UUID
    kind: str
    payload: bytes
    create_time: datetime
    trace: str  # W3C traceparent of the change that sent it; empty where there was none
    source: str = ""  # the service that sent it


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message about to be appended."""

    tenant_id: UUID
    kind: str
    payload: ProtoMessage
    message_id: UUID | None = None


def stream_name(service: str) -> str:
    """The Redis Stream that carries a service's messages."""
    return f"{STREAM_PREFIX}{service}"


async def append(
    tx: Connection,
    tenant_id: UUID,
    kind: str,
    payload: ProtoMessage,
    *,
    message_id: UUID | None = None,
) -> UUID:
    """Send one message if, and only if, this transaction commits. Returns the message's id."""
    (appended,) = await append_all(tx, [Outgoing(tenant_id, kind, payload, message_id)])
    return appended


async def append_all(tx: Connection, messages: Sequence[Outgoing]) -> list[UUID]:
    """The same for many messages of the transaction's tenant, in one statement and in order."""
    return await _append(
        tx,
        "INSERT INTO outbox (tenant_id, message_id, kind, payload, trace)"
        " SELECT m.tenant_id, m.message_id, m.kind, m.payload, $5"
        " FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[])"
        " WITH ORDINALITY AS m (tenant_id, message_id, kind, payload, position)"
        " ORDER BY m.position",
        messages,
    )


async def append_across(tx: Connection, messages: Sequence[Outgoing]) -> list[UUID]:
    """The same for messages of many tenants in a money transaction.

    Needs `chassis_tables(…, across_tenants=True)` in the service's migrations.
    """
    return await _append(tx, "SELECT outbox_append($1, $2, $3, $4, $5)", messages)


async def _append(tx: Connection, statement: str, messages: Sequence[Outgoing]) -> list[UUID]:
    if not messages:
        return []
    now = datetime.now(UTC)
    ids = [message.message_id or new_id(now) for message in messages]
    await tx.execute(
        statement,
        [message.tenant_id for message in messages],
        ids,
        [message.kind for message in messages],
        [message.payload.SerializeToString(deterministic=True) for message in messages],
        _present_trace(),
    )
    return ids


def _present_trace() -> str:
    context = tracing.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
