"""The ledger's background work: what time has overtaken, and the days of the journal."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import structlog

from chassis.clocks import TenantClocks
from chassis.database import Database
from kernel.errors import Kind, Refusal
from wallet.ledger import store
from wallet.ledger.domain.items import ExpireHoldItem, Item, TouchItem
from wallet.ledger.operations import Ledger

SWEEP_SECONDS = 1.0  # between looks; expiry binds without it, this frees what waits
SWEEP_COUNT = 1_000  # items of one sweep
TENANTS_COUNT = 1_000  # read at once
JOURNAL_SECONDS = 3_600.0
JOURNAL_DAYS_AHEAD = 7  # a week without this job, and rows still find their day

log = structlog.get_logger("wallet.ledger")


class Sweeper:
    """Expires grants and holds, and wakes grants, whose wallets nobody touches.

    Tenants with a test clock are asked for their time one by one; all others live in the
    database's.
    """

    def __init__(self, database: Database, ledger: Ledger, clocks: TenantClocks) -> None:
        self._database = database
        self._ledger = ledger
        self._clocks = clocks

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            swept = await self.sweep()
            if swept < SWEEP_COUNT:
                await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> int:
        """Do what is due now; answers how much that was."""
        clocks, unknown = await self._find_test_clocks()
        apart = sorted([*clocks, *unknown])
        items = await self._due(None, apart, None)
        for tenant_id, now in clocks.items():
            items += await self._due(tenant_id, None, now)
        await self._ledger.apply_items(items)
        return len(items)

    async def _due(
        self, tenant_id: str | None, but: list[str] | None, now: datetime | None
    ) -> list[Item]:
        async with self._database.unscoped() as connection:
            due = await store.list_due(connection, tenant_id, but, now, SWEEP_COUNT)
        items: list[Item] = [
            TouchItem(tenant, wallet_id, asset, now) for tenant, wallet_id, asset in due.balances
        ]
        items += [
            ExpireHoldItem(tenant, hold_id, customer_id, asset, now)
            for tenant, hold_id, customer_id, asset in due.holds
        ]
        return items

    async def _find_test_clocks(self) -> tuple[dict[str, datetime], list[str]]:
        """Tenants with a test clock and its time, and tenants whose time nobody tells now."""
        clocks: dict[str, datetime] = {}
        unknown: list[str] = []
        for tenant_id in await self._tenants():
            try:
                now, version = await self._clocks.now(UUID(tenant_id))
            except Refusal as refusal:
                if refusal.kind not in (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME, Kind.NOT_FOUND):
                    raise
                unknown.append(tenant_id)
                continue
            if version:
                clocks[tenant_id] = now
        return clocks, unknown

    async def _tenants(self) -> list[str]:
        tenants: list[str] = []
        while True:
            after = tenants[-1] if tenants else None
            async with self._database.unscoped() as connection:
                page = await store.list_tenants(connection, after, TENANTS_COUNT)
            tenants += page
            if len(page) < TENANTS_COUNT:
                return tenants


async def extend_journal(database: Database) -> None:
    """Make the journal's coming days, for ever."""
    while True:
        async with database.unscoped() as connection:
            made = await store.extend_journal(connection, JOURNAL_DAYS_AHEAD)
        if made:
            log.info("journal extended", days=made, until=datetime.now(UTC).date().isoformat())
        await asyncio.sleep(JOURNAL_SECONDS)


async def archive_journal(database: Database, keep_days: int) -> None:
    """Detach days of the journal that are old enough, for ever; none where `keep_days` is 0."""
    while keep_days:
        await archive_days(database, keep_days)
        await asyncio.sleep(JOURNAL_SECONDS)


async def archive_days(database: Database, keep_days: int) -> list[str]:
    """Detach every day that is old enough now, oldest first; answers the archived tables."""
    archived: list[str] = []
    while True:
        async with database.unscoped() as connection:
            try:
                table = await store.archive_oldest_day(connection, keep_days)
            except asyncpg.LockNotAvailableError:
                log.warning("journal_day_in_use", keep_days=keep_days)
                return archived  # the next round tries again
        if table is None:
            return archived
        log.info("journal_day_archived", table=table)
        archived.append(table)
