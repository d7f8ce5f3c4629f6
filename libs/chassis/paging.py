"""Pages of a list: a bounded size, and an opaque token that names the last key seen."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import dataclass

from kernel.errors import InvalidValue

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1_000
TOKEN_CHARACTERS_MAX = 4_096
CHECKSUM_BYTES = 4


@dataclass(frozen=True, slots=True)
class Page:
    """At most `size` rows whose key comes after `after`; an empty key is the list's beginning."""

    size: int
    after: tuple[str, ...] = ()


def parse_page(
    page_size: int,
    page_token: str,
    default: int = PAGE_SIZE_DEFAULT,
    maximum: int = PAGE_SIZE_MAX,
    key_parts: int | None = None,
) -> Page:
    """Read page_size (0: the default) and page_token; raises InvalidValue naming the field.

    With `key_parts`, a token whose key has another number of parts is refused too.
    """
    if not 0 <= page_size <= maximum:
        raise InvalidValue("page_size", f"{page_size} is not between 1 and {maximum}")
    after = _read_token(page_token) if page_token else ()
    if page_token and key_parts is not None and len(after) != key_parts:
        raise InvalidValue("page_token", "is not from this list")
    return Page(page_size or default, after)


def next_token(*key: str) -> str:
    """The token of the page after the row with this key."""
    text = json.dumps(key, separators=(",", ":")).encode()
    checksum = zlib.crc32(text).to_bytes(CHECKSUM_BYTES, "big")
    return base64.urlsafe_b64encode(checksum + text).decode().rstrip("=")


def _read_token(token: str) -> tuple[str, ...]:
    refused = InvalidValue("page_token", "is not a token of ours")
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise refused
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refused from None
    checksum, text = raw[:CHECKSUM_BYTES], raw[CHECKSUM_BYTES:]
    if zlib.crc32(text).to_bytes(CHECKSUM_BYTES, "big") != checksum:
        raise refused
    return tuple(json.loads(text))
