"""Holds through gRPC on a real Postgres: what they pin, how they end, who wins a race."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.refusals import refuses
from tests.support.waiting import until
from tests.wallet.client import WalletClient, debit_item, hold_item, key, reasons
from tollgate.wallet.v1 import ledger_pb2, wallet_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger


async def _funded(client: WalletClient, value: str = "100") -> str:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, value)
    return wallet_id


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
    await _funded(client, "500")
    outcomes = await asyncio.gather(*[client.hold("75") for _ in range(20)])
    assert sorted(reasons(outcomes)) == ["INSUFFICIENT_FUNDS"] * 14 + ["OK"] * 6
    (balance,) = await client.balances()
    assert (balance.held, balance.available) == ("450", "50")
    assert await client.verify() == []


async def test_a_partial_hold_takes_what_there_is(client: WalletClient) -> None:
    await _funded(client, "30")
    partial = await client.hold("50", partial_allowed=True)
    assert partial.hold.amount.value == "30"
    nothing = await client.hold("50", partial_allowed=True)
    assert nothing.refusal.reason == "INSUFFICIENT_FUNDS"


async def test_captures_add_up_until_one_is_final(client: WalletClient) -> None:
    await _funded(client)
    hold_id = (await client.hold("50")).hold.hold_id
    await client.capture(hold_id, "10")
    await client.capture(hold_id, "15")
    hold = await _get(client, hold_id)
    assert (hold.captured, hold.state) == ("25", ledger_pb2.HOLD_STATE_OPEN)
    last = await client.capture(hold_id, "0", final=True)
    assert (last.debit.amount.value, last.debit.available) == ("0", "75")
    hold = await _get(client, hold_id)
    assert (hold.captured, hold.state) == ("25", ledger_pb2.HOLD_STATE_CAPTURED)
    late = await client.capture(hold_id, "1")
    assert late.refusal.reason == "HOLD_ENDED"
    assert late.refusal.facts["state"] == "CAPTURED"
    assert (await client.void(hold_id)).refusal.reason == "HOLD_ENDED"


@pytest.mark.parametrize(
    ("mode", "amount", "shortfall", "available", "debt"),
    [
        (ledger_pb2.OVER_CAPTURE_CLAMP, "60", "90", "40", "0"),
        (ledger_pb2.OVER_CAPTURE_USE_AVAILABLE, "100", "50", "0", "0"),
        (ledger_pb2.OVER_CAPTURE_FORCE, "150", "0", "0", "50"),
    ],
)
async def test_a_capture_above_what_is_held_does_as_it_is_told(
    client: WalletClient,
    mode: ledger_pb2.OverCapture.ValueType,
    amount: str,
    shortfall: str,
    available: str,
    debt: str,
) -> None:
    wallet_id = await _funded(client)
    hold_id = (await client.hold("60")).hold.hold_id
    refused = await client.capture(hold_id, "150", final=True)
    assert refused.refusal.reason == "OVER_CAPTURE"
    assert dict(refused.refusal.facts) == {"held": "60", "needed": "150"}
    outcome = await client.capture(hold_id, "150", final=True, over_capture=mode)
    assert outcome.debit.amount.value == amount
    assert outcome.debit.shortfall == shortfall
    assert outcome.debit.available == available
    (balance,) = await client.balances()
    assert balance.debt == debt
    grant = await client.grant(wallet_id, "80")
    assert grant.remaining == ("30" if debt == "50" else "80")
    assert await client.verify() == []


async def test_a_debit_that_names_a_hold_captures_it(client: WalletClient) -> None:
    await _funded(client)
    hold_id = (await client.hold("20")).hold.hold_id
    outcome = await client.debit("12", hold_id=hold_id, final=True)
    assert (outcome.debit.amount.value, outcome.debit.available) == ("12", "88")
    await client.wallet("c2")
    other = await client.debit("1", "c2", hold_id=hold_id)
    assert other.refusal.reason == "NOT_FOUND"


async def test_voiding_twice_is_the_same_answer(client: WalletClient) -> None:
    await _funded(client)
    hold_id = (await client.hold("20")).hold.hold_id
    first, second = await client.void(hold_id), await client.void(hold_id)
    assert first.hold.state == second.hold.state == ledger_pb2.HOLD_STATE_VOIDED
    assert first.available == second.available == "100"
    assert (await client.capture(hold_id, "1")).refusal.facts["state"] == "VOIDED"


async def test_a_hold_that_arrives_after_its_void_is_refused(client: WalletClient) -> None:
    await _funded(client)
    hold_id = str(uuid4())
    tombstone = await client.void(hold_id)
    assert tombstone.hold.state == ledger_pb2.HOLD_STATE_VOIDED
    late = await client.hold("10", hold_id=hold_id)
    assert late.refusal.reason == "HOLD_VOIDED_BEFORE"
    assert (await client.void(hold_id)).hold.state == ledger_pb2.HOLD_STATE_VOIDED
    assert (await client.capture(hold_id, "1")).refusal.reason == "HOLD_ENDED"
    assert await client.available() == "100"


async def test_a_void_that_races_its_hold_leaves_nothing_held(client: WalletClient) -> None:
    await _funded(client)
    ids = [str(uuid4()) for _ in range(40)]
    await asyncio.gather(
        *[client.hold("1", hold_id=hold_id) for hold_id in ids],
        *[client.void(hold_id) for hold_id in ids],
    )
    (balance,) = await client.balances()
    assert (balance.held, balance.available) == ("0", "100")
    assert await client.verify() == []


async def test_a_holds_id_is_used_once(client: WalletClient) -> None:
    await _funded(client)
    await client.grant(await client.wallet("c2"), "10")
    hold_id = str(uuid4())
    assert (await client.hold("10", hold_id=hold_id)).hold.hold_id == hold_id
    outcomes = await client.place(
        [hold_item("10", hold_id=hold_id), hold_item("1", "c2", hold_id=hold_id)]
    )
    assert reasons(outcomes) == ["ALREADY_EXISTS"] * 2


async def test_time_to_live_is_a_second_to_a_week(client: WalletClient) -> None:
    await _funded(client)
    outcomes = await client.place(
        [
            hold_item("1", time_to_live=Duration(seconds=seconds))
            for seconds in (0, 1, 7 * 86_400, 7 * 86_400 + 1, -5)
        ]
    )
    assert reasons(outcomes) == ["INVALID_VALUE", "OK", "OK", "INVALID_VALUE", "INVALID_VALUE"]
    default = (await client.hold("1")).hold
    assert default.expire_time.seconds - default.create_time.seconds == 15 * 60


async def test_a_hold_expires_by_the_databases_clock_without_a_sweeper(
    client: WalletClient,
) -> None:
    await _funded(client)
    placed = await client.hold("60", time_to_live=Duration(seconds=1))
    hold_id = placed.hold.hold_id

    async def expired() -> bool:
        return (await _get(client, hold_id)).state == ledger_pb2.HOLD_STATE_EXPIRED

    await until(expired)
    assert await client.available() == "40", "pessimistic until somebody touches it"
    late = await client.capture(hold_id, "10", final=True)
    assert late.refusal.reason == "HOLD_ENDED"
    assert late.refusal.facts["state"] == "EXPIRED"
    assert await client.available() == "100"
    assert await client.verify() == []


async def test_a_late_capture_is_a_plain_debit_where_the_wallet_says_so(
    client: WalletClient,
) -> None:
    await client.asset()
    wallet_id = await client.wallet(late_capture_allowed=True)
    await client.grant(wallet_id, "100")
    hold_id = (await client.hold("60", time_to_live=Duration(seconds=1))).hold.hold_id

    async def expired() -> bool:
        return (await _get(client, hold_id)).state == ledger_pb2.HOLD_STATE_EXPIRED

    await until(expired)
    late = await client.capture(hold_id, "10", final=True)
    assert late.debit.late
    assert (late.debit.amount.value, late.debit.available) == ("10", "90")
    assert await client.verify() == []


async def test_holds_on_an_overdraft_come_back_whole(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.overdraft_wallet("50")
    await client.grant(wallet_id, "10")
    placed = await client.hold("40")
    assert placed.available == "20"
    captured = await client.capture(placed.hold.hold_id, "15", final=True)
    assert captured.debit.available == "45"
    (balance,) = await client.balances()
    assert (balance.held, balance.debt, balance.available) == ("0", "5", "45")
    assert await client.verify() == []


async def test_a_frozen_wallet_keeps_its_holds_and_grants_no_more(client: WalletClient) -> None:
    wallet_id = await _funded(client)
    hold_id = (await client.hold("10")).hold.hold_id
    await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_FROZEN)
    assert (await client.hold("1")).refusal.reason == "WALLET_FROZEN"
    assert (await client.debit("1")).refusal.reason == "WALLET_FROZEN"
    assert (await client.capture(hold_id, "4")).debit.amount.value == "4"
    await client.grant(wallet_id, "1")
    with refuses("WALLET_NOT_EMPTY", grpc.StatusCode.FAILED_PRECONDITION):
        await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_CLOSED)
    assert await client.verify() == []


async def test_holds_and_captures_of_a_batch_are_answered_in_order(client: WalletClient) -> None:
    await _funded(client, "10")
    same = key()
    outcomes = await client.place(
        [hold_item("4"), hold_item("4"), hold_item("4"), hold_item("2", request_id=same)]
    )
    assert reasons(outcomes) == ["OK", "OK", "INSUFFICIENT_FUNDS", "OK"]
    again = await client.hold("2", request_id=same)
    assert again.replayed
    assert again.hold == outcomes[3].hold
    conflict = (await client.post([debit_item("2", request_id=same)]))[0]
    assert conflict.refusal.reason == "IDEMPOTENCY_CONFLICT"


async def _get(client: WalletClient, hold_id: str) -> ledger_pb2.Hold:
    answer = await client.call(client.holds.GetHold, ledger.GetHoldRequest(hold_id=hold_id))
    assert isinstance(answer.hold, ledger_pb2.Hold)
    return answer.hold


async def test_a_forced_capture_of_a_frozen_wallet_leaves_no_debt_beside_its_funds(
    client: WalletClient,
) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "100")
    hold_id = (await client.hold("10")).hold.hold_id
    await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_FROZEN)
    forced = await client.capture(
        hold_id, "40", final=True, over_capture=ledger_pb2.OVER_CAPTURE_FORCE
    )
    assert forced.debit.amount.value == "40"
    (balance,) = await client.balances()
    assert (balance.debt, balance.available, balance.debited) == ("0", "60", "40")
    await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_ACTIVE)
    assert reasons([await client.debit("60.01"), await client.debit("60")]) == [
        "INSUFFICIENT_FUNDS",
        "OK",
    ]
    assert await client.verify() == []
