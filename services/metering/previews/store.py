"""Stored events as a preview reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import UUID

from chassis.database import Connection
from kernel.period import Period
from metering.previews.domain import PastEvent


async def list_past_events(
    tx: Connection,
    tenant_id: UUID,
    customer_ids: Sequence[str],
    event_name: str,
    interval: Period,
    count_max: int,
) -> list[PastEvent]:
    """Accepted events of one name, by customer and time."""
    rows = await tx.fetch(
        "SELECT e.event_id, e.customer_id, e.event_time, e.sequence, e.properties FROM event AS e"
        " WHERE e.tenant_id = $1 AND e.customer_id = ANY($2) AND e.event_time >= $3"
        " AND e.event_time < $4 AND e.name = $5 AND e.state = 1"
        " ORDER BY e.customer_id, e.event_time, e.sequence LIMIT $6",
        tenant_id,
        customer_ids,
        interval.start,
        interval.end,
        event_name,
        count_max,
    )
    return [
        PastEvent(
            row["event_id"],
            row["customer_id"],
            row["event_time"],
            row["sequence"],
            json.loads(row["properties"]),
        )
        for row in rows
    ]
