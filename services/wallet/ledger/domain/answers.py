"""What the rarer operations are answered, and the text in which an answer is kept for ever."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

# One grant's part: grant, atoms.
Part: TypeAlias = tuple[str, int]


@dataclass(slots=True)
class Voided:
    """A grant that was voided: what was left of it, and what it had paid for and others now do."""

    wallet_id: str
    grant_id: str
    asset: str
    scale: int
    unused: int
    replayed_atoms: int
    replayed_on: list[Part]
    void_time: datetime
    replayed: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Reversed:
    """What a reversal gave back: to grants that still live, and in a new one for the rest."""

    wallet_id: str
    sequence: int  # of the transfer that was reversed
    asset: str
    scale: int
    atoms: int
    left: int  # what may still be reversed of it
    restored: list[Part]
    refund_grant_id: str
    available: int
    replayed: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Corrected:
    """A correction; `grant_id` is the grant that it made, or empty."""

    wallet_id: str
    sequence: int
    asset: str
    scale: int
    atoms: int
    increase: bool
    grant_id: str
    available: int
    replayed: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Converted:
    """A conversion: `spent` bought exactly what `gained` is, `residual` buys nothing more."""

    wallet_id: str
    from_asset: str
    from_scale: int
    spent: int
    residual: int
    to_asset: str
    to_scale: int
    gained: int
    rate: Decimal
    rate_time: datetime
    grant_id: str
    from_sequence: int
    to_sequence: int
    replayed: bool = field(default=False, compare=False)


Answer: TypeAlias = Voided | Reversed | Corrected | Converted

_LETTERS: dict[str, type[Answer]] = {"V": Voided, "B": Reversed, "C": Corrected, "X": Converted}


def encode_answer(answer: Answer) -> str:
    """The text that is stored; its first letter says what follows."""
    letter = next(letter for letter, kind in _LETTERS.items() if isinstance(answer, kind))
    values = [getattr(answer, name) for name in _names(type(answer))]
    return letter + json.dumps(values, separators=(",", ":"), ensure_ascii=False, default=_plain)


def decode_answer(letter: str, values: list[Any]) -> Answer | None:
    """Read a stored answer, marked as replayed; None where the letter is not one of ours."""
    kind = _LETTERS.get(letter)
    if kind is None:
        return None
    given = dict(zip(_names(kind), values, strict=True))
    for name in ("void_time", "rate_time"):
        if name in given:
            given[name] = datetime.fromisoformat(given[name])
    if "rate" in given:
        given["rate"] = Decimal(given["rate"])
    for name in ("replayed_on", "restored"):
        if name in given:
            given[name] = [(grant_id, atoms) for grant_id, atoms in given[name]]
    answer: Answer = kind(**given)
    answer.replayed = True
    return answer


def _names(kind: type[Answer]) -> list[str]:
    return [name for name in kind.__dataclass_fields__ if name != "replayed"]


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
