"""One child process: started, heard, started again when it dies, stopped in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

START_SECONDS_MAX = 60.0
PAUSE_SECONDS = 0.2  # before a child that died is started again, doubled each time
PAUSE_SECONDS_MAX = 30.0
STEADY_SECONDS = 30.0  # after running this long, the next death is a first one again
STOP_SECONDS_MAX = 30.0  # longer than a service takes to drain
LAST_WORDS_LENGTH_MAX = 400


class ChildFailed(Exception):
    """A child ended before it was ready; the message is what it said last."""


class Child:
    """A program that is kept running. Its output goes to `log`; its first line is JSON.

    `is_serving` says whether the child, which announced `announcement`, answers as it should.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        is_serving: Callable[[Child], Awaitable[bool]],
    ) -> None:
        self.name = name
        self.restarts = 0
        self.announcement: dict[str, Any] = {}
        self._command = command
        self._environment = environment
        self._log = log
        self._is_serving = is_serving
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = 0
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while the child is dead."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the child and keep it running from now on. Raises ChildFailed, FileNotFoundError
        and other errors of the system."""
        await self._spawn()
        if not self.announcement:
            code = await self._ended()
            raise ChildFailed(self._last_words() or f"{self.name} ended with code {code}")
        self._keeping = asyncio.create_task(self._keep_running(), name=f"keep {self.name}")

    async def wait_until_serving(self, seconds_max: float = START_SECONDS_MAX) -> None:
        """Wait until the child serves; raises ChildFailed where it does not in time."""
        deadline = time.monotonic() + seconds_max
        while not (self.pid is not None and self.announcement and await self._is_serving(self)):
            if time.monotonic() > deadline:
                words = self._last_words() or "it says nothing"
                raise ChildFailed(f"{self.name} does not serve after {seconds_max:.0f} s: {words}")
            await asyncio.sleep(0.05)

    async def is_serving(self) -> bool:
        return self.pid is not None and bool(self.announcement) and await self._is_serving(self)

    def send_signal(self, number: int) -> None:
        """Send a signal to the child as it now is; nothing where it is dead."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL. It is started again like one that died by itself."""
        self.send_signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Let the child end by itself, and end it where it does not."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self._process is None or self._process.returncode is not None:
            return
        # One that was stopped by a signal would not hear.
        self.send_signal(signal.SIGCONT)
        self.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._ended(), STOP_SECONDS_MAX)
        except TimeoutError:
            self.kill()
            await self._ended()

    async def _keep_running(self) -> None:
        pause = PAUSE_SECONDS
        while True:
            started = time.monotonic()
            await self._ended()
            if time.monotonic() - started > STEADY_SECONDS:
                pause = PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)
            self.restarts += 1
            try:
                await self._spawn()
            except OSError as error:  # no memory, no file handles, no disk: they may come back
                self._note(f"{self.name} could not be started: {error}")

    async def _spawn(self) -> None:
        """Start the process and read its announcement, which stays empty where it dies first."""
        self.announcement = {}
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=dict(self._environment),
                start_new_session=True,  # Ctrl-C is the supervisor's to hear
            )
        heard = asyncio.get_running_loop().create_future()
        self._drained = asyncio.create_task(self._drain(self._process, heard))
        await asyncio.wait([heard], timeout=START_SECONDS_MAX)

    async def _drain(
        self, process: asyncio.subprocess.Process, heard: asyncio.Future[None]
    ) -> None:
        """Keep what the child prints; the line that is JSON is its announcement."""
        assert process.stdout is not None
        with self._log.open("ab") as log:
            while line := await process.stdout.readline():
                log.write(line)
                log.flush()
                if not self.announcement and line.startswith(b'{"listening"'):
                    self.announcement = json.loads(line)
                    heard.set_result(None)
        if not heard.done():
            heard.set_result(None)  # it ended without a word

    async def _ended(self) -> int:
        assert self._process is not None
        code = await self._process.wait()
        await self._drained
        return code

    def _note(self, sentence: str) -> None:
        with suppress(OSError), self._log.open("a") as log:
            log.write(f"{sentence}\n")

    def _last_words(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return lines[-1][:LAST_WORDS_LENGTH_MAX] if lines else ""


def child_environment(**settings: str) -> dict[str, str]:
    """This process's environment without Tollgate's own settings, with a child's in their place."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")
    }
    return {**inherited, "PYTHONUNBUFFERED": "1", **settings}
