"""Assets and wallets: made once, read in pages, frozen and closed."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.support.refusals import outcome, refuses
from tests.wallet.client import WalletClient, grant_item, key, reasons
from tollgate.wallet.v1 import ledger_pb2, wallet_pb2
from tollgate.wallet.v1 import wallet_service_pb2 as wallets


async def test_an_asset_is_made_once_by_request_and_once_by_code(client: WalletClient) -> None:
    request = wallets.CreateAssetRequest(
        request_id=key(), code="USD", scale=9, kind=wallet_pb2.ASSET_KIND_CURRENCY
    )
    first = await client.call(client.assets.CreateAsset, request)
    assert await client.call(client.assets.CreateAsset, request) == first
    other = wallets.CreateAssetRequest()
    other.CopyFrom(request)
    other.scale = 2
    with refuses("IDEMPOTENCY_CONFLICT", grpc.StatusCode.ALREADY_EXISTS):
        await client.call(client.assets.CreateAsset, other)
    other.request_id = key()
    with refuses("ALREADY_EXISTS", grpc.StatusCode.ALREADY_EXISTS) as refused:
        await client.call(client.assets.CreateAsset, other)
    assert refused.facts == {"what": "asset", "name": "USD"}


@pytest.mark.parametrize(
    ("field", "code", "scale", "kind"),
    [
        ("code", "", 2, 1),
        ("code", "U-D", 2, 1),
        ("code", "X" * 33, 2, 1),
        ("scale", "USD", 19, 1),
        ("scale", "USD", -1, 1),
        ("kind", "USD", 2, 0),
    ],
)
async def test_an_asset_that_cannot_be_is_refused(
    client: WalletClient, field: str, code: str, scale: int, kind: int
) -> None:
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
        await client.call(
            client.assets.CreateAsset,
            wallets.CreateAssetRequest(
                request_id=key(),
                code=code,
                scale=scale,
                kind=wallet_pb2.AssetKind.ValueType(kind),
            ),
        )
    assert refused.facts["field"] == field


async def test_assets_are_listed_in_pages_by_code(client: WalletClient) -> None:
    for code in ("token", "EUR", "USD", "gpu_second"):
        await client.asset(code)
    codes: list[str] = []
    token = ""
    while True:
        page = await client.call(
            client.assets.ListAssets, wallets.ListAssetsRequest(page_size=3, page_token=token)
        )
        codes += [asset.code for asset in page.assets]
        token = page.next_page_token
        if not token:
            break
    assert codes == ["EUR", "USD", "gpu_second", "token"]


async def test_a_wallet_is_what_was_asked_for(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.overdraft_wallet(
        "12.5",
        name="main",
        priority=0,
        restrictions=wallet_pb2.Restrictions(meters=["m"], products=["p"]),
        late_capture_allowed=True,
    )
    page = await client.call(
        client.wallets.ListWallets, wallets.ListWalletsRequest(customer_id="c1")
    )
    (wallet,) = page.wallets
    assert (wallet.wallet_id, wallet.name, wallet.priority) == (wallet_id, "main", 0)
    assert list(wallet.restrictions.meters) == ["m"]
    assert wallet.shortfall_policy.overdraft_limits[0].value == "12.5"
    assert wallet.late_capture_allowed
    assert wallet.state == wallet_pb2.WALLET_STATE_ACTIVE
    assert await client.available() == "12.5"


async def test_wallets_are_listed_by_customer_and_priority(client: WalletClient) -> None:
    made = [
        await client.wallet(customer, priority=priority)
        for customer, priority in (("c2", 1), ("c1", 60), ("c1", 5))
    ]
    listed: list[str] = []
    token = ""
    while True:
        page = await client.call(
            client.wallets.ListWallets, wallets.ListWalletsRequest(page_size=2, page_token=token)
        )
        listed += [wallet.wallet_id for wallet in page.wallets]
        token = page.next_page_token
        if not token:
            break
    assert listed == [made[2], made[1], made[0]]


async def test_a_customer_has_at_most_a_hundred_wallets(client: WalletClient) -> None:
    request = wallets.CreateWalletRequest
    outcomes = await asyncio.gather(
        *[
            outcome(
                client.call(
                    client.wallets.CreateWallet, request(request_id=key(), customer_id="c1")
                )
            )
            for _ in range(103)
        ]
    )
    assert sorted(outcomes) == ["OK"] * 100 + ["TOO_MANY_WALLETS"] * 3


async def test_a_closed_wallet_neither_pays_nor_receives_for_ever(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "5")
    with refuses("WALLET_NOT_EMPTY", grpc.StatusCode.FAILED_PRECONDITION) as refused:
        await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_CLOSED)
    assert refused.facts == {"wallet_id": wallet_id, "asset": "USD"}
    await client.debit("5")
    closed = await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_CLOSED)
    assert closed.wallet.state == wallet_pb2.WALLET_STATE_CLOSED
    (grant,) = await client.create_grants([grant_item(wallet_id, "1")])
    assert grant.refusal.reason == "WALLET_CLOSED"
    debit = await client.debit("1", wallet_id=wallet_id)
    assert debit.refusal.reason == "WALLET_CLOSED"
    assert (await client.debit("1")).refusal.reason == "NO_WALLET"
    with refuses("WALLET_CLOSED", grpc.StatusCode.FAILED_PRECONDITION):
        await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_ACTIVE)


async def test_grants_that_cannot_be_are_refused_one_by_one(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    past = grant_item(wallet_id, "1")
    past.expire_time.FromJsonString("2020-01-01T00:00:00Z")
    backwards = grant_item(wallet_id, "1")
    backwards.effective_time.FromJsonString("2040-01-01T00:00:00Z")
    backwards.expire_time.FromJsonString("2039-01-01T00:00:00Z")
    outcomes = await client.create_grants(
        [
            grant_item(wallet_id, "1", kind=ledger_pb2.GRANT_KIND_UNSPECIFIED),
            grant_item(wallet_id, "1", priority=101),
            grant_item(wallet_id, "1", cost_basis="1"),
            grant_item(wallet_id, "0"),
            grant_item("not a uuid", "1"),
            grant_item(wallet_id, "1", asset="EUR"),
            past,
            backwards,
            grant_item(wallet_id, "1"),
        ]
    )
    assert reasons(outcomes) == [
        "INVALID_VALUE",
        "INVALID_VALUE",
        "INVALID_VALUE",
        "INVALID_VALUE",
        "INVALID_VALUE",
        "NOT_FOUND",
        "INVALID_VALUE",
        "INVALID_VALUE",
        "OK",
    ]


async def test_a_payment_that_is_told_thrice_grants_once(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    item = grant_item(wallet_id, "25", request_id="payment:1", source="payment:1")
    outcomes = await asyncio.gather(*[client.create_grants([item]) for _ in range(3)])
    grants = {answer[0].grant.grant_id for answer in outcomes}
    assert len(grants) == 1
    assert await client.available() == "25"


async def test_balances_are_asked_for_1_to_1000_customers(client: WalletClient) -> None:
    for customers in ([], ["c"] * 1001):
        with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT):
            await client.call(
                client.wallets.GetBalances, wallets.GetBalancesRequest(customer_ids=customers)
            )
