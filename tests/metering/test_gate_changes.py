"""Authorizations between their answer and their end: extended, increased, captured in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from tests.metering.gating import extend, increase, limit, look, prepaid, reasons
from tests.metering.world import ACCEPTED, INVALID, REJECTED, World, graduated
from tests.support.refusals import refuses
from tollgate.metering.v1 import gate_pb2


async def test_an_authorization_is_captured_in_parts(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="20")
    named = (await world.authorize("acme", tokens="10")).allowed.authorization_id

    first, second, third = await world.ingest(
        world.event("acme", event_id="a", authorization=named, more=True, tokens="4"),
        world.event("acme", event_id="b", authorization=named, more=True, tokens="3"),
        world.event("acme", event_id="c", authorization=named, tokens="1"),
    )
    (late,) = await world.ingest(
        world.event("acme", event_id="d", authorization=named, more=True, tokens="1")
    )
    (again,) = await world.ingest(
        world.event("acme", event_id="a", authorization=named, more=True, tokens="4")
    )
    assert [first.state, second.state, third.state] == [ACCEPTED] * 3
    assert late.state == INVALID
    assert late.refusal.facts["state"] == "CAPTURED"
    assert again.duplicate
    assert (await look(world, named)).state == gate_pb2.AUTHORIZATION_STATE_CAPTURED
    assert await world.balances("acme") == {"USD": "12"}
    assert await world.verify() == 3


async def test_what_parts_leave_stays_set_aside_until_it_is_voided(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("tiers", {"tokens": graduated("USD", ("10", "1"), ("", "2"))})
    await world.customer("acme", "tiers", USD="100")
    await limit(world, "acme", "50")
    named = (await world.authorize("acme", tokens="10")).allowed.authorization_id

    (part,) = await world.ingest(world.event("acme", authorization=named, more=True, tokens="4"))
    assert part.state == ACCEPTED
    assert await world.balances("acme") == {"USD": "90"}
    other = (await world.authorize("acme", tokens="1")).allowed
    assert other.holds[0].amount.value == "2", "the rest of the tier is still reserved"
    assert (other.limits[0].used, other.limits[0].reserved) == ("4", "7")
    request = gate_pb2.VoidAuthorizationRequest(authorization_id=named)
    await world.call(world.gate.VoidAuthorization, request)
    assert await world.balances("acme") == {"USD": "94"}
    assert await world.verify() == 1


async def test_a_part_above_what_is_held_is_refused_and_leaves_the_rest(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="20")
    answer = await world.authorize("acme", over_use=gate_pb2.OVER_USE_REJECT, tokens="10")
    named = answer.allowed.authorization_id
    (over,) = await world.ingest(world.event("acme", authorization=named, more=True, tokens="11"))
    (rest,) = await world.ingest(world.event("acme", authorization=named, tokens="10"))
    assert (over.state, rest.state) == (REJECTED, ACCEPTED)
    assert await world.balances("acme") == {"USD": "10"}
    assert await world.verify() == 2


async def test_an_event_continues_an_authorization_only(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="20")
    (wrong,) = await world.ingest(world.event("acme", more=True, tokens="1"))
    assert wrong.refusal.facts["field"] == "events[0].authorization_continues"


async def test_an_authorization_is_extended_and_never_shortened(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="20")
    allowed = (await world.authorize("acme", seconds=600, tokens="10")).allowed
    named = allowed.authorization_id
    longer = await extend(world, named, 3_600, key="once")
    assert longer.expire_time.seconds > allowed.expire_time.seconds + 2_900
    same = await extend(world, named, 60)
    assert same.expire_time == longer.expire_time
    assert await extend(world, named, 3_600, key="once") == longer
    with refuses("IDEMPOTENCY_CONFLICT", grpc.StatusCode.ALREADY_EXISTS):
        await extend(world, named, 60, key="once")
    assert await world.balances("acme") == {"USD": "10"}
    await world.ingest(world.event("acme", authorization=named, tokens="10"))
    with refuses("AUTHORIZATION_ENDED", grpc.StatusCode.FAILED_PRECONDITION):
        await extend(world, named, 60)
    assert await extend(world, named, 3_600, key="once") == longer, "the first answer stands"


async def test_an_authorization_is_increased_at_the_margin(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("tiers", {"tokens": graduated("USD", ("10", "1"), ("", "2"))})
    await world.customer("acme", "tiers", USD="30")
    await limit(world, "acme", "20")
    named = (await world.authorize("acme", tokens="8")).allowed.authorization_id

    grown = (await increase(world, named, key="once", tokens="4")).allowed
    assert [hold.amount.value for hold in grown.holds] == ["14"], "8 + 2 at 1 and 2 at 2"
    assert grown.granted.properties["tokens"] == "12"
    assert (await increase(world, named, key="once", tokens="4")).allowed == grown
    assert await world.balances("acme") == {"USD": "16"}
    over = await increase(world, named, tokens="9")
    assert reasons(over) == ["LIMIT_REACHED"]
    assert (await look(world, named)).holds[0].amount.value == "14"
    part = (await increase(world, named, partial=True, seconds=3_000, tokens="9")).allowed
    assert part.granted.properties["tokens"] == "20"
    assert part.final_grant
    assert part.expire_time.seconds > grown.expire_time.seconds

    (used,) = await world.ingest(world.event("acme", authorization=named, tokens="20"))
    assert used.state == ACCEPTED
    assert [charge.shortfall for charge in used.charges] == ["0"]
    assert await world.balances("acme") == {"USD": "0"}
    with refuses("AUTHORIZATION_ENDED", grpc.StatusCode.FAILED_PRECONDITION):
        await increase(world, named, tokens="1")
    assert await world.verify() == 1


async def test_an_increase_that_funds_do_not_cover_changes_nothing(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="20")
    named = (await world.authorize("acme", tokens="8")).allowed.authorization_id
    denied = await increase(world, named, key="more", tokens="13")
    assert reasons(denied) == ["INSUFFICIENT_FUNDS"]
    assert await world.balances("acme") == {"USD": "12"}
    part = (await increase(world, named, partial=True, tokens="13")).allowed
    assert part.granted.properties["tokens"] == "20"
    await world.fund(await world.wallet("acme"), "USD", "100")
    assert reasons(await increase(world, named, key="more", tokens="13")) == ["INSUFFICIENT_FUNDS"]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("need", {}),
        ("partial_allowed", {"partial_allowed": True, "maximum": {"asset": "USD", "value": "1"}}),
        ("quantity_property", {"quantity_property": "x", "estimate": {"name": "call"}}),
        ("authorization_id", {"authorization_id": "x"}),
    ],
)
async def test_an_increase_that_cannot_be_is_refused(
    world: World, field: str, fields: dict[str, object]
) -> None:
    request = gate_pb2.IncreaseAuthorizationRequest(
        request_id="r", authorization_id="00000000-0000-7000-8000-000000000000"
    )
    request.MergeFrom(gate_pb2.IncreaseAuthorizationRequest(**fields))  # type: ignore[arg-type]
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
        await world.call(world.gate.IncreaseAuthorization, request)
    assert refused.facts["field"] == field


async def test_a_stream_answers_its_batches_in_turn(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")

    async def batches() -> AsyncIterator[gate_pb2.StreamAuthorizationsRequest]:
        for batch in range(6):
            yield gate_pb2.StreamAuthorizationsRequest(
                requests=[
                    gate_pb2.AuthorizeUsageRequest(
                        request_id=f"{batch}/{number}",
                        customer_id="acme",
                        estimate=gate_pb2.UsageEstimate(name="call", properties={"tokens": "1"}),
                    )
                    for number in range(2)
                ]
            )

    answered = [
        answer.WhichOneof("answer")
        async for response in world.stream(world.gate.StreamAuthorizations, batches())
        for answer in response.responses
    ]
    assert answered == ["allowed"] * 10 + ["denied"] * 2
