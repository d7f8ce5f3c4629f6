"""Holds: value set aside now, captured or released later. A hold ends once.

from      operation         to         rule
–         place             OPEN       fits, or as much as there is where partial is allowed
OPEN      increase          OPEN       as placing, for the difference; may last longer
OPEN      capture           OPEN       pinned grants pay first; captured accumulates
OPEN      capture, final    CAPTURED   the rest is released
OPEN      void              VOIDED     all is released; voiding twice is the same answer
OPEN      time is over      EXPIRED    by the clock read after the lock, sweeper or not
–         void              VOIDED     a tombstone: the hold that arrives later is refused
"""

from __future__ import annotations

from datetime import datetime

from kernel.errors import InvalidValue, NotFound, Refusal
from wallet.budgets.domain.counting import Claim
from wallet.ledger.domain.books import Balance, Books, Hold, Moved, Pin, Split, Wallet
from wallet.ledger.domain.items import HoldItem, VoidItem
from wallet.ledger.domain.outcomes import Held, Share
from wallet.ledger.domain.refusals import (
    AlreadyExists,
    HoldEnded,
    HoldVoidedBefore,
    InsufficientFunds,
)
from wallet.ledger.domain.ripening import expire_free, present, settle, touch
from wallet.ledger.domain.signals import watch
from wallet.ledger.domain.spending import (
    Part,
    allows_shortfall,
    available_in,
    find_payers,
    lend,
    pin,
    spread,
)
from wallet.ledger.domain.values import (
    NO_PURPOSE,
    Account,
    HoldState,
    Purpose,
    TransferKind,
)


def place_hold(books: Books, item: HoldItem, hold_id: str) -> Held:
    """Set the amount aside, or what there is of it, or refuse."""
    if item.scale is None:
        raise NotFound("asset", item.asset)
    known = books.holds.get((item.tenant_id, hold_id))
    if known is not None:
        if not known.customer_id:
            raise HoldVoidedBefore(hold_id)
        raise AlreadyExists("hold", hold_id)
    purpose, asset = item.purpose, item.asset
    payers = find_payers(books, item.tenant_id, item.customer_id, item.wallet_id, purpose)
    now = present(books, item.now, payers)
    balances: list[Balance] = []
    for wallet in payers:
        balance = wallet.balances.get(asset) or wallet.balance(asset)
        if now >= balance.next_change:
            touch(books, balance, now)
        balances.append(balance)
    claim, wanted = _claim(books, item, now)
    parts, missing = spread(balances, wanted, purpose)
    atoms = wanted - missing
    if missing and not allows_shortfall(payers) and not (item.partial_allowed and atoms):
        watch(books, balances, now)
        raise InsufficientFunds(atoms, item.atoms, asset, item.scale)
    shares, pins = set_aside(books, parts, purpose, TransferKind.HOLD, item.request_id, now)
    hold = Hold(
        tenant_id=item.tenant_id,
        hold_id=hold_id,
        customer_id=item.customer_id,
        wallet_id=item.wallet_id or None,
        asset=asset,
        atoms=atoms,
        captured=0,
        state=HoldState.OPEN,
        purpose=purpose,
        reference=item.reference,
        create_time=now,
        expire_time=now + item.time_to_live,
        shares=shares,
        pins=pins,
        request_id=item.request_id,
        is_new=True,
    )
    if claim is not None:
        hold.path = claim.path
        claim.hold(atoms)
        books.budgets.placed.append((item.tenant_id, hold_id, claim.path))
    books.holds[item.tenant_id, hold_id] = hold
    books.note_hold(hold)
    watch(books, balances, now)
    return answer(hold, item.scale, available_in(balances, purpose))


def void_hold(books: Books, item: VoidItem) -> Held:
    """Release all of a hold. One that has not arrived yet leaves a tombstone."""
    hold = books.holds.get((item.tenant_id, item.hold_id))
    if hold is None:
        now = item.now or books.clock
        hold = _tombstone(item, now)
        books.holds[item.tenant_id, item.hold_id] = hold
        books.note_hold(hold)
    if not hold.customer_id:
        return answer(hold, 0, 0)
    if hold.state is HoldState.VOIDED:
        return answer(hold, item.scale, _left(books, hold, item.now))
    find_open(books, hold, item.now)
    now = present(books, item.now, owners(books, hold))
    release(books, hold, item.request_id, now)
    end(books, hold, HoldState.VOIDED, now)
    return answer(hold, item.scale, _left(books, hold, now))


def expire_hold(books: Books, tenant_id: str, hold_id: str, now: datetime | None) -> bool:
    """Release a hold whose time is over; false where it is not, or has ended."""
    hold = books.holds.get((tenant_id, hold_id))
    if hold is None or hold.state is not HoldState.OPEN:
        return False
    instant = present(books, now, owners(books, hold))
    if instant < hold.expire_time:
        return False
    release(books, hold, "", instant)
    end(books, hold, HoldState.EXPIRED, instant)
    return True


def find_open(books: Books, hold: Hold, now: datetime | None) -> None:
    """Raise HoldEnded unless the hold is open and its time is not over."""
    expire_hold(books, hold.tenant_id, hold.hold_id, now)
    if hold.state is not HoldState.OPEN:
        raise HoldEnded(hold.hold_id, hold.state.name)


def owners(books: Books, hold: Hold) -> list[Wallet]:
    """The wallets of the hold's customer, all locked. Raises Moved where they are not: the hold
    was placed after its items were routed."""
    owned = books.customers.get((hold.tenant_id, hold.customer_id))
    if owned is None:
        raise Moved(hold.hold_id)
    return owned


def release(books: Books, hold: Hold, request_id: str, now: datetime) -> None:
    """Give everything still pinned back. What came from an expired grant goes on to breakage."""
    pins, hold.pins = hold.pins, []
    if hold.path:
        claim_of(books, hold).release(sum(atoms for _, _, atoms in pins))
    for wallet_id, pinned in by_wallet(pins):
        wallet = books.wallets[hold.tenant_id, wallet_id]
        balance = wallet.balances[hold.asset]
        # What is free of an expired grant goes by its terms; what is released now does not.
        touch(books, balance, now)
        split: Split = []
        lent = 0
        for _, grant_id, atoms in pinned:
            if grant_id is None:
                lent += atoms
                continue
            grant = wallet.grants[grant_id]
            grant.held -= atoms
            books.note_grant(wallet, grant)
            split.append((grant, atoms))
        backed = sum(atoms for _, atoms in split)
        if backed:
            balance.held -= backed
            books.move(
                balance,
                TransferKind.RELEASE,
                backed,
                Account.HELD,
                Account.WALLET,
                split,
                request_id,
                now,
            )
        if lent:
            balance.held -= lent
            balance.held_unbacked -= lent
            balance.overdrawn -= lent
            balance.forced = max(0, min(balance.forced, balance.overdrawn - balance.floor))
            books.move(
                balance,
                TransferKind.RELEASE,
                lent,
                Account.HELD,
                Account.DEBT,
                [(None, lent)],
                request_id,
                now,
            )
        for released, _ in split:
            if released is not None and released.expire_time <= now:
                expire_free(books, balance, released, now)
        settle(books, balance, now, request_id)
        watch(books, [balance], now)


def claim_of(books: Books, hold: Hold) -> Claim:
    """The budgets that a hold which was placed for a node counts for."""
    return books.budgets.claim(
        hold.tenant_id, hold.customer_id, hold.path, hold.asset, hold.purpose[0]
    )


def end(books: Books, hold: Hold, state: HoldState, now: datetime) -> None:
    """Close a hold for ever."""
    hold.state = state
    hold.end_time = now
    books.note_hold(hold)


def by_wallet(pins: list[Pin]) -> list[tuple[str, list[Pin]]]:
    """Pins parted by wallet, in the order in which they were made."""
    parted: dict[str, list[Pin]] = {}
    for one in pins:
        parted.setdefault(one[0], []).append(one)
    return list(parted.items())


def merged(shares: list[Share], more: list[Share]) -> list[Share]:
    """Two lists of shares as one: a wallet's first number stands for all of its moves."""
    whole = {wallet_id: (atoms, number) for wallet_id, atoms, number in shares}
    for wallet_id, atoms, number in more:
        before = whole.get(wallet_id)
        whole[wallet_id] = (before[0] + atoms, before[1]) if before else (atoms, number)
    return [(wallet_id, atoms, number) for wallet_id, (atoms, number) in whole.items()]


def answer(hold: Hold, scale: int, available: int) -> Held:
    """A hold as it stands."""
    return Held(
        hold.hold_id,
        hold.customer_id,
        hold.asset,
        scale,
        hold.atoms,
        hold.captured,
        hold.state,
        hold.reference,
        hold.create_time,
        hold.expire_time,
        available,
        list(hold.shares),
    )


def _claim(books: Books, item: HoldItem, now: datetime) -> tuple[Claim | None, int]:
    """The budgets that a hold counts for, and how much of it they have room for."""
    if not item.node:
        return None, item.atoms
    claim = books.budgets.claim_of(
        item.tenant_id, item.customer_id, item.node, item.asset, item.purpose[0]
    )
    return claim, claim.fit(item.atoms, now, partial=item.partial_allowed)


def set_aside(
    books: Books,
    parts: list[Part],
    purpose: Purpose,
    kind: TransferKind,
    request_id: str,
    now: datetime,
) -> tuple[list[Share], list[Pin]]:
    """Move parts to what is held, pinning grants in burn order; answers shares and pins."""
    shares: list[Share] = []
    pins: list[Pin] = []
    for part in parts:
        balance, number = part.balance, 0
        wallet_id = balance.wallet.wallet_id
        if part.funds:
            split = pin(books, balance, part.funds, purpose)
            balance.held += part.funds
            number = books.move(
                balance,
                kind,
                part.funds,
                Account.WALLET,
                Account.HELD,
                split,
                request_id,
                now,
            )
            pins.extend([(wallet_id, grant.grant_id, atoms) for grant, atoms in split if grant])
        if part.overdraft:
            lend(balance, part.overdraft)
            balance.held += part.overdraft
            balance.held_unbacked += part.overdraft
            lent = books.move(
                balance,
                kind,
                part.overdraft,
                Account.DEBT,
                Account.HELD,
                [(None, part.overdraft)],
                request_id,
                now,
            )
            number = number or lent
            pins.append((wallet_id, None, part.overdraft))
        shares.append((wallet_id, part.funds + part.overdraft, number))
    return shares, pins


def _left(books: Books, hold: Hold, now: datetime | None) -> int:
    owners(books, hold)
    try:
        payers = find_payers(
            books, hold.tenant_id, hold.customer_id, hold.wallet_id or "", hold.purpose
        )
    except Refusal:  # frozen meanwhile: nothing may be spent
        return 0
    instant = present(books, now, payers)
    balances = [wallet.balance(hold.asset) for wallet in payers]
    for balance in balances:
        touch(books, balance, instant)
    return available_in(balances, hold.purpose)


def _tombstone(item: VoidItem, now: datetime) -> Hold:
    return Hold(
        tenant_id=item.tenant_id,
        hold_id=item.hold_id,
        customer_id="",
        wallet_id=None,
        asset="",
        atoms=0,
        captured=0,
        state=HoldState.VOIDED,
        purpose=NO_PURPOSE,
        reference="",
        create_time=now,
        expire_time=now,
        shares=[],
        pins=[],
        end_time=now,
        request_id=item.request_id,
        is_new=True,
    )


def check_same(hold: Hold, customer_id: str, asset: str, node: str) -> None:
    """Raise unless a debit that names a hold is of its customer, asset and node."""
    if hold.customer_id != customer_id:
        raise NotFound("hold", hold.hold_id)
    if hold.asset != asset:
        raise InvalidValue("amount.asset", f"the hold is in {hold.asset}")
    if node and hold.path[-1:] != (node,):
        raise InvalidValue("node", "is not the one that the hold was placed for")
