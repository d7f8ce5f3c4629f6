"""Reads a usage file into events, all of it checked before the first one is fed."""

from __future__ import annotations

import csv
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from kernel.cloud_events import map_event, read_events
from kernel.errors import InvalidValue
from kernel.money import parse_decimal
from tollgate.metering.v1 import event_pb2 as events
from tollgate_cli.replay.mapping import CLOUD_EVENTS, Source, UsageMapping
from tollgate_cli.tenancy import render_time

_ROWS = uuid.UUID("6c0f4a0e-6d3c-5c59-9a53-0d1f4a1a7e21")  # names the ids made from row numbers
GATE_PARTS = 10_000  # a share is resolved to a hundredth of a percent


@dataclass(frozen=True, slots=True)
class Record:
    """One row as an event, and whether the gate is asked before it."""

    event: events.Event
    event_time: datetime
    gated: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over the whole file found."""

    rows: int
    first: datetime
    last: datetime
    customers: tuple[str, ...]


def survey(path: Path, mapping: UsageMapping) -> Survey:
    """Read the whole file once; raises InvalidValue naming the first row that is wrong, and how."""
    rows = 0
    first = last = None
    customers: dict[str, None] = {}
    for record in read(path, mapping):
        rows += 1
        first = record.event_time if first is None else min(first, record.event_time)
        last = record.event_time if last is None else max(last, record.event_time)
        customers[record.event.customer_id] = None
    if first is None or last is None:
        raise InvalidValue(path.name, "holds no rows")
    return Survey(rows, first, last, tuple(sorted(customers)))


def read(path: Path, mapping: UsageMapping) -> Iterator[Record]:
    """Every row of the file as an event, in its order."""
    zone = ZoneInfo(mapping.time_zone)
    gate_parts = int(Decimal(mapping.gate_share) * GATE_PARTS)
    numbers = _number_properties(mapping)
    if mapping.format == CLOUD_EVENTS:
        yield from _cloud_events(path, numbers, gate_parts)
        return
    namespace = uuid.uuid5(_ROWS, _digest(path)) if mapping.event_id is None else _ROWS
    for number, row in enumerate(_rows(path, mapping), start=1):
        try:
            yield _record(row, number, mapping, zone, namespace, numbers, gate_parts)
        except InvalidValue as error:
            raise error.inside(f"row {number}") from None


def _cloud_events(path: Path, numbers: frozenset[str], gate_parts: int) -> Iterator[Record]:
    """CloudEvents: one a line, each an object or an array; or the whole file as one array."""
    number = 0
    for place, text in _documents(path):
        for document in read_events(text, place):
            number += 1
            mapped = map_event(document, f"event {number}")
            for name in numbers & mapped.properties.keys():
                parse_decimal(mapped.properties[name], f"event {number}.data.{name}")
            event = events.Event(
                event_id=mapped.event_id,
                name=mapped.name,
                customer_id=mapped.customer_id,
                subject=mapped.subject,
                event_time=render_time(mapped.event_time),
                properties=mapped.properties,
            )
            yield Record(event, mapped.event_time, _is_gated(number, gate_parts))


def _documents(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
            try:
                json.loads(first)
            except ValueError:
                # Not a document a line: then all of it is one.
                yield path.name, first + file.read()
                return
            yield "line 1", first
            for number, line in enumerate(file, start=2):
                if line.strip():
                    yield f"line {number}", line
    except OSError as error:
        raise InvalidValue(str(path), error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        raise InvalidValue(path.name, f"is not UTF-8 text at byte {error.start}") from error


def _is_gated(number: int, gate_parts: int) -> bool:
    return (number * 7919) % GATE_PARTS < gate_parts


def _record(
    row: Mapping[str, str],
    number: int,
    mapping: UsageMapping,
    zone: ZoneInfo,
    namespace: uuid.UUID,
    numbers: frozenset[str],
    gate_parts: int,
) -> Record:
    moment = _moment(_pick(row, mapping.time), mapping, zone)
    properties = {name: _pick(row, source) for name, source in mapping.properties.items()}
    for name in numbers:
        parse_decimal(properties[name], mapping.properties[name].column or name)
    event_id = (
        str(uuid.uuid5(namespace, str(number)))
        if mapping.event_id is None
        else _pick(row, Source(column=mapping.event_id))
    )
    event = events.Event(
        event_id=event_id,
        name=_pick(row, mapping.event_name),
        customer_id=_customer(row, number, mapping),
        subject="" if mapping.subject is None else _pick(row, mapping.subject),
        event_time=render_time(moment),
        properties=properties,
    )
    return Record(event, moment, _is_gated(number, gate_parts))


def _customer(row: Mapping[str, str], number: int, mapping: UsageMapping) -> str:
    rule = mapping.customer
    if rule.column is not None:
        return _pick(row, Source(column=rule.column))
    if rule.single is not None:
        return rule.single
    if rule.round_robin is not None:
        return f"{rule.prefix}{(number - 1) % rule.round_robin + 1}"
    assert rule.hash_of is not None
    assert rule.into is not None
    digest = hashlib.sha256(_pick(row, Source(column=rule.hash_of)).encode()).digest()
    return f"{rule.prefix}{int.from_bytes(digest[:8], 'big') % rule.into + 1}"


def _pick(row: Mapping[str, str], source: Source) -> str:
    if source.column is None:
        assert source.value is not None
        return source.value
    found = row.get(source.column)
    if found is None:
        raise InvalidValue(source.column, "there is no such column")
    if found == "":
        raise InvalidValue(source.column, "is empty")
    return found


def _moment(text: str, mapping: UsageMapping, zone: ZoneInfo) -> datetime:
    try:
        if mapping.time_format is not None:
            moment = datetime.strptime(text, mapping.time_format)
        else:
            moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue(mapping.time.column or "time", f"{text!r} is not a time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def _number_properties(mapping: UsageMapping) -> frozenset[str]:
    return frozenset(meter.value_property for meter in mapping.meters if meter.value_property)


def _rows(path: Path, mapping: UsageMapping) -> Iterator[Mapping[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if mapping.format == "csv":
                yield from _csv_rows(file, mapping)
            else:
                yield from _json_rows(file)
    except OSError as error:
        raise InvalidValue(str(path), error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        raise InvalidValue(path.name, f"is not UTF-8 text at byte {error.start}") from error
    except csv.Error as error:
        raise InvalidValue(path.name, f"is not CSV: {error}") from error


def _csv_rows(file: Iterator[str], mapping: UsageMapping) -> Iterator[Mapping[str, str]]:
    reader = csv.DictReader(file, delimiter=mapping.delimiter, strict=True)
    for number, row in enumerate(reader, start=1):
        if None in row or any(value is None for value in row.values()):
            raise InvalidValue(
                f"row {number}", f"does not have the {len(reader.fieldnames or ())} columns named"
            )
        yield row


def _json_rows(file: Iterator[str]) -> Iterator[Mapping[str, str]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            # Numbers stay the text they are: a float would change them.
            row = json.loads(line, parse_float=str, parse_int=str)
        except json.JSONDecodeError as error:
            raise InvalidValue(f"row {number}", f"is not JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise InvalidValue(f"row {number}", "is not a JSON object")
        yield {name: _flat(value) for name, value in row.items() if value is not None}


def _flat(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise InvalidValue(str(path), error.strerror or "cannot be read") from error
    return digest.hexdigest()
