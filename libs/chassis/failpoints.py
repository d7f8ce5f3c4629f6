"""Named places where a test deployment crashes, hangs or fails on demand; elsewhere nothing.

    if failpoints.armed is not None:
        await failpoints.armed.reach("before_commit")

The setting `failpoints` names a file of lines "<name> <action>". A process that passes a place of
that name takes the line out and does what it says: `crash` ends the process as SIGKILL does,
`hang` goes on only when the file says "<name> resume", `error` raises. Without the setting `armed`
is None, and a place costs the look at one attribute. A program that listens beyond loopback refuses
the setting, so no chart and no compose file can switch it on.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CRASH, HANG, ERROR = "crash", "hang", "error"
RESUME = "resume"
POLL_SECONDS = 0.02  # how often one that hangs looks whether it may go on


class FailpointReached(Exception):
    """What `error` raises: a fault, as any exception that is no refusal."""


class Failpoints:
    """The places that a file arms, read whenever one is passed."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def reach(self, name: str) -> None:
        """Pass a place; each line of the file acts once."""
        action = self._take(name)
        if action == CRASH:
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == HANG:
            while RESUME not in self._actions(name):  # noqa: ASYNC110 - another process says so
                await asyncio.sleep(POLL_SECONDS)
            self._take(name)
        elif action == ERROR:
            raise FailpointReached(name)

    def _take(self, name: str) -> str | None:
        lines = self._lines()
        for line in lines:
            point, _, action = line.partition(" ")
            if point == name:
                lines.remove(line)
                self._file.write_text("".join(f"{left}\n" for left in lines))
                return action
        return None

    def _actions(self, name: str) -> list[str]:
        return [line.partition(" ")[2] for line in self._lines() if line.startswith(f"{name} ")]

    def _lines(self) -> list[str]:
        try:
            return self._file.read_text().splitlines()
        except FileNotFoundError:
            return []


armed: Failpoints | None = None


@contextmanager
def arming(file: str) -> Iterator[None]:
    """Arm this process for as long as the block, where a file is named."""
    global armed  # noqa: PLW0603 - places are everywhere, and no caller should have to carry them
    if not file:
        yield
        return
    armed = Failpoints(Path(file))
    try:
        yield
    finally:
        armed = None
