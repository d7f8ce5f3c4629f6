"""Puts the demo's world in place: assets, meters, plans, customers, funds and ways to pay."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal

from tollgate.gateway.v1 import payment_service_pb2 as payments
from tollgate.invoicing.v1 import customer_pb2 as customers
from tollgate.invoicing.v1 import invoice_pb2 as invoices
from tollgate.invoicing.v1 import subscription_pb2 as subscriptions
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import ledger_pb2 as ledger
from tollgate.wallet.v1 import wallet_pb2 as wallets
from tollgate.wallet.v1 import wallet_service_pb2 as wallet_calls
from tollgate_cli import setting_up
from tollgate_cli.demo import traffic, world
from tollgate_cli.tenancy import render_time
from tollgate_sdk import Tollgate

PROVIDER_ACCOUNT = "sandbox"
SEED_PURSE_USD = Decimal(2)  # the promotional purse that pays before a customer's own money


async def open_world(
    client: Tollgate, people: list[world.Person], count: int, sandbox_endpoint: str
) -> None:
    """Create everything the month needs. `count` events are expected in all."""
    await setting_up.create_asset(client, "USD", 9, wallets.ASSET_KIND_CURRENCY)
    await setting_up.create_asset(client, "token", 0, wallets.ASSET_KIND_UNIT)
    for meter in world.meter_list():
        await setting_up.create_meter(client, meter)
    for plan in world.plan_list():
        await setting_up.publish_plan(client, plan)
    await _open_books(client)
    await client.call(
        client.provider_accounts.CreateProviderAccount,
        payments.CreateProviderAccountRequest(
            request_id="provider-account",
            code=PROVIDER_ACCOUNT,
            provider="sandbox",
            endpoint=sandbox_endpoint,
        ),
    )
    total_weight = sum(person.weight for person in people)
    await setting_up.together(
        lambda person: _open_customer(
            client, person, Decimal(count * person.weight) / total_weight
        ),
        people,
    )


async def _open_books(client: Tollgate) -> None:
    await client.call(
        client.sellers.SetSeller,
        invoices.SetSellerRequest(
            request_id="seller",
            seller=invoices.Seller(
                name="Example Inference Ltd",
                address=["1 Harbour Street", "Dublin D02 XY45", "Ireland"],
                tax_id="IE1234567FA",
                email="billing@inference.example",
                number_prefix="INV",
                net_terms_days=14,
            ),
        ),
    )
    for country, name, rate in (
        ("DE", "USt", "0.19"),
        ("GB", "VAT", "0.2"),
        ("FR", "TVA", "0.2"),
        ("JP", "Consumption tax", "0.1"),
        ("US", "Sales tax", "0"),
    ):
        await client.call(
            client.taxes.SetTaxRate,
            invoices.SetTaxRateRequest(
                request_id=f"tax-{country}",
                tax_rate=invoices.TaxRate(
                    country=country, category="standard", name=name, rate=rate
                ),
            ),
        )


async def _open_customer(client: Tollgate, person: world.Person, requests: Decimal) -> None:
    await client.call(
        client.customers.CreateCustomer,
        customers.CreateCustomerRequest(
            request_id=f"customer-{person.customer_id}",
            customer=customers.Customer(
                customer_id=person.customer_id,
                name=person.name,
                email=f"accounts@{person.customer_id}.example",
                address=[f"{person.customer_id} House", "1 Main Road"],
                country=person.country,
                currency="USD",
                time_zone="UTC",
            ),
        ),
    )
    if person.payment_method:
        await attach_method(client, person.customer_id, person.payment_method)
    if person.kind is not world.Kind.TEAM:
        await _fund(client, person, traffic.mean_cost(person) * requests)
    await _subscribe(client, person)


async def attach_method(client: Tollgate, customer_id: str, token: str) -> None:
    """Store a sandbox card; its token says how it will answer. It becomes the default."""
    await client.call(
        client.payment_methods.AttachPaymentMethod,
        payments.AttachPaymentMethodRequest(
            request_id=f"method-{customer_id}-{token}",
            customer_id=customer_id,
            provider_account=PROVIDER_ACCOUNT,
            provider_token=token,
            label="Sandbox card ending 4242",
            make_default=True,
        ),
    )


async def _subscribe(client: Tollgate, person: world.Person) -> None:
    items = []
    if person.kind is world.Kind.TEAM:
        items = [subscriptions.SubscriptionItem(price_code="seat", quantity=str(world.SEATS))]
    await client.call(
        client.subscriptions.CreateSubscription,
        subscriptions.CreateSubscriptionRequest(
            request_id=f"subscription-{person.customer_id}",
            customer_id=person.customer_id,
            plan_code=person.kind.value,
            items=items,
            start_time=render_time(world.MONTH_START),
            anchor_mode=subscriptions.ANCHOR_MODE_ANNIVERSARY,
        ),
    )


async def _fund(client: Tollgate, person: world.Person, expected: Decimal) -> None:
    """Give a customer's wallets their opening balance, sized by the month's expected cost."""
    asset = "token" if person.kind is world.Kind.TOKENS else "USD"
    share = {
        world.Funds.AMPLE: Decimal("2.5"),
        world.Funds.DRY: Decimal("0.5"),
        world.Funds.RECHARGED: Decimal("0.5"),
    }[person.funds]
    opening = _whole(expected * share)
    if person.purses > 1:
        seed = await setting_up.open_wallet(client, person.customer_id, "welcome", 10)
        await setting_up.grant(
            client, seed, asset, str(SEED_PURSE_USD), ledger.GRANT_KIND_PROMOTIONAL
        )
    wallet_id = await setting_up.open_wallet(client, person.customer_id, "main", 50)
    await setting_up.grant(client, wallet_id, asset, str(opening))
    if person.funds is world.Funds.RECHARGED:
        await _recharge(client, wallet_id, asset, expected)


async def _recharge(client: Tollgate, wallet_id: str, asset: str, expected: Decimal) -> None:
    # The threshold covers several days, so that usage never waits for a payment, and the amount
    # covers more than a day, so that one crossing is one recharge.
    threshold, amount = _whole(expected * Decimal("0.2")), _whole(expected * Decimal("0.3"))
    await client.call(
        client.recharges.SetRechargeRule,
        wallet_calls.SetRechargeRuleRequest(
            request_id=f"recharge-{wallet_id}",
            rule=wallet_calls.RechargeRule(
                wallet_id=wallet_id,
                threshold=amount_pb2.Amount(asset=asset, value=str(threshold)),
                mode=wallet_calls.RECHARGE_MODE_FIXED,
                value=str(amount),
                unit_price="1",
                price_asset="USD",
                monthly_cap=str(amount * 10),
                enabled=True,
            ),
        ),
    )


def _whole(value: Decimal) -> Decimal:
    return value.quantize(Decimal(1), ROUND_UP)
