"""Charging a committed batch, and settling it: accepted charges stay, refused ones are undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog

from chassis import failpoints
from chassis.call import Call
from chassis.database import Connection, Database
from metering.charging.domain import Refused
from metering.charging.operations import Wallet, WalletAway, WalletRefusedCall
from metering.corrections import store as corrections
from metering.corrections.domain.revision import Refund, Revision
from metering.events import store as events
from metering.events.domain.decision import Hour, HourKey
from metering.events.domain.event import EventState, StoredEvent
from metering.gate import store as gate
from metering.gate.domain.authorization import AuthorizationState
from metering.meters.domain import MeterSet
from metering.meters.operations import Meters
from metering.ratecards.domain import pricing_of_document
from metering.rollups import store as rollups
from metering.settlement.domain import (
    Chargeable,
    ChargeAnswer,
    ChargeLine,
    ChargeReturn,
    debits_of,
    read_answers,
    reversals_of,
)
from metering.usage import store as usage
from metering.usage.domain import Running
from metering.usage.operations import carry_forward, count_hours, recount, take_back_hours

log = structlog.get_logger("metering.settlement")

Answers = dict[UUID, ChargeAnswer]


class Settlement:
    """Takes a batch from intended to posted."""

    def __init__(self, database: Database, wallet: Wallet, meters: Meters) -> None:
        self._database = database
        self._wallet = wallet
        self._meters = meters

    async def charge(
        self, tenant_id: UUID, batch_id: UUID, batch: Sequence[Chargeable], call: Call | None
    ) -> Answers | None:
        """Charge the events of a batch and settle it; None where that is left to the recovery job.
        Charging again by the same keys changes nothing."""
        try:
            return await self._charge(tenant_id, batch_id, batch, call)
        except WalletAway as error:
            log.warning("charges_wait", batch=str(batch_id), why=error.message)
        except WalletRefusedCall as error:
            log.error("charges_refused", batch=str(batch_id), why=error.message)
        return None

    async def resend(self, tenant_id: UUID, batch_id: UUID) -> None:
        """Charge and settle a batch from what is stored of it.

        Raises WalletAway, WalletRefusedCall; the batch is still there then.
        """
        async with self._database.transaction(tenant_id) as tx:
            stored = await events.list_batch(tx, tenant_id, batch_id)
            batch = await load_chargeables(tx, tenant_id, stored)
            returning = await load_returns(tx, tenant_id, batch_id)
        charged = {each.receipt_id for each in batch}
        batch = [
            each._replace(returns=returning[each.receipt_id].returns)
            if each.receipt_id in returning
            else each
            for each in batch
        ]
        batch += [each for each in returning.values() if each.receipt_id not in charged]
        await self._charge(tenant_id, batch_id, batch, None)

    async def _charge(
        self, tenant_id: UUID, batch_id: UUID, batch: Sequence[Chargeable], call: Call | None
    ) -> Answers:
        debits = [debits_of(event) for event in batch]
        if failpoints.armed is not None:
            await failpoints.armed.reach("after_commit_before_charge")
        posted = await self._wallet.post_debits(
            tenant_id, [debit for parts in debits for debit in parts], call
        )
        answers: Answers = {}
        start = 0
        for event, parts in zip(batch, debits, strict=True):
            end = start + len(parts)
            answers[event.receipt_id] = read_answers(event, posted[start:end])
            start = end
        await self._give_back(tenant_id, batch, answers, call)
        if failpoints.armed is not None:
            await failpoints.armed.reach("after_charge_before_settle")
        await self.settle(tenant_id, batch_id, answers)
        if failpoints.armed is not None:
            await failpoints.armed.reach("after_settle_before_reply")
        return answers

    async def _give_back(
        self, tenant_id: UUID, batch: Sequence[Chargeable], answers: Answers, call: Call | None
    ) -> None:
        """Return what corrections ask for no longer, once the wallet took what they cost more: a
        refused correction returns nothing."""
        returning = [
            event for event in batch if event.returns and answers[event.receipt_id].refusal is None
        ]
        if not returning:
            return
        told = await self._wallet.reverse_debits(
            tenant_id, [each for event in returning for each in reversals_of(event)], call
        )
        answered = iter(told)
        for event in returning:
            refused = tuple(part for part in event.returns if isinstance(next(answered), Refused))
            if refused:
                answer = answers[event.receipt_id]
                answers[event.receipt_id] = answer._replace(unreturned=refused)

    async def settle(self, tenant_id: UUID, batch_id: UUID, answers: Answers) -> None:
        """Record how the charges of a batch went. Of two that settle it, the second does nothing.

        Accepted charges need no write: the batch's row goes, and that is all.
        """
        refusals = {key: a.refusal for key, a in answers.items() if a.refusal is not None}
        shortfalls = {key: a.shortfalls for key, a in answers.items() if a.shortfalls}
        unreturned = {key: a.unreturned for key, a in answers.items() if a.unreturned}
        async with self._database.transaction(tenant_id) as tx:
            if not refusals and not shortfalls and not unreturned:
                # Should this be lost in a crash, the batch is charged again by the same keys.
                await tx.execute("SET LOCAL synchronous_commit = off")
                await events.delete_batch(tx, tenant_id, batch_id)
                return
            stored = await events.list_events(tx, tenant_id, [*refusals, *shortfalls])
            revisions = await corrections.list_by_receipt(tx, tenant_id, [*refusals, *unreturned])
            customers = {each.event.customer_id for each in stored}
            customers |= {each.customer_id for each in revisions}
            await events.relock_customers(tx, tenant_id, customers)
            if await events.delete_batch(tx, tenant_id, batch_id):
                meters = await self._meters.current(tx, tenant_id)
                undo = _Undo(tx, tenant_id, meters, stored, refusals, shortfalls)
                await undo.run(revisions, unreturned)


async def load_chargeables(
    tx: Connection, tenant_id: UUID, stored: Sequence[StoredEvent]
) -> list[Chargeable]:
    """Those of these events that the wallet has something to do for, as they were decided."""
    numbers = {(each.event.customer_id, line.number) for each in stored for line in each.lines}
    usages = await usage.find_named(tx, tenant_id, numbers)
    named = {each.event.authorization_id for each in stored} - {None}
    authorizations = await gate.list_by_id(tx, tenant_id, [key for key in named if key])
    batch = []
    for each in stored:
        lines = []
        for line in each.lines:
            of = usages[each.event.customer_id, line.number]
            lines.append(ChargeLine(of.meter, of.plan_code, of.asset, of.scale, line.atoms))
        authorization = None
        if each.event.authorization_id is not None:
            authorization = authorizations[each.event.authorization_id]
        held = authorization is not None and bool(authorization.holds)
        held = held and not each.event.continues
        if held or any(line.atoms for line in lines):
            batch.append(
                Chargeable(
                    each.receipt_id,
                    each.event.event_id,
                    each.event.customer_id,
                    lines,
                    authorization,
                    node=each.event.node,
                    continues=each.event.continues,
                )
            )
    return batch


async def load_returns(tx: Connection, tenant_id: UUID, batch_id: UUID) -> dict[UUID, Chargeable]:
    """What the corrections of a batch give back, by receipt, as it was decided."""
    revisions = await corrections.list_in_batch(tx, tenant_id, batch_id)
    revisions = [each for each in revisions if each.refunds]
    if not revisions:
        return {}
    origins = await events.list_events(tx, tenant_id, {each.origin_id for each in revisions})
    event_ids = {each.receipt_id: each.event.event_id for each in origins}
    numbers = {(each.customer_id, part.number) for each in revisions for part in each.refunds}
    usages = await usage.find_named(tx, tenant_id, numbers)
    found = {}
    for each in revisions:
        scales = {
            number: (usages[each.customer_id, number].asset, usages[each.customer_id, number].scale)
            for number in {refund.number for refund in each.refunds}
        }
        found[each.receipt_id] = Chargeable(
            each.receipt_id,
            event_ids[each.origin_id],
            each.customer_id,
            [],
            None,
            returns_of(each.refunds, scales),
        )
    return found


def returns_of(
    refunds: Sequence[Refund], scales: Mapping[int, tuple[str, int]]
) -> list[ChargeReturn]:
    """What the wallet is asked to give back for refunds; `scales` are asset and scale by usage."""
    return [
        ChargeReturn(refund.number, charge_id, *scales[refund.number], atoms)
        for refund in refunds
        for charge_id, atoms in refund.parts
    ]


class _Undo:
    """Takes back the usage of refused events and notes what fell short, in one transaction."""

    def __init__(
        self,
        tx: Connection,
        tenant_id: UUID,
        meters: MeterSet,
        stored: Sequence[StoredEvent],
        refusals: Mapping[UUID, Refused],
        shortfalls: Mapping[UUID, Mapping[int, int]],
    ) -> None:
        self._tx, self._tenant_id, self._meters = tx, tenant_id, meters
        self._stored = [each for each in stored if each.state is EventState.ACCEPTED]
        self._refusals, self._shortfalls = refusals, shortfalls
        self._runnings: dict[tuple[str, int], Running] = {}

    async def run(
        self,
        revisions: Sequence[Revision],
        unreturned: Mapping[UUID, Sequence[ChargeReturn]],
    ) -> None:
        replaced = [each.supersedes for each in revisions if each.receipt_id in self._refusals]
        restored = await events.list_events(
            self._tx, self._tenant_id, [key for key in replaced if key is not None]
        )
        await self._load(restored, revisions)
        refused = [each for each in self._stored if each.receipt_id in self._refusals]
        await self._note_shortfalls()
        await self._keep_unreturned(revisions, unreturned)
        if refused:
            await events.reject_events(self._tx, self._tenant_id, self._refusals)
            await self._take_back_usage(refused)
            await take_back_hours(self._tx, self._tenant_id, self._meters, refused)
            await self._reopen(refused)
        rejected = [each for each in revisions if each.receipt_id in self._refusals]
        if rejected:
            await self._restore(rejected, restored)
        if self._runnings:
            runnings = list(self._runnings.values())
            await usage.save_runnings(self._tx, self._tenant_id, runnings)
            await usage.save_keys(self._tx, self._tenant_id, runnings)
        if refused or rejected:
            events_of = [each.event for each in (*refused, *restored)]
            changed = {(one.customer_id, one.name, one.event_time) for one in events_of}
            await carry_forward(self._tx, self._tenant_id, self._meters, changed)

    async def _load(self, restored: Sequence[StoredEvent], revisions: Sequence[Revision]) -> None:
        numbers = {
            (each.event.customer_id, line.number)
            for each in (*self._stored, *restored)
            for line in each.lines
        }
        numbers |= {(each.customer_id, part.number) for each in revisions for part in each.refunds}
        for row in await usage.list_numbered(self._tx, self._tenant_id, numbers):
            pricing = pricing_of_document(row["document"], row["pricing_id"])
            key = (row["customer_id"], row["number"])
            self._runnings[key] = usage.running_of(row, pricing, self._meters)

    async def _keep_unreturned(
        self, revisions: Sequence[Revision], unreturned: Mapping[UUID, Sequence[ChargeReturn]]
    ) -> None:
        """What the wallet would not give back stays asked: it is left over for later events."""
        kept: dict[UUID, list[Refund]] = {}
        for each in revisions:
            parts = unreturned.get(each.receipt_id, ())
            refunds = {refund.number: refund for refund in each.refunds}
            for part in parts:
                refund = refunds[part.number]
                refunds[part.number] = refund._replace(
                    atoms=refund.atoms - part.atoms,
                    parts=[one for one in refund.parts if one[0] != part.charge_id],
                )
                self._runnings[each.customer_id, part.number].settle(part.atoms, 0)
            if parts:
                kept[each.receipt_id] = list(refunds.values())
        if kept:
            await corrections.save_refunds(self._tx, self._tenant_id, kept)

    async def _restore(self, rejected: Sequence[Revision], restored: Sequence[StoredEvent]) -> None:
        """A correction that the wallet refused leaves the event as it was."""
        await corrections.reject(self._tx, self._tenant_id, [each.receipt_id for each in rejected])
        await corrections.mark_events(
            self._tx,
            self._tenant_id,
            [each.receipt_id for each in restored],
            EventState.ACCEPTED,
        )
        recounted: set[tuple[str, int]] = set()
        for revision in rejected:
            for refund in revision.refunds:
                running = self._runnings[revision.customer_id, refund.number]
                running.settle(refund.atoms, refund.shortfall)
        for each in restored:
            event = each.event
            for line in each.lines:
                running = self._runnings[event.customer_id, line.number]
                if running.is_additive:
                    value = usage.read_number(line.quantity)
                    running.recount(value, event.properties, event.event_time)
                    running.settle(0, 0)
                else:
                    recounted.add((event.customer_id, line.number))
        await self._recount(recounted)
        hours: dict[HourKey, Hour] = {}
        for each in restored:
            count_hours(hours, each, self._meters)
        if hours:
            await rollups.add_hours(self._tx, self._tenant_id, hours)

    async def _recount(self, places: set[tuple[str, int]]) -> None:
        for place in places:
            await recount(self._tx, self._tenant_id, self._meters, self._runnings[place])
            self._runnings[place].settle(0, 0)

    async def _note_shortfalls(self) -> None:
        lines = {}
        for each in self._stored:
            short = self._shortfalls.get(each.receipt_id)
            if not short:
                continue
            parts = list(each.lines)
            for position, atoms in short.items():
                parts[position] = parts[position]._replace(shortfall=atoms)
                self._runnings[each.event.customer_id, parts[position].number].settle(0, atoms)
            lines[each.receipt_id] = parts
        if lines:
            await events.save_lines(self._tx, self._tenant_id, lines)

    async def _take_back_usage(self, refused: Sequence[StoredEvent]) -> None:
        recounted: set[tuple[str, int]] = set()
        for each in refused:
            for line in each.lines:
                key = (each.event.customer_id, line.number)
                running = self._runnings[key]
                if running.is_additive:
                    quantity = usage.read_number(line.quantity)
                    running.take_back(quantity, line.atoms, line.shortfall)
                else:
                    running.settle(-line.atoms, -line.shortfall)
                    recounted.add(key)
        await self._recount(recounted)

    async def _reopen(self, refused: Sequence[StoredEvent]) -> None:
        """A refused capture leaves its hold as it was, so the authorization may be used again,
        unless it is the hold that had ended."""
        states: dict[AuthorizationState, list[UUID]] = {}
        for each in refused:
            named = each.event.authorization_id
            if named is not None:
                ended = self._refusals[each.receipt_id].reason == "AUTHORIZATION_ENDED"
                if each.event.continues and not ended:
                    continue  # it closed nothing; a later event may have
                state = AuthorizationState.EXPIRED if ended else AuthorizationState.OPEN
                states.setdefault(state, []).append(named)
        for state, ids in states.items():
            await gate.save_state(self._tx, self._tenant_id, ids, state)
