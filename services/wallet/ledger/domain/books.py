"""The part of the ledger that one batch works on, and the moves that are possible in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

from wallet.budgets.domain.counting import Budgets, Path
from wallet.ledger.domain.details import Details, Rollover
from wallet.ledger.domain.outcomes import Outcome, Share
from wallet.ledger.domain.values import (
    NEVER,
    Account,
    HoldState,
    OverCapture,
    Purpose,
    Restrictions,
    ShortfallMode,
    TransferKind,
    WalletState,
    admits,
)
from wallet.recharge.domain import Rule


class NeedsAllGrants(Exception):
    """The first few grants of a balance did not do: load all of them and decide again."""

    def __init__(self, balance: Balance) -> None:
        super().__init__(balance.wallet_id)
        self.balance = balance


class NeedsTerms(Exception):
    """What a wallet's grants roll over, or its policy for captures, is not known: load both and
    decide again."""

    def __init__(self, wallet: Wallet) -> None:
        super().__init__(wallet.wallet_id)
        self.wallet = wallet


class Moved(Exception):
    """Something appeared between the lock and the look: begin the transaction again."""


class BooksDisagree(Exception):
    """A balance says there is value and its grants say there is none: never, unless corrupted."""


@dataclass(slots=True, eq=False)
class Grant:
    """A lot of value in a wallet. Spendable is remaining less held, unless it is dormant."""

    grant_id: str
    kind: int
    amount: int
    remaining: int
    held: int
    priority: int
    breadth: int
    restrictions: Restrictions | None
    effective_time: datetime
    expire_time: datetime
    cost_basis: Decimal
    create_time: datetime
    dormant: bool
    is_new: bool = False
    cost_asset: str = ""
    source: str = ""
    request_id: str = ""
    # Known of grants that are touched one by one, not of those that a debit burns.
    rollover: Rollover | None = None
    rolled_from: str = ""
    void_time: datetime | None = None
    lost: int = 0  # other than by use: expired, voided, corrected, rolled over

    def rank(self) -> tuple[int, int, datetime, Decimal, datetime, datetime, str]:
        """Burn order: lower first."""
        return (
            self.priority,
            self.breadth,
            self.expire_time,
            self.cost_basis,
            self.effective_time,
            self.create_time,
            self.grant_id,
        )


# What a move takes from or gives to each grant; None is overdraft.
Split: TypeAlias = list[tuple[Grant | None, int]]


@dataclass(slots=True, eq=False)
class Alert:
    """A threshold that tells when available falls to it, once until it is left above."""

    threshold: int
    armed: bool
    scale: int


@dataclass(slots=True, eq=False)
class Balance:
    """One asset in one wallet; all figures in atoms."""

    wallet: Wallet
    asset: str
    credited: int = 0
    debited: int = 0
    held: int = 0
    overdrawn: int = 0
    held_unbacked: int = 0
    dormant: int = 0
    floor: int = 0
    forced: int = 0
    restricted_grants: int = 0
    next_change: datetime = NEVER
    sequence: int = 0
    sequence_before: int = -1  # -1: there was no row
    change_time: datetime | None = None
    grants: list[Grant] = field(default_factory=list)  # open ones, in burn order
    truncated: bool = False  # there may be more open grants, all later in the order
    rule: Rule | None = None
    alert: Alert | None = None
    dirty: bool = False

    @property
    def wallet_id(self) -> str:
        return self.wallet.wallet_id

    @property
    def available(self) -> int:
        """What may be spent for any purpose, overdraft included; below zero after a forced one."""
        return self.credited - self.debited - self.held - self.dormant + self.floor

    @property
    def headroom(self) -> int:
        """How much may still be overdrawn."""
        return max(0, self.floor - self.overdrawn)

    def spendable(self, purpose: Purpose) -> int:
        """What its grants can pay for a purpose. Whoever asks has touched the balance."""
        if not self.restricted_grants:
            return self.credited + self.overdrawn - self.debited - self.held - self.dormant
        if self.truncated:
            raise NeedsAllGrants(self)
        return sum(
            grant.remaining - grant.held
            for grant in self.grants
            if not grant.dormant
            and (grant.restrictions is None or admits(grant.restrictions, purpose))
        )


@dataclass(slots=True, eq=False)
class Wallet:
    """A purse, locked for the batch."""

    tenant_id: str
    wallet_id: str
    customer_id: str
    priority: int
    restrictions: Restrictions | None
    shortfall_mode: ShortfallMode
    late_capture_allowed: bool
    state: WalletState
    sequence: int = 0
    change_time: datetime | None = None  # of its last change: time never goes back before it
    balances: dict[str, Balance] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)  # all that are loaded
    # What its grants roll over, and what it does with a capture above what is held.
    terms_known: bool = False
    over_capture: OverCapture = OverCapture.REJECT

    def balance(self, asset: str) -> Balance:
        """Its balance of an asset; one that was never used is empty."""
        found = self.balances.get(asset)
        if found is None:
            found = self.balances[asset] = Balance(self, asset)
        return found


# What is still set aside: wallet, grant (None: overdraft), atoms.
Pin: TypeAlias = tuple[str, str | None, int]


@dataclass(slots=True, eq=False)
class Hold:
    """Value set aside; see the state table in `holds`."""

    tenant_id: str
    hold_id: str
    customer_id: str  # empty: a tombstone
    wallet_id: str | None
    asset: str
    atoms: int
    captured: int
    state: HoldState
    purpose: Purpose
    reference: str
    create_time: datetime
    expire_time: datetime
    shares: list[Share]
    pins: list[Pin]
    end_time: datetime | None = None
    request_id: str = ""
    is_new: bool = False
    path: Path = ()  # of the node it was placed for; empty: it names none


@dataclass(slots=True, eq=False)
class RechargeStart:
    """A recharge that begins with the batch; its message leaves in the same transaction."""

    balance: Balance
    atoms: int
    time: datetime
    generation: int
    month: date
    month_bought: int
    recharge_id: str = ""


# One row of the journal, in the order of its columns.
Row: TypeAlias = tuple[str, str, int, int, str, str, int, int, str, str, str, datetime]


@dataclass(slots=True, eq=False)
class Books:
    """Everything that a batch reads, and everything that it changes."""

    clock: datetime
    wallets: dict[tuple[str, str], Wallet] = field(default_factory=dict)
    customers: dict[tuple[str, str], list[Wallet]] = field(default_factory=dict)
    holds: dict[tuple[str, str], Hold] = field(default_factory=dict)
    # What keys were answered: by fingerprint, and as stored text or as decided in this batch.
    answers: dict[tuple[str, str], tuple[bytes, str | Outcome]] = field(default_factory=dict)

    transfers: list[Row] = field(default_factory=list)
    operations: list[tuple[str, str, int, str, str, bytes, Outcome, datetime]] = field(
        default_factory=list
    )
    changed_grants: dict[str, tuple[Wallet, Grant]] = field(default_factory=dict)
    new_grants: list[tuple[Balance, Grant]] = field(default_factory=list)
    changed_holds: dict[tuple[str, str], Hold] = field(default_factory=dict)
    grown_holds: dict[tuple[str, str], Hold] = field(default_factory=dict)  # not new ones
    recharges: list[RechargeStart] = field(default_factory=list)
    alerts: list[tuple[Balance, int]] = field(default_factory=list)  # fired, with what was left
    rearmed: list[Balance] = field(default_factory=list)
    new_id: Callable[[datetime], UUID] | None = None  # makes ids, while a batch is decided
    voided_grants: list[tuple[Wallet, Grant]] = field(default_factory=list)
    moved_expiries: dict[str, tuple[Wallet, Grant]] = field(default_factory=dict)
    details: Details = field(default_factory=Details)
    budgets: Budgets = field(default_factory=Budgets)

    def move(
        self,
        balance: Balance,
        kind: TransferKind,
        atoms: int,
        debit: Account,
        credit: Account,
        split: Split,
        request_id: str,
        now: datetime,
    ) -> int:
        """Write one balanced move into the journal; answers its number in the wallet."""
        wallet = balance.wallet
        wallet.sequence = number = wallet.sequence + 1
        balance.sequence = number
        balance.change_time = wallet.change_time = now
        balance.dirty = True
        if len(split) == 1:
            grant = split[0][0]
            ids = f"{{{grant.grant_id}}}" if grant is not None else "{NULL}"
            parts = f"{{{split[0][1]}}}"
        else:
            ids = "{" + ",".join([g.grant_id if g else "NULL" for g, _ in split]) + "}"
            parts = "{" + ",".join([str(part) for _, part in split]) + "}"
        self.transfers.append(
            (
                wallet.tenant_id,
                wallet.wallet_id,
                number,
                int(kind),
                balance.asset,
                str(atoms),
                int(debit),
                int(credit),
                request_id,
                ids,
                parts,
                now,
            )
        )
        return number

    def note_grant(self, wallet: Wallet, grant: Grant) -> None:
        """A grant's figures changed."""
        if not grant.is_new:
            self.changed_grants[grant.grant_id] = (wallet, grant)

    def note_growth(self, hold: Hold) -> None:
        """A hold's amount, shares or time changed."""
        self.note_hold(hold)
        if not hold.is_new:
            self.grown_holds[hold.tenant_id, hold.hold_id] = hold

    def note_hold(self, hold: Hold) -> None:
        """A hold is new or changed."""
        self.changed_holds[hold.tenant_id, hold.hold_id] = hold
