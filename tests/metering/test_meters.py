"""Every aggregation end to end: events, charges, periods, queries and the recount agree."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction

import grpc
import pytest

from tests.metering.world import ACCEPTED, REJECTED, World, stamp, unit_price
from tollgate.invoicing.v1 import catalog_pb2
from tollgate.metering.v1 import event_pb2, meter_pb2, usage_pb2
from tollgate.type.v1 import amount_pb2, price_pb2

pb = meter_pb2
NUMBER, STRING, BOOL = pb.PROPERTY_TYPE_NUMBER, pb.PROPERTY_TYPE_STRING, pb.PROPERTY_TYPE_BOOL


def month_start(instant: datetime) -> datetime:
    return instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(start: datetime) -> datetime:
    return (start + timedelta(days=32)).replace(day=1)


async def create(world: World, code: str, **fields: object) -> pb.Meter:
    """A published meter."""
    meter = pb.Meter(code=code, event_name="call", **fields)  # type: ignore[arg-type]
    request = pb.CreateMeterRequest(request_id=world.key("meter"), meter=meter)
    answer = await world.call(world.meters.CreateMeter, request)
    assert isinstance(answer.meter, pb.Meter)
    return answer.meter


async def period(
    world: World, customer_id: str, meter: str, start: datetime
) -> usage_pb2.PeriodUsage:
    """What was counted in the calendar month that begins at an instant."""
    cards = await world.call(
        world.catalog.GetRateCards, catalog_pb2.GetRateCardsRequest(customer_ids=[customer_id])
    )
    (entry,) = [each for each in cards.rate_cards[0].entries if each.meter == meter]
    key = usage_pb2.PeriodKey(
        customer_id=customer_id,
        subscription_item_id=entry.subscription_item_id,
        price_id=entry.price_id,
        meter=meter,
        dimensions=entry.dimensions,
        pricing=entry.pricing,
        period=amount_pb2.Interval(start_time=stamp(start), end_time=stamp(next_month(start))),
    )
    answer = await world.call(
        world.usage.GetPeriodUsage, usage_pb2.GetPeriodUsageRequest(keys=[key])
    )
    found = answer.usages[0]
    assert isinstance(found, usage_pb2.PeriodUsage)
    return found


async def quantities(
    world: World, meter: str, start: datetime, end: datetime, **options: object
) -> dict[tuple[str, ...], str]:
    """Figures of a query by window (UTC, when it starts) and group."""
    answer = await world.call(
        world.usage.QueryUsage,
        usage_pb2.QueryUsageRequest(
            meters=[meter],
            interval=amount_pb2.Interval(start_time=stamp(start), end_time=stamp(end)),
            page_size=1000,
            **options,  # type: ignore[arg-type]
        ),
    )
    assert not answer.next_page_token
    return {
        (
            row.customer_id,
            row.window.start_time.ToDatetime().isoformat(),
            *row.group.values(),
        ): row.quantity
        for row in answer.rows
    }


async def priced(
    world: World, meter: str, price: price_pb2.Price | None = None, **funds: str
) -> None:
    """A customer `acme` who pays one USD a unit of a meter from a wallet."""
    await world.asset("USD")
    await world.plan("plan", {meter: price or unit_price("USD", "1")})
    await world.customer("acme", "plan", **(funds or {"USD": "1000"}))


def amounts(outcomes: list[event_pb2.EventOutcome]) -> list[str]:
    return [outcome.charges[0].amount.value if outcome.charges else "" for outcome in outcomes]


async def test_the_last_value_by_event_time_counts_whatever_the_order_of_arrival(
    world: World,
) -> None:
    await create(world, "seats", aggregation=pb.AGGREGATION_LAST, value_property="seats")
    await priced(world, "seats", USD="20")
    at = month_start(world.now)

    outcomes = await world.ingest(
        world.event("acme", time=at, seats="3"),
        world.event("acme", time=at - timedelta(days=1), seats="99"),
        world.event("acme", time=at, seats="5"),
        world.event("acme", time=at, seats="2"),
        world.event("acme", time=at, seats="500"),
    )

    # The level fell to 2, and rose to 500, which the wallet did not pay.
    assert [o.state for o in outcomes] == [ACCEPTED, REJECTED, ACCEPTED, ACCEPTED, REJECTED]
    assert amounts(outcomes) == ["3", "", "2", "0", ""]
    found = await period(world, "acme", "seats", at)
    assert (found.usage.quantity, found.charged.value) == ("2", "5")
    # The next rise is paid for only beyond what was charged already.
    assert amounts(await world.ingest(world.event("acme", time=at, seats="7"))) == ["2"]
    assert await world.verify() == 6


async def test_a_unique_count_counts_each_key_once_and_takes_refused_keys_back(
    world: World,
) -> None:
    await create(
        world,
        "users",
        aggregation=pb.AGGREGATION_UNIQUE_COUNT,
        value_property="user",
        dimensions=["region"],
    )
    await priced(world, "users", USD="3")
    at = month_start(world.now)

    outcomes = await world.ingest(
        *(
            world.event("acme", time=at, user=user, region=region)
            for user, region in (("a", "eu"), ("b", "eu"), ("a", "us"), ("c", "us"), ("d", "us"))
        )
    )

    assert amounts(outcomes) == ["1", "1", "0", "1", ""]
    again = await world.ingest(world.event("acme", time=at, user="c", region="eu"))
    assert amounts(again) == ["0"]
    assert (await period(world, "acme", "users", at)).usage.quantity == "3"
    end = next_month(at)
    start = at.replace(tzinfo=None).isoformat()
    assert await quantities(world, "users", at, end) == {("acme", start): "3"}
    assert await quantities(world, "users", at, end, group_by=["region"]) == {
        ("acme", start, "eu"): "3",
        ("acme", start, "us"): "2",
    }
    assert await world.verify() == 6


async def test_keys_that_are_added_and_removed_are_counted_while_they_are_in(
    world: World,
) -> None:
    await create(
        world,
        "servers",
        aggregation=pb.AGGREGATION_UNIQUE_COUNT,
        value_property="server",
        operation_property="do",
        carry_over=True,
    )
    await priced(world, "servers")
    this = month_start(world.now)
    last = this - timedelta(days=1)

    async def change(time: datetime, server: str, do: str) -> None:
        (outcome,) = await world.ingest(world.event("acme", time=time, server=server, do=do))
        assert outcome.state == ACCEPTED

    await change(this, "c", "ADD")
    await change(last, "a", "ADD")
    await change(last, "b", "ADD")
    await change(this, "a", "ADD")
    await change(this, "b", "REMOVE")
    await change(last - timedelta(hours=1), "a", "REMOVE")

    assert (await period(world, "acme", "servers", month_start(last))).usage.quantity == "2"
    assert (await period(world, "acme", "servers", this)).usage.quantity == "2"
    assert await world.verify() == 6


async def test_a_level_is_weighted_by_the_time_it_stays_and_carried_into_the_next_period(
    world: World,
) -> None:
    await create(
        world,
        "storage",
        aggregation=pb.AGGREGATION_WEIGHTED_SUM,
        value_property="gigabytes",
        carry_over=True,
    )
    await priced(world, "storage", USD="0.000001")
    this = month_start(world.now)
    last = month_start(this - timedelta(days=1))
    change = this - timedelta(days=2)

    outcomes = await world.ingest(
        world.event("acme", time=this, gigabytes="-100"),
        world.event("acme", time=change, gigabytes="900"),
    )

    # What is still to come decides what it costs, so nothing is charged before the end.
    assert [o.state for o in outcomes] == [ACCEPTED, ACCEPTED]
    assert amounts(outcomes) == ["0", "0"]
    share = Fraction(2, (this - last).days)
    found = await period(world, "acme", "storage", last)
    assert Fraction(found.usage.quantity) == 900 * share
    assert found.charged.value == "0"
    assert (await period(world, "acme", "storage", this)).usage.quantity == "800"
    # Late news of the period before: the one after it begins otherwise.
    await world.ingest(world.event("acme", time=change, gigabytes="0.5"))
    assert (await period(world, "acme", "storage", this)).usage.quantity == "800.5"
    assert await world.verify() == 3


async def test_a_carried_sum_is_charged_with_the_first_event_and_corrected_by_late_ones(
    world: World,
) -> None:
    await create(
        world, "stored", aggregation=pb.AGGREGATION_SUM, value_property="change", carry_over=True
    )
    await priced(world, "stored")
    this = month_start(world.now)
    before = this - timedelta(days=1)

    outcomes = await world.ingest(world.event("acme", time=before, change="10"))
    outcomes += await world.ingest(world.event("acme", time=this, change="-4"))
    outcomes += await world.ingest(world.event("acme", time=before, change="5"))
    outcomes += await world.ingest(world.event("acme", time=this, change="1"))

    assert amounts(outcomes) == ["10", "6", "5", "6"]
    assert (await period(world, "acme", "stored", this)).usage.quantity == "12"
    assert await world.verify() == 4


async def test_a_period_without_events_has_what_was_carried_into_it(world: World) -> None:
    await create(
        world, "stored", aggregation=pb.AGGREGATION_LAST, value_property="level", carry_over=True
    )
    await priced(world, "stored")
    this = month_start(world.now)
    await world.ingest(world.event("acme", time=this - timedelta(days=2), level="7"))

    found = await period(world, "acme", "stored", this)

    assert (found.usage.quantity, found.charged.value) == ("7", "0")


async def test_an_expression_computes_the_value_and_a_condition_chooses_the_events(
    world: World,
) -> None:
    await create(
        world,
        "work",
        aggregation=pb.AGGREGATION_SUM,
        value_expression="gpus * seconds / 3600 * (kind == 'h100' ? 2.5 : 1)",
        filter_expression="!has(test) || !test",
        property_types={"gpus": NUMBER, "seconds": NUMBER, "kind": STRING, "test": BOOL},
        rounding=pb.MeterRounding(
            mode=pb.METER_ROUNDING_MODE_CEIL, digits=2, point=pb.ROUNDING_POINT_EVENT
        ),
    )
    await priced(world, "work")

    outcomes = await world.ingest(
        world.event("acme", gpus="8", seconds="1000", kind="h100"),
        world.event("acme", gpus="8", seconds="1000", kind="a100", test="true"),
        world.event("acme", gpus="8", seconds="much", kind="a100"),
        world.event("acme", gpus="1", seconds="7200", kind="a100", test="false"),
    )

    assert [o.charges[0].amount.value for o in outcomes if o.charges] == ["5.56", "2"]
    assert outcomes[2].refusal.reason == "PROPERTY_UNUSABLE"
    assert outcomes[2].refusal.facts["property"] == "seconds"
    assert await world.quantity("acme", "work") == "7.56"
    assert await world.verify() == 3


@pytest.mark.parametrize(
    ("fields", "field", "why"),
    [
        ({"value_expression": "tokens +"}, "value_expression", "no CEL expression"),
        ({"value_expression": "tokens + other"}, "value_expression", "'other' is not one of"),
        ({"value_expression": "'x'"}, "value_expression", "gives a string, no number"),
        ({"value_expression": "tokens", "value_property": "a"}, "value_expression", "give one"),
        ({"value_property": "a", "filter_expression": "tokens"}, "filter_expression", "no cond"),
        ({"aggregation": pb.AGGREGATION_MAX, "value_property": "a", "carry_over": True},
         "carry_over", "begins anew"),
        ({"value_property": "a", "rounding": pb.MeterRounding(mode=pb.METER_ROUNDING_MODE_CEIL)},
         "rounding", "exactly one of"),
        ({"value_property": "a", "operation_property": "do"}, "operation_property", "UNIQUE"),
        ({"value_property": "a", "filters": [pb.PropertyFilter(
            property="a", operator=pb.FILTER_OPERATOR_LESS, values=["x"])]},
         "filters[0].values[0]", "not a decimal"),
    ],
)  # fmt: skip
async def test_a_meter_that_cannot_count_is_refused_with_where_and_why(
    world: World, fields: dict[str, object], field: str, why: str
) -> None:
    given = {"aggregation": pb.AGGREGATION_SUM, "property_types": {"tokens": NUMBER}, **fields}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(world, "faulty", **given)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"meter.{field}: " in str(caught.value.details())
    assert why in str(caught.value.details())


async def test_a_price_of_the_time_of_use_is_charged_by_the_clocks_of_its_zone(
    world: World,
) -> None:
    await create(world, "energy", aggregation=pb.AGGREGATION_SUM, value_property="kwh")
    price = price_pb2.Price(
        asset="USD",
        time_of_use=price_pb2.TimeOfUseModel(
            time_zone="Asia/Kolkata",
            slots=[
                price_pb2.TimeSlot(
                    name="day",
                    start="06:00",
                    end="18:00",
                    unit=price_pb2.UnitModel(unit_price="3"),
                ),
                price_pb2.TimeSlot(unit=price_pb2.UnitModel(unit_price="1")),
            ],
        ),
    )
    await priced(world, "energy", price)
    # 00:30 in UTC is 06:00 in Kolkata.
    at = month_start(world.now) - timedelta(days=1)
    outcomes = await world.ingest(
        world.event("acme", time=at + timedelta(minutes=29), kwh="10"),
        world.event("acme", time=at + timedelta(minutes=30), kwh="10"),
        world.event("acme", time=at + timedelta(hours=12, minutes=30), kwh="0.5"),
    )
    assert amounts(outcomes) == ["10", "30", "0.5"]
    found = await period(world, "acme", "energy", month_start(at))
    assert sorted(event.quantity for event in found.usage.events) == ["10", "10.5"]
    assert found.charged.value == "40.5"
    assert await world.verify() == 3


async def test_the_greatest_of_each_day_is_priced_where_the_price_looks_at_days(
    world: World,
) -> None:
    await create(world, "peak", aggregation=pb.AGGREGATION_MAX, value_property="level")
    price = unit_price("USD", "1")
    price.accumulate, price.window = price_pb2.ACCUMULATE_WINDOW, price_pb2.WINDOW_UNIT_DAY
    await priced(world, "peak", price)
    day = month_start(world.now) - timedelta(days=2)
    outcomes = await world.ingest(
        *(
            world.event("acme", time=day + timedelta(hours=hours), level=level)
            for hours, level in ((1, "5"), (2, "3"), (25, "4"), (3, "7"), (26, "6"))
        )
    )
    assert amounts(outcomes) == ["5", "0", "4", "2", "2"]
    found = await period(world, "acme", "peak", month_start(day))
    assert sorted(event.quantity for event in found.usage.events) == ["6", "7"]
    assert await world.verify() == 5
