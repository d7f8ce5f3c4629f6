"""Marks authorizations whose time is over, by each tenant's own clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from chassis.clocks import TenantClocks
from chassis.database import Database
from kernel.errors import Kind, Refusal
from metering.gate import store

POLL_SECONDS = 5.0
COUNT_MAX = 1_000
AHEAD = timedelta(days=3_650)  # a test clock may be that far ahead of ours

log = structlog.get_logger("metering.expiry")


class Expiry:
    """Tidies up: that an authorization has expired is known without it, from its time."""

    def __init__(self, database: Database, clocks: TenantClocks) -> None:
        self._database = database
        self._clocks = clocks

    async def run(self) -> None:
        """Until cancelled. A database or an identity that is away is waited for."""
        while True:
            try:
                await self._sweep()
            except Refusal as refusal:
                if refusal.kind not in (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME):
                    raise
                log.warning("expiry_waits", why=refusal.message)
            await asyncio.sleep(POLL_SECONDS)

    async def _sweep(self) -> None:
        latest = datetime.now(UTC) + AHEAD
        async with self._database.unscoped() as connection:
            tenants = await store.list_tenants_with_overdue(connection, latest, COUNT_MAX)
        for tenant_id in tenants:
            now, _ = await self._clocks.now(tenant_id)
            async with self._database.transaction(tenant_id) as tx:
                await store.expire_due(tx, tenant_id, now, COUNT_MAX)
