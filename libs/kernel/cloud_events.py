"""CloudEvents 1.0 as usage events: one documented mapping for the service and for files.

| CloudEvent | usage event |
|---|---|
| `id`, where it is a UUID; else `source` and `id` as "source#id", hashed where longer than 128 | id |
| `type` | name |
| `customerid` (extension); where absent, `subject` | customer |
| `subject`, where `customerid` is present | subject |
| `time`, required: a repetition could not be told from a change without it | time |
| `authorizationid` (extension) | authorization |
| `data`, a JSON object: text as it is, numbers exact, booleans as true and false, null left out, inner objects by dotted names, arrays as JSON text | properties |
| `source` | property `ce_source` |

Source: CloudEvents 1.0.2, the specification and its JSON and Protobuf event formats.
"""  # noqa: E501  a table

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from kernel.errors import InvalidValue

SPEC_VERSION = "1.0"
ID_MAX = 128
DEPTH_MAX = 8  # of inner objects in data
SOURCE_PROPERTY = "ce_source"

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class MappedEvent:
    """A CloudEvent in the words of usage."""

    event_id: str
    name: str
    customer_id: str
    subject: str
    event_time: datetime
    properties: Mapping[str, str]
    authorization_id: str


def read_events(text: str | bytes, field: str) -> list[Any]:
    """The documents of a structured event (an object) or of a batch (an array).

    Numbers stay exact: Decimal and int, never float. Raises InvalidValue.
    """
    try:
        document = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(field, f"is not JSON: {error}") from None
    return document if isinstance(document, list) else [document]


def map_event(document: object, field: str) -> MappedEvent:
    """One event in the JSON format, parsed. Raises InvalidValue naming the attribute under
    `field`."""
    if not isinstance(document, Mapping):
        raise InvalidValue(field, "is not a JSON object")
    return map_attributes(
        {
            name: value
            for name, value in document.items()
            if name not in ("data", "data_base64") and value is not None
        },
        _data_of(document, field),
        field,
    )


def map_attributes(attributes: Mapping[str, Any], data: object, field: str) -> MappedEvent:
    """An event from its attributes and its data, whatever the format they came in."""
    version = _text(attributes, "specversion", field)
    if version != SPEC_VERSION:
        raise InvalidValue(f"{field}.specversion", f"{version!r} is not {SPEC_VERSION}")
    source = _text(attributes, "source", field)
    subject = _text(attributes, "subject", field, required=False)
    customer = _text(attributes, "customerid", field, required=False)
    if not customer and not subject:
        raise InvalidValue(f"{field}.subject", "is required where there is no customerid")
    if data is not None and not isinstance(data, Mapping):
        raise InvalidValue(f"{field}.data", "is not a JSON object")
    properties = dict(_flatten(data or {}, "", f"{field}.data", 0))
    properties.setdefault(SOURCE_PROPERTY, source)
    return MappedEvent(
        _event_id(source, _text(attributes, "id", field)),
        _text(attributes, "type", field),
        customer or subject,
        subject if customer else "",
        _time(_text(attributes, "time", field), f"{field}.time"),
        properties,
        _text(attributes, "authorizationid", field, required=False),
    )


def _event_id(source: str, text: str) -> str:
    """Unique by source and id, as CloudEvents are; a UUID is unique by itself."""
    try:
        if str(UUID(text)) == text:
            return text
    except ValueError:
        pass
    named = f"{source}#{text}"
    if len(named) <= ID_MAX:
        return named
    return "ce:" + hashlib.sha256(f"{source}\x00{text}".encode()).hexdigest()


def _data_of(document: Mapping[str, Any], field: str) -> object:
    kind = document.get("datacontenttype")
    if kind is not None and not is_json(str(kind)):
        raise InvalidValue(f"{field}.datacontenttype", f"{kind!r} is not JSON")
    encoded = document.get("data_base64")
    if encoded is None:
        return document.get("data")
    if "data" in document:
        raise InvalidValue(f"{field}.data_base64", "stands beside data")
    try:
        text = base64.b64decode(str(encoded), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidValue(f"{field}.data_base64", "is not base64") from None
    return read_data(text, f"{field}.data_base64")


def read_data(text: str | bytes, field: str) -> object:
    """The data of one event from its JSON text."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(field, f"is not JSON: {error}") from None


def is_json(content_type: str) -> bool:
    """Whether a content type is JSON; an empty one is."""
    media = content_type.partition(";")[0].strip().lower()
    return not media or media.endswith(("/json", "+json"))


def _text(attributes: Mapping[str, Any], name: str, field: str, *, required: bool = True) -> str:
    value = attributes.get(name)
    if value is None or value == "":
        if required:
            raise InvalidValue(f"{field}.{name}", "is required")
        return ""
    if not isinstance(value, str):
        raise InvalidValue(f"{field}.{name}", "is not text")
    return value


def _time(text: str, field: str) -> datetime:
    # RFC 3339 §5.6; fractions finer than a microsecond are cut.
    if _TIME.fullmatch(text) is None:
        raise InvalidValue(field, f"{text[:40]!r} is not an RFC 3339 time")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidValue(field, f"{text[:40]!r} is not a time") from None


def _flatten(
    data: Mapping[str, Any], prefix: str, field: str, depth: int
) -> Iterator[tuple[str, str]]:
    if depth > DEPTH_MAX:
        raise InvalidValue(field, f"is nested deeper than {DEPTH_MAX}")
    for name, value in data.items():
        path = f"{prefix}{name}"
        match value:
            case None:
                continue
            case bool():
                yield path, "true" if value else "false"
            case str():
                yield path, value
            case int():
                yield path, str(value)
            case Decimal():
                yield path, _decimal(value, f"{field}.{path}")
            case Mapping():
                yield from _flatten(value, f"{path}.", field, depth + 1)
            case _:
                yield path, json.dumps(value, default=str, separators=(",", ":"))


def _decimal(value: Decimal, field: str) -> str:
    # Written out, a large exponent would be a large text.
    if not value.is_finite() or abs(value.adjusted()) > ID_MAX:
        raise InvalidValue(field, f"{value} is out of range")
    return format(value, "f")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
