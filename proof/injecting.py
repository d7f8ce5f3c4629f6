"""Faults, chosen by a seed and done while the load runs: kills, halts, cuts."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import asyncpg
import redis.asyncio

from proof.line import Cut, Line
from proof.stage import Program, Stage

KILLS = ("kill postgres", "kill a service", "kill a backend")
HALT_SECONDS_MAX = 1.2
GAP_SECONDS_MAX = 0.5
ASK_SECONDS_MAX = 2.0

# How often each is chosen, beside the others.
WEIGHTS = {
    "kill postgres": 7,
    "kill a service": 12,
    "kill a backend": 4,
    "halt a service": 3,
    "halt a backend": 3,
    "cut before the request": 3,
    "cut after the request": 3,
    "reset before the reply": 3,
    "cut before a money statement": 3,
    "reset before a money statement's reply": 3,
    "cut everything to postgres": 2,
    "end a backend": 2,
    "empty redis": 1,
}


class Injector:
    """Does one fault after another; a service that was killed is started again at once."""

    def __init__(
        self,
        stage: Stage,
        seed: int,
        services: Sequence[Program],
        lines: Sequence[Line],
        database_line: Line,
        without: Sequence[str] = (),
    ) -> None:
        self.done: Counter[str] = Counter()
        self._stage = stage
        self._chance = random.Random(seed)
        self._services = services
        self._lines = lines
        self._database_line = database_line
        self._weights = {k: w for k, w in WEIGHTS.items() if k not in without}
        self._starting: set[asyncio.Task[None]] = set()

    @property
    def kills(self) -> int:
        """Processes that were ended by SIGKILL."""
        return sum(self.done[name] for name in KILLS)

    @property
    def total(self) -> int:
        return sum(self.done.values())

    async def run(self, enough: Callable[[], bool]) -> None:
        """Fault after fault until it is enough; then everything is well again."""
        try:
            while not enough():
                name = self._chance.choices([*self._weights], [*self._weights.values()])[0]
                if await self._do(name):
                    self.done[name] += 1
                await asyncio.sleep(self._chance.uniform(0.02, GAP_SECONDS_MAX))
        finally:
            await self.heal()

    async def heal(self) -> None:
        """Cut nothing, and wait until everything serves."""
        for line in (*self._lines, self._database_line):
            line.heal()
        if self._starting:
            await asyncio.gather(*self._starting)
        await asyncio.to_thread(self._stage.postgres.start)
        for service in self._services:
            await service.until_serving()

    def _do(self, name: str) -> Awaitable[bool]:
        match name:
            case "kill postgres":
                return self._kill_postgres()
            case "kill a service":
                return self._kill_service()
            case "kill a backend":
                return self._to_a_backend(signal.SIGKILL)
            case "halt a service":
                return self._halt_service()
            case "halt a backend":
                return self._to_a_backend(signal.SIGSTOP)
            case "cut before the request":
                return self._cut(Cut.BEFORE_REQUEST)
            case "cut after the request":
                return self._cut(Cut.AFTER_REQUEST)
            case "reset before the reply":
                return self._cut(Cut.BEFORE_REPLY)
            case "cut before a money statement":
                return self._cut_database(Cut.BEFORE_REQUEST)
            case "reset before a money statement's reply":
                return self._cut_database(Cut.BEFORE_REPLY)
            case "cut everything to postgres":
                return self._cut_all()
            case "end a backend":
                return self._to_a_backend(signal.SIGTERM)
            case "empty redis":
                return self._empty_redis()
        raise AssertionError(name)

    async def _kill_postgres(self) -> bool:
        await asyncio.to_thread(self._stage.postgres.kill)
        await asyncio.to_thread(self._stage.postgres.start)
        return True

    async def _kill_service(self) -> bool:
        running = [s for s in self._services if s.running]
        if self._starting or not running:
            return False
        service = self._chance.choice(running)
        await service.kill()
        starting = asyncio.create_task(service.launch())
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        return True

    async def _halt_service(self) -> bool:
        service = self._chance.choice(self._services)
        service.signal(signal.SIGSTOP)
        await asyncio.sleep(self._chance.uniform(0.1, HALT_SECONDS_MAX))
        service.signal(signal.SIGCONT)
        return True

    async def _to_a_backend(self, number: int) -> bool:
        """Send a signal to a server process that works for a service. SIGKILL makes the postmaster
        end all others and start again; one that was stopped goes on after a while."""
        pids = await self._backends()
        if not pids:
            return False
        pid = self._chance.choice(pids)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            if number == signal.SIGSTOP:
                await asyncio.sleep(self._chance.uniform(0.1, HALT_SECONDS_MAX))
                os.kill(pid, signal.SIGCONT)
        return True

    async def _backends(self) -> list[int]:
        try:
            async with asyncio.timeout(ASK_SECONDS_MAX):
                connection = await asyncpg.connect(self._stage.postgres.dsn)
                try:
                    rows = await connection.fetch(
                        "SELECT pid FROM pg_stat_activity WHERE usename LIKE '%\\_app'"
                        " AND state <> 'idle' OR usename LIKE '%\\_app' AND random() < 0.3"
                    )
                finally:
                    await connection.close()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return []
        return [row["pid"] for row in rows]

    async def _cut(self, how: Cut) -> bool:
        line = self._chance.choice(self._lines)
        return await self._wait_for_cut(line, how)

    async def _cut_database(self, how: Cut) -> bool:
        return await self._wait_for_cut(self._database_line, how)

    async def _wait_for_cut(self, line: Line, how: Cut) -> bool:
        before = line.cuts
        line.cut(how)
        for _ in range(50):
            await asyncio.sleep(0.02)
            if line.cuts > before:
                return True
        line.heal()
        return False

    async def _cut_all(self) -> bool:
        self._database_line.cut_all()
        return True

    async def _empty_redis(self) -> bool:
        async with redis.asyncio.Redis.from_url(self._stage.redis.url) as client:
            await client.flushall()
        return True
