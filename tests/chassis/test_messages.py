"""Messages: sent if the change is, handled once, and lost by nobody, whatever Redis forgets."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import pytest
import redis.asyncio
from google.protobuf.wrappers_pb2 import StringValue

from chassis import consumer as consuming
from chassis import relay as relaying
from chassis import trimming
from chassis.consumer import pause_after
from chassis.database import Database, DatabaseUnavailable
from chassis.messages import (
    Consumer,
    Message,
    Outgoing,
    Relay,
    append,
    append_across,
    append_all,
    consume_once,
    stream_name,
)
from tests.conftest import MakeDatabase
from tests.support.databases import FreshDatabase
from tests.support.probe import probe_database
from tests.support.waiting import until

TENANT = uuid.UUID(int=1)
OTHER = uuid.UUID(int=2)
STREAM = stream_name("probe")


@dataclass
class Platform:
    """As much of a platform as a consumer uses."""

    service: str
    database: Database
    redis: redis.asyncio.Redis


@pytest.fixture
async def database(fresh_database: MakeDatabase) -> FreshDatabase:
    return await probe_database(fresh_database)


@pytest.fixture
async def sender(database: FreshDatabase) -> AsyncIterator[Database]:
    async with database.open("probe") as pool:
        yield pool


@pytest.fixture
async def reader(
    database: FreshDatabase, redis_client: redis.asyncio.Redis
) -> AsyncIterator[Platform]:
    async with database.open("reader", size=20) as pool:
        yield Platform("reader", pool, redis_client)


async def send(sender: Database, *texts: str, tenant_id: uuid.UUID = TENANT) -> None:
    async with sender.transaction(tenant_id) as tx:
        await append_all(
            tx, [Outgoing(tenant_id, "probe.said", StringValue(value=text)) for text in texts]
        )


def text_of(message: Message) -> str:
    return StringValue.FromString(message.payload).value


@asynccontextmanager
async def running(*runs: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(run()) for run in runs]
    try:
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Heard:
    """A handler that keeps what it was told; it says no as often as it was asked to."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusals: Counter[str] = Counter()
        self.error: Exception = ValueError("not now")

    async def __call__(self, message: Message) -> None:
        text = text_of(message)
        if self.refusals[text] > 0:
            self.refusals[text] -= 1
            raise self.error
        self.texts.append(text)


async def test_a_message_is_sent_if_and_only_if_its_transaction_commits(
    sender: Database, reader: Platform
) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it is the block's end that raises
        async with sender.transaction(TENANT) as tx:
            await append(tx, TENANT, "probe.said", StringValue(value="never"))
            raise ZeroDivisionError
    await send(sender, "yes")
    heard = Heard()
    relay = Relay(sender, reader.redis, "probe")
    consumer = Consumer(reader, ["probe"], {"probe.said": heard})
    async with running(relay.run, consumer.run):
        await until(lambda: heard.texts)
    assert heard.texts == ["yes"]


async def test_a_consumer_hears_each_message_once_and_in_order(
    sender: Database, reader: Platform
) -> None:
    texts = [f"{number:04d}" for number in range(1200)]
    for start in range(0, 1200, 100):
        await send(sender, *texts[start : start + 100])
    heard = Heard()
    relay = Relay(sender, reader.redis, "probe")
    consumer = Consumer(reader, ["probe"], {"probe.said": heard})
    async with running(relay.run, consumer.run):
        await until(lambda: len(heard.texts) >= 1200)
    assert heard.texts == texts


async def test_messages_of_many_tenants_are_appended_in_one_money_transaction(
    sender: Database, reader: Platform
) -> None:
    async with sender.money_transaction() as tx:
        await append_across(
            tx,
            [
                Outgoing(tenant, "probe.said", StringValue(value=f"to {tenant.int}"))
                for tenant in (TENANT, OTHER)
            ],
        )
    got: dict[uuid.UUID, str] = {}

    async def handler(message: Message) -> None:
        got[message.tenant_id] = text_of(message)

    relay = Relay(sender, reader.redis, "probe")
    consumer = Consumer(reader, ["probe"], {"probe.said": handler})
    async with running(relay.run, consumer.run):
        await until(lambda: len(got) == 2)
    assert got == {TENANT: "to 1", OTHER: "to 2"}


async def test_two_relays_take_turns_and_publish_nothing_twice(
    sender: Database, reader: Platform
) -> None:
    await send(sender, *(str(number) for number in range(700)))
    relays = [Relay(sender, reader.redis, "probe") for _ in range(3)]
    async with running(*(relay.run for relay in relays)):
        await until(lambda: nothing_pending(sender))
    assert await reader.redis.xlen(STREAM) == 700


async def test_a_relay_that_died_is_followed_by_another(
    sender: Database, reader: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "LEASE_SECONDS", 1)
    dead = Relay(sender, reader.redis, "probe")
    await send(sender, "a")
    assert await dead.drain_once() == 1
    await send(sender, "b")
    follower = Relay(sender, reader.redis, "probe")
    assert await follower.drain_once() == 0
    await until(follower.drain_once)
    assert await nothing_pending(sender)


async def test_a_message_published_twice_is_handled_once(
    sender: Database, reader: Platform, database: FreshDatabase
) -> None:
    await send(sender, "a", "b")
    heard = Heard()
    relay = Relay(sender, reader.redis, "probe")
    consumer = Consumer(reader, ["probe"], {"probe.said": heard})
    async with running(relay.run, consumer.run):
        await until(lambda: len(heard.texts) == 2)
        # As if the relay had died between publishing and marking.
        await execute(database, "UPDATE probe.outbox SET published_time = NULL")
        await until(lambda: nothing_pending(sender))
        await send(sender, "c")
        await until(lambda: len(heard.texts) == 3)
    assert heard.texts == ["a", "b", "c"]


async def test_emptying_redis_loses_nothing_that_was_published_and_not_consumed(
    sender: Database, reader: Platform
) -> None:
    relay = Relay(sender, reader.redis, "probe")
    await send(sender, *(f"before {number}" for number in range(50)))
    async with running(relay.run):
        await until(lambda: nothing_pending(sender))
        await reader.redis.flushall()
        await send(sender, "after")
        heard = Heard()
        consumer = Consumer(reader, ["probe"], {"probe.said": heard})
        async with running(consumer.run):
            await until(lambda: len(heard.texts) >= 51)
    assert sorted(heard.texts) == sorted([*(f"before {n}" for n in range(50)), "after"])


async def test_emptying_redis_again_and_again_under_load_loses_and_doubles_nothing(
    sender: Database, reader: Platform
) -> None:
    heard = Heard()
    relay = Relay(sender, reader.redis, "probe")
    consumer = Consumer(reader, ["probe"], {"probe.said": heard})
    sent: list[str] = []
    async with running(relay.run, consumer.run):
        for turn in range(8):
            texts = [f"{turn}-{number}" for number in range(40)]
            await send(sender, *texts)
            sent += texts
            if turn % 2:
                # At whatever moment relay and consumer are in just now.
                await until(lambda: len(heard.texts) > 20 * turn)  # noqa: B023
            await reader.redis.flushall()
        await until(lambda: len(heard.texts) >= len(sent), seconds_max=60)
    assert sorted(heard.texts) == sorted(sent)


async def test_a_consumer_whose_group_is_gone_is_sent_again_what_the_stream_no_longer_has(
    sender: Database, reader: Platform
) -> None:
    await send(sender, "a", "b")
    relay = Relay(sender, reader.redis, "probe")
    assert await until(relay.drain_once) == 2
    await reader.redis.xtrim(STREAM, maxlen=0, approximate=False)
    heard = Heard()
    consumer = Consumer(reader, ["probe"], {"probe.said": heard})
    async with running(relay.run, consumer.run):
        await until(lambda: heard.texts == ["a", "b"])


async def test_a_stream_restored_from_an_older_copy_is_noticed(
    sender: Database, reader: Platform
) -> None:
    relay = Relay(sender, reader.redis, "probe")
    await send(sender, "old")
    assert await until(relay.drain_once) == 1
    # The copy has the consumer's group, so the consumer itself has nothing to notice.
    await reader.redis.xgroup_create(STREAM, "reader", id="0")
    copy = await reader.redis.dump(STREAM)
    await send(sender, "new")
    assert await until(relay.drain_once) == 1
    await reader.redis.delete(STREAM)
    await reader.redis.restore(STREAM, 0, copy)
    heard = Heard()
    consumer = Consumer(reader, ["probe"], {"probe.said": heard})
    async with running(relay.run, consumer.run):
        await until(lambda: len(heard.texts) == 2)
    assert sorted(heard.texts) == ["new", "old"]


async def test_a_handler_that_fails_is_tried_again_and_others_go_on(
    sender: Database, reader: Platform
) -> None:
    heard = Heard()
    heard.refusals["bad"] = 1
    await send(sender, "bad", "good")
    relay = Relay(sender, reader.redis, "probe")
    consumer = Consumer(reader, ["probe"], {"probe.said": heard})
    async with running(relay.run, consumer.run):
        await until(lambda: len(heard.texts) == 2)
    assert heard.texts == ["good", "bad"]


async def test_a_poisoned_message_is_parked_with_its_error_and_can_be_tried_again(
    sender: Database, reader: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "ATTEMPTS_MAX", 2)
    heard = Heard()
    heard.refusals["bad"] = 2
    await send(sender, "bad")
    relay = Relay(sender, reader.redis, "probe")
    consumer = Consumer(reader, ["probe"], {"probe.said": heard})
    async with running(relay.run, consumer.run):
        row = await until(lambda: inbox_row(reader, "PARKED"))
        assert (row["attempts"], row["error"]) == (2, "ValueError: not now")
        assert heard.texts == []
        async with reader.database.unscoped() as connection:
            assert await connection.fetchval("SELECT inbox_unpark(ARRAY['probe.said'])") == 1
        await until(lambda: heard.texts == ["bad"])
        await until(lambda: inbox_row(reader, "DONE"))


async def test_a_handler_whose_database_is_away_is_never_parked(
    sender: Database, reader: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "ATTEMPTS_MAX", 1)
    heard = Heard()
    heard.refusals["patient"] = 2
    heard.error = DatabaseUnavailable("away")
    await send(sender, "patient")
    relay = Relay(sender, reader.redis, "probe")
    consumer = Consumer(reader, ["probe"], {"probe.said": heard})
    async with running(relay.run, consumer.run):
        await until(lambda: heard.texts == ["patient"])


async def test_a_kind_without_a_handler_is_parked_unless_it_is_not_wanted(
    sender: Database, reader: Platform
) -> None:
    async with sender.transaction(TENANT) as tx:
        await append(tx, TENANT, "probe.unwanted", StringValue(value="x"))
        await append(tx, TENANT, "probe.unheard_of", StringValue(value="y"))
    relay = Relay(sender, reader.redis, "probe")
    consumer = Consumer(reader, ["probe"], {}, ignored=["probe.unwanted"])
    async with running(relay.run, consumer.run):
        row = await until(lambda: inbox_row(reader, "PARKED"))
        assert row["kind"] == "probe.unheard_of"
        await until(lambda: nobody_waits(reader))
    async with reader.database.transaction(TENANT) as tx:
        assert await tx.fetchval("SELECT count(*) FROM inbox") == 1


async def test_what_a_dead_consumer_left_is_taken_over(
    sender: Database, reader: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "IDLE_MS_BEFORE_TAKING_OVER", 1)
    await send(sender, "orphan")
    await until(Relay(sender, reader.redis, "probe").drain_once)
    await reader.redis.xgroup_create(STREAM, "reader", id="0")
    await reader.redis.xreadgroup("reader", "dead", {STREAM: ">"})
    heard = Heard()
    async with running(Consumer(reader, ["probe"], {"probe.said": heard}).run):
        await until(lambda: heard.texts == ["orphan"])
        await until(lambda: nobody_waits(reader))


async def test_a_message_consumed_in_the_handlers_transaction_is_done_with_it(
    reader: Platform,
) -> None:
    message = make_message()
    async with reader.database.transaction(TENANT) as tx:
        assert await consume_once(tx, message)
        assert not await consume_once(tx, message)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it is the block's end that raises
        async with reader.database.transaction(TENANT) as tx:
            assert await consume_once(tx, second := make_message())
            raise ZeroDivisionError
    async with reader.database.transaction(TENANT) as tx:
        assert await consume_once(tx, second)


async def test_of_two_workers_that_race_for_a_message_one_has_it(reader: Platform) -> None:
    message = make_message()

    async def work() -> bool:
        async with reader.database.transaction(TENANT) as tx:
            return await consume_once(tx, message)

    assert sorted(await asyncio.gather(*(work() for _ in range(12)))) == [False] * 11 + [True]


async def test_only_what_every_group_has_read_is_trimmed(
    sender: Database, reader: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trimming, "STREAM_LENGTH_MAX", 500)
    client = reader.redis
    await send(sender, *(str(number) for number in range(1000)))
    relay = Relay(sender, client, "probe")
    assert [await relay.drain_once() for _ in range(3)] == [500, 500, 0]
    for group in ("fast", "slow"):
        await client.xgroup_create(STREAM, group, id="0")
    await client.xreadgroup("fast", "c", {STREAM: ">"}, noack=True)
    await client.xreadgroup("slow", "c", {STREAM: ">"}, count=10, noack=True)
    # The slow one lives: nothing it has not read goes, and nothing more is added.
    assert not await trimming.has_room(client, STREAM)
    assert (await client.xreadgroup("slow", "c", {STREAM: ">"}, count=1000)) != []
    pending = await client.xpending(STREAM, "slow")
    assert pending["pending"] == 990
    # It is silent for too long: its group goes, so that the others are served.
    monkeypatch.setattr(trimming, "SILENT_MS_MAX", -1)
    assert await trimming.has_room(client, STREAM)
    assert {group["name"] for group in await client.xinfo_groups(STREAM)} == {b"fast"}
    assert await trimming.has_room(client, STREAM)
    assert await client.xlen(STREAM) < 200


async def test_jobs_end_whenever_they_are_told_to(sender: Database, reader: Platform) -> None:
    chance = random.Random(20)
    for _ in range(60):
        tasks = [
            asyncio.ensure_future(Relay(sender, reader.redis, "probe").run()),
            asyncio.ensure_future(Consumer(reader, ["probe"], {}).run()),
        ]
        # Not to wait for anything: the moment is the point.
        await asyncio.sleep(chance.random() * 0.05)
        for task in tasks:
            task.cancel()
        _, running = await asyncio.wait(tasks, timeout=10)
        assert not running


def test_pauses_grow_to_a_quarter_of_an_hour() -> None:
    seconds = [pause_after(attempts).total_seconds() for attempts in (1, 2, 3, 11, 40)]
    assert seconds == [1, 2, 4, 900, 900]


def make_message() -> Message:
    return Message(uuid.uuid4(), TENANT, "probe.said", b"", datetime.now(UTC), "", "probe")


async def nothing_pending(sender: Database) -> bool:
    async with sender.unscoped() as connection:
        return await connection.fetchval("SELECT count(*) FROM outbox_pending(1)") == 0


async def nobody_waits(reader: Platform) -> bool:
    pending = await reader.redis.xpending(STREAM, "reader")
    return bool(pending["pending"] == 0)


async def inbox_row(reader: Platform, state: str) -> asyncpg.Record | None:
    async with reader.database.transaction(TENANT) as tx:
        return await tx.fetchrow("SELECT * FROM inbox WHERE state = $1", state)


async def execute(database: FreshDatabase, statement: str) -> None:
    connection = await asyncpg.connect(database.superuser_dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
