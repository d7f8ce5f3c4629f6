"""Entitlements: what plans, overrides and grants make of a feature, and who is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.entitlements.domain.resolve import (
    Entitlement,
    Grant,
    Holdings,
    Override,
    Provision,
    Source,
    resolve,
)
from invoicing.entitlements.domain.value import (
    Enforcement,
    Feature,
    FeatureKind,
    Limit,
    Merge,
    PlanEntitlement,
    Reset,
    Value,
    value_document,
    value_of,
)
from kernel.period import Every, Unit
from tests.gateway.support import SandboxProcess
from tests.invoicing.company import open_company
from tests.invoicing.support import Books, at, fixed, granting, moment, seat, worth
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tollgate.invoicing.v1 import catalog_pb2, entitlement_pb2, subscription_pb2

claims = settings(derandomize=True, deadline=None, database=None, max_examples=150)

START = datetime(2025, 1, 31, tzinfo=UTC)
NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)
MONTH = Every(1, Unit.MONTH)
CALLS = Feature("calls", "Calls", FeatureKind.METERED, meter="calls")
SEATS = Feature("regions", "Regions", FeatureKind.CONFIG, merge=Merge.SUM)
SSO = Feature("sso", "SSO", FeatureKind.BOOLEAN)
FEATURES = {one.code: one for one in (CALLS, SEATS, SSO)}


def provision(*values: PlanEntitlement, number: int = 1, **fields: Any) -> Provision:
    given = {
        "subscription_id": UUID(int=number),
        "source": Source.PLAN,
        "name": "pro",
        "quantity": Decimal(1),
        "seats": {},
        "anchor": START,
        "every": MONTH,
        "time_zone": "UTC",
        "start": START,
        "end": None,
    } | fields
    return Provision(values=values, **given)


def limited(quantity: str, **fields: Any) -> Value:
    return Value(limits=(Limit(Decimal(quantity), **fields),))


def held(*provisions: Provision, **fields: Any) -> Holdings:
    return Holdings("UTC", START, provisions=provisions, **fields)


def one_of(holdings: Holdings, code: str = "calls", now: datetime = NOW) -> Entitlement:
    found, _ = resolve(FEATURES, holdings, now)
    return next(one for one in found if one.feature.code == code)


def override(value: Value, number: int | None = None, code: str = "calls") -> Override:
    subscription_id = None if number is None else UUID(int=number)
    return Override("acme", subscription_id, code, value, START, None)


def extra(value: Value, code: str = "calls", end: datetime | None = None) -> Grant:
    return Grant(UUID(int=9), "acme", code, value, START, end)


def test_limits_of_plans_seats_add_ons_and_grants_add_up_in_the_plans_window() -> None:
    holdings = held(
        provision(PlanEntitlement("calls", limited("100"), "seat"), seats={"seat": Decimal(5)}),
        provision(
            PlanEntitlement("calls", limited("40")),
            source=Source.ADD_ON,
            name="more",
            quantity=Decimal(3),
        ),
        grants=(extra(limited("7")),),
    )
    found = one_of(holdings)
    (limit,) = found.limits
    assert (limit.quantity, limit.reset, limit.every) == (627, Reset.BILLING, MONTH)
    assert [source for source, _ in found.origins] == [Source.GRANT, Source.ADD_ON, Source.PLAN]
    window = limit.window(NOW)
    assert window is not None
    assert (window.start, window.end) == (
        datetime(2025, 5, 31, tzinfo=UTC),
        datetime(2025, 6, 30, tzinfo=UTC),
    )


def test_an_override_replaces_what_its_subscription_grants_and_a_customers_decides_alone() -> None:
    two = (
        provision(PlanEntitlement("calls", limited("100"))),
        provision(PlanEntitlement("calls", limited("10")), number=2),
    )
    assert one_of(held(*two)).limits[0].quantity == 110
    one = one_of(held(*two, overrides=(override(limited("1000"), 1),)))
    assert one.limits[0].quantity == 1010
    assert (Source.SUBSCRIPTION_OVERRIDE, str(UUID(int=1))) in one.origins
    alone = one_of(
        held(
            *two,
            overrides=(override(limited("5")), override(limited("1000"), 1)),
            grants=(extra(limited("7")),),
        )
    )
    assert alone.limits[0].quantity == 5
    assert alone.origins == ((Source.CUSTOMER_OVERRIDE, "acme"),)
    off = one_of(held(*two, overrides=(override(Value(disabled=True)),)))
    assert (off.enabled, off.limits) == (False, ())


def test_a_subscriptions_override_may_grant_what_its_plan_does_not() -> None:
    holdings = held(provision(PlanEntitlement("sso", Value())), overrides=(override(Value(), 1),))
    assert one_of(holdings).enabled
    ended = held(provision(end=NOW), overrides=(override(Value(), 1),))
    found, _ = resolve(FEATURES, ended, NOW)
    assert [one.feature.code for one in found] == []


def test_windows_of_other_lengths_stand_beside_each_other_and_no_limit_takes_one_away() -> None:
    five_hours = Limit(Decimal(50), reset=Reset.ROLLING, rolling_seconds=18_000)
    week = Limit(Decimal(500), reset=Reset.CALENDAR, every=Every(1, Unit.WEEK))
    plan = PlanEntitlement("calls", Value(limits=(five_hours, week)))
    assert [one.quantity for one in one_of(held(provision(plan))).limits] == [50, 500]
    unlimited = Value(limits=(Limit(None, reset=Reset.CALENDAR, every=Every(1, Unit.WEEK)),))
    left = one_of(held(provision(plan), grants=(extra(unlimited),))).limits
    assert [one.rolling_seconds for one in left] == [18_000]
    assert one_of(held(provision(plan), grants=(extra(Value()),))).limits == ()


def test_soft_wins_over_hard_in_the_same_window() -> None:
    holdings = held(
        provision(PlanEntitlement("calls", limited("100"))),
        grants=(extra(limited("1", enforcement=Enforcement.SOFT)),),
    )
    assert one_of(holdings).limits[0].enforcement is Enforcement.SOFT


@pytest.mark.parametrize(
    ("merge", "value"), [(Merge.REPLACE, "4"), (Merge.MAX, "9"), (Merge.SUM, "13")]
)
def test_values_become_one_as_their_feature_says(merge: Merge, value: str) -> None:
    feature = Feature("regions", "Regions", FeatureKind.CONFIG, merge=merge)
    plan = PlanEntitlement("regions", Value(config="9"))
    more = PlanEntitlement("regions", Value(config="4"))
    add_on = provision(more, source=Source.ADD_ON, name="more")
    found, _ = resolve({"regions": feature}, held(provision(plan), add_on), NOW)
    assert found[0].config == value


def test_a_default_is_for_whom_nothing_else_says_anything() -> None:
    feature = Feature("calls", "Calls", FeatureKind.METERED, meter="calls", default=limited("3"))
    found, _ = resolve({"calls": feature}, held(), NOW)
    assert found[0].limits[0].quantity == 3
    assert found[0].limits[0].reset is Reset.CALENDAR  # nobody's grid but the calendar's
    plan = provision(PlanEntitlement("calls", limited("100")))
    found, _ = resolve({"calls": feature}, held(plan), NOW)
    assert found[0].limits[0].quantity == 100


instants = st.datetimes(
    min_value=datetime(2025, 1, 1), max_value=datetime(2026, 1, 1), timezones=st.just(UTC)
)


@claims
@given(st.lists(st.tuples(instants, instants), min_size=1, max_size=6), st.data())
def test_nothing_changes_before_the_instant_that_is_told(
    spans: list[tuple[datetime, datetime]], data: st.DataObject
) -> None:
    grants = tuple(
        Grant(UUID(int=n), "acme", "calls", limited("1"), min(pair), max(pair))
        for n, pair in enumerate(spans, start=1)
    )
    holdings = held(grants=grants)
    now = data.draw(instants)
    found, until = resolve(FEATURES, holdings, now)
    last = until or now + timedelta(days=1_000)
    between = data.draw(st.datetimes(now.replace(tzinfo=None), last.replace(tzinfo=None)))
    moment_ = between.replace(tzinfo=UTC)
    if moment_ < last:
        assert resolve(FEATURES, holdings, moment_)[0] == found


@claims
@given(st.permutations([1, 2, 3]), st.sampled_from([CALLS, SSO]))
def test_what_is_granted_does_not_depend_on_the_order_of_subscriptions(
    order: list[int], feature: Feature
) -> None:
    value = limited("10") if feature is CALLS else Value()
    provisions = [provision(PlanEntitlement(feature.code, value), number=n) for n in order]
    (found,), _ = resolve(FEATURES, held(*provisions), NOW)
    assert found.enabled
    assert sum(one.quantity for one in found.limits) == (30 if feature is CALLS else 0)


@claims
@given(
    st.booleans(),
    st.lists(
        st.builds(
            Limit,
            st.none() | st.decimals(0, 10**9, places=4),
            st.sampled_from(Enforcement),
            st.none() | st.sampled_from(Reset),
            st.none() | st.builds(Every, st.integers(1, 12), st.sampled_from(Unit)),
            st.integers(0, 10**6),
        ),
        max_size=3,
    ),
)
def test_values_are_kept_as_they_are(disabled: bool, limits: list[Limit]) -> None:
    value = Value(disabled, "x", tuple(limits))
    assert value_of(value_document(value)) == value


async def set_override(books: Books, feature_code: str, value: Any, **fields: Any) -> None:
    given = {"customer_id": "acme"} | fields
    await books.call(
        books.entitlements.SetEntitlementOverride,
        entitlement_pb2.SetEntitlementOverrideRequest(
            override=entitlement_pb2.EntitlementOverride(
                feature_code=feature_code, value=value, **given
            )
        ),
    )


async def grant(books: Books, feature_code: str, value: Any, **fields: Any) -> Any:
    answer = await books.call(
        books.entitlements.CreateEntitlementGrant,
        entitlement_pb2.CreateEntitlementGrantRequest(
            grant=entitlement_pb2.EntitlementGrant(
                customer_id="acme", feature_code=feature_code, value=value, **fields
            )
        ),
    )
    return answer.grant


async def test_a_whole_customer_is_answered_in_one_call(books: Books) -> None:
    await books.customer()
    await books.customer("other", time_zone="Asia/Tokyo")
    await books.feature("calls", "METERED", meter="calls", default_value=worth("3"))
    await books.feature("region", "CONFIG")
    await books.publish(
        fixed("10"),
        seat("5"),
        features=["sso"],
        entitlements=[
            granting("calls", "100", per="seat"),
            granting("region", config="eu"),
        ],
    )
    await books.subscribe(
        start_time=at(2025, 1, 31),
        items=[subscription_pb2.SubscriptionItem(price_code="seat", quantity="4")],
    )
    answer = await books.call(
        books.entitlements.GetEntitlements,
        entitlement_pb2.GetEntitlementsRequest(customer_ids=["acme", "nobody", "other"]),
    )
    acme, nobody, other = answer.customers
    found = {one.feature_code: one for one in acme.entitlements}
    assert sorted(found) == ["calls", "region", "sso"]
    assert found["region"].config == "eu"
    assert found["sso"].kind == catalog_pb2.FEATURE_KIND_BOOLEAN
    assert found["sso"].enabled
    (limit,) = found["calls"].limits
    assert limit.quantity == "400"
    assert moment(limit.anchor_time) == datetime(2025, 1, 31, tzinfo=UTC)
    assert limit.reset == catalog_pb2.LIMIT_RESET_BILLING
    assert (nobody.known, nobody.version) == (False, 0)
    assert other.entitlements[0].limits[0].quantity == "3"
    assert other.entitlements[0].limits[0].time_zone == "Asia/Tokyo"
    # The rate card, which the gate keeps, says the same.
    card = await books.rate_card()
    assert list(card.entitlements) == list(acme.entitlements)
    assert list(card.features) == ["calls", "region", "sso"]
    assert card.version == acme.version


async def test_every_change_raises_the_version_and_says_until_when_it_holds(books: Books) -> None:
    await books.customer()
    await books.feature("calls", "METERED", meter="calls")
    await books.publish(fixed("10"), entitlements=[granting("calls", "100")])
    await books.subscribe(start_time=at(2025, 1, 1))
    first = await books.holding()
    assert not first.HasField("valid_until_time")
    end = Timestamp(seconds=int(datetime.now(UTC).timestamp()) + 3_600)
    made = await grant(books, "calls", worth("11"), end_time=end, reason="sorry")
    second = await books.holding()
    assert second.version > first.version
    assert second.entitlements[0].limits[0].quantity == "111"
    assert second.valid_until_time == end
    await books.call(
        books.entitlements.RevokeEntitlementGrant,
        entitlement_pb2.RevokeEntitlementGrantRequest(grant_id=made.grant_id),
    )
    third = await books.holding()
    assert third.version > second.version
    assert third.entitlements[0].limits[0].quantity == "100"
    await set_override(books, "calls", worth(disabled=True))
    fourth = await books.holding()
    assert fourth.version > third.version
    assert not fourth.entitlements[0].enabled
    assert list((await books.rate_card()).features) == []
    clear = entitlement_pb2.ClearEntitlementOverrideRequest(
        customer_id="acme", feature_code="calls"
    )
    await books.call(books.entitlements.ClearEntitlementOverride, clear)
    assert (await books.holding()).version > fourth.version
    again = entitlement_pb2.ClearEntitlementOverrideRequest(
        customer_id="acme", feature_code="calls"
    )
    refusal = await books.refused(books.entitlements.ClearEntitlementOverride, again)
    assert refusal.reason == "NOT_FOUND"


async def test_overrides_and_grants_are_listed_page_by_page(books: Books) -> None:
    await books.customer()
    for code in ("a", "b", "c"):
        await books.feature(code, "BOOLEAN")
        await set_override(books, code, worth())
        await grant(books, code, worth())
    overrides, grants = [], []
    token = ""
    while True:
        page = await books.call(
            books.entitlements.ListEntitlementOverrides,
            entitlement_pb2.ListEntitlementOverridesRequest(
                customer_id="acme", page_size=2, page_token=token
            ),
        )
        overrides += [one.feature_code for one in page.overrides]
        token = page.next_page_token
        if not token:
            break
    while True:
        page = await books.call(
            books.entitlements.ListEntitlementGrants,
            entitlement_pb2.ListEntitlementGrantsRequest(
                customer_id="acme", page_size=2, page_token=token
            ),
        )
        grants += [one.feature_code for one in page.grants]
        token = page.next_page_token
        if not token:
            break
    assert (overrides, grants) == (["a", "b", "c"], ["c", "b", "a"])


async def test_a_feature_keeps_its_kind_and_may_change_its_name(books: Books) -> None:
    await books.feature("calls", "METERED", meter="calls")
    changed = await books.feature("calls", "METERED", meter="calls", name="API calls")
    assert changed.name == "API calls"
    for fields in ({"kind": catalog_pb2.FEATURE_KIND_BOOLEAN}, {"meter": "tokens"}):
        given = {"name": "C", "kind": catalog_pb2.FEATURE_KIND_METERED, "meter": "calls"} | fields
        if "kind" in fields:
            del given["meter"]
        refusal = await books.refused(
            books.entitlements.SetFeature,
            entitlement_pb2.SetFeatureRequest(
                feature=entitlement_pb2.Feature(code="calls", **given)
            ),
        )
        assert refusal.reason == "FEATURE_FIXED"
    answer = await books.call(
        books.entitlements.ListFeatures, entitlement_pb2.ListFeaturesRequest()
    )
    assert [one.name for one in answer.features] == ["API calls"]


async def test_a_plan_grants_only_what_exists_and_fits(books: Books) -> None:
    await books.feature("calls", "METERED", meter="calls")
    await books.feature("regions", "CONFIG", merge=entitlement_pb2.CONFIG_MERGE_SUM)
    for granted, field in (
        (granting("nothing"), "entitlements[0].feature_code"),
        (granting("regions", config="many"), "entitlements[0].value.config"),
        (granting("regions"), "entitlements[0].value.config"),
        (granting("calls", config="x"), "entitlements[0].value.config"),
    ):
        draft = await books.draft(fixed("10"), entitlements=[granted])
        refusal = await books.refused(
            books.catalog.PublishPlan,
            catalog_pb2.PublishPlanRequest(code="pro", version=draft.version),
        )
        assert (refusal.reason, refusal.facts["field"]) == ("INVALID_VALUE", field)
    rolling = catalog_pb2.UsageLimit(quantity="1", reset=catalog_pb2.LIMIT_RESET_ROLLING)
    both = catalog_pb2.UsageLimit(quantity="1", unlimited=True)
    for granted, field in (
        (granting("calls", rolling), "plan.entitlements[0].value.limits[0].rolling_seconds"),
        (granting("calls", both), "plan.entitlements[0].value.limits[0].quantity"),
        (granting("calls", "-1"), "plan.entitlements[0].value.limits[0].quantity"),
        (granting("calls", "1", per="seat"), "plan.entitlements[0].per_price_code"),
    ):
        plan = catalog_pb2.Plan(code="pro", name="P", prices=[fixed("1")], entitlements=[granted])
        refusal = await books.refused(
            books.catalog.CreatePlan, catalog_pb2.CreatePlanRequest(plan=plan)
        )
        assert (refusal.reason, refusal.facts["field"]) == ("INVALID_VALUE", field)


async def test_what_may_be_used_is_advised_from_what_was_used(
    database: FreshDatabase, sandbox: SandboxProcess, services: Services
) -> None:
    start = datetime(2025, 1, 31, tzinfo=UTC)
    company = await open_company(services, database, sandbox, start)
    await company.meter("calls")
    await company.customer()
    await company.feature("calls", "METERED", meter="calls")
    await company.publish(fixed("10"), entitlements=[granting("calls", "100")])
    await company.subscribe(start_time=at(2025, 1, 31))
    await company.advance(at(2025, 3, 15))
    await company.use(at(2025, 2, 10), calls="50")
    await company.use(at(2025, 3, 10), calls="60")

    async def check(quantity: str, code: str = "calls") -> Any:
        return await company.call(
            company.entitlements.CheckEntitlement,
            entitlement_pb2.CheckEntitlementRequest(
                customer_id="acme", feature_code=code, quantity=quantity
            ),
        )

    enough = await check("40")
    assert (enough.allowed, enough.uses[0].used, enough.uses[0].remaining) == (True, "60", "40")
    assert moment(enough.uses[0].reset_time) == datetime(2025, 3, 31, tzinfo=UTC)
    short = await check("40.5")
    assert (short.allowed, list(short.reasons)) == (False, ["LIMIT_REACHED"])
    assert list((await check("1", "sso")).reasons) == ["NOT_ENTITLED"]
