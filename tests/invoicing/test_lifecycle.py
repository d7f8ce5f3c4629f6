"""Trials, phases, pauses, endings: what each bills, and what it lets nobody do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.invoicing.office import Office, open_office, stamp
from tests.invoicing.support import at, fixed, granting, moment, seat
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tollgate.invoicing.v1 import catalog_pb2
from tollgate.invoicing.v1 import subscription_pb2 as pb

START = datetime(2025, 4, 1, tzinfo=UTC)
HALF = datetime(2025, 4, 16, tzinfo=UTC)
MAY = datetime(2025, 5, 1, tzinfo=UTC)
JUNE = datetime(2025, 6, 1, tzinfo=UTC)
JULY = datetime(2025, 7, 1, tzinfo=UTC)
DAYS_14 = catalog_pb2.BillingInterval(count=14, unit=catalog_pb2.INTERVAL_UNIT_DAY)
MONTH = catalog_pb2.BillingInterval(count=1, unit=catalog_pb2.INTERVAL_UNIT_MONTH)
PER_SEAT = [pb.SubscriptionItem(price_code="seat", quantity="3")]


@pytest.fixture
async def office(database: FreshDatabase, services: Services) -> Office:
    office = await open_office(services, database, START)
    await office.feature("sso", "BOOLEAN")
    await office.publish(fixed("30"), code="small", entitlements=[granting("sso")])
    await office.publish(fixed("60"), code="big")
    await office.publish(fixed("1"), seat("5"), code="team")
    await office.customer()
    return office


async def bill_at(office: Office, *instants: datetime) -> None:
    for instant in instants:
        await office.go(instant)
        await office.bill(collected=False)


def fees(invoices: list[list[tuple[str, str]]]) -> list[list[str]]:
    return [[amount for _, amount in lines] for lines in invoices]


async def pause(office: Office, subscription_id: str, **fields: Any) -> Any:
    answer = await office.call(
        office.subscriptions.PauseSubscription,
        pb.PauseSubscriptionRequest(subscription_id=subscription_id, **fields),
    )
    return answer.subscription


async def resume(office: Office, subscription_id: str, **fields: Any) -> Any:
    answer = await office.call(
        office.subscriptions.ResumeSubscription,
        pb.ResumeSubscriptionRequest(subscription_id=subscription_id, **fields),
    )
    return answer.subscription


async def cancel(office: Office, subscription_id: str, **fields: Any) -> Any:
    answer = await office.call(
        office.subscriptions.CancelSubscription,
        pb.CancelSubscriptionRequest(subscription_id=subscription_id, **fields),
    )
    return answer.subscription


async def reactivate(office: Office, subscription_id: str) -> Any:
    answer = await office.call(
        office.subscriptions.ReactivateSubscription,
        pb.ReactivateSubscriptionRequest(subscription_id=subscription_id),
    )
    return answer.subscription


async def test_a_trial_costs_nothing_and_periods_are_counted_from_its_end(office: Office) -> None:
    trial = catalog_pb2.Trial(length=DAYS_14)
    made = await office.subscribe(plan_code="small", trial=trial)
    assert made.state == pb.SUBSCRIPTION_STATE_TRIALING
    assert moment(made.trial_end_time) == datetime(2025, 4, 15, tzinfo=UTC)
    assert made.anchor_time == made.trial_end_time
    assert (await office.entitled())["sso"].enabled
    await bill_at(office, START, datetime(2025, 4, 15, tzinfo=UTC), MAY)
    assert fees(await office.lines()) == [["30"]]
    now = await office.subscription(made.subscription_id)
    assert now.state == pb.SUBSCRIPTION_STATE_ACTIVE
    assert moment(now.next_bill_time) == datetime(2025, 5, 15, tzinfo=UTC)


async def test_a_trial_may_keep_the_grid_and_leaves_a_stub(office: Office) -> None:
    trial = catalog_pb2.Trial(length=DAYS_14, anchor_from=catalog_pb2.TRIAL_ANCHOR_START)
    await office.subscribe(plan_code="small", trial=trial)
    await bill_at(office, datetime(2025, 4, 15, tzinfo=UTC), MAY)
    assert fees(await office.lines()) == [["16"], ["30"]]


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (catalog_pb2.TRIAL_END_CANCEL, pb.SUBSCRIPTION_STATE_ENDED),
        (catalog_pb2.TRIAL_END_PAUSE, pb.SUBSCRIPTION_STATE_PAUSED),
    ],
)
async def test_a_trial_may_end_the_subscription_or_pause_it(
    office: Office, end: Any, state: Any
) -> None:
    trial = catalog_pb2.Trial(length=DAYS_14, end=end)
    made = await office.subscribe(plan_code="small", trial=trial)
    await bill_at(office, datetime(2025, 4, 15, tzinfo=UTC), MAY)
    now = await office.subscription(made.subscription_id)
    assert now.state == state
    assert await office.lines() == []
    assert not await office.entitled()
    if state == pb.SUBSCRIPTION_STATE_PAUSED:
        await resume(office, made.subscription_id)
        assert (await office.entitled())["sso"].enabled
        await office.bill(collected=False)
        # It goes on in the middle of the period from 15 April: 14 of its 30 days are left.
        assert fees(await office.lines()) == [["14"]]


async def test_a_plans_trial_is_had_once_per_customer(office: Office) -> None:
    await office.publish(fixed("30"), code="tried", trial=catalog_pb2.Trial(length=DAYS_14))
    first = await office.subscribe(plan_code="tried")
    second = await office.subscribe(plan_code="tried")
    assert first.HasField("trial_end_time")
    assert not second.HasField("trial_end_time")
    refusal = await office.refused(
        office.subscriptions.CreateSubscription,
        pb.CreateSubscriptionRequest(
            customer_id="acme", plan_code="tried", trial=catalog_pb2.Trial(length=DAYS_14)
        ),
    )
    assert refusal.reason == "TRIAL_REFUSED"
    again = catalog_pb2.Trial(length=DAYS_14, repeatable=True)
    third = await office.subscribe(plan_code="tried", trial=again)
    assert third.HasField("trial_end_time")


async def test_phases_follow_each_other_and_split_the_fee_at_their_border(office: Office) -> None:
    made = await office.subscribe(
        plan_code="small",
        phases=[
            pb.SubscriptionPhase(start_time=stamp(HALF), plan_code="big"),
            pb.SubscriptionPhase(start_time=stamp(JUNE), plan_code="team", items=PER_SEAT),
        ],
    )
    assert [term.plan_code for term in made.terms] == ["small", "big", "team"]
    await bill_at(office, START, MAY, JUNE)
    assert fees(await office.lines()) == [["15"], ["30", "60"], ["1", "15"]]


async def test_phases_that_overlap_are_refused(office: Office) -> None:
    for first, second in ((MAY, MAY), (JUNE, MAY), (START, MAY)):
        refusal = await office.refused(
            office.subscriptions.CreateSubscription,
            pb.CreateSubscriptionRequest(
                customer_id="acme",
                plan_code="small",
                phases=[
                    pb.SubscriptionPhase(start_time=stamp(first), plan_code="big"),
                    pb.SubscriptionPhase(start_time=stamp(second), plan_code="small"),
                ],
            ),
        )
        assert refusal.reason == "INVALID_VALUE"
        assert refusal.facts["field"].endswith(".start_time")
    listed = await office.call(
        office.subscriptions.ListSubscriptions, pb.ListSubscriptionsRequest()
    )
    assert not listed.subscriptions


async def test_a_pause_gives_back_what_is_unused_and_grants_nothing(office: Office) -> None:
    made = await office.subscribe(plan_code="small")
    await bill_at(office, START, HALF)
    paused = await pause(office, made.subscription_id)
    assert paused.state == pb.SUBSCRIPTION_STATE_PAUSED
    assert not await office.entitled()
    await bill_at(office, HALF, MAY)
    await office.go(datetime(2025, 5, 21, tzinfo=UTC))
    resumed = await resume(office, made.subscription_id)
    assert resumed.state == pb.SUBSCRIPTION_STATE_ACTIVE
    assert (await office.entitled())["sso"].enabled
    await bill_at(office, office.now, JUNE)
    # Eleven of the 31 days of May are left.
    assert fees(await office.lines()) == [["30"], ["-15"], ["10.65"], ["30"]]


async def test_a_pause_may_move_the_paid_rest_of_the_period_behind_it(office: Office) -> None:
    made = await office.subscribe(plan_code="small")
    await bill_at(office, START, HALF)
    until = datetime(2025, 4, 26, tzinfo=UTC)
    await pause(office, made.subscription_id, extends_period=True, resume_time=stamp(until))
    await bill_at(office, HALF, until, MAY, datetime(2025, 5, 11, tzinfo=UTC))
    assert fees(await office.lines()) == [["30"], ["30"]]
    now = await office.subscription(made.subscription_id)
    assert moment(now.next_bill_time) == datetime(2025, 6, 11, tzinfo=UTC)


async def test_a_pause_may_go_on_billing(office: Office) -> None:
    made = await office.subscribe(plan_code="small")
    await bill_at(office, START, HALF)
    await pause(office, made.subscription_id, keeps_billing=True)
    await bill_at(office, MAY)
    assert fees(await office.lines()) == [["30"], ["30"]]
    refusal = await office.refusal_of(
        office.subscriptions.ChangeSubscription,
        pb.ChangeSubscriptionRequest(
            subscription_id=made.subscription_id,
            target=pb.SubscriptionTarget(plan_code="big"),
        ),
    )
    assert refusal.reason == "SUBSCRIPTION_PAUSED"


async def test_only_what_is_paused_is_resumed_and_pauses_end_after_they_begin(
    office: Office,
) -> None:
    made = await office.subscribe(plan_code="small")
    refusal = await office.refusal_of(
        office.subscriptions.ResumeSubscription,
        pb.ResumeSubscriptionRequest(subscription_id=made.subscription_id),
    )
    assert refusal.reason == "SUBSCRIPTION_NOT_PAUSED"
    refusal = await office.refusal_of(
        office.subscriptions.PauseSubscription,
        pb.PauseSubscriptionRequest(subscription_id=made.subscription_id, resume_time=stamp(START)),
    )
    assert refusal.facts["field"] == "resume_time"


CANCELS: list[tuple[dict[str, Any], datetime, list[list[str]]]] = [
    ({"when": pb.CANCEL_WHEN_IMMEDIATE}, HALF, [["30"], ["-15"]]),
    ({"when": pb.CANCEL_WHEN_PERIOD_END}, MAY, [["30"]]),
    (
        {"when": pb.CANCEL_WHEN_AT_TIME, "at_time": at(2025, 4, 21)},
        datetime(2025, 4, 21, tzinfo=UTC),
        [["30"], ["-10"]],
    ),
    ({"when": pb.CANCEL_WHEN_IMMEDIATE, "unused": pb.UNUSED_SHARE_NONE}, HALF, [["30"]]),
    ({"when": pb.CANCEL_WHEN_IMMEDIATE, "skips_final_invoice": True}, HALF, [["30"]]),
    ({"when": pb.CANCEL_WHEN_TERM_END}, JULY, [["30"], ["30"], ["30"]]),
]


@pytest.mark.parametrize(("fields", "end", "expected"), CANCELS)
async def test_a_cancellation_takes_effect_when_and_how_it_is_said(
    office: Office, fields: dict[str, Any], end: datetime, expected: list[list[str]]
) -> None:
    quarter = pb.Renewal(
        term=catalog_pb2.BillingInterval(count=3, unit=catalog_pb2.INTERVAL_UNIT_MONTH)
    )
    made = await office.subscribe(plan_code="small", renewal=quarter)
    await bill_at(office, START, HALF)
    ended = await cancel(office, made.subscription_id, **fields)
    assert moment(ended.end_time) == end
    assert ended.end_reason == "CANCELLED"
    await bill_at(office, HALF, datetime(2025, 4, 21, tzinfo=UTC), MAY, JUNE, JULY)
    assert fees(await office.lines()) == expected


async def test_a_cancellation_is_taken_back_until_it_takes_effect(office: Office) -> None:
    made = await office.subscribe(plan_code="small")
    await bill_at(office, START, HALF)
    await cancel(office, made.subscription_id)
    back = await reactivate(office, made.subscription_id)
    assert not back.HasField("end_time")
    await bill_at(office, MAY)
    assert fees(await office.lines()) == [["30"], ["30"]]
    refusal = await office.refusal_of(
        office.subscriptions.ReactivateSubscription,
        pb.ReactivateSubscriptionRequest(subscription_id=made.subscription_id),
    )
    assert refusal.reason == "NOTHING_SCHEDULED"


async def test_what_is_over_begins_anew_with_its_plan_and_seats(office: Office) -> None:
    made = await office.subscribe(plan_code="team", items=PER_SEAT)
    await bill_at(office, START, HALF)
    await cancel(office, made.subscription_id, immediately=True)
    again = await reactivate(office, made.subscription_id)
    assert again.subscription_id != made.subscription_id
    assert [item.quantity for item in again.items] == ["1", "3"]
    assert moment(again.start_time) == HALF


async def test_a_renewal_raises_prices_by_its_percentage_or_takes_the_present_ones(
    office: Office,
) -> None:
    await office.customer("other")
    uplift = pb.Renewal(term=MONTH, uplift_percent="10")
    await office.subscribe(plan_code="team", items=PER_SEAT, renewal=uplift)
    present = pb.Renewal(term=MONTH, rate_source=pb.RATE_SOURCE_CURRENT)
    made = await office.subscribe("other", plan_code="small", renewal=present)
    await bill_at(office, START)
    await office.publish(fixed("33"), code="small")
    await bill_at(office, datetime(2025, 4, 30, 12, tzinfo=UTC))
    ahead = await office.subscription(made.subscription_id)
    assert [term.plan_version for term in ahead.terms] == [1, 2]
    await bill_at(office, MAY, JUNE)
    assert fees(await office.lines()) == [["1", "15"], ["1.1", "16.5"], ["1.21", "18.15"]]
    assert fees(await office.lines("other")) == [["30"], ["33"], ["33"]]
    kinds = await office.call(
        office.subscriptions.ListSubscriptionChanges,
        pb.ListSubscriptionChangesRequest(subscription_id=made.subscription_id),
    )
    assert [one.kind for one in kinds.changes] == ["RENEW", "RENEW", "CREATE"]


async def test_a_term_may_be_the_last_one(office: Office) -> None:
    renewal = pb.Renewal(term=MONTH, mode=pb.RENEWAL_MODE_NONE)
    made = await office.subscribe(plan_code="small", renewal=renewal)
    assert (moment(made.end_time), made.end_reason) == (MAY, "TERM_OVER")
    dated = pb.Renewal(term=MONTH, mode=pb.RENEWAL_MODE_AUTO_UNTIL, until_time=stamp(JUNE))
    other = await office.subscribe(plan_code="small", renewal=dated)
    assert moment(other.end_time) == JUNE
    for wrong in (
        pb.Renewal(mode=pb.RENEWAL_MODE_NONE),
        pb.Renewal(term=MONTH, mode=pb.RENEWAL_MODE_AUTO_UNTIL),
        pb.Renewal(term=MONTH, until_time=stamp(JUNE)),
    ):
        refusal = await office.refused(
            office.subscriptions.CreateSubscription,
            pb.CreateSubscriptionRequest(customer_id="acme", plan_code="small", renewal=wrong),
        )
        assert refusal.reason == "INVALID_VALUE"
