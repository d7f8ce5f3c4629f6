"""Puts assets, meters, plans, customers and funds in place, through the public API alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from tollgate.invoicing.v1 import catalog_pb2 as catalog
from tollgate.metering.v1 import meter_pb2 as meters
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import ledger_pb2 as ledger
from tollgate.wallet.v1 import ledger_service_pb2 as grants
from tollgate.wallet.v1 import wallet_pb2 as wallets
from tollgate.wallet.v1 import wallet_service_pb2 as wallet_calls
from tollgate_sdk import Tollgate

Item = TypeVar("Item")
Result = TypeVar("Result")

CALLS_AT_ONCE = 16  # enough to keep two cores busy, few enough to queue nowhere


async def together(act: Callable[[Item], Awaitable[Result]], items: Iterable[Item]) -> list[Result]:
    """Act on many items, a bounded number at once; answers come in the order of the items.

    The first failure is raised once everything that was under way has ended.
    """
    gate = asyncio.Semaphore(CALLS_AT_ONCE)

    async def one(item: Item) -> Result:
        async with gate:
            return await act(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def create_asset(
    client: Tollgate, code: str, scale: int, kind: wallets.AssetKind.ValueType
) -> None:
    """Create an asset; its scale is the count of decimal places of one atom."""
    await client.call(
        client.assets.CreateAsset,
        wallet_calls.CreateAssetRequest(
            request_id=f"asset-{code}", code=code, scale=scale, kind=kind
        ),
    )


async def create_meter(client: Tollgate, meter: meters.Meter) -> None:
    """Create a meter under its code."""
    await client.call(
        client.meters.CreateMeter,
        meters.CreateMeterRequest(request_id=f"meter-{meter.code}", meter=meter),
    )


async def publish_plan(client: Tollgate, plan: catalog.Plan) -> None:
    """Create a plan and publish its first version."""
    draft = await client.call(
        client.catalog.CreatePlan,
        catalog.CreatePlanRequest(request_id=f"plan-{plan.code}", plan=plan),
    )
    await client.call(
        client.catalog.PublishPlan,
        catalog.PublishPlanRequest(
            request_id=f"publish-{plan.code}", code=plan.code, version=draft.plan.version
        ),
    )


async def open_wallet(client: Tollgate, customer_id: str, name: str, priority: int) -> str:
    """Open a wallet that refuses what it cannot pay; answers its id."""
    answer = await client.call(
        client.wallets.CreateWallet,
        wallet_calls.CreateWalletRequest(
            request_id=f"wallet-{customer_id}-{name}",
            customer_id=customer_id,
            name=name,
            priority=priority,
            shortfall_policy=wallets.ShortfallPolicy(mode=wallets.SHORTFALL_MODE_BLOCK),
        ),
    )
    return str(answer.wallet.wallet_id)


async def grant(
    client: Tollgate,
    wallet_id: str,
    asset: str,
    value: str,
    kind: ledger.GrantKind.ValueType = ledger.GRANT_KIND_PAID,
) -> None:
    """Put an opening balance into a wallet."""
    answer = await client.call(
        client.grants.CreateGrants,
        grants.CreateGrantsRequest(
            items=[
                grants.GrantItem(
                    request_id=f"opening-{wallet_id}-{asset}",
                    wallet_id=wallet_id,
                    amount=amount_pb2.Amount(asset=asset, value=value),
                    kind=kind,
                    cost_basis="1" if asset == "USD" and kind == ledger.GRANT_KIND_PAID else "",
                    cost_asset="USD",
                    source="opening balance",
                )
            ]
        ),
    )
    outcome = answer.outcomes[0]
    if outcome.WhichOneof("outcome") == "refusal":
        raise ValueError(f"opening balance of {value} {asset}: {outcome.refusal.message}")
