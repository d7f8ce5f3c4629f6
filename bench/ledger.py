"""What else the ledger owes: unary holds, many grants, a long journal, the recharge's message."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from redis.asyncio import Redis

from bench import world
from bench.load import LATENCY_CALLERS, RATE_CALLERS, drive
from bench.records import Records
from bench.wallet import CALLERS, debit, key
from chassis.outbox import stream_name
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import ledger_pb2, messages_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from tollgate.wallet.v1 import wallet_service_pb2 as wallets
from tollgate_cli import setting_up
from tollgate_cli.supervisor import Suite
from tollgate_sdk import Tollgate

GRANTED_WALLETS = 1_000
GRANTS = 100
GRANTS_A_CALL = 1_000
RECHARGES = 100
MESSAGE_SECONDS_MAX = 30.0
JOURNAL_STEPS = (("1m", 1_000_000), ("10m", 10_000_000))
JOURNAL_CALLERS = 8
JOURNAL_BATCH = 1_000


async def measure_unary_holds(records: Records, client: Tollgate, _: Suite) -> None:
    """Holds placed one a call, with the server saturated; durations at 64 callers and at one."""
    customers = await world.open_wallets(client, "unary", 1_000)
    chance = random.Random(13)

    async def place(_: int) -> None:
        await client.call(
            client.holds.PlaceHold,
            ledger.PlaceHoldRequest(
                item=ledger.HoldItem(
                    request_id=key(),
                    customer_id=chance.choice(customers),
                    amount=Amount(asset="USD", value="0.001"),
                )
            ),
            retry=False,
        )

    name = "wallet.hold.unary"
    full = await drive(place, callers=RATE_CALLERS, warm_up=20)
    records.add(name, full.rate(), "calls/s", "echo.unary")
    load = await drive(place, callers=LATENCY_CALLERS, seconds=3.0)
    records.add_latency(name, load.durations, "echo.unary")
    single = await drive(place, callers=1, seconds=3.0, warm_up=20)
    records.add_latency(f"{name}.one_caller", single.durations, "echo.unary.one_caller")


async def measure_many_grants(records: Records, client: Tollgate, _: Suite) -> None:
    """Debits over wallets of one grant each, then over as many of a hundred."""
    chance = random.Random(17)
    for name, count in (("wallet.debit.grants_1", 1), (f"wallet.debit.grants_{GRANTS}", GRANTS)):
        customers = await _open_granted(client, f"granted-{count}", count)

        async def post(_: int, payers: list[str] = customers) -> None:
            await debit(client, [chance.choice(payers) for _ in range(100)])

        load = await drive(post, callers=CALLERS)
        base = None if count == 1 else "wallet.debit.grants_1"
        records.add(name, load.rate(100), "debits/s", base)


async def _open_granted(client: Tollgate, prefix: str, count: int) -> list[str]:
    names = [f"{prefix}-{index}" for index in range(GRANTED_WALLETS)]
    ids = await setting_up.together(
        lambda name: setting_up.open_wallet(client, name, "main", 50), names
    )
    items = [
        ledger.GrantItem(
            request_id=f"{wallet_id}-{number}",
            wallet_id=wallet_id,
            amount=Amount(asset="USD", value=world.FUNDS),
            kind=ledger_pb2.GRANT_KIND_PROMOTIONAL,
            priority=number % 100,
        )
        for wallet_id in ids
        for number in range(count)
    ]

    async def create(part: list[ledger.GrantItem]) -> None:
        answer = await client.call(
            client.grants.CreateGrants, ledger.CreateGrantsRequest(items=part)
        )
        for outcome in answer.outcomes:
            if outcome.WhichOneof("outcome") == "refusal":
                raise RuntimeError(f"a grant was refused: {outcome.refusal.message}")

    parts = [items[start : start + GRANTS_A_CALL] for start in range(0, len(items), GRANTS_A_CALL)]
    await setting_up.together(create, parts)
    return names


async def measure_journal(records: Records, client: Tollgate, suite: Suite) -> None:
    """Debits a second when the journal has a million rows, and when it has ten.

    Filling it takes minutes, so this is measured only where it is asked for by name.
    """
    customers = await world.open_wallets(client, "journal", 10_000)
    chance = random.Random(19)
    rows = len(customers)

    async def post(_: int) -> None:
        await debit(client, [chance.choice(customers) for _ in range(JOURNAL_BATCH)])

    base = None
    for label, wanted in JOURNAL_STEPS:
        while rows < wanted:
            calls = min((wanted - rows) // JOURNAL_BATCH + 1, 200)
            await _together(post, calls)
            rows += calls * JOURNAL_BATCH
        name = f"wallet.debit.journal_{label}"
        load = await drive(post, callers=JOURNAL_CALLERS, seconds=15.0)
        rows += load.calls * JOURNAL_BATCH
        records.add(name, load.rate(JOURNAL_BATCH), "debits/s", base)
        base = name


async def _together(post: Any, calls: int) -> None:
    gate = asyncio.Semaphore(JOURNAL_CALLERS)

    async def one(number: int) -> None:
        async with gate:
            await post(number)

    await asyncio.gather(*[one(number) for number in range(calls)])


async def measure_recharge(records: Records, client: Tollgate, suite: Suite) -> None:
    """From the answer to the debit that crosses a threshold to its message in the stream."""
    names = [f"recharge-{index}" for index in range(RECHARGES)]
    owners: dict[str, str] = {}
    for name in names:
        wallet_id = await setting_up.open_wallet(client, name, "main", 50)
        await setting_up.grant(client, wallet_id, "USD", "10")
        owners[wallet_id] = name
        await client.call(client.recharges.SetRechargeRule, _rule(wallet_id))
    arrived: dict[str, float] = {}
    async with Redis.from_url(suite.redis_url) as redis:
        listening = asyncio.create_task(_listen(redis, owners, arrived))
        sent: dict[str, float] = {}
        for name in names:
            await _spend(client, name)
            sent[name] = time.perf_counter()
        async with asyncio.timeout(MESSAGE_SECONDS_MAX):
            await listening
    waits = [max(0.0, arrived[name] - sent[name]) for name in names]
    records.add_latency("wallet.recharge.message", waits)


def _rule(wallet_id: str) -> wallets.SetRechargeRuleRequest:
    return wallets.SetRechargeRuleRequest(
        request_id=key(),
        rule=wallets.RechargeRule(
            wallet_id=wallet_id,
            threshold=Amount(asset="USD", value="5"),
            mode=wallets.RECHARGE_MODE_FIXED,
            value="10",
            unit_price="1",
            price_asset="USD",
            monthly_cap="100",
            enabled=True,
        ),
    )


async def _spend(client: Tollgate, customer: str) -> None:
    item = ledger.DebitItem(
        request_id=key(), customer_id=customer, amount=Amount(asset="USD", value="6")
    )
    answer = await client.call(client.debits.PostDebits, ledger.PostDebitsRequest(items=[item]))
    if answer.outcomes[0].WhichOneof("outcome") != "debit":
        raise RuntimeError(f"a debit was refused: {answer.outcomes[0]}")


async def _listen(redis: Redis, owners: dict[str, str], arrived: dict[str, float]) -> None:
    stream = stream_name("wallet")
    # From where the stream stands: "$" again and again would miss what comes between two reads.
    newest = await redis.xrevrange(stream, count=1)
    last = newest[0][0] if newest else "0"
    while len(arrived) < len(owners):
        for _, entries in await redis.xread({stream: last}, block=1_000):
            now = time.perf_counter()
            for entry_id, fields in entries:
                last = entry_id
                if fields[b"kind"] == b"wallet.recharge_due":
                    due = messages_pb2.RechargeDue.FromString(fields[b"payload"])
                    if due.wallet_id in owners:
                        arrived.setdefault(owners[due.wallet_id], now)
