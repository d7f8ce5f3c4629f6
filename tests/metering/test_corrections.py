"""Events amended and deprecated: usage is counted anew, and money follows exactly."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.metering.world import ACCEPTED, REJECTED, World, graduated, unit_price
from tollgate.metering.v1 import correction_pb2, event_pb2
from tollgate.type.v1 import price_pb2
from tollgate.wallet.v1 import wallet_pb2

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


async def test_an_amendment_that_costs_less_returns_the_difference(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="100")
    sent = await world.ingest(world.event("acme", event_id="e", tokens="5"))

    (outcome,) = await world.amend(world.event("acme", event_id="e", tokens="2"))

    assert outcome.state == APPLIED
    assert [(one.charge_id, one.amount.value) for one in outcome.returns] == [
        (sent[0].charges[0].charge_id, "3")
    ]
    assert await world.balances("acme") == {"USD": "98"}
    assert await world.quantity("acme", "tokens") == "2"
    assert await world.verify() == 2


async def test_amended_and_amended_back_is_as_never_amended(world: World) -> None:
    await prepaid(world, graduated("USD", ("10", "3"), ("", "1")))
    await world.customer("acme", "prepaid", USD="100")
    event = world.event("acme", event_id="e", tokens="6")
    await world.ingest(event, world.event("acme", tokens="7"))
    before = await world.balances("acme")

    for tokens in ("20", "1", "0", "6"):
        (outcome,) = await world.amend(world.event("acme", event_id="e", tokens=tokens))
        assert outcome.state == APPLIED

    assert await world.balances("acme") == before
    assert await world.quantity("acme", "tokens") == "13"
    assert await world.verify() == 6


async def test_a_deprecated_event_costs_nothing_and_later_ones_what_they_alone_cost(
    world: World,
) -> None:
    # The first ten units are dear: without the first event the second one is.
    await prepaid(world, graduated("USD", ("10", "3"), ("", "1")))
    await world.customer("acme", "prepaid", USD="100")
    await world.ingest(
        world.event("acme", event_id="wrong", tokens="10"), world.event("acme", tokens="5")
    )
    assert await world.balances("acme") == {"USD": "65"}

    (outcome,) = await world.deprecate("wrong")

    assert [one.amount.value for one in outcome.returns] == ["20"]
    assert await world.balances("acme") == {"USD": "85"}
    assert await world.quantity("acme", "tokens") == "5"
    found = await world.call(world.events.GetEvent, event_pb2.GetEventRequest(event_id="wrong"))
    assert found.outcome.state == event_pb2.EVENT_STATE_DEPRECATED
    (again,) = await world.ingest(world.event("acme", event_id="wrong", tokens="10"))
    assert (again.state, again.duplicate) == (ACCEPTED, True)
    (repeat,) = await world.ingest(world.event("acme", event_id="anew", tokens="10"))
    assert repeat.charges[0].amount.value == "20"
    assert await world.verify() == 3


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


async def test_the_trail_keeps_every_form_of_an_event(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="100")
    await world.ingest(world.event("acme", event_id="e", tokens="5"))
    await world.amend(world.event("acme", event_id="e", tokens="7"), reason="miscounted")
    await world.deprecate("e", reason="a test run")

    trail = []
    token = ""
    while True:
        answer = await world.call(
            world.corrections.ListEventRevisions,
            correction_pb2.ListEventRevisionsRequest(event_id="e", page_size=2, page_token=token),
        )
        trail += answer.revisions
        token = answer.next_page_token
        if not token:
            break

    told = [(one.revision, one.event.properties["tokens"], one.reason) for one in trail]
    assert told == [(0, "5", ""), (1, "7", "miscounted"), (2, "7", "a test run")]
    assert [c.amount.value for c in trail[1].charges] == ["2"]
    assert sorted(one.amount.value for one in trail[2].returns) == ["2", "5"]


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


async def test_prices_that_look_at_each_event_are_counted_anew(world: World) -> None:
    await world.asset("USD")
    await world.meter("payments", value="value")
    fee = price_pb2.Price(
        asset="USD",
        percentage=price_pb2.PercentageModel(rate="0.1", fixed_fee="1", free_events=1),
    )
    await world.plan("fees", {"payments": fee})
    await world.customer("acme", "fees", USD="1000")
    await world.ingest(
        *(
            world.event("acme", event_id=name, value=value)
            for name, value in (("first", "100"), ("second", "200"), ("third", "300"))
        )
    )
    # The first is free; the others cost 21 and 31.
    assert await world.balances("acme") == {"USD": "948"}

    await world.amend(world.event("acme", event_id="second", value="100"))
    assert await world.balances("acme") == {"USD": "958"}
    await world.deprecate("first")
    # Now the second is the free one; what was paid for it is not the first's to return.
    assert await world.verify() == 4
    await world.deprecate("third", "second")
    assert await world.balances("acme") == {"USD": "1000"}
    assert await world.verify() == 4


async def test_what_a_lenient_wallet_never_paid_is_forgiven_first(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid")
    wallet_id = await world.wallet("acme", wallet_pb2.SHORTFALL_MODE_ALLOW)
    await world.fund(wallet_id, "USD", "7")
    await world.ingest(world.event("acme", event_id="e", tokens="10"))

    (outcome,) = await world.amend(world.event("acme", event_id="e", tokens="5"))

    assert [one.amount.value for one in outcome.returns] == ["2"]
    assert await world.balances("acme") == {"USD": "2"}
    assert await world.verify() == 2
