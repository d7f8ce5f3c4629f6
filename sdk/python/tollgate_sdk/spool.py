"""A journal on a thread of its own: many appends share one write and one sync."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tollgate_sdk.errors import JournalBroken
from tollgate_sdk.journal import Journal, Record

GROUP_MAX = 2_000  # appends in one write: about a megabyte, a few milliseconds of disk

Stored = Callable[["int | JournalBroken"], None]

log = logging.getLogger("tollgate_sdk.journal")


class _Append(NamedTuple):
    payload: bytes
    stored: Stored


class _Acknowledge(NamedTuple):
    positions: Sequence[int]
    refused: Sequence[str]  # lines to keep before the positions are forgotten


_Work = _Append | _Acknowledge | None


class Spool:
    """Appends and acknowledgements of one journal, in the order in which they are asked for.

    A plain thread rather than an executor: executors take no work while the interpreter exits,
    which is when a forgotten producer drains.
    """

    def __init__(self, journal: Journal, *, durable: bool) -> None:
        self._journal = journal
        self._durable = durable
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tollgate-journal", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, folder: Path, *, durable: bool) -> tuple[Spool, list[Record]]:
        """Open the journal of a folder and answer what earlier lives left in it."""
        journal = await asyncio.to_thread(Journal, folder)
        left, journal.unacknowledged = journal.unacknowledged, []
        return cls(journal, durable=durable), left

    def append(self, payload: bytes, stored: Stored) -> None:
        """Append a record; `stored` is called in the loop with its position or with what failed."""
        self._work.put(_Append(payload, stored))

    def acknowledge(self, positions: Sequence[int], refused: Sequence[str] = ()) -> None:
        """Record positions as acknowledged, after keeping the lines of refused events."""
        self._work.put(_Acknowledge(positions, refused))

    async def close(self) -> None:
        """Finish what was asked for and let the folder go."""
        self._work.put(None)
        await asyncio.shield(self._closed)

    def _run(self) -> None:
        ending = False
        while not ending:
            group = self._next_group()
            ending = group[-1] is None
            appends = [work for work in group if isinstance(work, _Append)]
            if appends:
                self._append(appends)
            self._acknowledge([work for work in group if isinstance(work, _Acknowledge)])
        try:
            self._journal.close()
        except OSError as error:
            log.warning("%s is not closed cleanly: %s", self._journal.folder, error)
        self._tell(self._closed.set_result, None)

    def _next_group(self) -> list[_Work]:
        group: list[_Work] = [self._work.get()]
        while group[-1] is not None and len(group) < GROUP_MAX:
            try:
                group.append(self._work.get_nowait())
            except queue.Empty:
                break
        return group

    def _append(self, appends: Sequence[_Append]) -> None:
        payloads = [append.payload for append in appends]
        try:
            positions: Sequence[int | JournalBroken] = self._journal.append(
                payloads, durable=self._durable
            )
        except JournalBroken as broken:
            positions = [broken] * len(appends)
        self._tell(_report, list(zip(appends, positions, strict=True)))

    def _acknowledge(self, works: Sequence[_Acknowledge]) -> None:
        positions: list[int] = []
        for work in works:
            if work.refused:
                try:
                    self._journal.keep_refused(work.refused)
                except OSError as error:
                    # Not acknowledged, so they are refused again, and kept, in the next life.
                    log.warning(
                        "refused events are not kept in %s: %s", self._journal.folder, error
                    )
                    continue
            positions.extend(work.positions)
        if positions:
            self._journal.acknowledge(positions)

    def _tell(self, called: Callable[..., object], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(called, *arguments)
        except RuntimeError:
            # The loop ended without closing the producer; the journal keeps what was stored.
            log.warning("the loop of the producer of %s is closed", self._journal.folder)


def _report(stored: Sequence[tuple[_Append, int | JournalBroken]]) -> None:
    for append, position in stored:
        append.stored(position)
