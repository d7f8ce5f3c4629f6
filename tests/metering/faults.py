"""A line to a service that can go silent, and metering as a process that can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

from chassis.settings import split_address
from tests.support.databases import FreshDatabase
from tests.support.services import SERVICE_SECRET

ROOT = Path(__file__).resolve().parents[2]


class Mode(Enum):
    """What the line does with what is sent over it."""

    OPEN = "passes everything on"
    DEAF = "loses every request"
    MUTE = "loses every answer"
    CUT = "closes connections and takes no new ones"


class Line:
    """A TCP line to an address, for one test: `async with Line(address) as line`."""

    def __init__(self, address: str) -> None:
        self._target = split_address(address)
        self._mode = Mode.OPEN
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, mode: Mode) -> None:
        """From now on."""
        self._mode = mode
        if mode is Mode.CUT:
            for writer in list(self._writers):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is Mode.CUT:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, far_writer}
        forth = asyncio.create_task(self._pass(reader, far_writer, Mode.DEAF))
        back = asyncio.create_task(self._pass(far_reader, writer, Mode.MUTE))
        try:
            await asyncio.wait([forth, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in (forth, back):
                part.cancel()
            await asyncio.gather(forth, back, return_exceptions=True)
            for end in (writer, far_writer):
                end.transport.abort()
                self._writers.discard(end)
            self._tasks.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lossy: Mode
    ) -> None:
        try:
            while part := await reader.read(65_536):
                if self._mode is not lossy:
                    writer.write(part)
                    await writer.drain()
        except OSError:
            return


class MeteringProcess:
    """Metering as a program of its own."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self.address = address

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def metering_process(
    database: FreshDatabase, redis_url: str, peers: dict[str, str], **settings: str
) -> AsyncIterator[MeteringProcess]:
    """Run `python -m metering run` while in the block."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")},
        "TOLLGATE_DATABASE_URL": database.dsn("metering"),
        "TOLLGATE_REDIS_URL": redis_url,
        "TOLLGATE_PEERS": ",".join(f"{name}={address}" for name, address in peers.items()),
        "TOLLGATE_SERVICE_SECRET": SERVICE_SECRET,
        **{f"TOLLGATE_{name.upper()}": value for name, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "metering",
        "run",
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    address = ""
    while not address:
        line = await process.stdout.readline()
        assert line, "metering ended before it listened"
        said = json.loads(line) if line.startswith(b"{") else {}
        address = said.get("listening", "")
    drained = asyncio.create_task(process.stdout.read())
    running = MeteringProcess(process, address)
    try:
        yield running
    finally:
        await running.kill()
        await drained
