"""What items are answered, and the compact text in which an answer is kept for ever."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from kernel.errors import Kind, Refusal
from wallet.ledger.domain.answers import Answer, decode_answer, encode_answer
from wallet.ledger.domain.details import Rollover
from wallet.ledger.domain.values import NEVER, HoldState, Restrictions

# One wallet's part: wallet, atoms, sequence number of the change there.
Share: TypeAlias = tuple[str, int, int]


@dataclass(slots=True)
class Posted:
    """A debit or capture that was posted; amounts in atoms."""

    asset: str
    scale: int
    atoms: int
    shortfall: int
    available: int
    late: bool
    shares: list[Share]
    replayed: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Held:
    """A hold as it stood after the operation; amounts in atoms."""

    hold_id: str
    customer_id: str
    asset: str
    scale: int
    atoms: int
    captured: int
    state: HoldState
    reference: str
    create_time: datetime
    expire_time: datetime
    available: int
    shares: list[Share]
    replayed: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Granted:
    """A grant as it was made; amounts in atoms."""

    grant_id: str
    wallet_id: str
    asset: str
    scale: int
    atoms: int
    remaining: int
    kind: int
    priority: int
    effective_time: datetime
    expire_time: datetime
    restrictions: Restrictions | None
    cost_basis: Decimal
    cost_asset: str
    source: str
    create_time: datetime
    replayed: bool = field(default=False, compare=False)
    rollover: Rollover | None = None
    rolled_from: str = ""
    held: int = 0
    void_time: datetime | None = None


@dataclass(slots=True)
class Refused:
    """A no, with its reason and facts. `kind` says which gRPC status it is in a single call."""

    reason: str
    kind: Kind
    message: str
    facts: dict[str, str]
    replayed: bool = field(default=False, compare=False)

    @classmethod
    def by(cls, refusal: Refusal) -> Refused:
        return cls(refusal.reason, refusal.kind, refusal.message, refusal.facts)


@dataclass(slots=True)
class Touched:
    """Upkeep was done; nobody waits for more."""

    replayed: bool = field(default=False, compare=False)


Outcome: TypeAlias = Posted | Held | Granted | Refused | Touched | Answer


def encode(outcome: Outcome) -> str:
    """The text that is stored. Its first letter says what follows; debits are the short ones."""
    if isinstance(outcome, Posted):
        shares = ";".join([f"{wallet},{atoms},{at}" for wallet, atoms, at in outcome.shares])
        return (
            f"D|{outcome.asset}|{outcome.scale}|{outcome.atoms}|{outcome.shortfall}"
            f"|{outcome.available}|{'L' if outcome.late else ''}|{shares}"
        )
    if isinstance(outcome, Held):
        return "H" + _dumps(
            [
                outcome.hold_id,
                outcome.customer_id,
                outcome.asset,
                outcome.scale,
                outcome.atoms,
                outcome.captured,
                int(outcome.state),
                outcome.reference,
                outcome.create_time.isoformat(),
                outcome.expire_time.isoformat(),
                outcome.available,
                outcome.shares,
            ]
        )
    if isinstance(outcome, Granted):
        return "G" + _dumps(
            [
                outcome.grant_id,
                outcome.wallet_id,
                outcome.asset,
                outcome.scale,
                outcome.atoms,
                outcome.remaining,
                outcome.kind,
                outcome.priority,
                outcome.effective_time.isoformat(),
                None if outcome.expire_time == NEVER else outcome.expire_time.isoformat(),
                outcome.restrictions,
                str(outcome.cost_basis),
                outcome.cost_asset,
                outcome.source,
                outcome.create_time.isoformat(),
                *_terms(outcome),
            ]
        )
    if isinstance(outcome, Refused):
        return "R" + _dumps([outcome.reason, outcome.kind.value, outcome.message, outcome.facts])
    if isinstance(outcome, Touched):
        raise TypeError(f"{type(outcome).__name__} is not kept")
    return encode_answer(outcome)


def _terms(granted: Granted) -> list[object]:
    """What few grants have stands at the end, and only where there is some."""
    rollover = granted.rollover
    if rollover is None and not granted.held:
        return []
    rolls = rollover and [str(rollover.fraction), rollover.cap, rollover.seconds]
    return [rolls, granted.held]


def decode(text: str) -> Outcome:
    """Read a stored outcome; marked as replayed."""
    letter, rest = text[0], text[1:]
    if letter == "D":
        return _decode_posted(rest)
    values = json.loads(rest)
    if letter == "H":
        return _decode_held(values)
    if letter == "G":
        return _decode_granted(values)
    if letter == "R":
        reason, kind, message, facts = values
        return Refused(reason, Kind(kind), message, facts, replayed=True)
    answer = decode_answer(letter, values)
    if answer is not None:
        return answer
    raise ValueError(f"no outcome begins with {letter!r}")


def _decode_posted(rest: str) -> Posted:
    _, asset, scale, atoms, shortfall, available, late, shares = rest.split("|")
    parts = [share.split(",") for share in shares.split(";") if share]
    return Posted(
        asset,
        int(scale),
        int(atoms),
        int(shortfall),
        int(available),
        late == "L",
        [(wallet, int(part), int(at)) for wallet, part, at in parts],
        replayed=True,
    )


def _decode_held(values: list[Any]) -> Held:
    return Held(
        hold_id=values[0],
        customer_id=values[1],
        asset=values[2],
        scale=values[3],
        atoms=values[4],
        captured=values[5],
        state=HoldState(values[6]),
        reference=values[7],
        create_time=datetime.fromisoformat(values[8]),
        expire_time=datetime.fromisoformat(values[9]),
        available=values[10],
        shares=[(wallet, atoms, at) for wallet, atoms, at in values[11]],
        replayed=True,
    )


def _decode_granted(values: list[Any]) -> Granted:
    rolls, held = values[15:17] if len(values) > 15 else (None, 0)
    return Granted(
        grant_id=values[0],
        wallet_id=values[1],
        asset=values[2],
        scale=values[3],
        atoms=values[4],
        remaining=values[5],
        kind=values[6],
        priority=values[7],
        effective_time=datetime.fromisoformat(values[8]),
        expire_time=NEVER if values[9] is None else datetime.fromisoformat(values[9]),
        restrictions=restrictions_of(values[10]),
        cost_basis=Decimal(values[11]),
        cost_asset=values[12],
        source=values[13],
        create_time=datetime.fromisoformat(values[14]),
        replayed=True,
        rollover=Rollover(Decimal(rolls[0]), rolls[1], rolls[2]) if rolls else None,
        held=held,
    )


def restrictions_of(lists: list[list[str]] | None) -> Restrictions | None:
    """Restrictions as they are kept in JSON: three lists, or nothing."""
    if lists is None:
        return None
    meters, features, products = lists
    return tuple(meters), tuple(features), tuple(products)


def _dumps(values: list[object]) -> str:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False)


def lists_of(restrictions: Restrictions | None) -> str:
    """Restrictions as JSON, for rows: three lists, empty where nothing is restricted."""
    return _dumps(list(restrictions or ((), (), ())))
