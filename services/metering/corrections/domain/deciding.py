"""Deciding corrections: what was counted goes, what is right comes, and the difference is money.

The caller holds the locks of the customers; nothing here waits or writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from metering.corrections.domain.revision import (
    Correction,
    History,
    Paid,
    Refund,
    Revision,
    RevisionState,
)
from metering.events.domain.decision import (
    INVOICE_SCALE,
    Hour,
    HourKey,
    Line,
    Record,
    begin_running,
)
from metering.events.domain.event import StoredEvent, StoredLine
from metering.events.domain.matching import Match, PricedMeasure, UsageKey
from metering.usage.domain import Running, read, text_of
from rating.exact import parse_number

Place = tuple[str, int]  # customer, number of its usage


class Draft:
    """One correction while it is decided."""

    __slots__ = (
        "correction",
        "customer_id",
        "history",
        "lines",
        "match",
        "old",
        "paid",
        "places",
        "receipt_id",
        "refunds",
        "scales",
    )

    def __init__(
        self, receipt_id: UUID, correction: Correction, history: History, match: Match | None
    ) -> None:
        self.receipt_id = receipt_id
        self.correction = correction
        self.history = history
        self.match = match  # of the new content; None with a deprecation
        self.customer_id = history.origin.event.customer_id
        # What is counted until now; nothing where a deprecation is taken back.
        self.old: StoredEvent | None = None if history.is_deprecated else history.last
        self.paid: dict[int, Paid] = history.paid()
        self.lines: list[Line] = []
        self.refunds: list[Refund] = []
        self.scales: dict[int, tuple[str, int]] = {}  # asset and scale of what is refunded
        self.places: dict[Place, None] = {}  # usages that it changes, in order

    @property
    def is_charged(self) -> bool:
        return any(refund.parts for refund in self.refunds) or any(
            line.atoms for line in self.lines
        )

    def record(self, now: datetime) -> Record | None:
        """The row of its new content."""
        if self.match is None:
            return None
        # It takes the place of the original in the order in which prices look at events, and the
        # original's authorization was captured by the original.
        return Record(
            self.receipt_id,
            self.match._replace(now=now),
            self.history.origin.sequence,
            self.lines,
            None,
            self.is_charged,
        )

    def stored_lines(self) -> list[StoredLine]:
        return [StoredLine(one.running.number, one.quantity, one.atoms, 0) for one in self.lines]

    def revision(self, caller: str, now: datetime) -> Revision:
        return Revision(
            self.receipt_id,
            self.history.origin.receipt_id,
            self.customer_id,
            len(self.history.revisions) + 1,
            self.correction.kind,
            self.old.receipt_id if self.old is not None else None,
            self.correction.reason,
            caller,
            self.correction.request_id,
            self.correction.fingerprint,
            RevisionState.APPLIED,
            self.refunds,
            now,
        )


class Deciding:
    """The corrections of one transaction, and the usage that they change."""

    def __init__(
        self,
        batch_id: UUID,
        runnings: Mapping[Place, Running],
        by_key: Mapping[UsageKey, Running],
        usage_counts: Mapping[str, int],
        scales: Mapping[str, int],
    ) -> None:
        self.batch_id = batch_id
        self.runnings = dict(runnings)
        self.usage_counts = dict(usage_counts)
        self.hours: dict[HourKey, Hour] = {}
        self.drafts: list[Draft] = []
        # Usages whose cost depends on more than a total: to be counted anew from their events.
        self.recounted: dict[Place, None] = {}
        self._by_key: dict[UsageKey, Running] = {}
        for key, running in by_key.items():
            place = (running.customer_id, running.number)
            self._by_key[key] = self.runnings.setdefault(place, running)
        self._scales = scales

    def count(self, draft: Draft) -> None:
        """Take the old content off the usage and put the new one on; charge what is additive."""
        self.drafts.append(draft)
        if draft.old is not None:
            for stored in draft.old.lines:
                running = self.runnings[draft.customer_id, stored.number]
                if self._touch(draft, running):
                    running.take_back(parse_number(stored.quantity, "quantity", signed=True), 0, 0)
        if draft.match is not None:
            for measure in draft.match.priced:
                self._add(draft, draft.match, measure)
            self._add_hours(draft.match, draft.history.origin.sequence)
        self._settle(draft, [p for p in draft.places if p not in self.recounted])

    def settle_recounted(self) -> list[Draft]:
        """Charge what the caller has counted anew; answers the corrections that it changed."""
        changed = []
        for draft in self.drafts:
            places = [place for place in draft.places if place in self.recounted]
            if places:
                self._settle(draft, places)
                changed.append(draft)
        return changed

    def give_back_rest(self) -> None:
        """What one event paid too little to return, others of this transaction return: together
        they give back whatever their usages no longer cost."""
        for draft in self.drafts:
            for place in draft.places:
                running = self.runnings[place]
                if running.left_over < 0:
                    self._refund(draft, running, -running.difference())

    def _touch(self, draft: Draft, running: Running) -> bool:
        """Whether one event can be put on or taken off the usage by itself."""
        place = (draft.customer_id, running.number)
        draft.places[place] = None
        if not running.is_additive:
            self.recounted[place] = None
        return running.is_additive

    def _add(self, draft: Draft, match: Match, measure: PricedMeasure) -> None:
        running = self._by_key.get(measure.key)
        if running is None:
            running = self._begin(draft.customer_id, measure)
        quantity = measure.value
        if self._touch(draft, running):
            event = match.event
            quantity = running.recount(measure.value, event.properties, event.event_time)
        draft.lines.append(Line(running, text_of(quantity), 0))

    def _begin(self, customer_id: str, measure: PricedMeasure) -> Running:
        number = self.usage_counts[customer_id] + 1
        self.usage_counts[customer_id] = number
        scale = self._scales.get(measure.entry.pricing.price.asset, INVOICE_SCALE)
        running = begin_running(number, customer_id, measure, scale)
        self._by_key[measure.key] = self.runnings[customer_id, number] = running
        return running

    def _add_hours(self, match: Match, sequence: int) -> None:
        event = match.event
        hour = event.event_time.replace(minute=0, second=0, microsecond=0)
        for meter, value in match.measures:
            key = (event.customer_id, meter.code, hour, meter.dimension_values(event.properties))
            reading = read(value, event.properties, event.event_time, meter, sequence)
            self.hours.setdefault(key, Hour(meter.aggregation)).read(reading)

    def _settle(self, draft: Draft, places: Iterable[Place]) -> None:
        """Ask for what its usages cost more, or no longer for what they cost less.

        What cannot be asked of this event, or given back of what it paid, stays left over: the next
        event or the close of the period corrects it.
        """
        for place in places:
            running = self.runnings[place]
            difference = running.difference()
            line = next((i for i, one in enumerate(draft.lines) if one.running is running), None)
            if difference > 0 and line is not None:
                draft.lines[line] = draft.lines[line]._replace(atoms=difference)
                running.settle(difference, 0)
            elif difference < 0:
                self._refund(draft, running, -difference)
            else:
                running.settle(0, 0)

    def _refund(self, draft: Draft, running: Running, atoms: int) -> None:
        number = running.number
        paid = draft.paid.get(number)
        refund = paid.give_back(number, atoms) if paid is not None else None
        if refund is None or not refund.atoms:
            running.settle(0, 0)
            return
        running.settle(-refund.atoms, -refund.shortfall)
        draft.scales[number] = (running.asset, running.scale)
        earlier = next((one for one in draft.refunds if one.number == number), None)
        if earlier is not None:
            draft.refunds.remove(earlier)
            refund = earlier.and_more(refund)
        draft.refunds.append(refund)
