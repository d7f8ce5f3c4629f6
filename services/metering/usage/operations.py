"""Usage made anew from stored events, or freed of some. The callers hold the customers' locks."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chassis.database import Connection
from metering.events import store as events
from metering.events.domain.decision import Hour, HourKey
from metering.events.domain.event import StoredEvent
from metering.meters.domain import Aggregation, MeterSet
from metering.usage import store as usage
from metering.usage.domain import Running
from rating.exact import Number


def hours_of(each: StoredEvent, meters: MeterSet) -> list[tuple[HourKey, Aggregation, Number]]:
    """What a stored event was counted for by hour."""
    event = each.event
    hour = usage.hour_of(event.event_time)
    return [
        (
            (event.customer_id, meter.code, hour, meter.dimension_values(event.properties)),
            meter.aggregation,
            meter.value(event.properties, "event"),
        )
        for meter in meters.reading(event.name, each.meter_version)
        if meter.counts(event.properties)
    ]


async def recount(tx: Connection, tenant_id: UUID, meters: MeterSet, running: Running) -> None:
    """Make running usage anew from the accepted events that it is made of."""
    meter = meters.meters[running.meter]
    period = running.stretch.period
    stored = await events.list_of_customer(
        tx, tenant_id, running.customer_id, period.start, period.end, meter.event_name
    )
    running.restart()
    for each in sorted(stored, key=lambda one: one.sequence):
        if any(line.number == running.number for line in each.lines):
            event = each.event
            running.recount(
                meter.value(event.properties, "event"), event.properties, event.event_time
            )


async def take_back_hours(
    tx: Connection, tenant_id: UUID, meters: MeterSet, taken_back: Sequence[StoredEvent]
) -> None:
    """Free the hours of events that are no longer counted and are already marked so."""
    sums: dict[HourKey, Hour] = {}
    maxima: set[HourKey] = set()
    for each in taken_back:
        for key, aggregation, value in hours_of(each, meters):
            if aggregation is Aggregation.MAX:
                maxima.add(key)
            else:
                sums.setdefault(key, Hour(aggregation)).add(value)
    if sums:
        await usage.subtract_hours(tx, tenant_id, sums)
    if maxima:
        found = {key: await _recount_hour(tx, tenant_id, meters, key) for key in maxima}
        await usage.set_hours(tx, tenant_id, found)


async def _recount_hour(
    tx: Connection, tenant_id: UUID, meters: MeterSet, key: HourKey
) -> tuple[Number, int]:
    customer_id, code, hour, _ = key
    meter = meters.meters[code]
    stored = await events.list_of_customer(
        tx, tenant_id, customer_id, hour, usage.next_hour(hour), meter.event_name
    )
    values = [
        value for each in stored for found, _, value in hours_of(each, meters) if found == key
    ]
    return max(values, default=0), len(values)
