"""Plain items are answered and written as the full way would have; others are left to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.database import Database, DatabaseUnavailable
from kernel.ids import new_id
from tests.support.databases import FreshDatabase
from tests.wallet.living import live
from tests.wallet.worlds import PURPOSES, Shape, operations, waits
from wallet.assets import store as assets
from wallet.assets.domain import Asset, AssetKind
from wallet.journal.store import verify_wallets
from wallet.ledger.domain.batch import Bundle
from wallet.ledger.domain.items import CaptureItem, DebitItem, GrantItem, HoldItem, Item
from wallet.ledger.domain.outcomes import Held, Outcome, Posted, Refused
from wallet.ledger.domain.values import OverCapture, Restrictions, ShortfallMode, WalletState
from wallet.ledger.operations import Ledger, open_ledger
from wallet.plain.operations import apply_plain
from wallet.wallets import store as wallets
from wallet.wallets.domain import Wallet
from wallet.wallets.operations import FIRST_ID

START = datetime(2026, 1, 5, tzinfo=UTC)
NO_PURPOSE = ("", "", "")

_spend = st.one_of(
    st.tuples(st.just("debit"), st.just(-1), st.integers(1, 40), st.sampled_from(PURPOSES)),
    st.tuples(
        st.just("place"),
        st.just(-1),
        st.just(-1),
        st.integers(1, 40),
        st.sampled_from(PURPOSES),
        st.sampled_from([10, 20, 60]),
        st.booleans(),
    ),
)
_capture = st.tuples(
    st.just("capture"),
    st.sampled_from([0, 1, 2, 3, 4]),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from([*OverCapture]),
)
# Batches of one way, so that most of them are tried as plain, and some of every kind between them.
batches = st.lists(
    st.tuples(
        st.one_of(st.just(0), waits),
        st.one_of(
            st.lists(_spend, min_size=1, max_size=8),
            st.lists(_capture, min_size=1, max_size=4),
            st.lists(operations, min_size=1, max_size=4),
        ),
    ),
    min_size=3,
    max_size=10,
)
lone_wallets = st.tuples(
    st.just(10), st.sampled_from(["BLOCK", "OVERDRAFT", "ALLOW"]), st.sampled_from([20, 60]),
    st.just(()),
).map(lambda wallet: [wallet])  # fmt: skip


def test_batches_of_a_lone_wallet_are_answered_as_the_model_does(
    wallet_database: FreshDatabase,
) -> None:
    with asyncio.Runner() as runner:
        database = wallet_database.open("wallet")
        runner.run(database.open())

        @settings(
            max_examples=80,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(shape=lone_wallets, chosen=batches)
        def answers_the_same(shape: list[Shape], chosen: list[Any]) -> None:
            runner.run(live(database, shape, chosen))

        try:
            answers_the_same()
        finally:
            runner.run(database.close())


class Purse:
    """A tenant with one customer, and items of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tenant_id = uuid4()
        self.count = 0

    async def open(self) -> None:
        async with self.database.transaction(self.tenant_id) as tx:
            for code in ("USD", "token"):
                asset = Asset(code, 2, AssetKind.CURRENCY, START)
                await assets.insert_asset(tx, self.tenant_id, asset)

    async def wallet(
        self, customer: str = "c1", *, restrictions: Restrictions | None = None,
        state: WalletState = WalletState.ACTIVE,
    ) -> str:  # fmt: skip
        wallet = Wallet(
            str(new_id(START)), customer, "", 50, restrictions, ShortfallMode.BLOCK, False, state,
            START, (),
        )  # fmt: skip
        async with self.database.transaction(self.tenant_id) as tx:
            await wallets.insert_wallet(tx, self.tenant_id, wallet)
        return wallet.wallet_id

    def keyed(self, now: datetime) -> tuple[str, str, bytes, datetime]:
        self.count += 1
        return str(self.tenant_id), f"k{self.count}", self.count.to_bytes(16), now

    def grant(self, wallet_id: str, atoms: int, now: datetime = START, **fields: Any) -> GrantItem:
        item = GrantItem(
            *self.keyed(now), wallet_id, "USD", 2, atoms, 1, 50, None, None, None, Decimal(1), "",
            "",
        )  # fmt: skip
        return replace(item, **fields)

    def debit(self, atoms: int, now: datetime = START, **fields: Any) -> DebitItem:
        item = DebitItem(
            *self.keyed(now), "c1", "", "USD", 2, atoms, NO_PURPOSE, "r", "", False,
            OverCapture.REJECT,
        )  # fmt: skip
        return replace(item, **fields)

    def hold(self, atoms: int, now: datetime = START, **fields: Any) -> HoldItem:
        item = HoldItem(
            *self.keyed(now), "", "c1", "", "USD", 2, atoms, NO_PURPOSE, timedelta(minutes=15),
            False, "r",
        )  # fmt: skip
        return replace(item, **fields)

    def capture(self, hold: Outcome, atoms: int, now: datetime = START, **more: Any) -> CaptureItem:
        assert isinstance(hold, Held)
        item = CaptureItem(
            *self.keyed(now), hold.hold_id, hold.customer_id, hold.asset, 2, atoms, True,
            OverCapture.REJECT, "r",
        )  # fmt: skip
        return replace(item, **more)

    async def plain(self, *items: Item) -> dict[int, list[Outcome]]:
        """What of some items, each a bundle, is done as plain."""
        bundles: list[Bundle] = [(item,) for item in items]
        return await apply_plain(self.database, bundles, lambda item: "c1", new_id)

    async def full(self, *items: Item) -> list[Outcome]:
        """The same in the full way."""
        async with open_ledger(self.database, 1, plain=False) as ledger:
            return await ledger.apply_items(items)


@pytest.fixture
async def purse(wallet_database: FreshDatabase) -> AsyncIterator[Purse]:
    async with wallet_database.open("wallet") as database:
        purse = Purse(database)
        await purse.open()
        yield purse


async def test_debits_and_holds_of_one_grant_are_plain(purse: Purse) -> None:
    wallet_id = await purse.wallet()
    await purse.full(purse.grant(wallet_id, 1_000))
    answers = await purse.plain(purse.debit(100), purse.hold(200), purse.debit(50))
    first, hold, last = (answers[position][0] for position in range(3))
    assert first == Posted("USD", 2, 100, 0, 900, False, [(wallet_id, 100, 2)])
    assert isinstance(hold, Held)
    assert (hold.available, hold.shares) == (700, [(wallet_id, 200, 3)])
    assert last == Posted("USD", 2, 50, 0, 650, False, [(wallet_id, 50, 4)])
    captured = await purse.plain(purse.capture(hold, 80))
    assert captured[0] == [Posted("USD", 2, 80, 0, 770, False, [(wallet_id, 80, 5)])]
    again = await purse.full(purse.debit(770))
    assert again == [Posted("USD", 2, 770, 0, 0, False, [(wallet_id, 770, 7)])]


async def test_a_lock_that_is_not_to_be_had_in_time_is_told_as_unavailable(
    purse: Purse, wallet_database: FreshDatabase
) -> None:
    wallet_id = await purse.wallet()
    await purse.full(purse.grant(wallet_id, 1_000))
    other = await asyncpg.connect(wallet_database.superuser_dsn)
    try:
        async with other.transaction():
            await other.execute(
                "SELECT FROM wallet.wallets WHERE wallet_id = $1 FOR UPDATE", wallet_id
            )
            async with open_ledger(purse.database, 1) as ledger:
                with pytest.raises(DatabaseUnavailable):
                    await ledger.apply_items([purse.debit(1), purse.debit(2)])
    finally:
        await other.close()


Setup = Callable[[Purse], Any]


async def _two_wallets(purse: Purse) -> list[Item]:
    await purse.full(purse.grant(await purse.wallet(), 1_000))
    await purse.wallet()
    return [purse.debit(1)]


async def _frozen(purse: Purse) -> list[Item]:
    await purse.wallet(state=WalletState.FROZEN)
    return [purse.debit(1)]


async def _restricted_wallet(purse: Purse) -> list[Item]:
    wallet_id = await purse.wallet(restrictions=(("m1",), (), ()))
    await purse.full(purse.grant(wallet_id, 1_000))
    return [purse.debit(1, purpose=("m1", "", ""))]


async def _restricted_grant(purse: Purse) -> list[Item]:
    restrictions = (("m1",), (), ())
    await purse.full(purse.grant(await purse.wallet(), 1_000, restrictions=restrictions))
    return [purse.debit(1, purpose=("m1", "", ""))]


async def _too_little_in_the_first_grant(purse: Purse) -> list[Item]:
    wallet_id = await purse.wallet()
    await purse.full(purse.grant(wallet_id, 10), purse.grant(wallet_id, 1_000))
    return [purse.debit(6), purse.debit(5)]


async def _too_little_at_all(purse: Purse) -> list[Item]:
    await purse.full(purse.grant(await purse.wallet(), 10))
    return [purse.hold(11)]


async def _a_grant_whose_time_has_come(purse: Purse) -> list[Item]:
    wallet_id = await purse.wallet()
    over = START + timedelta(hours=1)
    await purse.full(purse.grant(wallet_id, 1_000, expire_time=over))
    return [purse.debit(1, now=over)]


async def _a_dormant_grant(purse: Purse) -> list[Item]:
    later = START + timedelta(hours=1)
    await purse.full(purse.grant(await purse.wallet(), 1_000, effective_time=later))
    return [purse.debit(1)]


async def _a_named_wallet(purse: Purse) -> list[Item]:
    wallet_id = await purse.wallet()
    await purse.full(purse.grant(wallet_id, 1_000))
    return [purse.debit(1, wallet_id=wallet_id)]


async def _a_key_twice(purse: Purse) -> list[Item]:
    await purse.full(purse.grant(await purse.wallet(), 1_000))
    debit = purse.debit(1)
    return [debit, replace(debit)]


async def _a_key_that_was_answered(purse: Purse) -> list[Item]:
    debit = purse.debit(1)
    await purse.full(purse.grant(await purse.wallet(), 1_000), debit)
    return [replace(debit), purse.debit(2)]


async def _an_asset_that_is_not_there(purse: Purse) -> list[Item]:
    await purse.full(purse.grant(await purse.wallet(), 1_000))
    return [purse.debit(1, asset="EUR", scale=None), purse.debit(1, asset="token")]


async def _a_capture_beyond_its_hold(purse: Purse) -> list[Item]:
    _, hold = await purse.full(purse.grant(await purse.wallet(), 1_000), purse.hold(100))
    return [purse.capture(hold, 101, over_capture=OverCapture.USE_AVAILABLE)]


async def _a_hold_twice(purse: Purse) -> list[Item]:
    _, hold = await purse.full(purse.grant(await purse.wallet(), 1_000), purse.hold(100))
    return [purse.capture(hold, 10, final=False), purse.capture(hold, 10)]


async def _a_hold_of_two_grants(purse: Purse) -> list[Item]:
    wallet_id = await purse.wallet()
    grants = purse.grant(wallet_id, 10), purse.grant(wallet_id, 1_000)
    *_, hold = await purse.full(*grants, purse.hold(100))
    return [purse.capture(hold, 100)]


async def _a_hold_whose_time_is_over(purse: Purse) -> list[Item]:
    _, hold = await purse.full(purse.grant(await purse.wallet(), 1_000), purse.hold(100))
    return [purse.capture(hold, 100, START + timedelta(minutes=15))]


async def _a_hold_of_an_expired_grant(purse: Purse) -> list[Item]:
    over = START + timedelta(minutes=5)
    wallet_id = await purse.wallet()
    grant = purse.grant(wallet_id, 1_000, expire_time=over)
    _, hold = await purse.full(grant, purse.hold(100))
    await purse.full(purse.debit(1, over + timedelta(minutes=1)))
    return [purse.capture(hold, 10, over + timedelta(minutes=2))]


async def _a_capture_of_nothing(purse: Purse) -> list[Item]:
    _, hold = await purse.full(purse.grant(await purse.wallet(), 1_000), purse.hold(100))
    return [purse.capture(hold, 0)]


async def _both_ways(purse: Purse) -> list[Item]:
    _, hold = await purse.full(purse.grant(await purse.wallet(), 1_000), purse.hold(100))
    return [purse.capture(hold, 10), purse.debit(1)]


async def _a_grant_beside_it(purse: Purse) -> list[Item]:
    wallet_id = await purse.wallet()
    await purse.full(purse.grant(wallet_id, 1_000))
    return [purse.grant(wallet_id, 5), purse.debit(1)]


SETUPS: list[Setup] = [
    _two_wallets,
    _frozen,
    _restricted_wallet,
    _restricted_grant,
    _too_little_in_the_first_grant,
    _too_little_at_all,
    _a_grant_whose_time_has_come,
    _a_dormant_grant,
    _a_named_wallet,
    _a_key_twice,
    _a_key_that_was_answered,
    _an_asset_that_is_not_there,
    _a_capture_beyond_its_hold,
    _a_hold_twice,
    _a_hold_of_two_grants,
    _a_hold_whose_time_is_over,
    _a_hold_of_an_expired_grant,
    _a_capture_of_nothing,
    _both_ways,
    _a_grant_beside_it,
]


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.__name__.strip("_"))
async def test_what_is_not_plain_is_left_alone(purse: Purse, setup: Setup) -> None:
    items = await setup(purse)
    before = await _dump(purse.database, purse.tenant_id)
    assert await purse.plain(*items) == {}
    assert await _dump(purse.database, purse.tenant_id) == before


async def test_a_batch_is_written_alike_in_both_ways(wallet_database: FreshDatabase) -> None:
    async with wallet_database.open("wallet") as database:
        dumps = []
        for plain in (True, False):
            purse = Purse(database)
            await purse.open()
            async with open_ledger(database, 2, plain=plain) as ledger:
                answers = await _live_a_while(purse, ledger, random.Random(5))
            dumps.append((answers, await _dump(database, purse.tenant_id)))
            async with database.transaction(purse.tenant_id) as tx:
                verified = await verify_wallets(tx, purse.tenant_id, FIRST_ID, 100)
                assert verified.disagreements == []
        assert dumps[0] == dumps[1]


async def _live_a_while(purse: Purse, ledger: Ledger, chance: random.Random) -> list[Any]:
    """Many batches of a few customers; answers what they were answered, without ids."""
    customers = [f"c{number}" for number in range(6)]
    for customer in customers:
        wallet_id = await purse.wallet(customer)
        for asset in ("USD", "token"):
            atoms = chance.choice([500, 5_000, 50_000])
            await ledger.apply_items([purse.grant(wallet_id, atoms, asset=asset)])
    told: list[Any] = []
    open_holds: list[Outcome] = []
    now = START
    for _ in range(60):
        now += timedelta(seconds=chance.choice([0, 1, 200]))
        items: list[Item] = []
        for _ in range(chance.randrange(1, 20)):
            customer, asset = chance.choice(customers), chance.choice(["USD", "token"])
            atoms = chance.randrange(1, 60)
            make = chance.choice([purse.debit, purse.hold])
            items.append(make(atoms, now, customer_id=customer, asset=asset))
        if chance.random() < 0.5:
            chance.shuffle(open_holds)
            captured, open_holds = open_holds[:5], open_holds[5:]
            items = [
                purse.capture(hold, chance.randrange(1, 70), now, final=True) for hold in captured
            ] or items
        outcomes = await ledger.apply_items(items)
        open_holds += [outcome for outcome in outcomes if isinstance(outcome, Held)]
        told += [_told(outcome) for outcome in outcomes]
    return told


def _told(outcome: Outcome) -> tuple[object, ...]:
    match outcome:
        case Posted():
            shares = [(atoms, number) for _, atoms, number in outcome.shares]
            return ("posted", outcome.atoms, outcome.available, shares)
        case Held():
            times = outcome.create_time, outcome.expire_time
            return ("held", outcome.atoms, outcome.available, times)
        case Refused():
            return ("refused", outcome.reason)
    raise AssertionError(outcome)


async def _dump(database: Database, tenant_id: UUID) -> list[tuple[object, ...]]:
    """All that the ledger stores of a tenant, but for ids that are made at random."""
    statements = (
        "SELECT w.customer_id, b.asset, b.credited, b.debited, b.held, b.overdrawn, b.sequence,"
        " b.change_time FROM balances AS b JOIN wallets AS w USING (tenant_id, wallet_id)"
        " WHERE b.tenant_id = $1 ORDER BY 1, 2",
        "SELECT w.customer_id, g.asset, g.request_id, g.remaining, g.held, g.open"
        " FROM grants AS g JOIN wallets AS w USING (tenant_id, wallet_id)"
        " WHERE g.tenant_id = $1 ORDER BY 1, 2, 3",
        "SELECT h.request_id, h.customer_id, h.asset, h.amount, h.captured, h.state, h.meter,"
        " h.feature, h.product, h.reference, h.create_time, h.expire_time, h.end_time,"
        " h.share_atoms, h.share_sequences, h.pin_atoms FROM holds AS h"
        " WHERE h.tenant_id = $1 ORDER BY 1",
        "SELECT w.customer_id, t.sequence, t.kind, t.asset, t.atoms, t.debit_account,"
        " t.credit_account, t.request_id, t.grant_atoms, t.create_time"
        " FROM transfers AS t JOIN wallets AS w USING (tenant_id, wallet_id)"
        " WHERE t.tenant_id = $1 ORDER BY 1, 2",
        "SELECT request_id, kind, customer_id, reference, fingerprint, create_time"
        " FROM operations WHERE tenant_id = $1 ORDER BY 1",
    )
    rows: list[tuple[object, ...]] = []
    async with database.transaction(tenant_id) as tx:
        for statement in statements:
            rows += [tuple(row) for row in await tx.fetch(statement, tenant_id)]
    return rows
