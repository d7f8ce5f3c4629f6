"""Brings backfills that are under way to their end, whoever began them and whatever crashed."""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from chassis.call import Call
from chassis.clocks import TenantClocks
from chassis.database import Database
from kernel.errors import Kind, Refusal
from metering.backfills import store
from metering.backfills.operations import Backfills, StepWaits

POLL_SECONDS = 1.0
AT_ONCE_MAX = (
    20  # backfills in one round, one after the other: they share the lanes with the living
)
STEP_SECONDS = 60.0

log = structlog.get_logger("metering.backfills")


class BackfillRun:
    """Looks for backfills under way. Two processes that work on one do the same, by key."""

    def __init__(self, database: Database, clocks: TenantClocks, backfills: Backfills) -> None:
        self._database = database
        self._clocks = clocks
        self._backfills = backfills

    async def run(self) -> None:
        """Until cancelled. What is away is waited for."""
        while True:
            try:
                async with self._database.unscoped() as connection:
                    under_way = await store.list_under_way(connection, AT_ONCE_MAX)
                for tenant_id, backfill_id in under_way:
                    await self._advance(tenant_id, backfill_id)
            except Refusal as refusal:
                if refusal.kind not in (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME, Kind.EXHAUSTED):
                    raise
                log.warning("backfills_wait", why=refusal.message)
            await asyncio.sleep(POLL_SECONDS)

    async def _advance(self, tenant_id: UUID, backfill_id: UUID) -> None:
        reading = await self._clocks.read(tenant_id)
        call = Call(
            method="metering/backfills",
            tenant=tenant_id,
            caller="service:metering",
            scopes=frozenset(),
            environment=reading.environment,
            now=reading.now(),
            clock_version=reading.version,
            deadline=asyncio.get_running_loop().time() + STEP_SECONDS,
        )
        try:
            await self._backfills.advance(backfill_id, call)
        except StepWaits:
            log.info("backfill_waits", backfill=str(backfill_id))
