"""Grants: value comes in, and settles debt first."""

from __future__ import annotations

from kernel.errors import InvalidValue, NotFound
from kernel.money import ATOMS_MAX
from wallet.ledger.domain.books import Books, Grant
from wallet.ledger.domain.items import GrantItem
from wallet.ledger.domain.outcomes import Granted
from wallet.ledger.domain.refusals import WalletClosed
from wallet.ledger.domain.ripening import add_grant, present, settle, touch
from wallet.ledger.domain.signals import watch
from wallet.ledger.domain.values import (
    GRANT_SOURCES,
    NEVER,
    GrantKind,
    TransferKind,
    WalletState,
    breadth_of,
)


def create_grant(books: Books, item: GrantItem, grant_id: str) -> Granted:
    """Put value into a wallet. A frozen wallet receives, a closed one does not."""
    wallet = books.wallets.get((item.tenant_id, item.wallet_id))
    if wallet is None:
        raise NotFound("wallet", item.wallet_id)
    if item.scale is None:
        raise NotFound("asset", item.asset)
    if wallet.state is WalletState.CLOSED:
        raise WalletClosed(item.wallet_id)
    now = present(books, item.now, (wallet,))
    effective = item.effective_time or now
    expire = item.expire_time or NEVER
    if expire <= now:
        raise InvalidValue("expire_time", "is over already")
    if expire <= effective:
        raise InvalidValue("expire_time", "is not after effective_time")
    balance = wallet.balance(item.asset)
    if balance.credited + item.atoms > ATOMS_MAX:
        raise InvalidValue("amount.value", "is more than a balance can hold")
    touch(books, balance, now)
    if item.rollover is not None and expire == NEVER:
        raise InvalidValue("rollover", "goes with expire_time")

    grant = Grant(
        grant_id=grant_id,
        kind=item.grant_kind,
        amount=item.atoms,
        remaining=item.atoms,
        held=0,
        priority=item.priority,
        breadth=breadth_of(item.restrictions),
        restrictions=item.restrictions,
        effective_time=effective,
        expire_time=expire,
        cost_basis=item.cost_basis,
        create_time=now,
        dormant=effective > now,
        is_new=True,
        cost_asset=item.cost_asset,
        source=item.source,
        request_id=item.request_id,
        rollover=item.rollover,
    )
    add_grant(
        books,
        balance,
        grant,
        TransferKind.GRANT,
        GRANT_SOURCES[GrantKind(item.grant_kind)],
        item.request_id,
        now,
    )
    settle(books, balance, now, item.request_id)
    watch(books, [balance], now)
    return Granted(
        grant_id,
        item.wallet_id,
        item.asset,
        item.scale,
        item.atoms,
        grant.remaining,
        item.grant_kind,
        item.priority,
        effective,
        expire,
        item.restrictions,
        item.cost_basis,
        item.cost_asset,
        item.source,
        now,
        rollover=item.rollover,
    )
