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
from metering.events import store as events
from metering.events.domain.event import EventState, StoredEvent
from metering.gate import store as gate
from metering.gate.domain.authorization import AuthorizationState
from metering.meters.domain import MeterSet
from metering.meters.operations import Meters
from metering.ratecards.domain import pricing_of_document
from metering.settlement.domain import (
    Chargeable,
    ChargeAnswer,
    ChargeLine,
    debits_of,
    read_answers,
)
from metering.usage import store as usage
from metering.usage.domain import Running
from metering.usage.operations import recount, take_back_hours

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
        if failpoints.armed is not None:
            await failpoints.armed.reach("after_charge_before_settle")
        await self.settle(tenant_id, batch_id, answers)
        if failpoints.armed is not None:
            await failpoints.armed.reach("after_settle_before_reply")
        return answers

    async def settle(self, tenant_id: UUID, batch_id: UUID, answers: Answers) -> None:
        """Record how the charges of a batch went. Of two that settle it, the second does nothing.

        Accepted charges need no write: the batch's row goes, and that is all.
        """
        refusals = {key: a.refusal for key, a in answers.items() if a.refusal is not None}
        shortfalls = {key: a.shortfalls for key, a in answers.items() if a.shortfalls}
        async with self._database.transaction(tenant_id) as tx:
            if not refusals and not shortfalls:
                # Should this be lost in a crash, the batch is charged again by the same keys.
                await tx.execute("SET LOCAL synchronous_commit = off")
                await events.delete_batch(tx, tenant_id, batch_id)
                return
            stored = await events.list_events(tx, tenant_id, [*refusals, *shortfalls])
            customers = {each.event.customer_id for each in stored}
            await events.relock_customers(tx, tenant_id, customers)
            if await events.delete_batch(tx, tenant_id, batch_id):
                meters = await self._meters.current(tx, tenant_id)
                await _Undo(tx, tenant_id, meters, stored, refusals, shortfalls).run()


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
        if held or any(line.atoms for line in lines):
            batch.append(
                Chargeable(
                    each.receipt_id,
                    each.event.event_id,
                    each.event.customer_id,
                    lines,
                    authorization,
                )
            )
    return batch


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

    async def run(self) -> None:
        numbers = {
            (each.event.customer_id, line.number) for each in self._stored for line in each.lines
        }
        for row in await usage.list_numbered(self._tx, self._tenant_id, numbers):
            pricing = pricing_of_document(row["document"], row["pricing_id"])
            key = (row["customer_id"], row["number"])
            self._runnings[key] = usage.running_of(row, pricing, self._meters)
        refused = [each for each in self._stored if each.receipt_id in self._refusals]
        await self._note_shortfalls()
        if refused:
            await events.reject_events(self._tx, self._tenant_id, self._refusals)
            await self._take_back_usage(refused)
            await take_back_hours(self._tx, self._tenant_id, self._meters, refused)
            await self._reopen(refused)
        if self._runnings:
            await usage.save_runnings(self._tx, self._tenant_id, list(self._runnings.values()))

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
        for key in recounted:
            await recount(self._tx, self._tenant_id, self._meters, self._runnings[key])
            self._runnings[key].settle(0, 0)

    async def _reopen(self, refused: Sequence[StoredEvent]) -> None:
        """A refused capture leaves its hold as it was, so the authorization may be used again,
        unless it is the hold that had ended."""
        states: dict[AuthorizationState, list[UUID]] = {}
        for each in refused:
            named = each.event.authorization_id
            if named is not None:
                ended = self._refusals[each.receipt_id].reason == "AUTHORIZATION_ENDED"
                state = AuthorizationState.EXPIRED if ended else AuthorizationState.OPEN
                states.setdefault(state, []).append(named)
        for state, ids in states.items():
            await gate.save_state(self._tx, self._tenant_id, ids, state)
