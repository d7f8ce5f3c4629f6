"""Recounting: what the stored events say, beside what runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from chassis.database import Connection, Database
from chassis.paging import Page
from chassis.wire import parse_uuid
from metering.aggregates.domain.carrying import Past, before_of
from metering.aggregates.domain.counting import PartKey
from metering.aggregates.domain.tally import Sighting, Tally
from metering.archive import store as archive
from metering.archive.domain import first_kept
from metering.charging.domain import batch_of, charge_of, receipt_of_charge
from metering.corrections import store as corrections
from metering.events import store as events
from metering.events.domain.decision import Hour, HourKey
from metering.events.domain.event import EventState, StoredEvent
from metering.meters.domain import MeterSet
from metering.meters.operations import Meters
from metering.ratecards.domain import pricing_of_document
from metering.rollups import store as rollups
from metering.settlement.domain import Chargeable, debits_of
from metering.settlement.operations import load_chargeables
from metering.usage import store as usage
from metering.usage.domain import Running, text_of
from metering.usage.operations import count_again, count_hours, read_all

EVENTS_PER_READ = 5_000
BEGINNING = str(UUID(int=0))


class EventCharge(NamedTuple):
    """A charge and the event behind it."""

    charge_id: str
    event_id: str
    customer_id: str
    state: EventState
    asset: str
    scale: int
    atoms: int
    shortfall: int


class Disagreement(NamedTuple):
    """One place where running usage is not what the events say."""

    customer_id: str
    figure: str
    stored: str
    derived: str


class Verification(NamedTuple):
    """What one page of customers was found to be."""

    customers: int
    events: int
    batches_pending: int
    disagreements: list[Disagreement]
    after: str  # the last customer, where there are more


async def list_charges(
    tx: Connection, tenant_id: UUID, page: Page
) -> tuple[list[EventCharge], str]:
    """Charges in order of their keys, and the key to go on after; empty at the end.

    There is one for every debit that the wallet was asked for and did not refuse: those of which
    nothing could be taken, and holds that were released without a charge, among them.
    """
    after = str(parse_uuid(page.after[0], "page_token")) if page.after else BEGINNING
    stored = await events.list_charged(tx, tenant_id, receipt_of_charge(after), page.size + 1)
    pending = set(await events.list_batches(tx, tenant_id))
    chargeables = {each.receipt_id: each for each in await load_chargeables(tx, tenant_id, stored)}
    charges: list[EventCharge] = []
    for each in stored:
        chargeable = chargeables.get(each.receipt_id)
        if chargeable is None or each.state is EventState.REJECTED:
            continue
        is_pending = batch_of(each.receipt_id) in pending
        for charge in _charges_of(each, chargeable, is_pending):
            if charge.charge_id <= after:
                continue
            if len(charges) == page.size:
                return charges, charges[-1].charge_id
            charges.append(charge)
    if len(stored) > page.size:
        # Not all of these were charged; go on after the last event that was looked at.
        return charges, charge_of(stored[-1].receipt_id, 255)
    return charges, ""


def _charges_of(each: StoredEvent, chargeable: Chargeable, is_pending: bool) -> list[EventCharge]:
    state = EventState.PENDING if is_pending else EventState.ACCEPTED
    shortfalls = {
        charge_of(each.receipt_id, number): line.shortfall
        for number, line in enumerate(each.lines, 1)
    }
    return [
        EventCharge(
            debit.charge_id,
            each.event.event_id,
            each.event.customer_id,
            state,
            debit.asset,
            debit.scale,
            debit.atoms,
            shortfalls.get(debit.charge_id, 0),
        )
        for debit in debits_of(chargeable)
    ]


async def verify_page(
    database: Database, meters: Meters, tenant_id: UUID, page: Page
) -> Verification:
    """Recount one page of customers. Each is locked while it is recounted, and no longer."""
    after = page.after[0] if page.after else ""
    async with database.transaction(tenant_id) as tx:
        found = await events.list_customers(tx, tenant_id, after, page.size + 1)
        pending = len(await events.list_batches(tx, tenant_id))
    customers = found[: page.size]
    disagreements: list[Disagreement] = []
    counted = 0
    for customer_id in customers:
        async with database.transaction(tenant_id) as tx:
            await events.relock_customers(tx, tenant_id, [customer_id])
            recount = _Recount(customer_id, await meters.current(tx, tenant_id))
            await recount.run(tx, tenant_id)
        counted += recount.events
        disagreements.extend(recount.disagreements)
    return Verification(
        len(customers),
        counted,
        pending,
        disagreements,
        customers[-1] if len(found) > page.size else "",
    )


class _Recount:
    """One customer's figures, derived from its events."""

    def __init__(self, customer_id: str, meters: MeterSet) -> None:
        self.customer_id = customer_id
        self.events = 0
        self.disagreements: list[Disagreement] = []
        self._meters = meters
        self._stored: dict[int, Running] = {}
        self._derived: dict[int, Running] = {}
        self._ordered: dict[int, list[StoredEvent]] = {}
        self._asked: dict[int, tuple[int, int]] = {}
        self._hours: dict[HourKey, Hour] = {}
        self._carried: dict[str, list[StoredEvent]] = {}
        self._edge: datetime | None = None  # usage before it has events in the archive

    async def run(self, tx: Connection, tenant_id: UUID) -> None:
        self._edge = first_kept(await archive.find_last_day(tx, tenant_id))
        for row in await usage.list_of_customer(tx, tenant_id, self.customer_id):
            pricing = pricing_of_document(row["document"], row["pricing_id"])
            number = row["number"]
            self._stored[number] = usage.running_of(row, pricing, self._meters)
            self._derived[number] = usage.running_of(row, pricing, self._meters)
            self._derived[number].restart()
        after: tuple[datetime, UUID] | None = None
        while True:
            page = await events.list_page_of_customer(
                tx, tenant_id, self.customer_id, after, EVENTS_PER_READ
            )
            for each in page:
                self._count(each)
            if len(page) < EVENTS_PER_READ:
                break
            after = (page[-1].event.event_time, page[-1].receipt_id)
        for revision in await corrections.list_of_customer(tx, tenant_id, self.customer_id):
            for refund in revision.refunds:
                self._ask(refund.number, -refund.atoms, -refund.shortfall)
        self._compare_usage(await usage.list_keys(tx, tenant_id, self.customer_id))
        await self._compare_hours(tx, tenant_id)
        await self._compare_hour_keys(tx, tenant_id)

    def _count(self, each: StoredEvent) -> None:
        self.events += 1
        if each.state is not EventState.REJECTED:
            # What was corrected is counted no longer, but what it was charged stands.
            for line in each.lines:
                self._ask(line.number, line.atoms, line.shortfall)
        if each.state is not EventState.ACCEPTED:
            return
        event = each.event
        count_hours(self._hours, each, self._meters)
        for code in self._meters.carried.get(event.name, ()):
            self._carried.setdefault(code, []).append(each)
        for line in each.lines:
            derived = self._derived.get(line.number)
            if derived is None:
                self._differ(f"usage {line.number}", "missing", f"event {event.event_id}")
                continue
            if event.event_time not in derived.stretch.period:
                period = derived.stretch.period
                told = f"{period.start.isoformat()} to {period.end.isoformat()}"
                self._differ(f"period of event {event.event_id}", told, str(event.event_time))
            if derived.is_additive:
                count_again(derived, each, self._meters)
            else:
                self._ordered.setdefault(line.number, []).append(each)

    def _ask(self, number: int, atoms: int, short: int) -> None:
        asked, shortfall = self._asked.get(number, (0, 0))
        self._asked[number] = (asked + atoms, shortfall + short)

    def _compare_usage(self, keys: Mapping[int, Mapping[PartKey, Sighting]]) -> None:
        for number, derived in self._derived.items():
            self._open(derived)
            # Some prices look at the order of events; the one they were decided in counts.
            for each in sorted(self._ordered.get(number, []), key=lambda one: one.sequence):
                count_again(derived, each, self._meters)
            asked, shortfall = self._asked.get(number, (0, 0))
            derived.settle(asked - derived.asked, shortfall - derived.shortfall)
            stored = self._stored[number]
            if self._edge is not None and stored.stretch.period.start < self._edge:
                continue
            name = f"{stored.meter} at price {stored.price_id} from {stored.stretch.period.start}"
            for figure in ("quantity", "event_count", "asked", "shortfall", "left_over"):
                was, should = getattr(stored, figure), getattr(derived, figure)
                if was != should:
                    self._differ(f"{figure} of {name}", str(was), str(should))
            if stored.state() != derived.state() or _counted(stored) != _counted(derived):
                self._differ(
                    f"rating state of {name}",
                    stored.state_document() or "",
                    derived.state_document() or "",
                )
            sightings = {} if derived.counter is None else derived.counter.sightings
            if keys.get(number, {}) != sightings:
                self._differ(f"keys of {name}", str(len(keys.get(number, {}))), str(len(sightings)))

    def _open(self, derived: Running) -> None:
        """What the usage must have begun with, from all events before it."""
        if not derived.rule.carries:
            return
        start = derived.stretch.in_force.start
        past = [
            each for each in self._carried.get(derived.meter, []) if each.event.event_time < start
        ]
        before = before_of(derived, Past(readings=read_all(derived.meter, past, self._meters)))
        derived.open_with(before.openings)
        assert derived.counter is not None
        derived.counter.know({}, before.active)

    async def _compare_hours(self, tx: Connection, tenant_id: UUID) -> None:
        stored = {
            (
                self.customer_id,
                row["meter"],
                row["hour"],
                row["dimension_values"],
            ): rollups.tally_of(row)
            for row in await rollups.list_hours(tx, tenant_id, self.customer_id)
        }
        nothing = Tally()
        for key in sorted(stored.keys() | self._hours.keys()):
            if self._edge is not None and key[2] < self._edge:
                continue
            was = stored.get(key, nothing)
            should = self._hours[key].tally if key in self._hours else nothing
            if was != should:
                _, meter, hour, values = key
                self._differ(f"hour {hour.isoformat()} of {meter} {values}", _told(was, should),
                             _told(should, was))  # fmt: skip

    async def _compare_hour_keys(self, tx: Connection, tenant_id: UUID) -> None:
        stored: dict[HourKey, dict[UUID, Sighting]] = {}
        for row in await rollups.list_hour_keys(tx, tenant_id, self.customer_id):
            key = (self.customer_id, row["meter"], row["hour"], row["dimension_values"])
            stored.setdefault(key, {})[row["unique_key"]] = rollups.sighting_of(row)
        derived = {key: hour.keys for key, hour in self._hours.items() if hour.keys}
        for key in sorted(stored.keys() | derived.keys()):
            if self._edge is not None and key[2] < self._edge:
                continue
            was, should = stored.get(key, {}), derived.get(key, {})
            if was != should:
                _, meter, hour, values = key
                figure = f"keys of {meter} {values} in the hour {hour.isoformat()}"
                self._differ(figure, str(len(was)), str(len(should)))

    def _differ(self, figure: str, stored: str, derived: str) -> None:
        self.disagreements.append(Disagreement(self.customer_id, figure, stored, derived))


def _counted(running: Running) -> object:
    counter = running.counter
    if counter is None:
        return None
    return counter.parts, {part: opening.tally for part, opening in counter.openings.items()}


def _told(tally: Tally, other: Tally) -> str:
    told = f"{text_of(tally.total)} in {tally.event_count} events"
    if (tally.leverage, tally.last) == (other.leverage, other.last):
        return told
    return f"{told}, weighing {text_of(tally.leverage)}, the last at {tally.last.microseconds}"
