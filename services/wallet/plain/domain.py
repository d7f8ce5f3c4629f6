"""Which items of a batch may be plain, as far as the items alone say.

The rest of it, one wallet, one grant that suffices, nothing that looks on, is for the database to
see under the lock. A customer goes one way with all of its items, so that they are answered in
their order; where any of them can not be plain, none is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from wallet.ledger.domain.batch import Bundle
from wallet.ledger.domain.items import CaptureItem, DebitItem, HoldItem, Item

Payer: TypeAlias = tuple[str, str]  # tenant, customer
Plain: TypeAlias = DebitItem | HoldItem | CaptureItem

# The ways of a customer.
SPENDING, CAPTURING, FULL = 1, 2, 3


@dataclass(slots=True, eq=False)
class Purse:
    """What a batch asks of one asset of one customer."""

    number: int
    customer_number: int
    asset: str
    atoms: int = 0
    last_time: datetime | None = None


@dataclass(slots=True, eq=False)
class Plan:
    """Items that go one way, each with its purse, and where in the batch they stand."""

    customers: dict[Payer, int] = field(default_factory=dict)
    purses: dict[tuple[str, str, str], Purse] = field(default_factory=dict)
    items: list[tuple[Plain, Purse]] = field(default_factory=list)
    bundles: list[int] = field(default_factory=list)

    def add(self, position: int, bundle: Bundle) -> None:
        """Take a bundle of the batch."""
        self.bundles.append(position)
        for item in bundle:
            assert isinstance(item, DebitItem | HoldItem | CaptureItem)
            tenant_id, customer_id = payer = item.tenant_id, item.customer_id
            key = tenant_id, customer_id, item.asset
            purse = self.purses.get(key)
            if purse is None:
                number = self.customers.setdefault(payer, len(self.customers) + 1)
                purse = self.purses[key] = Purse(len(self.purses) + 1, number, item.asset)
            purse.atoms += item.atoms
            if item.now is not None and (purse.last_time is None or item.now > purse.last_time):
                purse.last_time = item.now
            self.items.append((item, purse))


def part(bundles: Sequence[Bundle], customer_of: Callable[[Item], str]) -> tuple[Plan, Plan]:
    """What to try as spending, and what as capturing.

    `customer_of` answers whose an item is that names only a wallet.
    """
    ways: dict[Payer, int] = {}
    payers: list[Payer] = []
    keys: dict[tuple[str, str], Payer] = {}
    holds: set[tuple[str, str]] = set()
    for bundle in bundles:
        first = bundle[0]
        payer = first.tenant_id, customer_of(first)
        payers.append(payer)
        for item in bundle:
            way = _way_of(item)
            if way != FULL:
                assert isinstance(item, DebitItem | HoldItem | CaptureItem)
                # What comes twice is a repetition, and a hold that comes twice depends on itself.
                other = keys.setdefault((item.tenant_id, item.request_id), payer)
                if other is not payer:
                    ways[other] = way = FULL
                if item.hold_id:
                    hold = item.tenant_id, item.hold_id
                    if hold in holds:
                        way = FULL
                    holds.add(hold)
            if ways.setdefault(payer, way) != way:
                ways[payer] = FULL
    plans = {SPENDING: Plan(), CAPTURING: Plan()}
    for position, (bundle, payer) in enumerate(zip(bundles, payers, strict=True)):
        if ways[payer] != FULL:
            plans[ways[payer]].add(position, bundle)
    return plans[SPENDING], plans[CAPTURING]


def _way_of(item: Item) -> int:
    if isinstance(item, DebitItem):
        if item.scale is None or item.wallet_id or item.node:
            return FULL
        if not item.hold_id:
            return SPENDING
        return CAPTURING if item.atoms else FULL
    if isinstance(item, HoldItem):
        return FULL if item.scale is None or item.wallet_id or item.node else SPENDING
    if isinstance(item, CaptureItem):
        known = item.scale is not None and item.customer_id
        return CAPTURING if known and item.atoms else FULL
    return FULL
