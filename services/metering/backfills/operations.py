"""Applying a backfill and taking it back, step by step: a crash repeats a step and changes nothing.

Events that are there are amended or deprecated first, by corrections whose keys name the backfill;
then what was fed goes the way of any event. Whether an event of its id was there is noted before it
is sent, so that after a crash what the backfill added is told from what it found.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from kernel.errors import NotFound
from kernel.period import Period
from metering.backfills import store
from metering.backfills.domain import (
    ENDS,
    Backfill,
    BackfillState,
    Fed,
    FedState,
    Mode,
    State,
)
from metering.charging.domain import Refused
from metering.corrections import store as revisions
from metering.corrections.domain.revision import (
    Correction,
    CorrectionOutcome,
    RevisionKind,
    RevisionState,
)
from metering.corrections.operations import Corrections, load_histories
from metering.events import store as events
from metering.events.domain.event import EventState, Outcome, StoredEvent, event_key
from metering.events.domain.inflow import Arrival
from metering.events.operations import Ingest

STEP = 500  # events decided in one transaction
Marks = dict[str, tuple[FedState, Refused | None]]


class StepWaits(Exception):
    """Some of it cannot be decided yet: a charge is still being settled. It is tried again."""


class Plan(NamedTuple):
    """What a page of events that are there comes to."""

    corrections: list[Correction]
    unchanged: list[str]  # fed with the content that they have


class Backfills:
    """Moves backfills on."""

    def __init__(self, database: Database, ingest: Ingest, corrections: Corrections) -> None:
        self._database = database
        self._ingest = ingest
        self._corrections = corrections

    async def move(
        self, tenant_id: UUID, backfill_id: UUID, allowed: Mapping[State, State]
    ) -> Backfill:
        """Begin closing or reverting. Raises NotFound, BackfillState."""
        async with self._database.transaction(tenant_id) as tx:
            found = await get(tx, tenant_id, backfill_id, lock=True)
            target = allowed.get(found.state)
            if target is None:
                ends = {*allowed.values(), *(ENDS[s] for s in allowed.values() if s in ENDS)}
                if found.state in ends:
                    return found
                raise BackfillState(backfill_id, found.state)
            await store.save_state(
                tx, tenant_id, backfill_id, target, has_replaced=found.has_replaced
            )
        return found._replace(state=target)

    async def advance(self, backfill_id: UUID, call: Call) -> None:
        """Bring one that is under way to its end. Raises StepWaits."""
        tenant_id = call.tenant_id
        async with self._database.transaction(tenant_id) as tx:
            found = await get(tx, tenant_id, backfill_id)
        if found.state is State.CLOSING:
            if found.mode is Mode.REPLACE and not found.has_replaced:
                await self._replace(found, call)
                async with self._database.transaction(tenant_id) as tx:
                    await store.save_state(
                        tx, tenant_id, backfill_id, State.CLOSING, has_replaced=True
                    )
            await self._add(found, call)
        elif found.state is State.REVERTING:
            await self._revert(found, call)
        else:
            return
        async with self._database.transaction(tenant_id) as tx:
            now = await get(tx, tenant_id, backfill_id, lock=True)
            if now.state is found.state:
                await store.save_state(
                    tx, tenant_id, backfill_id, ENDS[found.state], has_replaced=now.has_replaced
                )

    # --- what is there ------------------------------------------------------------------------

    async def _replace(self, backfill: Backfill, call: Call) -> None:
        for customer_id in backfill.customer_ids:
            async for page in self._pages(call.tenant_id, customer_id, backfill.interval):
                async with self._database.transaction(call.tenant_id) as tx:
                    plan = await plan_page(tx, call.tenant_id, backfill, page)
                outcomes = await self._correct(plan.corrections, call)
                marks: Marks = dict.fromkeys(plan.unchanged, (FedState.UNCHANGED, None))
                for correction, outcome in zip(plan.corrections, outcomes, strict=True):
                    if correction.kind is RevisionKind.AMENDMENT:
                        marks[correction.event_id] = (
                            (FedState.REFUSED, outcome.refusal)
                            if outcome.refusal is not None
                            else (FedState.AMENDED, None)
                        )
                await self._mark(backfill, marks, call.tenant_id)

    async def _pages(
        self, tenant_id: UUID, customer_id: str, interval: Period
    ) -> AsyncIterator[list[StoredEvent]]:
        after: tuple[datetime, UUID] | None = None
        while True:
            async with self._database.transaction(tenant_id) as tx:
                page = await events.list_page_between(
                    tx, tenant_id, customer_id, interval, after, STEP
                )
            if page:
                yield page
            if len(page) < STEP:
                return
            after = (page[-1].event.event_time, page[-1].receipt_id)

    async def _correct(
        self, corrections: Sequence[Correction], call: Call
    ) -> list[CorrectionOutcome]:
        outcomes = await self._corrections.apply(corrections, call, unbounded=True)
        if any(
            outcome.state is RevisionState.PENDING
            or (outcome.refusal is not None and outcome.refusal.reason == "EVENT_PENDING")
            for outcome in outcomes
        ):
            raise StepWaits
        return outcomes

    # --- what was fed -------------------------------------------------------------------------

    async def _add(self, backfill: Backfill, call: Call) -> None:
        tenant_id, backfill_id = call.tenant_id, backfill.backfill_id
        while True:
            async with self._database.transaction(tenant_id) as tx:
                states = (FedState.WAITING, FedState.ADDING)
                fed = await store.list_fed(tx, tenant_id, backfill_id, states, STEP)
                waiting = [one for one in fed if one.state is FedState.WAITING]
                keys = [event_key(one.event.event_id) for one in waiting]
                there = await revisions.find_receipts(tx, tenant_id, keys)
                adding = {
                    one.event.event_id
                    for one in fed
                    if one.state is FedState.ADDING or event_key(one.event.event_id) not in there
                }
                marks: Marks = dict.fromkeys(adding, (FedState.ADDING, None))
                await store.mark(tx, tenant_id, backfill_id, marks)
            if not fed:
                return
            outcomes = await self._ingest.take(arrivals_of(fed, call))
            if any(outcome.state is EventState.PENDING for outcome in outcomes):
                raise StepWaits
            await self._mark(
                backfill,
                {
                    one.event.event_id: _fed_state(outcome, one.event.event_id in adding)
                    for one, outcome in zip(fed, outcomes, strict=True)
                },
                tenant_id,
            )

    async def _mark(self, backfill: Backfill, marks: Marks, tenant_id: UUID) -> None:
        if marks:
            async with self._database.transaction(tenant_id) as tx:
                await store.mark(tx, tenant_id, backfill.backfill_id, marks)

    # --- taking it back -----------------------------------------------------------------------

    async def _revert(self, backfill: Backfill, call: Call) -> None:
        tenant_id = call.tenant_id
        for states, step in ((FedState.ADDED, "undo"), (FedState.AMENDED, "back")):
            after = 0
            while True:
                async with self._database.transaction(tenant_id) as tx:
                    fed = await store.list_fed(
                        tx, tenant_id, backfill.backfill_id, [states], STEP, after=after
                    )
                    corrections = await self._undoing(tx, backfill, fed, step, tenant_id)
                if not fed:
                    break
                after = fed[-1].position
                await self._correct(corrections, call)
        await self._restore(backfill, call)

    async def _undoing(
        self, tx: Connection, backfill: Backfill, fed: Sequence[Fed], step: str, tenant_id: UUID
    ) -> list[Correction]:
        ids = [one.event.event_id for one in fed]
        if step == "undo":
            return [
                backfill.correction(step, RevisionKind.DEPRECATION, event_id) for event_id in ids
            ]
        histories = await load_histories(tx, tenant_id, ids)
        corrections = []
        for event_id, history in histories.items():
            made = backfill.correction("amend", RevisionKind.AMENDMENT, event_id).request_id
            amended = next((one for one in history.standing if one.request_id == made), None)
            if amended is not None and amended.supersedes is not None:
                before = history.rows[amended.supersedes].event
                corrections.append(
                    backfill.correction(step, RevisionKind.AMENDMENT, event_id, before)
                )
        return corrections

    async def _restore(self, backfill: Backfill, call: Call) -> None:
        """What was deprecated because it was not fed is counted again."""
        tenant_id = call.tenant_id
        prefix = f"backfill:{backfill.backfill_id}:drop:"
        after = prefix
        while True:
            async with self._database.transaction(tenant_id) as tx:
                found = await revisions.list_with_prefix(tx, tenant_id, prefix, after, STEP)
                origins = await events.list_events(tx, tenant_id, {o.origin_id for o in found})
            if not found:
                return
            after = found[-1].request_id
            ids = [origin.event.event_id for origin in origins]
            await self._correct(
                [backfill.correction("restore", RevisionKind.RESTORATION, one) for one in ids], call
            )


async def get(
    tx: Connection, tenant_id: UUID, backfill_id: UUID, *, lock: bool = False
) -> Backfill:
    """One backfill. Raises NotFound."""
    found = await store.find(tx, tenant_id, backfill_id, lock=lock)
    if found is None:
        raise NotFound("backfill", backfill_id)
    return found


async def plan_page(
    tx: Connection, tenant_id: UUID, backfill: Backfill, page: Sequence[StoredEvent]
) -> Plan:
    """What becomes of events that are there: amended where they were fed otherwise, deprecated
    where they were not fed."""
    ids = [one.event.event_id for one in page]
    fed = await store.find_fed(tx, tenant_id, backfill.backfill_id, ids)
    keys = [
        backfill.correction("amend", RevisionKind.AMENDMENT, event_id).request_id
        for event_id in ids
    ]
    amended = await revisions.list_of_requests(tx, tenant_id, keys)
    plan = Plan([], [])
    for one in page:
        event = one.event
        row = fed.get(event.event_id)
        if row is None:
            plan.corrections.append(
                backfill.correction("drop", RevisionKind.DEPRECATION, event.event_id)
            )
            continue
        amendment = backfill.correction("amend", RevisionKind.AMENDMENT, event.event_id, row.event)
        same = event._replace(authorization_id=None) == row.event
        if not same or amendment.request_id in amended:
            # Amended before a crash, it is answered as it was then.
            plan.corrections.append(amendment)
        else:
            plan.unchanged.append(event.event_id)
    return plan


def arrivals_of(fed: Sequence[Fed], call: Call) -> list[Arrival]:
    """What was fed, on its way in."""
    return [Arrival(one.event, f"events[{place}]", call) for place, one in enumerate(fed)]


def _fed_state(outcome: Outcome, was_added: bool) -> tuple[FedState, Refused | None]:
    if outcome.refusal is not None:
        return FedState.REFUSED, outcome.refusal
    return (FedState.ADDED if was_added else FedState.UNCHANGED), None
