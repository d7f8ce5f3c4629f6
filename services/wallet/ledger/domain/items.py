"""What a batch consists of: parsed items, each of one tenant, each with its key.

Not frozen, only because making a frozen one costs twice as much; nothing changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import ClassVar, TypeAlias

from wallet.budgets.domain.counting import Spending
from wallet.ledger.domain.details import Rollover
from wallet.ledger.domain.values import (
    Account,
    OperationKind,
    OverCapture,
    Purpose,
    Restrictions,
    TransferKind,
)


@dataclass(slots=True, eq=False)
class Keyed:
    """What every operation has. `now` is the tenant's test clock, None for the database's."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    now: datetime | None


@dataclass(slots=True, eq=False)
class DebitItem(Keyed):
    """Take `atoms` from the customer's wallets, or from a hold first where `hold_id` is set.

    `scale` is None where the tenant has no such asset.
    """

    kind: ClassVar[OperationKind] = OperationKind.DEBIT
    customer_id: str
    wallet_id: str
    asset: str
    scale: int | None
    atoms: int
    purpose: Purpose
    reference: str
    hold_id: str
    final: bool
    over_capture: OverCapture
    node: str = ""  # of the customer's budgets; empty: no cap applies


@dataclass(slots=True, eq=False)
class HoldItem(Keyed):
    """Set `atoms` aside for a time."""

    kind: ClassVar[OperationKind] = OperationKind.HOLD
    hold_id: str
    customer_id: str
    wallet_id: str
    asset: str
    scale: int | None
    atoms: int
    purpose: Purpose
    time_to_live: timedelta
    partial_allowed: bool
    reference: str
    node: str = ""


@dataclass(slots=True, eq=False)
class CaptureItem(Keyed):
    """Take `atoms` from a hold. `scale` is None where no such hold was known on arrival, and
    `customer_id` and `asset` are empty until it is."""

    kind: ClassVar[OperationKind] = OperationKind.CAPTURE
    hold_id: str
    customer_id: str
    asset: str
    scale: int | None
    atoms: int
    final: bool
    over_capture: OverCapture
    reference: str


@dataclass(slots=True, eq=False)
class IncreaseItem(Keyed):
    """Add `atoms` to a hold, and make it last `time_to_live` from now where that is longer.
    Routed as a capture is."""

    kind: ClassVar[OperationKind] = OperationKind.INCREASE
    hold_id: str
    customer_id: str
    asset: str
    scale: int | None
    atoms: int
    time_to_live: timedelta | None
    partial_allowed: bool


@dataclass(slots=True, eq=False)
class VoidItem(Keyed):
    """Let a hold go, or keep one that is still to arrive from being placed."""

    kind: ClassVar[OperationKind] = OperationKind.VOID
    hold_id: str
    customer_id: str
    asset: str
    scale: int


@dataclass(slots=True, eq=False)
class GrantItem(Keyed):
    """Put `atoms` into a wallet."""

    kind: ClassVar[OperationKind] = OperationKind.GRANT
    wallet_id: str
    asset: str
    scale: int | None
    atoms: int
    grant_kind: int
    priority: int
    effective_time: datetime | None
    expire_time: datetime | None
    restrictions: Restrictions | None
    cost_basis: Decimal
    cost_asset: str
    source: str
    rollover: Rollover | None = None


@dataclass(slots=True, eq=False)
class WalletItem(Keyed):
    """What is done by hand to one wallet, with who did it and why.

    Its kinds are read apart from the rest: they need details that the usual batch does without.
    """

    kind: ClassVar[OperationKind]
    hold_id: ClassVar[str] = ""
    wallet_id: str
    asset: str
    scale: int | None
    reason: str
    approver: str
    caller: str


@dataclass(slots=True, eq=False)
class VoidGrantItem(WalletItem):
    """Take a grant back: what is left of it, and with `replay` what it paid for as well."""

    kind: ClassVar[OperationKind] = OperationKind.VOID_GRANT
    grant_id: str
    replay: bool


@dataclass(slots=True, eq=False)
class ChangeExpiryItem(WalletItem):
    """Let a grant expire at another time; NEVER for not at all."""

    kind: ClassVar[OperationKind] = OperationKind.CHANGE_EXPIRY
    grant_id: str
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Original:
    """A transfer that is to be reversed; it never changes, so it is read before the lock."""

    kind: TransferKind
    atoms: int
    split: tuple[tuple[str | None, int], ...]
    by_hand: bool  # posted by a void's replay: its originals are what is reversed
    spending: Spending | None = None  # what it counted for in budgets


@dataclass(slots=True, eq=False)
class ReverseItem(WalletItem):
    """Give a transfer back, whole (`atoms` None: what is left of it) or in part."""

    kind: ClassVar[OperationKind] = OperationKind.REVERSE
    sequence: int
    original: Original | None
    atoms: int | None


@dataclass(slots=True, eq=False)
class CorrectItem(WalletItem):
    """Put value in or take it out against a house account."""

    kind: ClassVar[OperationKind] = OperationKind.CORRECT
    atoms: int
    increase: bool
    house: Account
    grant_id: str  # with a decrease: taken from this grant alone
    expire_time: datetime | None  # of the grant that an increase makes


@dataclass(slots=True, eq=False)
class ConvertItem(WalletItem):
    """Turn value of one asset into another's at the rate in force."""

    kind: ClassVar[OperationKind] = OperationKind.CONVERT
    atoms: int
    to_asset: str
    to_scale: int | None
    expire_time: datetime | None


@dataclass(slots=True, eq=False)
class TouchItem:
    """Do to one balance what time asks for. Without a key: doing it again changes nothing."""

    tenant_id: str
    wallet_id: str
    asset: str
    now: datetime | None


@dataclass(slots=True, eq=False)
class ExpireHoldItem:
    """Release a hold whose time is over. Without a key, likewise."""

    tenant_id: str
    hold_id: str
    customer_id: str
    asset: str
    now: datetime | None


Operation: TypeAlias = (
    DebitItem | HoldItem | CaptureItem | VoidItem | GrantItem | IncreaseItem | WalletItem
)
Upkeep: TypeAlias = TouchItem | ExpireHoldItem
Item: TypeAlias = Operation | Upkeep
