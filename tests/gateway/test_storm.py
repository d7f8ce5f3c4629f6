"""Many payments, a fault in every third, jobs running: each intent ends, charged exactly once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from tests.gateway.support import SandboxProcess, attempt_state, open_desk
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tests.support.waiting import until

PAYMENTS = 60
TOGETHER = 8
TOKENS = ["pm_ok", "pm_ok", "pm_ok", "pm_ok_async:100ms", "pm_insufficient_funds"]
FAULTS = [
    "hang_after",
    "hang_before",
    "reset_before",
    "reset_before_reply",
    "http_500_before",
    "http_500_after+notify_never",
    "http_429:2",
    "http_409_in_flight",
    "truncated_body",
    "slow:300",
    "notify_twice",
    "notify_first",
    "notify_late:300ms",
    "notify_stale",
    "notify_unsigned",
]


async def test_every_intent_ends_and_is_charged_exactly_once(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(
        services,
        gateway_database,
        sandbox,
        work=True,
        notifications_listen="127.0.0.1:0",
        provider_call_seconds_max=0.5,
    )
    await desk.open_account()
    dice = random.Random(20260301)
    for number, token in enumerate(TOKENS):
        await desk.attach(f"{token}@{number}", f"customer-{number}")
    await sandbox.script(*(dice.choice(FAULTS) for _ in range(PAYMENTS // 3)))

    slots = asyncio.Semaphore(TOGETHER)

    async def pay(number: int) -> str:
        async with slots:
            customer = f"customer-{number % len(TOKENS)}"
            twice = await asyncio.gather(
                *(desk.pay("3.21", customer_id=customer, request_id=f"r{number}") for _ in "ab")
            )
            assert twice[0].payment_id == twice[1].payment_id
            return twice[0].payment_id

    ids = await asyncio.gather(*(pay(number) for number in range(PAYMENTS)))
    assert len(set(ids)) == PAYMENTS

    async def all_ended() -> bool:
        # What the schedule would ask in half a minute is asked now.
        await desk.collector.settle_due(datetime.now(UTC) + timedelta(minutes=1))
        found = [await desk.find(each) for each in ids]
        states = Counter(attempt_state(each.attempts[0]) for each in found)
        return states["SUCCEEDED"] + states["DECLINED"] == PAYMENTS

    await until(all_ended, what="every attempt ends", seconds_max=60)
    found = [await desk.find(each) for each in ids]
    succeeded = {
        each.attempts[0].attempt_id
        for each in found
        if attempt_state(each.attempts[0]) == "SUCCEEDED"
    }
    books = await sandbox.books()
    taken = Counter(each["reference"] for each in books["payments"] if each["taken"])
    assert set(taken) == succeeded
    assert set(taken.values()) == {1}
    assert books["taken"]["USD"] == {"count": len(succeeded), "amount": 321 * len(succeeded)}
    async with gateway_database.open("gateway") as pool, pool.transaction(desk.tenant_id) as tx:
        told = await tx.fetchval("SELECT count(*) FROM outbox WHERE kind = 'payment.succeeded'")
    assert told == len(succeeded)
