"""A tenant's time: the machine's, or the test clock that identity keeps for it.

A cached reading is used for a second, and nobody can tell: a caller that advanced the clock sends
the version it got, and whoever knows an older one asks identity again before it answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from chassis.call import Call, Environment
from kernel.errors import InvalidValue

CLOCK_VERSION = "tollgate-clock-version"
TEST_CLOCK_SECONDS = 1.0  # how long a reading of a test clock is used
NO_CLOCK_SECONDS = 30.0  # how long it is believed that a tenant has none
READINGS_MAX = 50_000  # remembered at once; beyond that, all are forgotten and asked again


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What identity says about a tenant's time."""

    environment: Environment
    instant: datetime | None  # None: the tenant lives in real time
    version: int  # 0 without a test clock

    def now(self) -> datetime:
        return datetime.now(UTC) if self.instant is None else self.instant


class ClockSource(Protocol):
    """Where readings come from: identity, asked by RPC, or its own tables in identity itself."""

    async def read(self, tenant_id: UUID) -> ClockReading: ...


class TenantClocks:
    """Tells each tenant's time from cached readings."""

    def __init__(self, source: ClockSource) -> None:
        self._source = source
        self._readings: dict[UUID, tuple[ClockReading, float]] = {}
        self._asking: dict[UUID, asyncio.Task[ClockReading]] = {}

    def find(self, tenant_id: UUID, at_least_version: int = 0) -> ClockReading | None:
        """The cached reading where it may still be used, without waiting for anything."""
        found = self._readings.get(tenant_id)
        if found is None or found[1] <= time.monotonic() or found[0].version < at_least_version:
            return None
        return found[0]

    async def read(self, tenant_id: UUID, at_least_version: int = 0) -> ClockReading:
        """The tenant's time, no older than a version. Raises InvalidValue where there is none
        such yet, and a refusal of kind UNAVAILABLE where identity does not answer."""
        found = self.find(tenant_id, at_least_version)
        if found is not None:
            return found
        reading = await self._ask(tenant_id)
        if reading.version < at_least_version:
            # The question we joined may have been under way before the clock was advanced.
            reading = await self._ask(tenant_id)
        if reading.version < at_least_version:
            raise InvalidValue(
                CLOCK_VERSION, f"{at_least_version} is ahead of the clock's {reading.version}"
            )
        return reading

    async def now(self, tenant_id: UUID, at_least_version: int = 0) -> tuple[datetime, int]:
        """The tenant's present instant and the version of the clock that says so."""
        reading = await self.read(tenant_id, at_least_version)
        return reading.now(), reading.version

    async def renew(self, call: Call, seconds: float = 10.0) -> Call:
        """The same call as of now, with a new deadline: for each item of a long stream."""
        deadline = asyncio.get_running_loop().time() + seconds
        if call.tenant is None or call.environment is Environment.LIVE:
            return replace(call, now=datetime.now(UTC), deadline=deadline)
        reading = await self.read(call.tenant, call.clock_version)
        return replace(call, now=reading.now(), clock_version=reading.version, deadline=deadline)

    async def present(self, call: Call) -> Call:
        """The call at the present time: a stream outlives the instant at which it was begun."""
        if call.environment is Environment.LIVE:
            return replace(call, now=datetime.now(UTC))
        now, version = await self.now(call.tenant_id, call.clock_version)
        return replace(call, now=now, clock_version=version)

    async def environment(self, tenant_id: UUID) -> Environment:
        """Whether the tenant is live or a test."""
        return (await self.read(tenant_id)).environment

    def _ask(self, tenant_id: UUID) -> Awaitable[ClockReading]:
        task = self._asking.get(tenant_id)
        if task is None:
            task = asyncio.create_task(self._fetch(tenant_id))
            self._asking[tenant_id] = task
            task.add_done_callback(lambda done: self._asked(tenant_id, done))
        return asyncio.shield(task)

    async def _fetch(self, tenant_id: UUID) -> ClockReading:
        reading = await self._source.read(tenant_id)
        seconds = NO_CLOCK_SECONDS if reading.instant is None else TEST_CLOCK_SECONDS
        if len(self._readings) >= READINGS_MAX:
            self._readings.clear()
        self._readings[tenant_id] = (reading, time.monotonic() + seconds)
        return reading

    def _asked(self, tenant_id: UUID, task: asyncio.Task[ClockReading]) -> None:
        del self._asking[tenant_id]
        if not task.cancelled():
            task.exception()  # looked at, so that nobody warns where every asker went away
