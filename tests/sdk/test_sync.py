"""The synchronous face: the same promises from many threads and without a loop of one's own."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.metering.world import ACCEPTED
from tests.sdk.conftest import Site, names
from tollgate.metering.v1 import gate_pb2
from tollgate_sdk import (
    BufferFull,
    Denied,
    GateAway,
    NotDelivered,
    ProducerClosed,
    make_amount,
    make_estimate,
    make_event,
    sync,
)
from tollgate_sdk.looping import LoopThread

T = TypeVar("T")
THREADS = 8
EACH = 100
CALL = make_estimate("call")
QUICK = sync.Limits(backoff_seconds_max=0.2)


async def aside(work: Callable[[], T]) -> T:
    """Run blocking code on a thread, while the services of this test run in the loop."""
    return await asyncio.to_thread(work)


async def test_eight_threads_send_and_each_finds_its_outcomes_in_order(
    site: Site, journal: Path
) -> None:
    for number in range(THREADS):
        await site.world.customer(f"thread-{number}", "prepaid", token="1000")

    def work() -> list[list[int]]:
        with (
            sync.Tollgate(site.endpoints, site.key) as tollgate,
            tollgate.producer(folder=journal) as producer,
            ThreadPoolExecutor(THREADS) as threads,
        ):

            def send(number: int) -> list[int]:
                sent = [producer.send(make_event("call", f"thread-{number}")) for _ in range(EACH)]
                outcomes = [delivery.outcome(timeout=30) for delivery in sent]
                assert {outcome.state for outcome in outcomes} == {ACCEPTED}
                assert all(delivery.done for delivery in sent)
                return [int(outcome.charges[0].available) for outcome in outcomes]

            return list(threads.map(send, range(THREADS)))

    expected = list(range(999, 999 - EACH, -1))
    assert await aside(work) == [expected] * THREADS
    assert await site.world.verify() == THREADS * EACH
    assert names(journal) == ["lock"]


async def test_the_gate_is_used_from_several_threads(site: Site, journal: Path) -> None:
    def work() -> None:
        with (
            sync.Tollgate(site.endpoints, site.key) as tollgate,
            tollgate.producer(folder=journal) as producer,
            ThreadPoolExecutor(THREADS) as threads,
        ):

            def use(number: int) -> None:
                through = producer if number % 2 else None
                with tollgate.authorized(
                    customer_id="acme", estimate=CALL, producer=through
                ) as usage:
                    if number != 3:
                        usage.report({"number": number})
                if through is None:
                    assert usage.outcome is not None
                    assert usage.outcome.state == ACCEPTED

            list(threads.map(use, range(THREADS)))
            producer.flush(timeout=30)
            with (
                pytest.raises(Denied) as denied,
                tollgate.authorized(
                    customer_id="acme", maximum=make_amount(2_000_000, "token"), name="call"
                ),
            ):
                raise AssertionError("must not run")
            assert denied.value.facts["available"] == "999993"

    await aside(work)
    assert await site.world.verify() == THREADS - 1
    assert await site.world.balances("acme") == {"token": "999993"}


async def test_what_raises_in_a_block_is_raised_and_gives_back(site: Site) -> None:
    def use(tollgate: sync.Tollgate) -> None:
        with tollgate.authorized(customer_id="acme", estimate=CALL) as usage:
            usage.report()
            raise ZeroDivisionError

    def work() -> str:
        with sync.Tollgate(site.endpoints, site.key) as tollgate:
            with pytest.raises(ZeroDivisionError):
                use(tollgate)
            request = gate_pb2.EstimateUsageRequest(customer_id="acme", estimate=CALL)
            answer = tollgate.call(tollgate.stubs.gate.EstimateUsage, request)
            return str(answer.prices[0].amount.value)

    assert await aside(work) == "1"
    assert await site.world.balances("acme") == {"token": "1000000"}


async def test_away_full_and_closed_are_told_to_threads_too(site: Site, journal: Path) -> None:
    await site.metering.stop()

    def work() -> None:
        with sync.Tollgate(site.endpoints, site.key) as tollgate:
            limits = sync.Limits(buffer_events=2, backoff_seconds_max=0.2)
            producer = tollgate.producer(folder=journal, limits=limits)
            first = producer.send(make_event("call", "acme"))
            producer.send(make_event("call", "acme"))
            with pytest.raises(BufferFull):
                producer.send(make_event("call", "acme"), when_full=sync.WhenFull.RAISE)
            with pytest.raises(TimeoutError):
                first.outcome(timeout=0.01)
            with pytest.raises(TimeoutError):
                producer.flush(timeout=0.01)
            with (
                pytest.raises(GateAway),
                tollgate.authorized(customer_id="acme", estimate=CALL, gate_seconds=0.2),
            ):
                raise AssertionError("must not run")
            assert (producer.unsettled, first.done) == (2, False)
            assert producer.close(drain_seconds=0) == 2
            with pytest.raises(NotDelivered):
                first.outcome()
            with pytest.raises(ProducerClosed):
                producer.send(make_event("call", "acme"))
        with pytest.raises(sync.LoopClosed):
            producer.send(make_event("call", "acme"))
        tollgate.close()  # a second time

    await aside(work)
    await site.metering.start()

    def resume() -> None:
        with sync.Tollgate(site.endpoints, site.key) as tollgate:
            tollgate.producer(folder=journal, limits=QUICK).flush(timeout=30)

    await aside(resume)
    assert await site.world.verify() == 2


@pytest.mark.parametrize("durable", [True, False])
async def test_a_program_that_forgets_to_close_still_delivers_at_its_end(
    site: Site, journal: Path, durable: bool
) -> None:
    program = Path(__file__).with_name("forgetting.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(program), site.metering.address, site.key,
        str(journal) if durable else "", "200",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    assert await site.world.verify() == 200


def test_a_loop_is_not_used_from_itself_nor_after_its_end() -> None:
    loop = LoopThread("test")

    async def nothing() -> None:
        await asyncio.Event().wait()

    async def nested() -> None:
        loop.run(nothing())

    with pytest.raises(sync.LoopClosed, match="its own loop"):
        loop.run(nested())
    with pytest.raises(TimeoutError):
        loop.run(nothing(), timeout=0.01)
    loop.close()
    loop.close()
    with pytest.raises(sync.LoopClosed):
        loop.run(nothing())
    assert "test" not in {thread.name for thread in threading.enumerate()}


def test_a_forked_child_is_told_to_connect_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = LoopThread("test")

    async def nothing() -> None:
        return None

    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(sync.LoopClosed, match="forked"):
        loop.run(nothing())
    monkeypatch.undo()
    loop.close()
