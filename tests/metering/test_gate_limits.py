"""The gate's limits, caps and parts: what fits is granted, and a denial says what would pass."""

from __future__ import annotations

import asyncio

import pytest

from tests.metering.conftest import free_address
from tests.metering.gating import budget, limit, prepaid, reasons, remedies, spent
from tests.metering.world import ACCEPTED, REJECTED, World, graduated
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tollgate.invoicing.v1 import catalog_pb2
from tollgate.metering.v1 import gate_pb2, gate_pb2_grpc


async def test_usage_fits_the_limit_of_an_entitlement_or_is_denied(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="1000")
    await limit(world, "acme", "100")
    await world.ingest(world.event("acme", tokens="40"))

    first = await world.authorize("acme", tokens="35")
    (standing,) = first.allowed.limits
    assert (standing.used, standing.reserved, standing.remaining) == ("40", "35", "25")
    assert standing.hard
    assert not first.allowed.final_grant
    denied = await world.authorize("acme", tokens="26")
    assert reasons(denied) == ["LIMIT_REACHED"]
    facts = denied.denied.reasons[0].facts
    assert (facts["feature"], facts["meter"], facts["remaining"]) == ("quota", "tokens", "25")
    assert facts["reset_time"] == standing.reset_time.ToDatetime().isoformat() + "+00:00"
    assert [kind for kind, _ in remedies(denied)] == ["ASK_LESS", "WAIT", "RAISE_LIMIT"]
    assert dict(remedies(denied))["RAISE_LIMIT"] == "1"
    last = await world.authorize("acme", tokens="25")
    assert last.allowed.final_grant, "nothing is left of the limit"

    (used,) = await world.ingest(
        world.event("acme", authorization=first.allowed.authorization_id, tokens="5")
    )
    assert used.state == ACCEPTED
    freed = await world.authorize("acme", tokens="30")
    assert freed.WhichOneof("answer") == "allowed", "what was not used is free again"


async def test_a_soft_limit_lets_through_and_tells_the_overage(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="1000")
    await limit(world, "acme", "10", enforcement=catalog_pb2.LIMIT_ENFORCEMENT_SOFT)
    answer = await world.authorize("acme", tokens="25")
    (standing,) = answer.allowed.limits
    assert (standing.overage, standing.remaining, standing.hard) == ("15", "0", False)
    assert not answer.allowed.final_grant


async def test_a_rolling_window_opens_with_its_first_use(
    world: World, metering_database: FreshDatabase
) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="1000")
    rolling = {"reset": catalog_pb2.LIMIT_RESET_ROLLING, "rolling_seconds": 18_000}
    await limit(world, "acme", "100", **rolling)
    # Before the window opens: not in it, though it may be in its first hour.
    await world.ingest(world.event("acme", tokens="90"))
    first = await world.authorize("acme", tokens="70")
    assert first.WhichOneof("answer") == "allowed"
    (standing,) = first.allowed.limits
    opened = standing.reset_time.seconds - 18_000
    assert standing.used == "0"
    second = await world.authorize("acme", tokens="40")
    assert reasons(second) == ["LIMIT_REACHED"]
    third = await world.authorize("acme", tokens="30")
    assert third.allowed.limits[0].reset_time.seconds - 18_000 == opened


async def test_concurrent_authorizations_never_pass_a_limit(
    world: World, services: Services, metering_database: FreshDatabase
) -> None:
    """Two processes' worth of lanes, one limit: exactly what fits is granted."""
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="100000")
    await limit(world, "acme", "100")
    address = free_address()
    other = await services.run("metering", metering_database, listen=address)
    second = gate_pb2_grpc.GateServiceStub(await services.channel(other))

    async def ask(number: int) -> gate_pb2.AuthorizeUsageResponse:
        request = gate_pb2.AuthorizeUsageRequest(
            request_id=f"r{number}",
            customer_id="acme",
            estimate=gate_pb2.UsageEstimate(name="call", properties={"tokens": "15"}),
        )
        stub = (world.gate, second)[number % 2]
        answer = await world.call(stub.AuthorizeUsage, request)
        assert isinstance(answer, gate_pb2.AuthorizeUsageResponse)
        return answer

    answers = await asyncio.gather(*(ask(number) for number in range(24)))
    allowed = [answer for answer in answers if answer.WhichOneof("answer") == "allowed"]
    assert len(allowed) == 6
    assert {reason for answer in answers for reason in reasons(answer)} == {"LIMIT_REACHED"}
    assert await world.balances("acme") == {"USD": str(100_000 - 90)}, "no hold is left behind"


async def test_spend_caps_hold_at_the_gate_and_on_events(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="1000")
    await budget(world, "acme", "team", "50")
    await budget(world, "acme", "ann", "40", "team")

    allowed = (await world.authorize("acme", node="ann", tokens="30")).allowed
    assert allowed.node == "ann"
    assert await spent(world, "acme", "ann") == [("team", "0", "30"), ("ann", "0", "30")]
    denied = await world.authorize("acme", node="ann", tokens="11")
    assert reasons(denied) == ["SPEND_CAP_REACHED"]
    assert denied.denied.reasons[0].facts["node"] == "ann"
    assert [kind for kind, _ in remedies(denied)] == ["RAISE_CAP"], "time alone does not help"
    assert dict(remedies(denied))["RAISE_CAP"] == "1"
    taken, direct, over = await world.ingest(
        world.event("acme", authorization=allowed.authorization_id, tokens="25"),
        world.event("acme", node="team", tokens="20"),
        world.event("acme", node="ann", tokens="10"),
    )
    assert (taken.state, direct.state, over.state) == (ACCEPTED, ACCEPTED, REJECTED)
    assert over.refusal.reason == "SPEND_CAP_REACHED"
    assert over.refusal.facts["node"] == "team"
    assert await spent(world, "acme", "ann") == [("team", "45", "0"), ("ann", "25", "0")]
    assert await world.verify() == 3


@pytest.mark.parametrize(
    ("funds", "asked", "granted", "held"),
    [("25", "100", "17", "24"), ("10", "100", "10", "10"), ("11", "100", "10", "10")],
)
async def test_a_part_is_granted_exactly_through_the_tiers(
    world: World, funds: str, asked: str, granted: str, held: str
) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("tiers", {"tokens": graduated("USD", ("10", "1"), ("", "2"))})
    await world.customer("acme", "tiers", USD=funds)

    refused = await world.authorize("acme", tokens=asked)
    assert reasons(refused) == ["INSUFFICIENT_FUNDS"]
    assert [kind for kind, _ in remedies(refused)] == ["ADD_FUNDS"]
    answer = await world.authorize("acme", partial=True, tokens=asked)
    assert answer.allowed.granted.properties["tokens"] == granted
    assert answer.allowed.holds[0].amount.value == held
    assert answer.allowed.final_grant
    more = await world.authorize("acme", partial=True, tokens="5")
    assert reasons(more) == ["INSUFFICIENT_FUNDS"], "nothing whole is left"


async def test_a_part_is_what_limit_cap_and_funds_all_leave(world: World) -> None:
    await prepaid(world, price="2")
    await world.customer("acme", "prepaid", USD="100")
    await limit(world, "acme", "45")
    await budget(world, "acme", "ann", "31")
    limited = await world.authorize("acme", partial=True, tokens="60")
    assert limited.allowed.granted.properties["tokens"] == "45"
    assert limited.allowed.final_grant
    assert reasons(await world.authorize("acme", partial=True, tokens="60")) == ["LIMIT_REACHED"]
    request = gate_pb2.VoidAuthorizationRequest(authorization_id=limited.allowed.authorization_id)
    await world.call(world.gate.VoidAuthorization, request)
    capped = await world.authorize("acme", partial=True, node="ann", tokens="60")
    assert capped.allowed.granted.properties["tokens"] == "15"
    assert capped.allowed.holds[0].amount.value == "30"


async def test_every_denial_says_what_would_make_it_pass(world: World) -> None:
    await prepaid(world)
    await world.customer("poor", "prepaid", USD="3")
    assert remedies(await world.authorize("poor", tokens="4.5")) == [("ADD_FUNDS", "1.5")]
    assert remedies(await world.authorize("nobody", tokens="1")) == [("CREATE_CUSTOMER", "nobody")]
    assert remedies(await world.authorize("poor", feature="video", tokens="1")) == [
        ("GRANT_FEATURE", "video")
    ]
    assert remedies(await world.authorize("poor", name="other")) == [("SUBSCRIBE", "other")]
