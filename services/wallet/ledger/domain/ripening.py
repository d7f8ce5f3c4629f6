"""What time does to a balance: grants become effective, grants expire, debt is settled.

Every item touches the balances it looks at first, so that no decision rests on a grant whose time
is over, whether or not the sweeper has come by.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from kernel.money import ATOMS_MAX
from wallet.ledger.domain.books import (
    Balance,
    Books,
    Grant,
    NeedsAllGrants,
    NeedsTerms,
    Wallet,
)
from wallet.ledger.domain.spending import burn
from wallet.ledger.domain.values import (
    GRANT_SOURCES,
    NEVER,
    NO_PURPOSE,
    Account,
    GrantKind,
    TransferKind,
)


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
            roll_over(books, balance, grant, now)
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


def roll_over(books: Books, balance: Balance, grant: Grant, now: datetime) -> None:
    """Let what the grant's terms say of its free rest go on in a new grant of its own expiry.

    Where the new grant's time would be over as well, nothing goes on.
    """
    free = grant.remaining - grant.held
    if free <= 0:
        return
    wallet = balance.wallet
    if not wallet.terms_known and not grant.is_new:
        raise NeedsTerms(wallet)
    rollover = grant.rollover
    if rollover is None or books.new_id is None:
        return
    expire = NEVER
    if rollover.seconds is not None:
        expire = grant.expire_time + timedelta(seconds=rollover.seconds)
    atoms = rollover.part_of(free)
    if expire <= now or not atoms or balance.credited + atoms > ATOMS_MAX:
        return
    passing = GRANT_SOURCES[GrantKind(grant.kind)]
    if grant.dormant:
        balance.dormant -= atoms
    grant.remaining -= atoms
    grant.lost += atoms
    balance.debited += atoms
    books.move(
        balance,
        TransferKind.ROLLOVER,
        atoms,
        Account.WALLET,
        passing,
        [(grant, atoms)],
        "",
        now,
    )
    books.note_grant(wallet, grant)
    add_grant(
        books,
        balance,
        Grant(
            grant_id=str(books.new_id(now)),
            kind=grant.kind,
            amount=atoms,
            remaining=atoms,
            held=0,
            priority=grant.priority,
            breadth=grant.breadth,
            restrictions=grant.restrictions,
            effective_time=now,
            expire_time=expire,
            cost_basis=grant.cost_basis,
            create_time=now,
            dormant=False,
            is_new=True,
            cost_asset=grant.cost_asset,
            source=grant.source,
            rolled_from=grant.grant_id,
        ),
        TransferKind.ROLLOVER,
        passing,
        "",
        now,
    )
    close_if_spent(balance, grant)


def add_grant(
    books: Books,
    balance: Balance,
    grant: Grant,
    kind: TransferKind,
    source: Account,
    request_id: str,
    now: datetime,
) -> int:
    """Put a new grant into its balance; answers the move's number in the wallet."""
    wallet = balance.wallet
    balance.credited += grant.amount
    if grant.dormant:
        balance.dormant += grant.amount
        balance.next_change = min(balance.next_change, grant.effective_time)
    balance.next_change = min(balance.next_change, grant.expire_time)
    wallet.grants[grant.grant_id] = grant
    if grant.restrictions is not None:
        balance.restricted_grants += 1
    list_grant(balance, grant)
    books.new_grants.append((balance, grant))
    return books.move(
        balance,
        kind,
        grant.amount,
        source,
        Account.WALLET,
        [(grant, grant.amount)],
        request_id,
        now,
    )


def give_back(books: Books, balance: Balance, grant: Grant, atoms: int) -> None:
    """Raise what is left of a grant that was used; one that was used up is open again."""
    if grant.remaining == 0:
        if grant.restrictions is not None:
            balance.restricted_grants += 1
        list_grant(balance, grant)
        balance.next_change = min(balance.next_change, grant.expire_time)
    grant.remaining += atoms
    balance.credited += atoms
    books.note_grant(balance.wallet, grant)


def list_grant(balance: Balance, grant: Grant) -> None:
    """Take a grant into the burn order. Behind grants that are not loaded it waits unloaded too:
    nothing is burnt out of order."""
    if not balance.truncated or (balance.grants and grant.rank() < balance.grants[-1].rank()):
        balance.grants.append(grant)
        balance.grants.sort(key=Grant.rank)


def expire_free(books: Books, balance: Balance, grant: Grant, now: datetime) -> None:
    """Move what is free of an expired grant to breakage. What a hold pins stays capturable."""
    free = grant.remaining - grant.held
    if free > 0:
        if grant.dormant:
            balance.dormant -= free
        grant.remaining -= free
        grant.lost += free
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
