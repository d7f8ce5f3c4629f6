"""The charge on the event: one outcome, both or neither, exactly once."""

from __future__ import annotations

from tests.metering.world import ACCEPTED, INVALID, REJECTED, World, graduated, unit_price
from tollgate.wallet.v1 import wallet_pb2


async def prepaid(world: World, price: str = "0.000001") -> None:
    """A meter of tokens, and a plan that charges each of them in USD."""
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("prepaid", {"tokens": unit_price("USD", price)})


async def test_an_event_is_counted_and_charged_as_it_arrives(world: World) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")

    (outcome,) = await world.ingest(world.event("acme", tokens="1500"))

    assert outcome.state == ACCEPTED
    (charge,) = outcome.charges
    assert (charge.meter, charge.quantity) == ("tokens", "1500")
    assert (charge.amount.asset, charge.amount.value) == ("USD", "0.0015")
    assert charge.available == "9.9985"
    assert await world.balances("acme") == {"USD": "9.9985"}
    assert await world.quantity("acme", "tokens") == "1500"
    assert await world.verify() == 1


async def test_a_repeated_event_is_charged_once_and_answers_the_first_outcome(
    world: World,
) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    event = world.event("acme", event_id="seen before", tokens="1000000")

    first, inside = await world.ingest(event, event)
    (again,) = await world.ingest(event)

    assert (first.state, inside.state, again.state) == (ACCEPTED, ACCEPTED, ACCEPTED)
    assert (first.duplicate, inside.duplicate, again.duplicate) == (False, True, True)
    assert again.charges[0].charge_id == first.charges[0].charge_id
    assert again.charges[0].amount == first.charges[0].amount
    assert await world.balances("acme") == {"USD": "9"}
    assert await world.verify() == 1


async def test_the_same_id_with_other_content_is_a_conflict_and_the_first_stands(
    world: World,
) -> None:
    await prepaid(world)
    await world.customer("acme", "prepaid", USD="10")
    await world.customer("other", "prepaid", USD="10")
    await world.ingest(world.event("acme", event_id="one", tokens="1"))

    conflicts = await world.ingest(
        world.event("acme", event_id="one", tokens="2"),
        world.event("other", event_id="one", tokens="1"),
        world.event("acme", event_id="two", tokens="1"),
        world.event("acme", event_id="two", tokens="3"),
    )

    assert [outcome.state for outcome in conflicts] == [INVALID, INVALID, ACCEPTED, INVALID]
    for place in (0, 1, 3):
        assert conflicts[place].refusal.reason == "EVENT_CONFLICT"
        assert conflicts[place].refusal.facts["field"] == f"events[{place}].event_id"
    assert await world.quantity("acme", "tokens") == "2"
    assert await world.verify() == 2


async def test_a_dry_wallet_rejects_the_event_and_its_usage_is_taken_back(world: World) -> None:
    await prepaid(world, "1")
    await world.customer("acme", "prepaid", USD="10")

    outcomes = await world.ingest(
        world.event("acme", tokens="6"),
        world.event("acme", event_id="too much", tokens="5"),
        world.event("acme", tokens="4"),
    )

    assert [outcome.state for outcome in outcomes] == [ACCEPTED, REJECTED, ACCEPTED]
    refusal = outcomes[1].refusal
    assert refusal.reason == "INSUFFICIENT_FUNDS"
    assert (refusal.facts["available"], refusal.facts["needed"]) == ("4", "5")
    assert await world.quantity("acme", "tokens") == "10"
    assert await world.balances("acme") == {"USD": "0"}
    (again,) = await world.ingest(world.event("acme", event_id="too much", tokens="5"))
    assert (again.state, again.duplicate) == (REJECTED, True)
    assert again.refusal == refusal
    assert await world.verify() == 3


async def test_after_a_rejection_the_next_charge_makes_the_sum_right_again(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    # The first ten units are dear: an event priced beyond them is cheap only if they were used.
    await world.plan("tiers", {"tokens": graduated("USD", ("10", "3"), ("", "1"))})
    await world.customer("acme", "tiers", USD="20")

    rejected, cheap = await world.ingest(
        world.event("acme", tokens="10"), world.event("acme", tokens="5")
    )
    (corrected,) = await world.ingest(world.event("acme", tokens="1"))

    # 10 units cost 30 and are refused; 5 units were then priced at 1 each although they are now
    # the first ones; the event after that pays what is missing: C(6) − 5 = 18 − 5.
    assert (rejected.state, cheap.state, corrected.state) == (REJECTED, ACCEPTED, ACCEPTED)
    assert cheap.charges[0].amount.value == "5"
    assert corrected.charges[0].amount.value == "13"
    assert await world.balances("acme") == {"USD": "2"}
    assert await world.verify() == 3


async def test_where_too_much_was_charged_later_events_are_free_until_it_is_used_up(
    world: World,
) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("rising", {"tokens": graduated("USD", ("10", "1"), ("", "3"))})
    await world.customer("acme", "rising", USD="9")

    rejected, dear = await world.ingest(
        world.event("acme", tokens="10"), world.event("acme", tokens="2")
    )
    free, paid = await world.ingest(
        world.event("acme", tokens="3"), world.event("acme", tokens="2")
    )

    assert (rejected.state, dear.state) == (REJECTED, ACCEPTED)
    assert dear.charges[0].amount.value == "6"
    assert (free.charges[0].amount.value, free.charges[0].charge_id) == ("0", "")
    assert paid.charges[0].amount.value == "1"
    assert await world.verify() == 4


async def test_tiers_span_events(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    tiers = graduated("USD", ("1000", "0.10"), ("10000", "0.05"), ("", "0.01"))
    await world.plan("tiers", {"tokens": tiers})
    await world.customer("acme", "tiers", USD="1000")

    outcomes = [
        *await world.ingest(world.event("acme", tokens="900")),
        *await world.ingest(world.event("acme", tokens="200"), world.event("acme", tokens="13900")),
    ]

    assert [o.charges[0].amount.value for o in outcomes] == ["90", "15", "495"]
    assert await world.balances("acme") == {"USD": "400"}
    assert await world.verify() == 3


async def test_several_prices_in_several_assets_are_charged_all_or_none(world: World) -> None:
    await world.asset("USD")
    await world.asset("token", scale=0)
    await world.meter("calls")
    await world.meter("tokens", value="tokens")
    await world.plan(
        "both", {"calls": unit_price("USD", "0.01"), "tokens": unit_price("token", "1")}
    )
    await world.customer("acme", "both", USD="1", token="150")

    both, neither, last = await world.ingest(
        world.event("acme", tokens="100"),
        world.event("acme", tokens="60"),
        world.event("acme", tokens="50"),
    )

    assert (both.state, neither.state, last.state) == (ACCEPTED, REJECTED, ACCEPTED)
    charged = {charge.amount.asset: charge.amount.value for charge in both.charges}
    assert charged == {"USD": "0.01", "token": "100"}
    assert neither.refusal.reason == "INSUFFICIENT_FUNDS"
    assert neither.refusal.facts["asset"] == "token"
    assert await world.balances("acme") == {"USD": "0.98", "token": "0"}
    assert await world.quantity("acme", "calls") == "2"
    assert await world.verify() == 3


async def test_what_a_lenient_wallet_lacks_is_left_for_the_invoice(world: World) -> None:
    await prepaid(world, "1")
    await world.customer("acme", "prepaid")
    wallet_id = await world.wallet("acme", wallet_pb2.SHORTFALL_MODE_ALLOW)
    await world.fund(wallet_id, "USD", "7")

    full, short, empty = await world.ingest(
        *(world.event("acme", tokens=tokens) for tokens in ("5", "5", "5"))
    )

    assert (full.state, short.state, empty.state) == (ACCEPTED, ACCEPTED, ACCEPTED)
    assert [o.charges[0].shortfall for o in (full, short, empty)] == ["0", "3", "5"]
    assert await world.balances("acme") == {"USD": "0"}
    again = await world.ingest(world.event("acme", tokens="1"))
    assert again[0].charges[0].amount.value == "1"
    assert await world.verify() == 4


async def test_usage_billed_on_the_invoice_is_counted_and_not_charged(world: World) -> None:
    await world.meter("tokens", value="tokens")
    await world.plan("arrears", {"tokens": unit_price("USD", "1")}, from_wallet=False)
    await world.customer("acme", "arrears")

    (outcome,) = await world.ingest(world.event("acme", tokens="2.5"))

    assert outcome.state == ACCEPTED
    assert not outcome.charges
    assert await world.quantity("acme", "tokens") == "2.5"
    assert await world.verify() == 1


async def test_quantities_of_every_size_are_exact(world: World) -> None:
    await world.asset("point", scale=18)
    await world.meter("points", value="points")
    await world.plan("points", {"points": unit_price("point", "1")})
    await world.customer("acme", "points", point="2000000000000000")
    sizes = ("1000000000000", "1000000000000000", "0.000000000000000001")

    outcomes = await world.ingest(*(world.event("acme", points=size) for size in sizes))

    assert [o.charges[0].amount.value for o in outcomes] == list(sizes)
    assert await world.quantity("acme", "points") == "1001000000000000.000000000000000001"
    assert await world.balances("acme") == {"point": "998999999999999.999999999999999999"}
    assert await world.verify() == 3
