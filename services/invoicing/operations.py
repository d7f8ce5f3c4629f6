"""A change is made once per request id, in one transaction, whatever capability it belongs to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message

from chassis.database import Connection, Database
from chassis.requests import claim, record

Response = TypeVar("Response", bound=Message)


async def once(
    database: Database,
    tenant_id: UUID,
    request: Message,
    request_id: str,
    response_type: type[Response],
    change: Callable[[Connection], Awaitable[Response]],
) -> Response:
    """Make `change` in a transaction of its own and keep its answer; a repeat gets that answer.

    A refusal inside `change` rolls everything back, the claim of the key included.
    """
    async with database.transaction(tenant_id) as tx:
        recorded = await claim(tx, tenant_id, request_id, request)
        if recorded is not None:
            return response_type.FromString(recorded)
        response = await change(tx)
        await record(tx, tenant_id, request_id, response)
        return response
