"""Conversions: value of one asset becomes another's at the rate in force, and nothing is lost."""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from kernel.errors import InvalidValue, NotFound
from kernel.money import ATOMS_MAX, FRACTION_DIGITS_MAX
from wallet.ledger.domain.answers import Converted
from wallet.ledger.domain.books import Balance, Books, Grant, Split
from wallet.ledger.domain.grant_changes import note_by_hand, open_wallet
from wallet.ledger.domain.items import ConvertItem
from wallet.ledger.domain.refusals import InsufficientFunds, NoExchangeRate, WalletFrozen
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
    WalletState,
    breadth_of,
)

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_COST_UNIT = Decimal(1).scaleb(-FRACTION_DIGITS_MAX)


def divide(atoms: int, rate: Fraction) -> tuple[int, int, int]:
    """What so many atoms buy at a rate (atoms for an atom): gained, spent on it, and the residual.

    Gained is cut down to whole atoms, spent is the least that buys as many, and the residual is
    what is too little to buy one more: spent and residual are all that was given.
    """
    gained = int(atoms * rate)
    spent = -int(-gained / rate // 1)
    return gained, spent, atoms - spent


def convert(books: Books, item: ConvertItem, grant_id: str) -> Converted:
    """Turn value into another asset of the same wallet: two linked legs, and the residual.

    It is paid by grants that may pay for anything, never from the overdraft. The new grant expires
    no later than the first of those: converting prolongs nothing.
    """
    wallet = open_wallet(books, item)
    if wallet.state is WalletState.FROZEN:
        raise WalletFrozen(item.wallet_id)
    for asset, scale in ((item.asset, item.scale), (item.to_asset, item.to_scale)):
        if scale is None:
            raise NotFound("asset", asset)
    from_scale, to_scale = item.scale or 0, item.to_scale or 0
    found = books.details.rates.get((item.tenant_id, item.asset, item.to_asset))
    if found is None:
        raise NoExchangeRate(item.asset, item.to_asset)
    rate_time, rate = found
    now = present(books, item.now, (wallet,))
    source, target = wallet.balance(item.asset), wallet.balance(item.to_asset)
    for balance in (source, target):
        touch(books, balance, now)
    if item.expire_time is not None and item.expire_time <= now:
        raise InvalidValue("expire_time", "is over already")
    gained, spent, residual = divide(
        item.atoms, Fraction(rate) * 10**to_scale / Fraction(10**from_scale)
    )
    if not gained:
        raise InvalidValue("amount.value", f"buys less than an atom of {item.to_asset}")
    if target.credited + gained > ATOMS_MAX:
        raise InvalidValue("amount.value", "is more than a balance can hold")
    free = source.spendable(NO_PURPOSE)
    if free < item.atoms:
        watch(books, [source], now)
        raise InsufficientFunds(free, item.atoms, item.asset, from_scale)

    number, split = _pay(books, source, spent, Account.CONVERSION, item.request_id, now)
    if residual:
        split = split + _pay(books, source, residual, Account.ROUNDING, item.request_id, now)[1]
    expire = min([grant.expire_time for grant, _ in split if grant], default=NEVER)
    cost = Decimal(spent).scaleb(-from_scale, _EXACT) / Decimal(gained).scaleb(-to_scale, _EXACT)
    grant = Grant(
        grant_id=grant_id,
        kind=int(GrantKind.CONVERSION),
        amount=gained,
        remaining=gained,
        held=0,
        priority=PRIORITY_DEFAULT,
        breadth=breadth_of(None),
        restrictions=None,
        effective_time=now,
        expire_time=min(expire, item.expire_time or NEVER),
        cost_basis=cost.quantize(_COST_UNIT, context=_EXACT),
        create_time=now,
        dormant=False,
        is_new=True,
        cost_asset=item.asset,
        source=f"conversion of {item.asset}",
        request_id=item.request_id,
    )
    to_number = add_grant(
        books, target, grant, TransferKind.CONVERSION, Account.CONVERSION, item.request_id, now
    )
    settle(books, target, now, item.request_id)
    note_by_hand(books, item, now)
    watch(books, [source, target], now)
    return Converted(
        item.wallet_id,
        item.asset,
        from_scale,
        spent,
        residual,
        item.to_asset,
        to_scale,
        gained,
        rate,
        rate_time,
        grant_id,
        number,
        to_number,
    )


def _pay(
    books: Books, balance: Balance, atoms: int, account: Account, request_id: str, now: datetime
) -> tuple[int, Split]:
    split = burn(books, balance, atoms, NO_PURPOSE)
    balance.debited += atoms
    number = books.move(
        balance,
        TransferKind.CONVERSION,
        atoms,
        Account.WALLET,
        account,
        split,
        request_id,
        now,
    )
    return number, split
