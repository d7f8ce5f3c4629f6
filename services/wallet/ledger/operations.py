"""The batch engine: what arrives while a transaction is in flight forms the next one."""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg

from chassis import failpoints
from chassis.database import Connection, Database, DatabaseUnavailable
from chassis.lanes import Lanes, settle
from chassis.messages import append_across
from kernel.ids import new_id
from wallet.adjustments import store as adjustments
from wallet.budgets import store as budgets
from wallet.budgets.wire import render_alerts
from wallet.holds import store as holds
from wallet.ledger import store
from wallet.ledger.domain.batch import Bundle, NewId, decide
from wallet.ledger.domain.books import Balance, Books, Moved, NeedsAllGrants, NeedsTerms, Wallet
from wallet.ledger.domain.items import (
    CaptureItem,
    ExpireHoldItem,
    GrantItem,
    IncreaseItem,
    Item,
    TouchItem,
    VoidItem,
    WalletItem,
)
from wallet.ledger.domain.outcomes import Held, Outcome
from wallet.ledger.domain.reading import Page, make_books
from wallet.plain.operations import apply_plain
from wallet.recharge.wire import render_signals

BATCH_MAX = 1_000  # bundles of one transaction: beyond it the lock is held longer, for no gain
QUEUE_MAX = 20_000  # waiting in one lane: about a second's worth
ID_BITS = 73  # of 74 random ones in an id: room to count up from there
ROUTES_MAX = 200_000  # wallets, and holds, remembered: some 50 MB
# A call of so few stays together: a batch costs as much as some twenty items, and of so few seldom
# two wait for the same wallet.
WHOLE_BUNDLES_MAX = 64
ATTEMPTS = 5  # of a batch that met another on a key or a hold that neither could lock


K = TypeVar("K")
V = TypeVar("V")


class Ledger:
    """Applies items in batches, each batch in one durable transaction of many tenants."""

    def __init__(self, database: Database, lanes: int, *, plain: bool = True) -> None:
        self.routes = Routes(database)
        self._plain = plain
        self._ids = RisingIds()
        self._database = database
        self._lanes = [
            Lanes(
                self._flush, count=1, batch_max=BATCH_MAX, queue_max=QUEUE_MAX, name=f"ledger-{n}"
            )
            for n in range(lanes)
        ]

    async def apply(self, bundles: Sequence[Bundle]) -> list[list[Outcome]]:
        """Answer bundles in order, each durable before it is answered.

        Raises where a part of them could not be done or may have been done: DatabaseUnavailable,
        OutcomeUnknown, LaneFull. Whoever called repeats all of them by their keys.
        """
        parted: dict[int, list[int]] = {}
        for position, lane in enumerate(self._lanes_of(bundles)):
            parted.setdefault(lane, []).append(position)
        answers = await asyncio.gather(
            *[
                self._lanes[lane].submit_many("", [bundles[position] for position in positions])
                for lane, positions in parted.items()
            ]
        )
        outcomes: list[list[Outcome]] = [[]] * len(bundles)
        for positions, answered in zip(parted.values(), answers, strict=True):
            for position, outcome in zip(positions, answered, strict=True):
                if isinstance(outcome, Exception):
                    raise outcome
                outcomes[position] = outcome
        return outcomes

    async def apply_items(self, items: Sequence[Item]) -> list[Outcome]:
        """The same for items that stand alone."""
        return [outcome for (outcome,) in await self.apply([(item,) for item in items])]

    @property
    def fullness(self) -> float:
        """How full the fullest lane is, 0 to 1."""
        return max(lane.fullness for lane in self._lanes)

    async def close(self) -> None:
        """Take nothing more, and wait until what was taken is done."""
        for lane in self._lanes:
            await lane.close()

    def _lanes_of(self, bundles: Sequence[Bundle]) -> list[int]:
        """Each bundle's lane: by customer, so that a wallet does not wait for itself."""
        count = len(self._lanes)
        if count == 1 or not bundles:
            return [0] * len(bundles)
        lanes = [
            zlib.crc32(f"{bundle[0].tenant_id}{self.routes.customer_of(bundle[0])}".encode())
            % count
            for bundle in bundles
        ]
        if len(bundles) <= WHOLE_BUNDLES_MAX:
            return [lanes[0]] * len(bundles)
        keys = {key for bundle in bundles for item in bundle if (key := _key_of(item))}
        if len(keys) < sum(len(bundle) for bundle in bundles) and len(set(lanes)) > 1:
            # A key that comes twice in one call is answered in order, hence in one lane.
            return [lanes[0]] * len(bundles)
        return lanes

    async def _flush(self, bundles: Sequence[Bundle]) -> Sequence[list[Outcome] | Exception]:
        plain: dict[int, list[Outcome]] = {}
        if self._plain:
            customer_of = self.routes.customer_of
            with _lock_in_time():
                plain = await apply_plain(self._database, bundles, customer_of, self._ids)
            self.routes.learn((bundles[position], plain[position]) for position in plain)
        answers: dict[int, list[Outcome] | Exception] = {**plain}
        rest = [position for position in range(len(bundles)) if position not in plain]
        if rest:
            outcomes = await settle(self._decide, [bundles[position] for position in rest])
            answers.update(zip(rest, outcomes, strict=True))
        return [answers[position] for position in range(len(bundles))]

    async def _decide(self, bundles: Sequence[Bundle]) -> Sequence[list[Outcome] | Exception]:
        """Decide a batch in the full way."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with _lock_in_time():
                    return await self._run(bundles)
            except (Moved, asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError):
                # Another batch wrote a key or a hold of ours in the meantime: it is seen now.
                if attempt == ATTEMPTS:
                    raise
                await self._route_again(bundles)
        raise AssertionError("unreachable")

    async def _run(self, bundles: Sequence[Bundle]) -> list[list[Outcome]]:
        async with self._database.money_transaction() as tx:
            page = await store.open_batch(tx, store.wanted_of(bundles))
            if failpoints.armed is not None:
                await failpoints.armed.reach("after_lock")
            await budgets.open_budgets(tx, page)
            if page.wanted.adjustments:
                await adjustments.open_details(tx, page)
            books, outcomes = await _decide(tx, page, bundles, self._ids)
            await store.record_batch(tx, books)
            if books.grown_holds:
                await holds.grow_holds(tx, list(books.grown_holds.values()))
            await adjustments.record_details(tx, books)
            await budgets.record_budgets(tx, books.budgets)
            if books.recharges or books.alerts or books.rearmed:
                for start in books.recharges:
                    start.recharge_id = str(new_id(start.time))
                await store.record_signals(tx, books)
                await append_across(tx, render_signals(books.recharges, books.alerts))
            if books.budgets.alerts:
                await append_across(tx, render_alerts(books.budgets.alerts))
        self.routes.learn(zip(bundles, outcomes, strict=True))
        return outcomes

    async def _route_again(self, bundles: Sequence[Bundle]) -> None:
        lost = [
            item
            for bundle in bundles
            for item in bundle
            if isinstance(item, CaptureItem | IncreaseItem | VoidItem | ExpireHoldItem)
            and not item.customer_id
        ]
        tenants = {item.tenant_id for item in lost}
        for tenant_id in sorted(tenants):
            mine = [item for item in lost if item.tenant_id == tenant_id]
            places = await self.routes.find_holds(tenant_id, [item.hold_id for item in mine])
            for item in mine:
                place = places.get(item.hold_id)
                if place is not None:
                    item.customer_id, item.asset = place.customer_id, place.asset
                    if isinstance(item, VoidItem):
                        item.scale = place.scale


@contextmanager
def _lock_in_time() -> Iterator[None]:
    """A batch whose locks were not to be had is none that was done: try again."""
    try:
        yield
    except asyncpg.LockNotAvailableError as error:
        raise DatabaseUnavailable("the wallet's lock was not to be had in time") from error


async def _decide(
    tx: Connection, page: Page, bundles: Sequence[Bundle], make_id: NewId
) -> tuple[Books, list[list[Outcome]]]:
    """Decide a batch, loading more grants where the first few do not do."""
    while True:
        books = make_books(page)
        try:
            return books, decide(books, bundles, make_id)
        except NeedsTerms as need_terms:
            # Of all wallets at once where something expires: of a sweep, most are.
            due = [w for w in books.wallets.values() if _is_due(w, page, books)]
            await adjustments.load_terms(tx, page, [need_terms.wallet, *due])
        except NeedsAllGrants as need:
            # The first time it is one balance; a second time, all that might ask as well.
            more = _truncated(books) if page.whole else [need.balance]
            await store.load_grants(tx, page, more)


class RisingIds:
    """Makes ids. Those of one instant rise too, so that grants that were made together, or under a
    test clock that stands, burn in the order in which they were made."""

    def __init__(self) -> None:
        self._next = secrets.randbits(ID_BITS)

    def __call__(self, instant: datetime) -> UUID:
        self._next += 1
        return new_id(instant, self._next)


def _is_due(wallet: Wallet, page: Page, books: Books) -> bool:
    now = page.wanted.clocks.get(wallet.tenant_id, books.clock)
    return any(balance.next_change <= now for balance in wallet.balances.values())


def _truncated(books: Books) -> list[Balance]:
    return [
        balance
        for wallet in books.wallets.values()
        for balance in wallet.balances.values()
        if balance.truncated
    ]


def _key_of(item: Item) -> tuple[str, str] | None:
    request_id = getattr(item, "request_id", None)
    return None if request_id is None else (item.tenant_id, request_id)


class Routes:
    """Which customer a wallet or a hold belongs to, remembered, since neither changes hands.

    It finds items their lane and their locks. Where it knows nothing, nothing goes wrong: the
    batch finds out under its locks, and is routed again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wallets: dict[tuple[str, str], str] = {}
        self._holds: dict[tuple[str, str], store.Place] = {}

    def customer_of(self, item: Item) -> str:
        """The customer an item is about, or the next best thing to keep it in one lane."""
        if isinstance(item, GrantItem | TouchItem | WalletItem):
            return self._wallets.get((item.tenant_id, item.wallet_id), item.wallet_id)
        return item.customer_id or item.hold_id

    async def find_wallets(self, tenant_id: str, wallet_ids: Iterable[str]) -> None:
        """Learn whose wallets these are."""
        unknown = {w for w in wallet_ids if (tenant_id, w) not in self._wallets}
        if unknown:
            found = await store.find_customers(self._database, tenant_id, sorted(unknown))
            for wallet_id, customer_id in found.items():
                _remember(self._wallets, (tenant_id, wallet_id), customer_id)

    async def find_holds(self, tenant_id: str, hold_ids: Iterable[str]) -> dict[str, store.Place]:
        """Where holds belong; those that are not there are not in the answer."""
        wanted = set(hold_ids)
        known = {h: place for h in wanted if (place := self._holds.get((tenant_id, h)))}
        unknown = wanted - known.keys()
        if unknown:
            found = await store.find_places(self._database, tenant_id, sorted(unknown))
            for hold_id, place in found.items():
                known[hold_id] = place
                _remember(self._holds, (tenant_id, hold_id), place)
        return known

    def learn(self, answered: Iterable[tuple[Bundle, Sequence[Outcome]]]) -> None:
        """Remember the holds that a batch placed: their captures come soon."""
        for bundle, answers in answered:
            held = answers[0]
            if isinstance(held, Held) and held.customer_id:
                place = store.Place(held.customer_id, held.asset, held.scale)
                _remember(self._holds, (bundle[0].tenant_id, held.hold_id), place)


def _remember(known: dict[K, V], key: K, value: V) -> None:
    if len(known) >= ROUTES_MAX:
        del known[next(iter(known))]
    known[key] = value


@asynccontextmanager
async def open_ledger(
    database: Database, lanes: int, *, plain: bool = True
) -> AsyncIterator[Ledger]:
    """A ledger whose lanes are flushed before the block is left.

    Without `plain`, all items are decided in the full way: the answers are the same.
    """
    ledger = Ledger(database, lanes, plain=plain)
    try:
        yield ledger
    finally:
        await ledger.close()
