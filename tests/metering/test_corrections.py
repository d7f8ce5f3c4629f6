"""Events amended and deprecated: usage is counted anew, and money follows exactly."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.metering.world import REJECTED, World, unit_price
from tollgate.metering.v1 import correction_pb2, event_pb2
from tollgate.type.v1 import price_pb2

APPLIED = correction_pb2.CORRECTION_STATE_APPLIED
REFUSED = correction_pb2.CORRECTION_STATE_REJECTED
INVALID = correction_pb2.CORRECTION_STATE_INVALID


async def prepaid(world: World, price: price_pb2.Price | None = None) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens", dimensions=["region"])
    await world.plan("prepaid", {"tokens": price or unit_price("USD", "1")})


async def test_an_amendment_that_costs_more_charges_the_difference(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="100")
    await world.ingest(world.event("acme", event_id="e", tokens="5", region="eu"))

    (outcome,) = await world.amend(world.event("acme", event_id="e", tokens="8", region="us"))

    assert (outcome.state, outcome.revision) == (APPLIED, 1)
    assert [charge.amount.value for charge in outcome.charges] == ["3"]
    assert await world.balances("acme") == {"USD": "92"}
    assert await world.quantity("acme", "tokens") == "8"
    found = await world.call(world.events.GetEvent, event_pb2.GetEventRequest(event_id="e"))
    assert found.event.properties["region"] == "us"
    assert found.revision == 1
    assert await world.verify() == 2


async def test_a_correction_that_the_wallet_cannot_pay_leaves_the_event_as_it_was(
    world: World,
) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    await world.ingest(world.event("acme", event_id="e", tokens="8", region="eu"))

    (outcome,) = await world.amend(
        world.event("acme", event_id="e", tokens="80", region="us"), key="once"
    )

    assert outcome.state == REFUSED
    assert outcome.refusal.reason == "INSUFFICIENT_FUNDS"
    assert await world.balances("acme") == {"USD": "2"}
    assert await world.quantity("acme", "tokens") == "8"
    (again,) = await world.amend(
        world.event("acme", event_id="e", tokens="80", region="us"), key="once"
    )
    assert (again.state, again.duplicate) == (REFUSED, True)
    (smaller,) = await world.amend(world.event("acme", event_id="e", tokens="9", region="us"))
    assert (smaller.state, smaller.revision) == (APPLIED, 2)
    assert await world.balances("acme") == {"USD": "1"}
    assert await world.verify() == 3


async def test_a_request_is_answered_once_and_its_key_is_no_ones_else(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="100")
    await world.ingest(
        world.event("acme", event_id="a", tokens="5"), world.event("acme", event_id="b", tokens="5")
    )
    amended = world.event("acme", event_id="a", tokens="6")

    (first,) = await world.amend(amended, key="k")
    (second,) = await world.amend(amended, key="k")
    (conflict,) = await world.amend(world.event("acme", event_id="a", tokens="7"), key="k")
    twice = await world.amend(
        world.event("acme", event_id="b", tokens="1"),
        world.event("acme", event_id="b", tokens="2"),
    )

    assert (first.duplicate, second.duplicate) == (False, True)
    assert [c.amount.value for c in second.charges] == ["1"]
    assert conflict.refusal.reason == "IDEMPOTENCY_CONFLICT"
    assert [one.state for one in twice] == [APPLIED, INVALID]
    assert await world.quantity("acme", "tokens") == "7"
    assert await world.verify() == 4


async def test_what_cannot_be_corrected_is_refused_by_itself(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    await world.customer("other", "prepaid", USD="10")
    await world.ingest(
        world.event("acme", event_id="good", tokens="1"),
        world.event("acme", event_id="gone", tokens="1"),
    )
    (dry,) = await world.ingest(world.event("acme", event_id="dry", tokens="100"))
    assert dry.state == REJECTED
    await world.deprecate("gone")

    amended = await world.amend(
        world.event("acme", event_id="unknown", tokens="1"),
        world.event("other", event_id="good", tokens="1"),
        world.event("acme", event_id="dry", tokens="1"),
        world.event("acme", event_id="gone", tokens="1"),
        world.event("acme", event_id="good", tokens="many"),
        world.event("acme", event_id="good", tokens="1", time=world.now - timedelta(days=40)),
        world.event("acme", name="unheard of", event_id="good", tokens="1"),
        world.event("acme", event_id="good", tokens="3"),
    )

    assert [one.refusal.reason for one in amended] == [
        "NOT_FOUND",
        "INVALID_VALUE",
        "EVENT_NOT_COUNTED",
        "EVENT_NOT_COUNTED",
        "PROPERTY_UNUSABLE",
        "EVENT_TIME_OUT_OF_RANGE",
        "EVENT_UNMATCHED",
        "",
    ]
    assert amended[1].refusal.facts["field"] == "items[1].event.customer_id"
    assert await world.balances("acme") == {"USD": "7"}
    assert await world.verify() == 4


@pytest.mark.parametrize("maximum", [False, True])
async def test_usage_billed_on_the_invoice_is_adjusted(world: World, maximum: bool) -> None:
    await world.meter("tokens", value="tokens", maximum=maximum)
    await world.plan("arrears", {"tokens": unit_price("USD", "1")}, from_wallet=False)
    await world.customer("acme", "arrears")
    await world.ingest(
        world.event("acme", event_id="big", tokens="50"),
        world.event("acme", event_id="small", tokens="2"),
    )

    await world.amend(world.event("acme", event_id="big", tokens="9"))
    assert await world.quantity("acme", "tokens") == ("9" if maximum else "11")
    assert await world.verify() == 3
    await world.deprecate("big")
    assert await world.quantity("acme", "tokens") == "2"
    await world.amend(
        world.event("acme", event_id="small", tokens="3", time=world.now - timedelta(hours=30))
    )
    assert await world.quantity("acme", "tokens") == "3"
    assert await world.verify() == 4
