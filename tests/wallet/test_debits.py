"""Debits through gRPC on a real Postgres: batches, keys, bad items, races."""

from __future__ import annotations

from tests.wallet.client import WalletClient


async def test_a_debit_takes_what_it_says_and_answers_what_is_left(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "100")
    outcome = await client.debit("12.34")
    assert outcome.debit.amount.value == "12.34"
    assert outcome.debit.available == "87.66"
    assert outcome.debit.shortfall == "0"
    assert [(s.wallet_id, s.value, s.sequence) for s in outcome.debit.shares] == [
        (wallet_id, "12.34", 2)
    ]
    assert await client.available() == "87.66"
