"""One history of events for meters of every kind: late, out of order, twice; all recomputed."""

from __future__ import annotations

import random
from datetime import timedelta
from fractions import Fraction

import pytest

from tests.metering.oracle import Said, usage
from tests.metering.test_meters import create, month_start, next_month, period, quantities
from tests.metering.world import ACCEPTED, World, unit_price
from tollgate.metering.v1 import event_pb2, meter_pb2

pb = meter_pb2
EVENTS = 120
KINDS = {
    "COUNT": pb.AGGREGATION_COUNT,
    "SUM": pb.AGGREGATION_SUM,
    "MAX": pb.AGGREGATION_MAX,
    "LAST": pb.AGGREGATION_LAST,
    "UNIQUE_COUNT": pb.AGGREGATION_UNIQUE_COUNT,
    "WEIGHTED_SUM": pb.AGGREGATION_WEIGHTED_SUM,
}
CARRIED = {"SUM", "LAST", "UNIQUE_COUNT", "WEIGHTED_SUM"}


async def publish(world: World) -> dict[str, tuple[str, bool]]:
    """A meter of each kind, carried over and not; answers them by code."""
    found = {}
    for kind, aggregation in KINDS.items():
        for carries in (False, True) if kind in CARRIED else (False,):
            code = f"{kind.lower()}{'_carried' if carries else ''}"
            fields: dict[str, object] = {"aggregation": aggregation, "carry_over": carries}
            if kind == "UNIQUE_COUNT":
                fields |= {"value_property": "key", "operation_property": "do"}
            elif kind == "SUM":
                fields |= {
                    "value_expression": "value",
                    "property_types": {"value": pb.PROPERTY_TYPE_NUMBER},
                }
            elif kind != "COUNT":
                fields |= {"value_property": "value"}
            await create(world, code, **fields)
            found[code] = (kind, carries)
    return found


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_the_order_of_arrival_usage_is_what_the_events_say(
    world: World, seed: int
) -> None:
    dice = random.Random(seed)
    meters = await publish(world)
    await world.asset("USD")
    await world.plan("plan", {code: unit_price("USD", "0.01") for code in meters})
    await world.customer("acme", "plan", USD="1000000")
    this = month_start(world.now)
    last = month_start(this - timedelta(days=1))
    events: list[event_pb2.Event] = []
    for _ in range(EVENTS):
        time = this - timedelta(seconds=dice.choice([0, 1, dice.randrange(2 * 86_400)]))
        value = dice.choice([dice.randrange(10), Fraction(dice.randrange(10**6), 1000)])
        events.append(
            world.event(
                "acme",
                time=time,
                value=str(float(value)) if isinstance(value, Fraction) else str(value),
                key=dice.choice("abcdef"),
                do=dice.choice(["ADD", "ADD", "REMOVE"]),
            )
        )
    arrivals = [*events, *dice.sample(events, EVENTS // 2)]
    first = {id(event): place for place, event in reversed([*enumerate(arrivals)])}
    order = sorted(events, key=lambda event: first[id(event)])
    place = 0
    while place < len(arrivals):
        size = dice.randrange(1, 30)
        outcomes = await world.ingest(*arrivals[place : place + size])
        assert {outcome.state for outcome in outcomes} == {ACCEPTED}
        place += size
    said = [
        Said(
            event.event_time.ToDatetime(tzinfo=this.tzinfo),
            sequence,
            Fraction(event.properties["value"]),
            event.properties["key"],
            event.properties["do"] == "ADD",
        )
        for sequence, event in enumerate(order)
    ]

    assert await world.verify() == EVENTS
    for code, (kind, carries) in meters.items():
        for start in (last, this):
            found = await period(world, "acme", code, start)
            wanted = usage(kind, carries, said, start, next_month(start))
            assert Fraction(found.usage.quantity) == wanted, (code, start)
        # A window that cuts hours in two, and days.
        cut = this - timedelta(hours=13, minutes=17, seconds=1)
        rows = await quantities(world, code, cut, this)
        wanted = usage(kind, carries, said, cut, this)
        assert [Fraction(quantity) for quantity in rows.values()] == [wanted], code
