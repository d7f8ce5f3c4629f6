"""Debits: value is used at once."""

from __future__ import annotations

from kernel.errors import NotFound
from wallet.ledger.domain.books import Balance, Books
from wallet.ledger.domain.items import DebitItem
from wallet.ledger.domain.outcomes import Posted
from wallet.ledger.domain.refusals import InsufficientFunds
from wallet.ledger.domain.ripening import present, touch
from wallet.ledger.domain.signals import watch
from wallet.ledger.domain.spending import (
    allows_shortfall,
    available_in,
    find_payers,
    spread,
    take,
)


def post_debit(books: Books, item: DebitItem, *, late: bool = False) -> Posted:
    """Take the whole amount from the wallets that may pay, or refuse.

    Where one of them allows a shortfall, what is there is taken and the rest is reported.
    """
    if item.scale is None:
        raise NotFound("asset", item.asset)
    purpose, asset = item.purpose, item.asset
    payers = find_payers(books, item.tenant_id, item.customer_id, item.wallet_id, purpose)
    now = present(books, item.now, payers)
    balances: list[Balance] = []
    for wallet in payers:
        balance = wallet.balances.get(asset) or wallet.balance(asset)
        if now >= balance.next_change:
            touch(books, balance, now)
        balances.append(balance)
    parts, shortfall = spread(balances, item.atoms, purpose)
    if shortfall and not allows_shortfall(payers):
        watch(books, balances, now)
        raise InsufficientFunds(item.atoms - shortfall, item.atoms, asset, item.scale)
    shares = take(books, parts, purpose, item.request_id, now)
    watch(books, balances, now)
    return Posted(
        asset,
        item.scale,
        item.atoms - shortfall,
        shortfall,
        available_in(balances, purpose),
        late,
        shares,
    )
