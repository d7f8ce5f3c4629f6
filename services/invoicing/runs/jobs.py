"""The work of billing runs, and the runs that the service starts by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from chassis.clocks import TenantClocks
from chassis.database import Database, DatabaseUnavailable
from chassis.refusals import RemoteRefusal
from invoicing.invoices.operations import UsageReader
from invoicing.runs import store
from invoicing.runs.domain import Turn, batches, hour_of
from invoicing.runs.operations import bill_customer, bill_customers
from kernel.ids import derived_id

# Customers of one transaction. More would hold the series of numbers for longer than a moment.
BATCH = 50
# Longer than billing a batch takes as a rule; a worker that died lets go of its customers
# after it. Where one merely was slow, the second finds everything billed and has nothing to say.
LEASE = timedelta(seconds=30)
IDLE_PAUSE_SECONDS = 0.2
AWAY_PAUSE_SECONDS = 1.0
AHEAD_SECONDS = 300  # between two looks at usage that may have reached a threshold
SCHEDULE_SECONDS = 60.0  # between two looks at whether an hour has begun

log = structlog.get_logger("invoicing.runs")


class BillingWorker:
    """Bills the customers of running runs, some batches at once. Many may work side by side."""

    def __init__(
        self,
        database: Database,
        reader: UsageReader,
        at_once: int,
        issued: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._reader = reader
        self._at_once = at_once
        self._issued = issued  # called after every round, so that collection starts at once
        self._busy = False

    @property
    def is_busy(self) -> bool:
        """Whether the last round had something to bill: then there is more, as a rule."""
        return self._busy

    async def run(self) -> None:
        while True:
            try:
                worked = await self.work_once()
            except DatabaseUnavailable as error:
                log.warning("billing_waits", why=str(error))
                await asyncio.sleep(AWAY_PAUSE_SECONDS)
                continue
            if not worked:
                await asyncio.sleep(IDLE_PAUSE_SECONDS)

    async def work_once(self) -> int:
        """Bill one round of customers of every tenant that has a run; returns how many."""
        async with self._database.unscoped() as connection:
            tenants = await store.list_tenants_with_runs(connection)
        worked = 0
        for tenant_id in tenants:
            async with self._database.transaction(tenant_id) as tx:
                turns = await store.claim_turns(tx, tenant_id, self._at_once * BATCH, LEASE)
            async with asyncio.TaskGroup() as group:
                for some in batches(turns, BATCH):
                    group.create_task(self._bill(tenant_id, some))
            if turns:
                self._issued()
            else:
                async with self._database.transaction(tenant_id) as tx:
                    await store.close_runs(tx, tenant_id)
            worked += len(turns)
        self._busy = worked > 0
        return worked

    async def _bill(self, tenant_id: UUID, turns: list[Turn]) -> None:
        try:
            await bill_customers(self._database, self._reader, tenant_id, turns)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            # One of them has a fault, or a service is away: each is tried alone and tells why.
            log.warning("billing_apart", customers=len(turns), why=repr(error))
            for turn in turns:
                await bill_customer(self._database, self._reader, tenant_id, turn)


class SelfBilling:
    """Starts a run by itself every hour for tenants of whom something is due.

    Tenants on a test clock are left alone: their time moves when they say so, and what is billed
    at which instant must not depend on when this job happens to look.
    """

    def __init__(self, database: Database, clocks: TenantClocks, grace_seconds: int) -> None:
        self._database = database
        self._clocks = clocks
        self._grace = timedelta(seconds=grace_seconds)

    async def run(self) -> None:
        while True:
            try:
                now = datetime.now(UTC)
                await self.look(now)
                await self.look_ahead(now)
            except DatabaseUnavailable as error:
                log.warning("billing_waits", why=str(error))
            await asyncio.sleep(SCHEDULE_SECONDS)

    async def look_ahead(self, now: datetime) -> int:
        """Start a run for usage that reached a threshold, once in a while; returns how many."""
        slot = int(now.timestamp()) // AHEAD_SECONDS
        async with self._database.unscoped() as connection:
            tenants = await store.list_tenants_with_thresholds(connection)
        started = 0
        for tenant_id in tenants:
            if await self._is_stopped(tenant_id):
                continue
            run_id = derived_id(tenant_id, f"billing run ahead {slot}")
            async with self._database.transaction(tenant_id) as tx:
                await store.drop_runs_ahead(tx, tenant_id)
                run = await store.insert_run(tx, tenant_id, run_id, now, now, ahead=True)
            started += run is not None
        return started

    async def look(self, now: datetime) -> int:
        """Start what is to be started at an instant; returns how many runs it were."""
        as_of = hour_of(now - self._grace)
        async with self._database.unscoped() as connection:
            tenants = await store.list_tenants_to_bill(connection, as_of)
        started = 0
        for tenant_id in tenants:
            if await self._is_stopped(tenant_id):
                continue
            # The id follows from the hour, so that of many processes one starts the run.
            run_id = derived_id(tenant_id, f"billing run of {as_of.isoformat()}")
            async with self._database.transaction(tenant_id) as tx:
                run = await store.insert_run(tx, tenant_id, run_id, as_of, now)
            started += run is not None
        return started

    async def _is_stopped(self, tenant_id: UUID) -> bool:
        """Whether the tenant's time is a test clock's, or unknown at the moment."""
        try:
            reading = await self._clocks.read(tenant_id)
        except RemoteRefusal as refusal:
            log.warning("tenant_clock_unknown", tenant_id=str(tenant_id), why=refusal.message)
            return True
        return reading.instant is not None
