"""Correcting events: the old content is counted no longer, the new one is, and money follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from kernel.errors import IdempotencyConflict, InvalidValue, NotFound, Refusal
from kernel.ids import new_id
from metering.charging.domain import batch_of, receipt_of
from metering.charging.operations import Wallet
from metering.corrections import store
from metering.corrections.domain.deciding import Deciding, Draft
from metering.corrections.domain.rendering import (
    outcome_of_draft,
    outcome_of_refusal,
    outcome_of_revision,
)
from metering.corrections.domain.revision import (
    Correction,
    CorrectionOutcome,
    EventNotCounted,
    EventPending,
    History,
    Revision,
    RevisionKind,
)
from metering.events import store as events
from metering.events.domain.decision import usages_of
from metering.events.domain.event import CustomerUnknown, EventState, check_time, event_key
from metering.events.domain.matching import Match, match_event
from metering.events.operations import MATCH_ATTEMPTS, MetersChanged
from metering.meters.domain import MeterSet
from metering.meters.operations import Meters
from metering.ratecards.domain import RateCard, pricing_of_document
from metering.ratecards.operations import RateCards
from metering.rollups import store as rollups
from metering.settlement.domain import Chargeable, ChargeAnswer, ChargeLine
from metering.settlement.operations import Settlement, returns_of
from metering.usage import store as usage
from metering.usage.domain import Running, UsageName
from metering.usage.operations import begin, carry_forward, recount, take_back_hours


class KeyRaced(Exception):
    """Another call used one of the request ids meanwhile; all is decided again."""


@dataclass(slots=True)
class _Round:
    """One attempt at the corrections of a call."""

    call: Call
    batch_id: UUID
    meters: MeterSet
    cards: Mapping[str, RateCard]
    scales: Mapping[str, int]
    unbounded: bool
    outcomes: dict[int, CorrectionOutcome] = field(default_factory=dict)
    drafts: dict[int, Draft] = field(default_factory=dict)


class Corrections:
    """Amends and deprecates events, each call in one transaction and one charge."""

    def __init__(
        self,
        database: Database,
        meters: Meters,
        cards: RateCards,
        wallet: Wallet,
        settlement: Settlement,
    ) -> None:
        self._database = database
        self._meters = meters
        self._cards = cards
        self._wallet = wallet
        self._settlement = settlement

    async def apply(
        self, corrections: Sequence[Correction], call: Call, *, unbounded: bool = False
    ) -> list[CorrectionOutcome]:
        """Outcomes in order. With `unbounded`, events of any age are corrected: a backfill's."""
        if not corrections:
            return []
        meters = await self._meters.of(call.tenant_id)
        for attempt in range(1, MATCH_ATTEMPTS + 1):
            names = {correction.event_id for correction in corrections}
            async with self._database.transaction(call.tenant_id) as tx:
                known = await load_histories(tx, call.tenant_id, names)
            customers = {each.origin.event.customer_id for each in known.values()}
            cards = await self._cards.of(call.tenant_id, customers, call)
            assets = {asset for card in cards.values() for asset in card.wallet_assets}
            scales = await self._wallet.scales_of(call.tenant_id, assets, call) if assets else {}
            batch_id = batch_of(new_id(datetime.now(UTC)))
            work = _Round(call, batch_id, meters, cards, scales, unbounded)
            try:
                async with self._database.transaction(call.tenant_id) as tx:
                    await self._decide(tx, work, corrections, sorted(customers))
            except (MetersChanged, KeyRaced):
                if attempt == MATCH_ATTEMPTS:
                    raise
                meters = await self._meters.refresh(call.tenant_id)
                continue
            await self._charge(work)
            return [work.outcomes[index] for index in range(len(corrections))]
        raise AssertionError("the last attempt returns or raises")

    async def rehearse(
        self, tx: Connection, corrections: Sequence[Correction], call: Call
    ) -> list[CorrectionOutcome]:
        """Decide corrections in a transaction that the caller takes back; nothing is charged or
        returned. Raises MetersChanged, KeyRaced."""
        if not corrections:
            return []
        names = {correction.event_id for correction in corrections}
        known = await load_histories(tx, call.tenant_id, names)
        customers = {each.origin.event.customer_id for each in known.values()}
        cards = await self._cards.of(call.tenant_id, customers, call)
        assets = {asset for card in cards.values() for asset in card.wallet_assets}
        scales = await self._wallet.scales_of(call.tenant_id, assets, call) if assets else {}
        meters = await self._meters.current(tx, call.tenant_id)
        batch_id = batch_of(new_id(datetime.now(UTC)))
        work = _Round(call, batch_id, meters, cards, scales, unbounded=True)
        await self._decide(tx, work, corrections, sorted(customers))
        for index, draft in work.drafts.items():
            work.outcomes[index] = outcome_of_draft(draft, None, is_pending=True)
        return [work.outcomes[index] for index in range(len(corrections))]

    async def _decide(
        self,
        tx: Connection,
        work: _Round,
        corrections: Sequence[Correction],
        customers: Sequence[str],
    ) -> None:
        """One transaction: what is counted, and the intent to charge and to return."""
        tenant_id = work.call.tenant_id
        usage_counts: dict[str, int] = {}
        if customers:
            locked = await events.lock_customers(tx, tenant_id, dict.fromkeys(customers, 0))
            if locked.meter_version != work.meters.version:
                raise MetersChanged
            usage_counts = locked.usage_counts
        names = {correction.event_id for correction in corrections}
        histories = await load_histories(tx, tenant_id, names)
        await self._answer_repeated(tx, work, corrections, histories)
        pending = await events.list_pending(
            tx,
            tenant_id,
            {batch_of(key) for each in histories.values() for key in each.receipts},
        )
        taken: set[str] = set()
        for index, correction in enumerate(corrections):
            if index in work.outcomes:
                continue
            try:
                if correction.event_id in taken:
                    raise InvalidValue(
                        f"{correction.field}.event_id", "is corrected twice in this call"
                    )
                draft = _admit(work, index, correction, histories, pending)
            except Refusal as refusal:
                work.outcomes[index] = outcome_of_refusal(correction, refusal)
                continue
            taken.add(correction.event_id)
            work.drafts[index] = draft
        if work.drafts:
            await _record(tx, work, usage_counts)

    async def _answer_repeated(
        self,
        tx: Connection,
        work: _Round,
        corrections: Sequence[Correction],
        histories: Mapping[str, History],
    ) -> None:
        tenant_id = work.call.tenant_id
        earlier = await store.list_of_requests(
            tx, tenant_id, [correction.request_id for correction in corrections]
        )
        first: dict[str, int] = {}
        for index, correction in enumerate(corrections):
            revision = earlier.get(correction.request_id)
            fingerprint = correction.fingerprint if revision is None else revision.fingerprint
            position = first.setdefault(correction.request_id, index)
            if fingerprint != correction.fingerprint or position != index:
                conflict = IdempotencyConflict(correction.request_id)
                work.outcomes[index] = outcome_of_refusal(correction, conflict)
            elif revision is not None:
                history = histories[correction.event_id]
                told = await tell_revisions(tx, tenant_id, [revision], history)
                work.outcomes[index] = told[0]._replace(duplicate=True)

    async def _charge(self, work: _Round) -> None:
        charged = {
            index: chargeable
            for index, draft in work.drafts.items()
            if (chargeable := _chargeable(draft)) is not None
        }
        answers: Mapping[UUID, ChargeAnswer] | None = {}
        if charged:
            answers = await self._settlement.charge(
                work.call.tenant_id, work.batch_id, list(charged.values()), work.call
            )
        for index, draft in work.drafts.items():
            answer = None
            if index in charged:
                answer = answers.get(draft.receipt_id) if answers is not None else None
            waits = index in charged and answer is None
            work.outcomes[index] = outcome_of_draft(draft, answer, waits)


def _admit(
    work: _Round,
    index: int,
    correction: Correction,
    histories: Mapping[str, History],
    pending: set[UUID],
) -> Draft:
    """A correction that can be decided. Raises why it cannot."""
    history = histories.get(correction.event_id)
    place = f"{correction.field}.event_id"
    if history is None:
        raise NotFound("event", correction.event_id)
    if any(batch_of(key) in pending for key in history.receipts):
        raise EventPending(place, correction.event_id)
    if history.last.state is EventState.REJECTED:
        raise EventNotCounted(place, correction.event_id, "REJECTED")
    restores = correction.kind is RevisionKind.RESTORATION
    if history.is_deprecated is not restores:
        raise EventNotCounted(
            place, correction.event_id, "DEPRECATED" if not restores else "COUNTED"
        )
    now = work.call.now
    if not work.unbounded:
        check_time(history.last.event.event_time, now, place)
    match = None
    if correction.kind is not RevisionKind.DEPRECATION:
        match = _match(work, correction, history, now)
    return Draft(receipt_of(work.batch_id, index), correction, history, match)


def _match(work: _Round, correction: Correction, history: History, now: datetime) -> Match:
    origin = history.origin.event
    event = correction.event if correction.event is not None else history.last.event
    field = f"{correction.field}.event"
    if event.customer_id != origin.customer_id:
        raise InvalidValue(
            f"{field}.customer_id",
            f"is {origin.customer_id!r}; deprecate the event and send another instead",
        )
    if event.authorization_id not in (None, origin.authorization_id):
        raise InvalidValue(f"{field}.authorization_id", "is the original's")
    card = work.cards.get(event.customer_id)
    if card is None:
        raise CustomerUnknown(f"{field}.customer_id", event.customer_id)
    # The original captured what the authorization held; nothing is captured twice.
    event = event._replace(authorization_id=None, continues=False)
    return match_event(event, field, now, work.meters, card, work.scales)


async def _record(tx: Connection, work: _Round, usage_counts: Mapping[str, int]) -> None:
    tenant_id, call = work.call.tenant_id, work.call
    drafts = list(work.drafts.values())
    deciding = await _load(tx, work, drafts, usage_counts)
    for draft in drafts:
        deciding.count(draft)
    replaced = [draft.old for draft in drafts if draft.old is not None]
    await store.mark_events(
        tx, tenant_id, [old.receipt_id for old in replaced], EventState.SUPERSEDED
    )
    await take_back_hours(tx, tenant_id, work.meters, replaced)
    records = [record for draft in drafts if (record := draft.record(call.now)) is not None]
    if records:
        await events.insert_events(tx, tenant_id, records, work.meters.version)
    if deciding.hours:
        await rollups.add_hours(tx, tenant_id, deciding.hours)
    for place in deciding.recounted:
        await begin(tx, tenant_id, work.meters, deciding.runnings[place])
        await recount(tx, tenant_id, work.meters, deciding.runnings[place])
    changed = deciding.settle_recounted()
    deciding.give_back_rest()
    lines = {draft.receipt_id: draft.stored_lines() for draft in changed if draft.match}
    if lines:
        await events.save_lines(tx, tenant_id, lines)
    await _save_usage(tx, tenant_id, deciding)
    matched = [draft.match for draft in drafts if draft.match is not None]
    moved = [old.event for old in replaced] + [match.event for match in matched]
    await carry_forward(
        tx, tenant_id, work.meters, {(one.customer_id, one.name, one.event_time) for one in moved}
    )
    revisions = [draft.revision(call.caller, call.now) for draft in drafts]
    if not await store.insert_all(tx, tenant_id, revisions):
        raise KeyRaced
    if any(draft.is_charged for draft in drafts):
        await events.insert_batch(tx, tenant_id, work.batch_id)


async def _load(
    tx: Connection, work: _Round, drafts: Sequence[Draft], usage_counts: Mapping[str, int]
) -> Deciding:
    tenant_id = work.call.tenant_id
    numbers = {
        (draft.customer_id, line.number)
        for draft in drafts
        if draft.old is not None
        for line in draft.old.lines
    }
    runnings: dict[tuple[str, int], Running] = {}
    for row in await usage.list_numbered(tx, tenant_id, numbers):
        pricing = pricing_of_document(row["document"], row["pricing_id"])
        place = (row["customer_id"], row["number"])
        runnings[place] = usage.running_of(row, pricing, work.meters)
    matches = [draft.match for draft in drafts if draft.match is not None]
    by_key = await usage.load_runnings(tx, tenant_id, usages_of(matches), work.meters)
    return Deciding(work.batch_id, runnings, by_key, usage_counts, work.scales)


async def _save_usage(tx: Connection, tenant_id: UUID, deciding: Deciding) -> None:
    runnings = list(deciding.runnings.values())
    new = [running for running in runnings if running.is_new]
    if new:
        await usage.insert_runnings(tx, tenant_id, new)
        counts = {one.customer_id: deciding.usage_counts[one.customer_id] for one in new}
        await events.save_usage_counts(tx, tenant_id, counts)
    others = [running for running in runnings if not running.is_new]
    if others:
        await usage.save_runnings(tx, tenant_id, others)
    await usage.save_keys(tx, tenant_id, runnings)


def _chargeable(draft: Draft) -> Chargeable | None:
    """What the wallet has to do for a correction."""
    if not draft.is_charged:
        return None
    lines = [
        ChargeLine(
            line.running.meter,
            line.running.plan_code,
            line.running.asset,
            line.running.scale,
            line.atoms,
        )
        for line in draft.lines
    ]
    scales = {refund.number: draft.scales[refund.number] for refund in draft.refunds}
    event_id = draft.history.origin.event.event_id
    returns = returns_of(draft.refunds, scales)
    node = draft.match.event.node if draft.match is not None else ""
    return Chargeable(
        draft.receipt_id, event_id, draft.customer_id, lines, None, returns, node=node
    )


async def load_histories(
    tx: Connection, tenant_id: UUID, event_ids: Iterable[str]
) -> dict[str, History]:
    """Events with all their revisions, by event id; what was never received is left out."""
    wanted = {event_key(event_id): event_id for event_id in event_ids}
    receipts = await store.find_receipts(tx, tenant_id, wanted)
    revisions = await store.list_of_events(tx, tenant_id, receipts.values())
    keys = {*receipts.values(), *(one.receipt_id for one in revisions)}
    rows = {row.receipt_id: row for row in await events.list_events(tx, tenant_id, keys)}
    found: dict[str, History] = {}
    for key, event_id in wanted.items():
        receipt = receipts.get(key)
        origin = rows.get(receipt) if receipt is not None else None
        if origin is not None and origin.event.event_id == event_id:
            own = [one for one in revisions if one.origin_id == receipt]
            found[event_id] = History(origin, own, rows)
    return found


async def tell_revisions(
    tx: Connection, tenant_id: UUID, revisions: Sequence[Revision], history: History
) -> list[CorrectionOutcome]:
    """What became of stored revisions of one event."""
    numbers = {
        (history.origin.event.customer_id, number)
        for one in revisions
        for number in _numbers_of(one, history)
    }
    usages: dict[tuple[str, int], UsageName] = await usage.find_named(tx, tenant_id, numbers)
    pending = await events.list_pending(
        tx, tenant_id, {batch_of(one.receipt_id) for one in revisions}
    )
    return [
        outcome_of_revision(one, history, usages, batch_of(one.receipt_id) in pending)
        for one in revisions
    ]


def _numbers_of(revision: Revision, history: History) -> list[int]:
    row = history.rows.get(revision.receipt_id)
    lines = row.lines if row is not None else []
    return [*(line.number for line in lines), *(refund.number for refund in revision.refunds)]
