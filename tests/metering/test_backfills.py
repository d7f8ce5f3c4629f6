"""Backfills: fed, looked at, applied or taken back, each exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import grpc
import pytest

from tests.metering.world import World, graduated, stamp, unit_price
from tests.support.waiting import until
from tollgate.metering.v1 import backfill_pb2, event_pb2
from tollgate.type.v1 import amount_pb2

OPEN = backfill_pb2.BACKFILL_STATE_OPEN
CLOSED = backfill_pb2.BACKFILL_STATE_CLOSED
REVERTED = backfill_pb2.BACKFILL_STATE_REVERTED
ADD, REPLACE = backfill_pb2.BACKFILL_MODE_ADD, backfill_pb2.BACKFILL_MODE_REPLACE


class Run:
    """One backfill of two customers over fifty days."""

    def __init__(self, world: World, backfill_id: str) -> None:
        self.world, self.backfill_id = world, backfill_id

    async def feed(self, *events: event_pb2.Event) -> list[backfill_pb2.FeedOutcome]:
        request = backfill_pb2.FeedBackfillRequest(backfill_id=self.backfill_id, events=events)
        answer = await self.world.call(self.world.backfills.FeedBackfill, request)
        return list(answer.outcomes)

    async def preview(self) -> dict[str, backfill_pb2.BackfillEffect]:
        effects: dict[str, backfill_pb2.BackfillEffect] = {}
        token = ""
        while True:
            request = backfill_pb2.PreviewBackfillRequest(
                backfill_id=self.backfill_id, page_size=1, page_token=token
            )
            answer = await self.world.call(self.world.backfills.PreviewBackfill, request)
            effects |= {effect.customer_id: effect for effect in answer.effects}
            token = answer.next_page_token
            if not token:
                return effects

    async def look(self) -> backfill_pb2.Backfill:
        request = backfill_pb2.GetBackfillRequest(backfill_id=self.backfill_id)
        found = (await self.world.call(self.world.backfills.GetBackfill, request)).backfill
        assert isinstance(found, backfill_pb2.Backfill)
        return found

    async def close(self) -> backfill_pb2.Backfill:
        request = backfill_pb2.CloseBackfillRequest(backfill_id=self.backfill_id)
        await self.world.call(self.world.backfills.CloseBackfill, request)
        return await self._reach(CLOSED)

    async def revert(self) -> backfill_pb2.Backfill:
        request = backfill_pb2.RevertBackfillRequest(backfill_id=self.backfill_id)
        await self.world.call(self.world.backfills.RevertBackfill, request)
        return await self._reach(REVERTED)

    async def _reach(self, state: backfill_pb2.BackfillState.ValueType) -> backfill_pb2.Backfill:
        async def there() -> bool:
            return (await self.look()).state == state

        await until(there)
        return await self.look()


async def opened(
    world: World, mode: backfill_pb2.BackfillMode.ValueType, customers: Sequence[str] = ("a", "b")
) -> Run:
    request = backfill_pb2.CreateBackfillRequest(
        request_id=world.key("backfill"),
        mode=mode,
        interval=amount_pb2.Interval(
            start_time=stamp(world.now - timedelta(days=50)), end_time=stamp(world.now)
        ),
        customer_ids=customers,
        reason="the collector was down",
    )
    answer = await world.call(world.backfills.CreateBackfill, request)
    assert answer.backfill.state == OPEN
    return Run(world, answer.backfill.backfill_id)


async def prepaid(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("prepaid", {"tokens": graduated("USD", ("10", "3"), ("", "1"))})
    for customer in ("a", "b"):
        await world.customer(customer, "prepaid", USD="1000")


async def test_old_usage_is_previewed_added_and_taken_back(world: World) -> None:
    await prepaid(world)
    past = world.now - timedelta(days=45)
    run = await opened(world, ADD)
    events = [
        world.event("a", event_id="1", tokens="12", time=past),
        world.event("a", event_id="2", tokens="1", time=past + timedelta(hours=1)),
        world.event("b", event_id="3", tokens="2", time=past),
        world.event("b", event_id="4", tokens="many", time=past),
    ]

    fed = await run.feed(*events)
    again = await run.feed(*events[:1], world.event("a", event_id="2", tokens="5", time=past))
    outside = await run.feed(
        world.event("a", event_id="5", time=world.now - timedelta(days=51)),
        world.event("c", event_id="6", time=past),
    )
    effects = await run.preview()

    assert [outcome.refusal.reason for outcome in fed] == ["", "", "", ""]
    assert [outcome.refusal.reason for outcome in again] == ["", "EVENT_CONFLICT"]
    assert {outcome.refusal.reason for outcome in outside} == {"OUTSIDE_BACKFILL"}
    assert (effects["a"].added, effects["b"].added, effects["b"].refused) == (2, 1, 1)
    assert [(u.before, u.after) for u in effects["a"].usage] == [("0", "13")]
    assert [(c.before.value, c.after.value) for c in effects["a"].costs] == [("0", "33")]
    assert await world.balances("a") == {"USD": "1000"}
    assert await world.verify() == 0

    closed = await run.close()
    assert (closed.events, closed.added, closed.refused) == (4, 3, 1)
    assert await world.balances("a") == {"USD": "967"}
    assert await world.balances("b") == {"USD": "994"}
    faults = await world.call(
        world.backfills.ListBackfillFaults,
        backfill_pb2.ListBackfillFaultsRequest(backfill_id=run.backfill_id),
    )
    assert [(f.event_id, f.refusal.reason) for f in faults.faults] == [("4", "PROPERTY_UNUSABLE")]
    assert await world.verify() == 3
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await run.feed(events[0])
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION

    await run.revert()
    assert await world.balances("a") == {"USD": "1000"}
    assert await world.balances("b") == {"USD": "1000"}
    assert await world.quantity("a", "tokens") == "0"
    assert await world.verify() == 3


async def test_a_replacement_amends_drops_and_adds_and_can_be_taken_back(world: World) -> None:
    await prepaid(world)
    time = world.now - timedelta(days=2)
    await world.ingest(
        world.event("a", event_id="kept", tokens="1", time=time),
        world.event("a", event_id="wrong", tokens="90", time=time),
        world.event("a", event_id="extra", tokens="4", time=time),
        world.event("a", event_id="before", tokens="1", time=world.now),
    )
    before = await world.balances("a")
    run = await opened(world, REPLACE, ["a"])
    await run.feed(
        world.event("a", event_id="kept", tokens="1", time=time),
        world.event("a", event_id="wrong", tokens="9", time=time),
        world.event("a", event_id="new", tokens="2", time=time),
    )

    effect = (await run.preview())["a"]
    assert (effect.added, effect.amended, effect.deprecated, effect.refused) == (1, 1, 1, 0)
    assert [(u.before, u.after) for u in effect.usage] == [("95", "12")]
    (cost,) = effect.costs
    assert await world.balances("a") == before

    closed = await run.close()
    assert (closed.added, closed.amended, closed.unchanged) == (1, 1, 1)
    assert await world.quantity("a", "tokens") == "13"
    after = await world.balances("a")
    change = int(cost.after.value) - int(cost.before.value)
    assert int(after["USD"]) == int(before["USD"]) - change
    assert await world.verify() == 6

    await run.revert()
    assert await world.quantity("a", "tokens") == "96"
    assert await world.balances("a") == before
    assert await world.verify() >= 6


async def test_an_open_backfill_is_given_up_without_a_trace(world: World) -> None:
    await world.meter("tokens", value="tokens")
    await world.plan("arrears", {"tokens": unit_price("USD", "1")}, from_wallet=False)
    await world.customer("a", "arrears")
    run = await opened(world, ADD)
    await run.feed(world.event("a", tokens="5", time=world.now - timedelta(days=40)))
    effect = (await run.preview())["a"]
    assert [(c.after.value, c.from_wallet) for c in effect.costs] == [("5", False)]
    await run.revert()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await run.close()
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert await world.quantity("a", "tokens") == "0"
    assert await world.verify() == 0
