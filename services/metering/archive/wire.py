"""Archived events as Parquet, on a file system that a location names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

from chassis.wire import render_time
from kernel.errors import InvalidValue
from metering.archive.domain import ArchiveDamaged, ArchivedDay
from metering.archive.store import COLUMNS
from metering.events.domain.event import EventState
from tollgate.metering.v1 import archive_pb2, event_pb2

BLOCK_OCTETS = 1024 * 1024
ROWS_PER_READ = 1_000
STATES = {
    EventState.ACCEPTED.value: event_pb2.EVENT_STATE_ACCEPTED,
    EventState.REJECTED.value: event_pb2.EVENT_STATE_REJECTED,
    EventState.SUPERSEDED.value: event_pb2.EVENT_STATE_DEPRECATED,
}


def parse_day(text: str) -> date:
    """A day such as 2026-03-01."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidValue("day", f"{text[:20]!r} is not a day such as 2026-03-01") from None


class Files:
    """The archive's files. All of it blocks: call it in a thread.

    The location is a folder, or a URI of pyarrow's file systems: s3://bucket/prefix, gs://…
    """

    def __init__(self, location: str) -> None:
        from pyarrow import fs

        if "://" in location:
            self._files, root = fs.FileSystem.from_uri(location)
        else:
            self._files, root = fs.LocalFileSystem(), str(Path(location).absolute())
        self._root = root.rstrip("/")

    def write(self, path: str) -> DayWriter:
        """Begin a file."""
        place = f"{self._root}/{path}"
        self._files.create_dir(place.rpartition("/")[0], recursive=True)
        return DayWriter(self._files.open_output_stream(place))

    def write_manifest(self, archived: ArchivedDay) -> None:
        """Put the manifest beside the file."""
        folder = archived.path.rpartition("/")[0]
        with self._files.open_output_stream(f"{self._root}/{folder}/manifest.json") as stream:
            stream.write(archived.manifest().encode())

    def check(self, archived: ArchivedDay) -> None:
        """Compare size and checksum of a file, then the number of rows in it. Raises
        ArchiveDamaged."""
        import pyarrow.parquet

        digest, octets = hashlib.sha256(), 0
        place = f"{self._root}/{archived.path}"
        try:
            with self._files.open_input_stream(place) as stream:
                while block := stream.read(BLOCK_OCTETS):
                    digest.update(block)
                    octets += len(block)
        except FileNotFoundError:
            raise ArchiveDamaged(archived.path, "the file is gone") from None
        if octets != archived.octets:
            raise ArchiveDamaged(archived.path, f"{octets} octets; {archived.octets} were written")
        if digest.digest() != archived.sha256:
            raise ArchiveDamaged(archived.path, "the checksum is another")
        with self._files.open_input_file(place) as file:
            rows = pyarrow.parquet.ParquetFile(file).metadata.num_rows
        if rows != archived.event_count:
            raise ArchiveDamaged(archived.path, f"{rows} rows; {archived.event_count} were written")

    def read(self, archived: ArchivedDay) -> Iterator[list[dict[str, Any]]]:
        """The rows of a file, some at a time."""
        import pyarrow.parquet

        with self._files.open_input_file(f"{self._root}/{archived.path}") as file:
            parquet = pyarrow.parquet.ParquetFile(file)
            for batch in parquet.iter_batches(batch_size=ROWS_PER_READ):
                yield batch.to_pylist()


# What files of before these columns existed are read with.
LATER_COLUMNS = {"node": "", "continues": False}


class DayWriter:
    """Writes one file, a group of rows at a time, and knows its checksum."""

    def __init__(self, stream: Any) -> None:
        import pyarrow
        import pyarrow.parquet

        instant = pyarrow.timestamp("us", tz="UTC")
        types: dict[str, Any] = dict.fromkeys(COLUMNS, pyarrow.string())
        types |= {"event_time": instant, "receive_time": instant, "sequence": pyarrow.int64()}
        types |= {"meter_version": pyarrow.int32(), "state": pyarrow.int16()}
        types["continues"] = pyarrow.bool_()
        self.rows = 0
        self._arrow: Any = pyarrow
        self._schema = pyarrow.schema([(name, types[name]) for name in COLUMNS])
        self._stream = _Digesting(stream)
        self._writer = pyarrow.parquet.ParquetWriter(self._stream, self._schema, compression="zstd")

    def __enter__(self) -> DayWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
        self._stream.end()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """One group of rows."""
        arrays = []
        for field in self._schema:
            column = [row[field.name] for row in rows]
            if field.name in ("receipt_id", "authorization_id"):
                column = [None if value is None else str(value) for value in column]
            arrays.append(self._arrow.array(column, type=field.type))
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self.rows += len(rows)

    @property
    def octets(self) -> int:
        return self._stream.octets

    @property
    def sha256(self) -> bytes:
        return self._stream.digest.digest()


class _Digesting:
    """A stream that is summed up as it is written, so that what arrives can be compared."""

    def __init__(self, stream: Any) -> None:
        self.digest = hashlib.sha256()
        self.octets = 0
        self.closed = False
        self._stream = stream

    def write(self, content: Any) -> int:
        octets = bytes(content)
        self.digest.update(octets)
        self.octets += len(octets)
        self._stream.write(octets)
        return len(octets)

    def tell(self) -> int:
        return self.octets

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.closed = True

    def end(self) -> None:
        self._stream.close()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Rows of a file as the columns that the database takes."""
    columns = [[row.get(name, LATER_COLUMNS.get(name)) for row in rows] for name in COLUMNS]
    for place, name in enumerate(COLUMNS):
        if name in ("receipt_id", "authorization_id"):
            columns[place] = [None if text is None else UUID(text) for text in columns[place]]
    return columns


def render_day(archived: ArchivedDay) -> archive_pb2.ArchivedDay:
    """An archived day."""
    return archive_pb2.ArchivedDay(
        day=archived.day.isoformat(),
        path=archived.path,
        events=archived.event_count,
        octets=archived.octets,
        sha256=archived.sha256.hex(),
        create_time=render_time(archived.create_time),
        restored_until=archived.keep_until.isoformat() if archived.keep_until else "",
    )


def render_archived(
    row: Mapping[str, Any], properties: dict[str, str]
) -> archive_pb2.ArchivedEvent:
    """An event from a row of a file."""
    return archive_pb2.ArchivedEvent(
        event=event_pb2.Event(
            event_id=row["event_id"],
            name=row["name"],
            customer_id=row["customer_id"],
            subject=row["subject"],
            event_time=render_time(row["event_time"]),
            properties=properties,
            authorization_id=row["authorization_id"] or "",
            node=row.get("node", ""),
            authorization_continues=row.get("continues", False),
        ),
        receive_time=render_time(row["receive_time"]),
        state=STATES[row["state"]],
        lines=row["lines"],
    )
