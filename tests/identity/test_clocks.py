"""Test clocks through gRPC on a real Postgres."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import grpc
import pytest

from chassis.call import Environment
from tests.identity.conftest import Identity
from tests.support.refusals import outcome, refuses
from tests.support.services import credential
from tollgate.identity.v1 import identity_service_pb2 as pb
from tollgate.identity.v1 import tenant_pb2

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


async def create(identity: Identity, tenant_id: UUID) -> tenant_pb2.TestClock:
    answer = await identity.clocks.CreateTestClock(
        pb.CreateTestClockRequest(request_id="clock", time=START), metadata=credential(tenant_id)
    )
    return answer.test_clock


async def advance(
    identity: Identity, tenant_id: UUID, time: datetime, request_id: str
) -> tenant_pb2.TestClock:
    answer = await identity.clocks.AdvanceTestClock(
        pb.AdvanceTestClockRequest(request_id=request_id, time=time),
        metadata=credential(tenant_id),
    )
    return answer.test_clock


async def test_a_clock_stands_where_it_was_put_and_rises_one_version_an_advance(
    identity: Identity,
) -> None:
    tenant_id = await identity.tenant()
    clock = await create(identity, tenant_id)
    assert (clock.time.ToDatetime(UTC), clock.version) == (START, 1)
    for number in range(1, 4):
        later = START + timedelta(days=number)
        clock = await advance(identity, tenant_id, later, f"a{number}")
        assert (clock.time.ToDatetime(UTC), clock.version) == (later, 1 + number)
    read = await identity.clocks.GetTestClock(
        pb.GetTestClockRequest(), metadata=credential(tenant_id)
    )
    assert read.test_clock == clock
    assert read.environment == tenant_pb2.ENVIRONMENT_TEST


async def test_a_repeated_advance_moves_the_clock_once(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    await create(identity, tenant_id)
    later = START + timedelta(days=1)
    clocks = await asyncio.gather(*(advance(identity, tenant_id, later, "same") for _ in range(6)))
    assert {clock.version for clock in clocks} == {2}
    with refuses("IDEMPOTENCY_CONFLICT"):
        await advance(identity, tenant_id, later + timedelta(days=1), "same")


async def test_a_clock_never_goes_back_or_stands_still(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    await create(identity, tenant_id)
    for wrong in (START, START - timedelta(microseconds=1)):
        with refuses("TEST_CLOCK_GOES_FORWARD", grpc.StatusCode.FAILED_PRECONDITION):
            await advance(identity, tenant_id, wrong, f"to {wrong}")


async def test_the_database_itself_refuses_a_clock_that_goes_back(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    await create(identity, tenant_id)
    back = "UPDATE test_clock SET instant = $1, version = version + 1"
    async with identity.database.open("identity") as database:
        with pytest.raises(asyncpg.CheckViolationError):
            async with database.transaction(tenant_id) as tx:
                await tx.execute(back, START)


async def test_racing_advances_get_a_version_each(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    await create(identity, tenant_id)
    outcomes = await asyncio.gather(
        *(
            outcome(advance(identity, tenant_id, START + timedelta(days=number), f"a{number}"))
            for number in range(1, 9)
        )
    )
    read = await identity.clocks.GetTestClock(
        pb.GetTestClockRequest(), metadata=credential(tenant_id)
    )
    assert set(outcomes) <= {"OK", "TEST_CLOCK_GOES_FORWARD"}
    assert read.test_clock.version == 1 + outcomes.count("OK")
    assert read.test_clock.time.ToDatetime(UTC) == START + timedelta(days=8)


async def test_a_tenant_has_one_clock(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    await create(identity, tenant_id)
    with refuses("TEST_CLOCK_EXISTS", grpc.StatusCode.ALREADY_EXISTS):
        await identity.clocks.CreateTestClock(
            pb.CreateTestClockRequest(request_id="second", time=START),
            metadata=credential(tenant_id),
        )


async def test_a_live_tenant_keeps_real_time(identity: Identity) -> None:
    tenant_id = await identity.tenant("Live", Environment.LIVE)
    with refuses("LIVE_TENANT_KEEPS_REAL_TIME", grpc.StatusCode.FAILED_PRECONDITION):
        await create(identity, tenant_id)
    read = await identity.clocks.GetTestClock(
        pb.GetTestClockRequest(), metadata=credential(tenant_id)
    )
    assert not read.HasField("test_clock")


async def test_without_a_clock_there_is_none_to_advance_or_read(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await advance(identity, tenant_id, START, "a")
    read = await identity.clocks.GetTestClock(
        pb.GetTestClockRequest(), metadata=credential(tenant_id)
    )
    assert not read.HasField("test_clock")


async def test_another_tenants_clock_is_not_seen(identity: Identity) -> None:
    ours, theirs = await identity.tenant("ours"), await identity.tenant("theirs")
    await create(identity, theirs)
    read = await identity.clocks.GetTestClock(pb.GetTestClockRequest(), metadata=credential(ours))
    assert not read.HasField("test_clock")


async def test_a_clock_needs_a_time(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    with refuses("INVALID_VALUE") as refused:
        await identity.clocks.CreateTestClock(
            pb.CreateTestClockRequest(request_id="r"), metadata=credential(tenant_id)
        )
    assert refused.facts["field"] == "time"
