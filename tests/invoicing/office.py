"""A tenant on a test clock with identity and invoicing alone: for what nobody uses or pays."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.peers import RemoteRefusal
from kernel.period import Period
from tests.invoicing.company import WAIT_SECONDS_MAX, Company, free_address
from tests.invoicing.support import moment
from tests.support.databases import FreshDatabase
from tests.support.services import Services, credential
from tests.support.waiting import until
from tollgate.identity.v1 import (
    identity_service_pb2,
    identity_service_pb2_grpc,
    tenant_pb2,
)
from tollgate.invoicing.v1 import invoice_pb2, subscription_pb2

NAMES = ("identity", "wallet", "metering", "gateway", "invoicing")


def stamp(instant: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(instant)
    return made


class Office(Company):
    """Subscriptions and invoices; the services that are not there are never asked."""

    database: FreshDatabase
    now: datetime

    async def go(self, instant: datetime) -> None:
        """Move the clock; it may stand there already."""
        if instant == self.now:
            return
        await self.advance(stamp(instant))
        self.now = instant

    async def change(
        self, subscription_id: str, target: dict[str, Any], **options: Any
    ) -> subscription_pb2.ChangeSubscriptionResponse:
        answer: subscription_pb2.ChangeSubscriptionResponse = await self.call(
            self.subscriptions.ChangeSubscription,
            subscription_pb2.ChangeSubscriptionRequest(
                subscription_id=subscription_id,
                target=subscription_pb2.SubscriptionTarget(**target),
                options=subscription_pb2.ChangeOptions(**options),
            ),
        )
        if answer.run_id:
            await self.until_done(answer.run_id)
        return answer

    async def preview_of(
        self, subscription_id: str, target: dict[str, Any], **options: Any
    ) -> subscription_pb2.PreviewChangeResponse:
        answer: subscription_pb2.PreviewChangeResponse = await self.call(
            self.subscriptions.PreviewChange,
            subscription_pb2.PreviewChangeRequest(
                subscription_id=subscription_id,
                target=subscription_pb2.SubscriptionTarget(**target),
                options=subscription_pb2.ChangeOptions(**options),
            ),
        )
        return answer

    async def subscription(self, subscription_id: str) -> subscription_pb2.Subscription:
        answer = await self.call(
            self.subscriptions.GetSubscription,
            subscription_pb2.GetSubscriptionRequest(subscription_id=subscription_id),
        )
        found: subscription_pb2.Subscription = answer.subscription
        return found

    async def refusal_of(self, method: Any, request: Any) -> RemoteRefusal:
        """The refusal of a request that must change nothing, and it is checked that it did not."""
        before = await self.subscription(request.subscription_id)
        refusal = await self.refused(method, request)
        assert await self.subscription(request.subscription_id) == before
        return refusal

    async def lines(self, customer_id: str = "acme") -> list[list[tuple[str, str]]]:
        """Descriptions and amounts of the lines of all invoices, oldest first."""
        found = await self.list_invoices(customer_id)
        return [
            [(line.description, line.amount) for line in invoice.lines]
            for invoice in reversed(found)
        ]

    async def until_done(self, run_id: str) -> None:

        async def over() -> Any:
            run = await self.run(run_id)
            return run.state == invoice_pb2.BILLING_RUN_STATE_DONE

        await until(over, what="the run of a change", seconds_max=WAIT_SECONDS_MAX)

    async def billed_stretches(self, subscription_id: str) -> list[tuple[str, UUID, str, Period]]:
        """What was billed and given back: price code, item, kind, stretch of time."""
        connection = await asyncpg.connect(self.database.superuser_dsn)
        try:
            rows = await connection.fetch(
                "SELECT p.code, b.subscription_item_id, b.kind, b.service_start_time,"
                " b.service_end_time FROM invoicing.billed_source AS b"
                " JOIN invoicing.subscription_item AS i USING (tenant_id, subscription_item_id)"
                " JOIN invoicing.price AS p USING (tenant_id, price_id)"
                " WHERE i.subscription_id = $1 ORDER BY b.service_start_time",
                UUID(subscription_id),
            )
        finally:
            await connection.close()
        return [(row[0], row[1], row[2], Period(row[3], row[4])) for row in rows]


async def open_office(services: Services, database: FreshDatabase, now: datetime) -> Office:
    """Identity and invoicing in this process, and a test tenant whose clock stands at `now`."""
    await services.run("identity", database)
    # Nobody is there: what would be collected waits.
    away = {name: free_address() for name in ("gateway", "wallet", "metering")}
    await services.run("invoicing", database, peers={**services.addresses, **away})
    here = {name: await services.channel(name) for name in ("identity", "invoicing")}
    channels = {name: here.get(name, here["invoicing"]) for name in NAMES}
    tenants = identity_service_pb2_grpc.TenantServiceStub(channels["identity"])
    made = await tenants.CreateTenant(
        identity_service_pb2.CreateTenantRequest(
            request_id=uuid4().hex, name="Test", environment=tenant_pb2.ENVIRONMENT_TEST
        ),
        metadata=credential(None, environment=None),
    )
    office = Office(services, channels, UUID(made.tenant.tenant_id))
    office.database = database
    office.now = now
    started = await office.call(
        office.clocks.CreateTestClock,
        identity_service_pb2.CreateTestClockRequest(time=stamp(now)),
    )
    office.clock_version = started.test_clock.version
    assert moment(started.test_clock.time) == now
    return office
