"""Looks at all spend alerts, again and again: time alone may cross a threshold."""

from __future__ import annotations

import asyncio
from uuid import UUID

from chassis.clocks import TenantClocks
from chassis.database import Database
from kernel.errors import Kind, Refusal
from wallet.alerts import store
from wallet.alerts.operations import look

LOOK_SECONDS = 30.0
WALLETS_COUNT = 1_000  # read at once
FIRST = ("00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000")


class SpendWatch:
    """One round after another over all wallets with alerts, each at its tenant's time."""

    def __init__(self, database: Database, clocks: TenantClocks) -> None:
        self._database = database
        self._clocks = clocks

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.round()
            await asyncio.sleep(LOOK_SECONDS)

    async def round(self) -> int:
        """Look at every wallet once; answers how many messages left."""
        told, after = 0, FIRST
        while True:
            async with self._database.unscoped() as connection:
                wallets = await store.list_alerted_wallets(connection, after, WALLETS_COUNT)
            for tenant_id, wallet_id in wallets:
                told += await self._look(UUID(tenant_id), wallet_id)
            if len(wallets) < WALLETS_COUNT:
                return told
            after = wallets[-1]

    async def _look(self, tenant_id: UUID, wallet_id: str) -> int:
        try:
            now, _ = await self._clocks.now(tenant_id)
        except Refusal as refusal:
            if refusal.kind not in (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME, Kind.NOT_FOUND):
                raise
            return 0  # nobody tells its time now
        return await look(self._database, tenant_id, wallet_id, now)
