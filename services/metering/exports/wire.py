"""Rows of usage as the octets of a file, in parts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any, Protocol

from chassis.wire import parse_member
from kernel.errors import InvalidValue
from metering.exports.domain import Format
from tollgate.metering.v1 import usage_pb2

FORMATS = {
    usage_pb2.EXPORT_FORMAT_UNSPECIFIED: Format.CSV,
    usage_pb2.EXPORT_FORMAT_CSV: Format.CSV,
    usage_pb2.EXPORT_FORMAT_PARQUET: Format.PARQUET,
}
PART_OCTETS_MAX = 1024 * 1024  # a quarter of what a message may hold
ROW_GROUP_ROWS = 10_000  # held in memory until a group is whole
PRECISION, SCALE = 38, 18  # of a Parquet quantity: 20 digits before the point
ONE_ATOM = Decimal(1).scaleb(-SCALE)


class Encoder(Protocol):
    """Makes a file's octets from rows."""

    def add(self, rows: Sequence[usage_pb2.UsageRow]) -> bytes:
        """What is ready after these rows."""
        ...

    def finish(self) -> bytes:
        """The rest."""
        ...


def parse_format(request: usage_pb2.ExportUsageRequest) -> Format:
    """The form that is asked for."""
    return parse_member(request.format, FORMATS, "format")


def encoder_of(form: Format, group_by: Sequence[str]) -> Encoder:
    """A new file of a form, with a column for each dimension."""
    return _Csv(group_by) if form is Format.CSV else _Parquet(group_by)


def cut(content: bytes) -> Iterator[bytes]:
    """Octets in parts that fit into messages."""
    for start in range(0, len(content), PART_OCTETS_MAX):
        yield content[start : start + PART_OCTETS_MAX]


class _Csv:
    def __init__(self, group_by: Sequence[str]) -> None:
        self._group_by = list(group_by)
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)
        self._writer.writerow(
            [
                "customer_id",
                "meter",
                "window_start",
                "window_end",
                *(f"dimension.{name}" for name in self._group_by),
                "quantity",
                "events",
            ]
        )

    def add(self, rows: Sequence[usage_pb2.UsageRow]) -> bytes:
        for row in rows:
            self._writer.writerow(
                [
                    row.customer_id,
                    row.meter,
                    _instant(row.window.start_time).isoformat(),
                    _instant(row.window.end_time).isoformat(),
                    *(row.group.get(name, "") for name in self._group_by),
                    row.quantity,
                    row.events,
                ]
            )
        return self._take()

    def finish(self) -> bytes:
        return self._take()

    def _take(self) -> bytes:
        content = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        return content


class _Parquet:
    def __init__(self, group_by: Sequence[str]) -> None:
        # Arrow is large and few processes ever export: it is loaded when it is needed.
        import pyarrow
        import pyarrow.parquet

        self._group_by = list(group_by)
        instant = pyarrow.timestamp("us", tz="UTC")
        self._schema = pyarrow.schema(
            [
                ("customer_id", pyarrow.string()),
                ("meter", pyarrow.string()),
                ("window_start", instant),
                ("window_end", instant),
                *((f"dimension.{name}", pyarrow.string()) for name in self._group_by),
                ("quantity", pyarrow.decimal128(PRECISION, SCALE)),
                ("events", pyarrow.int64()),
            ]
        )
        self._arrow: Any = pyarrow
        self._file = io.BytesIO()
        self._rows: list[usage_pb2.UsageRow] = []
        self._writer = pyarrow.parquet.ParquetWriter(
            _Forgetful(self._file), self._schema, compression="zstd"
        )

    def add(self, rows: Sequence[usage_pb2.UsageRow]) -> bytes:
        self._rows.extend(rows)
        if len(self._rows) >= ROW_GROUP_ROWS:
            self._write()
        return self._take()

    def finish(self) -> bytes:
        if self._rows:
            self._write()
        self._writer.close()
        return self._take()

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        groups: list[list[object]] = [
            [row.group.get(name, "") for row in rows] for name in self._group_by
        ]
        columns: list[list[object]] = [
            [row.customer_id for row in rows],
            [row.meter for row in rows],
            [_instant(row.window.start_time) for row in rows],
            [_instant(row.window.end_time) for row in rows],
            *groups,
            [_decimal(row.quantity) for row in rows],
            [row.events for row in rows],
        ]
        arrays = [
            self._arrow.array(column, type=field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def _take(self) -> bytes:
        content = self._file.getvalue()
        self._file.seek(0)
        self._file.truncate()
        return content


class _Forgetful(io.RawIOBase):
    """A file that only grows: what was written is handed on and not kept."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        written = self._file.write(content)
        self._position += written
        return written

    def tell(self) -> int:
        return self._position


def _instant(stamp: Any) -> datetime:
    instant: datetime = stamp.ToDatetime(tzinfo=UTC)
    return instant


def _decimal(text: str) -> Decimal:
    with localcontext(prec=100):
        quantity = Decimal(text).quantize(ONE_ATOM, rounding=ROUND_HALF_UP)
    if quantity.adjusted() >= PRECISION - SCALE:
        raise InvalidValue(
            "format", f"a quantity of {text} does not fit a Parquet decimal; use CSV"
        )
    return quantity
