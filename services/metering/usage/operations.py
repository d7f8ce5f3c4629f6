"""Usage made ready for a batch, made anew from stored events, or freed of some.

The callers hold the customers' locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from chassis.database import Connection
from metering.aggregates.domain.carrying import Before, Past, before_of
from metering.aggregates.domain.counting import PartKey, Reading
from metering.aggregates.domain.tally import SUBTRACTABLE, Aggregation, Rule
from metering.events import store as events
from metering.events.domain.decision import Batch, Hour, HourKey
from metering.events.domain.event import StoredEvent
from metering.events.domain.matching import Match
from metering.meters.domain import Meter, MeterSet
from metering.ratecards.domain import pricing_of_document
from metering.rollups import store as rollups
from metering.usage import store as usage
from metering.usage.domain import Running, read
from rating.exact import Number

_UNIQUE = Aggregation.UNIQUE_COUNT
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


async def prepare(
    tx: Connection, tenant_id: UUID, meters: MeterSet, batch: Batch, matches: Iterable[Match]
) -> None:
    """Look up what a batch must know of meters that do more than add values up: what a period
    begins with, and which keys were met before."""
    wanted: dict[int, tuple[Running, set[PartKey]]] = {}
    for match in matches:
        for measure in match.priced:
            if measure.meter.is_simple:
                continue
            event = match.event
            running = batch.running_of(event.customer_id, measure)
            _, keys = wanted.setdefault(id(running), (running, set()))
            if measure.meter.aggregation is Aggregation.UNIQUE_COUNT:
                part = running.part_of(event.properties, event.event_time)
                keys.add((part, measure.meter.key(event.properties, match.field)))
    for running, _ in wanted.values():
        await begin(tx, tenant_id, meters, running)
    await _know_keys(tx, tenant_id, meters, list(wanted.values()))


async def begin(tx: Connection, tenant_id: UUID, meters: MeterSet, running: Running) -> None:
    """Let usage that is new begin where what came before it ended."""
    if running.is_new and running.rule.carries:
        running.open_with((await load_before(tx, tenant_id, meters, running)).openings)


async def _know_keys(
    tx: Connection,
    tenant_id: UUID,
    meters: MeterSet,
    wanted: Sequence[tuple[Running, set[PartKey]]],
) -> None:
    places = {
        (running.customer_id, running.number, part, key)
        for running, keys in wanted
        if not running.is_new
        for part, key in keys
    }
    found = await usage.find_keys(tx, tenant_id, places)
    for running, keys in wanted:
        if not keys:
            continue
        assert running.counter is not None
        carried: Iterable[PartKey] = ()
        if running.rule.carries:
            sought = {key for _, key in keys}
            carried = (await load_before(tx, tenant_id, meters, running, sought)).active
        known = {
            (part, key): found[running.customer_id, running.number, part, key]
            for part, key in keys
            if (running.customer_id, running.number, part, key) in found
        }
        running.counter.know(known, carried)


async def load_before(
    tx: Connection,
    tenant_id: UUID,
    meters: MeterSet,
    running: Running,
    keys: set[UUID] | None = None,
) -> Before:
    """What a carried meter came to before a usage begins; of some keys of a unique count or all.

    Whole hours are read from rollups, the events of the hour that is cut in two one by one. Where
    the price looks at properties that are no dimensions of the meter, all are read one by one.
    """
    code, customer_id = running.meter, running.customer_id
    start = running.stretch.in_force.start
    hour = rollups.hour_of(start)
    past = Past()
    if running.reads_only(meters.dimensions(code)):
        if running.rule.aggregation is Aggregation.UNIQUE_COUNT:
            past.keys = await rollups.list_keys_before(tx, tenant_id, customer_id, code, hour, keys)
        else:
            past.groups = await rollups.list_groups_before(tx, tenant_id, customer_id, code, hour)
    else:
        hour = _BEGINNING
    if hour < start:
        for name in sorted(meters.event_names(code)):
            stored = await events.list_of_customer(tx, tenant_id, customer_id, hour, start, name)
            past.readings += read_all(code, stored, meters)
    before = before_of(running, past)
    if keys is None:
        return before
    return Before({}, {(part, key) for part, key in before.active if key in keys})


async def carry_forward(
    tx: Connection, tenant_id: UUID, meters: MeterSet, changed: Iterable[tuple[str, str, datetime]]
) -> None:
    """After events of carried meters came late, or were taken back: what later periods begin with.

    `changed` are customers, names of events and times. To be called when all else is saved.
    """
    earliest: dict[tuple[str, str], datetime] = {}
    for customer_id, event_name, instant in changed:
        for code in meters.carried.get(event_name, ()):
            key = (customer_id, code)
            earliest[key] = min(instant, earliest.get(key, instant))
    for (customer_id, code), instant in sorted(earliest.items()):
        later = []
        for row in await usage.list_later(tx, tenant_id, customer_id, code, instant):
            pricing = pricing_of_document(row["document"], row["pricing_id"])
            running = usage.running_of(row, pricing, meters)
            before = await load_before(tx, tenant_id, meters, running)
            if running.pricing.is_plain and running.rule.aggregation is not _UNIQUE:
                running.carry(before.openings)
            else:
                running.open_with(before.openings)
                await recount(tx, tenant_id, meters, running)
                running.settle(0, 0)
            later.append(running)
        if later:
            await usage.save_runnings(tx, tenant_id, later)
            await usage.save_keys(tx, tenant_id, later)


def hours_of(each: StoredEvent, meters: MeterSet) -> list[tuple[HourKey, Aggregation, Number]]:
    """What a stored event was counted for by hour."""
    event = each.event
    hour = rollups.hour_of(event.event_time)
    return [
        (
            (event.customer_id, meter.code, hour, meter.dimension_values(event.properties)),
            meter.aggregation,
            meter.value(event.properties, "event"),
        )
        for meter in meters.reading(event.name, each.meter_version)
        if not meter.is_selective or meter.reads(event.properties, event.event_time)
    ]


def count_hours(hours: dict[HourKey, Hour], each: StoredEvent, meters: MeterSet) -> None:
    """Count a stored event in the hours that it belongs to, as it was decided."""
    for key, aggregation, value in hours_of(each, meters):
        hour = hours.get(key)
        if hour is None:
            hour = hours[key] = Hour(aggregation)
        hour.read(reading_of(each, meters, key[1], value))


async def recount(tx: Connection, tenant_id: UUID, meters: MeterSet, running: Running) -> None:
    """Make running usage anew from the accepted events that it is made of."""
    period = running.stretch.period
    stored: list[StoredEvent] = []
    for name in sorted(meters.event_names(running.meter)):
        stored += await events.list_of_customer(
            tx, tenant_id, running.customer_id, period.start, period.end, name
        )
    mine = [each for each in stored if any(line.number == running.number for line in each.lines)]
    await know_all(tx, tenant_id, meters, running, mine)
    for each in sorted(mine, key=lambda one: one.sequence):
        count_again(running, each, meters)


async def know_all(
    tx: Connection,
    tenant_id: UUID,
    meters: MeterSet,
    running: Running,
    stored: Iterable[StoredEvent],
) -> None:
    """Forget what was counted, and learn which keys of these events were in before the period."""
    running.restart()
    if running.counter is None or running.rule != Rule(_UNIQUE, True, running.rule.rounding):
        return
    keys = {
        meter_of(each, meters, running.meter).key(each.event.properties, "event")
        for each in stored
        if any(line.number == running.number for line in each.lines)
    }
    before = await load_before(tx, tenant_id, meters, running, keys)
    running.counter.know({}, before.active)


async def take_back_hours(
    tx: Connection, tenant_id: UUID, meters: MeterSet, taken_back: Sequence[StoredEvent]
) -> None:
    """Free the hours of events that are no longer counted and are already marked so."""
    sums: dict[HourKey, Hour] = {}
    others: set[HourKey] = set()
    for each in taken_back:
        for key, aggregation, value in hours_of(each, meters):
            if aggregation in SUBTRACTABLE:
                hour = sums.setdefault(key, Hour(aggregation))
                hour.read(reading_of(each, meters, key[1], value))
            else:
                others.add(key)
    if sums:
        await rollups.subtract_hours(tx, tenant_id, sums)
    if others:
        found = {key: await _recount_hour(tx, tenant_id, meters, key) for key in others}
        await rollups.set_hours(tx, tenant_id, found)


async def _recount_hour(tx: Connection, tenant_id: UUID, meters: MeterSet, key: HourKey) -> Hour:
    customer_id, code, hour, _ = key
    counted: dict[HourKey, Hour] = {}
    for name in sorted(meters.event_names(code)):
        stored = await events.list_of_customer(
            tx, tenant_id, customer_id, hour, rollups.next_hour(hour), name
        )
        for each in stored:
            count_hours(counted, each, meters)
    return counted.get(key) or Hour(meters.meters[code].aggregation)


def meter_of(each: StoredEvent, meters: MeterSet, code: str) -> Meter:
    """The version of a meter that counted a stored event."""
    return meters.of_event(code, each.meter_version, each.event.event_time)


def reading_of(each: StoredEvent, meters: MeterSet, code: str, value: Number) -> Reading:
    """What a stored event said to a meter."""
    event = each.event
    meter = meter_of(each, meters, code)
    return read(value, event.properties, event.event_time, meter, each.sequence)


def read_all(
    code: str, stored: Iterable[StoredEvent], meters: MeterSet
) -> list[tuple[Mapping[str, str], Reading]]:
    """What those of some stored events that a meter counted said to it, in their order."""
    found: list[tuple[Mapping[str, str], Reading]] = []
    for each in sorted(stored, key=lambda one: (one.event.event_time, one.sequence)):
        for (_, counted, _, _), _, value in hours_of(each, meters):
            if counted == code:
                reading = reading_of(each, meters, code, value)
                found.append((each.event.properties, reading))
    return found


def count_again(running: Running, each: StoredEvent, meters: MeterSet) -> Number:
    """Count a stored event in its usage once more; answers what it added."""
    event = each.event
    meter = meter_of(each, meters, running.meter)
    value = meter.value(event.properties, "event")
    return running.recount(value, event.properties, event.event_time, meter, each.sequence)
