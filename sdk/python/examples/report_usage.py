"""Sell model calls: ask the gate, run, report what was used, and see what it cost.

Runs against what `make up` started:

    python sdk/python/examples/report_usage.py "$(cat .tollgate/api_key)"

Other addresses, all five: TOLLGATE_ENDPOINTS=metering=host:port,wallet=host:port,…
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from tollgate.invoicing.v1 import catalog_pb2, customer_pb2, subscription_pb2
from tollgate.metering.v1 import meter_pb2
from tollgate.type.v1 import price_pb2
from tollgate.wallet.v1 import ledger_pb2, ledger_service_pb2, wallet_pb2, wallet_service_pb2
from tollgate_sdk import (
    Denied,
    Endpoints,
    EventOutcome,
    EventState,
    Tollgate,
    WhenAway,
    make_amount,
    make_estimate,
    make_event,
)

LOCAL = (
    "identity=127.0.0.1:7101,wallet=127.0.0.1:7102,metering=127.0.0.1:7103,"
    "invoicing=127.0.0.1:7104,gateway=127.0.0.1:7105"
)
CUSTOMER = "example-customer"


async def main(endpoints: Endpoints, key: str, folder: Path) -> None:
    async with Tollgate(endpoints, key) as tollgate:
        await set_up(tollgate)
        async with tollgate.producer(folder=folder) as producer:
            # Behind the gate: funds for 500 tokens are set aside, 311 are charged.
            async with tollgate.authorized(
                customer_id=CUSTOMER,
                estimate=make_estimate("example_call", {"example_tokens": 500}),
                when_away=WhenAway.ALLOW_UP_TO("1.00", "USD", each="0.01"),
                producer=producer,
            ) as usage:
                usage.report({"example_tokens": 311})
            assert usage.delivery is not None
            show(await usage.delivery)

            # Without the gate: sent in batches, on disk until they are answered.
            sent = [
                await producer.send(
                    make_event("example_call", CUSTOMER, {"example_tokens": number})
                )
                for number in range(1, 4)
            ]
            for delivery in sent:
                show(await delivery)

            try:
                async with tollgate.authorized(
                    customer_id=CUSTOMER,
                    estimate=make_estimate("example_call", {"example_tokens": 10**9}),
                ):
                    print("not reached")
            except Denied as denied:
                facts = denied.facts
                print(f"denied: {denied.reasons[0].reason}, short of {facts['needed']} USD")


def show(outcome: EventOutcome) -> None:
    state = EventState.Name(outcome.state).removeprefix("EVENT_STATE_").lower()
    for charge in outcome.charges:
        cost = f"{charge.amount.value} {charge.amount.asset}"
        print(f"{state}: {charge.quantity} tokens cost {cost}, {charge.available} left")


async def set_up(tollgate: Tollgate) -> None:
    """A meter, a price of $2 per thousand tokens, and a customer with $10. Safe to repeat."""
    calls: list[tuple[Any, Any]] = [
        (
            tollgate.assets.CreateAsset,
            wallet_service_pb2.CreateAssetRequest(
                code="USD", scale=9, kind=wallet_pb2.ASSET_KIND_CURRENCY
            ),
        ),
        (
            tollgate.meters.CreateMeter,
            meter_pb2.CreateMeterRequest(
                meter=meter_pb2.Meter(
                    code="example_tokens",
                    event_name="example_call",
                    aggregation=meter_pb2.AGGREGATION_SUM,
                    value_property="example_tokens",
                    unit="token",
                )
            ),
        ),
        (
            tollgate.catalog.CreatePlan,
            catalog_pb2.CreatePlanRequest(
                plan=catalog_pb2.Plan(
                    code="example",
                    name="Example",
                    prices=[
                        catalog_pb2.PlanPrice(
                            code="tokens",
                            description="Tokens",
                            kind=catalog_pb2.PRICE_KIND_USAGE,
                            meter="example_tokens",
                            pricing=price_pb2.Price(
                                asset="USD", unit=price_pb2.UnitModel(unit_price="0.002")
                            ),
                            settlement=catalog_pb2.SETTLEMENT_WALLET,
                        )
                    ],
                )
            ),
        ),
        (
            tollgate.catalog.PublishPlan,
            catalog_pb2.PublishPlanRequest(code="example", version=1),
        ),
        (
            tollgate.customers.CreateCustomer,
            customer_pb2.CreateCustomerRequest(
                customer=customer_pb2.Customer(
                    customer_id=CUSTOMER,
                    name="Example",
                    country="US",
                    currency="USD",
                    time_zone="UTC",
                )
            ),
        ),
        (
            tollgate.subscriptions.CreateSubscription,
            subscription_pb2.CreateSubscriptionRequest(customer_id=CUSTOMER, plan_code="example"),
        ),
    ]
    for number, (method, request) in enumerate(calls):
        # The same key at every start: what was done before is answered, not done again.
        request.request_id = f"example-{number}"
        await tollgate.call(method, request)
    opened = await tollgate.call(
        tollgate.wallets.CreateWallet,
        wallet_service_pb2.CreateWalletRequest(
            request_id="example-wallet", customer_id=CUSTOMER, name="prepaid"
        ),
    )
    grant = ledger_service_pb2.GrantItem(
        request_id="example-grant",
        wallet_id=opened.wallet.wallet_id,
        amount=make_amount(10, "USD"),
        kind=ledger_pb2.GRANT_KIND_PAID,
    )
    await tollgate.call(
        tollgate.grants.CreateGrants, ledger_service_pb2.CreateGrantsRequest(items=[grant])
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    named = os.environ.get("TOLLGATE_ENDPOINTS", LOCAL)
    addresses = dict(pair.split("=", 1) for pair in named.split(","))
    journal = Path(os.environ.get("TOLLGATE_JOURNAL", "build/example-journal"))
    asyncio.run(main(Endpoints(**addresses), sys.argv[1], journal))
