"""Which customer has which plan: pinned, cut into periods, ended, and what of it recurs."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.catalog.domain import PlanPrice, PriceKind, Settlement, Timing
from invoicing.subscriptions.domain import (
    AnchorMode,
    Item,
    Subscription,
    billed,
    fee,
    find_anchor,
    months_of,
)
from invoicing.subscriptions.domain.lifecycle import CancelWhen, cancel
from invoicing.subscriptions.domain.subscription import Ending
from kernel.period import Every, Unit, parse_zone
from tests.invoicing.support import Books, at, fixed, moment, seat
from tollgate.invoicing.v1 import catalog_pb2, subscription_pb2

# The same examples in every run of the tests.
claims = settings(derandomize=True, deadline=None, database=None, max_examples=100)

ZONES = ("UTC", "Europe/Paris", "America/New_York", "Asia/Kathmandu", "Pacific/Apia")
instants = st.datetimes(
    min_value=datetime(2023, 1, 1), max_value=datetime(2028, 1, 1), timezones=st.just(UTC)
)
intervals = st.builds(Every, st.integers(1, 13), st.sampled_from(list(Unit)))


def subscription_at(
    start: datetime, every: Every, mode: AnchorMode, zone: str, items: tuple[Item, ...] = ()
) -> Subscription:
    return Subscription(
        subscription_id=UUID(int=1),
        customer_id="acme",
        plan_code="pro",
        plan_version=1,
        items=items,
        start_time=start,
        end_time=None,
        anchor_time=find_anchor(start, every, mode, parse_zone(zone)),
        every=every,
        time_zone=zone,
        create_time=start,
        bill_from_time=start,
        next_bill_time=start,
    )


subscriptions = st.builds(
    subscription_at, instants, intervals, st.sampled_from(AnchorMode), st.sampled_from(ZONES)
)


@claims
@given(subscriptions, st.integers(0, 900))
def test_periods_cover_time_without_gap_or_overlap(subscription: Subscription, days: int) -> None:
    until = subscription.start_time + timedelta(days=days)
    fulls = list(subscription.full_periods(subscription.start_time, until))
    assert fulls[0].start <= subscription.start_time < fulls[0].end
    assert all(one.end == other.start for one, other in itertools.pairwise(fulls))
    assert fulls[-1].start <= until < fulls[-1].end
    # They do not depend on when they are asked.
    assert subscription.full_period(until) == fulls[-1]


@claims
@given(subscriptions, st.integers(1, 100), st.data())
def test_shares_of_the_parts_of_a_period_sum_to_one(
    subscription: Subscription, parts: int, data: st.DataObject
) -> None:
    full = subscription.full_period(subscription.start_time)
    seconds = int((full.end - full.start).total_seconds())
    cuts = sorted(data.draw(st.sets(st.integers(1, seconds - 1), max_size=parts)))
    bounds = [full.start, *(full.start + timedelta(seconds=cut) for cut in cuts), full.end]
    pieces = [type(full)(a, b) for a, b in itertools.pairwise(bounds)]
    assert sum((piece.share_of(full) for piece in pieces), Fraction(0)) == 1


@pytest.mark.parametrize(
    ("every", "anchor"),
    [
        (Every(1, Unit.DAY), datetime(2025, 8, 20, tzinfo=UTC)),
        (Every(1, Unit.WEEK), datetime(2025, 8, 18, tzinfo=UTC)),
        (Every(1, Unit.MONTH), datetime(2025, 8, 1, tzinfo=UTC)),
        (Every(3, Unit.MONTH), datetime(2025, 7, 1, tzinfo=UTC)),
        (Every(6, Unit.MONTH), datetime(2025, 7, 1, tzinfo=UTC)),
        (Every(5, Unit.MONTH), datetime(2025, 8, 1, tzinfo=UTC)),
        (Every(1, Unit.YEAR), datetime(2025, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_calendar_anchor_is_the_first_of_the_unit(every: Every, anchor: datetime) -> None:
    start = datetime(2025, 8, 20, 13, 30, tzinfo=UTC)
    assert find_anchor(start, every, AnchorMode.CALENDAR, parse_zone("UTC")) == anchor
    assert find_anchor(start, every, AnchorMode.ANNIVERSARY, parse_zone("UTC")) == start


@claims
@given(subscriptions, st.lists(st.integers(0, 500), min_size=1, max_size=8))
def test_a_subscription_is_next_billed_at_the_end_of_the_running_period(
    subscription: Subscription, days: list[int]
) -> None:
    start = subscription.start_time
    for day in days:
        subscription = billed(subscription, start + timedelta(days=day))
    latest = start + timedelta(days=max(days))
    full = subscription.full_period(latest)
    assert subscription.next_bill_time == full.end
    assert subscription.bill_from_time in (full.start, start)


@claims
@given(subscriptions, st.integers(0, 500), st.booleans())
def test_a_cancelled_subscription_ends_and_comes_up_for_billing_by_then(
    subscription: Subscription, days: int, immediately: bool
) -> None:
    now = subscription.start_time + timedelta(days=days)
    when = CancelWhen.IMMEDIATE if immediately else CancelWhen.PERIOD_END
    ended = cancel(billed(subscription, now), when, None, Ending(), now)
    assert ended.end_time is not None
    assert ended.next_bill_time is not None
    assert ended.next_bill_time <= ended.end_time
    assert ended.end_time == now if immediately or not days else ended.end_time >= now
    assert billed(ended, ended.end_time).next_bill_time is None


def _item(kind: PriceKind, document: dict[str, object], quantity: str = "1") -> Item:
    price = PlanPrice(
        price_id=uuid4(),
        code="p",
        description="P",
        kind=kind,
        meter="",
        dimensions={},
        document=document,
        settlement=Settlement.INVOICE,
        timing=Timing.ADVANCE,
        tax_category="standard",
    )
    return Item(uuid4(), price, Decimal(quantity))


def test_fees_are_charged_for_their_share_of_the_full_period() -> None:
    flat = _item(PriceKind.FIXED, {"asset": "USD", "flat": {"amount": "10"}})
    assert fee(flat, Fraction(1)).cost == 10
    assert fee(flat, Fraction(1, 3)).cost == Fraction(10, 3)
    seats = _item(PriceKind.SEAT, {"asset": "USD", "seat": {"unit": {"unit_price": "20"}}}, "5")
    assert fee(seats, Fraction(1)).cost == 100
    assert fee(seats, Fraction(1, 2)).cost == 50
    plain = _item(PriceKind.SEAT, {"asset": "USD", "unit": {"unit_price": "20"}}, "5")
    assert fee(plain, Fraction(1, 2)).cost == 50


def test_intervals_are_counted_in_months_as_recurring_revenue_does() -> None:
    assert months_of(Every(1, Unit.YEAR)) == 12
    assert months_of(Every(3, Unit.MONTH)) == 3
    assert 1 / months_of(Every(1, Unit.WEEK)) == Fraction(52, 12)
    assert 1 / months_of(Every(1, Unit.DAY)) == Fraction(365, 12)


async def test_a_subscription_stays_on_its_version_when_the_plan_changes(books: Books) -> None:
    await books.customer()
    await books.publish(fixed("10"))
    first = await books.subscribe(start_time=at(2025, 1, 31))
    await books.publish(fixed("20"))
    second = await books.subscribe(start_time=at(2025, 1, 31))
    assert (first.plan_version, second.plan_version) == (1, 2)
    answer = await books.call(
        books.subscriptions.ListSubscriptions, subscription_pb2.ListSubscriptionsRequest()
    )
    assert [one.plan_version for one in answer.subscriptions] == [2, 1]
    assert moment(answer.subscriptions[1].anchor_time) == datetime(2025, 1, 31, tzinfo=UTC)


async def test_a_draft_takes_no_subscriptions(books: Books) -> None:
    await books.customer()
    await books.draft(fixed("10"))
    for version in (0, 1):
        refusal = await books.refused(
            books.subscriptions.CreateSubscription,
            subscription_pb2.CreateSubscriptionRequest(
                customer_id="acme", plan_code="pro", plan_version=version
            ),
        )
        assert refusal.reason == "PLAN_NOT_PUBLISHED"


async def test_a_price_in_other_money_than_the_customers_is_refused(books: Books) -> None:
    await books.customer(currency="EUR")
    await books.publish(fixed("10"))
    refusal = await books.refused(
        books.subscriptions.CreateSubscription,
        subscription_pb2.CreateSubscriptionRequest(customer_id="acme", plan_code="pro"),
    )
    assert refusal.reason == "CURRENCY_NOT_PRICED"
    assert refusal.facts == {"asset": "USD", "currency": "EUR"}


async def test_quantities_are_for_seat_prices_of_the_plan(books: Books) -> None:
    await books.customer()
    await books.publish(fixed("10"), seat("20"))
    for code, field in (("none", "items[0].price_code"), ("base", "items[0].quantity")):
        refusal = await books.refused(
            books.subscriptions.CreateSubscription,
            subscription_pb2.CreateSubscriptionRequest(
                customer_id="acme",
                plan_code="pro",
                items=[subscription_pb2.SubscriptionItem(price_code=code, quantity="5")],
            ),
        )
        assert refusal.facts["field"] == field


async def test_cancelling_keeps_the_running_period_unless_told_otherwise(books: Books) -> None:
    await books.customer()
    await books.publish(fixed("10"))
    kept = await books.subscribe()
    ended = await books.cancel(kept.subscription_id)
    assert ended.state == subscription_pb2.SUBSCRIPTION_STATE_ACTIVE
    assert moment(ended.end_time) > datetime.now(UTC) + timedelta(days=27)
    again = await books.cancel(kept.subscription_id, immediately=True)
    assert again.state == subscription_pb2.SUBSCRIPTION_STATE_ENDED
    refusal = await books.refused(
        books.subscriptions.CancelSubscription,
        subscription_pb2.CancelSubscriptionRequest(subscription_id=kept.subscription_id),
    )
    assert refusal.reason == "SUBSCRIPTION_ENDED"


async def test_one_that_never_started_is_over_at_its_start(books: Books) -> None:
    await books.customer()
    await books.publish(fixed("10"))
    future = await books.subscribe(start_time=at(2999, 1, 1))
    assert future.state == subscription_pb2.SUBSCRIPTION_STATE_SCHEDULED
    ended = await books.cancel(future.subscription_id)
    assert ended.end_time == ended.start_time
    assert not (await books.rate_card()).entries


async def test_recurring_revenue_counts_fees_by_month_and_currency(books: Books) -> None:
    await books.customer()
    await books.customer("euro", currency="EUR", country="DE")
    year = catalog_pb2.BillingInterval(count=1, unit=catalog_pb2.INTERVAL_UNIT_YEAR)
    await books.publish(fixed("1200"), code="yearly", interval=year)
    await books.publish(fixed("7"), seat("20"), code="monthly")
    await books.publish(fixed("9.99", asset="EUR"), code="euro")
    await books.subscribe(plan_code="yearly", start_time=at(2025, 1, 1))
    await books.subscribe(
        plan_code="monthly",
        start_time=at(2025, 1, 1),
        items=[subscription_pb2.SubscriptionItem(price_code="seat", quantity="5")],
    )
    await books.subscribe("euro", plan_code="euro", start_time=at(2025, 2, 1))

    async def monthly(as_of: object) -> dict[str, str]:
        answer = await books.call(
            books.subscriptions.GetRecurringRevenue,
            subscription_pb2.GetRecurringRevenueRequest(as_of=as_of),
        )
        return {amount.asset: amount.value for amount in answer.monthly}

    assert await monthly(at(2025, 1, 15)) == {"USD": "207"}
    assert await monthly(at(2025, 2, 1)) == {"EUR": "9.99", "USD": "207"}
    assert await monthly(at(2024, 12, 31)) == {}


def test_more_exact_prices_come_first_on_a_rate_card() -> None:
    from invoicing.catalog.domain import CardEntry, order_entries

    def entry(meter: str, **dimensions: str) -> CardEntry:
        item = _item(PriceKind.USAGE, {"asset": "USD", "unit": {"unit_price": "1"}})
        price = PlanPrice(**{**item.price.__dict__, "meter": meter, "dimensions": dimensions})
        start = datetime(2025, 1, 1, tzinfo=UTC)
        return CardEntry(
            price, uuid4(), "pro", start, Every(1, Unit.MONTH), "UTC", start, end_time=None
        )

    entries = [entry("a"), entry("b", model="x"), entry("a", model="x", region="eu")]
    ordered = order_entries(entries)
    assert [len(one.price.dimensions) for one in ordered] == [2, 1, 0]
