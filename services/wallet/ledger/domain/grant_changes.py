"""Grants that are taken back or made to expire at another time, by new entries alone."""

from __future__ import annotations

from datetime import datetime

from kernel.errors import InvalidValue, NotFound
from wallet.ledger.domain.answers import Voided
from wallet.ledger.domain.books import Balance, Books, Grant, NeedsAllGrants, Split, Wallet
from wallet.ledger.domain.items import ChangeExpiryItem, VoidGrantItem, WalletItem
from wallet.ledger.domain.outcomes import Granted
from wallet.ledger.domain.refusals import (
    GrantEnded,
    GrantHeld,
    GrantNotCovered,
    PeriodClosed,
    WalletClosed,
)
from wallet.ledger.domain.ripening import close_if_spent, present, touch
from wallet.ledger.domain.signals import watch
from wallet.ledger.domain.values import (
    GRANT_SOURCES,
    Account,
    GrantKind,
    Restrictions,
    TransferKind,
    WalletState,
)


def void_grant(books: Books, item: VoidGrantItem) -> Voided:
    """Take a grant back to where its value came from.

    With `replay`, what it paid for is given back to it and paid by the wallet's other grants
    instead. Which of those may pay is decided by scope: one that may pay for all that this one
    might have, since the journal does not say for what each move was.
    """
    wallet, balance, grant, now = find_grant(books, item, item.grant_id)
    scale = item.scale or 0
    if grant.void_time is not None:
        raise GrantEnded(grant.grant_id, "VOIDED")
    if grant.held:
        raise GrantHeld(grant.grant_id, grant.held, balance.asset, scale)
    unused, was_open = grant.remaining, grant.remaining > 0
    used = grant.amount - grant.remaining - grant.lost if item.replay else 0
    split = _replay(books, balance, grant, used, item, now) if used else []
    _take_back(books, balance, grant, item.request_id, now)
    grant.void_time = now
    books.voided_grants.append((wallet, grant))
    if was_open:
        close_if_spent(balance, grant)
    note_by_hand(books, item, now)
    watch(books, [balance], now)
    return Voided(
        wallet.wallet_id,
        grant.grant_id,
        balance.asset,
        scale,
        unused,
        used,
        [(other.grant_id, atoms) for other, atoms in split if other is not None],
        now,
    )


def change_expiry(books: Books, item: ChangeExpiryItem) -> Granted:
    """Let a grant that has not ended expire at another time."""
    wallet, balance, grant, now = find_grant(books, item, item.grant_id)
    if grant.void_time is not None:
        raise GrantEnded(grant.grant_id, "VOIDED")
    if grant.expire_time <= now:
        raise GrantEnded(grant.grant_id, "EXPIRED")
    if item.expire_time <= now:
        raise InvalidValue("expire_time", "is over already")
    if item.expire_time <= grant.effective_time:
        raise InvalidValue("expire_time", "is not after the grant's effective_time")
    if balance.truncated:
        raise NeedsAllGrants(balance)  # its place in the burn order changes
    grant.expire_time = item.expire_time
    balance.grants.sort(key=Grant.rank)
    if grant.remaining:
        # Where it moved away, the next touch finds that nothing is due and looks anew.
        balance.next_change = min(balance.next_change, grant.expire_time)
        balance.dirty = True
    if not grant.is_new:
        books.moved_expiries[grant.grant_id] = (wallet, grant)
    note_by_hand(books, item, now)
    return Granted(
        grant.grant_id,
        wallet.wallet_id,
        balance.asset,
        item.scale or 0,
        grant.amount,
        grant.remaining,
        grant.kind,
        grant.priority,
        grant.effective_time,
        grant.expire_time,
        grant.restrictions,
        grant.cost_basis,
        grant.cost_asset,
        grant.source,
        grant.create_time,
        rollover=grant.rollover,
        held=grant.held,
    )


def find_grant(
    books: Books, item: WalletItem, grant_id: str
) -> tuple[Wallet, Balance, Grant, datetime]:
    """A grant with its wallet and its balance, touched, and the time. Raises NotFound,
    WalletClosed."""
    wallet = open_wallet(books, item)
    grant = wallet.grants.get(grant_id)
    if grant is None or item.scale is None:
        raise NotFound("grant", grant_id)
    now = present(books, item.now, (wallet,))
    balance = wallet.balance(item.asset)
    touch(books, balance, now)
    return wallet, balance, grant, now


def open_wallet(books: Books, item: WalletItem) -> Wallet:
    """The wallet of what is done by hand; a frozen one will do. Raises NotFound, WalletClosed."""
    wallet = books.wallets.get((item.tenant_id, item.wallet_id))
    if wallet is None:
        raise NotFound("wallet", item.wallet_id)
    if wallet.state is WalletState.CLOSED:
        raise WalletClosed(item.wallet_id)
    return wallet


def note_by_hand(books: Books, item: WalletItem, now: datetime) -> None:
    """Keep who did it and why."""
    books.details.adjustments.append(
        (
            item.tenant_id,
            item.request_id,
            int(item.kind),
            item.wallet_id,
            item.reason,
            item.approver,
            item.caller,
            now,
        )
    )


def _replay(
    books: Books, balance: Balance, grant: Grant, used: int, item: VoidGrantItem, now: datetime
) -> Split:
    """Give back what the grant paid for, and let others pay it. Raises PeriodClosed,
    GrantNotCovered."""
    closed = books.details.closed.get(item.tenant_id)
    first_use = books.details.first_uses.get(grant.grant_id)
    if closed is not None and first_use is not None and first_use < closed:
        raise PeriodClosed(closed)
    if balance.truncated:
        raise NeedsAllGrants(balance)
    others = [
        other
        for other in balance.grants
        if other is not grant and not other.dormant and _covers(other, grant)
    ]
    cover = sum(other.remaining - other.held for other in others)
    if cover < used:
        raise GrantNotCovered(grant.grant_id, cover, used, balance.asset, item.scale or 0)
    grant.remaining += used
    balance.credited += used
    books.note_grant(balance.wallet, grant)
    books.move(
        balance,
        TransferKind.VOID,
        used,
        Account.REVENUE,
        Account.WALLET,
        [(grant, used)],
        item.request_id,
        now,
    )
    split = take_from(books, balance, others, used)
    balance.debited += used
    books.move(
        balance,
        TransferKind.DEBIT,
        used,
        Account.WALLET,
        Account.REVENUE,
        split,
        item.request_id,
        now,
    )
    return split


def _take_back(
    books: Books, balance: Balance, grant: Grant, request_id: str, now: datetime
) -> None:
    atoms = grant.remaining
    if not atoms:
        return
    if grant.dormant:
        balance.dormant -= atoms
        grant.dormant = False
    grant.remaining = 0
    grant.lost += atoms
    balance.debited += atoms
    books.note_grant(balance.wallet, grant)
    books.move(
        balance,
        TransferKind.VOID,
        atoms,
        Account.WALLET,
        GRANT_SOURCES[GrantKind(grant.kind)],
        [(grant, atoms)],
        request_id,
        now,
    )


def take_from(books: Books, balance: Balance, grants: list[Grant], atoms: int) -> Split:
    """Use up the free part of chosen grants, in their order; together they suffice."""
    split: Split = []
    for grant in grants:
        part = min(grant.remaining - grant.held, atoms)
        if part <= 0:
            continue
        grant.remaining -= part
        atoms -= part
        split.append((grant, part))
        books.note_grant(balance.wallet, grant)
        close_if_spent(balance, grant)
        if not atoms:
            break
    return split


def _covers(other: Grant, grant: Grant) -> bool:
    """Whether one grant may pay for everything that another might have paid for."""
    if other.restrictions is None:
        return True
    mine: Restrictions = grant.restrictions or ((), (), ())
    return all(
        not theirs or (codes and set(codes) <= set(theirs))
        for theirs, codes in zip(other.restrictions, mine, strict=True)
    )
