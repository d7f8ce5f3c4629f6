"""Captures: held value is used, and what to do where more was used than was held."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from kernel.errors import InvalidValue, NotFound, Refusal
from kernel.money import ATOMS_MAX
from wallet.ledger.domain.books import Balance, Books, Hold, NeedsTerms, Pin, Split, Wallet
from wallet.ledger.domain.debits import post_debit
from wallet.ledger.domain.holds import (
    by_wallet,
    check_same,
    claim_of,
    end,
    find_open,
    merged,
    owners,
    release,
)
from wallet.ledger.domain.items import CaptureItem, DebitItem
from wallet.ledger.domain.outcomes import Posted, Share
from wallet.ledger.domain.refusals import HoldEnded, OverCaptured
from wallet.ledger.domain.ripening import close_if_spent, present, settle, touch
from wallet.ledger.domain.signals import watch
from wallet.ledger.domain.spending import Part, available_in, find_payers, spread, take
from wallet.ledger.domain.values import (
    Account,
    HoldState,
    OverCapture,
    Purpose,
    TransferKind,
)


def capture(books: Books, item: CaptureItem | DebitItem) -> Posted:
    """Use what a hold set aside, and more or less of it as the item says."""
    hold = books.holds.get((item.tenant_id, item.hold_id))
    if hold is not None and not hold.customer_id:
        raise HoldEnded(hold.hold_id, hold.state.name)
    if hold is None or item.scale is None:
        raise NotFound("hold", item.hold_id)
    purpose, wallet_id = hold.purpose, hold.wallet_id or ""
    if isinstance(item, DebitItem):
        check_same(hold, item.customer_id, item.asset, item.node)
        purpose, wallet_id = item.purpose, item.wallet_id or wallet_id
    try:
        find_open(books, hold, item.now)
    except HoldEnded:
        if hold.state is HoldState.EXPIRED and _takes_late(books, hold) and item.atoms:
            claim = claim_of(books, hold) if hold.path else None
            return post_debit(books, _plain(item, hold, purpose, wallet_id), late=True, claim=claim)
        raise
    now = present(books, item.now, owners(books, hold))
    pinned = sum(atoms for _, _, atoms in hold.pins)
    excess = item.atoms - pinned
    policy = item.over_capture
    if excess > 0 and policy is OverCapture.UNSTATED:
        policy = _policy(books, hold)
    if excess > 0 and policy is OverCapture.REJECT:
        raise OverCaptured(pinned, item.atoms, item.scale)

    payers, balances = _payers(books, hold, wallet_id, purpose, now)
    claim = claim_of(books, hold) if hold.path else None
    room = claim.room(now) if claim is not None else None
    used = min(item.atoms, pinned)
    shares = _use(books, hold, used, item.request_id, now)
    shortfall = 0
    if excess > 0:
        more, shortfall = _exceed(
            books, hold, item, policy, excess, room, payers, balances, purpose, now
        )
        shares = merged(shares, more)
    hold.captured += item.atoms - shortfall
    _settle(books, hold, item.request_id, now)
    if claim is not None:
        claim.release(used)
        claim.spend(item.atoms - shortfall, now, item.request_id, hold_id=hold.hold_id)
    if item.final:
        release(books, hold, item.request_id, now)
        end(books, hold, HoldState.CAPTURED, now)
    books.note_hold(hold)
    watch(books, balances, now)
    left = available_in(balances, purpose)
    return Posted(
        hold.asset, item.scale, item.atoms - shortfall, shortfall, left, late=False, shares=shares
    )


def _settle(books: Books, hold: Hold, request_id: str, now: datetime) -> None:
    """Pay what the capture left owing from funds that are there: those of a frozen wallet, or those
    that came in after an overdraft was set aside."""
    for wallet in owners(books, hold):
        balance = wallet.balances.get(hold.asset)
        if balance is not None and balance.overdrawn > balance.held_unbacked:
            touch(books, balance, now)
            settle(books, balance, now, request_id)


def _use(books: Books, hold: Hold, atoms: int, request_id: str, now: datetime) -> list[Share]:
    """Take from the pins, in the order in which they were made."""
    taken: list[Pin] = []
    kept: list[Pin] = []
    for wallet_id, grant_id, pinned in hold.pins:
        part = min(pinned, atoms)
        atoms -= part
        if part:
            taken.append((wallet_id, grant_id, part))
        if pinned > part:
            kept.append((wallet_id, grant_id, pinned - part))
    hold.pins = kept
    shares: list[Share] = []
    for wallet_id, used in by_wallet(taken):
        wallet = books.wallets[hold.tenant_id, wallet_id]
        balance = wallet.balances[hold.asset]
        split: Split = []
        for _, grant_id, part in used:
            if grant_id is None:
                balance.held_unbacked -= part
                split.append((None, part))
                continue
            grant = wallet.grants[grant_id]
            grant.held -= part
            grant.remaining -= part
            books.note_grant(wallet, grant)
            close_if_spent(balance, grant)
            split.append((grant, part))
        total = sum(part for _, part in split)
        balance.held -= total
        balance.debited += total
        number = books.move(
            balance,
            TransferKind.CAPTURE,
            total,
            Account.HELD,
            Account.REVENUE,
            split,
            request_id,
            now,
        )
        shares.append((wallet_id, total, number))
    return shares


def _exceed(
    books: Books,
    hold: Hold,
    item: CaptureItem | DebitItem,
    policy: OverCapture,
    excess: int,
    room: int | None,
    payers: list[Wallet],
    balances: list[Balance],
    purpose: Purpose,
    now: datetime,
) -> tuple[list[Share], int]:
    """Do with the excess as the item says; answers who paid for it, and what nobody did.

    `room` is what the spend caps leave for it, None where none applies.
    """
    match policy:
        case OverCapture.UNSTATED | OverCapture.REJECT | OverCapture.CLAMP:
            return [], excess
        case OverCapture.USE_AVAILABLE:
            fits = excess if room is None else min(excess, room)
            parts, left = spread(balances, fits, purpose)
            return take(books, parts, purpose, item.request_id, now), left + excess - fits
        case OverCapture.FORCE:
            parts, left = spread(balances, excess, purpose)
            if left:
                _lend_beyond(books, hold, payers, parts, left)
            return take(books, parts, purpose, item.request_id, now), 0
        case _:
            assert_never(policy)


def _lend_beyond(
    books: Books, hold: Hold, payers: list[Wallet], parts: list[Part], atoms: int
) -> None:
    """Put what nobody can pay on the first wallet, as visible debt."""
    owing = payers or [books.wallets[hold.tenant_id, share[0]] for share in hold.shares]
    owing = owing or owners(books, hold)
    balance = owing[0].balance(hold.asset)
    if balance.debited + atoms > ATOMS_MAX:
        raise InvalidValue("amount.value", "is more than a balance can hold")
    for part in parts:
        if part.balance is balance:
            part.overdraft += atoms
            return
    parts.append(Part(balance, 0, atoms))


def _policy(books: Books, hold: Hold) -> OverCapture:
    """What the wallet that backs the hold first does with a capture above what is held."""
    backers = [books.wallets[hold.tenant_id, wallet_id] for wallet_id, _, _ in hold.shares]
    wallet = (backers or owners(books, hold))[0]
    if not wallet.terms_known:
        raise NeedsTerms(wallet)
    return wallet.over_capture


def _payers(
    books: Books, hold: Hold, wallet_id: str, purpose: Purpose, now: datetime
) -> tuple[list[Wallet], list[Balance]]:
    """Who would pay for an excess. Nobody does while frozen; what is held is used all the same."""
    try:
        payers = find_payers(books, hold.tenant_id, hold.customer_id, wallet_id, purpose)
    except Refusal:
        return [], []
    balances = [wallet.balance(hold.asset) for wallet in payers]
    for balance in balances:
        touch(books, balance, now)
    return payers, balances


def _takes_late(books: Books, hold: Hold) -> bool:
    return any(wallet.late_capture_allowed for wallet in owners(books, hold))


def _plain(
    item: CaptureItem | DebitItem, hold: Hold, purpose: Purpose, wallet_id: str
) -> DebitItem:
    return DebitItem(
        item.tenant_id,
        item.request_id,
        item.fingerprint,
        item.now,
        hold.customer_id,
        wallet_id,
        hold.asset,
        item.scale,
        item.atoms,
        purpose,
        item.reference,
        "",
        False,
        item.over_capture,
    )
