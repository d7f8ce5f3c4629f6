"""Plans are drafted, published and then frozen; rate cards tell what is in force."""

from __future__ import annotations

import asyncpg
import pytest

from tests.invoicing.support import Books, at, fixed, seat, usage
from tests.support.databases import FreshDatabase
from tollgate.invoicing.v1 import catalog_pb2, customer_pb2
from tollgate.type.v1 import price_pb2

TOKENS = price_pb2.Price(asset="token", unit=price_pb2.UnitModel(unit_price="1"))


async def test_an_edit_of_a_published_plan_is_the_next_draft(books: Books) -> None:
    first = await books.publish(fixed("10"))
    second = await books.draft(fixed("12"))
    assert (first.version, second.version) == (1, 2)
    assert second.state == catalog_pb2.PLAN_VERSION_STATE_DRAFT
    offered = await books.call(books.catalog.GetPlan, catalog_pb2.GetPlanRequest(code="pro"))
    assert offered.plan == first


async def test_a_published_version_is_never_published_again(books: Books) -> None:
    plan = await books.publish(fixed("10"))
    refusal = await books.refused(
        books.catalog.PublishPlan,
        catalog_pb2.PublishPlanRequest(code="pro", version=plan.version),
    )
    assert refusal.reason == "PLAN_NOT_DRAFT"
    assert refusal.facts == {"code": "pro", "version": "1", "state": "PUBLISHED"}


async def test_the_schema_itself_refuses_to_change_a_published_version(
    books: Books, database: FreshDatabase
) -> None:
    await books.publish(fixed("10"))
    async with database.open("invoicing") as pool:
        for change in (
            "UPDATE price SET description = 'dearer'",
            "UPDATE plan_version SET name = 'other'",
            "DELETE FROM price",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with pool.transaction(books.tenant_id) as tx:
                    await tx.execute(change)
        with pytest.raises(asyncpg.RaiseError, match="is published and never changes"):
            async with pool.transaction(books.tenant_id) as tx:
                await tx.execute("UPDATE plan_version SET state = 'DRAFT', publish_time = NULL")


@pytest.mark.parametrize(
    ("price", "field"),
    [
        (fixed("ten"), "plan.prices[0].pricing.flat.amount"),
        (fixed("10", asset=""), "plan.prices[0].pricing.asset"),
        (fixed("10", asset="token"), "plan.prices[0].pricing.asset"),
        (usage(TOKENS, meter=""), "plan.prices[0].meter"),
        (usage(TOKENS, meter="tokens"), "plan.prices[0].settlement"),
        (fixed("10", meter="tokens"), "plan.prices[0].meter"),
        (
            fixed("10", settlement=catalog_pb2.SETTLEMENT_WALLET),
            "plan.prices[0].settlement",
        ),
    ],
)
async def test_a_bad_price_is_refused_by_the_path_of_its_fault(
    books: Books, price: catalog_pb2.PlanPrice, field: str
) -> None:
    plan = catalog_pb2.Plan(code="pro", name="Pro", prices=[price])
    refusal = await books.refused(
        books.catalog.CreatePlan, catalog_pb2.CreatePlanRequest(plan=plan)
    )
    assert refusal.reason == "INVALID_VALUE"
    assert refusal.facts["field"] == field


async def test_a_repeated_request_answers_the_same_and_another_one_conflicts(
    books: Books,
) -> None:
    plan = catalog_pb2.Plan(code="pro", name="Pro", prices=[fixed("10")])
    request = catalog_pb2.CreatePlanRequest(request_id="once", plan=plan)
    first = await books.call(books.catalog.CreatePlan, request)
    assert await books.call(books.catalog.CreatePlan, request) == first
    request.plan.name = "Other"
    refusal = await books.refused(books.catalog.CreatePlan, request)
    assert refusal.reason == "IDEMPOTENCY_CONFLICT"


async def test_plans_are_listed_by_code_and_version_in_pages(books: Books) -> None:
    for code in ("b", "a", "a"):
        await books.draft(fixed("1"), seat("2"), code=code)
    seen = []
    request = catalog_pb2.ListPlansRequest(page_size=2)
    while True:
        page = await books.call(books.catalog.ListPlans, request)
        seen += [(plan.code, plan.version, len(plan.prices)) for plan in page.plans]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == [("a", 1, 2), ("a", 2, 2), ("b", 1, 2)]


async def test_nothing_of_another_tenant_is_to_be_seen(books: Books) -> None:
    await books.publish(fixed("10"))
    await books.customer()
    other = Books.__new__(Books)
    other.__dict__ |= books.__dict__
    other.tenant_id = type(books.tenant_id)(int=books.tenant_id.int ^ 1)
    refusal = await other.refused(
        other.catalog.GetPlan, catalog_pb2.GetPlanRequest(code="pro", version=1)
    )
    assert refusal.reason == "NOT_FOUND"
    assert not (await other.rate_card()).known


async def test_a_rate_card_rises_with_what_it_says(books: Books) -> None:
    assert not (await books.rate_card()).known
    await books.customer(time_zone="Europe/Paris")
    before = await books.rate_card()
    assert (before.known, before.version, list(before.entries)) == (True, 1, [])
    await books.publish(fixed("10"), features=["search"])
    subscription = await books.subscribe(start_time=at(2025, 1, 1))
    subscribed = await books.rate_card()
    assert subscribed.version > before.version
    assert list(subscribed.features) == ["search"]
    await books.call(
        books.customers.SetCustomerSuspension,
        customer_pb2.SetCustomerSuspensionRequest(customer_id="acme", suspended=True),
    )
    suspended = await books.rate_card()
    assert suspended.suspended
    assert suspended.version > subscribed.version
    await books.cancel(subscription.subscription_id, immediately=True)
    ended = await books.rate_card()
    assert ended.version > suspended.version
    assert list(ended.features) == []


async def test_the_calculator_answers_as_the_rating_library_does(books: Books) -> None:
    tiers = [
        price_pb2.Tier(up_to="1000", unit_price="0.1"),
        price_pb2.Tier(up_to="10000", unit_price="0.05"),
        price_pb2.Tier(unit_price="0.01"),
    ]
    request = price_pb2.RatingRequest(
        price=price_pb2.Price(asset="USD", graduated=price_pb2.GraduatedModel(tiers=tiers)),
        usage=price_pb2.RatingUsage(quantity="15000"),
    )
    answer = await books.call(
        books.catalog.RatePreview, catalog_pb2.RatePreviewRequest(rating=request)
    )
    assert answer.rating.total.amount == "600"
    amounts = [part.amount for part in answer.rating.breakdowns[0].components]
    assert amounts == ["100", "450", "50"]
    request.price.graduated.tiers[1].up_to = "10"
    refusal = await books.refused(
        books.catalog.RatePreview, catalog_pb2.RatePreviewRequest(rating=request)
    )
    assert refusal.facts["field"] == "price.graduated.tiers[1].up_to"
