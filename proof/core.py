"""Core properties: the ledger's pure functions, without database, server or clock."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from kernel.errors import InvalidValue, Kind
from kernel.money import ATOMS_MAX, format_atoms, parse_atoms
from proof.claims import Layer, Options
from proof.examples import check, profile
from proof.stage import Stage
from tests.wallet.memory import MemoryLedger, check_journal
from tests.wallet.worlds import (
    CUSTOMER,
    START,
    Shape,
    World,
    operations,
    shapes,
    waits,
    wallet_id_of,
)
from wallet.ledger.domain.batch import Bundle
from wallet.ledger.domain.books import Balance, Books, Grant, Wallet
from wallet.ledger.domain.outcomes import Held, Outcome, Posted, Refused, decode, encode
from wallet.ledger.domain.ripening import present
from wallet.ledger.domain.spending import burn, spread
from wallet.ledger.domain.values import (
    NEVER,
    NO_PURPOSE,
    HoldState,
    ShortfallMode,
    WalletState,
)
from wallet.ledger.wire import parse_value

EXAMPLES, EXAMPLES_LONG = 300, 4_000
TENANT = "0190aaaa-0000-7000-8000-000000000002"

_texts = st.text(max_size=12)
_atoms = st.integers(0, ATOMS_MAX)
_instants = st.datetimes(timezones=st.just(UTC))
_shares = st.lists(st.tuples(st.uuids().map(str), _atoms, st.integers(1, 10**12)), max_size=3)
_posted = st.builds(
    Posted,
    asset=st.sampled_from(["USD", "token"]),
    scale=st.integers(0, 18),
    atoms=_atoms,
    shortfall=_atoms,
    available=st.integers(-ATOMS_MAX, ATOMS_MAX),
    late=st.booleans(),
    shares=_shares,
)
_held = st.builds(
    Held,
    hold_id=st.uuids().map(str),
    customer_id=_texts,
    asset=st.just("USD"),
    scale=st.integers(0, 18),
    atoms=_atoms,
    captured=_atoms,
    state=st.sampled_from(HoldState),
    reference=_texts,
    create_time=_instants,
    expire_time=_instants,
    available=_atoms,
    shares=_shares,
)
_refused = st.builds(
    Refused,
    reason=st.just("INSUFFICIENT_FUNDS"),
    kind=st.sampled_from(Kind),
    message=_texts,
    facts=st.dictionaries(_texts, _texts, max_size=3),
)
_grants = st.lists(
    st.tuples(
        st.integers(1, 50),  # amount
        st.integers(0, 50),  # held of it
        st.sampled_from([10, 50]),
        st.sampled_from([10, 20, None]),  # seconds until it expires
        st.sampled_from([0, 1]),
    ),
    min_size=1,
    max_size=6,
)
_days = st.lists(
    st.tuples(st.one_of(st.just(0), waits), st.lists(operations, min_size=1, max_size=8)),
    min_size=1,
    max_size=6,
)


def an_amount_is_read_as_it_was_written(atoms: int, scale: int) -> None:
    text = format_atoms(atoms, scale)
    assert parse_atoms(text, scale, "value") == atoms
    # Items take a faster way through the ordinary case.
    assert parse_value(text, scale, "value", zero_allowed=True) == atoms


def what_is_finer_than_the_scale_is_refused(atoms: int, scale: int, finer: str) -> None:
    whole, _, fraction = format_atoms(atoms, scale).partition(".")
    text = f"{whole}.{fraction.ljust(scale, '0')}{finer}"
    for parse in (parse_atoms, parse_value):
        try:
            parse(text, scale, "value")
        except InvalidValue:
            continue
        raise AssertionError(f"{text} was taken at scale {scale}")


def an_answer_is_kept_as_it_was_given(outcome: Outcome) -> None:
    kept = decode(encode(outcome))
    assert kept == outcome
    assert kept.replayed


def grants_burn_in_order_and_to_the_atom(grants: list[Any], part: int) -> None:
    books, balance = _balance_of(grants)
    free = balance.spendable(NO_PURPOSE)
    before = {grant.grant_id: grant.remaining for grant in balance.grants}
    every = list(balance.grants)
    atoms = part % free + 1 if free else 0
    if not atoms:
        return
    split = burn(books, balance, atoms, NO_PURPOSE)
    assert sum(used for _, used in split) == atoms
    for grant, used in split:
        assert grant is not None
        assert grant.remaining == before[grant.grant_id] - used
        assert 0 <= grant.held <= grant.remaining
    last = max(_spec_order(grant) for grant, _ in split if grant is not None)
    for grant in every:
        if _spec_order(grant) < last:
            assert grant.remaining == grant.held, "an earlier grant was passed over"


def parts_of_an_amount_add_up(purses: list[Any], atoms: int) -> None:
    balances = []
    for floor, grants in purses:
        _, balance = _balance_of(grants)
        balance.floor = floor
        balances.append(balance)
    parts, left = spread(balances, atoms, NO_PURPOSE)
    funds = sum(balance.spendable(NO_PURPOSE) for balance in balances)
    lent = sum(part.overdraft for part in parts)
    assert sum(part.funds + part.overdraft for part in parts) + left == atoms
    assert left == max(0, atoms - funds - sum(b.floor for b in balances))
    assert lent == 0 or sum(part.funds for part in parts) == funds, "overdraft before funds"
    for part in parts:
        assert part.funds <= part.balance.spendable(NO_PURPOSE)
        assert part.overdraft <= part.balance.floor


def time_never_goes_back_in_a_wallet(seconds: int, last: int) -> None:
    wallet = _wallet()
    wallet.change_time = START + timedelta(seconds=last)
    clock = START + timedelta(seconds=seconds)
    instant = present(Books(clock=clock), None, [wallet])
    assert instant == max(clock, wallet.change_time)


def a_batch_is_its_items_one_after_another(wallets: list[Shape], days: list[Any]) -> None:
    together, apart = _MemoryWorld(wallets), _MemoryWorld(wallets, apart=True)
    for seconds, chosen in days:
        for world in (together, apart):
            world.world.now += timedelta(seconds=seconds)
            asyncio.run(world.world.batch(chosen))
    assert together.ledger.journal == apart.ledger.journal
    check_journal(together.ledger)


def a_repeated_batch_moves_nothing(wallets: list[Shape], days: list[Any]) -> None:
    world = _MemoryWorld(wallets)
    for seconds, chosen in days:
        world.world.now += timedelta(seconds=seconds)
        asyncio.run(world.world.batch(chosen))
        length = len(world.ledger.journal)
        asyncio.run(_ask_again(world, len(chosen)))
        assert len(world.ledger.journal) == length
    check_journal(world.ledger)


def a_twin_inside_a_batch_is_answered_alike(wallets: list[Shape], days: list[Any]) -> None:
    world = _MemoryWorld(wallets, twins=True)
    for seconds, chosen in days:
        world.world.now += timedelta(seconds=seconds)
        asyncio.run(world.world.batch(chosen))
    check_journal(world.ledger)


@dataclass(frozen=True)
class Property:
    """A claim, what checks it, and what it is tried on."""

    says: str
    check: Callable[..., None]
    strategies: dict[str, st.SearchStrategy[Any]]
    worth: float = 1.0  # of the number of examples: the dearer ones get fewer


PROPERTIES = [
    Property(
        "an amount is read as it was written, at every scale",
        an_amount_is_read_as_it_was_written,
        {"atoms": st.integers(0, 10**20 - 1), "scale": st.integers(0, 18)},
    ),
    Property(
        "a value finer than the scale is refused, never rounded",
        what_is_finer_than_the_scale_is_refused,
        {
            "atoms": st.integers(0, 10**15),
            "scale": st.integers(0, 18),
            "finer": st.from_regex("0{0,3}[1-9]", fullmatch=True),
        },
    ),
    Property(
        "an answer is kept for ever as it was given",
        an_answer_is_kept_as_it_was_given,
        {"outcome": st.one_of(_posted, _held, _refused)},
    ),
    Property(
        "grants burn in burn order and to the atom, and what holds pin stays",
        grants_burn_in_order_and_to_the_atom,
        {"grants": _grants, "part": st.integers(0, 300)},
    ),
    Property(
        "the parts of an amount add up, and funds come before overdraft",
        parts_of_an_amount_add_up,
        {
            "purses": st.lists(st.tuples(st.integers(0, 40), _grants), min_size=1, max_size=3),
            "atoms": st.integers(1, 400),
        },
    ),
    Property(
        "time never goes back in a wallet",
        time_never_goes_back_in_a_wallet,
        {"seconds": st.integers(-100, 100), "last": st.integers(-100, 100)},
    ),
    Property(
        "a batch is its items one after another",
        a_batch_is_its_items_one_after_another,
        {"wallets": shapes, "days": _days},
        0.2,
    ),
    Property(
        "a batch that is repeated moves nothing and is answered alike",
        a_repeated_batch_moves_nothing,
        {"wallets": shapes, "days": _days},
        0.2,
    ),
    Property(
        "a twin inside a batch is answered with the first's answer",
        a_twin_inside_a_batch_is_answered_alike,
        {"wallets": shapes, "days": _days},
        0.2,
    ),
]


async def run(layer: Layer, options: Options, stage: Stage) -> None:
    """Every property, each in a thread of its own, so that it may run a loop."""
    examples = EXAMPLES_LONG if options.long else EXAMPLES
    total = 0
    for number, each in enumerate(PROPERTIES):
        count = int(examples * each.worth)
        total += count
        with layer.claiming(each.says):
            await asyncio.to_thread(try_property, each, options.seed + number, profile(count))
    layer.figure("examples", total)


def try_property(each: Property, seed: int, how: settings) -> None:
    """One property under a seed; anything it raises becomes an assertion that fails."""
    try:
        check(each.check, seed, how, each.strategies)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error


class _MemoryWorld:
    """A ledger in memory beside the model, with what the world of a property begins with."""

    def __init__(self, wallets: Sequence[Shape], *, apart: bool = False, twins: bool = False):
        self.ledger = MemoryLedger(TENANT)
        for index, (priority, mode, floor, meters) in enumerate(wallets):
            wallet = Wallet(
                TENANT,
                wallet_id_of(TENANT, index),
                CUSTOMER,
                priority,
                (meters, (), ()) if meters else None,
                ShortfallMode[mode],
                False,
                WalletState.ACTIVE,
            )
            if mode == "OVERDRAFT":
                wallet.balances["USD"] = Balance(
                    wallet, "USD", floor=floor, sequence_before=0, change_time=START
                )
            self.ledger.add(wallet)
        self.world = World.of(TENANT, _Engine(self.ledger, apart, twins), wallets)
        first = [("grant", index, 100, 50, 1, None, None, ()) for index in range(len(wallets))]
        asyncio.run(self.world.batch(first))


@dataclass
class _Engine:
    """The ledger in memory, given a batch whole, item by item, or with a twin of each item."""

    ledger: MemoryLedger
    apart: bool
    twins: bool

    async def apply(self, bundles: Sequence[Bundle]) -> list[list[Outcome]]:
        if self.apart:
            return [(await self.ledger.apply([bundle]))[0] for bundle in bundles]
        if not self.twins:
            return await self.ledger.apply(bundles)
        doubled = [bundle for one in bundles for bundle in (one, copy.copy(one))]
        answers = await self.ledger.apply(doubled)
        for first, second in zip(answers[::2], answers[1::2], strict=True):
            assert first == second
            assert all(outcome.replayed for outcome in second)
        return answers[::2]


async def _ask_again(world: _MemoryWorld, count: int) -> None:
    for item, outcome in world.world.answered[-count:]:
        again = copy.copy(item)
        again.now = world.world.now
        ((answer,),) = await world.ledger.apply([(again,)])
        assert answer == outcome
        assert answer.replayed


def _wallet() -> Wallet:
    return Wallet(
        TENANT,
        wallet_id_of(TENANT, 0),
        CUSTOMER,
        50,
        None,
        ShortfallMode.BLOCK,
        False,
        WalletState.ACTIVE,
    )


def _balance_of(grants: list[Any]) -> tuple[Books, Balance]:
    wallet = _wallet()
    balance = Balance(wallet, "USD")
    for number, (amount, held, priority, seconds, cost) in enumerate(grants):
        grant = Grant(
            f"{number:04d}",
            1,
            amount,
            amount,
            min(held, amount),
            priority,
            3,
            None,
            START,
            NEVER if seconds is None else START + timedelta(seconds=seconds),
            Decimal(cost),
            START,
            False,
        )
        balance.grants.append(grant)
        balance.credited += amount
        balance.held += grant.held
    balance.grants.sort(key=Grant.rank)
    return Books(clock=START), balance


def _spec_order(grant: Grant) -> tuple[int, datetime, Decimal, str]:
    """Burn order as the specification tells it, for grants without scope that start together."""
    return grant.priority, grant.expire_time, grant.cost_basis, grant.grant_id
