"""A year of random changes under a test clock: no second is billed twice, and none is skipped."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kernel.period import Period
from tests.invoicing.company import WAIT_SECONDS_MAX
from tests.invoicing.office import Office, open_office, stamp
from tests.invoicing.support import fixed, moment, seat
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tests.support.waiting import until
from tollgate.invoicing.v1 import catalog_pb2, invoice_pb2
from tollgate.invoicing.v1 import subscription_pb2 as pb

START = datetime(2025, 1, 31, 9, 30, tzinfo=UTC)
CUSTOMERS = 4
STEPS = 78
PLANS = ("small", "big", "weekly", "yearly", "team")
PRORATIONS = (
    pb.CHANGE_PRORATION_NEXT_INVOICE,
    pb.CHANGE_PRORATION_INVOICE_NOW,
    pb.CHANGE_PRORATION_NONE,
)
WHENS = (
    pb.CHANGE_WHEN_IMMEDIATE,
    pb.CHANGE_WHEN_IMMEDIATE,
    pb.CHANGE_WHEN_PERIOD_END,
    pb.CHANGE_WHEN_AT_TIME,
)


@dataclass
class Life:
    """One subscription, and when it was served by what was asked of it."""

    subscription_id: str
    start: datetime
    end: datetime | None = None
    paused: list[list[datetime]] = field(default_factory=list)

    @property
    def is_paused(self) -> bool:
        return bool(self.paused) and len(self.paused[-1]) == 1

    def stretches(self) -> list[Period]:
        """When it was served: from start to end without its pauses."""
        assert self.end is not None
        borders = [self.start, *itertools.chain(*self.paused), self.end]
        pairs = zip(borders[::2], borders[1::2], strict=True)
        return [Period(one, other) for one, other in pairs if one < other]


async def bill(office: Office) -> None:
    """A billing run; what it complains of is a failure."""
    run_id = await office.start_run()

    async def over() -> bool:
        run = await office.run(run_id)
        assert not run.faults, (office.now, list(run.faults))
        return bool(run.state == invoice_pb2.BILLING_RUN_STATE_DONE)

    await until(over, what="the billing run", seconds_max=WAIT_SECONDS_MAX)


async def live(office: Office, life: Life, choice: random.Random) -> None:
    """Ask something random of a subscription."""
    if life.is_paused:
        if choice.random() < 0.5:
            await office.call(
                office.subscriptions.ResumeSubscription,
                pb.ResumeSubscriptionRequest(subscription_id=life.subscription_id),
            )
            life.paused[-1].append(office.now)
        return
    what = choice.randrange(10)
    if what == 0:
        if await _is_scheduled(office, life):
            await office.call(
                office.subscriptions.ReactivateSubscription,
                pb.ReactivateSubscriptionRequest(subscription_id=life.subscription_id),
            )
        await office.call(
            office.subscriptions.PauseSubscription,
            pb.PauseSubscriptionRequest(subscription_id=life.subscription_id),
        )
        life.paused.append([office.now])
    elif what == 1:
        # Cancelled at the end of the period, and thought better of.
        await office.cancel(life.subscription_id)
        await office.call(
            office.subscriptions.ReactivateSubscription,
            pb.ReactivateSubscriptionRequest(subscription_id=life.subscription_id),
        )
    else:
        await office.change(life.subscription_id, _target(choice), **_options(office, choice))


async def _is_scheduled(office: Office, life: Life) -> bool:
    found = await office.subscription(life.subscription_id)
    times = [moment(one.start_time) for one in found.terms]
    times += [moment(one.end_time) for one in found.terms if one.HasField("end_time")]
    return any(time > office.now for time in times)


def _target(choice: random.Random) -> dict[str, Any]:
    target: dict[str, Any] = {"plan_code": choice.choice(PLANS)}
    if target["plan_code"] == "team":
        target["items"] = [
            pb.SubscriptionItem(price_code="seat", quantity=str(choice.randrange(1, 9)))
        ]
    if choice.random() < 0.3:
        number = choice.randrange(1, 4)
        target["add_ons"] = [pb.AddOnChange(plan_code="extra", quantity=str(number))]
    return target


def _options(office: Office, choice: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {
        "proration": choice.choice(PRORATIONS),
        "when": choice.choice(WHENS),
        "anchor": choice.choice((pb.CHANGE_ANCHOR_KEEP, pb.CHANGE_ANCHOR_RESET)),
        "drops_scheduled": True,
    }
    if options["when"] == pb.CHANGE_WHEN_AT_TIME:
        later = office.now + timedelta(hours=choice.randrange(1, 900))
        options["at_time"] = stamp(later)
    return options


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_year_bills_every_second_once(
    database: FreshDatabase, services: Services, seed: int
) -> None:
    choice = random.Random(seed)
    office = await open_office(services, database, START)
    await office.publish(fixed("31.07"), code="small")
    await office.publish(fixed("77.77"), code="big")
    for code, price, unit in (
        ("weekly", "9.99", catalog_pb2.INTERVAL_UNIT_WEEK),
        ("yearly", "365", catalog_pb2.INTERVAL_UNIT_YEAR),
    ):
        every = catalog_pb2.BillingInterval(count=1, unit=unit)
        await office.publish(fixed(price), code=code, interval=every)
    await office.publish(fixed("5"), seat("3.33"), code="team")
    await office.publish(
        fixed("2.5", code="extra"), code="extra", kind=catalog_pb2.PLAN_KIND_ADD_ON
    )
    lives = []
    for number in range(CUSTOMERS):
        name = f"c{number}"
        zone = ("UTC", "America/New_York", "Europe/Paris", "Pacific/Apia")[number]
        await office.customer(name, time_zone=zone)
        made = await office.subscribe(name, plan_code=choice.choice(PLANS))
        lives.append(Life(made.subscription_id, START))
    for _ in range(STEPS):
        await office.go(office.now + timedelta(seconds=choice.randrange(3_600, 864_000)))
        for life in lives:
            if choice.random() < 0.4:
                await live(office, life, choice)
        if choice.random() < 0.5:
            await bill(office)
    assert office.now > START + timedelta(days=365)
    await office.go(office.now + timedelta(seconds=choice.randrange(3_600, 864_000)))
    for life in lives:
        if life.is_paused:
            life.end = life.paused.pop()[0]
            await office.cancel(life.subscription_id, immediately=True)
        else:
            await office.cancel(life.subscription_id, immediately=True)
            life.end = office.now
    await bill(office)
    for life in lives:
        await _check(office, life)


async def _check(office: Office, life: Life) -> None:
    """The base fees that stand after all deductions cover the time served, each second once."""
    billed: dict[Any, list[Period]] = {}
    given: dict[Any, list[Period]] = {}
    for code, item, kind, stretch in await office.billed_stretches(life.subscription_id):
        if code == "base":
            (billed if kind == "CHARGE" else given).setdefault(item, []).append(stretch)
    standing: list[Period] = []
    for item, stretches in billed.items():
        backs = given.get(item, [])
        for stretch in stretches:
            back = [one for one in backs if stretch.start <= one.start and one.end == stretch.end]
            assert len(back) <= 1, (stretch, back)
            end = back[0].start if back else stretch.end
            if stretch.start < end:
                standing.append(Period(stretch.start, end))
    assert _joined(standing) == life.stretches()


def _joined(stretches: list[Period]) -> list[Period]:
    """Stretches that meet as one; raises where two overlap."""
    found: list[Period] = []
    for one in sorted(stretches, key=lambda stretch: stretch.start):
        if found and one.start < found[-1].end:
            raise AssertionError(f"{one} was billed twice: {found[-1]}")
        if found and one.start == found[-1].end:
            found[-1] = Period(found[-1].start, one.end)
        else:
            found.append(one)
    return found
