"""Who pays for an item, and from which grants: wallets by priority, grants in burn order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kernel.errors import NotFound
from wallet.ledger.domain.books import (
    Balance,
    Books,
    BooksDisagree,
    NeedsAllGrants,
    Split,
    Wallet,
)
from wallet.ledger.domain.outcomes import Share
from wallet.ledger.domain.refusals import NoWallet, WalletClosed, WalletFrozen
from wallet.ledger.domain.values import (
    Account,
    Purpose,
    ShortfallMode,
    TransferKind,
    WalletState,
    admits,
)


@dataclass(slots=True, eq=False)
class Part:
    """What one balance contributes: from its grants, and from its overdraft."""

    balance: Balance
    funds: int
    overdraft: int


def find_payers(
    books: Books, tenant_id: str, customer_id: str, wallet_id: str, purpose: Purpose
) -> list[Wallet]:
    """The wallets that may pay, in order of priority. Raises NotFound, NoWallet, WalletFrozen,
    WalletClosed where there is none."""
    owned = books.customers.get((tenant_id, customer_id), ())
    if wallet_id:
        owned = [wallet for wallet in owned if wallet.wallet_id == wallet_id]
        if not owned:
            raise NotFound("wallet", wallet_id)
        if owned[0].state is WalletState.CLOSED:
            raise WalletClosed(wallet_id)
    payers = [
        wallet
        for wallet in owned
        if wallet.state is WalletState.ACTIVE
        and (wallet.restrictions is None or admits(wallet.restrictions, purpose))
    ]
    if not payers:
        for wallet in owned:
            if wallet.state is WalletState.FROZEN:
                raise WalletFrozen(wallet.wallet_id)
        raise NoWallet(customer_id)
    return payers


def available_in(balances: list[Balance], purpose: Purpose) -> int:
    """What some balances could pay for a purpose now, overdraft included."""
    total = 0
    for balance in balances:
        total += balance.spendable(purpose)
        if balance.floor > balance.overdrawn:
            total += balance.floor - balance.overdrawn
    return total


def spread(balances: list[Balance], atoms: int, purpose: Purpose) -> tuple[list[Part], int]:
    """Divide an amount over balances: funds of all of them first, then their overdrafts.

    Answers the parts and what none of them covers. Changes nothing.
    """
    parts: list[Part] = []
    left = atoms
    for balance in balances:
        funds = balance.spendable(purpose)
        if funds > 0:
            if funds >= left:
                parts.append(Part(balance, left, 0))
                return parts, 0
            parts.append(Part(balance, funds, 0))
            left -= funds
    for balance in balances:
        lent = min(balance.headroom, left)
        if lent > 0:
            left -= lent
            for part in parts:
                if part.balance is balance:
                    part.overdraft = lent
                    break
            else:
                parts.append(Part(balance, 0, lent))
            if not left:
                break
    return parts, left


def burn(books: Books, balance: Balance, atoms: int, purpose: Purpose) -> Split:
    """Use up grants in burn order; answers which, and how much of each."""
    split: Split = []
    spent = False
    for grant in balance.grants:
        free = grant.remaining - grant.held
        if free <= 0 or grant.dormant:
            continue
        if grant.restrictions is not None and not admits(grant.restrictions, purpose):
            continue
        part = free if free < atoms else atoms
        grant.remaining -= part
        if not grant.is_new:
            books.changed_grants[grant.grant_id] = (balance.wallet, grant)
        split.append((grant, part))
        if grant.remaining == 0:
            spent = True
            if grant.restrictions is not None:
                balance.restricted_grants -= 1
        atoms -= part
        if not atoms:
            break
    if atoms:
        _ran_out(balance)
    if spent:
        balance.grants = [grant for grant in balance.grants if grant.remaining]
    return split


def pin(books: Books, balance: Balance, atoms: int, purpose: Purpose) -> Split:
    """Set grants aside in burn order; answers which, and how much of each."""
    split: Split = []
    for grant in balance.grants:
        free = grant.remaining - grant.held
        if free <= 0 or grant.dormant:
            continue
        if grant.restrictions is not None and not admits(grant.restrictions, purpose):
            continue
        part = free if free < atoms else atoms
        grant.held += part
        if not grant.is_new:
            books.changed_grants[grant.grant_id] = (balance.wallet, grant)
        split.append((grant, part))
        atoms -= part
        if not atoms:
            break
    if atoms:
        _ran_out(balance)
    return split


def take(
    books: Books, parts: list[Part], purpose: Purpose, request_id: str, now: datetime
) -> list[Share]:
    """Debit parts for good; answers each wallet's share."""
    shares: list[Share] = []
    for part in parts:
        balance, number = part.balance, 0
        if part.funds:
            split = burn(books, balance, part.funds, purpose)
            balance.debited += part.funds
            number = books.move(
                balance,
                TransferKind.DEBIT,
                part.funds,
                Account.WALLET,
                Account.REVENUE,
                split,
                request_id,
                now,
            )
        if part.overdraft:
            lend(balance, part.overdraft)
            balance.debited += part.overdraft
            lent = books.move(
                balance,
                TransferKind.DEBIT,
                part.overdraft,
                Account.DEBT,
                Account.REVENUE,
                [(None, part.overdraft)],
                request_id,
                now,
            )
            number = number or lent
        shares.append((balance.wallet_id, part.funds + part.overdraft, number))
    return shares


def lend(balance: Balance, atoms: int) -> None:
    """Raise what is overdrawn; beyond the floor it is a forced debt."""
    balance.overdrawn += atoms
    if balance.overdrawn - balance.floor > balance.forced:
        balance.forced = balance.overdrawn - balance.floor


def allows_shortfall(payers: list[Wallet]) -> bool:
    """Whether what is not covered is reported rather than refused."""
    return any(wallet.shortfall_mode is ShortfallMode.ALLOW for wallet in payers)


def _ran_out(balance: Balance) -> None:
    if balance.truncated:
        raise NeedsAllGrants(balance)
    raise BooksDisagree(f"balance {balance.asset} of wallet {balance.wallet_id}")
