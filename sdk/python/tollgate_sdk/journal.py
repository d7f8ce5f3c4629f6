"""An append-only journal of events in a folder, so that a crash loses nothing that was taken.

Records get rising positions. What was acknowledged is recorded beside them; a segment goes when all
of it is. One producer has a folder at a time. Everything here blocks and belongs to one thread.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tollgate_sdk.errors import JournalBroken, JournalCorrupted, JournalLocked
from tollgate_sdk.segments import (
    ACKS_SUFFIX,
    EVENTS_SUFFIX,
    Segment,
    frame,
    scan,
    scan_runs,
    sync_folder,
    write_all,
)

SEGMENT_BYTES = 8 * 1024 * 1024  # small enough to go soon, large enough that folders stay short
REFUSED_NAME = "refused.jsonl"
_LOCK_NAME = "lock"

log = logging.getLogger("tollgate_sdk.journal")


class Record(NamedTuple):
    """One payload and the position it is acknowledged by."""

    position: int
    payload: bytes


class Journal:
    """The journal in one folder, which is made where it is missing.

    Opening raises JournalLocked where another producer has it and JournalCorrupted where something
    other than its end is damaged; a torn end is cut off and told in the log. `unacknowledged` is
    what earlier lives left behind, in the order in which it was appended. Needs POSIX file locks.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._broken: OSError | None = None
        self._active: Segment | None = None
        self._segments: list[Segment] = []
        self._next = 1
        self._lock = _lock(folder)
        try:
            self.unacknowledged = self._recover()
        except BaseException:
            os.close(self._lock)
            raise

    def append(self, payloads: Sequence[bytes], *, durable: bool) -> list[int]:
        """Append records and answer their positions; with `durable` they are on disk by then.

        Raises JournalBroken: then none of them will be found by a later life unless the disk
        failed while confirming, after which the journal takes nothing more in this life.
        """
        if self._broken is not None:
            raise JournalBroken(f"the journal failed before: {self._broken}") from self._broken
        try:
            segment = self._writable()
            self._write(segment, payloads)
            first, self._next = self._next, self._next + len(payloads)
            if durable:
                self._sync(segment.sync)
        except OSError as error:
            raise JournalBroken(f"{self.folder}: {error}") from error
        return list(range(first, self._next))

    def acknowledge(self, positions: Iterable[int]) -> None:
        """Record that these need never be sent again, and drop segments that are done.

        Not synced: an acknowledgement that a crash of the machine takes back costs one repetition.
        """
        by_segment: dict[int, set[int]] = {}
        bases = [segment.base for segment in self._segments]
        for position in positions:
            by_segment.setdefault(bisect_right(bases, position) - 1, set()).add(position)
        for index, of_segment in by_segment.items():
            try:
                self._segments[index].acknowledge(of_segment)
            except OSError as error:
                log.warning("acknowledgements are not recorded in %s: %s", self.folder, error)
        self._drop_finished()

    def keep_refused(self, lines: Sequence[str]) -> None:
        """Keep events that metering did not store, as JSON Lines for people to correct."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        file = os.open(self.folder / REFUSED_NAME, flags, 0o600)
        try:
            write_all(file, "".join(f"{line}\n" for line in lines).encode())
            os.fsync(file)
        finally:
            os.close(file)

    def close(self) -> None:
        """Let the folder go. What is not acknowledged stays in it."""
        if self._active is not None and self._broken is None:
            self._active.seal()
        self._active = None
        self._drop_finished()
        for segment in self._segments:
            segment.close()
        os.close(self._lock)

    def _writable(self) -> Segment:
        active = self._active
        if active is not None and active.size < self._segment_bytes:
            return active
        if active is not None:
            self._sync(active.seal)
            self._active = None
            self._drop_finished()
        segment = Segment(self.folder, self._next)
        segment.create()
        self._segments.append(segment)
        self._active = segment
        return segment

    def _write(self, segment: Segment, payloads: Sequence[bytes]) -> None:
        try:
            segment.write(b"".join(map(frame, payloads)), len(payloads))
        except OSError:
            try:
                segment.retreat()
            except OSError as error:
                self._broken = error
            raise

    def _sync(self, sync: Callable[[], None]) -> None:
        try:
            sync()
        except OSError as error:
            # What reached the disk cannot be known after a failed sync, nor by a second one.
            self._broken = error
            raise

    def _drop_finished(self) -> None:
        kept = []
        for segment in self._segments:
            if segment is self._active or segment.unacknowledged:
                kept.append(segment)
            else:
                segment.delete()
        self._segments = kept

    def _recover(self) -> list[Record]:
        bases = _bases(self.folder, EVENTS_SUFFIX)
        found: list[Record] = []
        for base in bases:
            segment, records = self._recover_segment(base, is_last=base == bases[-1])
            self._segments.append(segment)
            found.extend(records)
        for base in set(_bases(self.folder, ACKS_SUFFIX)) - set(bases):
            # A position once acknowledged is never given out again, or its event would be lost.
            self._next = max(self._next, base + 1)
            (self.folder / f"{base:020d}{ACKS_SUFFIX}").unlink()
        self._drop_finished()
        sync_folder(self.folder)
        return found

    def _recover_segment(self, base: int, *, is_last: bool) -> tuple[Segment, list[Record]]:
        segment = Segment(self.folder, base)
        content = segment.events_path.read_bytes()
        payloads, size = scan(content)
        if size < len(content):
            if not is_last:
                raise JournalCorrupted(segment.events_path, size)
            log.warning(
                "%s ends in %d bytes of a record that was never confirmed; they are cut off",
                segment.events_path, len(content) - size,
            )  # fmt: skip
            _cut(segment.events_path, size)
        acknowledged: set[int] = set()
        if segment.acks_path.exists():
            written = segment.acks_path.read_bytes()
            acknowledged, whole = scan_runs(written)
            if whole < len(written):
                _cut(segment.acks_path, whole)
        records = [
            Record(position, payload)
            for position, payload in enumerate(payloads, base)
            if position not in acknowledged
        ]
        segment.count, segment.size = len(payloads), size
        segment.unacknowledged = len(records)
        # An event may have been acknowledged while its record was still on the way to the disk.
        self._next = max(self._next, segment.end, max(acknowledged, default=0) + 1)
        return segment, records


def _bases(folder: Path, suffix: str) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob(f"*{suffix}") if path.stem.isdigit())


def _cut(path: Path, size: int) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(file, size)
        os.fsync(file)
    finally:
        os.close(file)


def _lock(folder: Path) -> int:
    import fcntl  # only POSIX has it, and only the journal needs it

    file = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise JournalLocked(folder) from None
    return file
