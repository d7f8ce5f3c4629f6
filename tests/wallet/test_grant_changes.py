"""Grants that are voided, moved in time, or rolled over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.refusals import refuses
from tests.wallet.client import WalletClient, grant_item, key
from tollgate.wallet.v1 import adjustment_service_pb2 as adjusting
from tollgate.wallet.v1 import ledger_pb2, wallet_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger

PROMOTIONAL = ledger_pb2.GRANT_KIND_PROMOTIONAL


def _stamp(instant: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


async def _expire(
    client: WalletClient, wallet_id: str, grant_id: str, instant: datetime | None, **fields: Any
) -> ledger.ChangeGrantExpiryResponse:
    chosen = {"request_id": key(), "reason": "extended"} | fields
    request = ledger.ChangeGrantExpiryRequest(
        wallet_id=wallet_id,
        grant_id=grant_id,
        expire_time=None if instant is None else _stamp(instant),
        **chosen,
    )
    answer = await client.call(client.grants.ChangeGrantExpiry, request)
    assert isinstance(answer, ledger.ChangeGrantExpiryResponse)
    return answer


async def _two_grants(client: WalletClient) -> tuple[str, str, str]:
    """A wallet with 100 given away, which burns first, and 100 that were paid."""
    await client.asset()
    wallet_id = await client.wallet()
    given = await client.grant(wallet_id, "100", kind=PROMOTIONAL, priority=10)
    paid = await client.grant(wallet_id, "100")
    return wallet_id, given.grant_id, paid.grant_id


async def test_what_is_left_of_a_grant_goes_back_to_where_it_came_from(
    client: WalletClient,
) -> None:
    wallet_id, given, _ = await _two_grants(client)
    await client.debit("30")
    voided = await client.void_grant(given, wallet_id)
    assert (voided.unused.value, voided.replayed_amount.value) == ("70", "0")
    assert await client.available() == "100"
    last = (await client.transfers(wallet_id))[-1]
    assert last.kind == ledger_pb2.TRANSFER_KIND_VOID
    assert last.credit_account == "house:promotional_expense"
    (grant,) = [g for g in await client.list_grants(wallet_id) if g.grant_id == given]
    assert (grant.remaining, grant.HasField("void_time")) == ("0", True)
    assert await client.verify() == []


async def test_what_a_voided_grant_paid_for_is_paid_by_others_in_new_entries(
    client: WalletClient,
) -> None:
    wallet_id, given, paid = await _two_grants(client)
    await client.debit("30")
    before = await client.transfers(wallet_id)
    voided = await client.void_grant(given, wallet_id, replay=True)
    assert (voided.unused.value, voided.replayed_amount.value) == ("70", "30")
    assert [(s.grant_id, s.value) for s in voided.replayed_on] == [(paid, "30")]
    assert await client.available() == "70"
    after = await client.transfers(wallet_id)
    assert after[: len(before)] == before, "no row changed"
    moves = [(t.debit_account.split(":")[0], t.credit_account, t.amount.value) for t in after[3:]]
    assert moves == [
        ("house", f"wallet:{wallet_id}", "30"),
        ("wallet", "house:revenue", "30"),
        ("wallet", "house:promotional_expense", "100"),
    ]
    with refuses("TRANSFER_NOT_REVERSIBLE"):
        await client.reverse(after[4].transfer_id)
    back = await client.reverse(after[2].transfer_id)
    assert back.refund_grant_id, "the grant that paid first lives no more"
    assert await client.available() == "100"
    assert await client.verify() == []


async def test_a_void_that_others_cannot_cover_is_refused_with_what_they_can(
    client: WalletClient,
) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    given = await client.grant(wallet_id, "100", kind=PROMOTIONAL, priority=10)
    await client.grant(wallet_id, "5")
    await client.grant(wallet_id, "50", restrictions=wallet_pb2.Restrictions(meters=["m1"]))
    await client.debit("30")
    with refuses("GRANT_NOT_COVERED", grpc.StatusCode.FAILED_PRECONDITION) as refused:
        await client.void_grant(given.grant_id, wallet_id, replay=True)
    assert refused.facts == {
        "grant_id": given.grant_id,
        "available": "5",
        "needed": "30",
        "asset": "USD",
    }
    assert (await client.debit("70")).debit.amount.value == "70", "nothing was taken back"


async def test_a_narrow_grant_is_replayed_on_grants_that_are_as_wide(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    narrow = wallet_pb2.Restrictions(meters=["m1"])
    wide = wallet_pb2.Restrictions(meters=["m1", "m2"])
    first = await client.grant(wallet_id, "50", restrictions=narrow, priority=1)
    second = await client.grant(wallet_id, "50", restrictions=wide)
    await client.debit("20", purpose=ledger.Purpose(meter="m1"))
    voided = await client.void_grant(first.grant_id, wallet_id, replay=True)
    assert [(s.grant_id, s.value) for s in voided.replayed_on] == [(second.grant_id, "20")]
    assert await client.verify() == []


async def test_a_closed_period_is_not_reopened_by_a_void(client: WalletClient) -> None:
    wallet_id, given, paid = await _two_grants(client)
    await client.debit("30")
    close = adjusting.CloseAccountingPeriodRequest(
        request_id=key(), through_time=_stamp(datetime.now(UTC))
    )
    closed = await client.call(client.adjustments.CloseAccountingPeriod, close)
    with refuses("PERIOD_CLOSED") as refused:
        await client.void_grant(given, wallet_id, replay=True)
    through = datetime.fromisoformat(refused.facts["closed_through"])
    assert through == closed.through_time.ToDatetime(tzinfo=UTC)
    assert (await client.void_grant(given, wallet_id)).unused.value == "70"
    await client.debit("10")
    with refuses("GRANT_NOT_COVERED"):
        await client.void_grant(paid, wallet_id, replay=True)
    earlier = adjusting.CloseAccountingPeriodRequest(
        request_id=key(), through_time=_stamp(datetime(2020, 1, 1, tzinfo=UTC))
    )
    again = await client.call(client.adjustments.CloseAccountingPeriod, earlier)
    assert again.through_time == closed.through_time, "books that are closed stay closed"
    with refuses("INVALID_VALUE"):
        await client.call(
            client.adjustments.CloseAccountingPeriod,
            adjusting.CloseAccountingPeriodRequest(
                request_id=key(), through_time=_stamp(datetime.now(UTC) + timedelta(hours=1))
            ),
        )


async def test_a_grant_that_is_held_voided_or_unknown_is_not_voided(client: WalletClient) -> None:
    wallet_id, given, _ = await _two_grants(client)
    hold_id = (await client.hold("10")).hold.hold_id
    with refuses("GRANT_HELD") as refused:
        await client.void_grant(given, wallet_id)
    assert refused.facts == {"grant_id": given, "held": "10", "asset": "USD"}
    await client.void(hold_id)
    first = await client.void_grant(given, wallet_id, request_id="v1")
    again = await client.void_grant(given, wallet_id, request_id="v1")
    assert again.replayed
    assert again.void_time == first.void_time
    with refuses("GRANT_ENDED") as ended:
        await client.void_grant(given, wallet_id)
    assert ended.facts == {"grant_id": given, "state": "VOIDED"}
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await client.void_grant(str(uuid4()), wallet_id)
    with refuses("NOT_FOUND"):
        await client.void_grant(given, await client.wallet("c2"))
    with refuses("IDEMPOTENCY_CONFLICT"):
        await client.void_grant(given, wallet_id, request_id="v1", reason="another")
    with refuses("INVALID_VALUE"):
        await client.void_grant(given, wallet_id, reason="")


async def test_an_expiry_is_moved_and_the_burn_order_with_it(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    soon, later = datetime.now(UTC) + timedelta(days=1), datetime.now(UTC) + timedelta(days=9)
    first = await client.grant(wallet_id, "10", expire_time=_stamp(soon))
    second = await client.grant(wallet_id, "10", expire_time=_stamp(later))
    changed = await _expire(client, wallet_id, first.grant_id, None)
    assert not changed.grant.HasField("expire_time")
    await client.debit("5")
    left = {g.grant_id: g.remaining for g in await client.list_grants(wallet_id)}
    assert left == {first.grant_id: "10", second.grant_id: "5"}
    back = await _expire(client, wallet_id, first.grant_id, soon)
    assert back.grant.expire_time.ToDatetime(tzinfo=UTC) == soon
    await client.debit("5")
    left = {g.grant_id: g.remaining for g in await client.list_grants(wallet_id)}
    assert left == {first.grant_id: "5", second.grant_id: "5"}
    with refuses("INVALID_VALUE") as refused:
        await _expire(client, wallet_id, first.grant_id, datetime(2020, 1, 1, tzinfo=UTC))
    assert refused.facts["field"] == "expire_time"
    assert await client.verify() == []


async def test_who_did_what_by_hand_and_why_is_kept(client: WalletClient) -> None:
    wallet_id, given, paid = await _two_grants(client)
    await client.void_grant(given, wallet_id, request_id="a", reason="fraud")
    await _expire(client, wallet_id, paid, None, request_id="b", reason="goodwill")
    request = adjusting.ListAdjustmentsRequest(wallet_id=wallet_id)
    answer = await client.call(client.adjustments.ListAdjustments, request)
    assert [(a.request_id, a.reason, a.caller) for a in answer.adjustments] == [
        ("a", "fraud", "service:operator"),
        ("b", "goodwill", "service:operator"),
    ]


@pytest.mark.parametrize(
    ("rollover", "field"),
    [
        (ledger_pb2.Rollover(fraction="0"), "rollover.fraction"),
        (ledger_pb2.Rollover(fraction="1.01"), "rollover.fraction"),
        (ledger_pb2.Rollover(cap="0"), "rollover.cap"),
        (ledger_pb2.Rollover(cap="0.001"), "rollover.cap"),
        (ledger_pb2.Rollover(time_to_live=Duration(seconds=0)), "rollover.time_to_live"),
        (ledger_pb2.Rollover(), "rollover"),
    ],
)
async def test_a_rollover_that_cannot_be_is_refused(
    client: WalletClient, rollover: ledger_pb2.Rollover, field: str
) -> None:
    await client.asset()
    item = grant_item(await client.wallet(), "10", rollover=rollover)
    (outcome,) = await client.create_grants([item])
    assert outcome.refusal.reason == "INVALID_VALUE"
    assert outcome.refusal.facts["field"] == field
