"""The tenant that the benchmarks load: customers with funds, plans with tiers, real time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tollgate.invoicing.v1 import catalog_pb2 as catalog
from tollgate.invoicing.v1 import customer_pb2 as customers
from tollgate.invoicing.v1 import subscription_pb2 as subscriptions
from tollgate.metering.v1 import meter_pb2 as meters
from tollgate.type.v1 import price_pb2 as prices
from tollgate.wallet.v1 import wallet_pb2 as wallets
from tollgate_cli import setting_up
from tollgate_cli.tenancy import render_time
from tollgate_sdk import Tollgate

CUSTOMERS = 1_000
FUNDS = "1000000000"  # nobody runs dry: denials are another path


async def open_asset(client: Tollgate) -> None:
    """Dollars, to nine decimal places."""
    await setting_up.create_asset(client, "USD", 9, wallets.ASSET_KIND_CURRENCY)


async def open_catalog(client: Tollgate) -> None:
    """One asset, two meters, a plan settled by wallets and one settled on invoices."""
    await open_asset(client)
    for code in ("input_tokens", "output_tokens"):
        await setting_up.create_meter(
            client,
            meters.Meter(
                code=code,
                event_name="llm_request",
                aggregation=meters.AGGREGATION_SUM,
                value_property=code,
            ),
        )
    for code, settlement in (
        ("charged", catalog.SETTLEMENT_WALLET),
        ("uncharged", catalog.SETTLEMENT_INVOICE),
    ):
        await setting_up.publish_plan(client, _plan(code, settlement))


def _plan(code: str, settlement: catalog.Settlement.ValueType) -> catalog.Plan:
    def price(meter: str, first: str, second: str) -> catalog.PlanPrice:
        return catalog.PlanPrice(
            code=meter,
            description=meter,
            kind=catalog.PRICE_KIND_USAGE,
            meter=meter,
            settlement=settlement,
            pricing=prices.Price(
                asset="USD",
                graduated=prices.GraduatedModel(
                    tiers=[
                        prices.Tier(up_to="1000000", unit_price=first),
                        prices.Tier(unit_price=second),
                    ]
                ),
            ),
        )

    return catalog.Plan(
        code=code,
        name=code,
        interval=catalog.BillingInterval(count=1, unit=catalog.INTERVAL_UNIT_MONTH),
        prices=[
            price("input_tokens", "0.000003", "0.0000025"),
            price("output_tokens", "0.000015", "0.000012"),
        ],
    )


async def open_customers(client: Tollgate, plan: str, count: int) -> list[str]:
    """Subscribe `count` customers to a plan, each with a wallet that never runs dry."""
    names = [f"{plan}-{index}" for index in range(count)]
    await setting_up.together(lambda name: _open_customer(client, name, plan), names)
    return names


async def open_wallets(client: Tollgate, prefix: str, count: int) -> list[str]:
    """Open `count` customers' wallets with funds, without anything but the wallet knowing them."""
    names = [f"{prefix}-{index}" for index in range(count)]
    await setting_up.together(lambda name: _open_wallet(client, name), names)
    return names


async def _open_customer(client: Tollgate, name: str, plan: str) -> None:
    await client.call(
        client.customers.CreateCustomer,
        customers.CreateCustomerRequest(
            request_id=f"customer-{name}",
            customer=customers.Customer(
                customer_id=name, name=name, country="US", currency="USD", time_zone="UTC"
            ),
        ),
    )
    await _open_wallet(client, name)
    await client.call(
        client.subscriptions.CreateSubscription,
        subscriptions.CreateSubscriptionRequest(
            request_id=f"subscription-{name}",
            customer_id=name,
            plan_code=plan,
            start_time=render_time(datetime.now(UTC) - timedelta(hours=1)),
        ),
    )


async def _open_wallet(client: Tollgate, name: str) -> None:
    wallet_id = await setting_up.open_wallet(client, name, "main", 50)
    await setting_up.grant(client, wallet_id, "USD", FUNDS)
