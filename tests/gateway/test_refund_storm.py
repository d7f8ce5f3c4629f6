"""Many captures and refunds, a fault in every second: each is carried out exactly once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from tests.gateway.support import SandboxProcess, open_desk, refund_state, state_of
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tests.support.waiting import until

PAYMENTS = 16
TOGETHER = 6
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
    "notify_twice",
    "notify_first",
]
ENDED = {"SUCCEEDED", "DECLINED", "FAILED", "REVERSED"}


async def test_every_capture_and_refund_ends_and_moves_its_money_exactly_once(
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
    dice = random.Random(20260302)
    await desk.attach("pm_ok")
    for request in ("capture", "refund"):
        await sandbox.script(*(dice.choice(FAULTS) for _ in range(PAYMENTS // 2)), on=request)
    slots = asyncio.Semaphore(TOGETHER)

    async def go_through(number: int) -> tuple[str, str]:
        async with slots:
            payment = await desk.pay("10.00", capture_later=True)

            async def captured() -> bool:
                if state_of(await desk.find(payment.payment_id)) == "AUTHORIZED":
                    await desk.capture(payment.payment_id, "6.00", request_id=f"c{number}")
                return state_of(await desk.find(payment.payment_id)) == "SUCCEEDED"

            await until(captured, what="the capture", seconds_max=60)
            twice = await asyncio.gather(
                *(desk.refund(payment.payment_id, "2.00", request_id=f"r{number}") for _ in "ab")
            )
            return twice[0].refund_id, twice[1].refund_id

    pairs = await asyncio.gather(*(go_through(number) for number in range(PAYMENTS)))
    assert all(first == second for first, second in pairs)

    async def all_ended() -> bool:
        refunds = [await desk.find_refund(refund_id) for refund_id, _ in pairs]
        return {refund_state(each) for each in refunds} <= ENDED

    await until(all_ended, what="every refund to end", seconds_max=60)
    states = Counter([refund_state(await desk.find_refund(each)) for each, _ in pairs])
    assert states == {"SUCCEEDED": PAYMENTS}
    books = await sandbox.books()
    assert books["taken"]["USD"] == {"count": PAYMENTS, "amount": 600 * PAYMENTS}
    assert Counter(each["amount"] for each in books["refunds"]) == {200: PAYMENTS}
