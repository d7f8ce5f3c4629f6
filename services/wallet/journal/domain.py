"""What the journal tells, and the names of its accounts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from wallet.ledger.domain.values import Account, TransferKind

WALLET_ACCOUNTS = {Account.WALLET: "wallet", Account.HELD: "held", Account.DEBT: "debt"}
WALLET_TOTALS = {
    Account.WALLET: "wallets",
    Account.HELD: "wallets:held",
    Account.DEBT: "wallets:debt",
}


@dataclass(frozen=True, slots=True)
class Transfer:
    """One balanced move, in atoms."""

    wallet_id: str
    sequence: int
    kind: TransferKind
    asset: str
    scale: int
    atoms: int
    debit: Account
    credit: Account
    request_id: str
    reference: str
    grants: tuple[tuple[str, int], ...]  # empty id: overdraft
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Filter:
    """Which transfers of a wallet are asked for; what is empty asks for all."""

    asset: str = ""
    kinds: tuple[int, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    request_id: str = ""
    grant_id: str = ""
    through: int | None = None  # the last number that counts


@dataclass(frozen=True, slots=True)
class Period:
    """One asset of a wallet over a period, in atoms; `before_page` is what is in the wallet before
    the page's first entry."""

    asset: str
    scale: int
    opening: int
    credited: int
    debited: int
    opening_held: int
    closing_held: int
    before_page: int

    @property
    def closing(self) -> int:
        return self.opening + self.credited - self.debited


@dataclass(frozen=True, slots=True)
class PostedDebit:
    """All that one key debited, in atoms, summed from the journal."""

    request_id: str
    customer_id: str
    asset: str
    scale: int
    atoms: int
    reference: str


@dataclass(frozen=True, slots=True)
class AccountTotal:
    """Both sides of one account, in atoms."""

    account: str
    asset: str
    scale: int
    debits: int
    credits: int


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A stored figure that is not what the journal says; a scale where it is an amount."""

    wallet_id: str
    figure: str
    stored: int
    derived: int
    scale: int | None


@dataclass(frozen=True, slots=True)
class Verified:
    """What one page of the verifier looked at, and found."""

    wallets: int
    transfers: int
    last_wallet_id: str
    disagreements: list[Disagreement]


def change_of(transfer: Transfer) -> int:
    """By how much a move changes what is in its wallet, in atoms."""
    if transfer.debit >= Account.REVENUE:
        return transfer.atoms
    return -transfer.atoms if transfer.credit >= Account.REVENUE else 0


def account_name(account: Account, wallet_id: str) -> str:
    """An account's full name: "wallet:<id>", "house:revenue"."""
    kind = WALLET_ACCOUNTS.get(account)
    return f"{kind}:{wallet_id}" if kind else f"house:{account.name.lower()}"


def total_name(account: Account) -> str:
    """Under what name an account is summed up."""
    return WALLET_TOTALS.get(account) or f"house:{account.name.lower()}"


def add_up(sums: Iterable[tuple[str, int, Account, Account, int]]) -> list[AccountTotal]:
    """Totals per account from sums per asset, scale and pair of accounts (debit, credit)."""
    debits: dict[tuple[str, str, int], int] = {}
    credits_: dict[tuple[str, str, int], int] = {}
    for asset, scale, debit, credit, atoms in sums:
        left, right = (total_name(debit), asset, scale), (total_name(credit), asset, scale)
        debits[left] = debits.get(left, 0) + atoms
        credits_[right] = credits_.get(right, 0) + atoms
    return [
        AccountTotal(*key, debits.get(key, 0), credits_.get(key, 0))
        for key in sorted(debits.keys() | credits_.keys())
    ]


def worst_first(found: Iterable[Disagreement]) -> list[Disagreement]:
    """Disagreements by how far stored and derived are apart."""
    return sorted(found, key=lambda d: (-abs(d.stored - d.derived), d.wallet_id, d.figure))
