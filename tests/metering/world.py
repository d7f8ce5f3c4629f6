"""A tenant with assets, meters, plans and customers, set up and used through gRPC alone."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.services import credential
from tollgate.identity.v1 import identity_service_pb2, identity_service_pb2_grpc, tenant_pb2
from tollgate.invoicing.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    customer_pb2,
    customer_pb2_grpc,
    entitlement_pb2_grpc,
    subscription_pb2,
    subscription_pb2_grpc,
)
from tollgate.metering.v1 import (
    backfill_pb2_grpc,
    correction_pb2,
    correction_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    gate_pb2,
    gate_pb2_grpc,
    meter_pb2,
    meter_pb2_grpc,
    parking_pb2,
    parking_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)
from tollgate.type.v1 import amount_pb2, price_pb2
from tollgate.wallet.v1 import (
    budget_service_pb2_grpc,
    ledger_pb2,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
    wallet_pb2,
    wallet_service_pb2,
    wallet_service_pb2_grpc,
)

SECONDS = 20.0
ACCEPTED = event_pb2.EVENT_STATE_ACCEPTED
REJECTED = event_pb2.EVENT_STATE_REJECTED
PENDING = event_pb2.EVENT_STATE_PENDING
INVALID = event_pb2.EVENT_STATE_INVALID


def stamp(instant: datetime) -> Timestamp:
    """An instant as a timestamp."""
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def unit_price(asset: str, value: str) -> price_pb2.Price:
    """A price of each unit."""
    return price_pb2.Price(asset=asset, unit=price_pb2.UnitModel(unit_price=value))


def graduated(asset: str, *tiers: tuple[str, str]) -> price_pb2.Price:
    """Tiers of (up to, unit price); the last is open and says ""."""
    return price_pb2.Price(
        asset=asset,
        graduated=price_pb2.GraduatedModel(
            tiers=[price_pb2.Tier(up_to=up_to, unit_price=price) for up_to, price in tiers]
        ),
    )


async def new_tenant(identity: grpc.aio.Channel) -> uuid.UUID:
    """A live tenant."""
    stub = identity_service_pb2_grpc.TenantServiceStub(identity)
    request = identity_service_pb2.CreateTenantRequest(
        request_id=str(uuid.uuid4()), name="Tenant", environment=tenant_pb2.ENVIRONMENT_LIVE
    )
    answer = await stub.CreateTenant(request, timeout=SECONDS, metadata=credential(None))
    return uuid.UUID(answer.tenant.tenant_id)


class World:
    """One tenant, its services and what is in them."""

    def __init__(
        self,
        tenant_id: uuid.UUID,
        metering: grpc.aio.Channel,
        wallet: grpc.aio.Channel,
        invoicing: grpc.aio.Channel,
    ) -> None:
        self.tenant_id = tenant_id
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.start = self.now - timedelta(days=60)
        self._numbers = itertools.count(1)
        self.connect(metering)
        self.assets = wallet_service_pb2_grpc.AssetServiceStub(wallet)
        self.wallets = wallet_service_pb2_grpc.WalletServiceStub(wallet)
        self.grants = ledger_service_pb2_grpc.GrantServiceStub(wallet)
        self.ledger = ledger_service_pb2_grpc.LedgerServiceStub(wallet)
        self.hold_service = ledger_service_pb2_grpc.HoldServiceStub(wallet)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(invoicing)
        self.customers = customer_pb2_grpc.CustomerServiceStub(invoicing)
        self.subscriptions = subscription_pb2_grpc.SubscriptionServiceStub(invoicing)
        self.entitlements = entitlement_pb2_grpc.EntitlementServiceStub(invoicing)
        self.budgets = budget_service_pb2_grpc.BudgetServiceStub(wallet)

    def connect(self, metering: grpc.aio.Channel) -> None:
        """Talk to this metering service from now on."""
        self.meters = meter_pb2_grpc.MeterServiceStub(metering)
        self.events = event_pb2_grpc.EventServiceStub(metering)
        self.gate = gate_pb2_grpc.GateServiceStub(metering)
        self.usage = usage_pb2_grpc.UsageServiceStub(metering)
        self.parking = parking_pb2_grpc.ParkingServiceStub(metering)
        self.backfills = backfill_pb2_grpc.BackfillServiceStub(metering)
        self.corrections = correction_pb2_grpc.CorrectionServiceStub(metering)

    async def call(self, method: Callable[..., Any], request: Any) -> Any:
        """One call for this tenant."""
        return await method(request, timeout=SECONDS, metadata=credential(self.tenant_id))

    def stream(self, method: Callable[..., Any], requests: Any) -> Any:
        """The answers to a stream of requests."""
        return method(requests, timeout=SECONDS, metadata=credential(self.tenant_id))

    def key(self, name: str) -> str:
        """A request id that was never used."""
        return f"{name}-{next(self._numbers)}"

    # --- setting up ---------------------------------------------------------------------------

    async def asset(self, code: str, scale: int = 9) -> None:
        kind = wallet_pb2.ASSET_KIND_CURRENCY if code == "USD" else wallet_pb2.ASSET_KIND_UNIT
        await self.call(
            self.assets.CreateAsset,
            wallet_service_pb2.CreateAssetRequest(
                request_id=self.key("asset"), code=code, scale=scale, kind=kind
            ),
        )

    async def meter(
        self,
        code: str,
        event_name: str = "call",
        value: str = "",
        *,
        maximum: bool = False,
        dimensions: Sequence[str] = (),
        filters: Iterable[meter_pb2.PropertyFilter] = (),
    ) -> None:
        aggregation = meter_pb2.AGGREGATION_COUNT
        if value:
            aggregation = meter_pb2.AGGREGATION_MAX if maximum else meter_pb2.AGGREGATION_SUM
        await self.call(
            self.meters.CreateMeter,
            meter_pb2.CreateMeterRequest(
                request_id=self.key("meter"),
                meter=meter_pb2.Meter(
                    code=code,
                    event_name=event_name,
                    aggregation=aggregation,
                    value_property=value,
                    dimensions=dimensions,
                    filters=filters,
                ),
            ),
        )

    async def plan(
        self,
        code: str,
        prices: Mapping[str, price_pb2.Price],
        *,
        from_wallet: bool = True,
        features: Sequence[str] = (),
    ) -> None:
        """A published plan with one price per meter."""
        settlement = (
            catalog_pb2.SETTLEMENT_WALLET if from_wallet else catalog_pb2.SETTLEMENT_INVOICE
        )
        draft = await self.call(
            self.catalog.CreatePlan,
            catalog_pb2.CreatePlanRequest(
                request_id=self.key("plan"),
                plan=catalog_pb2.Plan(
                    code=code,
                    name=code,
                    features=features,
                    prices=[
                        catalog_pb2.PlanPrice(
                            code=f"{code}-{place}",
                            description=meter,
                            kind=catalog_pb2.PRICE_KIND_USAGE,
                            meter=meter.partition("/")[0],
                            pricing=pricing,
                            settlement=settlement,
                        )
                        for place, (meter, pricing) in enumerate(prices.items())
                    ],
                ),
            ),
        )
        await self.call(
            self.catalog.PublishPlan,
            catalog_pb2.PublishPlanRequest(
                request_id=self.key("publish"), code=code, version=draft.plan.version
            ),
        )

    async def customer(self, customer_id: str, plan: str = "", **funds: str) -> None:
        """A customer on a plan, with a wallet that holds these funds by asset."""
        await self.call(
            self.customers.CreateCustomer,
            customer_pb2.CreateCustomerRequest(
                request_id=self.key("customer"),
                customer=customer_pb2.Customer(
                    customer_id=customer_id,
                    name=customer_id,
                    currency="USD",
                    country="US",
                    time_zone="UTC",
                ),
            ),
        )
        if plan:
            await self.call(
                self.subscriptions.CreateSubscription,
                subscription_pb2.CreateSubscriptionRequest(
                    request_id=self.key("subscription"),
                    customer_id=customer_id,
                    plan_code=plan,
                    start_time=stamp(self.start),
                    anchor_mode=subscription_pb2.ANCHOR_MODE_CALENDAR,
                ),
            )
        if funds:
            wallet_id = await self.wallet(customer_id)
            for asset, value in funds.items():
                await self.fund(wallet_id, asset, value)

    async def wallet(
        self, customer_id: str, mode: wallet_pb2.ShortfallMode.ValueType | None = None
    ) -> str:
        answer = await self.call(
            self.wallets.CreateWallet,
            wallet_service_pb2.CreateWalletRequest(
                request_id=self.key("wallet"),
                customer_id=customer_id,
                shortfall_policy=wallet_pb2.ShortfallPolicy(
                    mode=mode or wallet_pb2.SHORTFALL_MODE_BLOCK
                ),
            ),
        )
        return str(answer.wallet.wallet_id)

    async def fund(self, wallet_id: str, asset: str, value: str) -> None:
        answer = await self.call(
            self.grants.CreateGrants,
            ledger_service_pb2.CreateGrantsRequest(
                items=[
                    ledger_service_pb2.GrantItem(
                        request_id=self.key("grant"),
                        wallet_id=wallet_id,
                        amount=amount_pb2.Amount(asset=asset, value=value),
                        kind=ledger_pb2.GRANT_KIND_PAID,
                    )
                ]
            ),
        )
        assert answer.outcomes[0].HasField("grant"), answer

    # --- using --------------------------------------------------------------------------------

    def event(
        self,
        customer_id: str,
        name: str = "call",
        *,
        event_id: str = "",
        time: datetime | None = None,
        authorization: str = "",
        node: str = "",
        more: bool = False,
        **properties: str,
    ) -> event_pb2.Event:
        return event_pb2.Event(
            event_id=event_id or str(uuid.uuid4()),
            name=name,
            customer_id=customer_id,
            event_time=stamp(time or self.now),
            properties=properties,
            authorization_id=authorization,
            node=node,
            authorization_continues=more,
        )

    async def ingest(self, *events: event_pb2.Event) -> list[event_pb2.EventOutcome]:
        answer = await self.call(
            self.events.IngestEvents, event_pb2.IngestEventsRequest(events=events)
        )
        return list(answer.outcomes)

    async def amend(
        self, *events: event_pb2.Event, reason: str = "reported wrongly", key: str = ""
    ) -> list[correction_pb2.CorrectionOutcome]:
        items = [
            correction_pb2.Amendment(
                request_id=key or self.key("amend"), event=event, reason=reason
            )
            for event in events
        ]
        request = correction_pb2.AmendEventsRequest(items=items)
        answer = await self.call(self.corrections.AmendEvents, request)
        return list(answer.outcomes)

    async def deprecate(
        self, *event_ids: str, reason: str = "never happened", key: str = ""
    ) -> list[correction_pb2.CorrectionOutcome]:
        items = [
            correction_pb2.Deprecation(
                request_id=key or self.key("deprecate"), event_id=event_id, reason=reason
            )
            for event_id in event_ids
        ]
        request = correction_pb2.DeprecateEventsRequest(items=items)
        answer = await self.call(self.corrections.DeprecateEvents, request)
        return list(answer.outcomes)

    async def park(
        self,
        *,
        unmatched: bool = False,
        unusable: bool = False,
        unpriced: bool = False,
    ) -> None:
        """Choose which events that cannot be taken are kept."""
        told = {True: parking_pb2.INGEST_CHOICE_PARK, False: parking_pb2.INGEST_CHOICE_REFUSE}
        policy = parking_pb2.IngestPolicy(
            unmatched=told[unmatched], unusable=told[unusable], unpriced=told[unpriced]
        )
        request = parking_pb2.SetIngestPolicyRequest(request_id=self.key("policy"), policy=policy)
        await self.call(self.parking.SetIngestPolicy, request)

    async def parked(self, reason: str = "") -> list[parking_pb2.ParkedEvent]:
        """All parked events, page by page."""
        found: list[parking_pb2.ParkedEvent] = []
        token = ""
        while True:
            request = parking_pb2.ListParkedEventsRequest(
                reason=reason, page_size=2, page_token=token
            )
            answer = await self.call(self.parking.ListParkedEvents, request)
            found.extend(answer.events)
            token = answer.next_page_token
            if not token:
                return found

    async def replay(self, *event_ids: str) -> list[event_pb2.EventOutcome]:
        """Try parked events again."""
        request = parking_pb2.ReplayParkedEventsRequest(event_ids=event_ids)
        answer = await self.call(self.parking.ReplayParkedEvents, request)
        return list(answer.outcomes)

    async def balances(self, customer_id: str) -> dict[str, str]:
        """Available by asset, over all wallets of the customer that hold it."""
        answer = await self.call(
            self.wallets.GetBalances,
            wallet_service_pb2.GetBalancesRequest(customer_ids=[customer_id]),
        )
        return {balance.asset: balance.available for balance in answer.balances}

    async def authorize(
        self,
        customer_id: str,
        name: str = "call",
        *,
        request_id: str = "",
        feature: str = "",
        maximum: tuple[str, str] | None = None,
        over_use: gate_pb2.OverUse.ValueType = gate_pb2.OVER_USE_UNSPECIFIED,
        seconds: int = 0,
        node: str = "",
        partial: bool = False,
        quantity_property: str = "",
        **properties: str,
    ) -> gate_pb2.AuthorizeUsageResponse:
        request = gate_pb2.AuthorizeUsageRequest(
            request_id=request_id or self.key("authorize"),
            customer_id=customer_id,
            feature=feature,
            over_use=over_use,
            node=node,
            partial_allowed=partial,
            quantity_property=quantity_property,
        )
        if maximum is not None:
            request.maximum.asset, request.maximum.value = maximum
        else:
            request.estimate.name = name
            request.estimate.properties.update(properties)
        if seconds:
            request.time_to_live.seconds = seconds
        answer = await self.call(self.gate.AuthorizeUsage, request)
        assert isinstance(answer, gate_pb2.AuthorizeUsageResponse)
        return answer

    async def quantity(self, customer_id: str, meter: str) -> str:
        """What a meter counted for a customer in the last 40 days."""
        answer = await self.call(
            self.usage.QueryUsage,
            usage_pb2.QueryUsageRequest(
                customer_ids=[customer_id],
                meters=[meter],
                interval=amount_pb2.Interval(
                    start_time=stamp(self.now - timedelta(days=40)),
                    end_time=stamp(self.now + timedelta(days=1)),
                ),
            ),
        )
        return answer.rows[0].quantity if answer.rows else "0"

    async def charges(self) -> list[event_pb2.EventCharge]:
        """All charges, page by page."""
        found: list[event_pb2.EventCharge] = []
        token = ""
        while True:
            answer = await self.call(
                self.events.ListCharges,
                event_pb2.ListChargesRequest(page_size=7, page_token=token),
            )
            found.extend(answer.charges)
            token = answer.next_page_token
            if not token:
                return found

    async def debits(self) -> list[ledger_service_pb2.PostedDebit]:
        """All debits of the wallet, page by page."""
        found: list[ledger_service_pb2.PostedDebit] = []
        token = ""
        while True:
            answer = await self.call(
                self.ledger.ListDebits, ledger_service_pb2.ListDebitsRequest(page_token=token)
            )
            found.extend(answer.debits)
            token = answer.next_page_token
            if not token:
                return found

    async def verify(self) -> int:
        """Recount everything and compare charges with debits; answers the events checked."""
        checked = 0
        token = ""
        while True:
            answer = await self.call(
                self.events.VerifyUsage,
                event_pb2.VerifyUsageRequest(page_size=3, page_token=token),
            )
            assert not answer.disagreements, answer.disagreements
            assert answer.batches_pending == 0
            checked += answer.events_checked
            token = answer.next_page_token
            if not token:
                break
        charged = {charge.charge_id: charge for charge in await self.charges()}
        debited = {debit.request_id: debit for debit in await self.debits()}
        assert charged.keys() == debited.keys(), (charged, debited)
        for key, charge in charged.items():
            assert charge.event_id == debited[key].reference
            assert charge.state == ACCEPTED
            if not charge.shortfall or charge.shortfall == "0":
                assert charge.amount == debited[key].amount
        return checked
