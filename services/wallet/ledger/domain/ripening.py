"""What time does to a balance: grants become effective, grants expire, debt is settled.

Every item touches the balances it looks at first, so that no decision rests on a grant whose time
is over, whether or not the sweeper has come by.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from wallet.ledger.domain.books import Balance, Books, Grant, NeedsAllGrants, Wallet
from wallet.ledger.domain.spending import burn
from wallet.ledger.domain.values import NEVER, NO_PURPOSE, Account, TransferKind


def present(books: Books, now: datetime | None, wallets: Iterable[Wallet]) -> datetime:
    """The instant an item is decided at: its own clock or the database's, never before the last
    change of a wallet it touches."""
    instant = now or books.clock
    for wallet in wallets:
        if wallet.change_time is not None and wallet.change_time > instant:
            instant = wallet.change_time
    return instant


def touch(books: Books, balance: Balance, now: datetime) -> None:
    """Let the time that has passed take its effect on one balance."""
    if now < balance.next_change:
        return
    if balance.truncated:
        raise NeedsAllGrants(balance)
    for grant in list(balance.grants):
        if grant.expire_time <= now:
            expire_free(books, balance, grant, now)
        elif grant.dormant and grant.effective_time <= now:
            grant.dormant = False
            balance.dormant -= grant.remaining
            books.note_grant(balance.wallet, grant)
    settle(books, balance, now)
    balance.next_change = min(
        (
            grant.effective_time if grant.dormant else grant.expire_time
            for grant in balance.grants
            if grant.expire_time > now
        ),
        default=NEVER,
    )
    balance.dirty = True


def expire_free(books: Books, balance: Balance, grant: Grant, now: datetime) -> None:
    """Move what is free of an expired grant to breakage. What a hold pins stays capturable."""
    free = grant.remaining - grant.held
    if free > 0:
        if grant.dormant:
            balance.dormant -= free
        grant.remaining -= free
        balance.debited += free
        books.move(
            balance,
            TransferKind.EXPIRE,
            free,
            Account.WALLET,
            Account.BREAKAGE,
            [(grant, free)],
            "",
            now,
        )
    if grant.dormant:
        grant.dormant = False
    books.note_grant(balance.wallet, grant)
    close_if_spent(balance, grant)


def settle(books: Books, balance: Balance, now: datetime, request_id: str = "") -> None:
    """Pay debt from funds that may pay for anything."""
    debt = balance.overdrawn - balance.held_unbacked
    if debt <= 0:
        return
    atoms = min(debt, balance.spendable(NO_PURPOSE))
    if atoms <= 0:
        return
    split = burn(books, balance, atoms, NO_PURPOSE)
    balance.overdrawn -= atoms
    balance.forced = max(0, min(balance.forced, balance.overdrawn - balance.floor))
    books.move(
        balance, TransferKind.SETTLE, atoms, Account.WALLET, Account.DEBT, split, request_id, now
    )


def close_if_spent(balance: Balance, grant: Grant) -> None:
    """Take a grant that has nothing left from the open ones."""
    if grant.remaining == 0:
        if grant.restrictions is not None:
            balance.restricted_grants -= 1
        if grant in balance.grants:
            balance.grants.remove(grant)
