"""Reversals, corrections, conversions: by hand, with a reason, and never more than there was."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.refusals import outcome, refuses
from tests.wallet.client import WalletClient, key
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import adjustment_service_pb2 as adjusting
from tollgate.wallet.v1 import exchange_service_pb2 as exchange
from tollgate.wallet.v1 import ledger_pb2, wallet_pb2
from wallet.ledger.domain.conversions import divide

IN, OUT = adjusting.CORRECTION_DIRECTION_IN, adjusting.CORRECTION_DIRECTION_OUT


async def _funded(client: WalletClient, *values: str) -> tuple[str, list[str]]:
    await client.asset()
    wallet_id = await client.wallet()
    return wallet_id, [(await client.grant(wallet_id, value)).grant_id for value in values]


async def _remaining(client: WalletClient, wallet_id: str) -> dict[str, str]:
    return {grant.grant_id: grant.remaining for grant in await client.list_grants(wallet_id)}


async def test_a_reversal_restores_what_was_burnt_last_first(client: WalletClient) -> None:
    wallet_id, (one, two) = await _funded(client, "30", "70")
    await client.debit("50")
    debit = (await client.transfers(wallet_id))[-1]
    part = await client.reverse(debit.transfer_id, "15")
    assert (part.amount.value, part.reversible, part.available) == ("15", "35", "65")
    assert [(s.grant_id, s.value) for s in part.restored] == [(two, "15")]
    rest = await client.reverse(debit.transfer_id)
    assert (rest.amount.value, rest.reversible) == ("35", "0")
    assert [(s.grant_id, s.value) for s in rest.restored] == [(two, "5"), (one, "30")]
    assert await _remaining(client, wallet_id) == {one: "30", two: "70"}
    with refuses("OVER_REVERSAL") as refused:
        await client.reverse(debit.transfer_id, "0.01")
    assert refused.facts == {
        "transfer_id": debit.transfer_id,
        "reversible": "0",
        "needed": "0.01",
    }
    assert await client.verify() == []


async def test_a_reversal_is_applied_once_however_often_it_is_asked(client: WalletClient) -> None:
    wallet_id, _ = await _funded(client, "100")
    await client.debit("50")
    debit = (await client.transfers(wallet_id))[-1]
    first = await client.reverse(debit.transfer_id, "20", request_id="r")
    again = await client.reverse(debit.transfer_id, "20", request_id="r")
    assert again.replayed
    assert again.amount == first.amount
    with refuses("IDEMPOTENCY_CONFLICT", grpc.StatusCode.ALREADY_EXISTS):
        await client.reverse(debit.transfer_id, "21", request_id="r")
    answers = await asyncio.gather(
        *[outcome(client.reverse(debit.transfer_id, "20")) for _ in range(6)]
    )
    assert sorted(answers) == ["OK"] + ["OVER_REVERSAL"] * 5
    assert await client.available() == "90"


async def test_what_an_overdraft_lent_comes_back_as_a_refund_and_settles_debt(
    client: WalletClient,
) -> None:
    await client.asset()
    wallet_id = await client.overdraft_wallet("50")
    await client.grant(wallet_id, "10")
    await client.debit("40")
    overdraft = (await client.transfers(wallet_id))[-1]
    assert overdraft.debit_account == f"debt:{wallet_id}"
    back = await client.reverse(overdraft.transfer_id, "25")
    assert back.refund_grant_id
    (balance,) = await client.balances()
    assert (balance.debt, balance.available) == ("5", "45")
    assert await client.verify() == []


async def test_a_capture_is_reversed_and_its_hold_stays_as_it_is(client: WalletClient) -> None:
    wallet_id, (grant_id,) = await _funded(client, "100")
    hold_id = (await client.hold("50")).hold.hold_id
    await client.capture(hold_id, "30")
    capture = (await client.transfers(wallet_id))[-1]
    back = await client.reverse(capture.transfer_id)
    assert [(s.grant_id, s.value) for s in back.restored] == [(grant_id, "30")]
    (balance,) = await client.balances()
    assert (balance.held, balance.available) == ("20", "80")
    assert await client.verify() == []


async def test_only_what_was_used_is_reversed(client: WalletClient) -> None:
    wallet_id, _ = await _funded(client, "100")
    hold = (await client.hold("50")).hold
    assert hold.hold_id
    for transfer in await client.transfers(wallet_id):
        with refuses("TRANSFER_NOT_REVERSIBLE") as refused:
            await client.reverse(transfer.transfer_id)
        assert refused.facts["kind"] in ("GRANT", "HOLD")
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await client.reverse(f"{wallet_id}/99")
    for malformed in ("", wallet_id, f"{wallet_id}/0", f"{wallet_id}/x", "w/1"):
        with refuses("INVALID_VALUE"):
            await client.reverse(malformed)


async def _correct(client: WalletClient, wallet_id: str, **fields: Any) -> Any:
    chosen: dict[str, Any] = {
        "request_id": key(),
        "amount": Amount(asset="USD", value="10"),
        "direction": IN,
        "reason": "migrated wrongly",
        "approver": "ada",
    }
    request = adjusting.CorrectBalanceRequest(wallet_id=wallet_id, **(chosen | fields))
    return await client.call(client.adjustments.CorrectBalance, request)


async def test_a_correction_puts_in_and_takes_out_against_a_house_account(
    client: WalletClient,
) -> None:
    wallet_id, (grant_id,) = await _funded(client, "100")
    put = await _correct(client, wallet_id)
    assert (put.available, put.direction) == ("110", IN)
    taken = await _correct(client, wallet_id, direction=OUT, house_account="house:revenue")
    assert (taken.available, taken.grant_id) == ("100", "")
    last = (await client.transfers(wallet_id))[-2:]
    assert [(t.debit_account, t.credit_account) for t in last] == [
        ("house:correction", f"wallet:{wallet_id}"),
        (f"wallet:{wallet_id}", "house:revenue"),
    ]
    from_one = await _correct(client, wallet_id, direction=OUT, grant_id=put.grant_id)
    assert from_one.available == "90"
    assert await _remaining(client, wallet_id) == {put.grant_id: "0", grant_id: "90"}
    request = adjusting.ListAdjustmentsRequest(page_size=2)
    page = await client.call(client.adjustments.ListAdjustments, request)
    assert {a.approver for a in page.adjustments} == {"ada"}
    assert page.next_page_token
    assert await client.verify() == []


async def test_a_correction_takes_no_more_than_is_free(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.overdraft_wallet("50")
    await client.grant(wallet_id, "20")
    await client.hold("15")
    with refuses("INSUFFICIENT_FUNDS") as refused:
        await _correct(client, wallet_id, direction=OUT)
    assert refused.facts == {"available": "5", "needed": "10", "asset": "USD"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"approver": ""}, "approver"),
        ({"approver": "service:operator"}, "approver"),
        ({"direction": 0}, "direction"),
        ({"house_account": "house:conversion"}, "house_account"),
        ({"amount": Amount(asset="USD", value="0")}, "amount.value"),
        ({"amount": Amount(asset="USD", value="-1")}, "amount.value"),
        ({"amount": Amount(asset="USD", value="0.001")}, "amount.value"),
        ({"grant_id": "00000000-0000-0000-0000-000000000001"}, "grant_id"),
    ],
)
async def test_a_correction_that_cannot_be_names_its_field(
    client: WalletClient, fields: dict[str, Any], field: str
) -> None:
    wallet_id, _ = await _funded(client, "1")
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
        await _correct(client, wallet_id, **fields)
    assert refused.facts["field"] == field


async def test_a_closed_wallet_and_an_unknown_asset_are_not_corrected(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    with refuses("NOT_FOUND") as refused:
        await _correct(client, wallet_id, amount=Amount(asset="EUR", value="1"))
    assert refused.facts == {"what": "asset", "name": "EUR"}
    await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_FROZEN)
    await _correct(client, wallet_id)
    await _correct(client, wallet_id, direction=OUT)
    await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_CLOSED)
    with refuses("WALLET_CLOSED"):
        await _correct(client, wallet_id)


async def _put(client: WalletClient, rate: str, instant: datetime | None = None, **f: Any) -> Any:
    chosen = {"request_id": key(), "from_asset": "USD", "to_asset": "token"} | f
    request = exchange.PutExchangeRateRequest(rate=rate, **chosen)
    if instant is not None:
        request.effective_time.FromDatetime(instant)
    return await client.call(client.exchange.PutExchangeRate, request)


async def _convert(client: WalletClient, wallet_id: str, value: str, **fields: Any) -> Any:
    chosen = {"request_id": key(), "to_asset": "token"} | fields
    amount = Amount(asset="USD", value=value)
    request = exchange.ConvertAssetRequest(wallet_id=wallet_id, amount=amount, **chosen)
    return await client.call(client.exchange.ConvertAsset, request)


async def test_a_conversion_is_exact_and_its_residual_goes_to_rounding(
    client: WalletClient,
) -> None:
    await client.asset("USD", 9)
    await client.asset("token", 0)
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "2")
    now = datetime.now(UTC)
    await _put(client, "2", now - timedelta(days=2))
    await _put(client, "3", now - timedelta(days=1))
    await _put(client, "100", now + timedelta(days=1))
    converted = await _convert(client, wallet_id, "1.5")
    assert (converted.gained.value, converted.rate) == ("4", "3")
    assert (converted.spent.value, converted.residual) == ("1.333333334", "0.166666666")
    assert await client.available(asset="USD") == "0.5"
    assert await client.available(asset="token") == "4"
    legs = [
        (t.amount.asset, t.debit_account, t.credit_account, t.request_id)
        for t in (await client.transfers(wallet_id))[1:]
    ]
    request_id = legs[0][3]
    assert legs == [
        ("USD", f"wallet:{wallet_id}", "house:conversion", request_id),
        ("USD", f"wallet:{wallet_id}", "house:rounding", request_id),
        ("token", "house:conversion", f"wallet:{wallet_id}", request_id),
    ]
    (grant,) = [g for g in await client.list_grants(wallet_id) if g.amount.asset == "token"]
    assert grant.kind == ledger_pb2.GRANT_KIND_CONVERSION
    assert (grant.cost_basis, grant.cost_asset) == ("0.3333333335", "USD")
    assert await client.verify() == []


async def test_a_conversion_prolongs_nothing(client: WalletClient) -> None:
    await client.asset()
    await client.asset("token", 0)
    wallet_id = await client.wallet()
    end = Timestamp()
    end.FromDatetime(datetime.now(UTC) + timedelta(days=3))
    await client.grant(wallet_id, "1", expire_time=end)
    await client.grant(wallet_id, "1")
    await _put(client, "10", datetime(2020, 1, 1, tzinfo=UTC))
    await _convert(client, wallet_id, "1.5")
    (grant,) = [g for g in await client.list_grants(wallet_id) if g.amount.asset == "token"]
    assert grant.expire_time == end


async def test_a_conversion_that_cannot_be_says_why(client: WalletClient) -> None:
    await client.asset()
    await client.asset("token", 0)
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "1")
    with refuses("NO_EXCHANGE_RATE") as refused:
        await _convert(client, wallet_id, "1")
    assert refused.facts == {"from_asset": "USD", "to_asset": "token"}
    await _put(client, "0.5", datetime(2020, 1, 1, tzinfo=UTC))
    with refuses("INVALID_VALUE"):
        await _convert(client, wallet_id, "1")
    with refuses("INSUFFICIENT_FUNDS"):
        await _convert(client, wallet_id, "2")
    with refuses("NOT_FOUND"):
        await _convert(client, wallet_id, "1", to_asset="EUR")
    with refuses("INVALID_VALUE"):
        await _convert(client, wallet_id, "1", to_asset="USD")
    await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_FROZEN)
    with refuses("WALLET_FROZEN"):
        await _convert(client, wallet_id, "1")
    assert await client.available() == "1"


async def test_rates_are_dated_listed_and_never_changed(client: WalletClient) -> None:
    await client.asset()
    await client.asset("token", 0)
    day = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(3):
        await _put(client, f"1.{number}", day + timedelta(days=number))
    with refuses("ALREADY_EXISTS", grpc.StatusCode.ALREADY_EXISTS):
        await _put(client, "9", day)
    for fields in ({"rate": "0"}, {"rate": "-1"}, {"rate": "1", "to_asset": "USD"}):
        with refuses("INVALID_VALUE"):
            await _put(client, **fields)  # type: ignore[arg-type]
    rates: list[str] = []
    token = ""
    while True:
        request = exchange.ListExchangeRatesRequest(from_asset="USD", page_size=2, page_token=token)
        page = await client.call(client.exchange.ListExchangeRates, request)
        rates += [rate.rate for rate in page.rates]
        token = page.next_page_token
        if not token:
            break
    assert rates == ["1", "1.1", "1.2"]


@given(
    atoms=st.integers(1, 10**24),
    rate=st.fractions(min_value=Fraction(1, 10**18), max_value=10**18),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_conversion_loses_nothing_and_gives_nothing_away(atoms: int, rate: Fraction) -> None:
    gained, spent, residual = divide(atoms, rate)
    assert spent + residual == atoms
    assert residual >= 0
    assert gained <= atoms * rate < gained + 1
    assert (spent - 1) * rate < gained <= spent * rate or gained == spent == 0
