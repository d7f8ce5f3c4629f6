"""Questions about usage, and what an invoice is drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from chassis.database import Connection
from kernel.period import Period
from metering.events import store as events
from metering.events.domain.decision import INVOICE_SCALE
from metering.events.domain.event import StoredEvent
from metering.events.domain.matching import UsageKey
from metering.levels.operations import level_meters, list_level_rows, merge
from metering.meters.domain import Aggregation, MeterSet
from metering.queries import store as queries
from metering.queries.domain import Cut, cut, window_at
from metering.queries.domain import Question as Question
from metering.ratecards.domain import Pricing, Stretch, pricing_of_document, window_name
from metering.usage import store
from metering.usage.domain import Running
from metering.usage.operations import begin, count_again, hours_of, know_all
from rating.cells import parts_of, slot_of
from rating.exact import Number
from rating.price import Accumulate, Matrix, Percentage, TimeOfUse


class QuietPrice(NamedTuple):
    """What is to be known of a price in whose period nothing happened."""

    meter: str
    dimensions: tuple[tuple[str, str], ...]
    in_force: Period
    time_zone: str
    pricing: Pricing


class PeriodKey(NamedTuple):
    """A subscription item's price in one billing period."""

    customer_id: str
    subscription_item_id: str
    price_id: str
    period: Period
    quiet: QuietPrice | None = None

    @property
    def usage_key(self) -> UsageKey:
        return (self.customer_id, self.subscription_item_id, self.price_id, self.period.start)


class PricedEvent(NamedTuple):
    """One event, or several that a price does not tell apart, as rating looks at it."""

    quantity: Number
    properties: Mapping[str, str]
    window: str
    time: datetime | None = None  # where the price depends on the time of use


class PeriodUsage(NamedTuple):
    """What was counted and charged in one billing period."""

    running: Running | None  # None where nothing was counted
    events: list[PricedEvent] | None  # where the total does not suffice for the price
    events_pending: int


async def query(
    tx: Connection,
    tenant_id: UUID,
    meters: MeterSet,
    question: Question,
    after: tuple[str, ...],
    size: int,
    now: datetime,
) -> list[queries.UsageRow]:
    """One page of figures by customer, meter, window and group; live to the last event."""
    parts = cut(question.interval, question.window, question.zone)
    levels = level_meters(meters, question)
    if levels:
        page = await list_level_rows(tx, tenant_id, meters, question, parts, after, size, now)
        left = sorted(set(question.meters or meters.meters) - {meter.code for meter in levels})
        if not left:
            return page
        question = question._replace(meters=left)
        return merge(await _sums(tx, tenant_id, meters, question, parts, after, size), page, size)
    return await _sums(tx, tenant_id, meters, question, parts, after, size)


async def _sums(
    tx: Connection,
    tenant_id: UUID,
    meters: MeterSet,
    question: Question,
    parts: Cut,
    after: tuple[str, ...],
    size: int,
) -> list[queries.UsageRow]:
    """Figures of meters whose hours add up."""
    raw = await _count_raw(tx, tenant_id, meters, question, parts)
    return await queries.list_rows(
        tx,
        tenant_id,
        queries.Selection(
            question.customer_ids,
            question.meters,
            question.interval,
            parts.hours,
            parts.broken,
            question.window.value,
            question.time_zone,
            question.group_by,
        ),
        raw,
        after,
        size,
    )


def window_of(row: queries.UsageRow, question: Question) -> Period:
    """The window of a figure, as far as it lies in what was asked for."""
    return window_at(row.window_start, question.window, question.zone, question.interval)


async def _count_raw(
    tx: Connection, tenant_id: UUID, meters: MeterSet, question: Question, parts: Cut
) -> list[queries.RawCount]:
    if not parts.raw:
        return []
    stored = await events.list_between(tx, tenant_id, question.customer_ids, parts.raw)
    wanted = set(question.meters)
    counts: dict[tuple[str, str, datetime, str], queries.RawCount] = {}
    for each in stored:
        # Boundaries of every zone lie on quarters of an hour.
        quarter = each.event.event_time
        quarter = quarter.replace(minute=quarter.minute // 15 * 15, second=0, microsecond=0)
        for (customer_id, meter, _, values), aggregation, value in hours_of(each, meters):
            if wanted and meter not in wanted:
                continue
            key = (customer_id, meter, quarter, values)
            found = counts.get(key) or queries.RawCount(*key, aggregation.value, 0, 0)
            is_maximum = aggregation is Aggregation.MAX and found.event_count
            quantity = max(found.quantity, value) if is_maximum else found.quantity + value
            counts[key] = found._replace(quantity=quantity, event_count=found.event_count + 1)
    return list(counts.values())


async def list_period_usage(
    tx: Connection, tenant_id: UUID, meters: MeterSet, keys: Sequence[PeriodKey]
) -> list[PeriodUsage]:
    """Usage of billing periods, one per key, in order."""
    wanted = [key.usage_key for key in keys]
    numbers = {
        key: (key[0], row["number"])
        for key, row in (await store.find_figures(tx, tenant_id, list(set(wanted)))).items()
    }
    rows = {
        (row["customer_id"], row["number"]): row
        for row in await store.list_numbered(tx, tenant_id, numbers.values())
    }
    pending = await _count_pending(tx, tenant_id, {key.customer_id for key in keys})
    usages = []
    for asked, key in zip(keys, wanted, strict=True):
        place = numbers.get(key)
        if place is None:
            usages.append(await _carried_usage(tx, tenant_id, meters, asked))
            continue
        row = rows[place]
        pricing = pricing_of_document(row["document"], row["pricing_id"])
        running = store.running_of(row, pricing, meters)
        events_of = None
        if not pricing.is_plain:
            events_of = await _list_priced(tx, tenant_id, meters, running)
        usages.append(PeriodUsage(running, events_of, pending.get(place, 0)))
    return usages


async def _carried_usage(
    tx: Connection, tenant_id: UUID, meters: MeterSet, key: PeriodKey
) -> PeriodUsage:
    """The usage of a period in which nothing happened: what was carried into it."""
    quiet = key.quiet
    meter = meters.meters.get(quiet.meter) if quiet is not None else None
    if quiet is None or meter is None or not meter.carries:
        return PeriodUsage(None, None, 0)
    running = Running(
        number=0,
        customer_id=key.customer_id,
        subscription_item_id=key.subscription_item_id,
        price_id=key.price_id,
        plan_code="",
        meter=meter.code,
        rule=meter.rule,
        dimensions=quiet.dimensions,
        pricing=quiet.pricing,
        stretch=Stretch(key.period, quiet.in_force),
        time_zone=quiet.time_zone,
        from_wallet=False,
        scale=INVOICE_SCALE,
    )
    await begin(tx, tenant_id, meters, running)
    events_of = None
    if not quiet.pricing.is_plain:
        events_of = await _list_priced(tx, tenant_id, meters, running)
    return PeriodUsage(running, events_of, 0)


async def _count_pending(
    tx: Connection, tenant_id: UUID, customers: set[str]
) -> dict[tuple[str, int], int]:
    counts: dict[tuple[str, int], int] = {}
    for batch_id in await events.list_batches(tx, tenant_id):
        for each in await events.list_batch(tx, tenant_id, batch_id):
            if each.event.customer_id not in customers:
                continue
            for line in each.lines:
                if line.atoms:
                    place = (each.event.customer_id, line.number)
                    counts[place] = counts.get(place, 0) + 1
    return counts


async def _list_priced(
    tx: Connection, tenant_id: UUID, meters: MeterSet, running: Running
) -> list[PricedEvent]:
    """The events of a period in the order of a close: by event time, then as they came in; before
    them what was carried into it. The usage is counted again on the way."""
    period = running.stretch.period
    stored: list[StoredEvent] = []
    for name in sorted(meters.event_names(running.meter)):
        stored += await events.list_of_customer(
            tx, tenant_id, running.customer_id, period.start, period.end, name
        )
    zone = ZoneInfo(running.time_zone)
    names, slots = _properties_of(running.pricing), _slots_of(running.pricing)
    await know_all(tx, tenant_id, meters, running, stored)
    priced = [
        PricedEvent(
            value,
            {name: opening.properties.get(name, "") for name in names},
            window,
            running.stretch.in_force.start if slots else None,
        )
        for value, opening, window in running.carried()
    ]
    for each in sorted(stored, key=lambda one: (one.event.event_time, one.sequence)):
        if not any(line.number == running.number for line in each.lines):
            continue
        value = count_again(running, each, meters)
        properties = {name: each.event.properties.get(name, "") for name in names}
        window = window_name(running.pricing.window, each.event.event_time, zone)
        time = each.event.event_time if slots else None
        priced.append(PricedEvent(value, properties, window, time))
    return _added_up(priced, slots) if _adds_up(running.pricing) else priced


def _properties_of(pricing: Pricing) -> tuple[str, ...]:
    model = pricing.price.model
    return model.dimensions if isinstance(model, Matrix) else ()


def _slots_of(pricing: Pricing) -> TimeOfUse | None:
    model = pricing.price.model
    return model if isinstance(model, TimeOfUse) else None


def _adds_up(pricing: Pricing) -> bool:
    """Whether events of one cell and window cost the same as one event with their sum."""
    price = pricing.price
    models = [part.model for part in parts_of(price.model)]
    return price.accumulate is not Accumulate.EVENT and not any(
        isinstance(model, Percentage) for model in [price.model, *models]
    )


def _added_up(priced: Sequence[PricedEvent], slots: TimeOfUse | None) -> list[PricedEvent]:
    """Sums by window, cell and slot of time; any time of a slot stands for it."""
    sums: dict[tuple[str, tuple[tuple[str, str], ...], int], PricedEvent] = {}
    for each in priced:
        slot = slot_of(slots, each.time) if slots is not None and each.time is not None else 0
        key = (each.window, tuple(each.properties.items()), slot)
        found = sums.get(key)
        quantity = each.quantity if found is None else found.quantity + each.quantity
        sums[key] = each._replace(quantity=quantity)
    return list(sums.values())
