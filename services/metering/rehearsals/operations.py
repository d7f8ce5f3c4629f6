"""Rehearsing a backfill for one customer: done in one transaction, looked at, and taken back.

What is told is what closing does, because it is the same code on the same rows; only the wallet is
not asked, so events that it would refuse are told as added.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from chassis.call import Call
from chassis.database import Connection, Database
from kernel.period import Period
from metering.backfills import store
from metering.backfills.domain import Backfill, FedState, Mode
from metering.backfills.operations import STEP, arrivals_of, plan_page
from metering.corrections.domain.revision import RevisionKind
from metering.corrections.operations import Corrections
from metering.events import store as events
from metering.events.domain.event import EventConflict, Outcome
from metering.events.operations import Ingest
from metering.meters.domain import MeterSet
from metering.meters.operations import Meters
from metering.queries.domain import Window
from metering.queries.operations import Question, query
from metering.ratecards.domain import pricing_of_document
from metering.rehearsals.domain import Effect, Figures, compare
from metering.usage import store as usage
from rating import charge

METERS_MAX = 1_000  # as many as a tenant may have


class _Rehearsed(Exception):
    """It was looked at; the transaction is taken back."""


class Rehearsals:
    """Tells what backfills would change."""

    def __init__(
        self, database: Database, meters: Meters, ingest: Ingest, corrections: Corrections
    ) -> None:
        self._database = database
        self._meters = meters
        self._ingest = ingest
        self._corrections = corrections

    async def preview(
        self, backfill: Backfill, customer_ids: Sequence[str], call: Call
    ) -> list[Effect]:
        """What an open backfill would change for some of its customers, one after the other."""
        effects: list[Effect] = []
        for customer_id in customer_ids:
            try:
                async with self._database.transaction(call.tenant_id) as tx:
                    effects.append(await self._rehearse(tx, backfill, customer_id, call))
                    raise _Rehearsed
            except _Rehearsed:
                continue
        return effects

    async def _rehearse(
        self, tx: Connection, backfill: Backfill, customer_id: str, call: Call
    ) -> Effect:
        tenant_id = call.tenant_id
        meters = await self._meters.current(tx, tenant_id)
        before = await _figures(tx, tenant_id, meters, customer_id, backfill.interval, call.now)
        amended = deprecated = refused = added = 0
        if backfill.mode is Mode.REPLACE:
            after: tuple[datetime, UUID] | None = None
            while page := await events.list_page_between(
                tx, tenant_id, customer_id, backfill.interval, after, STEP
            ):
                after = (page[-1].event.event_time, page[-1].receipt_id)
                plan = await plan_page(tx, tenant_id, backfill, page)
                outcomes = await self._corrections.rehearse(tx, plan.corrections, call)
                for correction, outcome in zip(plan.corrections, outcomes, strict=True):
                    if outcome.duplicate:
                        continue  # the new form of an event that was amended a page before
                    is_amendment = correction.kind is RevisionKind.AMENDMENT
                    refused += outcome.refusal is not None
                    amended += outcome.refusal is None and is_amendment
                    deprecated += outcome.refusal is None and not is_amendment
        position = 0
        while fed := await store.list_fed(
            tx,
            tenant_id,
            backfill.backfill_id,
            [FedState.WAITING],
            STEP,
            after=position,
            customer_id=customer_id,
        ):
            position = fed[-1].position
            for told in await self._ingest.rehearse(tx, arrivals_of(fed, call), call):
                # What was amended above is there, with another first content.
                is_there = backfill.mode is Mode.REPLACE and _is_conflict(told)
                refused += told.refusal is not None and not is_there
                added += told.refusal is None and not told.duplicate
        then = await _figures(tx, tenant_id, meters, customer_id, backfill.interval, call.now)
        return Effect(customer_id, added, amended, deprecated, refused, *compare(before, then))


def _is_conflict(outcome: Outcome) -> bool:
    return outcome.refusal is not None and outcome.refusal.reason == EventConflict.reason


async def _figures(
    tx: Connection,
    tenant_id: UUID,
    meters: MeterSet,
    customer_id: str,
    interval: Period,
    now: datetime,
) -> Figures:
    question = Question([customer_id], [], interval, Window.WHOLE, "UTC", ZoneInfo("UTC"), [])
    rows = await query(tx, tenant_id, meters, question, (), METERS_MAX, now)
    costs: dict[tuple[str, int, bool], int] = {}
    for row in await usage.list_of_customer(tx, tenant_id, customer_id):
        pricing = pricing_of_document(row["document"], row["pricing_id"])
        running = usage.running_of(row, pricing, meters)
        if not running.from_wallet and not running.is_plain:
            continue  # it is rated from its events when the invoice is drawn
        key = (running.asset, running.scale, running.from_wallet)
        cost = charge(pricing.price, running.state(), 0, running.scale)
        costs[key] = costs.get(key, 0) + cost
    return Figures({row.meter: row.quantity for row in rows}, costs)
