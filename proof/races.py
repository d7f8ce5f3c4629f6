"""Races: concurrent callers of several wallet processes; the exact number succeeds."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import grpc
import redis.asyncio

from proof.claims import Layer, Options
from proof.stage import Programs, Stage, programs
from tests.support.databases import FreshDatabase
from tests.wallet.client import WalletClient, debit_item, grant_item, key, reasons
from tollgate.wallet.v1 import ledger_pb2

WALLETS = 2  # processes
ROUNDS, ROUNDS_LONG = 3, 30


async def run(layer: Layer, options: Options, stage: Stage) -> None:
    """Every race several times, each on a customer of its own."""
    rounds = ROUNDS_LONG if options.long else ROUNDS
    database = await stage.database("wallet")
    async with programs(stage) as started, AsyncExitStack() as stack:
        callers = await open_callers(started, stack, database, WALLETS)
        await callers[0].asset("USD", 2)
        layer.figure("wallet processes", WALLETS)
        layer.figure("rounds of each race", rounds)
        with layer.claiming("of 300 concurrent debits of 1 on 100 exactly 100 pass"):
            for number in range(rounds):
                await _debits(callers, f"debits-{number}")
        with layer.claiming(
            "of 20 concurrent holds of 75 on 500 six are granted, 450 is held, 14 are denied"
        ):
            for number in range(rounds):
                await _holds(callers, f"holds-{number}")
        with layer.claiming("one key asked 60 times at once is done once and answered alike"):
            for number in range(rounds):
                await _one_key(callers, f"key-{number}")
        with layer.claiming("a payment that is told five times at once is granted once"):
            for number in range(rounds):
                await _one_payment(callers, f"payment-{number}")
        with layer.claiming("a hold that is captured and voided at once ends once"):
            for number in range(rounds):
                await _one_end(callers, f"end-{number}")
        with layer.claiming("emptying Redis right after an acknowledged debit loses nothing"):
            for number in range(rounds):
                await _without_redis(callers, stage, f"redis-{number}")
        with layer.claiming("the verifier agrees with every balance after all races"):
            assert await callers[0].verify() == []


async def open_callers(
    started: Programs, stack: AsyncExitStack, database: FreshDatabase, count: int
) -> list[WalletClient]:
    """So many wallet processes on one database, and a caller of each, all of one tenant."""
    tenant_id = uuid4()
    wallets = [started.make("wallet", database.dsn("wallet")) for _ in range(count)]
    await asyncio.gather(*[wallet.start() for wallet in wallets])
    callers = []
    for wallet in wallets:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(wallet.address))
        callers.append(WalletClient(channel, tenant_id))
    return callers


async def _debits(callers: list[WalletClient], customer: str) -> None:
    wallet_id = await callers[0].wallet(customer)
    await callers[0].grant(wallet_id, "100")
    outcomes = await asyncio.gather(
        *[callers[n % len(callers)].debit("1", customer) for n in range(300)]
    )
    assert Counter(reasons(outcomes)) == {"OK": 100, "INSUFFICIENT_FUNDS": 200}
    assert sorted(int(o.debit.available) for o in outcomes if o.HasField("debit")) == [*range(100)]
    assert await callers[0].available(customer) == "0"
    numbers = [transfer.sequence for transfer in await callers[0].transfers(wallet_id)]
    assert numbers == list(range(1, 102))


async def _holds(callers: list[WalletClient], customer: str) -> None:
    await callers[0].grant(await callers[0].wallet(customer), "500")
    outcomes = await asyncio.gather(
        *[callers[n % len(callers)].hold("75", customer) for n in range(20)]
    )
    assert Counter(reasons(outcomes)) == {"OK": 6, "INSUFFICIENT_FUNDS": 14}
    (balance,) = await callers[0].balances(customer)
    assert (balance.held, balance.available) == ("450", "50")


async def _one_key(callers: list[WalletClient], customer: str) -> None:
    await callers[0].grant(await callers[0].wallet(customer), "10")
    item = debit_item("4", customer)
    answers = await asyncio.gather(*[callers[n % len(callers)].post([item]) for n in range(60)])
    debits = [outcome.debit for (outcome,) in answers]
    assert sum(not outcome.replayed for (outcome,) in answers) == 1
    assert all(debit == debits[0] for debit in debits)
    assert await callers[0].available(customer) == "6"


async def _one_payment(callers: list[WalletClient], customer: str) -> None:
    wallet_id = await callers[0].wallet(customer)
    item = grant_item(wallet_id, "25", request_id=f"payment-of-{customer}")
    answers = await asyncio.gather(
        *[callers[n % len(callers)].create_grants([item]) for n in range(5)]
    )
    assert len({outcome.grant.grant_id for (outcome,) in answers}) == 1
    assert await callers[0].available(customer) == "25"


async def _one_end(callers: list[WalletClient], customer: str) -> None:
    await callers[0].grant(await callers[0].wallet(customer), "100")
    captured = 0
    for _ in range(10):
        hold_id = (await callers[0].hold("5", customer)).hold.hold_id
        capture, void = await asyncio.gather(
            callers[0].capture(hold_id, "3", final=True), callers[1].void(hold_id)
        )
        if capture.HasField("debit"):
            captured += 1
            assert reasons([void]) == ["HOLD_ENDED"]
        else:
            assert reasons([capture]) == ["HOLD_ENDED"]
            assert void.hold.state == ledger_pb2.HOLD_STATE_VOIDED
    (balance,) = await callers[0].balances(customer)
    assert (balance.held, balance.debited) == ("0", str(3 * captured))


async def _without_redis(callers: list[WalletClient], stage: Stage, customer: str) -> None:
    wallet_id = await callers[0].wallet(customer)
    await callers[0].grant(wallet_id, "10")
    request_id = key()
    posted = await callers[0].debit("3", customer, request_id=request_id)
    async with redis.asyncio.Redis.from_url(stage.redis.url) as client:
        await client.flushall()
    await asyncio.to_thread(stage.redis.kill)
    try:
        again: Any = await callers[1].debit("3", customer, request_id=request_id)
        assert again.replayed
        assert again.debit == posted.debit
        assert await callers[1].available(customer) == "7"
        assert (await callers[1].transfers(wallet_id))[-1].request_id == request_id
        assert reasons([await callers[1].debit("1", customer)]) == ["OK"]
    finally:
        await asyncio.to_thread(stage.redis.start)
