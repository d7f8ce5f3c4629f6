"""Reversals: what a debit or capture took is given back, whole or in part, never more than that."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from kernel.errors import InvalidValue, NotFound
from kernel.money import ATOMS_MAX
from wallet.ledger.domain.answers import Reversed
from wallet.ledger.domain.books import Balance, Books, Grant
from wallet.ledger.domain.grant_changes import note_by_hand, open_wallet
from wallet.ledger.domain.items import Original, ReverseItem
from wallet.ledger.domain.refusals import NotReversible, ReversedAlready
from wallet.ledger.domain.ripening import add_grant, give_back, present, settle, touch
from wallet.ledger.domain.signals import watch
from wallet.ledger.domain.values import (
    GRANT_SOURCES,
    NEVER,
    NO_PURPOSE,
    PRIORITY_DEFAULT,
    Account,
    GrantKind,
    TransferKind,
    breadth_of,
)

REVERSIBLE = (TransferKind.DEBIT, TransferKind.CAPTURE)


def reverse(books: Books, item: ReverseItem, grant_id: str) -> Reversed:
    """Give back what a transfer took.

    What was burnt last is given back first, as if less had been debited. A grant that still lives
    gets its part back; parts of grants that expired or were voided, and of an overdraft, come back
    as one refund grant that may pay for anything and does not expire. Debt is settled from it
    first.
    """
    wallet = open_wallet(books, item)
    transfer_id = f"{item.wallet_id}/{item.sequence}"
    original = item.original
    if original is None or item.scale is None:
        raise NotFound("transfer", transfer_id)
    if original.kind not in REVERSIBLE or original.by_hand:
        raise NotReversible(transfer_id, original.kind.name)
    key = (item.tenant_id, item.wallet_id, item.sequence)
    done = books.details.reversed.get(key, 0)
    left = original.atoms - done
    atoms = left if item.atoms is None else item.atoms
    if atoms > left or not atoms:
        raise ReversedAlready(transfer_id, left, atoms or original.atoms, item.scale)
    now = present(books, item.now, (wallet,))
    balance = wallet.balance(item.asset)
    touch(books, balance, now)
    if balance.credited + atoms > ATOMS_MAX:
        raise InvalidValue("value", "is more than a balance can hold")

    restored, lost = _part(wallet.grants, original, done, atoms, now)
    for grant, part in restored:
        give_back(books, balance, grant, part)
    given = sum(part for _, part in restored)
    if given:
        books.move(
            balance,
            TransferKind.REVERSAL,
            given,
            Account.REVENUE,
            Account.WALLET,
            list(restored),
            item.request_id,
            now,
        )
    if atoms > given:
        _refund(books, balance, grant_id, atoms - given, lost, transfer_id, item, now)
    settle(books, balance, now, item.request_id)
    if original.spending is not None:
        customer_id, path, meter, time = original.spending
        claim = books.budgets.claim(item.tenant_id, customer_id, path, item.asset, meter)
        claim.give_back(atoms, time, item.request_id)
    books.details.reversed[key] = done + atoms
    books.details.reversals.append((*key, item.request_id, atoms, now))
    note_by_hand(books, item, now)
    watch(books, [balance], now)
    return Reversed(
        item.wallet_id,
        item.sequence,
        item.asset,
        item.scale,
        atoms,
        left - atoms,
        [(grant.grant_id, part) for grant, part in restored],
        grant_id if atoms > given else "",
        balance.spendable(NO_PURPOSE) + balance.headroom,
    )


def _part(
    grants: dict[str, Grant], original: Original, done: int, atoms: int, now: datetime
) -> tuple[list[tuple[Grant, int]], list[Grant]]:
    """Which living grants get how much of so many atoms, after what was given back before; and the
    grants that live no more."""
    restored: list[tuple[Grant, int]] = []
    lost: list[Grant] = []
    skip = done
    for grant_id, whole in reversed(original.split):
        part = whole - min(skip, whole)
        skip -= whole - part
        part = min(part, atoms)
        atoms -= part
        if not part or grant_id is None:
            continue
        grant = grants[grant_id]
        if grant.void_time is None and grant.expire_time > now:
            restored.append((grant, part))
        else:
            lost.append(grant)
    return restored, lost


def _refund(
    books: Books,
    balance: Balance,
    grant_id: str,
    atoms: int,
    lost: list[Grant],
    transfer_id: str,
    item: ReverseItem,
    now: datetime,
) -> None:
    """A grant for what no living grant gets back; it cost what those cost, where that is one."""
    costs = {(grant.cost_basis, grant.cost_asset) for grant in lost}
    cost_basis, cost_asset = costs.pop() if len(costs) == 1 else (Decimal(0), "")
    refund = Grant(
        grant_id=grant_id,
        kind=int(GrantKind.REFUND),
        amount=atoms,
        remaining=atoms,
        held=0,
        priority=PRIORITY_DEFAULT,
        breadth=breadth_of(None),
        restrictions=None,
        effective_time=now,
        expire_time=NEVER,
        cost_basis=cost_basis,
        create_time=now,
        dormant=False,
        is_new=True,
        cost_asset=cost_asset,
        source=f"reversal of {transfer_id}",
        request_id=item.request_id,
    )
    account = GRANT_SOURCES[GrantKind.REFUND]
    add_grant(books, balance, refund, TransferKind.GRANT, account, item.request_id, now)
