"""Identifiers that rise with time, so that an index on them stays cheap however large it grows."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def new_id(now: datetime, randomness: int | None = None) -> uuid.UUID:
    """A version 7 UUID (RFC 9562 §5.7): 48 bits of milliseconds, then 74 random bits.

    `randomness` replaces the random bits where a caller needs the id to be reproducible.
    """
    milliseconds = (now - _EPOCH) // _MILLISECOND
    bits = secrets.randbits(74) if randomness is None else randomness & ((1 << 74) - 1)
    value = milliseconds << 80
    value |= 0x7 << 76
    value |= (bits >> 62) << 64
    value |= 0b10 << 62
    value |= bits & ((1 << 62) - 1)
    return uuid.UUID(int=value)


def derived_id(namespace: uuid.UUID, name: str) -> uuid.UUID:
    """The same id for the same name, for objects that must exist once per source (RFC 9562 v5)."""
    return uuid.uuid5(namespace, name)
