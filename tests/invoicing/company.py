"""A tenant on a test clock with every service it needs running: what invoices are tested on."""

from __future__ import annotations

import socket
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from chassis.call import Environment
from tests.gateway.support import SandboxProcess
from tests.invoicing.support import Books
from tests.support.databases import FreshDatabase
from tests.support.services import Services, credential
from tests.support.waiting import until
from tollgate.gateway.v1 import payment_service_pb2, payment_service_pb2_grpc
from tollgate.identity.v1 import (
    identity_service_pb2,
    identity_service_pb2_grpc,
    tenant_pb2,
)
from tollgate.invoicing.v1 import invoice_pb2
from tollgate.metering.v1 import (
    correction_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    meter_pb2,
    meter_pb2_grpc,
)
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import (
    ledger_pb2,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
    wallet_pb2,
    wallet_service_pb2,
    wallet_service_pb2_grpc,
)

WAIT_SECONDS_MAX = 60.0  # five services share two cores


class Company(Books):
    """A tenant's whole suite. Time is the test clock's."""

    def __init__(self, services: Services, channels: dict[str, Any], tenant_id: UUID) -> None:
        super().__init__(channels["invoicing"], tenant_id, Environment.TEST)
        self.services = services
        self.clocks = identity_service_pb2_grpc.TestClockServiceStub(channels["identity"])
        self.meters = meter_pb2_grpc.MeterServiceStub(channels["metering"])
        self.events = event_pb2_grpc.EventServiceStub(channels["metering"])
        self.event_corrections = correction_pb2_grpc.CorrectionServiceStub(channels["metering"])
        self.assets = wallet_service_pb2_grpc.AssetServiceStub(channels["wallet"])
        self.wallets = wallet_service_pb2_grpc.WalletServiceStub(channels["wallet"])
        self.recharges = wallet_service_pb2_grpc.RechargeServiceStub(channels["wallet"])
        self.grants = ledger_service_pb2_grpc.GrantServiceStub(channels["wallet"])
        self.methods = payment_service_pb2_grpc.PaymentMethodServiceStub(channels["gateway"])
        self.accounts = payment_service_pb2_grpc.ProviderAccountServiceStub(channels["gateway"])
        self.refunds = payment_service_pb2_grpc.RefundServiceStub(channels["gateway"])
        self.payments = payment_service_pb2_grpc.PaymentServiceStub(channels["gateway"])

    async def advance(self, instant: Timestamp) -> None:
        answer = await self.call(
            self.clocks.AdvanceTestClock,
            identity_service_pb2.AdvanceTestClockRequest(time=instant),
        )
        self.clock_version = answer.test_clock.version

    async def meter(self, code: str = "tokens") -> None:
        """A meter that sums the property of its own name, in events of that name."""
        await self.call(
            self.meters.CreateMeter,
            meter_pb2.CreateMeterRequest(
                meter=meter_pb2.Meter(
                    code=code,
                    event_name=code,
                    aggregation=meter_pb2.AGGREGATION_SUM,
                    value_property=code,
                    dimensions=["model"],
                )
            ),
        )

    async def use(
        self,
        instant: Timestamp,
        customer_id: str = "acme",
        state: Any = event_pb2.EVENT_STATE_ACCEPTED,
        **used: str,
    ) -> event_pb2.EventOutcome:
        """One usage event of a meter, and what became of it: `use(now, tokens="5")`."""
        ((meter, _),) = used.items()
        event = event_pb2.Event(
            event_id=uuid4().hex,
            name=meter,
            customer_id=customer_id,
            event_time=instant,
            properties=used,
        )
        answer = await self.call(
            self.events.IngestEvents, event_pb2.IngestEventsRequest(events=[event])
        )
        outcome: event_pb2.EventOutcome = answer.outcomes[0]
        assert outcome.state == state, outcome
        return outcome

    async def asset(
        self, code: str, scale: int, kind: Any = wallet_pb2.ASSET_KIND_CURRENCY
    ) -> None:
        await self.call(
            self.assets.CreateAsset,
            wallet_service_pb2.CreateAssetRequest(code=code, scale=scale, kind=kind),
        )

    async def wallet(self, asset: str, value: str, customer_id: str = "acme") -> str:
        """A wallet with funds."""
        opened = await self.call(
            self.wallets.CreateWallet,
            wallet_service_pb2.CreateWalletRequest(customer_id=customer_id, name="main"),
        )
        wallet_id: str = opened.wallet.wallet_id
        granted = await self.call(
            self.grants.CreateGrants,
            ledger_service_pb2.CreateGrantsRequest(
                items=[
                    ledger_service_pb2.GrantItem(
                        request_id=uuid4().hex,
                        wallet_id=wallet_id,
                        amount=amount_pb2.Amount(asset=asset, value=value),
                        kind=ledger_pb2.GRANT_KIND_PAID,
                    )
                ]
            ),
        )
        assert granted.outcomes[0].WhichOneof("outcome") == "grant", granted
        return wallet_id

    async def available(self, customer_id: str = "acme") -> dict[str, str]:
        answer = await self.call(
            self.wallets.GetBalances,
            wallet_service_pb2.GetBalancesRequest(customer_ids=[customer_id]),
        )
        return {balance.asset: balance.available for balance in answer.balances}

    async def payment_method(self, token: str = "pm_ok", customer_id: str = "acme") -> None:
        await self.call(
            self.methods.AttachPaymentMethod,
            payment_service_pb2.AttachPaymentMethodRequest(
                customer_id=customer_id,
                provider_account="main",
                provider_token=f"{token}@{customer_id}-{uuid4().hex[:8]}",
                make_default=True,
            ),
        )

    async def start_run(self, as_of: Timestamp | None = None) -> str:
        answer = await self.call(
            self.invoices.StartBillingRun, invoice_pb2.StartBillingRunRequest(as_of=as_of)
        )
        run_id: str = answer.run.run_id
        return run_id

    async def run(self, run_id: str) -> invoice_pb2.BillingRun:
        answer = await self.call(
            self.invoices.GetBillingRun, invoice_pb2.GetBillingRunRequest(run_id=run_id)
        )
        run: invoice_pb2.BillingRun = answer.run
        return run

    async def bill(
        self, as_of: Timestamp | None = None, *, collected: bool = True
    ) -> invoice_pb2.BillingRun:
        """Run a billing run to its end, payments included."""
        run_id = await self.start_run(as_of)

        async def over() -> invoice_pb2.BillingRun | None:
            run = await self.run(run_id)
            done = run.state == invoice_pb2.BILLING_RUN_STATE_DONE
            if collected:
                done = done and run.invoices_collected == run.invoices
            return run if done else None

        run = await until(over, what="the billing run", seconds_max=WAIT_SECONDS_MAX)
        assert run is not None
        return run

    async def preview(self, customer_id: str = "acme") -> invoice_pb2.Invoice:
        answer = await self.call(
            self.invoices.PreviewInvoice,
            invoice_pb2.PreviewInvoiceRequest(customer_id=customer_id),
        )
        found: invoice_pb2.Invoice = answer.invoice
        return found

    async def seller(self, **fields: Any) -> None:
        given = {"name": "Example Inference Ltd", "tax_id": "IE1234567FA"} | fields
        await self.call(
            self.sellers.SetSeller,
            invoice_pb2.SetSellerRequest(seller=invoice_pb2.Seller(**given)),
        )


async def open_company(
    services: Services,
    database: FreshDatabase,
    sandbox: SandboxProcess,
    now: datetime,
    wallets: Services | None = None,
) -> Company:
    """Every service in this process, and a test tenant whose clock stands at `now`.

    The wallet may be run by others, so that a test can stop it and start it where it was.
    """
    invoicing, metering = free_address(), free_address()
    await services.run("identity", database)
    wallet = await (wallets or services).run(
        "wallet", database, listen=free_address(), peers=services.addresses
    )
    services.addresses["wallet"] = wallet.address
    await services.run(
        "gateway",
        database,
        sandbox_endpoint=sandbox.endpoint,
        provider_call_seconds_max=1.0,
        settle_pause_seconds=0.1,
    )
    await services.run("metering", database, listen=metering, peers={"invoicing": invoicing})
    await services.run("invoicing", database, listen=invoicing)
    channels = {name: await services.channel(name) for name in services.addresses}
    tenants = identity_service_pb2_grpc.TenantServiceStub(channels["identity"])
    made = await tenants.CreateTenant(
        identity_service_pb2.CreateTenantRequest(
            request_id=uuid4().hex, name="Test", environment=tenant_pb2.ENVIRONMENT_TEST
        ),
        metadata=credential(None, environment=None),
    )
    company = Company(services, channels, UUID(made.tenant.tenant_id))
    stamp = Timestamp()
    stamp.FromDatetime(now)
    started = await company.call(
        company.clocks.CreateTestClock, identity_service_pb2.CreateTestClockRequest(time=stamp)
    )
    company.clock_version = started.test_clock.version
    await company.call(
        company.accounts.CreateProviderAccount,
        payment_service_pb2.CreateProviderAccountRequest(code="main", provider="sandbox"),
    )
    return company


def free_address() -> str:
    """A port that is free now; services that call each other must know both before they start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
