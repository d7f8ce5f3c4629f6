"""Showing stored events to a meter that is not published. Nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from chassis.database import Database
from kernel.period import Period
from metering.events import store as events
from metering.meters.domain import Meter
from metering.previews import store
from metering.previews.domain import EVENTS_MAX, Preview
from metering.queries.domain import Window, windows_of

CUSTOMERS_PER_READ = 200
EVENTS_PER_TURN = 2_000  # counted before other calls get their turn


class PreviewQuestion(NamedTuple):
    """What is to be previewed."""

    customer_ids: Sequence[str]  # empty: all
    interval: Period
    window: Window
    zone: ZoneInfo


async def preview(
    database: Database, tenant_id: UUID, meter: Meter, question: PreviewQuestion
) -> Preview:
    """What a meter would have counted. Raises PreviewTooLarge, InvalidValue."""
    found = Preview(meter, windows_of(question.interval, question.window, question.zone))
    after = ""
    while True:
        async with database.transaction(tenant_id) as tx:
            if question.customer_ids:
                customers = [*question.customer_ids]
            else:
                customers = await events.list_customers(tx, tenant_id, after, CUSTOMERS_PER_READ)
            left = EVENTS_MAX - found.events_read + 1
            past = await store.list_past_events(
                tx, tenant_id, customers, meter.event_name, question.interval, left
            )
        for place, event in enumerate(past, 1):
            found.show(event)
            if place % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
        if question.customer_ids or len(customers) < CUSTOMERS_PER_READ:
            return found
        after = customers[-1]
