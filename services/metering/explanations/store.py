"""Usage that was counted before an event, in Postgres."""

from __future__ import annotations

from uuid import UUID

from chassis.database import Connection
from kernel.period import Period
from metering.usage.store import read_number
from rating.exact import Number


async def sum_before(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    number: int,
    period: Period,
    sequence: int,
) -> Number:
    """What events that came before one added to a usage, as they are counted now."""
    text: str | None = await tx.fetchval(
        "SELECT sum((l ->> 1)::numeric)::text FROM event AS e"
        " CROSS JOIN LATERAL jsonb_array_elements(e.lines) AS l"
        " WHERE e.tenant_id = $1 AND e.customer_id = $2 AND e.event_time >= $3"
        " AND e.event_time < $4 AND e.state = 1 AND e.sequence < $5 AND (l ->> 0)::integer = $6",
        tenant_id,
        customer_id,
        period.start,
        period.end,
        sequence,
        number,
    )
    return read_number(text) if text is not None else 0
