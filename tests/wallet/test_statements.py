"""Statements that balance, lists that are filtered, and balances that are watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.databases import FreshDatabase
from tests.support.refusals import refuses
from tests.support.services import Services, credential
from tests.wallet.client import WalletClient, key
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import ledger_pb2, wallet_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from tollgate.wallet.v1 import wallet_service_pb2 as wallets


def _stamp(instant: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


async def _history(client: WalletClient) -> str:
    await client.asset()
    await client.asset("token", 0)
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "100")
    await client.grant(wallet_id, "1000", "token")
    await client.debit("30")
    hold_id = (await client.hold("20")).hold.hold_id
    await client.capture(hold_id, "5")
    await client.debit("7", asset="token")
    return wallet_id


async def _statement(
    client: WalletClient, wallet_id: str, **fields: Any
) -> list[ledger.GetStatementResponse]:
    """All pages."""
    pages: list[ledger.GetStatementResponse] = []
    token = ""
    while True:
        request = ledger.GetStatementRequest(wallet_id=wallet_id, page_token=token, **fields)
        pages.append(await client.call(client.ledger.GetStatement, request))
        token = pages[-1].next_page_token
        if not token:
            return pages


async def test_a_statement_goes_from_opening_to_closing_on_every_page(
    client: WalletClient,
) -> None:
    wallet_id = await _history(client)
    moves = await client.transfers(wallet_id)
    start = moves[2].create_time.ToDatetime(tzinfo=UTC)
    request = {"start_time": _stamp(start), "page_size": 2}
    first = await client.call(
        client.ledger.GetStatement, ledger.GetStatementRequest(wallet_id=wallet_id, **request)
    )
    await client.debit("1")
    pages = [first]
    while pages[-1].next_page_token:
        pages.append(
            await client.call(
                client.ledger.GetStatement,
                ledger.GetStatementRequest(
                    wallet_id=wallet_id, page_token=pages[-1].next_page_token, **request
                ),
            )
        )
    entries = [entry for page in pages for entry in page.entries]
    assert [e.transfer for e in entries] == moves[2:], "what came later is not of this statement"
    assert {tuple(b.SerializeToString() for b in page.balances) for page in pages} == {
        tuple(b.SerializeToString() for b in first.balances)
    }
    balances = {balance.asset: balance for balance in first.balances}
    usd, token = balances["USD"], balances["token"]
    assert (usd.opening, usd.credited, usd.debited, usd.closing) == ("100", "0", "35", "65")
    assert (usd.opening_held, usd.closing_held) == ("0", "15")
    assert (token.opening, token.debited, token.closing) == ("1000", "7", "993")
    for asset, balance in balances.items():
        changes = [Decimal(e.change) for e in entries if e.transfer.amount.asset == asset]
        assert Decimal(balance.opening) + sum(changes) == Decimal(balance.closing)
        last = [e.balance for e in entries if e.transfer.amount.asset == asset][-1]
        assert last == balance.closing


async def test_a_statement_of_one_asset_and_of_a_period_that_is_over(client: WalletClient) -> None:
    wallet_id = await _history(client)
    moves = await client.transfers(wallet_id)
    begin = _stamp(moves[0].create_time.ToDatetime(tzinfo=UTC))
    end = moves[3].create_time
    (page,) = await _statement(client, wallet_id, start_time=begin, end_time=end, asset="USD")
    (balance,) = page.balances
    assert (balance.opening, balance.credited, balance.debited) == ("0", "100", "30")
    assert [e.transfer.sequence for e in page.entries] == [1, 3]
    with refuses("INVALID_VALUE") as refused:
        await _statement(client, wallet_id, start_time=end, end_time=begin)
    assert refused.facts["field"] == "end_time"
    with refuses("NOT_FOUND"):
        await _statement(client, "00000000-0000-0000-0000-000000000007", start_time=begin)


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        ({"asset": "token"}, [2, 6]),
        ({"kinds": [ledger_pb2.TRANSFER_KIND_DEBIT, ledger_pb2.TRANSFER_KIND_CAPTURE]}, [3, 5, 6]),
        ({"after_sequence": 4}, [5, 6]),
        ({"end_time": _stamp(datetime(2020, 1, 1, tzinfo=UTC))}, []),
        ({"start_time": _stamp(datetime(2020, 1, 1, tzinfo=UTC))}, [1, 2, 3, 4, 5, 6]),
        ({"asset": "USD", "kinds": [ledger_pb2.TRANSFER_KIND_GRANT]}, [1]),
    ],
)
async def test_transfers_are_filtered_and_paged(
    client: WalletClient, which: dict[str, Any], numbers: list[int]
) -> None:
    wallet_id = await _history(client)
    found: list[int] = []
    token = ""
    while True:
        request = ledger.ListTransfersRequest(
            wallet_id=wallet_id, page_size=2, page_token=token, **which
        )
        page = await client.call(client.ledger.ListTransfers, request)
        found += [transfer.sequence for transfer in page.transfers]
        token = page.next_page_token
        if not token:
            break
    assert found == numbers


async def test_transfers_of_one_key_and_of_one_grant(client: WalletClient) -> None:
    wallet_id = await _history(client)
    moves = await client.transfers(wallet_id)
    for which in ({"request_id": moves[2].request_id}, {"grant_id": moves[1].grants[0].grant_id}):
        request = ledger.ListTransfersRequest(wallet_id=wallet_id, **which)
        page = await client.call(client.ledger.ListTransfers, request)
        chosen = [t.sequence for t in page.transfers]
        assert chosen == ([3] if "request_id" in which else [2, 6])
    with refuses("INVALID_VALUE"):
        bad = ledger.ListTransfersRequest(wallet_id=wallet_id, kinds=[99])  # type: ignore[list-item]
        await client.call(client.ledger.ListTransfers, bad)


class Stream:
    """A stream of balances, read with patience but not for ever."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def next(self) -> list[wallet_pb2.Balance]:
        answer = await asyncio.wait_for(self._call.read(), 15)
        assert isinstance(answer, wallets.WatchBalancesResponse), "the stream ended"
        return list(answer.balances)

    async def until(self, value: str) -> wallet_pb2.Balance:
        """The balance of which so much is available; those before it may have been told, too."""
        while True:
            for balance in await self.next():
                if balance.available == value:
                    return balance


@asynccontextmanager
async def _watching(client: WalletClient, *customers: str, **fields: Any) -> AsyncIterator[Stream]:
    request = wallets.WatchBalancesRequest(customer_ids=customers, **fields)
    call = client.wallets.WatchBalances(request, metadata=credential(client.tenant_id))
    try:
        yield Stream(call)
    finally:
        call.cancel()


async def test_a_watched_balance_is_told_as_it_is_and_as_it_changes(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "100")
    await client.grant(await client.wallet("c2"), "7")
    async with _watching(client, "c1") as stream:
        (first,) = await stream.next()
        assert (first.wallet_id, first.available) == (wallet_id, "100")
        await client.debit("1", "c2")
        await client.debit("30")
        (second,) = await stream.next()
        assert (second.available, second.sequence) == ("70", 2), "and nothing of another customer"
        later = await client.wallet()
        await client.grant(later, "5")
        assert (await stream.until("5")).wallet_id == later
        policy = wallet_pb2.ShortfallPolicy(
            mode=wallet_pb2.SHORTFALL_MODE_OVERDRAFT,
            overdraft_limits=[Amount(asset="USD", value="10")],
        )
        request = wallets.UpdateWalletRequest(
            request_id=key(), wallet_id=wallet_id, shortfall_policy=policy
        )
        await client.call(client.wallets.UpdateWallet, request)
        assert (await stream.until("80")).wallet_id == wallet_id


async def test_a_watch_goes_on_from_the_number_that_was_seen(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    other = await client.wallet()
    await client.grant(wallet_id, "100")
    await client.grant(other, "1")
    async with _watching(client, "c1") as stream:
        seen = {balance.wallet_id: balance.sequence for balance in await stream.next()}
    await client.debit("30", wallet_id=wallet_id)
    positions = [
        wallets.WatchPosition(wallet_id=wallet, sequence=number) for wallet, number in seen.items()
    ]
    async with _watching(client, "c1", positions=positions) as stream:
        (changed,) = await stream.next()
        assert (changed.wallet_id, changed.available) == (wallet_id, "70")
    positions[0 if positions[0].wallet_id == wallet_id else 1].sequence = changed.sequence
    async with _watching(client, "c1", positions=positions) as stream:
        await client.debit("1", wallet_id=other)
        (changed,) = await stream.next()
        assert (changed.wallet_id, changed.available) == (other, "0"), "nothing is told twice"


async def test_a_change_by_another_process_is_told_too(
    client: WalletClient, services: Services, wallet_database: FreshDatabase
) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "100")
    second = await services.run("wallet", wallet_database, work=False)
    elsewhere = WalletClient(await services.channel(second), client.tenant_id)
    async with _watching(client, "c1") as stream, _watching(elsewhere, "c1") as twin:
        await stream.next()
        await twin.next()
        await elsewhere.debit("40")
        assert (await stream.until("60")).sequence == 2
        await client.debit("10")
        assert (await twin.until("50")).sequence == 3


async def test_a_watch_of_nobody_or_of_too_many_is_refused(client: WalletClient) -> None:
    for customers in ((), [f"c{number}" for number in range(101)], [""]):
        with refuses("INVALID_VALUE") as refused:
            async with _watching(client, *customers) as stream:
                await stream.next()
        assert refused.facts["field"] == "customer_ids"


async def test_a_statement_of_nothing_is_empty(client: WalletClient) -> None:
    wallet_id = await client.wallet()
    start = _stamp(datetime.now(UTC) - timedelta(days=1))
    (page,) = await _statement(client, wallet_id, start_time=start)
    assert (len(page.balances), len(page.entries)) == (0, 0)
