"""What time does, under a test clock and by the sweeper: grants wake and expire, holds end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.call import Environment
from chassis.clocks import CLOCK_VERSION, ClockReading, TenantClocks
from chassis.platform import Platform
from chassis.service import App, Running
from kernel.errors import Kind, Refusal
from tests.support.databases import FreshDatabase
from tests.support.services import Services, credential
from tests.support.waiting import until
from tests.wallet.client import WalletClient
from tollgate.wallet.v1 import ledger_pb2
from wallet.app import SERVICE
from wallet.ledger.jobs import Sweeper
from wallet.ledger.operations import Ledger, open_ledger

START = datetime(2027, 3, 1, tzinfo=UTC)
NEXT_MONTH = START + timedelta(days=31)


class Away(Refusal):
    reason = "UNAVAILABLE"
    kind = Kind.UNAVAILABLE


@dataclass
class Times:
    """Where clocks are read: a test clock for some tenants, no answer for others."""

    instants: dict[UUID, datetime]
    away: set[UUID]
    version: int = 1

    async def read(self, tenant_id: UUID) -> ClockReading:
        if tenant_id in self.away:
            raise Away("nobody tells the time")
        instant = self.instants.get(tenant_id)
        return ClockReading(Environment.TEST, instant, self.version if instant else 0)


class TimedClient(WalletClient):
    """Calls of a tenant with a test clock, which `advance` moves on."""

    times: Times

    async def advance(self, now: datetime) -> None:
        self.times.instants[self.tenant_id] = now
        self.times.version += 1
        metadata = credential(self.tenant_id, environment=Environment.TEST)
        version = (CLOCK_VERSION, str(self.times.version))
        self._metadata = dict.fromkeys(self._metadata, (*metadata, version))


@pytest.fixture
async def timed(services: Services, wallet_database: FreshDatabase) -> TimedClient:
    times = Times({}, set())

    @asynccontextmanager
    async def open_timed(platform: Platform) -> AsyncIterator[App]:
        async with SERVICE.open(platform) as app:
            yield replace(app, clock_source=times)

    definition = replace(SERVICE, open=open_timed)
    started: Running = await services.run(definition, wallet_database, work=False)
    client = TimedClient(await services.channel(started))
    client.times = times
    await client.advance(START)
    await client.asset()
    return client


def _stamp(instant: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


async def test_a_grant_expires_when_its_wallet_is_touched(timed: TimedClient) -> None:
    wallet_id = await timed.wallet()
    await timed.grant(wallet_id, "30", expire_time=_stamp(NEXT_MONTH))
    await timed.grant(wallet_id, "70")
    assert (await timed.debit("10")).debit.available == "90"
    await timed.advance(NEXT_MONTH)
    assert (await timed.debit("10")).debit.available == "60"
    expiry = [
        t for t in await timed.transfers(wallet_id) if t.kind == ledger_pb2.TRANSFER_KIND_EXPIRE
    ]
    assert [(t.amount.value, t.credit_account, t.request_id) for t in expiry] == [
        ("20", "house:breakage", "")
    ]
    assert await timed.verify() == []


async def test_what_rolls_over_goes_on_in_a_grant_of_its_own_expiry(timed: TimedClient) -> None:
    wallet_id = await timed.wallet()
    later = NEXT_MONTH + timedelta(days=10)
    rollover = ledger_pb2.Rollover(
        fraction="0.5", cap="20", time_to_live=Duration(seconds=10 * 86_400)
    )
    first = await timed.grant(wallet_id, "30", expire_time=_stamp(NEXT_MONTH), rollover=rollover)
    assert first.rollover == rollover
    second = await timed.grant(wallet_id, "100", expire_time=_stamp(NEXT_MONTH), rollover=rollover)
    await timed.debit("10")
    await timed.advance(NEXT_MONTH)
    assert (await timed.debit("1")).debit.available == "29", "half of 20, and 20 of 100"
    rolled = {g.rolled_from: g for g in await timed.list_grants(wallet_id) if g.rolled_from}
    assert rolled[first.grant_id].amount.value == "10"
    assert rolled[second.grant_id].amount.value == "20"
    assert {g.expire_time.ToDatetime(tzinfo=UTC) for g in rolled.values()} == {later}
    kinds = [t.kind for t in await timed.transfers(wallet_id)]
    assert kinds.count(ledger_pb2.TRANSFER_KIND_ROLLOVER) == 4
    await timed.advance(later)
    assert (await timed.debit("1")).refusal.facts["available"] == "0"
    assert await timed.verify() == []


async def test_what_would_have_expired_again_meanwhile_does_not_roll_over(
    timed: TimedClient,
) -> None:
    wallet_id = await timed.wallet()
    rollover = ledger_pb2.Rollover(time_to_live=Duration(seconds=86_400))
    await timed.grant(wallet_id, "30", expire_time=_stamp(NEXT_MONTH), rollover=rollover)
    await timed.advance(NEXT_MONTH + timedelta(days=1))
    assert (await timed.debit("1")).refusal.reason == "INSUFFICIENT_FUNDS"
    assert len(await timed.list_grants(wallet_id)) == 1
    assert await timed.verify() == []


async def test_a_grant_waits_for_its_time(timed: TimedClient) -> None:
    wallet_id = await timed.wallet()
    await timed.grant(wallet_id, "30", effective_time=_stamp(NEXT_MONTH))
    assert (await timed.debit("1")).refusal.reason == "INSUFFICIENT_FUNDS"
    (balance,) = await timed.balances()
    assert (balance.dormant, balance.available) == ("30", "0")
    await timed.advance(NEXT_MONTH)
    assert (await timed.debit("1")).debit.available == "29"
    assert await timed.verify() == []


async def test_debt_is_settled_by_the_grant_that_wakes(timed: TimedClient) -> None:
    wallet_id = await timed.overdraft_wallet("50")
    await timed.grant(wallet_id, "30", effective_time=_stamp(NEXT_MONTH))
    await timed.debit("20")
    (balance,) = await timed.balances()
    assert (balance.debt, balance.dormant, balance.available) == ("20", "30", "30")
    await timed.advance(NEXT_MONTH)
    assert (await timed.debit("1")).debit.available == "59"
    (balance,) = await timed.balances()
    assert (balance.debt, balance.dormant, balance.available) == ("0", "0", "59")
    assert await timed.verify() == []


async def test_what_a_hold_pins_of_an_expired_grant_is_captured_and_does_not_return(
    timed: TimedClient,
) -> None:
    wallet_id = await timed.wallet()
    await timed.grant(wallet_id, "30", expire_time=_stamp(START + timedelta(minutes=5)))
    await timed.grant(wallet_id, "70")
    hold_id = (await timed.hold("50")).hold.hold_id
    await timed.advance(START + timedelta(minutes=6))
    captured = await timed.capture(hold_id, "20", final=True)
    assert (captured.debit.amount.value, captured.debit.available) == ("20", "70")
    assert await timed.verify() == []


async def test_time_does_not_go_back_in_a_wallet(timed: TimedClient) -> None:
    wallet_id = await timed.wallet()
    await timed.grant(wallet_id, "30", expire_time=_stamp(NEXT_MONTH))
    await timed.advance(NEXT_MONTH)
    await timed.grant(wallet_id, "10")
    await timed.advance(START)
    assert (await timed.debit("1")).debit.available == "9"
    times = [t.create_time.ToDatetime() for t in await timed.transfers(wallet_id)]
    assert times == sorted(times)


async def test_a_hold_ends_by_the_test_clock(timed: TimedClient) -> None:
    wallet_id = await timed.wallet()
    await timed.grant(wallet_id, "30")
    hold_id = (await timed.hold("20", time_to_live=Duration(seconds=60))).hold.hold_id
    await timed.advance(START + timedelta(seconds=60))
    assert (await timed.capture(hold_id, "5")).refusal.facts["state"] == "EXPIRED"
    assert await timed.available() == "30"


async def test_the_sweeper_does_for_untouched_wallets_what_a_touch_would_do(
    timed: TimedClient, wallet_database: FreshDatabase
) -> None:
    wallet_id = await timed.wallet()
    await timed.grant(wallet_id, "30", expire_time=_stamp(NEXT_MONTH))
    await timed.grant(wallet_id, "50", effective_time=_stamp(NEXT_MONTH))
    await timed.grant(wallet_id, "10")
    await timed.hold("20")
    other = await timed.wallet("c2")
    rollover = ledger_pb2.Rollover(fraction="0.25")
    await timed.grant(other, "40", expire_time=_stamp(NEXT_MONTH), rollover=rollover)
    async with _sweeper(wallet_database, timed.times) as (sweeper, _):
        assert await sweeper.sweep() == 0
    timed.times.instants[timed.tenant_id] = NEXT_MONTH
    async with _sweeper(wallet_database, timed.times) as (sweeper, _):
        assert await sweeper.sweep() == 3, "two balances, one hold"
        assert await sweeper.sweep() == 0
    (balance,) = await timed.balances()
    assert (balance.available, balance.held, balance.debited) == ("60", "0", "30")
    assert await timed.available("c2") == "10", "a quarter went on"
    assert await timed.verify() == []


async def test_the_sweeper_leaves_a_tenant_alone_whose_time_nobody_tells(
    timed: TimedClient, wallet_database: FreshDatabase
) -> None:
    wallet_id = await timed.wallet()
    await timed.grant(wallet_id, "30", expire_time=_stamp(NEXT_MONTH))
    times = Times({timed.tenant_id: NEXT_MONTH}, {timed.tenant_id})
    async with _sweeper(wallet_database, times) as (sweeper, _):
        assert await sweeper.sweep() == 0


async def test_the_sweeper_frees_holds_by_the_databases_clock(
    client: WalletClient, wallet_database: FreshDatabase
) -> None:
    await client.asset()
    await client.grant(await client.wallet(), "100")
    await client.hold("60", time_to_live=Duration(seconds=1))
    async with _sweeper(wallet_database, Times({}, set())) as (sweeper, _):
        await until(sweeper.sweep, what="the hold's end")
    assert await client.available() == "100"
    assert await client.verify() == []


async def test_days_of_the_journal_are_made_ahead_and_once(wallet_database: FreshDatabase) -> None:
    async with wallet_database.open("wallet") as pool, pool.unscoped() as connection:
        assert await connection.fetchval("SELECT extend_journal(7)") == 0
        assert await connection.fetchval("SELECT extend_journal(9)") == 2


@asynccontextmanager
async def _sweeper(database: FreshDatabase, times: Times) -> AsyncIterator[tuple[Sweeper, Ledger]]:
    async with database.open("wallet") as pool, open_ledger(pool, 1) as ledger:
        yield Sweeper(pool, ledger, TenantClocks(times)), ledger
