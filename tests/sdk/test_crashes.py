"""A producing process that is killed: what `send` took is charged once, now or in its next life."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.metering.world import ACCEPTED, INVALID
from tests.sdk.conftest import Site, names
from tests.sdk.producing import produce
from tollgate.metering.v1 import event_pb2
from tollgate_sdk import Limits, make_event

PROGRAM = Path(__file__).with_name("producing.py")
COUNT = 2_000


async def start(site: Site, folder: Path, count: int = COUNT) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), site.metering.address, site.key, str(folder), str(count),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def killed_after(process: asyncio.subprocess.Process, lines: int) -> set[str]:
    """Kill it with SIGKILL once it told so many events; answers all that it told."""
    assert process.stdout is not None
    told = {(await process.stdout.readline()).decode().strip() for _ in range(lines)}
    process.kill()
    told |= set((await process.stdout.read()).decode().split())
    await process.wait()
    return told - {"", "drained"}


async def stored(site: Site, told: set[str]) -> int:
    """How many of the program's events metering has; every one that was told must be there."""
    events = await all_events(site)
    assert told <= set(events), "an event that send took is missing"
    assert len(events) == len(set(events)), "an event is charged twice"
    return len(events)


async def all_events(site: Site) -> list[str]:
    charges = await site.world.charges()
    assert {charge.state for charge in charges} == {ACCEPTED}
    assert len({charge.charge_id for charge in charges}) == len(charges)
    return [charge.event_id for charge in charges]


@pytest.mark.parametrize("lines", [1, 90, 700])
async def test_events_of_a_killed_process_are_charged_once_by_the_next(
    site: Site, journal: Path, lines: int
) -> None:
    told = await killed_after(await start(site, journal), lines)
    assert lines <= len(told) < COUNT, "killed while it was at it"

    async with site.tollgate.producer(folder=journal) as producer:
        await producer.flush()

    count = await stored(site, told)
    assert len(told) <= count <= len(told) + 8, "beyond those told, one per sender may be stored"
    assert await site.world.verify() == count
    assert await spent(site) == count
    assert names(journal) == ["lock"]


async def test_a_process_killed_twice_while_the_service_was_away_loses_nothing(
    site: Site, journal: Path
) -> None:
    await site.metering.stop()
    first = await killed_after(await start(site, journal, 300), 40)
    second = await killed_after(await start(site, journal, 300), 60)
    await site.metering.start()
    # The third life sends all of it again under the same ids, and lives to the end.
    await produce(site.metering.address, site.key, str(journal), 300)

    events = await all_events(site)
    assert first | second <= set(events)
    assert len(events) == len(set(events)) == await spent(site)
    # Times differ from life to life: of one id the first that arrived stands, the others conflict.
    assert await site.world.verify() == 300


async def test_events_of_one_customer_keep_their_order_from_one_life_to_the_next(
    site: Site, journal: Path
) -> None:
    await site.metering.stop()
    limits = Limits(batch_events=4, backoff_seconds_max=0.2)
    first = site.tollgate.producer(folder=journal, limits=limits)
    await first.open()
    sent = [(await first.send(make_event("call", "acme"))).event_id for _ in range(10)]
    assert await first.close(drain_seconds=0) == 10
    told: list[event_pb2.EventOutcome] = []
    second = site.tollgate.producer(
        folder=journal, limits=limits, on_outcome=lambda _, outcome: told.append(outcome)
    )
    async with second:
        sent += [(await second.send(make_event("call", "acme"))).event_id for _ in range(10)]
        await site.metering.start()
        await second.flush()
    assert [outcome.event_id for outcome in told] == sent
    assert INVALID not in {outcome.state for outcome in told}
    available = [int(outcome.charges[0].available) for outcome in told]
    assert available == list(range(999_999, 999_979, -1))


async def spent(site: Site) -> int:
    left = [await site.world.balances(customer) for customer in ("acme", "other")]
    return 2_000_000 - sum(int(balances["token"]) for balances in left)
