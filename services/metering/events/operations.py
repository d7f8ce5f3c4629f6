"""Taking events in: one batch is matched, made durable with its intended charges, and charged."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from chassis import failpoints
from chassis.call import Call
from chassis.database import Connection, Database
from chassis.lanes import Lanes
from kernel.errors import Refusal
from metering.authorizations.using.operations import use
from metering.charging.domain import batch_of, refused
from metering.charging.operations import Wallet
from metering.events import store
from metering.events.domain.decision import Batch, Record, check_authorization, usages_of
from metering.events.domain.event import (
    CustomerUnknown,
    Event,
    EventState,
    Outcome,
    event_key,
)
from metering.events.domain.inflow import Arrival, Inflow
from metering.events.domain.matching import match_event
from metering.events.domain.rendering import outcome_of_record, outcome_of_stored
from metering.gate import store as gate
from metering.gate.domain.authorization import Authorization, AuthorizationState
from metering.meters.domain import MeterSet
from metering.meters.operations import Meters
from metering.parking import store as parking
from metering.parking.domain import Parked
from metering.ratecards.domain import RateCard
from metering.ratecards.operations import RateCards
from metering.rollups import store as rollups
from metering.settlement.domain import Chargeable, ChargeLine
from metering.settlement.operations import Settlement
from metering.usage import store as usage
from metering.usage.operations import carry_forward, prepare

BATCH_MAX = 1_000  # of one transaction; the wallet takes as many debits in one call
QUEUE_MAX = 20_000  # events waiting in one lane: two seconds' worth
MATCH_ATTEMPTS = 3  # meters may be published while a batch is being decided


class MetersChanged(Exception):
    """Meters were published or archived after the batch was matched; it is matched again."""


class Ingest:
    """The lanes that events go through, so that one customer's are decided one batch at a time."""

    def __init__(
        self,
        database: Database,
        meters: Meters,
        cards: RateCards,
        wallet: Wallet,
        settlement: Settlement,
        lanes: int,
    ) -> None:
        self._database = database
        self._meters = meters
        self._cards = cards
        self._wallet = wallet
        self._settlement = settlement
        self._lanes: list[Lanes[Arrival, Outcome]] = [
            Lanes(
                self._flush,
                count=1,
                batch_max=BATCH_MAX,
                queue_max=QUEUE_MAX,
                group_of=_tenant_of,
                name=f"ingest-{number}",
            )
            for number in range(lanes)
        ]

    async def take(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """Outcomes of a request's events, in order. Raises LaneFull, or what made a whole batch
        fail before anything of it was stored."""
        parts: list[list[int]] = [[] for _ in self._lanes]
        for position, arrival in enumerate(arrivals):
            customer = arrival.event.customer_id.encode()
            parts[zlib.crc32(customer) % len(parts)].append(position)
        answers = await asyncio.gather(
            *(
                lane.submit_many(number, [arrivals[position] for position in part])
                for number, (lane, part) in enumerate(zip(self._lanes, parts, strict=True))
            )
        )
        outcomes: list[Outcome | None] = [None] * len(arrivals)
        for part, answered in zip(parts, answers, strict=True):
            for position, outcome in zip(part, answered, strict=True):
                if isinstance(outcome, Exception):
                    raise outcome
                outcomes[position] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    async def close(self) -> None:
        """Finish what was taken."""
        for lane in self._lanes:
            await lane.close()

    async def _flush(self, arrivals: Sequence[Arrival]) -> list[Outcome | Exception]:
        # Of several callers the one who saw the latest test clock speaks for all.
        call = max((arrival.call for arrival in arrivals), key=lambda one: one.clock_version)
        customers = {arrival.event.customer_id for arrival in arrivals}
        cards = await self._cards.of(call.tenant_id, customers, call)
        assets = {asset for card in cards.values() for asset in card.wallet_assets}
        scales = await self._wallet.scales_of(call.tenant_id, assets, call) if assets else {}
        meters = await self._meters.of(call.tenant_id)
        for attempt in range(1, MATCH_ATTEMPTS + 1):
            inflow = _match_all(arrivals, call, meters, cards, scales)
            try:
                batch = await self._store(inflow, meters, scales)
            except MetersChanged:
                meters = await self._meters.refresh(call.tenant_id)
                if attempt == MATCH_ATTEMPTS:
                    raise
                continue
            if inflow.unusable:
                await self._park(inflow, meters)
            await self._charge(inflow, batch, call)
            return [*inflow.answer()]
        raise AssertionError("the last attempt returns or raises")

    async def _store(
        self, inflow: Inflow, meters: MeterSet, scales: dict[str, int]
    ) -> Batch | None:
        """One transaction: events, running usage, hours, and the intent to charge."""
        if not inflow.matches:
            if meters.version != await self._stored_version(inflow.tenant_id):
                raise MetersChanged
            return None
        async with self._database.transaction(inflow.tenant_id) as tx:
            batch = await self._decide(tx, inflow, meters, scales)
            if failpoints.armed is not None:
                await failpoints.armed.reach("before_events_commit")
        return batch

    async def _decide(
        self, tx: Connection, inflow: Inflow, meters: MeterSet, scales: dict[str, int]
    ) -> Batch:
        locked = await store.lock_customers(tx, inflow.tenant_id, inflow.count_by_customer())
        if locked.meter_version != meters.version:
            raise MetersChanged
        await self._find_duplicates(tx, inflow)
        authorizations = await self._find_authorizations(tx, inflow)
        batch = await self._load(tx, inflow, meters, scales, locked)
        for position, match in inflow.matches.items():
            named = match.event.authorization_id
            authorization = authorizations[named] if named is not None else None
            batch.decide(position, match, authorization)
        await _record(tx, inflow.tenant_id, meters, batch)
        return batch

    async def rehearse(
        self, tx: Connection, arrivals: Sequence[Arrival], call: Call
    ) -> list[Outcome]:
        """Decide events in a transaction that the caller takes back: what would be counted and
        asked for, and nothing is charged. Raises MetersChanged."""
        customers = {arrival.event.customer_id for arrival in arrivals}
        cards = await self._cards.of(call.tenant_id, customers, call)
        assets = {asset for card in cards.values() for asset in card.wallet_assets}
        scales = await self._wallet.scales_of(call.tenant_id, assets, call) if assets else {}
        meters = await self._meters.current(tx, call.tenant_id)
        inflow = _match_all(arrivals, call, meters, cards, scales)
        batch = await self._decide(tx, inflow, meters, scales) if inflow.matches else None
        for record in batch.records if batch is not None else []:
            inflow.settle(record, outcome_of_record(record, None))
        return inflow.answer()

    async def _stored_version(self, tenant_id: UUID) -> int:
        async with self._database.transaction(tenant_id) as tx:
            return (await self._meters.current(tx, tenant_id)).version

    async def _find_duplicates(self, tx: Connection, inflow: Inflow) -> None:
        receipts = {
            event_key(m.event.event_id): inflow.receipt(p) for p, m in inflow.matches.items()
        }
        earlier = await store.claim_receipts(tx, inflow.tenant_id, receipts)
        if not earlier:
            return
        earlier = await self._take_up(tx, inflow, earlier)
        outcomes = await load_outcomes(tx, inflow.tenant_id, earlier.values())
        for position, match in list(inflow.matches.items()):
            receipt_id = earlier.get(event_key(match.event.event_id))
            if receipt_id is not None:
                event, outcome = outcomes[receipt_id]
                inflow.repeat(position, event, outcome)

    async def _take_up(
        self, tx: Connection, inflow: Inflow, earlier: dict[UUID, UUID]
    ) -> dict[UUID, UUID]:
        """Parked events whose time has come are no repetitions; answers the others."""
        wanted = {
            key: (receipt_id, inflow.receipt(position))
            for position, receipt_id in inflow.list_parked()
            if earlier.get(key := event_key(inflow.matches[position].event.event_id)) == receipt_id
        }
        if not wanted:
            return earlier
        taken = await parking.take_up(tx, inflow.tenant_id, list(wanted.values()))
        # What was given up or taken up meanwhile has another receipt by now, or none.
        kept = {key for key, (receipt_id, _) in wanted.items() if receipt_id in taken}
        lost = {key for key in wanted if key not in kept}
        if lost:
            inflow.drop(lost)
        return {key: value for key, value in earlier.items() if key not in wanted}

    async def _park(self, inflow: Inflow, meters: MeterSet) -> None:
        """Keep what cannot be taken, where the tenant wants that: its id is taken, and it waits."""
        tenant_id = inflow.tenant_id
        async with self._database.transaction(tenant_id) as tx:
            policy = await parking.find_policy(tx, tenant_id)
            kept = {p: r for p, r in inflow.unusable.items() if policy.parks(r)}
            events = {position: inflow.event(position) for position in kept}
            receipts = {event_key(e.event_id): inflow.receipt(p) for p, e in events.items()}
            if not receipts:
                return
            earlier = await store.claim_receipts(tx, tenant_id, receipts)
            outcomes = await load_outcomes(tx, tenant_id, earlier.values())
            fresh = []
            for position, event in events.items():
                refusal = refused(kept[position])
                outcome = Outcome(event.event_id, EventState.PARKED, [], refusal, False)
                receipt_id = earlier.get(event_key(event.event_id))
                if receipt_id is not None:
                    inflow.repeat_parked(position, *outcomes[receipt_id])
                    continue
                now = inflow.now(position)
                first = inflow.receipt(position)
                fresh.append(Parked(first, event, now, refusal, meters.version, 0, now))
                inflow.keep(position, outcome)
            if fresh:
                await parking.insert_all(tx, tenant_id, fresh)

    async def _find_authorizations(
        self, tx: Connection, inflow: Inflow
    ) -> dict[UUID, Authorization]:
        named = {p: m for p, m in inflow.matches.items() if m.event.authorization_id is not None}
        if not named:
            return {}
        ids = {m.event.authorization_id for m in named.values() if m.event.authorization_id}
        found = await gate.list_by_id(tx, inflow.tenant_id, ids, lock=True)
        usable: dict[UUID, Authorization] = {}
        faulty: list[UUID] = []
        for position, match in named.items():
            key = match.event.authorization_id
            assert key is not None
            try:
                usable[key] = check_authorization(match, found.get(key))
                # It is captured by the first event that does not leave it open.
                if not match.event.continues:
                    found[key] = usable[key]._replace(state=AuthorizationState.CAPTURED)
            except Refusal as refusal:
                inflow.refuse(position, refusal)
                faulty.append(event_key(match.event.event_id))
        if faulty:
            await store.release_receipts(tx, inflow.tenant_id, faulty)
        return usable

    async def _load(
        self,
        tx: Connection,
        inflow: Inflow,
        meters: MeterSet,
        scales: dict[str, int],
        locked: store.LockedCustomers,
    ) -> Batch:
        entries = usages_of(inflow.matches.values())
        runnings = await usage.load_runnings(tx, inflow.tenant_id, entries, meters)
        batch = Batch(
            inflow.batch_id,
            meters.version,
            runnings,
            locked.sequences,
            locked.usage_counts,
            scales,
        )
        if not meters.are_simple:
            await prepare(tx, inflow.tenant_id, meters, batch, inflow.matches.values())
        return batch

    async def _charge(self, inflow: Inflow, batch: Batch | None, call: Call) -> None:
        records = batch.records if batch is not None else []
        charged = [record for record in records if record.is_charged]
        answers = None
        if charged:
            answers = await self._settlement.charge(
                inflow.tenant_id, inflow.batch_id, [_chargeable(r) for r in charged], call
            )
        for record in records:
            inflow.settle(record, outcome_of_record(record, answers))


def _match_all(
    arrivals: Sequence[Arrival],
    call: Call,
    meters: MeterSet,
    cards: Mapping[str, RateCard],
    scales: Mapping[str, int],
) -> Inflow:
    inflow = Inflow(call.tenant_id, arrivals)
    for position, arrival in enumerate(arrivals):
        event, field = arrival.event, arrival.field
        card = cards.get(event.customer_id)
        try:
            if card is None:
                raise CustomerUnknown(f"{field}.customer_id", event.customer_id)
            inflow.admit(
                position, match_event(event, field, arrival.call.now, meters, card, scales)
            )
        except Refusal as refusal:
            inflow.refuse(position, refusal)
    return inflow


async def _record(tx: Connection, tenant_id: UUID, meters: MeterSet, batch: Batch) -> None:
    if not batch.records:
        return
    runnings = list(batch.runnings.values())
    new = [running for running in runnings if running.is_new]
    if new:
        await usage.insert_runnings(tx, tenant_id, new)
        counts = {r.customer_id: batch.usage_counts[r.customer_id] for r in new}
        await store.save_usage_counts(tx, tenant_id, counts)
    grown = [running for running in runnings if running.only_grew and not running.is_new]
    if grown:
        await usage.grow_runnings(tx, tenant_id, grown)
    others = [running for running in runnings if not (running.only_grew or running.is_new)]
    if others:
        await usage.save_runnings(tx, tenant_id, others)
    if not meters.are_simple:
        await usage.save_keys(tx, tenant_id, runnings)
    if batch.hours:
        await rollups.add_hours(tx, tenant_id, batch.hours)
    await store.insert_events(tx, tenant_id, batch.records, batch.meter_version)
    if not meters.are_simple:
        await _carry(tx, tenant_id, meters, batch)
    named = [r for r in batch.records if r.authorization]
    if named:
        await use(tx, tenant_id, named)
    if any(record.is_charged for record in batch.records):
        await store.insert_batch(tx, tenant_id, batch.batch_id)


async def _carry(tx: Connection, tenant_id: UUID, meters: MeterSet, batch: Batch) -> None:
    """What came late for a period that is over changes what the next ones begin with."""
    events = [record.match.event for record in batch.records]
    changed = {(event.customer_id, event.name, event.event_time) for event in events}
    await carry_forward(tx, tenant_id, meters, changed)


async def load_outcomes(
    tx: Connection, tenant_id: UUID, receipt_ids: Iterable[UUID]
) -> dict[UUID, tuple[Event, Outcome]]:
    """Stored events and what became of them, by receipt."""
    stored = await store.list_events(tx, tenant_id, receipt_ids)
    numbers = {(each.event.customer_id, line.number) for each in stored for line in each.lines}
    usages = await usage.find_named(tx, tenant_id, numbers)
    batches = {batch_of(each.receipt_id) for each in stored}
    pending = await store.list_pending(tx, tenant_id, batches)
    found = {
        each.receipt_id: (
            each.event,
            outcome_of_stored(each, usages, batch_of(each.receipt_id) in pending),
        )
        for each in stored
    }
    missing = set(receipt_ids) - found.keys()
    if missing:
        for each in await parking.list_by_receipt(tx, tenant_id, missing):
            event_id = each.event.event_id
            outcome = Outcome(event_id, EventState.PARKED, [], each.refusal, False)
            found[each.receipt_id] = (each.event, outcome)
    return found


def _chargeable(record: Record) -> Chargeable:
    lines = [
        ChargeLine(
            line.running.meter,
            line.running.plan_code,
            line.running.asset,
            line.running.scale,
            line.atoms,
        )
        for line in record.lines
    ]
    event = record.match.event
    return Chargeable(
        record.receipt_id,
        event.event_id,
        event.customer_id,
        lines,
        record.authorization,
        node=event.node,
        continues=event.continues,
    )


def _tenant_of(arrival: Arrival) -> UUID:
    return arrival.call.tenant_id
