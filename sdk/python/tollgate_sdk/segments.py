"""The files of a journal: records behind length and checksum, and the positions acknowledged.

A segment `<first position>.events` holds records one after another: four bytes of length, four of
CRC-32 over length and payload (little endian), the payload. A record's position is the segment's
first position plus its place. `<first position>.acks` holds runs of acknowledged positions: eight
bytes of first position, four of count, four of CRC-32 over both.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

RECORD_BYTES_MAX = 4 * 1024 * 1024  # no event is near it: a greater length is damage
EVENTS_SUFFIX = ".events"
ACKS_SUFFIX = ".acks"

_LENGTH = struct.Struct("<I")
_RECORD_HEAD = struct.Struct("<II")
_RUN = struct.Struct("<QI")
_RUN_BYTES = _RUN.size + 4


def frame(payload: bytes) -> bytes:
    """A record as it is written. The payload is never empty."""
    length = _LENGTH.pack(len(payload))
    # The checksum covers the length, so that a tail of zeros is no record.
    return length + _LENGTH.pack(zlib.crc32(payload, zlib.crc32(length))) + payload


def scan(content: bytes) -> tuple[list[bytes], int]:
    """The payloads of all whole records from the beginning, and where the last of them ends."""
    payloads: list[bytes] = []
    end = 0
    while end + _RECORD_HEAD.size <= len(content):
        length, checksum = _RECORD_HEAD.unpack_from(content, end)
        start = end + _RECORD_HEAD.size
        if not 0 < length <= RECORD_BYTES_MAX or start + length > len(content):
            break
        payload = content[start : start + length]
        if zlib.crc32(payload, zlib.crc32(content[end : end + _LENGTH.size])) != checksum:
            break
        payloads.append(payload)
        end = start + length
    return payloads, end


def frame_runs(positions: Iterable[int]) -> bytes:
    """Acknowledged positions as they are written, neighbours in one run."""
    written = bytearray()
    first = count = 0
    for position in sorted(positions):
        if count and position == first + count:
            count += 1
            continue
        if count:
            written += _frame_run(first, count)
        first, count = position, 1
    if count:
        written += _frame_run(first, count)
    return bytes(written)


def _frame_run(first: int, count: int) -> bytes:
    run = _RUN.pack(first, count)
    return run + _LENGTH.pack(zlib.crc32(run))


def scan_runs(content: bytes) -> tuple[set[int], int]:
    """All positions of whole runs from the beginning, and where the last of them ends."""
    positions: set[int] = set()
    end = 0
    while end + _RUN_BYTES <= len(content):
        written = content[end : end + _RUN.size]
        checksum = _LENGTH.unpack_from(content, end + _RUN.size)[0]
        if zlib.crc32(written) != checksum:
            break
        first, count = _RUN.unpack(written)
        positions.update(range(first, first + count))
        end += _RUN_BYTES
    return positions, end


class Segment:
    """One segment and what of it is not acknowledged yet. Written by one thread at a time."""

    def __init__(self, folder: Path, base: int, count: int = 0, size: int = 0) -> None:
        self.base = base
        self.count = count
        self.size = size
        self.unacknowledged = count
        self.events_path = folder / f"{base:020d}{EVENTS_SUFFIX}"
        self.acks_path = folder / f"{base:020d}{ACKS_SUFFIX}"
        self._events_file = -1
        self._acks_file = -1

    @property
    def end(self) -> int:
        """The position after its last record."""
        return self.base + self.count

    def create(self) -> None:
        """Make the file; the name must survive a crash before a record in it counts as durable."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._events_file = os.open(self.events_path, flags, 0o600)
        try:
            sync_folder(self.events_path.parent)
        except OSError:
            self.delete()
            raise

    def write(self, written: bytes, count: int) -> None:
        """Append framed records. Raises OSError; then `retreat` must follow."""
        write_all(self._events_file, written)
        self.size += len(written)
        self.count += count
        self.unacknowledged += count

    def retreat(self) -> None:
        """Cut off what a failed write may have left behind the last whole record."""
        os.ftruncate(self._events_file, self.size)

    def sync(self) -> None:
        """Return when all that was written is on disk. Raises OSError."""
        os.fsync(self._events_file)

    def acknowledge(self, positions: set[int]) -> None:
        """Record positions of this segment as acknowledged. Raises OSError."""
        self.unacknowledged -= len(positions)
        if self._acks_file < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._acks_file = os.open(self.acks_path, flags, 0o600)
        write_all(self._acks_file, frame_runs(positions))

    def seal(self) -> None:
        """No more records: a sealed segment is whole on disk before the next one begins."""
        if self._events_file >= 0:
            self.sync()
            os.close(self._events_file)
            self._events_file = -1

    def close(self) -> None:
        """Close its files; they stay."""
        for file in (self._events_file, self._acks_file):
            if file >= 0:
                os.close(file)
        self._events_file = self._acks_file = -1

    def delete(self) -> None:
        """Remove its files, acknowledgements last: what they are about must not be repeated."""
        self.close()
        self.events_path.unlink(missing_ok=True)
        self.acks_path.unlink(missing_ok=True)


def write_all(file: int, content: bytes) -> None:
    """Write every byte, however many the system takes at once."""
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def sync_folder(folder: Path) -> None:
    """Make new and removed names in a folder durable."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
