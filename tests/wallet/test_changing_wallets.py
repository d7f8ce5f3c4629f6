"""Wallets that change: order, restrictions, limits, policies, freezing with a cause, closing."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from tests.support.refusals import refuses
from tests.wallet.client import WalletClient, key
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import ledger_pb2, wallet_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from tollgate.wallet.v1 import wallet_service_pb2 as wallets


async def _update(client: WalletClient, wallet_id: str, **fields: Any) -> wallet_pb2.Wallet:
    chosen = {"request_id": key()} | fields
    request = wallets.UpdateWalletRequest(wallet_id=wallet_id, **chosen)
    answer = await client.call(client.wallets.UpdateWallet, request)
    assert isinstance(answer.wallet, wallet_pb2.Wallet)
    return answer.wallet


def _overdraft(limit: str) -> wallet_pb2.ShortfallPolicy:
    return wallet_pb2.ShortfallPolicy(
        mode=wallet_pb2.SHORTFALL_MODE_OVERDRAFT,
        overdraft_limits=[Amount(asset="USD", value=limit)],
    )


async def test_a_new_priority_changes_who_pays_first(client: WalletClient) -> None:
    await client.asset()
    first, second = await client.wallet(priority=10), await client.wallet(priority=20)
    for wallet_id in (first, second):
        await client.grant(wallet_id, "10")
    changed = await _update(client, first, priority=30, name="later")
    assert (changed.priority, changed.name) == (30, "later")
    debit = (await client.debit("12")).debit
    assert [(s.wallet_id, s.value) for s in debit.shares] == [(second, "10"), (first, "2")]
    listed = await client.call(client.wallets.ListWallets, wallets.ListWalletsRequest())
    assert [w.wallet_id for w in listed.wallets] == [second, first]


async def test_new_restrictions_bind_the_next_debit_and_may_be_lifted(
    client: WalletClient,
) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "10")
    narrow = wallet_pb2.Restrictions(meters=["m1"], products=["p1"])
    assert (await _update(client, wallet_id, restrictions=narrow)).restrictions == narrow
    assert (await client.debit("1")).refusal.reason == "NO_WALLET"
    fits = ledger.Purpose(meter="m1", product="p1")
    assert (await client.debit("1", purpose=fits)).debit.available == "9"
    await _update(client, wallet_id, restrictions=wallet_pb2.Restrictions())
    assert (await client.debit("1")).debit.available == "8"


async def test_limits_are_replaced_and_a_lower_one_makes_no_room(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "10")
    await _update(client, wallet_id, shortfall_policy=_overdraft("50"))
    assert (await client.debit("40")).debit.available == "20"
    lower = await _update(client, wallet_id, shortfall_policy=_overdraft("5"))
    assert lower.shortfall_policy.overdraft_limits[0].value == "5"
    assert await client.available() == "-25"
    assert (await client.debit("0.01")).refusal.reason == "INSUFFICIENT_FUNDS"
    await client.grant(wallet_id, "28")
    (balance,) = await client.balances()
    assert (balance.debt, balance.available) == ("2", "3")
    block = wallet_pb2.ShortfallPolicy(mode=wallet_pb2.SHORTFALL_MODE_BLOCK)
    await _update(client, wallet_id, shortfall_policy=block)
    assert await client.available() == "-2"
    await client.grant(wallet_id, "2")
    assert await client.available() == "0"
    assert await client.verify() == []


async def test_a_capture_that_does_not_say_follows_its_wallets_policy(
    client: WalletClient,
) -> None:
    await client.asset()
    wallet_id = await client.wallet(over_capture=wallet_pb2.OVER_CAPTURE_POLICY_CLAMP)
    await client.grant(wallet_id, "100")
    hold_id = (await client.hold("10")).hold.hold_id
    clamped = await client.capture(hold_id, "15")
    assert (clamped.debit.amount.value, clamped.debit.shortfall) == ("10", "5")
    await _update(client, wallet_id, over_capture=wallet_pb2.OVER_CAPTURE_POLICY_USE_AVAILABLE)
    hold_id = (await client.hold("10")).hold.hold_id
    assert (await client.capture(hold_id, "15")).debit.amount.value == "15"
    hold_id = (await client.hold("10")).hold.hold_id
    stated = await client.capture(hold_id, "15", over_capture=ledger_pb2.OVER_CAPTURE_REJECT)
    assert stated.refusal.reason == "OVER_CAPTURE"
    await _update(client, wallet_id, over_capture=wallet_pb2.OVER_CAPTURE_POLICY_REJECT)
    assert (await client.capture(hold_id, "15")).refusal.reason == "OVER_CAPTURE"
    assert await client.verify() == []


async def test_a_wallet_says_why_it_is_frozen_and_since_when(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "10")
    hold_id = (await client.hold("4")).hold.hold_id
    request = wallets.SetWalletStateRequest(
        request_id=key(),
        wallet_id=wallet_id,
        state=wallet_pb2.WALLET_STATE_FROZEN,
        cause="card stolen",
    )
    frozen = (await client.call(client.wallets.SetWalletState, request)).wallet
    assert (frozen.state_cause, frozen.HasField("state_time")) == ("card stolen", True)
    assert (await client.debit("1")).refusal.reason == "WALLET_FROZEN"
    assert (await client.hold("1")).refusal.reason == "WALLET_FROZEN"
    assert (await client.capture(hold_id, "4", final=True)).debit.amount.value == "4", "was held"
    assert (await client.grant(wallet_id, "1")).amount.value == "1", "it receives"
    listed = await client.call(client.wallets.ListWallets, wallets.ListWalletsRequest())
    assert listed.wallets[0].state_cause == "card stolen"
    thawed = (await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_ACTIVE)).wallet
    assert thawed.state_cause == ""
    assert (await client.debit("1")).debit.available == "6"


async def test_a_closed_wallet_neither_pays_nor_receives_nor_changes(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    grant_id = (await client.grant(wallet_id, "1")).grant_id
    with refuses("WALLET_NOT_EMPTY") as refused:
        await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_CLOSED)
    assert refused.facts == {"wallet_id": wallet_id, "asset": "USD"}
    await client.debit("1")
    debit = (await client.transfers(wallet_id))[-1]
    await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_CLOSED)
    with refuses("WALLET_CLOSED"):
        await _update(client, wallet_id, priority=1)
    with refuses("WALLET_CLOSED"):
        await client.void_grant(grant_id, wallet_id)
    with refuses("WALLET_CLOSED"):
        await client.reverse(debit.transfer_id)
    named = await client.debit("1", wallet_id=wallet_id)
    assert named.refusal.reason == "WALLET_CLOSED"
    assert (await client.debit("1")).refusal.reason == "NO_WALLET"
    with refuses("WALLET_CLOSED"):
        await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_ACTIVE)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "request"),
        ({"priority": 101}, "priority"),
        ({"name": "n" * 201}, "name"),
        ({"over_capture": 9}, "over_capture"),
        ({"restrictions": wallet_pb2.Restrictions(meters=[""])}, "restrictions.meters"),
        (
            {
                "shortfall_policy": wallet_pb2.ShortfallPolicy(
                    overdraft_limits=[Amount(asset="USD", value="1")]
                )
            },
            "shortfall_policy.overdraft_limits",
        ),
    ],
)
async def test_a_change_that_cannot_be_names_its_field(
    client: WalletClient, fields: dict[str, Any], field: str
) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
        await _update(client, wallet_id, **fields)
    assert refused.facts["field"] == field


async def test_a_change_is_made_once(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    first = await _update(client, wallet_id, request_id="u", priority=7)
    await _update(client, wallet_id, priority=9)
    assert await _update(client, wallet_id, request_id="u", priority=7) == first
    with refuses("IDEMPOTENCY_CONFLICT"):
        await _update(client, wallet_id, request_id="u", priority=8)
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await _update(client, "00000000-0000-0000-0000-000000000009", priority=1)
