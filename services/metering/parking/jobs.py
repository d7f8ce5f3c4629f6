"""Tries parked events again: soon after a meter is published, every few minutes for prices."""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from chassis.call import Call
from chassis.clocks import TenantClocks
from chassis.database import Database
from kernel.errors import Kind, Refusal
from metering.parking.operations import Parking

POLL_SECONDS = 2.0
TENANTS_MAX = 1_000  # in one round
ROUND_SECONDS = 60.0  # for the calls of one tenant's round

log = structlog.get_logger("metering.parking")


class ParkingSweep:
    """Looks for parked events that may be taken up."""

    def __init__(self, database: Database, clocks: TenantClocks, parking: Parking) -> None:
        self._database = database
        self._clocks = clocks
        self._parking = parking

    async def run(self) -> None:
        """Until cancelled. What is away is waited for."""
        while True:
            try:
                for tenant_id in await self._list_tenants():
                    taken = await self._parking.sweep(await self._call(tenant_id))
                    if taken:
                        log.info("parked_events_taken_up", tenant=str(tenant_id), count=taken)
            except Refusal as refusal:
                if refusal.kind not in (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME, Kind.EXHAUSTED):
                    raise
                log.warning("parking_waits", why=refusal.message)
            await asyncio.sleep(POLL_SECONDS)

    async def _list_tenants(self) -> list[UUID]:
        async with self._database.unscoped() as connection:
            rows = await connection.fetch(
                "SELECT tenant_id FROM list_tenants_with_parked($1)", TENANTS_MAX
            )
        return [row["tenant_id"] for row in rows]

    async def _call(self, tenant_id: UUID) -> Call:
        reading = await self._clocks.read(tenant_id)
        return Call(
            method="metering/parking",
            tenant=tenant_id,
            caller="service:metering",
            scopes=frozenset(),
            environment=reading.environment,
            now=reading.now(),
            clock_version=reading.version,
            deadline=asyncio.get_running_loop().time() + ROUND_SECONDS,
        )
