"""Reading what providers send: each field as the kind it should be, or nothing at all."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from gateway.domain.outcome import Basis, Finding, Outcome
from gateway.providers.plan import Answer, Reply, read_failure

_UNIX_MAX = 253_402_300_799  # the last second of the year 9999
_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")  # longer than any provider's id

# What several objects of one reference amount to: whatever took money first, and doubt before any
# word that none was taken.
_PREFERENCE = (
    Finding.SUCCEEDED,
    Finding.REVERSED,
    Finding.AUTHORIZED,
    Finding.PENDING,
    Finding.NEEDS_ACTION,
    Finding.SILENCE,
    Finding.DECLINED,
    Finding.CANCELED,
    Finding.REJECTED,
    Finding.ABSENT,
)


def fields(value: object) -> Mapping[str, Any]:
    """A JSON object; an empty one where the value is none."""
    return value if isinstance(value, dict) else {}


def content_of(reply: Reply) -> Mapping[str, Any]:
    """The JSON object of an answer; an empty one where there is none."""
    return fields(reply.json) if isinstance(reply, Answer) else {}


def rows(content: Mapping[str, Any], name: str) -> list[Mapping[str, Any]] | None:
    """A list of JSON objects; None where it is anything else."""
    value = content.get(name)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        return None
    return value


def text(content: Mapping[str, Any], name: str) -> str:
    """A text; empty where the field is none."""
    value = content.get(name)
    return value if isinstance(value, str) else ""


def identifier(content: Mapping[str, Any], name: str = "id") -> str:
    """An id that may stand in a path; empty where the field is none."""
    value = text(content, name)
    return value if _ID.fullmatch(value) else ""


def whole(content: Mapping[str, Any], name: str) -> int | None:
    """A whole number, also where it is written as text; None where the field is none."""
    value = content.get(name)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def moment(content: Mapping[str, Any], name: str) -> datetime | None:
    """A time in Unix seconds or in RFC 3339; None where the field is neither."""
    value = content.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _UNIX_MAX:
        return datetime.fromtimestamp(value, UTC)
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    return read if read.tzinfo is not None else None


def answer_time(reply: Reply) -> datetime | None:
    """The provider's own time of its answer; None where it does not say."""
    if not isinstance(reply, Answer):
        return None
    try:
        read = parsedate_to_datetime(reply.headers.get("date", ""))
    except ValueError:
        return None
    return read if read.tzinfo is not None else None


def strongest(outcomes: Iterable[Outcome]) -> Outcome:
    """What several objects of one reference amount to; ABSENT where there are none."""
    ranked = sorted(outcomes, key=lambda outcome: _PREFERENCE.index(outcome.finding))
    return ranked[0] if ranked else Outcome(Finding.ABSENT)


def unclear(reply: Reply, provider_payment_id: str = "") -> Outcome:
    """A later call went wrong, and what an earlier one came to is open: never a refusal."""
    failure = read_failure(reply)
    return Outcome(
        Finding.SILENCE, provider_payment_id=provider_payment_id, detail=failure.detail or "?"
    )


def in_doubt(outcome: Outcome, detail: str) -> Outcome:
    """The same evidence, taken as none."""
    return replace(
        outcome,
        finding=Finding.SILENCE,
        decline_code="",
        decline_class=None,
        basis=Basis.STATED,
        retryable=False,
        detail=detail,
    )


def signed_by(message: bytes, signatures: Sequence[str], secrets: Sequence[bytes]) -> bool:
    """Whether a signature is the hexadecimal HMAC-SHA-256 of a message by one of the secrets."""
    expected = [hmac.new(each, message, hashlib.sha256).hexdigest().encode() for each in secrets]
    stated = [each.encode("utf-8", "surrogateescape") for each in signatures]
    # Every pair is compared, so that the time taken does not tell which one fits.
    fits = [hmac.compare_digest(one, other) for one in expected for other in stated]
    return any(fits)
