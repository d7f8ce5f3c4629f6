"""What may come in as an event, and what is said of what may not."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest

from tests.metering.aging import age_receipts
from tests.metering.world import ACCEPTED, INVALID, SECONDS, World, stamp, unit_price
from tests.support.databases import FreshDatabase
from tests.support.services import credential
from tollgate.metering.v1 import event_pb2, meter_pb2


async def arrears(world: World) -> None:
    """Meters of tokens and calls, billed on the invoice."""
    await world.meter("tokens", value="tokens")
    await world.plan("arrears", {"tokens": unit_price("USD", "1")}, from_wallet=False)
    await world.customer("acme", "arrears")


async def test_each_faulty_event_is_refused_by_itself_and_the_others_stand(world: World) -> None:
    await arrears(world)
    many = {f"p{number}": "1" for number in range(51)}
    faulty = [
        (world.event("acme", name="unheard of"), "EVENT_UNMATCHED", "name"),
        (world.event("nobody", tokens="1"), "CUSTOMER_UNKNOWN", "customer_id"),
        (world.event("acme"), "PROPERTY_UNUSABLE", "properties.tokens"),
        (world.event("acme", tokens="many"), "PROPERTY_UNUSABLE", "properties.tokens"),
        (world.event("acme", tokens="-1"), "PROPERTY_UNUSABLE", "properties.tokens"),
        (world.event("acme", tokens="NaN"), "PROPERTY_UNUSABLE", "properties.tokens"),
        (world.event("acme", tokens="Infinity"), "PROPERTY_UNUSABLE", "properties.tokens"),
        (world.event("acme", tokens="1e3"), "PROPERTY_UNUSABLE", "properties.tokens"),
        (world.event("acme", tokens="1" * 21), "PROPERTY_UNUSABLE", "properties.tokens"),
        (
            world.event("acme", time=world.now - timedelta(days=36), tokens="1"),
            "EVENT_TIME_OUT_OF_RANGE",
            "event_time",
        ),
        (
            world.event("acme", time=world.now + timedelta(seconds=600), tokens="1"),
            "EVENT_TIME_OUT_OF_RANGE",
            "event_time",
        ),
        (
            event_pb2.Event(event_id="timeless", name="call", customer_id="acme"),
            "INVALID_VALUE",
            "event_time",
        ),
        (world.event("acme", event_id="x" * 129, tokens="1"), "INVALID_VALUE", "event_id"),
        (world.event("acme", event_id="a\nb", tokens="1"), "INVALID_VALUE", "event_id"),
        (world.event("acme", name="n" * 129, tokens="1"), "INVALID_VALUE", "name"),
        (world.event("", tokens="1"), "INVALID_VALUE", "customer_id"),
        (world.event("acme", tokens="1", **many), "INVALID_VALUE", "properties"),
        (world.event("acme", tokens="1", note="x" * 513), "INVALID_VALUE", "properties.note"),
        (world.event("acme", tokens="1", note="a\x00b"), "INVALID_VALUE", "properties.note"),
        (world.event("acme", authorization="1", tokens="1"), "INVALID_VALUE", "authorization_id"),
        (
            world.event("acme", authorization="00000000-0000-7000-8000-000000000000", tokens="1"),
            "NOT_FOUND",
            "authorization_id",
        ),
    ]
    good = world.event("acme", tokens="7")

    outcomes = await world.ingest(
        good, *(event for event, _, _ in faulty), world.event("acme", tokens="2")
    )

    assert (outcomes[0].state, outcomes[-1].state) == (ACCEPTED, ACCEPTED)
    for index, (_, reason, field) in enumerate(faulty, 1):
        outcome = outcomes[index]
        assert outcome.state == INVALID
        assert outcome.refusal.reason == reason, (index, outcome)
        assert outcome.refusal.facts["field"] == f"events[{index}].{field}", (index, outcome)
    assert await world.quantity("acme", "tokens") == "9"
    assert await world.verify() == 2


async def test_an_invalid_event_may_be_sent_again_corrected(world: World) -> None:
    await arrears(world)
    (wrong,) = await world.ingest(world.event("acme", event_id="late fix", tokens="x"))
    (right,) = await world.ingest(world.event("acme", event_id="late fix", tokens="3"))
    assert (wrong.state, right.state, right.duplicate) == (INVALID, ACCEPTED, False)
    assert await world.quantity("acme", "tokens") == "3"


async def test_a_batch_is_refused_as_a_whole_only_for_its_size(world: World) -> None:
    await arrears(world)
    for count, reason in ((0, "INVALID_ARGUMENT"), (1001, "INVALID_ARGUMENT")):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await world.ingest(*(world.event("acme", tokens="1") for _ in range(count)))
        assert failure.value.code().name == reason
    assert await world.quantity("acme", "tokens") == "0"


async def test_filters_and_dimensions_say_what_a_meter_counts(world: World) -> None:
    only_paid = meter_pb2.PropertyFilter(
        property="tier", operator=meter_pb2.FILTER_OPERATOR_NOT_IN, values=["free"]
    )
    named = meter_pb2.PropertyFilter(property="model", operator=meter_pb2.FILTER_OPERATOR_EXISTS)
    await world.meter("paid", filters=[only_paid, named])
    await world.meter("peak", value="size", maximum=True)
    await world.customer("acme")

    outcomes = await world.ingest(
        world.event("acme", size="3", tier="free", model="a"),
        world.event("acme", size="9", tier="pro", model="a"),
        world.event("acme", size="4", model="b"),
        world.event("acme", size="5"),
    )

    assert {outcome.state for outcome in outcomes} == {ACCEPTED}
    assert await world.quantity("acme", "paid") == "2"
    assert await world.quantity("acme", "peak") == "9"
    assert await world.verify() == 4


async def test_a_meter_counts_from_its_creation_until_it_is_archived(world: World) -> None:
    await world.meter("first")
    await world.customer("acme")
    await world.ingest(world.event("acme"))
    await world.meter("second")
    await world.ingest(world.event("acme"))
    await world.call(
        world.meters.ArchiveMeter,
        meter_pb2.ArchiveMeterRequest(request_id=world.key("archive"), code="first"),
    )
    await world.ingest(world.event("acme"))

    assert await world.quantity("acme", "first") == "2"
    assert await world.quantity("acme", "second") == "2"
    assert await world.verify() == 3


async def test_a_stream_answers_each_batch_in_turn(world: World) -> None:
    await arrears(world)
    batches = [
        event_pb2.StreamEventsRequest(
            events=[world.event("acme", event_id=f"{n}-{m}", tokens="1") for m in range(3)]
        )
        for n in range(4)
    ]
    stream = world.events.StreamEvents(
        iter(batches), timeout=SECONDS, metadata=credential(world.tenant_id)
    )
    answered = [[outcome.event_id for outcome in answer.outcomes] async for answer in stream]
    assert answered == [[f"{n}-{m}" for m in range(3)] for n in range(4)]
    assert await world.quantity("acme", "tokens") == "12"


async def test_a_stream_answers_while_it_waits_for_more(world: World) -> None:
    await arrears(world)
    stream = world.events.StreamEvents(timeout=SECONDS, metadata=credential(world.tenant_id))
    for number in range(3):
        event = world.event("acme", event_id=f"turn {number}", tokens="1")
        await stream.write(event_pb2.StreamEventsRequest(events=[event]))
        answer = await stream.read()
        assert [outcome.event_id for outcome in answer.outcomes] == [f"turn {number}"]
    # Many batches without reading an answer: they are held back by the transport, none is lost.
    for _ in range(50):
        events = [world.event("acme", tokens="1"), world.event("acme", tokens="x")]
        await stream.write(event_pb2.StreamEventsRequest(events=events))
    await stream.done_writing()
    answers = [await stream.read() for _ in range(50)]
    assert await stream.read() is grpc.aio.EOF
    states = [[outcome.state for outcome in answer.outcomes] for answer in answers]
    assert states == [[ACCEPTED, INVALID]] * 50
    assert await world.quantity("acme", "tokens") == "53"
    assert await world.verify() == 53


async def test_an_id_is_unique_whatever_the_day_it_was_received(
    world: World, metering_database: FreshDatabase
) -> None:
    await arrears(world)
    event = world.event("acme", event_id="old", tokens="3", time=world.now - timedelta(days=34))
    await world.ingest(event)
    await age_receipts(metering_database, timedelta(days=33))

    again, conflict = await world.ingest(
        event, world.event("acme", event_id="old", tokens="4", time=world.now)
    )
    (moved,) = await world.ingest(world.event("acme", event_id="old", tokens="3", time=world.now))

    assert (again.state, again.duplicate) == (ACCEPTED, True)
    assert conflict.refusal.reason == "EVENT_CONFLICT"
    # The same figures at another time are another content.
    assert moved.refusal.reason == "EVENT_CONFLICT"
    assert await world.quantity("acme", "tokens") == "3"
    assert await world.verify() == 1


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (timedelta(days=34, hours=23, minutes=59), ""),
        (timedelta(days=35, minutes=1), "EVENT_TIME_OUT_OF_RANGE"),
        (-timedelta(seconds=240), ""),
        (-timedelta(seconds=420), "EVENT_TIME_OUT_OF_RANGE"),
    ],
)
async def test_the_window_has_sharp_edges(world: World, age: timedelta, reason: str) -> None:
    await arrears(world)
    (outcome,) = await world.ingest(world.event("acme", time=world.now - age, tokens="1"))
    assert outcome.refusal.reason == reason


async def test_an_event_can_be_looked_at_with_what_became_of_it(world: World) -> None:
    await arrears(world)
    sent = world.event("acme", event_id="look", tokens="3", region="eu")
    sent.subject = "agent 7"
    await world.ingest(sent)

    found = await world.call(world.events.GetEvent, event_pb2.GetEventRequest(event_id="look"))

    assert found.event == sent
    assert found.outcome.state == ACCEPTED
    assert found.receive_time.seconds >= stamp(world.now).seconds
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.call(world.events.GetEvent, event_pb2.GetEventRequest(event_id="none"))
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND


async def test_another_tenant_sees_and_changes_nothing(world: World) -> None:
    await arrears(world)
    await world.ingest(world.event("acme", event_id="mine", tokens="3"))
    mine, world.tenant_id = world.tenant_id, type(world.tenant_id)(int=7)

    (outcome,) = await world.ingest(world.event("acme", event_id="mine", tokens="4"))
    assert outcome.refusal.reason == "CUSTOMER_UNKNOWN"
    with pytest.raises(grpc.aio.AioRpcError):
        await world.call(world.events.GetEvent, event_pb2.GetEventRequest(event_id="mine"))
    assert await world.quantity("acme", "tokens") == "0"

    world.tenant_id = mine
    assert await world.quantity("acme", "tokens") == "3"
