"""What can be done with test clocks; also the source of time for identity's own calls."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.call import Environment
from chassis.clocks import ClockReading
from chassis.database import Connection, Database
from chassis.requests import claim, record
from identity.clocks import store
from identity.clocks.domain import (
    LiveTenantKeepsRealTime,
    TestClock,
    TestClockExists,
    advance,
)
from identity.clocks.wire import render_clock
from kernel.clock import Clock
from kernel.errors import NotFound
from tollgate.identity.v1 import identity_service_pb2 as pb


class ClockOperations:
    """Each is one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create_clock(
        self, tenant_id: UUID, request: pb.CreateTestClockRequest, instant: datetime
    ) -> pb.CreateTestClockResponse:
        """Raises LiveTenantKeepsRealTime, TestClockExists, NotFound, IdempotencyConflict."""
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                return pb.CreateTestClockResponse.FromString(recorded)
            if await _environment(tx, tenant_id) is Environment.LIVE:
                raise LiveTenantKeepsRealTime(
                    "a live tenant lives in real time", tenant_id=tenant_id
                )
            clock = TestClock(instant, 1, self._clock.now())
            if not await store.insert_clock(tx, tenant_id, clock):
                raise TestClockExists("the tenant has its test clock already", tenant_id=tenant_id)
            response = pb.CreateTestClockResponse(test_clock=render_clock(clock))
            await record(tx, tenant_id, request.request_id, response)
            return response

    async def find_clock(self, tenant_id: UUID) -> tuple[Environment, TestClock | None]:
        """The tenant's environment, and its clock where it has one; raises NotFound."""
        async with self._database.transaction(tenant_id) as tx:
            return await _environment(tx, tenant_id), await store.find_clock(tx, tenant_id)

    async def advance_clock(
        self, tenant_id: UUID, request: pb.AdvanceTestClockRequest, instant: datetime
    ) -> pb.AdvanceTestClockResponse:
        """Raises TestClockGoesForward, NotFound, IdempotencyConflict."""
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                return pb.AdvanceTestClockResponse.FromString(recorded)
            clock = await store.lock_clock(tx, tenant_id)
            if clock is None:
                raise NotFound("test clock of tenant", tenant_id)
            clock = advance(clock, instant)
            await store.save_clock(tx, tenant_id, clock)
            response = pb.AdvanceTestClockResponse(test_clock=render_clock(clock))
            await record(tx, tenant_id, request.request_id, response)
            return response

    async def read(self, tenant_id: UUID) -> ClockReading:
        """The tenant's time, as every service asks for it."""
        environment, clock = await self.find_clock(tenant_id)
        if clock is None:
            return ClockReading(environment, None, 0)
        return ClockReading(environment, clock.instant, clock.version)


async def _environment(tx: Connection, tenant_id: UUID) -> Environment:
    environment = await store.find_environment(tx, tenant_id)
    if environment is None:
        raise NotFound("tenant", tenant_id)
    return environment
