"""Debits and holds that metering asks of the wallet, and what the wallet answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from kernel.errors import Kind, Refusal

EVENTS_PER_BATCH_MAX = 4_096  # 12 bits of a receipt id
DEBITS_PER_CALL_MAX = 1_000  # as many as the wallet takes
LINES_PER_EVENT_MAX = 200  # of the 255 that 8 bits can number; releases of holds take the rest

_EVENT_SHIFT = 8
_BATCH_SHIFT = 20
_BATCH_MASK = (1 << _BATCH_SHIFT) - 1


def batch_of(receipt_id: UUID) -> UUID:
    """The batch that an event was decided in: its receipt id without the last 20 bits."""
    return UUID(int=receipt_id.int & ~_BATCH_MASK)


def receipt_of(batch_id: UUID, index: int) -> UUID:
    """The receipt id of the event at an index of a batch."""
    return UUID(int=batch_id.int + (index << _EVENT_SHIFT))


def batch_end(batch_id: UUID) -> UUID:
    """The first receipt id that is no longer of the batch."""
    return UUID(int=batch_id.int + (1 << _BATCH_SHIFT))


def charge_of(receipt_id: UUID, number: int) -> str:
    """The key of an event's charge, `number` from 1: a UUID that rises with the receipt id."""
    # The last 8 bits of a receipt id are zero; written out, those are its last two digits.
    return f"{str(receipt_id)[:34]}{number:02x}"


def receipt_of_charge(charge_id: str) -> UUID:
    """The event behind a charge."""
    return UUID(f"{charge_id[:34]}00")


class OverUse(Enum):
    """What to do where usage costs more than what an authorization holds."""

    REJECT = 1
    CLAMP = 2
    USE_AVAILABLE = 3
    FORCE = 4


class Capture(NamedTuple):
    """Where a debit takes its funds from first."""

    hold_id: str
    is_final: bool
    over_use: OverUse


class Debit(NamedTuple):
    """One debit to post. Debits of one group stand beside each other and post all or none."""

    charge_id: str
    customer_id: str
    asset: str
    scale: int
    atoms: int
    meter: str
    feature: str
    product: str
    reference: str
    group: str
    capture: Capture | None
    node: str = ""


class Reversal(NamedTuple):
    """A part of a posted debit to be given back to where it came from."""

    key: str
    charge_id: str
    asset: str
    scale: int
    atoms: int
    reference: str


class Posted(NamedTuple):
    """A debit that the wallet posted."""

    atoms: int
    shortfall: int
    available: str


class Refused(NamedTuple):
    """A debit or a hold that the wallet refused."""

    reason: str
    message: str
    facts: dict[str, str]


class InsufficientFunds(Refusal):
    """Funds do not suffice."""

    reason = "INSUFFICIENT_FUNDS"

    def __init__(self, asset: str, available: str, needed: str) -> None:
        super().__init__(
            f"{available} {asset} are available, {needed} are needed",
            asset=asset,
            available=available,
            needed=needed,
        )


class SpendCapReached(Refusal):
    """A spend cap on the way from the node to its root has no room for this."""

    reason = "SPEND_CAP_REACHED"

    def __init__(self, cause: Refused) -> None:
        super().__init__(cause.message, **cause.facts)


class ChargeRefused(Refusal):
    """The wallet refused a charge or a hold for another reason than funds."""

    reason = "CHARGE_REFUSED"

    def __init__(self, cause: Refused) -> None:
        super().__init__(cause.message, **{**cause.facts, "wallet_reason": cause.reason})


def refused(refusal: Refusal) -> Refused:
    """A refusal as a value, to be answered beside others."""
    return Refused(refusal.reason, refusal.message, dict(refusal.facts))


class HoldRequest(NamedTuple):
    """Funds to set aside."""

    key: str
    customer_id: str
    asset: str
    scale: int
    atoms: int
    meter: str
    feature: str
    product: str
    seconds: float
    node: str = ""


class HoldGrowth(NamedTuple):
    """More funds for a hold, more time, or both."""

    key: str
    hold_id: str
    scale: int
    atoms: int
    lasting: timedelta | None


class Held(NamedTuple):
    """Funds that the wallet set aside."""

    hold_id: str
    atoms: int
    available: str


class AssetUnknown(Refusal):
    """A price or a maximum is in an asset that the wallet does not have."""

    reason = "NOT_FOUND"
    kind = Kind.NOT_FOUND

    def __init__(self, code: str) -> None:
        super().__init__(f"no asset {code!r}", what="asset", name=code)


def chunks_of(debits: Sequence[Debit]) -> list[Sequence[Debit]]:
    """Cut debits into calls of at most 1000 without parting a group."""
    if len(debits) <= DEBITS_PER_CALL_MAX:
        return [debits] if debits else []
    chunks: list[Sequence[Debit]] = []
    start = 0
    while len(debits) - start > DEBITS_PER_CALL_MAX:
        end = start + DEBITS_PER_CALL_MAX
        while debits[end].group and debits[end].group == debits[end - 1].group:
            end -= 1
        chunks.append(debits[start:end])
        start = end
    chunks.append(debits[start:])
    return chunks
