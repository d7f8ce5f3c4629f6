"""Deciding a batch: every event counted and priced in order, on figures that nobody else changes.

The caller holds the locks of the batch's customers; nothing here waits or writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from metering.aggregates.domain.counting import Reading
from metering.aggregates.domain.tally import (
    NEVER_SEEN,
    SUMS,
    Aggregation,
    Sighting,
    Tally,
    seen,
)
from metering.charging.domain import receipt_of
from metering.events.domain.event import (
    AuthorizationMismatch,
    AuthorizationUnknown,
    Event,
)
from metering.events.domain.matching import Match, PricedMeasure, UsageKey
from metering.gate.domain.authorization import (
    Authorization,
    AuthorizationEnded,
    AuthorizationState,
)
from metering.ratecards.domain import Entry
from metering.usage.domain import Running, read, text_of
from rating.exact import Number

HourKey = tuple[str, str, datetime, str]  # customer, meter, hour, dimension values

INVOICE_SCALE = 9  # of assets that the wallet does not know because only invoices use them


class Line(NamedTuple):
    """One price's part in an event."""

    running: Running
    quantity: str
    atoms: int


class Record(NamedTuple):
    """One event as it is stored."""

    receipt_id: UUID
    match: Match
    sequence: int
    lines: list[Line]
    authorization: Authorization | None
    is_charged: bool  # the wallet has something to do for it: a debit, or a hold to release


class Hour:
    """What a batch adds to one hour of usage."""

    __slots__ = ("aggregation", "keys", "tally")

    def __init__(self, aggregation: Aggregation) -> None:
        self.aggregation = aggregation
        self.tally = Tally()
        self.keys: dict[UUID, Sighting] = {}

    def add(self, value: Number) -> None:
        """One event of a meter that counts or sums."""
        self.tally.event_count += 1
        self.tally.total += value

    def read(self, reading: Reading) -> None:
        """One event of any meter."""
        self.tally.add(self.aggregation, reading.value, reading.moment)
        if reading.key is not None:
            earlier = self.keys.get(reading.key, NEVER_SEEN)
            self.keys[reading.key] = seen(earlier, reading.is_added, reading.moment)


class Batch:
    """The events of one transaction, as they are decided."""

    def __init__(
        self,
        batch_id: UUID,
        meter_version: int,
        runnings: Mapping[UsageKey, Running],
        sequences: Mapping[str, int],
        usage_counts: Mapping[str, int],
        scales: Mapping[str, int],
    ) -> None:
        self.batch_id = batch_id
        self.meter_version = meter_version
        self.records: list[Record] = []
        self.hours: dict[HourKey, Hour] = {}
        self.runnings = dict(runnings)
        self.usage_counts = dict(usage_counts)
        self._sequences = dict(sequences)
        self._scales = scales

    def decide(self, index: int, match: Match, authorization: Authorization | None) -> None:
        """Count and price one event; `index` is its place in the batch."""
        event = match.event
        sequence = self._sequences[event.customer_id] + 1
        self._sequences[event.customer_id] = sequence
        lines = [self._line(event, measure, sequence) for measure in match.priced]
        hour = event.event_time.replace(minute=0, second=0, microsecond=0)
        for meter, value in match.measures:
            key = (event.customer_id, meter.code, hour, meter.dimension_values(event.properties))
            counted = self.hours.get(key)
            if counted is None:
                counted = self.hours[key] = Hour(meter.aggregation)
            if meter.aggregation in SUMS:
                counted.add(value)
            else:
                counted.read(read(value, event.properties, event.event_time, meter, sequence))
        receipt_id = receipt_of(self.batch_id, index)
        is_charged = authorization is not None and bool(authorization.holds) and not event.continues
        for line in lines:
            is_charged = is_charged or line.atoms > 0
        self.records.append(Record(receipt_id, match, sequence, lines, authorization, is_charged))

    def running_of(self, customer_id: str, measure: PricedMeasure) -> Running:
        """The running usage that a measure is counted in, begun where there is none."""
        running = self.runnings.get(measure.key)
        if running is None:
            running = self.runnings[measure.key] = self._begin(customer_id, measure)
        return running

    def _line(self, event: Event, measure: PricedMeasure, sequence: int) -> Line:
        running = self.running_of(event.customer_id, measure)
        if running.counter is None:
            quantity, atoms = running.add(measure.value, event.properties, event.event_time)
        else:
            quantity, atoms = running.add(
                measure.value, event.properties, event.event_time, measure.meter, sequence
            )
        return Line(running, text_of(quantity), atoms)

    def _begin(self, customer_id: str, measure: PricedMeasure) -> Running:
        number = self.usage_counts[customer_id] + 1
        self.usage_counts[customer_id] = number
        scale = self._scales.get(measure.entry.pricing.price.asset, INVOICE_SCALE)
        return begin_running(number, customer_id, measure, scale)


def begin_running(number: int, customer_id: str, measure: PricedMeasure, scale: int) -> Running:
    """Running usage of a price in a period that had none so far."""
    entry = measure.entry
    return Running(
        number=number,
        customer_id=customer_id,
        subscription_item_id=entry.subscription_item_id,
        price_id=entry.price_id,
        plan_code=entry.plan_code,
        meter=entry.meter,
        rule=measure.meter.rule,
        dimensions=entry.dimensions,
        pricing=entry.pricing,
        stretch=measure.stretch,
        time_zone=entry.time_zone,
        from_wallet=entry.from_wallet,
        scale=scale,
    )


def usages_of(matches: Iterable[Match]) -> dict[UsageKey, Entry]:
    """The running usage that events are counted for, and the entry of the rate card behind it."""
    return {measure.key: measure.entry for match in matches for measure in match.priced}


def check_authorization(match: Match, authorization: Authorization | None) -> Authorization:
    """The authorization that an event may capture. Raises where it may not."""
    named = match.event.authorization_id
    assert named is not None
    field = f"{match.field}.authorization_id"
    if authorization is None:
        raise AuthorizationUnknown(field, named)
    if authorization.customer_id != match.event.customer_id:
        raise AuthorizationMismatch(field, named)
    state = authorization.state_at(match.now)
    if state is AuthorizationState.DENIED:
        raise AuthorizationUnknown(field, named)
    if state is not AuthorizationState.OPEN:
        raise AuthorizationEnded(named, state.name, field)
    return authorization
