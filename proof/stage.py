"""Where the proof is played: a Postgres and a Redis of its own, databases, service processes."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chassis.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.support.databases import Databases, FreshDatabase
from tests.support.services import PEPPER, SERVICE_SECRET
from tollgate_cli.children import child_environment
from tollgate_cli.supervisor import serves_at

HOST = "127.0.0.1"
START_SECONDS_MAX = 240.0  # a machine may be busy; a service that hangs is told all the same
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.02


@dataclass
class Stage:
    """Servers of one run, in a folder of its own."""

    folder: Path
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    databases: Databases

    async def database(self, *services: str) -> FreshDatabase:
        """A clean database with these services' schemas."""
        return await self.databases.fresh(services, {})


@asynccontextmanager
async def open_stage(folder: Path) -> AsyncIterator[Stage]:
    """Start both servers, and stop them at the end."""
    postgres, redis = EmbeddedPostgres(folder / "postgres"), EmbeddedRedis(folder / "redis")
    try:
        dsn = await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(redis.start)
        yield Stage(folder, postgres, redis, Databases(dsn))
    finally:
        await asyncio.to_thread(redis.stop)
        await asyncio.to_thread(postgres.stop)


class ProgramFailed(Exception):
    """A service did not start; the message is where its log lies and what it says last."""


class Program:
    """A service as a process, killed and started again at will, always on the same port."""

    def __init__(
        self,
        service: str,
        number: int,
        folder: Path,
        port: int,
        settings: Mapping[str, str],
        command: str = "serve",
    ) -> None:
        self.name = f"{service}-{number}"
        self.address = f"{HOST}:{port}"
        self.starts = 0
        self._command = [sys.executable, "-m", service, command, "--child", "0"]
        self._log = folder / f"{self.name}.log"
        self._environment = child_environment(
            TOLLGATE_LISTEN=self.address,
            TOLLGATE_SERVICE_SECRET=SERVICE_SECRET,
            TOLLGATE_DRAIN_SECONDS="2",
            **settings,
        )
        self._process: asyncio.subprocess.Process | None = None
        self._drained: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it and wait until it serves. Raises ProgramFailed."""
        await self.launch()
        await self.until_serving()

    async def launch(self) -> None:
        """Start it and wait until it listens."""
        assert not self.running, f"{self.name} runs already"
        self.starts += 1
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        heard = asyncio.Event()
        self._drained = asyncio.create_task(self._drain(self._process, heard))
        await asyncio.wait_for(heard.wait(), START_SECONDS_MAX)
        if not self.running:
            raise ProgramFailed(f"{self.name} ended: {self.last_words()}")

    async def until_serving(self, seconds_max: float = START_SECONDS_MAX) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds_max
        while not await serves_at(self.address):
            if loop.time() > deadline or not self.running:
                raise ProgramFailed(f"{self.name} does not serve: {self.last_words()}")
            await asyncio.sleep(POLL_SECONDS)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> None:
        """Wait until it has ended, by whatever cause."""
        if self._process is not None:
            await self._process.wait()
        if self._drained is not None:
            await self._drained

    def signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self) -> None:
        """Let it end by itself, and end it where it does not."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.ended(), STOP_SECONDS_MAX)
        except TimeoutError:
            await self.kill()

    async def _drain(self, process: asyncio.subprocess.Process, heard: asyncio.Event) -> None:
        assert process.stdout is not None
        with self._log.open("ab") as log:
            while line := await process.stdout.readline():
                if line.startswith(b'{"listening"') and json.loads(line)["listening"]:
                    heard.set()
                log.write(line)
        heard.set()

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"{lines[-1][:300]} ({self._log})" if lines else str(self._log)

    def log_text(self) -> str:
        return self._log.read_text(errors="replace")


@contextmanager
def held_port() -> Iterator[int]:
    """A port that stays ours while the program on it is dead."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((HOST, 0))
        yield held.getsockname()[1]


class Programs:
    """Makes programs, and ends all of them with the block."""

    def __init__(self, stage: Stage, stack: AsyncExitStack) -> None:
        self._stage = stage
        self._stack = stack
        self.made: list[Program] = []

    def reserve(self) -> int:
        """A port for a program that others must know before it is made."""
        return self._stack.enter_context(held_port())

    def make(
        self,
        service: str,
        database_url: str,
        *,
        command: str = "serve",
        peers: Mapping[str, str] | None = None,
        port: int = 0,
        **settings: str,
    ) -> Program:
        """A program that is not started yet, on a reserved port or a new one; further settings by
        name."""
        chosen = {
            "TOLLGATE_DATABASE_URL": database_url,
            "TOLLGATE_REDIS_URL": self._stage.redis.url,
            "TOLLGATE_PEERS": ",".join(f"{name}={at}" for name, at in (peers or {}).items()),
            **{f"TOLLGATE_{name.upper()}": value for name, value in settings.items()},
        }
        if service == "identity":
            chosen["TOLLGATE_API_KEY_PEPPER"] = PEPPER
        port = port or self.reserve()
        number = len(self.made) + 1
        program = Program(service, number, self._stage.folder, port, chosen, command)
        self.made.append(program)
        self._stack.push_async_callback(program.stop)
        return program


@asynccontextmanager
async def programs(stage: Stage) -> AsyncIterator[Programs]:
    """Programs that end with the block."""
    async with AsyncExitStack() as stack:
        yield Programs(stage, stack)
