"""Whatever dies in between: an event is counted if and only if its charge is posted, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from tests.metering.conftest import free_address
from tests.metering.faults import Line, Mode, metering_process
from tests.metering.world import ACCEPTED, PENDING, World, new_tenant, unit_price
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tests.support.waiting import until
from tollgate.metering.v1 import correction_pb2


class Faulty:
    """A world whose metering reaches the wallet over a line that can fail."""

    def __init__(
        self, world: World, services: Services, database: FreshDatabase, line: Line, address: str
    ) -> None:
        self.world = world
        self.services = services
        self.database = database
        self.line = line
        self.metering_address = address
        self.peers = {**services.addresses, "wallet": line.address}

    async def run_metering(self) -> None:
        """Metering in this process, which finds what another left behind within a second."""
        await self.services.run(
            "metering",
            self.database,
            listen=self.metering_address,
            peers={"wallet": self.line.address},
            recovery_seconds=0.2,
        )
        self.world.connect(await self.services.channel("metering"))

    async def count_batches(self) -> int:
        async with self.database.open("metering", size=1) as pool:
            async with pool.transaction(self.world.tenant_id) as tx:
                count: int = await tx.fetchval("SELECT count(*) FROM charge_batch")
        return count


@pytest.fixture
async def faulty(metering_database: FreshDatabase, services: Services) -> AsyncIterator[Faulty]:
    address = free_address()
    await services.run("identity", metering_database)
    wallet = await services.run("wallet", metering_database)
    await services.run("invoicing", metering_database, peers={"metering": address})
    async with Line(wallet.address) as line:
        channel = await services.channel("wallet")
        tenant_id = await new_tenant(await services.channel("identity"))
        world = World(tenant_id, channel, channel, await services.channel("invoicing"))
        yield Faulty(world, services, metering_database, line, address)


async def prepaid(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("prepaid", {"tokens": unit_price("USD", "1")})
    await world.customer("acme", "prepaid", USD="10")


@pytest.mark.parametrize("lost", [Mode.DEAF, Mode.MUTE])
async def test_metering_killed_between_commit_and_settling_charges_once(
    faulty: Faulty, redis_url: str, lost: Mode
) -> None:
    world = faulty.world
    event = world.event("acme", event_id="in flight", tokens="4")
    dry = world.event("acme", event_id="too much", tokens="7")
    async with metering_process(
        faulty.database, redis_url, faulty.peers, listen=faulty.metering_address
    ) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            world.connect(channel)
            await prepaid(world)
            (warm,) = await world.ingest(world.event("acme", tokens="1"))
            assert warm.state == ACCEPTED
            faulty.line.set(lost)
            sent = asyncio.create_task(world.ingest(event, dry))
            await until(faulty.count_batches, what="the commit")
            if lost is Mode.MUTE:
                await until(lambda: _balance(world, "5"), what="the charge")
            await process.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await sent
    faulty.line.set(Mode.CUT)
    faulty.line.set(Mode.OPEN)

    await faulty.run_metering()

    await until(lambda: _none_left(faulty), what="recovery")
    accepted, rejected = await world.ingest(event, dry)
    assert accepted.duplicate
    assert accepted.state == ACCEPTED
    assert rejected.refusal.reason == "INSUFFICIENT_FUNDS"
    assert await world.balances("acme") == {"USD": "5"}
    assert await world.quantity("acme", "tokens") == "5"
    assert await world.verify() == 3


@pytest.mark.parametrize("lost", [Mode.DEAF, Mode.MUTE])
async def test_corrections_cut_off_by_a_kill_charge_and_return_once(
    faulty: Faulty, redis_url: str, lost: Mode
) -> None:
    world = faulty.world
    more = world.event("acme", event_id="more", tokens="3")
    async with metering_process(
        faulty.database, redis_url, faulty.peers, listen=faulty.metering_address
    ) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            world.connect(channel)
            await prepaid(world)
            await world.ingest(
                world.event("acme", event_id="more", tokens="1"),
                world.event("acme", event_id="less", tokens="4"),
                world.event("acme", event_id="gone", tokens="2"),
            )
            assert await world.balances("acme") == {"USD": "3"}
            faulty.line.set(lost)
            sent = asyncio.create_task(world.amend(more, key="same"))
            await until(faulty.count_batches, what="the commit")
            await process.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await sent
    faulty.line.set(Mode.CUT)
    faulty.line.set(Mode.OPEN)

    await faulty.run_metering()

    await until(lambda: _none_left(faulty), what="recovery")
    assert await world.balances("acme") == {"USD": "1"}
    (again,) = await world.amend(more, key="same")
    assert (again.duplicate, [c.amount.value for c in again.charges]) == (True, ["2"])
    assert await world.balances("acme") == {"USD": "1"}
    faulty.line.set(Mode.CUT)
    (waiting,) = await world.deprecate("gone", key="drop")
    assert waiting.state == correction_pb2.CORRECTION_STATE_PENDING
    (refused,) = await world.amend(world.event("acme", event_id="gone", tokens="5"))
    assert refused.refusal.reason == "EVENT_PENDING"
    faulty.line.set(Mode.OPEN)
    await until(lambda: _none_left(faulty), what="recovery")
    (settled,) = await world.deprecate("gone", key="drop")
    assert settled.state == correction_pb2.CORRECTION_STATE_APPLIED
    assert [one.amount.value for one in settled.returns] == ["2"]
    assert await world.balances("acme") == {"USD": "3"}
    assert await world.verify() == 4


async def test_while_the_wallet_is_away_events_are_pending_and_then_settled(
    faulty: Faulty,
) -> None:
    world = faulty.world
    await faulty.run_metering()
    await prepaid(world)
    (warm,) = await world.ingest(world.event("acme", tokens="1"))
    assert warm.state == ACCEPTED
    first, second = (world.event("acme", tokens=tokens) for tokens in ("6", "5"))
    faulty.line.set(Mode.CUT)

    (waiting,) = await world.ingest(first)
    (behind,) = await world.ingest(second)

    assert (waiting.state, behind.state) == (PENDING, PENDING)
    assert waiting.charges[0].amount.value == "6"
    assert await faulty.count_batches() == 2
    faulty.line.set(Mode.OPEN)
    await until(lambda: _none_left(faulty), what="recovery")
    settled = await world.ingest(first, second)
    assert sorted(outcome.state for outcome in settled) == [ACCEPTED, 2]
    assert await world.verify() == 3


async def test_concurrent_batches_of_one_customer_add_up_exactly(faulty: Faulty) -> None:
    world = faulty.world
    await faulty.run_metering()
    await prepaid(world)
    channels = [await faulty.services.channel("metering") for _ in range(3)]
    ids = [f"event {number}" for number in range(40)]

    async def send(channel: grpc.aio.Channel, order: list[str]) -> None:
        sender = World(world.tenant_id, channel, channel, channel)
        for start in range(0, len(order), 8):
            events = [
                world.event("acme", event_id=event_id, tokens="0.1")
                for event_id in order[start : start + 8]
            ]
            await sender.ingest(*events)

    await asyncio.gather(
        *(send(c, o) for c, o in zip(channels, (ids, ids[::-1], ids), strict=True))
    )

    assert await world.quantity("acme", "tokens") == "4"
    assert await world.balances("acme") == {"USD": "6"}
    assert await world.verify() == 40


async def _balance(world: World, available: str) -> bool:
    return await world.balances("acme") == {"USD": available}


async def _none_left(faulty: Faulty) -> bool:
    return await faulty.count_batches() == 0
