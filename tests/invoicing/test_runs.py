"""Runs: what they wait for, what they tell meanwhile, and those that start by themselves."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from invoicing.runs.domain import RETRY_SECONDS_MAX, retry_pause
from invoicing.runs.jobs import SelfBilling
from tests.gateway.support import SandboxProcess
from tests.invoicing.company import WAIT_SECONDS_MAX, open_company
from tests.invoicing.support import Books, at, fixed, usage
from tests.support.databases import FreshDatabase
from tests.support.services import Services, credential
from tests.support.waiting import until
from tollgate.identity.v1 import (
    identity_service_pb2,
    identity_service_pb2_grpc,
    tenant_pb2,
)
from tollgate.invoicing.v1 import catalog_pb2, invoice_pb2
from tollgate.metering.v1 import event_pb2
from tollgate.type.v1 import price_pb2

WALLET = catalog_pb2.SETTLEMENT_WALLET
UNIT = price_pb2.Price(asset="USD", unit=price_pb2.UnitModel(unit_price="0.5"))


def test_pauses_grow_to_a_minute() -> None:
    pauses = [retry_pause(attempts).total_seconds() for attempts in range(20)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == RETRY_SECONDS_MAX
    assert pauses[0] < 1


async def test_a_customer_whose_usage_is_not_settled_is_told_and_billed_later(
    database: FreshDatabase, sandbox: SandboxProcess, services: Services, redis_url: str
) -> None:
    async with AsyncExitStack() as stack:
        wallets = Services(stack, redis_url)
        start = datetime(2025, 1, 1, tzinfo=UTC)
        company = await open_company(services, database, sandbox, start, wallets)
        await company.asset("USD", 9)
        await company.meter()
        for name in ("acme", "other"):
            await company.customer(name)
        await company.publish(usage(UNIT, meter="tokens", settlement=WALLET))
        await company.publish(fixed("10"), code="flat")
        await company.wallet("USD", "5")
        await company.subscribe()
        await company.subscribe("other", plan_code="flat")
        await company.use(at(2025, 1, 1), tokens="4")
        await company.advance(at(2025, 2, 1))
        address = services.addresses["wallet"]
        await stack.aclose()
        await company.use(at(2025, 1, 31), tokens="2", state=event_pb2.EVENT_STATE_PENDING)
        run_id = await company.start_run()

        async def told() -> Any:
            run = await company.run(run_id)
            return run if run.faults and run.customers_done == 1 else None

        run = await until(told, what="the fault", seconds_max=WAIT_SECONDS_MAX)
        assert run.state == invoice_pb2.BILLING_RUN_STATE_RUNNING
        assert [(fault.customer_id, fault.message) for fault in run.faults] == [
            ("acme", "1 usage events are still being settled")
        ]
        assert [one.customer_id for one in await company.list_invoices()] == ["other"]
        await services.run("wallet", database, listen=address)

        async def over() -> Any:
            run = await company.run(run_id)
            return run if run.state == invoice_pb2.BILLING_RUN_STATE_DONE else None

        done = await until(over, what="the run", seconds_max=WAIT_SECONDS_MAX)
        assert (list(done.faults), done.customers_done, done.invoices) == ([], 2, 2)
        (statement,) = await company.list_invoices("acme")
        assert (statement.lines[0].quantity, statement.lines[0].wallet_amount) == ("6", "3")


async def test_closed_periods_are_billed_by_themselves_but_not_on_a_test_clock(
    database: FreshDatabase, services: Services
) -> None:
    await services.run("identity", database)
    service = await services.run("invoicing", database)
    identity = await services.channel("identity")
    invoicing = await services.channel("invoicing")
    live = Books(invoicing, await _tenant(identity, tenant_pb2.ENVIRONMENT_LIVE))
    test = Books(invoicing, await _tenant(identity, tenant_pb2.ENVIRONMENT_TEST))
    await _stop_clock(identity, test)
    for books in (live, test):
        await books.publish(fixed("10"))
        await books.customer()
        await books.subscribe(start_time=at(2025, 1, 1))
    billing = SelfBilling(service.platform.database, service.platform.clocks, 3_600)
    now = datetime.now(UTC)
    # Within the grace of its start nothing is billed.
    assert await billing.look(datetime(2025, 1, 1, 0, 59, tzinfo=UTC)) == 0
    assert await billing.look(now) == 1
    assert await billing.look(now) == 0

    async def billed() -> Any:
        return await live.list_invoices()

    (invoice,) = await until(billed, what="the invoice", seconds_max=WAIT_SECONDS_MAX)
    months = [line for line in invoice.lines if line.kind == invoice_pb2.LINE_KIND_FIXED]
    assert len(months) == _months_since(2025, now - timedelta(hours=1))
    assert await test.list_invoices() == []


def _months_since(year: int, now: datetime) -> int:
    return (now.year - year) * 12 + now.month


async def _tenant(identity: Any, environment: Any) -> UUID:
    made = await identity_service_pb2_grpc.TenantServiceStub(identity).CreateTenant(
        identity_service_pb2.CreateTenantRequest(
            request_id=uuid4().hex, name="Tenant", environment=environment
        ),
        metadata=credential(None, environment=None),
    )
    return UUID(made.tenant.tenant_id)


async def _stop_clock(identity: Any, books: Books) -> None:
    stamp = Timestamp()
    stamp.FromDatetime(datetime(2025, 1, 1, tzinfo=UTC))
    clocks = identity_service_pb2_grpc.TestClockServiceStub(identity)
    await books.call(
        clocks.CreateTestClock, identity_service_pb2.CreateTestClockRequest(time=stamp)
    )
