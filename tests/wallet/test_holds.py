"""Holds through gRPC on a real Postgres: what they pin, how they end, who wins a race."""

from __future__ import annotations

import asyncio

from tests.wallet.client import WalletClient, reasons
from tollgate.wallet.v1 import ledger_pb2


async def test_a_final_capture_uses_pinned_grants_first_and_releases_the_rest(
    client: WalletClient,
) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "70", priority=50)
    await client.grant(wallet_id, "30", priority=10, kind=ledger_pb2.GRANT_KIND_PROMOTIONAL)
    placed = await client.hold("50")
    assert placed.hold.state == ledger_pb2.HOLD_STATE_OPEN
    assert placed.available == "50"
    captured = await client.capture(placed.hold.hold_id, "35", final=True)
    assert captured.debit.amount.value == "35"
    assert captured.debit.available == "65"
    paid, promotional = sorted(await client.list_grants(wallet_id), key=lambda g: -g.priority)
    assert (promotional.remaining, promotional.held) == ("0", "0")
    assert (paid.remaining, paid.held) == ("65", "0")
    assert await client.verify() == []


async def test_of_twenty_concurrent_holds_of_75_on_500_six_are_granted(
    client: WalletClient,
) -> None:
    await client.asset()
    await client.grant(await client.wallet(), "500")
    outcomes = await asyncio.gather(*[client.hold("75") for _ in range(20)])
    assert sorted(reasons(outcomes)) == ["INSUFFICIENT_FUNDS"] * 14 + ["OK"] * 6
    (balance,) = await client.balances()
    assert (balance.held, balance.available) == ("450", "50")
    assert await client.verify() == []
