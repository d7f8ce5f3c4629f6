"""Small parsers that every wire.py is made of; each refusal names the field it is about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kernel.errors import InvalidValue
from kernel.money import Amount, Asset, parse_atoms
from tollgate.type.v1 import amount_pb2

TEXT_MAX = 200
REQUEST_ID_MAX = 128
ASSET_CODE = re.compile(r"[A-Za-z0-9_]{1,32}")
YEAR_MIN, YEAR_MAX = 1970, 9000  # room on both sides for adding periods without overflow

Member = TypeVar("Member", bound=Enum)


def parse_text(
    text: str, field: str, *, minimum: int = 1, maximum: int = TEXT_MAX, pattern: str | None = None
) -> str:
    """Text of a bounded length in characters, without control characters."""
    if not minimum <= len(text) <= maximum:
        why = "is required" if not text else f"{len(text)} characters"
        raise InvalidValue(field, f"{why}; takes {minimum} to {maximum} characters")
    if not text.isprintable():
        raise InvalidValue(field, "holds control characters")
    if pattern is not None and text and re.fullmatch(pattern, text) is None:
        raise InvalidValue(field, f"{text!r} is not of the form {pattern}")
    return text


def parse_request_id(text: str, field: str = "request_id") -> str:
    """The idempotency key of a change: 1 to 128 printable characters."""
    return parse_text(text, field, maximum=REQUEST_ID_MAX)


def parse_uuid(text: str, field: str) -> UUID:
    """A UUID in its canonical form of 36 characters."""
    if len(text) == 36:
        try:
            return UUID(text)
        except ValueError:
            pass
    raise InvalidValue(field, "is required" if not text else "is not a UUID")


def find_uuid(text: str, field: str) -> UUID | None:
    """A UUID, or None where the field is empty."""
    return parse_uuid(text, field) if text else None


def parse_count(value: int, field: str, *, minimum: int, maximum: int, default: int = 0) -> int:
    """A whole number within bounds; 0 stands for the default."""
    number = value or default
    if not minimum <= number <= maximum:
        raise InvalidValue(field, f"{number} is not between {minimum} and {maximum}")
    return number


def parse_member(value: int, members: Mapping[Any, Member], field: str) -> Member:
    """The domain's member for a protobuf enum value; unstated and unknown values are refused."""
    try:
        return members[value]
    except KeyError:
        why = "is required" if value == 0 else f"{value} is not known"
        raise InvalidValue(field, why) from None


def parse_time(message: Message, field: str) -> datetime:
    """The timestamp in `message`'s field of that name, which must be set; UTC, microseconds."""
    if not message.HasField(field):
        raise InvalidValue(field, "is required")
    return read_time(getattr(message, field), field)


def find_time(message: Message, field: str) -> datetime | None:
    """The timestamp in `message`'s field of that name, or None where it is absent."""
    return read_time(getattr(message, field), field) if message.HasField(field) else None


def read_time(stamp: Timestamp, field: str) -> datetime:
    """A timestamp as a UTC datetime, cut to microseconds; years 1970 to 9000."""
    try:
        instant = stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidValue(field, "is not a time") from None
    if not YEAR_MIN <= instant.year <= YEAR_MAX:
        raise InvalidValue(field, f"year {instant.year} is not between {YEAR_MIN} and {YEAR_MAX}")
    return instant


def render_time(instant: datetime) -> Timestamp:
    """A UTC datetime as a timestamp."""
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


def parse_asset_code(text: str, field: str = "asset") -> str:
    """The code of an asset: 1 to 32 characters of [A-Za-z0-9_]."""
    if ASSET_CODE.fullmatch(text) is None:
        raise InvalidValue(field, "takes 1 to 32 characters of [A-Za-z0-9_]")
    return text


def parse_amount(
    message: amount_pb2.Amount,
    scale_of: Callable[[str], int],
    field: str = "amount",
    *,
    signed: bool = False,
) -> Amount:
    """An exact amount; `scale_of` tells the decimal places of an asset code (or refuses it)."""
    code = parse_asset_code(message.asset, f"{field}.asset")
    scale = scale_of(code)
    atoms = parse_atoms(message.value, scale, f"{field}.value", signed=signed)
    return Amount(Asset(code, scale), atoms)


def render_amount(amount: Amount) -> amount_pb2.Amount:
    """An amount as its asset and canonical decimal string."""
    return amount_pb2.Amount(asset=amount.asset.code, value=amount.value)
