"""Changes of plan, seats and add-ons: what each mode bills, and that a preview says it before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.invoicing.office import Office, open_office, stamp
from tests.invoicing.support import at, fixed, moment, seat
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tollgate.invoicing.v1 import catalog_pb2
from tollgate.invoicing.v1 import subscription_pb2 as pb

START = datetime(2025, 4, 1, tzinfo=UTC)
HALF = datetime(2025, 4, 16, tzinfo=UTC)
MAY = datetime(2025, 5, 1, tzinfo=UTC)
ADD_ON = catalog_pb2.PLAN_KIND_ADD_ON
NOW = pb.CHANGE_PRORATION_INVOICE_NOW
NONE = pb.CHANGE_PRORATION_NONE
FULL = pb.CHANGE_PRORATION_FULL_CHARGE
YEAR = catalog_pb2.BillingInterval(count=1, unit=catalog_pb2.INTERVAL_UNIT_YEAR)


@pytest.fixture
async def office(database: FreshDatabase, services: Services) -> Office:
    """Plans small (10), big (20), yearly (120) and team (5 a seat), add-on extra (3)."""
    office = await open_office(services, database, START)
    await office.publish(fixed("10"), code="small")
    await office.publish(fixed("20"), code="big")
    await office.publish(fixed("120"), code="yearly", interval=YEAR)
    await office.publish(fixed("1"), seat("5"), code="team")
    await office.publish(fixed("3", code="extra"), code="extra", kind=ADD_ON, quantity_max="4")
    return office


async def begun(office: Office, plan_code: str = "small", name: str = "acme", **fields: Any) -> str:
    """A subscription whose first invoice is issued."""
    await office.customer(name)
    made = await office.subscribe(name, plan_code=plan_code, **fields)
    await office.bill(collected=False)
    return str(made.subscription_id)


def seats(quantity: str) -> list[Any]:
    return [pb.SubscriptionItem(price_code="seat", quantity=quantity)]


def money(invoice: Any) -> Any:
    """What an invoice asks for, without what only an issued one has."""
    lines = [
        (
            line.kind,
            line.description,
            line.amount,
            line.quantity,
            line.exact_cost,
            line.service_period.SerializeToString(),
        )
        for line in invoice.lines
    ]
    taxes = [(tax.rate, tax.taxable, tax.amount) for tax in invoice.taxes]
    return lines, invoice.subtotal, taxes, invoice.total


async def test_an_upgrade_halfway_gives_back_half_and_charges_half(office: Office) -> None:
    subscription_id = await begun(office)
    await office.go(HALF)
    changed = await office.change(subscription_id, {"plan_code": "big"})
    assert changed.subscription.plan_code == "big"
    assert moment(changed.subscription.next_bill_time) == MAY
    await office.go(MAY)
    await office.bill(collected=False)
    assert await office.lines() == [
        [("Base fee", "10")],
        [("Base fee", "-5"), ("Base fee", "10"), ("Base fee", "20")],
    ]


async def test_an_invoice_of_now_holds_the_difference_alone(office: Office) -> None:
    subscription_id = await begun(office)
    await office.go(HALF)
    await office.change(subscription_id, {"plan_code": "big"}, proration=NOW)
    assert await office.lines() == [
        [("Base fee", "10")],
        [("Base fee", "-5"), ("Base fee", "10")],
    ]


async def test_a_downgrade_leaves_its_surplus_on_the_balance(office: Office) -> None:
    subscription_id = await begun(office, "big")
    await office.go(HALF)
    await office.change(subscription_id, {"plan_code": "small"}, proration=NOW)
    assert await office.balance() == {"USD": "5"}


async def test_without_proration_fees_change_with_the_next_period(office: Office) -> None:
    subscription_id = await begun(office)
    await office.go(HALF)
    changed = await office.change(subscription_id, {"plan_code": "big"}, proration=NONE)
    assert changed.subscription.plan_code == "big"
    await office.go(MAY)
    await office.bill(collected=False)
    assert await office.lines() == [[("Base fee", "10")], [("Base fee", "20")]]


async def test_a_full_charge_gives_nothing_back(office: Office) -> None:
    subscription_id = await begun(office)
    await office.go(HALF)
    await office.change(subscription_id, {"plan_code": "big"}, proration=FULL)
    await office.go(MAY)
    await office.bill(collected=False)
    assert await office.lines() == [
        [("Base fee", "10")],
        [("Base fee", "20"), ("Base fee", "20")],
    ]


async def test_a_longer_interval_is_counted_from_the_change(office: Office) -> None:
    subscription_id = await begun(office)
    await office.go(HALF)
    changed = await office.change(subscription_id, {"plan_code": "yearly"}, proration=NOW)
    assert moment(changed.subscription.anchor_time) == HALF
    assert await office.lines() == [
        [("Base fee", "10")],
        [("Base fee", "-5"), ("Base fee", "120")],
    ]
    again = await office.change(subscription_id, {"plan_code": "small"}, proration=NOW)
    assert moment(again.subscription.anchor_time) == HALF  # months fit the year's grid


async def test_a_change_at_the_period_end_and_at_a_date_wait_for_it(office: Office) -> None:
    subscription_id = await begun(office)
    other = await begun(office, name="other")
    await office.go(HALF)
    end = await office.change(subscription_id, {"plan_code": "big"}, when=pb.CHANGE_WHEN_PERIOD_END)
    assert end.subscription.plan_code == "small"
    assert [term.plan_code for term in end.subscription.terms] == ["small", "big"]
    await office.change(
        other, {"plan_code": "big"}, when=pb.CHANGE_WHEN_AT_TIME, at_time=at(2025, 5, 16)
    )
    for day in (MAY, datetime(2025, 6, 1, tzinfo=UTC)):
        await office.go(day)
        await office.bill(collected=False)
    assert (await office.subscription(subscription_id)).plan_code == "big"
    once, twice = [("Base fee", "10")], [("Base fee", "20")]
    assert await office.lines() == [once, twice, twice]
    # On 1 May the change is known: fifteen days are asked for, and sixteen later.
    assert (await office.lines("other"))[1:] == [
        [("Base fee", "4.84")],
        [("Base fee", "10.32"), ("Base fee", "20")],
    ]


async def test_seats_are_added_at_once_and_given_up_at_the_period_end(office: Office) -> None:
    subscription_id = await begun(office, "team", items=seats("2"))
    await office.go(HALF)
    more = await office.change(subscription_id, {"items": seats("4")}, proration=NOW)
    assert [item.quantity for item in more.subscription.items] == ["1", "4"]
    fewer = await office.change(subscription_id, {"items": seats("3")})
    assert [item.quantity for item in fewer.subscription.items] == ["1", "4"]
    await office.go(MAY)
    await office.bill(collected=False)
    assert await office.lines() == [
        [("Base fee", "1"), ("Seat", "10")],
        [("Seat", "-5"), ("Seat", "10")],
        [("Base fee", "1"), ("Seat", "15")],
    ]


async def test_an_add_on_comes_and_goes_in_the_middle_of_a_period(office: Office) -> None:
    subscription_id = await begun(office)
    await office.go(HALF)
    two = [pb.AddOnChange(plan_code="extra", quantity="2")]
    added = await office.change(subscription_id, {"add_ons": two}, proration=NOW)
    assert [(term.plan_code, term.quantity) for term in added.subscription.terms] == [
        ("small", ""),
        ("extra", "2"),
    ]
    await office.go(datetime(2025, 4, 24, tzinfo=UTC))
    off = [pb.AddOnChange(plan_code="extra", quantity="0")]
    await office.change(subscription_id, {"add_ons": off}, proration=NOW)
    # Half of 2 × 3, of which seven of fifteen days are unused.
    assert (await office.lines())[1:] == [[("Base fee", "3")], [("Base fee", "-1.4")]]


async def test_changing_and_changing_back_at_the_same_instant_costs_nothing(
    office: Office,
) -> None:
    for name, proration in (("acme", NOW), ("other", pb.CHANGE_PRORATION_NEXT_INVOICE)):
        subscription_id = await begun(office, name=name)
        await office.go(office.now + timedelta(days=3, seconds=17))
        for code in ("big", "small"):
            await office.change(subscription_id, {"plan_code": code}, proration=proration)
        await office.go(office.now + timedelta(days=2))
    await office.go(datetime(2025, 5, 5, tzinfo=UTC))
    await office.bill(collected=False)
    for name in ("acme", "other"):
        balance = await office.balance(name)
        assert balance in ({}, {"USD": "0"})
        asked = [line.amount for one in await office.list_invoices(name) for line in one.lines]
        whole = 20 if name == "acme" else 10  # the other one's May begins on the sixth
        assert sum(map(Decimal, asked)) == whole, asked


MODES: list[dict[str, Any]] = [
    {},
    {"proration": NOW},
    {"proration": NONE},
    {"proration": FULL},
    {"anchor": pb.CHANGE_ANCHOR_RESET},
    {"anchor": pb.CHANGE_ANCHOR_RESET, "proration": NOW},
    {"when": pb.CHANGE_WHEN_PERIOD_END},
    {"when": pb.CHANGE_WHEN_AT_TIME, "at_time": at(2025, 5, 9, 3)},
    {"when": pb.CHANGE_WHEN_AT_TIME, "at_time": at(2025, 5, 9, 3), "proration": NOW},
    {"deduction": pb.UNUSED_SHARE_LIST},
    {"deduction": pb.UNUSED_SHARE_NONE, "proration": NOW},
]
TARGETS: list[tuple[str, dict[str, Any]]] = [
    ("small", {"plan_code": "big"}),
    ("big", {"plan_code": "yearly"}),
    ("team", {"items": seats("7")}),
    ("team", {"plan_code": "big", "add_ons": [pb.AddOnChange(plan_code="extra", quantity="3")]}),
]


async def test_a_preview_is_what_is_billed_in_every_mode(office: Office) -> None:
    await office.tax("GB", "0.2")
    for number, (plan_code, _) in enumerate(TARGETS):
        for mode in range(len(MODES)):
            name = f"c{number}-{mode}"
            await office.customer(name)
            await office.subscribe(name, plan_code=plan_code)
    await office.bill(collected=False)
    await office.go(datetime(2025, 4, 12, 7, 11, 13, tzinfo=UTC))
    listed = await office.call(
        office.subscriptions.ListSubscriptions, pb.ListSubscriptionsRequest(page_size=1_000)
    )
    ids = {one.customer_id: one.subscription_id for one in listed.subscriptions}
    promised = {}
    for number, (_, target) in enumerate(TARGETS):
        for mode, options in enumerate(MODES):
            name = f"c{number}-{mode}"
            shown = await office.preview_of(ids[name], target, **options)
            # Nothing was written: the same question has the same answer.
            again = await office.preview_of(ids[name], target, **options)
            assert again.preview_digest == shown.preview_digest
            await office.call(
                office.subscriptions.ChangeSubscription,
                pb.ChangeSubscriptionRequest(
                    subscription_id=ids[name],
                    target=pb.SubscriptionTarget(**target),
                    options=pb.ChangeOptions(**options),
                    preview_digest=shown.preview_digest,
                ),
            )
            promised[name] = shown
    await office.bill(collected=False)
    for due in sorted({moment(one.due_time) for one in promised.values()}):
        if due > office.now:
            await office.go(due)
            await office.bill(collected=False)
    for name, shown in promised.items():
        issued = {moment(one.issue_time): one for one in await office.list_invoices(name)}.get(
            moment(shown.due_time)
        )
        if issued is None:
            assert not any(line.amount != "0" for line in shown.invoice.lines), name
            continue
        assert money(issued) == money(shown.invoice), name


async def test_a_change_is_held_to_its_preview(office: Office) -> None:
    subscription_id = await begun(office)
    await office.go(HALF)
    shown = await office.preview_of(subscription_id, {"plan_code": "big"}, proration=NOW)
    await office.go(HALF + timedelta(days=1))
    refusal = await office.refusal_of(
        office.subscriptions.ChangeSubscription,
        pb.ChangeSubscriptionRequest(
            subscription_id=subscription_id,
            target=pb.SubscriptionTarget(plan_code="big"),
            options=pb.ChangeOptions(proration=NOW),
            preview_digest=shown.preview_digest,
        ),
    )
    assert refusal.reason == "PREVIEW_CHANGED"


async def test_what_cannot_be_changed_is_refused_and_nothing_is_half_done(office: Office) -> None:
    await office.publish(fixed("7"), code="old")
    await office.call(
        office.catalog.ArchivePlan, catalog_pb2.ArchivePlanRequest(code="old", version=1)
    )
    await office.publish(fixed("7", asset="EUR"), code="euro")
    await office.publish(
        fixed("1", code="only"), code="only", kind=ADD_ON, compatible_plans=["big"]
    )
    subscription_id = await begun(office, "team", items=seats("2"))
    extra = pb.AddOnChange(plan_code="extra", quantity="5")
    only = pb.AddOnChange(plan_code="only")
    past, later = at(2025, 3, 1), pb.CHANGE_WHEN_AT_TIME
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"plan_code": "old"}, {}, "PLAN_NOT_PUBLISHED"),
        ({"plan_code": "old", "plan_version": 1}, {}, "PLAN_NOT_PUBLISHED"),
        ({"plan_code": "none"}, {}, "NOT_FOUND"),
        ({"plan_code": "euro"}, {}, "CURRENCY_NOT_PRICED"),
        ({"plan_code": "extra"}, {}, "ADD_ON_REFUSED"),
        ({"add_ons": [extra]}, {}, "ADD_ON_REFUSED"),
        ({"add_ons": [only]}, {}, "ADD_ON_REFUSED"),
        ({"add_ons": [pb.AddOnChange(plan_code="big")]}, {}, "ADD_ON_REFUSED"),
        ({"add_ons": [pb.AddOnChange(plan_code="extra", quantity="0")]}, {}, "ADD_ON_REFUSED"),
        # The plan would change, but not with that add-on: then nothing changes.
        ({"plan_code": "small", "add_ons": [only]}, {}, "ADD_ON_REFUSED"),
        ({}, {}, "INVALID_VALUE"),
        ({"items": [pb.SubscriptionItem(price_code="base")]}, {}, "INVALID_VALUE"),
        ({"plan_code": "big"}, {"when": later, "at_time": past}, "CHANGE_TIME_OUT_OF_RANGE"),
        ({"plan_code": "big"}, {"when": later}, "INVALID_VALUE"),
        ({"plan_code": "big"}, {"when": 99}, "INVALID_VALUE"),
        ({"plan_code": "big"}, {"proration": 99}, "INVALID_VALUE"),
    ]
    for target, options, reason in cases:
        refusal = await office.refusal_of(
            office.subscriptions.ChangeSubscription,
            pb.ChangeSubscriptionRequest(
                subscription_id=subscription_id,
                target=pb.SubscriptionTarget(**target),
                options=pb.ChangeOptions(**options),
            ),
        )
        assert refusal.reason == reason, (target, options, refusal.message)
    await office.go(HALF)
    await office.cancel(subscription_id)
    refusal = await office.refusal_of(
        office.subscriptions.ChangeSubscription,
        pb.ChangeSubscriptionRequest(
            subscription_id=subscription_id,
            target=pb.SubscriptionTarget(plan_code="big"),
            options=pb.ChangeOptions(when=later, at_time=at(2025, 6, 1)),
        ),
    )
    assert refusal.reason == "CHANGE_TIME_OUT_OF_RANGE"


async def test_a_scheduled_change_stands_until_it_is_dropped_or_taken_back(office: Office) -> None:
    subscription_id = await begun(office)
    await office.change(subscription_id, {"plan_code": "big"}, when=pb.CHANGE_WHEN_PERIOD_END)
    request = pb.ChangeSubscriptionRequest(
        subscription_id=subscription_id, target=pb.SubscriptionTarget(plan_code="yearly")
    )
    refusal = await office.refusal_of(office.subscriptions.ChangeSubscription, request)
    assert refusal.reason == "SUBSCRIPTION_CHANGE_PENDING"
    assert datetime.fromisoformat(refusal.facts["scheduled"]) == MAY
    back = pb.ReactivateSubscriptionRequest(subscription_id=subscription_id)
    await office.call(office.subscriptions.ReactivateSubscription, back)
    await office.go(HALF)
    await office.change(subscription_id, {"plan_code": "big"}, when=pb.CHANGE_WHEN_PERIOD_END)
    await office.change(
        subscription_id, {"plan_code": "yearly"}, proration=NOW, drops_scheduled=True
    )
    await office.go(datetime(2025, 6, 1, tzinfo=UTC))
    await office.bill(collected=False)
    assert await office.lines() == [
        [("Base fee", "10")],
        [("Base fee", "-5"), ("Base fee", "120")],
    ]
    changes = await office.call(
        office.subscriptions.ListSubscriptionChanges,
        pb.ListSubscriptionChangesRequest(subscription_id=subscription_id, page_size=2),
    )
    assert [one.kind for one in changes.changes] == ["CHANGE", "CHANGE"]
    rest = await office.call(
        office.subscriptions.ListSubscriptionChanges,
        pb.ListSubscriptionChangesRequest(
            subscription_id=subscription_id, page_size=5, page_token=changes.next_page_token
        ),
    )
    assert [one.kind for one in rest.changes] == ["TAKE_BACK", "CHANGE", "CREATE"]
    assert stamp(START) == rest.changes[-1].effective_time
