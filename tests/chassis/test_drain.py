"""The end of a process: nothing that was answered is lost, nothing fails without a way on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import grpc
import pytest

from tests.chassis.conftest import Echo
from tests.conftest import MakeDatabase
from tests.support.databases import FreshDatabase
from tests.support.echo import EchoStub, text
from tests.support.probe import probe_database
from tests.support.refusals import refuses
from tests.support.services import SERVICE_SECRET, credential
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
TENANT = UUID(int=1)
OPERATOR = credential(TENANT)
RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED}


class Program:
    """`python -m tests.support.echo serve`, as an orchestrator runs it."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address

    async def end(self) -> int:
        async with asyncio.timeout(30):
            return await self.process.wait()


async def start(database: FreshDatabase, *arguments: str, **settings: str) -> Program:
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("TOLLGATE_")},
        "PYTHONPATH": str(ROOT),
        "TOLLGATE_DATABASE_URL": database.dsn("probe"),
        "TOLLGATE_SERVICE_SECRET": SERVICE_SECRET,
        "TOLLGATE_DRAIN_SECONDS": "5",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.echo", *arguments,
        cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        # Nothing on standard output: it ended, and says why on the other one.
        address = json.loads(line)["listening"] if line else ""
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return Program(process, address)


@pytest.fixture
async def program(fresh_database: MakeDatabase) -> AsyncIterator[tuple[Program, FreshDatabase]]:
    database = await probe_database(fresh_database)
    started = await start(database, "serve")
    yield started, database
    if started.process.returncode is None:
        started.process.kill()
        await started.process.wait()


async def test_sigterm_under_load_loses_no_acknowledged_write(
    program: tuple[Program, FreshDatabase],
) -> None:
    running, database = program
    acknowledged: set[str] = set()
    failed: list[grpc.StatusCode] = []
    stopped = asyncio.Event()

    async def load(worker: int, stub: EchoStub) -> None:
        for number in range(100_000):
            note = f"{worker}/{number}"
            try:
                await stub.Note(text(note), metadata=OPERATOR, timeout=5)
            except grpc.aio.AioRpcError as error:
                failed.append(error.code())
                if stopped.is_set():
                    return
            else:
                acknowledged.add(note)

    async with grpc.aio.insecure_channel(running.address) as channel:
        stub = EchoStub(channel)
        workers = [asyncio.create_task(load(worker, stub)) for worker in range(16)]
        await until(lambda: len(acknowledged) > 200, what="the load")
        running.process.send_signal(signal.SIGTERM)
        stopped.set()
        await asyncio.gather(*workers)
    assert await running.end() == 0
    assert set(failed) <= RETRYABLE
    async with database.open("probe") as pool, pool.transaction(TENANT) as tx:
        written = {row["note_id"] for row in await tx.fetch("SELECT note_id FROM note")}
    assert acknowledged <= written


async def test_a_call_under_way_is_answered_although_the_process_is_stopping(
    echo: Echo,
) -> None:
    call = asyncio.ensure_future(echo.stub.Echo(text("hold"), metadata=OPERATOR, timeout=10))
    await echo.servicer.entered.wait()
    drain = asyncio.create_task(_drain(echo))
    await until(lambda: not echo.running.health.serving, what="readiness off")
    echo.servicer.released.set()
    assert (await call).value == "hold"
    await drain
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await echo.stub.Echo(text("hi"), metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_answers_what_it_has_read_and_then_says_where_to_go(echo: Echo) -> None:
    chat = echo.stub.Chat(metadata=OPERATOR)
    await chat.write(text("one"))
    assert (await chat.read()).value == "one"
    await chat.write(text("two"))
    assert (await chat.read()).value == "two"
    drain = asyncio.create_task(_drain(echo))
    with refuses("DRAINING", grpc.StatusCode.UNAVAILABLE):
        while await chat.read() is not grpc.aio.EOF:
            pass
    await drain


async def test_a_stream_of_answers_is_cut_between_two_of_them(echo: Echo) -> None:
    count = echo.stub.Count(text("2"), metadata=OPERATOR)
    assert (await count.read()).value == "0"
    assert (await count.read()).value == "1"
    await echo.servicer.entered.wait()
    drain = asyncio.create_task(_drain(echo))
    with refuses("DRAINING", grpc.StatusCode.UNAVAILABLE):
        await count.read()
    await drain


async def _drain(echo: Echo) -> None:
    assert echo.running.server is not None
    await echo.running.server.drain(5)


async def test_several_processes_share_one_port_and_end_together(
    fresh_database: MakeDatabase,
) -> None:
    database = await probe_database(fresh_database)
    started = await start(database, "serve", "--processes", "2")
    try:
        async with grpc.aio.insecure_channel(started.address) as channel:
            answer = await EchoStub(channel).Echo(text("hi"), metadata=OPERATOR)
        assert answer.value == "hi"
        second = await start(database, "serve", TOLLGATE_LISTEN=started.address)
        assert await second.end() == 1
    finally:
        started.process.send_signal(signal.SIGTERM)
        assert await started.end() == 0


async def test_a_port_in_use_is_one_clear_sentence(
    program: tuple[Program, FreshDatabase],
) -> None:
    running, database = program
    second = await start(database, "serve", TOLLGATE_LISTEN=running.address)
    assert await second.end() == 1
    assert second.process.stderr is not None
    said = (await second.process.stderr.read()).decode()
    assert said.count("\n") == 1
    assert f"cannot listen on {running.address}" in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"TOLLGATE_LANES": "many"}, "TOLLGATE_LANES"),
        ({"TOLLGATE_COLOUR": "red"}, "TOLLGATE_COLOUR is not a setting"),
        ({"TOLLGATE_LISTEN": "0.0.0.0:0"}, "beyond loopback"),
        ({"TOLLGATE_SERVICE_SECRET": "short"}, "at least 32 bytes"),
        ({"TOLLGATE_PEERS": "wallet"}, "wallet=127.0.0.1:7102"),
    ],
)
async def test_a_wrong_setting_stops_the_program_with_a_sentence(
    fresh_database: MakeDatabase, settings: dict[str, str], words: str
) -> None:
    database = await probe_database(fresh_database)
    started = await start(database, "serve", **settings)
    assert await started.end() == 2
    assert started.process.stderr is not None
    said = (await started.process.stderr.read()).decode()
    assert words in said
    assert "Traceback" not in said
    assert "short" not in said


async def test_a_database_that_is_away_makes_it_not_serving_and_not_crash(
    fresh_database: MakeDatabase,
) -> None:
    database = await probe_database(fresh_database)
    started = await start(
        database, "serve", TOLLGATE_DATABASE_URL="postgresql://probe_app@127.0.0.1:9/x"
    )
    try:
        async with grpc.aio.insecure_channel(started.address) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert await check(b"") == b"\x08\x02"
            assert await check(b"\x0a\x04live") == b"\x08\x01"
            with refuses("DATABASE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE):
                await EchoStub(channel).Note(text("x"), metadata=OPERATOR)
    finally:
        started.process.send_signal(signal.SIGTERM)
        assert await started.end() == 0
