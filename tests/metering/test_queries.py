"""Questions about usage, and what an invoice is drawn from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import grpc
import pytest

from tests.metering.world import ACCEPTED, World, graduated, stamp, unit_price
from tollgate.invoicing.v1 import catalog_pb2
from tollgate.metering.v1 import usage_pb2
from tollgate.type.v1 import amount_pb2, price_pb2


async def ask(
    world: World,
    start: datetime,
    end: datetime,
    *,
    customers: list[str] | None = None,
    meters: list[str] | None = None,
    window: usage_pb2.UsageWindow.ValueType = usage_pb2.USAGE_WINDOW_UNSPECIFIED,
    time_zone: str = "",
    group_by: list[str] | None = None,
    page_size: int = 0,
) -> list[usage_pb2.UsageRow]:
    """All pages of one question."""
    request = usage_pb2.QueryUsageRequest(
        customer_ids=customers or [],
        meters=meters or [],
        interval=amount_pb2.Interval(start_time=stamp(start), end_time=stamp(end)),
        window=window,
        time_zone=time_zone,
        group_by=group_by or [],
        page_size=page_size,
    )
    rows: list[usage_pb2.UsageRow] = []
    while True:
        answer = await world.call(world.usage.QueryUsage, request)
        rows.extend(answer.rows)
        if not answer.next_page_token:
            return rows
        request.page_token = answer.next_page_token


async def traffic(world: World, day: datetime) -> None:
    """Three meters and a few events around two local midnights."""
    await world.meter("tokens", value="tokens", dimensions=["model", "region"])
    await world.meter("calls")
    await world.meter("peak", value="tokens", maximum=True)
    await world.customer("acme")
    await world.customer("zeta")
    minutes = {"acme": (10, 70, 200, 1439, 1500, 1700), "zeta": (15, 1445)}
    events = [
        world.event(
            customer,
            time=day + timedelta(minutes=minute),
            tokens=str(minute),
            model="large" if minute % 2 else "small",
        )
        for customer, places in minutes.items()
        for minute in places
    ]
    outcomes = await world.ingest(*events)
    assert {outcome.state for outcome in outcomes} == {ACCEPTED}


@pytest.fixture
def day(world: World) -> datetime:
    """A midnight (UTC) some days ago."""
    return world.now.replace(hour=0, minute=0, second=0) - timedelta(days=9)


async def test_usage_is_told_by_customer_and_meter(world: World, day: datetime) -> None:
    await traffic(world, day)
    rows = await ask(world, day, day + timedelta(days=2))
    assert [(r.customer_id, r.meter, r.quantity, r.events) for r in rows] == [
        ("acme", "calls", "6", 6),
        ("acme", "peak", "1700", 6),
        ("acme", "tokens", "4919", 6),
        ("zeta", "calls", "2", 2),
        ("zeta", "peak", "1445", 2),
        ("zeta", "tokens", "1460", 2),
    ]
    assert rows[0].window.start_time == stamp(day)
    assert rows[0].window.end_time == stamp(day + timedelta(days=2))


@pytest.mark.parametrize(
    ("zone", "first_day", "second_day"),
    [
        ("", "1719", "3200"),
        ("America/New_York", "", ""),
        ("Asia/Kolkata", "", ""),
        ("Asia/Kathmandu", "", ""),
    ],
)
async def test_days_are_cut_in_any_zone(
    world: World, day: datetime, zone: str, first_day: str, second_day: str
) -> None:

    await traffic(world, day)
    rows = await ask(
        world,
        day,
        day + timedelta(days=2),
        customers=["acme"],
        meters=["tokens"],
        window=usage_pb2.USAGE_WINDOW_DAY,
        time_zone=zone,
    )
    expected: dict[str, int] = {}
    for minute in (10, 70, 200, 1439, 1500, 1700):
        local = (day + timedelta(minutes=minute)).astimezone(ZoneInfo(zone or "UTC"))
        expected[local.date().isoformat()] = expected.get(local.date().isoformat(), 0) + minute
    found = {
        row.window.start_time.ToDatetime(tzinfo=UTC)
        .astimezone(ZoneInfo(zone or "UTC"))
        .date()
        .isoformat(): row.quantity
        for row in rows
    }
    assert found == {name: str(total) for name, total in expected.items()}
    if first_day:
        assert [row.quantity for row in rows] == [first_day, second_day]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
async def test_hours_are_cut_in_any_zone_and_usage_outside_the_interval_is_left_out(
    world: World, day: datetime, zone: str
) -> None:
    await traffic(world, day)
    start = day + timedelta(minutes=11)
    rows = await ask(
        world,
        start,
        day + timedelta(minutes=1700),
        customers=["acme"],
        meters=["calls"],
        window=usage_pb2.USAGE_WINDOW_HOUR,
        time_zone=zone,
    )
    shift = timedelta(minutes=330) if zone == "Asia/Kolkata" else timedelta(0)
    expected = sorted(
        max(
            start,
            ((day + timedelta(minutes=minute) + shift).replace(minute=0)) - shift,
        )
        for minute in (70, 200, 1439, 1500)
    )
    assert [row.window.start_time.ToDatetime(tzinfo=UTC) for row in rows] == expected
    assert [row.events for row in rows] == [1, 1, 1, 1]


async def test_usage_is_grouped_by_dimensions_and_paged(world: World, day: datetime) -> None:
    await traffic(world, day)
    rows = await ask(
        world,
        day,
        day + timedelta(days=2),
        meters=["tokens", "calls"],
        group_by=["model"],
        page_size=2,
    )
    assert [(r.customer_id, r.meter, r.group["model"], r.quantity) for r in rows] == [
        ("acme", "calls", "", "6"),
        ("acme", "tokens", "large", "1439"),
        ("acme", "tokens", "small", "3480"),
        ("zeta", "calls", "", "2"),
        ("zeta", "tokens", "large", "1460"),
    ]


async def test_months_are_cut_in_the_zone(world: World, day: datetime) -> None:
    await traffic(world, day)
    rows = await ask(
        world,
        day - timedelta(days=40),
        day + timedelta(days=40),
        customers=["acme"],
        meters=["calls"],
        window=usage_pb2.USAGE_WINDOW_MONTH,
        time_zone="Asia/Kathmandu",
    )
    assert sum(int(row.quantity) for row in rows) == 6
    for row in rows:
        assert row.window.start_time.seconds < row.window.end_time.seconds


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("interval", {"interval": None}),
        ("time_zone", {"time_zone": "Mars/Olympus"}),
        ("page_size", {"page_size": 1001}),
        ("page_token", {"page_token": "not one"}),
        (
            "end_time",
            {
                "interval": amount_pb2.Interval(
                    start_time=stamp(datetime(2026, 1, 2, tzinfo=UTC)),
                    end_time=stamp(datetime(2026, 1, 1, tzinfo=UTC)),
                )
            },
        ),
    ],
)
async def test_a_question_that_cannot_be_answered_names_its_field(
    world: World, day: datetime, field: str, change: dict[str, object]
) -> None:
    given = {
        "interval": amount_pb2.Interval(
            start_time=stamp(day), end_time=stamp(day + timedelta(days=1))
        ),
        **change,
    }
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await world.call(world.usage.QueryUsage, usage_pb2.QueryUsageRequest(**given))  # type: ignore[arg-type]
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (failure.value.details() or "")


async def card_entry(world: World, customer_id: str, meter: str) -> catalog_pb2.RateCardEntry:
    """The price of a meter as invoicing tells it."""
    answer = await world.call(
        world.catalog.GetRateCards, catalog_pb2.GetRateCardsRequest(customer_ids=[customer_id])
    )
    (entry,) = [entry for entry in answer.rate_cards[0].entries if entry.meter == meter]
    assert isinstance(entry, catalog_pb2.RateCardEntry)
    return entry


async def period_usage(world: World, customer_id: str, meter: str) -> usage_pb2.PeriodUsage:
    """What was counted in the calendar month of now."""
    entry = await card_entry(world, customer_id, meter)
    start = world.now.replace(day=1, hour=0, minute=0, second=0)
    end = (start + timedelta(days=32)).replace(day=1)
    key = usage_pb2.PeriodKey(
        customer_id=customer_id,
        subscription_item_id=entry.subscription_item_id,
        price_id=entry.price_id,
        period=amount_pb2.Interval(start_time=stamp(start), end_time=stamp(end)),
    )
    other = usage_pb2.PeriodKey()
    other.CopyFrom(key)
    other.price_id = "another"
    answer = await world.call(
        world.usage.GetPeriodUsage, usage_pb2.GetPeriodUsageRequest(keys=[other, key])
    )
    nothing, found = answer.usages
    assert (nothing.usage.quantity, nothing.charged.value) == ("0", "0")
    assert isinstance(found, usage_pb2.PeriodUsage)
    return found


async def test_a_billing_period_tells_its_usage_and_what_wallets_paid(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("tiers", {"tokens": graduated("USD", ("10", "1"), ("", "0.5"))})
    await world.customer("acme", "tiers", USD="100")
    await world.ingest(*(world.event("acme", tokens=tokens) for tokens in ("8", "4.5", "9000")))

    found = await period_usage(world, "acme", "tokens")

    assert (found.usage.quantity, found.usage.event_count) == ("12.5", 2)
    assert (found.charged.asset, found.charged.value) == ("USD", "11.25")
    assert found.events_pending == 0


def by_model(asset: str) -> price_pb2.Price:
    """One price for the large model, another for all others."""
    return price_pb2.Price(
        asset=asset,
        matrix=price_pb2.MatrixModel(
            dimensions=["model"],
            cells=[
                price_pb2.MatrixCell(
                    values={"model": "large"}, unit=price_pb2.UnitModel(unit_price="3")
                ),
                price_pb2.MatrixCell(
                    values={"model": "small"}, unit=price_pb2.UnitModel(unit_price="1")
                ),
            ],
        ),
    )


async def test_a_matrix_price_charges_each_cell_and_tells_the_cells_of_a_period(
    world: World,
) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("matrix", {"tokens": by_model("USD")})
    await world.customer("acme", "matrix", USD="100")

    large, small, unpriced, dry, last = await world.ingest(
        world.event("acme", tokens="2", model="large"),
        world.event("acme", tokens="5", model="small"),
        world.event("acme", tokens="5", model="tiny"),
        world.event("acme", tokens="50", model="large"),
        world.event("acme", tokens="1", model="large"),
    )

    assert [o.charges[0].amount.value for o in (large, small, last)] == ["6", "5", "3"]
    assert unpriced.refusal.reason == "UNPRICED_USAGE"
    assert dry.refusal.reason == "INSUFFICIENT_FUNDS"
    found = await period_usage(world, "acme", "tokens")
    cells = {event.properties["model"]: event.quantity for event in found.usage.events}
    assert cells == {"large": "3", "small": "5"}
    assert found.charged.value == "14"
    assert await world.verify() == 4


async def test_a_price_that_looks_at_single_events_charges_them_and_takes_them_back(
    world: World,
) -> None:
    await world.asset("USD")
    await world.meter("paid", value="value")
    price = price_pb2.Price(
        asset="USD",
        percentage=price_pb2.PercentageModel(rate="0.02", fixed_fee="0.30", free_amount="100"),
    )
    await world.plan("share", {"paid": price})
    await world.customer("acme", "share", USD="12")

    outcomes = await world.ingest(
        *(world.event("acme", value=value) for value in ("60", "90", "5000", "500"))
    )

    assert [o.charges[0].amount.value for o in outcomes if o.charges] == ["0", "1.3", "10.3"]
    assert outcomes[2].refusal.reason == "INSUFFICIENT_FUNDS"
    assert await world.balances("acme") == {"USD": "0.4"}
    assert await world.verify() == 4


async def test_the_greatest_value_of_a_period_is_charged_as_it_grows(world: World) -> None:
    await world.asset("USD")
    await world.meter("seats", value="seats", maximum=True)
    await world.plan("peak", {"seats": unit_price("USD", "2")})
    await world.customer("acme", "peak", USD="20")

    outcomes = await world.ingest(
        *(world.event("acme", seats=seats) for seats in ("3", "2", "50", "5"))
    )

    assert [o.charges[0].amount.value for o in outcomes if o.charges] == ["6", "0", "0"]
    (corrected,) = await world.ingest(world.event("acme", seats="4"))
    # The rejected 50 hid the growth from 3 to 5; the next event pays for it.
    assert corrected.charges[0].amount.value == "4"
    assert await world.balances("acme") == {"USD": "10"}
    assert await world.quantity("acme", "seats") == "5"
    assert await world.verify() == 5
