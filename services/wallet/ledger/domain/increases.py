"""Increases: an open hold sets more aside, lasts longer, or both."""

from __future__ import annotations

from kernel.errors import InvalidValue, NotFound
from kernel.money import ATOMS_MAX
from wallet.ledger.domain.books import Balance, Books
from wallet.ledger.domain.holds import answer, claim_of, find_open, merged, owners, set_aside
from wallet.ledger.domain.items import IncreaseItem
from wallet.ledger.domain.outcomes import Held
from wallet.ledger.domain.refusals import HoldEnded, InsufficientFunds
from wallet.ledger.domain.ripening import present, touch
from wallet.ledger.domain.signals import watch
from wallet.ledger.domain.spending import allows_shortfall, available_in, find_payers, spread
from wallet.ledger.domain.values import TransferKind


def increase_hold(books: Books, item: IncreaseItem) -> Held:
    """Set more aside for an open hold, or what there is of it, or refuse; as placing does.

    A hold is never shortened: it lasts to the later of its time and the item's.
    """
    hold = books.holds.get((item.tenant_id, item.hold_id))
    if hold is not None and not hold.customer_id:
        raise HoldEnded(hold.hold_id, hold.state.name)
    if hold is None or item.scale is None:
        raise NotFound("hold", item.hold_id)
    find_open(books, hold, item.now)
    now = present(books, item.now, owners(books, hold))
    payers = find_payers(
        books, hold.tenant_id, hold.customer_id, hold.wallet_id or "", hold.purpose
    )
    balances: list[Balance] = []
    for wallet in payers:
        balance = wallet.balance(hold.asset)
        touch(books, balance, now)
        balances.append(balance)
    if hold.atoms + item.atoms > ATOMS_MAX:
        raise InvalidValue("value", "is more than a hold can hold")
    claim = claim_of(books, hold) if hold.path else None
    wanted = item.atoms
    if claim is not None:
        wanted = claim.fit(item.atoms, now, partial=item.partial_allowed)
    parts, missing = spread(balances, wanted, hold.purpose)
    atoms = wanted - missing
    if missing and not allows_shortfall(payers) and not (item.partial_allowed and atoms):
        watch(books, balances, now)
        raise InsufficientFunds(atoms, item.atoms, hold.asset, item.scale)
    shares, pins = set_aside(
        books, parts, hold.purpose, TransferKind.HOLD_INCREASE, item.request_id, now
    )
    hold.atoms += atoms
    hold.shares = merged(hold.shares, shares)
    hold.pins = [*hold.pins, *pins]
    if claim is not None:
        claim.hold(atoms)
    if item.time_to_live is not None:
        hold.expire_time = max(hold.expire_time, now + item.time_to_live)
    books.note_growth(hold)
    watch(books, balances, now)
    return answer(hold, item.scale, available_in(balances, hold.purpose))
