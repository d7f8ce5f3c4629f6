"""What an event falls under: the meters that count it and the prices that charge it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from kernel.errors import InvalidValue
from metering.charging.domain import LINES_PER_EVENT_MAX, AssetUnknown
from metering.events.domain.event import Event, EventUnmatched, UnpricedUsage
from metering.meters.domain import Meter, MeterSet
from metering.ratecards.domain import Entry, RateCard, Stretch
from rating import UnpricedUsage as NoCell
from rating.cells import cell_of
from rating.exact import Number
from rating.price import Matrix

UsageKey = tuple[str, str, str, datetime]  # customer, subscription item, price, period start


class Measure(NamedTuple):
    """What one meter counts in an event."""

    meter: Meter
    value: Number


class PricedMeasure(NamedTuple):
    """A measure under one of the customer's prices."""

    entry: Entry
    meter: Meter
    value: Number
    stretch: Stretch
    key: UsageKey


class Match(NamedTuple):
    """An event with all that it counts for."""

    event: Event
    field: str  # "events[3]": where the caller put it
    now: datetime
    measures: list[Measure]
    priced: list[PricedMeasure]


def match_event(
    event: Event,
    field: str,
    now: datetime,
    meters: MeterSet,
    card: RateCard,
    scales: Mapping[str, int],
) -> Match:
    """Find the meters and prices of an event.

    Raises EventUnmatched, PropertyUnusable, UnpricedUsage, AssetUnknown, InvalidValue.
    """
    reading = meters.counting.get(event.name)
    if not reading:
        raise EventUnmatched(f"{field}.name", event.name)
    measures: list[Measure] = []
    priced: list[PricedMeasure] = []
    for meter in reading:
        if meter.is_selective and not meter.reads(event.properties, event.event_time, field):
            continue
        value = meter.value(event.properties, field)
        if meter.dimensions:
            meter.check_dimensions(event.properties, field)
        measures.append(Measure(meter, value))
        for entry in card.entries.get(meter.code, ()):
            if entry.applies(event.properties, event.event_time):
                check_priced(entry, event.properties, scales, field)
                priced.append(
                    price_measure(entry, meter, value, event.customer_id, event.event_time)
                )
    if len(priced) > LINES_PER_EVENT_MAX:
        raise InvalidValue(field, f"falls under more than {LINES_PER_EVENT_MAX} prices")
    return Match(event, field, now, measures, priced)


def price_measure(
    entry: Entry, meter: Meter, value: Number, customer_id: str, instant: datetime
) -> PricedMeasure:
    """A measure under a price, in the billing period of an instant."""
    stretch = entry.stretch_at(instant)
    key = (customer_id, entry.subscription_item_id, entry.price_id, stretch.period.start)
    return PricedMeasure(entry, meter, value, stretch, key)


def check_priced(
    entry: Entry, properties: Mapping[str, str], scales: Mapping[str, int], field: str
) -> None:
    """Raise where a price cannot be applied: nothing is ever given away for that."""
    price = entry.pricing.price
    if entry.from_wallet and price.asset not in scales:
        raise AssetUnknown(price.asset)
    if isinstance(price.model, Matrix):
        try:
            cell_of(price.model, properties)
        except NoCell as error:
            dimensions = error.facts.get("dimensions", "")
            raise UnpricedUsage(field, entry.price_id, error.message, dimensions) from None
