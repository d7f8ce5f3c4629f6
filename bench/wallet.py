"""Debits on one hot wallet and over many, and holds with their captures."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

from bench import world
from bench.load import drive
from bench.records import Records
from kernel.ids import new_id
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from tollgate_sdk import Tollgate

CALLERS = 8
UNIFORM_WALLETS = 10_000


async def measure_hot(records: Records, client: Tollgate) -> None:
    """Debits a second on one wallet in batches of 100 and 1,000, and one by one."""
    (customer,) = await world.open_wallets(client, "hot", 1)
    for name, size in (("wallet.debit.hot", 100), ("wallet.debit.hot_1000", 1_000)):
        await _measure_debits(records, client, name, size, lambda: customer)
    single = await drive(lambda _: debit(client, [customer]), callers=1, seconds=2.0)
    records.add("wallet.debit.hot_single", single.rate(), "debits/s", "pg.single_row_commit")


async def measure_uniform(records: Records, client: Tollgate) -> None:
    """Debits a second over 10,000 wallets in batches of 100 and 1,000."""
    customers = await world.open_wallets(client, "uniform", UNIFORM_WALLETS)
    chance = random.Random(3)
    for name, size in (("wallet.debit.uniform", 100), ("wallet.debit.uniform_1000", 1_000)):
        await _measure_debits(records, client, name, size, lambda: chance.choice(customers))


async def measure_holds(records: Records, client: Tollgate) -> None:
    """Holds placed and captured, pairs a second, in batches of 100."""
    customers = await world.open_wallets(client, "holds", 1_000)
    chance = random.Random(5)

    async def pair(_: int) -> None:
        placed = await client.call(
            client.holds.PlaceHolds,
            ledger.PlaceHoldsRequest(
                items=[
                    ledger.HoldItem(
                        request_id=key(), customer_id=chance.choice(customers), amount=_amount()
                    )
                    for _ in range(100)
                ]
            ),
            retry=False,
        )
        captured = await client.call(
            client.holds.CaptureHolds,
            ledger.CaptureHoldsRequest(
                items=[
                    ledger.CaptureItem(
                        request_id=key(), hold_id=outcome.hold.hold_id, value="0.0005", final=True
                    )
                    for outcome in placed.outcomes
                ]
            ),
            retry=False,
        )
        _check(captured)

    load = await drive(pair, callers=CALLERS)
    records.add("wallet.hold.pairs", load.rate(100), "pairs/s", "pg.single_row_commit")
    records.add_latency("wallet.hold.pairs", load.durations)


async def _measure_debits(
    records: Records, client: Tollgate, name: str, size: int, payer: Callable[[], str]
) -> None:
    load = await drive(lambda _: debit(client, [payer() for _ in range(size)]), callers=CALLERS)
    records.add(name, load.rate(size), "debits/s", "pg.single_row_commit")
    records.add_latency(name, load.durations)


async def debit(client: Tollgate, payers: list[str]) -> None:
    """One call: a small debit of each payer's."""
    answer = await client.call(
        client.debits.PostDebits,
        ledger.PostDebitsRequest(
            items=[
                ledger.DebitItem(request_id=key(), customer_id=payer, amount=_amount())
                for payer in payers
            ]
        ),
        retry=False,
    )
    _check(answer)


def _check(answer: ledger.PostDebitsResponse | ledger.CaptureHoldsResponse) -> None:
    for outcome in answer.outcomes:
        if outcome.WhichOneof("outcome") != "debit":
            raise RuntimeError(f"a debit was refused: {outcome}")


def key() -> str:
    """A request id that nobody used before."""
    return str(new_id(datetime.now(UTC)))


def _amount() -> amount_pb2.Amount:
    return amount_pb2.Amount(asset="USD", value="0.001")
