"""Corrections: value is put in or taken out by hand, against a house account."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from kernel.errors import InvalidValue, NotFound
from kernel.money import ATOMS_MAX
from wallet.ledger.domain.answers import Corrected
from wallet.ledger.domain.books import Balance, Books, Grant, Split
from wallet.ledger.domain.grant_changes import (
    find_grant,
    note_by_hand,
    open_wallet,
    take_from,
)
from wallet.ledger.domain.items import CorrectItem
from wallet.ledger.domain.refusals import InsufficientFunds
from wallet.ledger.domain.ripening import add_grant, present, settle, touch
from wallet.ledger.domain.signals import watch
from wallet.ledger.domain.spending import burn
from wallet.ledger.domain.values import (
    NEVER,
    NO_PURPOSE,
    PRIORITY_DEFAULT,
    Account,
    GrantKind,
    TransferKind,
    breadth_of,
)


def correct(books: Books, item: CorrectItem, grant_id: str) -> Corrected:
    """Put value in as a grant, or take it out of the wallet's grants or of one of them.

    Taking out stops at what is free: it never makes debt, and it leaves grants for some purposes
    only alone unless it names one.
    """
    wallet = open_wallet(books, item)
    if item.scale is None:
        raise NotFound("asset", item.asset)
    now = present(books, item.now, (wallet,))
    balance = wallet.balance(item.asset)
    touch(books, balance, now)
    if item.increase:
        number = _put_in(books, balance, item, grant_id, now)
        settle(books, balance, now, item.request_id)
    else:
        split = _take_out(books, balance, item)
        for grant, part in split:
            if grant is not None:
                grant.lost += part
        balance.debited += item.atoms
        number = books.move(
            balance,
            TransferKind.CORRECTION,
            item.atoms,
            Account.WALLET,
            item.house,
            split,
            item.request_id,
            now,
        )
    note_by_hand(books, item, now)
    watch(books, [balance], now)
    return Corrected(
        item.wallet_id,
        number,
        item.asset,
        item.scale,
        item.atoms,
        item.increase,
        grant_id if item.increase else "",
        balance.spendable(NO_PURPOSE) + balance.headroom,
    )


def _put_in(books: Books, balance: Balance, item: CorrectItem, grant_id: str, now: datetime) -> int:
    expire = item.expire_time or NEVER
    if expire <= now:
        raise InvalidValue("expire_time", "is over already")
    if balance.credited + item.atoms > ATOMS_MAX:
        raise InvalidValue("amount.value", "is more than a balance can hold")
    grant = Grant(
        grant_id=grant_id,
        kind=int(GrantKind.CORRECTION),
        amount=item.atoms,
        remaining=item.atoms,
        held=0,
        priority=PRIORITY_DEFAULT,
        breadth=breadth_of(None),
        restrictions=None,
        effective_time=now,
        expire_time=expire,
        cost_basis=Decimal(0),
        create_time=now,
        dormant=False,
        is_new=True,
        source=item.reason,
        request_id=item.request_id,
    )
    return add_grant(
        books, balance, grant, TransferKind.CORRECTION, item.house, item.request_id, now
    )


def _take_out(books: Books, balance: Balance, item: CorrectItem) -> Split:
    scale = item.scale or 0
    if item.grant_id:
        _, _, grant, _ = find_grant(books, item, item.grant_id)
        free = 0 if grant.dormant else grant.remaining - grant.held
        if free < item.atoms:
            raise InsufficientFunds(free, item.atoms, item.asset, scale)
        return take_from(books, balance, [grant], item.atoms)
    free = balance.spendable(NO_PURPOSE)
    if free < item.atoms:
        raise InsufficientFunds(free, item.atoms, item.asset, scale)
    return burn(books, balance, item.atoms, NO_PURPOSE)
