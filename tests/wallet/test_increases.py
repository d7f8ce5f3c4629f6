"""Holds that grow and last longer, and the single forms of what batches do."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.refusals import refuses
from tests.wallet.client import WalletClient, debit_item, grant_item, hold_item, key, reasons
from tollgate.wallet.v1 import ledger_pb2, wallet_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger


async def _funded(client: WalletClient, value: str = "100") -> str:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, value)
    return wallet_id


async def test_an_increase_sets_the_difference_aside_and_is_captured_like_the_rest(
    client: WalletClient,
) -> None:
    wallet_id = await _funded(client)
    hold_id = (await client.hold("50")).hold.hold_id
    grown = await client.increase(hold_id, "30.5")
    assert (grown.hold.amount.value, grown.available) == ("80.5", "19.5")
    assert [(s.wallet_id, s.value) for s in grown.hold.shares] == [(wallet_id, "80.5")]
    captured = await client.capture(hold_id, "75", final=True)
    assert (captured.debit.amount.value, captured.debit.available) == ("75", "25")
    kinds = [t.kind for t in await client.transfers(wallet_id)]
    assert kinds.count(ledger_pb2.TRANSFER_KIND_HOLD_INCREASE) == 1
    assert await client.verify() == []


async def test_an_increase_is_denied_as_a_hold_is_and_leaves_the_hold_as_it_was(
    client: WalletClient,
) -> None:
    await _funded(client)
    hold_id = (await client.hold("50")).hold.hold_id
    denied = await client.increase(hold_id, "50.01")
    assert denied.refusal.reason == "INSUFFICIENT_FUNDS"
    assert denied.refusal.facts == {"available": "50", "needed": "50.01", "asset": "USD"}
    partly = await client.increase(hold_id, "60", partial_allowed=True)
    assert (partly.hold.amount.value, partly.available) == ("100", "0")
    nothing = await client.increase(hold_id, "1", partial_allowed=True)
    assert nothing.refusal.reason == "INSUFFICIENT_FUNDS"


async def test_an_increase_lengthens_and_never_shortens(client: WalletClient) -> None:
    await _funded(client)
    placed = (await client.hold("50", time_to_live=Duration(seconds=600))).hold
    longer = await client.increase(placed.hold_id, "", time_to_live=Duration(seconds=3600))
    assert longer.hold.amount.value == "50"
    gained = longer.hold.expire_time.ToDatetime() - placed.expire_time.ToDatetime()
    assert timedelta(seconds=3000) <= gained < timedelta(seconds=3100)
    same = await client.increase(placed.hold_id, "1", time_to_live=Duration(seconds=1))
    assert same.hold.expire_time == longer.hold.expire_time
    again = await client.call(client.holds.GetHold, ledger.GetHoldRequest(hold_id=placed.hold_id))
    assert again.hold.amount.value == "51"
    assert again.hold.expire_time == longer.hold.expire_time


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"value": "0"}, "value"),
        ({"value": ""}, "value"),
        ({"value": "-1"}, "value"),
        ({"value": "0.001"}, "value"),
        ({"value": "1", "time_to_live": Duration(seconds=0)}, "time_to_live"),
        ({"value": "1", "time_to_live": Duration(seconds=604_801)}, "time_to_live"),
        ({"value": "1", "hold_id": "h"}, "hold_id"),
        ({"value": "1", "request_id": ""}, "request_id"),
    ],
)
async def test_a_malformed_increase_names_its_field(
    client: WalletClient, fields: dict[str, object], field: str
) -> None:
    await _funded(client)
    hold_id = (await client.hold("50")).hold.hold_id
    item = ledger.IncreaseItem(**{"request_id": key(), "hold_id": hold_id, **fields})  # type: ignore[arg-type]
    well = ledger.IncreaseItem(request_id=key(), hold_id=hold_id, value="1")
    answer = await client.call(
        client.holds.IncreaseHolds, ledger.IncreaseHoldsRequest(items=[item, well])
    )
    assert reasons(answer.outcomes) == ["INVALID_VALUE", "OK"]
    assert answer.outcomes[0].refusal.facts["field"] == field


async def test_what_ended_or_never_was_is_not_increased(client: WalletClient) -> None:
    wallet_id = await _funded(client)
    voided = (await client.hold("10")).hold.hold_id
    await client.void(voided)
    ended = await client.increase(voided, "1")
    assert ended.refusal.reason == "HOLD_ENDED"
    assert ended.refusal.facts == {"hold_id": voided, "state": "VOIDED"}
    unknown = await client.increase(str(uuid4()), "1")
    assert unknown.refusal.reason == "NOT_FOUND"
    tombstone = str(uuid4())
    await client.void(tombstone)
    assert (await client.increase(tombstone, "1")).refusal.reason == "HOLD_ENDED"
    held = (await client.hold("10")).hold.hold_id
    await client.set_state(wallet_id, wallet_pb2.WALLET_STATE_FROZEN)
    assert (await client.increase(held, "1")).refusal.reason == "WALLET_FROZEN"


async def test_a_repeated_increase_is_applied_once(client: WalletClient) -> None:
    await _funded(client)
    hold_id = (await client.hold("10")).hold.hold_id
    first = await client.increase(hold_id, "5", request_id="again")
    second = await client.increase(hold_id, "5", request_id="again")
    assert second.replayed
    assert second.hold == first.hold
    other = await client.increase(hold_id, "6", request_id="again")
    assert other.refusal.reason == "IDEMPOTENCY_CONFLICT"
    assert await client.available() == "85"


async def test_a_hold_is_placed_increased_and_captured_in_one_lane_by_many(
    client: WalletClient,
) -> None:
    """Twenty increases of 75 on 500 with 50 held: exactly six fit."""
    await _funded(client, "500")
    hold_id = (await client.hold("50")).hold.hold_id
    outcomes = await asyncio.gather(*[client.increase(hold_id, "75") for _ in range(20)])
    assert sorted(reasons(outcomes)) == ["INSUFFICIENT_FUNDS"] * 14 + ["OK"] * 6
    (balance,) = await client.balances()
    assert (balance.held, balance.available) == ("500", "0")
    assert await client.verify() == []


async def test_single_forms_answer_as_batches_do(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    item = grant_item(wallet_id, "100")
    granted = await client.call(client.grants.CreateGrant, ledger.CreateGrantRequest(item=item))
    assert granted.grant.amount.value == "100"
    again = await client.call(client.grants.CreateGrant, ledger.CreateGrantRequest(item=item))
    assert again.replayed
    assert again.grant == granted.grant

    posted = await client.call(
        client.debits.PostDebit, ledger.PostDebitRequest(item=debit_item("10"))
    )
    assert (posted.debit.amount.value, posted.debit.available) == ("10", "90")
    placed = await client.call(
        client.holds.PlaceHold, ledger.PlaceHoldRequest(item=hold_item("20"))
    )
    assert placed.available == "70"
    hold_id = placed.hold.hold_id
    more = ledger.IncreaseItem(request_id=key(), hold_id=hold_id, value="5")
    grown = await client.call(client.holds.IncreaseHold, ledger.IncreaseHoldRequest(item=more))
    assert (grown.hold.amount.value, grown.available) == ("25", "65")
    part = ledger.CaptureItem(request_id=key(), hold_id=hold_id, value="15")
    captured = await client.call(client.holds.CaptureHold, ledger.CaptureHoldRequest(item=part))
    assert captured.debit.amount.value == "15"
    void = ledger.VoidItem(request_id=key(), hold_id=hold_id)
    voided = await client.call(client.holds.VoidHold, ledger.VoidHoldRequest(item=void))
    assert voided.hold.state == ledger_pb2.HOLD_STATE_VOIDED
    assert voided.available == "75"
    assert await client.verify() == []


async def test_a_single_form_is_refused_with_the_same_reason_and_facts(
    client: WalletClient,
) -> None:
    await _funded(client, "10")
    request = ledger.PostDebitRequest(item=debit_item("11", request_id="one"))
    with refuses("INSUFFICIENT_FUNDS", grpc.StatusCode.FAILED_PRECONDITION) as refused:
        await client.call(client.debits.PostDebit, request)
    assert refused.facts == {"available": "10", "needed": "11", "asset": "USD"}
    with refuses("INSUFFICIENT_FUNDS"):
        await client.call(client.debits.PostDebit, request)
    (batched,) = await client.post([request.item])
    assert batched.replayed
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await client.call(
            client.holds.CaptureHold,
            ledger.CaptureHoldRequest(
                item=ledger.CaptureItem(request_id=key(), hold_id=str(uuid4()), value="1")
            ),
        )
