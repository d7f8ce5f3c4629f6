"""Debits: value is used at once."""

from __future__ import annotations

from kernel.errors import NotFound
from wallet.budgets.domain.counting import Claim
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


def post_debit(
    books: Books, item: DebitItem, *, late: bool = False, claim: Claim | None = None
) -> Posted:
    """Take the whole amount from the wallets that may pay, or refuse.

    Where one of them allows a shortfall, what is there is taken and the rest is reported. `claim`
    says whose budgets it counts for, where the item does not name the node itself.
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
    if item.node and claim is None:
        claim = books.budgets.claim_of(
            item.tenant_id, item.customer_id, item.node, asset, purpose[0]
        )
    if claim is not None:
        claim.check(item.atoms, now)
    parts, shortfall = spread(balances, item.atoms, purpose)
    if shortfall and not allows_shortfall(payers):
        watch(books, balances, now)
        raise InsufficientFunds(item.atoms - shortfall, item.atoms, asset, item.scale)
    shares = take(books, parts, purpose, item.request_id, now)
    if claim is not None:
        claim.spend(
            item.atoms - shortfall, now, item.request_id, shortfall=shortfall, hold_id=item.hold_id
        )
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
