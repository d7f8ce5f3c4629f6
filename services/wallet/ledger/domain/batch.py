"""A batch: each item is answered as if it had come alone, in order, and each key once for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias, assert_never
from uuid import UUID

from kernel.errors import IdempotencyConflict, Refusal
from wallet.ledger.domain.books import Books, Hold
from wallet.ledger.domain.captures import capture
from wallet.ledger.domain.conversions import convert
from wallet.ledger.domain.corrections import correct
from wallet.ledger.domain.debits import post_debit
from wallet.ledger.domain.grant_changes import change_expiry, void_grant
from wallet.ledger.domain.grants import create_grant
from wallet.ledger.domain.holds import expire_hold, place_hold, void_hold
from wallet.ledger.domain.increases import increase_hold
from wallet.ledger.domain.items import (
    CaptureItem,
    ChangeExpiryItem,
    ConvertItem,
    CorrectItem,
    DebitItem,
    ExpireHoldItem,
    GrantItem,
    HoldItem,
    IncreaseItem,
    Item,
    Operation,
    ReverseItem,
    TouchItem,
    VoidGrantItem,
    VoidItem,
    WalletItem,
)
from wallet.ledger.domain.outcomes import Outcome, Refused, Touched, decode
from wallet.ledger.domain.refusals import GroupRefused
from wallet.ledger.domain.reversals import reverse
from wallet.ledger.domain.ripening import present, touch
from wallet.ledger.domain.savepoint import Savepoint
from wallet.ledger.domain.signals import watch

# What is decided together: one item, or debits of one customer that post all or none.
Bundle: TypeAlias = tuple[Item, ...]
NewId: TypeAlias = Callable[[datetime], UUID]


def decide(books: Books, bundles: Sequence[Bundle], new_id: NewId) -> list[list[Outcome]]:
    """Answer every bundle in order; what was decided is in the books, to be recorded.

    `new_id` makes an id for an instant. Raises NeedsAllGrants and NeedsTerms where more must be
    loaded, and Moved where the lock was taken too narrowly; then nothing of the books may be
    recorded.
    """
    books.new_id = new_id
    return [
        [_answer(books, bundle[0], new_id)]
        if len(bundle) == 1
        else _answer_group(books, bundle, new_id)
        for bundle in bundles
    ]


def _answer(books: Books, item: Item, new_id: NewId) -> Outcome:
    if isinstance(item, TouchItem | ExpireHoldItem):
        return _keep_up(books, item)
    found = _find_answer(books, item)
    if found is not None:
        return found
    try:
        outcome = _perform(books, item, new_id)
    except Refusal as refusal:
        outcome = Refused.by(refusal)
    _keep(books, item, outcome)
    return outcome


def _answer_group(books: Books, bundle: Bundle, new_id: NewId) -> list[Outcome]:
    """All members or none. A member that was answered before counts as it was answered."""
    items = [item for item in bundle if isinstance(item, DebitItem)]
    found = [_find_answer(books, item) for item in items]
    guilty = next(
        (i.request_id for i, f in zip(items, found, strict=True) if isinstance(f, Refused)), None
    )
    fresh: dict[int, Outcome] = {}
    if guilty is None:
        savepoint = _save(books, items)
        for position, item in enumerate(items):
            if found[position] is not None:
                continue
            try:
                fresh[position] = _perform(books, item, new_id)
            except Refusal as refusal:
                savepoint.restore()
                fresh = {position: Refused.by(refusal)}
                guilty = item.request_id
                _look_again(books, item)
                break
    outcomes: list[Outcome] = []
    for position, item in enumerate(items):
        outcome = found[position] or fresh.get(position)
        if outcome is None:
            outcome = Refused.by(GroupRefused(guilty or ""))
        if found[position] is None:
            # A key that stands twice in a group is answered as a repeat of itself.
            again = _find_answer(books, item)
            if again is not None:
                outcome = again
            else:
                _keep(books, item, outcome)
        outcomes.append(outcome)
    return outcomes


def _perform(books: Books, item: Operation, new_id: NewId) -> Outcome:
    match item:
        case DebitItem():
            return capture(books, item) if item.hold_id else post_debit(books, item)
        case CaptureItem():
            return capture(books, item)
        case HoldItem():
            return place_hold(books, item, item.hold_id or str(new_id(item.now or books.clock)))
        case VoidItem():
            return void_hold(books, item)
        case IncreaseItem():
            return increase_hold(books, item)
        case GrantItem():
            return create_grant(books, item, str(new_id(item.now or books.clock)))
        case WalletItem():
            return _adjust(books, item, str(new_id(item.now or books.clock)))
        case _:
            assert_never(item)


def _adjust(books: Books, item: WalletItem, grant_id: str) -> Outcome:
    """What is done by hand. `grant_id` is for the grant that it makes, if any."""
    match item:
        case VoidGrantItem():
            return void_grant(books, item)
        case ChangeExpiryItem():
            return change_expiry(books, item)
        case ReverseItem():
            return reverse(books, item, grant_id)
        case CorrectItem():
            return correct(books, item, grant_id)
        case ConvertItem():
            return convert(books, item, grant_id)
        case _:
            raise TypeError(f"{type(item).__name__} is no operation")


def _keep_up(books: Books, item: TouchItem | ExpireHoldItem) -> Outcome:
    if isinstance(item, ExpireHoldItem):
        expire_hold(books, item.tenant_id, item.hold_id, item.now)
        return Touched()
    wallet = books.wallets.get((item.tenant_id, item.wallet_id))
    if wallet is not None and item.asset in wallet.balances:
        now = present(books, item.now, (wallet,))
        balance = wallet.balances[item.asset]
        touch(books, balance, now)
        watch(books, [balance], now)
    return Touched()


def _find_answer(books: Books, item: Operation) -> Outcome | None:
    """What the key was answered before, in the store or in this batch."""
    known = books.answers.get((item.tenant_id, item.request_id))
    if known is None:
        return None
    fingerprint, kept = known
    if fingerprint != item.fingerprint:
        return Refused.by(IdempotencyConflict(item.request_id))
    return decode(kept) if isinstance(kept, str) else replace(kept, replayed=True)


def _keep(books: Books, item: Operation, outcome: Outcome) -> None:
    books.answers[item.tenant_id, item.request_id] = (item.fingerprint, outcome)
    hold = None
    if not isinstance(item, GrantItem) and item.hold_id:
        hold = books.holds.get((item.tenant_id, item.hold_id))
    books.operations.append(
        (
            item.tenant_id,
            item.request_id,
            int(item.kind),
            _customer_of(books, item, hold),
            _reference_of(item, hold),
            item.fingerprint,
            outcome,
            item.now or books.clock,
        )
    )


def _customer_of(books: Books, item: Operation, hold: Hold | None) -> str:
    if isinstance(item, DebitItem | HoldItem):
        return item.customer_id
    if isinstance(item, GrantItem | WalletItem):
        wallet = books.wallets.get((item.tenant_id, item.wallet_id))
        return wallet.customer_id if wallet is not None else ""
    return hold.customer_id if hold is not None else ""


def _reference_of(item: Operation, hold: Hold | None) -> str:
    if isinstance(item, GrantItem):
        return item.source
    if isinstance(item, WalletItem):
        return item.reason
    if isinstance(item, VoidItem | IncreaseItem):
        return hold.reference if hold is not None else ""
    return item.reference


def _save(books: Books, items: Sequence[DebitItem]) -> Savepoint:
    holds = [
        hold
        for item in items
        if item.hold_id and (hold := books.holds.get((item.tenant_id, item.hold_id)))
    ]
    customers = {(item.tenant_id, item.customer_id) for item in items}
    customers |= {(hold.tenant_id, hold.customer_id) for hold in holds}
    wallets = [wallet for key in sorted(customers) for wallet in books.customers.get(key, ())]
    return Savepoint(books, wallets, holds)


def _look_again(books: Books, item: DebitItem) -> None:
    """A denied group still starts the recharge that would let it pass."""
    wallets = books.customers.get((item.tenant_id, item.customer_id), [])
    now = present(books, item.now, wallets)
    balances = [wallet.balances[item.asset] for wallet in wallets if item.asset in wallet.balances]
    for balance in balances:
        touch(books, balance, now)
    watch(books, balances, now)
