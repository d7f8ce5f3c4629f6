"""Watching balances: one look at the database for all who watch, several times a second.

The database alone is asked, so it does not matter which process changed a balance, and nothing is
lost with a message. It is asked rather than woken by NOTIFY for the reason that the relay is: a
transaction that notifies holds a lock on the whole server while it commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from chassis.database import Database, DatabaseUnavailable, OutcomeUnknown
from wallet.wallets import store
from wallet.wallets.domain import BalanceView

LOOK_SECONDS = 0.2
AWAY_SECONDS = 0.5  # after a look that failed

log = structlog.get_logger("wallet.watching")

# Of a wallet and asset: the number and the overdraft limit that were seen last.
Seen = dict[tuple[str, str], tuple[int, int]]


@dataclass(eq=False)
class Watch:
    """One stream: whom it watches, what it was told, and what waits to be told."""

    tenant_id: UUID
    customers: frozenset[str]
    positions: Mapping[str, int]  # by wallet: seen before the stream began
    seen: Seen = field(default_factory=dict)
    waiting: dict[tuple[str, str], BalanceView] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, balance: BalanceView) -> None:
        """Take a balance where it is the watch's business and news to it."""
        if balance.customer_id not in self.customers:
            return
        key = (balance.wallet_id, balance.asset)
        before, now = self.seen.get(key), (balance.sequence, balance.floor)
        if before == now or (before is not None and balance.sequence < before[0]):
            return
        self.seen[key] = now
        if before is None and balance.sequence <= self.positions.get(balance.wallet_id, -1):
            return
        self.waiting[key] = balance
        self.changed.set()

    async def next(self, seconds: float) -> list[BalanceView]:
        """What changed since this was asked last, the last state of each balance; waits for it.
        Nothing where nothing changed within so many seconds."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self.changed.wait()
        except TimeoutError:
            return []
        self.changed.clear()
        waiting, self.waiting = self.waiting, {}
        return list(waiting.values())


class Watcher:
    """Looks at the balances of everybody who is watched, while somebody watches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watches: set[Watch] = set()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watching(
        self, tenant_id: UUID, customers: frozenset[str], positions: Mapping[str, int]
    ) -> AsyncIterator[Watch]:
        """A watch, for as long as the block lasts."""
        watch = Watch(tenant_id, customers, positions)
        self._watches.add(watch)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_for_ever(), name="watching balances")
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _look_for_ever(self) -> None:
        while self._watches:
            pause = LOOK_SECONDS
            for tenant_id in {watch.tenant_id for watch in self._watches}:
                try:
                    await self._look(tenant_id)
                except (DatabaseUnavailable, OutcomeUnknown) as error:
                    log.warning("watching_waits", why=str(error))
                    pause = AWAY_SECONDS
            await asyncio.sleep(pause)

    async def _look(self, tenant_id: UUID) -> None:
        watches = [watch for watch in self._watches if watch.tenant_id == tenant_id]
        customers = sorted(frozenset().union(*[watch.customers for watch in watches]))
        # What all of them have seen. One that just began has seen nothing.
        seen = dict(watches[0].seen) if watches else {}
        for watch in watches[1:]:
            seen = {key: known for key, known in seen.items() if watch.seen.get(key) == known}
        async with self._database.transaction(tenant_id) as tx:
            changed = await store.list_changed_balances(tx, tenant_id, customers, seen)
        for balance in changed:
            for watch in watches:
                watch.offer(balance)


@asynccontextmanager
async def open_watcher(database: Database) -> AsyncIterator[Watcher]:
    """A watcher that looks no more when the block is left."""
    watcher = Watcher(database)
    try:
        yield watcher
    finally:
        await watcher.close()
