"""Events that no meter or price can take wait, where the tenant wants that, and are taken up."""

from __future__ import annotations

from tests.metering.world import ACCEPTED, INVALID, World, unit_price
from tests.support.waiting import until
from tollgate.metering.v1 import event_pb2, parking_pb2
from tollgate.type.v1 import price_pb2

PARKED = event_pb2.EVENT_STATE_PARKED


async def test_unmatched_events_are_refused_unless_the_tenant_parks_them(world: World) -> None:
    await world.customer("acme")
    event = world.event("acme", name="new thing", event_id="e", size="3")

    (refused,) = await world.ingest(event)
    await world.park(unmatched=True)
    first, twin, other = await world.ingest(
        event, event, world.event("acme", name="new thing", event_id="f", size="4")
    )
    (again,) = await world.ingest(event)
    (conflict,) = await world.ingest(world.event("acme", name="other", event_id="e", size="3"))

    assert (refused.state, refused.refusal.reason) == (INVALID, "EVENT_UNMATCHED")
    assert (first.state, first.refusal.reason) == (PARKED, "EVENT_UNMATCHED")
    assert (twin.state, twin.duplicate, other.state) == (PARKED, True, PARKED)
    assert (again.state, again.duplicate) == (PARKED, True)
    assert conflict.refusal.reason == "EVENT_CONFLICT"
    assert [each.event.event_id for each in await world.parked()] == ["e", "f"]
    assert await world.parked("PROPERTY_UNUSABLE") == []
    found = await world.call(world.events.GetEvent, event_pb2.GetEventRequest(event_id="e"))
    assert (found.event, found.outcome.state) == (event, PARKED)
    assert await world.verify() == 0


async def test_parked_events_are_taken_up_when_their_meter_is_published(world: World) -> None:
    await world.asset("USD")
    await world.park(unmatched=True)
    await world.meter("sizes", "thing", value="size")
    await world.plan("prepaid", {"sizes": unit_price("USD", "1")})
    await world.customer("acme", "prepaid", USD="10")
    event = world.event("acme", name="new thing", event_id="e", size="3")
    await world.ingest(event, world.event("acme", name="other thing", event_id="f", size="3"))

    await world.meter("new", "new thing", value="size")

    async def is_taken_up() -> bool:
        return [each.event.event_id for each in await world.parked()] == ["f"]

    await until(is_taken_up)
    assert await world.quantity("acme", "new") == "3"
    (again,) = await world.ingest(event)
    assert (again.state, again.duplicate) == (ACCEPTED, True)
    assert await world.verify() == 1


async def test_unusable_and_unpriced_events_wait_and_are_charged_once(world: World) -> None:
    await world.asset("USD")
    await world.park(unusable=True, unpriced=True)
    await world.meter("tokens", value="tokens", dimensions=["model"])
    matrix = price_pb2.Price(
        asset="USD",
        matrix=price_pb2.MatrixModel(
            dimensions=["model"],
            cells=[
                price_pb2.MatrixCell(
                    values={"model": "small"},
                    unit=price_pb2.UnitModel(unit_price="1"),
                )
            ],
        ),
    )
    await world.plan("matrix", {"tokens": matrix})
    await world.customer("acme", "matrix", USD="10")

    unusable, unpriced, good = await world.ingest(
        world.event("acme", event_id="a", tokens="many", model="small"),
        world.event("acme", event_id="b", tokens="2", model="large"),
        world.event("acme", event_id="c", tokens="2", model="small"),
    )

    assert (unusable.refusal.reason, unpriced.refusal.reason) == (
        "PROPERTY_UNUSABLE",
        "UNPRICED_USAGE",
    )
    assert [o.state for o in (unusable, unpriced, good)] == [PARKED, PARKED, ACCEPTED]
    tried = await world.replay("a", "b", "unknown")
    assert [o.state for o in tried] == [PARKED, PARKED]
    assert [each.attempts >= 1 for each in await world.parked()] == [True, True]
    assert await world.balances("acme") == {"USD": "8"}
    assert await world.verify() == 1


async def test_a_discarded_event_frees_its_id_for_the_event_as_it_should_have_been(
    world: World,
) -> None:
    await world.park(unusable=True)
    await world.meter("tokens", value="tokens")
    await world.customer("acme")
    await world.ingest(world.event("acme", event_id="e", tokens="many"))

    request = parking_pb2.DiscardParkedEventsRequest(event_ids=["e", "none"], reason="typing error")
    gone = await world.call(world.parking.DiscardParkedEvents, request)
    again = await world.call(world.parking.DiscardParkedEvents, request)
    (right,) = await world.ingest(world.event("acme", event_id="e", tokens="5"))

    assert (list(gone.event_ids), list(again.event_ids)) == (["e"], [])
    assert (right.state, right.duplicate) == (ACCEPTED, False)
    assert await world.parked() == []
    assert await world.quantity("acme", "tokens") == "5"
    assert await world.verify() == 1
