"""A request made twice is done once: the second gets the first's answer.

Inside the operation's own transaction, before anything else:

    recorded = await claim(tx, call.tenant_id, request.request_id, request)
    if recorded is not None:
        return PlaceHoldResponse.FromString(recorded)
    …
    await record(tx, call.tenant_id, request.request_id, response)

A refusal rolls the claim back, so a refused request may be made again and is decided anew.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from google.protobuf.message import Message as ProtoMessage

from chassis.database import Connection
from kernel.errors import IdempotencyConflict, InvalidValue

REQUEST_ID_LENGTH_MAX = 128


class ClaimWithoutRecord(Exception):
    """An operation claimed a request id and committed without recording its answer."""


async def claim(
    tx: Connection, tenant_id: UUID, request_id: str, request: ProtoMessage
) -> bytes | None:
    """Take a request id for this transaction, or find the answer that it was given before.

    Returns None where the caller is the first and goes on, else the recorded response. Where two
    race, the second waits here for the first's transaction to end. Raises InvalidValue for an id
    that is not 1 to 128 printable characters, IdempotencyConflict where the id was used with other
    content (the method counts as content).
    """
    check_request_id(request_id)
    fingerprint = fingerprint_of(request)
    first = await tx.fetchval(
        "INSERT INTO request (tenant_id, request_id, fingerprint) VALUES ($1, $2, $3)"
        " ON CONFLICT (tenant_id, request_id) DO NOTHING RETURNING true",
        tenant_id,
        request_id,
        fingerprint,
    )
    if first:
        return None
    # A new statement, so that it sees what the insert waited for.
    row = await tx.fetchrow(
        "SELECT fingerprint, response FROM request WHERE tenant_id = $1 AND request_id = $2",
        tenant_id,
        request_id,
    )
    if row is None or row["fingerprint"] != fingerprint:
        raise IdempotencyConflict(request_id)
    if row["response"] is None:
        raise ClaimWithoutRecord(request_id)
    return bytes(row["response"])


async def record(tx: Connection, tenant_id: UUID, request_id: str, response: ProtoMessage) -> None:
    """Keep the answer to a claimed request, in the transaction that did the work."""
    status = await tx.execute(
        "UPDATE request SET response = $3"
        " WHERE tenant_id = $1 AND request_id = $2 AND response IS NULL",
        tenant_id,
        request_id,
        response.SerializeToString(deterministic=True),
    )
    if status != "UPDATE 1":
        raise ClaimWithoutRecord(f"{request_id} was not claimed in this transaction")


async def is_recorded(tx: Connection, tenant_id: UUID, request_id: str) -> bool:
    """Whether a request was answered before, for what is looked up only on behalf of a first."""
    found = await tx.fetchval(
        "SELECT response IS NOT NULL FROM request WHERE tenant_id = $1 AND request_id = $2",
        tenant_id,
        request_id,
    )
    return bool(found)


def check_request_id(request_id: str, field: str = "request_id") -> None:
    """Raise InvalidValue unless it is 1 to 128 printable characters."""
    if not request_id:
        raise InvalidValue(field, "is required")
    if len(request_id) > REQUEST_ID_LENGTH_MAX:
        raise InvalidValue(field, f"is longer than {REQUEST_ID_LENGTH_MAX} characters")
    if not request_id.isprintable():
        raise InvalidValue(field, "holds a character that cannot be printed")


def fingerprint_of(request: ProtoMessage) -> bytes:
    """SHA-256 of the request's type and content: equal exactly where two requests ask the same.

    The type's name is ended by a zero byte, which no name contains, so the two never run together.
    """
    content = request.SerializeToString(deterministic=True)
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\x00" + content).digest()
