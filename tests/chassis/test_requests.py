"""A request made twice is done once."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BytesValue, StringValue

from chassis.database import Database
from chassis.requests import ClaimWithoutRecord, claim, fingerprint_of, record
from kernel.errors import IdempotencyConflict, InvalidValue
from tests.conftest import MakeDatabase
from tests.support.databases import FreshDatabase
from tests.support.probe import probe_database

TENANT = uuid.UUID(int=1)
OTHER = uuid.UUID(int=2)


@pytest.fixture
async def database(fresh_database: MakeDatabase) -> FreshDatabase:
    return await probe_database(fresh_database)


async def answer(
    pool: Database, tenant_id: uuid.UUID, request_id: str, content: str, reply: str
) -> str:
    """An operation: its reply, or the first one's."""
    async with pool.transaction(tenant_id) as tx:
        recorded = await claim(tx, tenant_id, request_id, StringValue(value=content))
        if recorded is not None:
            return StringValue.FromString(recorded).value
        await record(tx, tenant_id, request_id, StringValue(value=reply))
        return reply


async def test_a_repeated_request_gets_the_first_answer(database: FreshDatabase) -> None:
    async with database.open("probe") as pool:
        assert await answer(pool, TENANT, "r1", "content", "first") == "first"
        assert await answer(pool, TENANT, "r1", "content", "second") == "first"


async def test_the_same_id_with_other_content_is_a_conflict_and_the_first_stands(
    database: FreshDatabase,
) -> None:
    async with database.open("probe") as pool:
        await answer(pool, TENANT, "r1", "content", "first")
        with pytest.raises(IdempotencyConflict):
            await answer(pool, TENANT, "r1", "other content", "second")
        assert await answer(pool, TENANT, "r1", "content", "third") == "first"


async def test_the_same_id_of_two_tenants_are_two_requests(database: FreshDatabase) -> None:
    async with database.open("probe") as pool:
        assert await answer(pool, TENANT, "r1", "content", "first") == "first"
        assert await answer(pool, OTHER, "r1", "other content", "second") == "second"


async def test_two_racing_requests_are_done_once_and_answered_alike(
    database: FreshDatabase,
) -> None:
    async with database.open("probe") as pool:
        claimed, go_on = asyncio.Event(), asyncio.Event()

        async def first() -> str:
            async with pool.transaction(TENANT) as tx:
                assert await claim(tx, TENANT, "r1", StringValue(value="content")) is None
                claimed.set()
                await go_on.wait()
                await record(tx, TENANT, "r1", StringValue(value="first"))
                return "first"

        running = asyncio.create_task(first())
        await claimed.wait()
        racing = asyncio.create_task(answer(pool, TENANT, "r1", "content", "second"))
        await until_somebody_waits(database)
        assert not racing.done()
        go_on.set()
        assert await asyncio.gather(running, racing) == ["first", "first"]


async def test_of_many_racing_requests_exactly_one_is_done(database: FreshDatabase) -> None:
    async with database.open("probe", size=8) as pool:
        replies = await asyncio.gather(
            *(answer(pool, TENANT, "r1", "content", f"reply {i}") for i in range(24))
        )
        assert len(set(replies)) == 1


async def test_when_the_first_is_refused_the_second_decides_anew(database: FreshDatabase) -> None:
    async with database.open("probe") as pool:
        claimed, go_on = asyncio.Event(), asyncio.Event()

        async def refused() -> None:
            async with pool.transaction(TENANT) as tx:
                await claim(tx, TENANT, "r1", StringValue(value="content"))
                claimed.set()
                await go_on.wait()
                raise InvalidValue("content", "is not liked")

        running = asyncio.create_task(refused())
        await claimed.wait()
        racing = asyncio.create_task(answer(pool, TENANT, "r1", "content", "second"))
        await until_somebody_waits(database)
        go_on.set()
        with pytest.raises(InvalidValue):
            await running
        assert await racing == "second"


async def test_recording_what_was_not_claimed_is_a_bug(database: FreshDatabase) -> None:
    async with database.open("probe") as pool:
        async with pool.transaction(TENANT) as tx:
            with pytest.raises(ClaimWithoutRecord):
                await record(tx, TENANT, "r1", StringValue(value="x"))


@pytest.mark.parametrize("request_id", ["", "x" * 129, "a\nb", "\x00"])
async def test_an_id_that_cannot_be_one_is_refused(
    database: FreshDatabase, request_id: str
) -> None:
    async with database.open("probe") as pool:
        with pytest.raises(InvalidValue):
            await answer(pool, TENANT, request_id, "content", "x")


def test_a_fingerprint_tells_methods_and_content_apart_and_ignores_the_order_of_a_map() -> None:
    assert fingerprint_of(StringValue(value="x")) != fingerprint_of(BytesValue(value=b"x"))
    assert fingerprint_of(StringValue(value="x")) != fingerprint_of(StringValue(value="y"))
    one, two = Struct(), Struct()
    for names, struct in (("abcdef", one), ("fedcba", two)):
        for name in names:
            struct[name] = name
    assert fingerprint_of(one) == fingerprint_of(two)


async def until_somebody_waits(database: FreshDatabase) -> None:
    import asyncpg

    from tests.support.waiting import until

    connection = await asyncpg.connect(database.superuser_dsn)
    try:
        await until(
            lambda: connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ),
            what="a transaction that waits for another",
        )
    finally:
        await connection.close()
