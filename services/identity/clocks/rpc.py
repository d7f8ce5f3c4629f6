"""TestClockService: parse, operate, render."""

from __future__ import annotations

from chassis.call import Call
from chassis.wire import parse_request_id, parse_time
from identity.clocks.operations import ClockOperations
from identity.clocks.wire import render_clock
from identity.tenants.wire import render_environment
from tollgate.identity.v1 import identity_service_pb2 as pb


class TestClockService:
    """Time for those who test: one clock per test tenant."""

    __test__ = False  # the name is the contract's; no test runner's business

    def __init__(self, clocks: ClockOperations) -> None:
        self._clocks = clocks

    async def CreateTestClock(
        self, request: pb.CreateTestClockRequest, call: Call
    ) -> pb.CreateTestClockResponse:
        parse_request_id(request.request_id)
        instant = parse_time(request, "time")
        return await self._clocks.create_clock(call.tenant_id, request, instant)

    async def GetTestClock(
        self, request: pb.GetTestClockRequest, call: Call
    ) -> pb.GetTestClockResponse:
        environment, clock = await self._clocks.find_clock(call.tenant_id)
        return pb.GetTestClockResponse(
            test_clock=render_clock(clock) if clock else None,
            environment=render_environment(environment),
        )

    async def AdvanceTestClock(
        self, request: pb.AdvanceTestClockRequest, call: Call
    ) -> pb.AdvanceTestClockResponse:
        parse_request_id(request.request_id)
        instant = parse_time(request, "time")
        return await self._clocks.advance_clock(call.tenant_id, request, instant)
