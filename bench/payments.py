"""Payments in a storm: faults at the provider, kills of the gateway, and what the books say after.

It measures, and it proves: every intent ends, each is charged exactly once, no outcome stays
unknown for long, and the ledger's clearing account equals the provider's own books.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import grpc
import httpx

from bench.records import Records
from tollgate.gateway.v1 import payment_pb2, payment_service_pb2
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import ledger_pb2, ledger_service_pb2
from tollgate_cli import setting_up
from tollgate_cli.supervisor import Suite
from tollgate_sdk import Tollgate

PAYMENTS = 10_000
KILLS = 25
FAULTY = 0.2  # of the charges; each then may meet faults of its look-ups too
TOGETHER = 48
CUSTOMERS = 20
VALUE = "3.21"
SECONDS_MAX = 3_000.0
CLEARING = "house:provider_clearing"
GRANTS_A_CALL = 500
TOKENS = ["pm_ok"] * 7 + ["pm_ok_async:300ms"] * 2 + ["pm_insufficient_funds"]
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
    "notify_reordered",
    "notify_stale",
    "notify_unsigned",
]


@dataclass
class Storm:
    """What came of it."""

    ended: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    answered: int = 0
    kills: int = 0
    faults: int = 0
    unknown_oldest_seconds: float = 0.0
    charged_twice: int = 0  # attempts that the provider took more than once
    uncharged: int = 0  # attempts told as succeeded that the provider never took
    untold: int = 0  # attempts that the provider took and are not told as succeeded
    taken: Decimal = Decimal(0)  # by the provider's books
    cleared: Decimal = Decimal(0)  # by the ledger's clearing account


async def measure_storm(records: Records, client: Tollgate, suite: Suite) -> None:
    """Ten thousand payments: takes minutes, so only where it is asked for by name."""
    storm = await rage(client, suite, PAYMENTS, KILLS, random.Random(20261125))
    check(storm, PAYMENTS)
    records.add("gateway.storm.payments", float(PAYMENTS), "payments")
    records.add("gateway.storm.rate", PAYMENTS / storm.seconds, "payments/s")
    records.add("gateway.storm.kills", float(storm.kills), "kills")
    records.add("gateway.storm.faults", float(storm.faults), "faults")
    records.add("gateway.storm.succeeded", float(storm.ended["SUCCEEDED"]), "payments")
    records.add("gateway.storm.declined", float(storm.ended["DECLINED"]), "payments")
    records.add("gateway.storm.unknown_oldest", storm.unknown_oldest_seconds, "s")
    records.add("gateway.storm.taken", float(storm.taken), "USD")
    records.add("gateway.storm.cleared", float(storm.cleared), "USD")


def check(storm: Storm, count: int) -> None:
    """Raise where anything that was promised does not hold."""
    # FAILED is an end too: the provider was too busy for too long, and nothing took effect.
    ends = {"SUCCEEDED", "DECLINED", "FAILED"}
    if sum(storm.ended.values()) != count or set(storm.ended) - ends:
        raise RuntimeError(f"not every intent ended: {storm}")
    if storm.charged_twice or storm.uncharged or storm.untold:
        raise RuntimeError(f"not each was charged exactly once: {storm}")
    if storm.unknown_oldest_seconds > 120:
        raise RuntimeError(f"unknown for {storm.unknown_oldest_seconds:.0f} s")
    if storm.taken != storm.cleared:
        raise RuntimeError(f"taken {storm.taken}, cleared {storm.cleared}")


async def rage(
    client: Tollgate, suite: Suite, count: int, kills: int, dice: random.Random
) -> Storm:
    """Make the payments, with faults and kills, and look at all books when it is over."""
    storm = Storm(faults=int(count * FAULTY))
    await _open(client)
    await _script(suite, [dice.choice(FAULTS) for _ in range(storm.faults)], count, dice)
    points = dice.sample(range(count // 50, count), kills)
    reached = {point: asyncio.Event() for point in points}
    begun = time.monotonic()
    watching = asyncio.create_task(_watch(suite, storm))
    killing = asyncio.create_task(_kill(suite, storm, reached))
    try:
        async with asyncio.timeout(SECONDS_MAX):
            await _pay_all(client, count, storm, reached)
            killing.cancel()
            found = await _until_all_ended(client, count)
    finally:
        for task in (watching, killing):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    storm.seconds = time.monotonic() - begun
    await _look(client, suite, found, storm)
    return storm


async def _open(client: Tollgate) -> None:
    await client.call(
        client.provider_accounts.CreateProviderAccount,
        payment_service_pb2.CreateProviderAccountRequest(
            request_id="account", code="main", provider="sandbox"
        ),
    )
    for number in range(CUSTOMERS):
        await client.call(
            client.payment_methods.AttachPaymentMethod,
            payment_service_pb2.AttachPaymentMethodRequest(
                request_id=f"method-{number}",
                customer_id=f"storm-{number}",
                provider_account="main",
                provider_token=f"{TOKENS[number % len(TOKENS)]}@{number}",
            ),
        )


async def _script(suite: Suite, faults: list[str], count: int, dice: random.Random) -> None:
    """Faults spread over all charges, and a few for the looks that follow them."""
    scripted = ["slow:0"] * count
    for position, fault in zip(dice.sample(range(count), len(faults)), faults, strict=True):
        scripted[position] = fault
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        for on, names in (
            ("charge", scripted),
            ("find", ["http_500_before", "reset_before", "slow:100"] * (count // 100)),
            ("read", ["http_500_before", "truncated_body"] * (count // 100)),
        ):
            for start in range(0, len(names), 500):
                wanted = {"on": on, "faults": names[start : start + 500]}
                answer = await http.post(f"{suite.sandbox_endpoint}/faults", json=wanted)
                answer.raise_for_status()


async def _pay_all(
    client: Tollgate, count: int, storm: Storm, reached: dict[int, asyncio.Event]
) -> None:
    slots = asyncio.Semaphore(TOGETHER)

    async def pay(number: int) -> None:
        async with slots:
            await _pay(client, number)
            storm.answered += 1
            if storm.answered in reached:
                reached[storm.answered].set()

    await asyncio.gather(*(pay(number) for number in range(count)))


async def _pay(client: Tollgate, number: int) -> None:
    """One payment, asked for until it is answered: the gateway may be gone at any moment."""
    request = payment_service_pb2.CreatePaymentRequest(
        request_id=f"storm-{number}",
        customer_id=f"storm-{number % CUSTOMERS}",
        amount=Amount(asset="USD", value=VALUE),
        source=payment_pb2.SourceDocument(kind="storm", id=str(number)),
    )
    pause = 0.1
    while True:
        try:
            await client.call(client.payments.CreatePayment, request)
            return
        except Exception as error:
            if not _passing(error):
                raise
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)


def _passing(error: Exception) -> bool:
    """Whether the gateway was away, rather than of another mind."""
    codes = (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, grpc.aio.AioRpcError):
            return cause.code() in codes
        cause = cause.__cause__ or cause.__context__
    return getattr(error, "reason", "") in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "")


async def _kill(suite: Suite, storm: Storm, reached: dict[int, asyncio.Event]) -> None:
    """Kill the gateway with -9 at each point of the way, while it is at work."""
    for point in sorted(reached):
        await reached[point].wait()
        await suite.wait_until_serving()
        suite.kill("gateway")
        storm.kills += 1


async def _watch(suite: Suite, storm: Storm) -> None:
    """How long anything has been unknown, once a second."""
    connection = await asyncpg.connect(suite.database_url)
    try:
        while True:
            since = await connection.fetchval(
                "SELECT min(unknown_since) FROM gateway.operation WHERE state = 'OPEN'"
            )
            if since is not None:
                age = (datetime.now(UTC) - since).total_seconds()
                storm.unknown_oldest_seconds = max(storm.unknown_oldest_seconds, age)
            await asyncio.sleep(1.0)
    finally:
        await connection.close()


async def _until_all_ended(client: Tollgate, count: int) -> list[payment_pb2.Payment]:
    """Every payment, once none is under way."""
    live = {payment_pb2.PAYMENT_STATE_PROCESSING}
    while True:
        found = await _list(client)
        if len(found) == count and not any(each.state in live for each in found):
            return found
        await asyncio.sleep(1.0)


async def _list(client: Tollgate) -> list[payment_pb2.Payment]:
    found: list[payment_pb2.Payment] = []
    token = ""
    while True:
        answer = await client.call(
            client.payments.ListPayments,
            payment_service_pb2.ListPaymentsRequest(page_size=1000, page_token=token),
        )
        found += answer.payments
        token = answer.next_page_token
        if not token:
            return found


async def _look(
    client: Tollgate, suite: Suite, found: list[payment_pb2.Payment], storm: Storm
) -> None:
    """Compare what is told with the provider's books and with the ledger."""
    attempts = [each.attempts[-1] for each in found]
    for attempt in attempts:
        name = payment_pb2.AttemptState.Name(attempt.state).removeprefix("ATTEMPT_STATE_")
        storm.ended[name] += 1
    good = {
        attempt.attempt_id
        for attempt in attempts
        if attempt.state == payment_pb2.ATTEMPT_STATE_SUCCEEDED
    }
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        books = (await http.get(f"{suite.sandbox_endpoint}/books")).json()
    taken = Counter(each["reference"] for each in books["payments"] if each["taken"])
    storm.charged_twice = sum(times > 1 for times in taken.values())
    storm.uncharged = len(good - set(taken))
    storm.untold = len(set(taken) - good)
    storm.taken = Decimal(books["taken"].get("USD", {"amount": 0})["amount"]) / 100
    storm.cleared = await _clear(client, found)


async def _clear(client: Tollgate, found: list[payment_pb2.Payment]) -> Decimal:
    """Grant what was paid for, keyed by the payment, twice; what clearing then stands at."""
    wallet_id = await setting_up.open_wallet(client, "storm", "main", 50)
    items = [
        ledger_service_pb2.GrantItem(
            request_id=f"payment-{each.payment_id}",
            wallet_id=wallet_id,
            amount=each.attempts[-1].captured,
            kind=ledger_pb2.GRANT_KIND_PAID,
            cost_basis="1",
            cost_asset="USD",
            source=f"payment {each.payment_id}",
        )
        for each in found
        if each.state == payment_pb2.PAYMENT_STATE_SUCCEEDED
    ]
    for _ in ("once", "again"):
        for start in range(0, len(items), GRANTS_A_CALL):
            part = items[start : start + GRANTS_A_CALL]
            await client.call(
                client.grants.CreateGrants, ledger_service_pb2.CreateGrantsRequest(items=part)
            )
    balance = await client.call(
        client.ledger.GetTrialBalance, ledger_service_pb2.GetTrialBalanceRequest()
    )
    return sum(
        (
            abs(Decimal(each.debits) - Decimal(each.credits))
            for each in balance.totals
            if each.account == CLEARING and each.asset == "USD"
        ),
        Decimal(0),
    )
