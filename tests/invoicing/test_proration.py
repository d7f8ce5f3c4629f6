"""Shares of periods and the grids they are cut on, as properties over zones and intervals."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from invoicing.subscriptions.domain.change import fits
from invoicing.subscriptions.domain.proration import Basis, share_of, share_of_bill
from kernel.period import Every, Period, Unit, boundary, parse_zone, period_at, unit_floor

claims = settings(derandomize=True, deadline=None, database=None, max_examples=200)

ZONES = ("UTC", "Europe/Paris", "America/New_York", "Asia/Kathmandu", "Pacific/Apia")
MONTH = Every(1, Unit.MONTH)
UTC_ZONE = parse_zone("UTC")
SUMMING = (Basis.ACTUAL_SECONDS, Basis.ACTUAL_DAYS, Basis.THIRTY_360)

zones = st.sampled_from(ZONES).map(parse_zone)
instants = st.datetimes(
    min_value=datetime(2023, 1, 1), max_value=datetime(2028, 1, 1), timezones=st.just(UTC)
)
intervals = st.builds(Every, st.integers(1, 13), st.sampled_from(list(Unit)))


def day(year: int, month: int, number: int) -> datetime:
    return datetime(year, month, number, tzinfo=UTC)


@claims
@given(instants, intervals, zones, st.sampled_from(SUMMING), st.data())
def test_shares_of_consecutive_parts_sum_to_one(
    anchor: datetime, every: Every, zone: ZoneInfo, basis: Basis, data: st.DataObject
) -> None:
    """P17, in every zone and across clock changes."""
    whole = period_at(anchor, every, anchor + timedelta(days=40), zone)
    seconds = int((whole.end - whole.start).total_seconds())
    cuts = sorted(data.draw(st.sets(st.integers(1, seconds - 1), max_size=6)))
    bounds = [whole.start, *(whole.start + timedelta(seconds=cut) for cut in cuts), whole.end]
    parts = [Period(one, other) for one, other in itertools.pairwise(bounds)]
    shares = [share_of(part, whole, basis, every, zone) for part in parts]
    assume(basis is not Basis.THIRTY_360 or all(share >= 0 for share in shares))
    assert sum(shares, Fraction(0)) == 1


@claims
@given(instants, intervals, zones, st.sampled_from(list(Basis)), st.data())
def test_what_is_given_back_is_never_more_than_was_billed(
    anchor: datetime, every: Every, zone: ZoneInfo, basis: Basis, data: st.DataObject
) -> None:
    whole = period_at(anchor, every, anchor, zone)
    seconds = int((whole.end - whole.start).total_seconds())
    start, cut = sorted(data.draw(st.tuples(*[st.integers(0, seconds - 1)] * 2)))
    billed = Period(whole.start + timedelta(seconds=start), whole.end)
    unused = Period(whole.start + timedelta(seconds=cut), whole.end)
    share = share_of_bill(unused, billed, basis, every, zone)
    assert 0 <= share <= 1


@pytest.mark.parametrize(
    ("basis", "start", "end", "share"),
    [
        (Basis.ACTUAL_SECONDS, day(2025, 4, 16), day(2025, 5, 1), Fraction(1, 2)),
        # June, changed on the 21st: ten of thirty days.
        (Basis.ACTUAL_DAYS, datetime(2025, 6, 21, 17, tzinfo=UTC), day(2025, 7, 1), Fraction(1, 3)),
        (Basis.ACTUAL_OVER_30, day(2025, 3, 18), day(2025, 4, 1), Fraction(14, 30)),
        (Basis.ACTUAL_OVER_30, day(2025, 3, 1), day(2025, 4, 1), Fraction(1)),
        (Basis.THIRTY_360, day(2025, 2, 16), day(2025, 3, 1), Fraction(15, 30)),
        (Basis.NONE, day(2025, 4, 30), day(2025, 5, 1), Fraction(1)),
    ],
)
def test_worked_examples(basis: Basis, start: datetime, end: datetime, share: Fraction) -> None:
    whole = period_at(day(2025, 1, 1), MONTH, start, UTC_ZONE)
    assert share_of(Period(start, end), whole, basis, MONTH, UTC_ZONE) == share


def test_the_day_of_a_cancellation_is_billed_unless_it_is_free() -> None:
    whole = Period(day(2025, 6, 1), day(2025, 7, 1))
    end = datetime(2025, 6, 20, 9, tzinfo=UTC)
    used, unused = Period(whole.start, end), Period(end, whole.end)
    days = Basis.ACTUAL_DAYS
    assert share_of(used, whole, days, MONTH, UTC_ZONE) == Fraction(19, 30)
    assert share_of(used, whole, days, MONTH, UTC_ZONE, end) == Fraction(20, 30)
    assert share_of_bill(unused, whole, days, MONTH, UTC_ZONE, end) == Fraction(10, 30)


def test_a_year_that_is_joined_late_costs_its_days() -> None:
    """1,200 a year, added 90 days before a year of 365 days ends: 295.89."""
    year = Every(1, Unit.YEAR)
    whole = Period(day(2025, 1, 1), day(2026, 1, 1))
    part = Period(whole.end - timedelta(days=90), whole.end)
    assert round(1200 * share_of(part, whole, Basis.ACTUAL_DAYS, year, UTC_ZONE), 2) == Fraction(
        "295.89"
    )


@claims
@given(st.integers(29, 31), st.integers(1, 12), st.sampled_from(ZONES), st.integers(0, 60))
def test_a_day_that_a_month_lacks_is_its_last_one_and_comes_back(
    number: int, count: int, name: str, index: int
) -> None:
    zone = parse_zone(name)
    anchor = datetime(2024, 1, number, 15, 30, tzinfo=zone)
    found = boundary(anchor.astimezone(UTC), Every(count, Unit.MONTH), index, zone)
    local = found.astimezone(zone)
    last = (local.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    assert local.day == min(number, last.day)
    assert (local.hour, local.minute) == (15, 30)


@claims
@given(instants, intervals, zones)
def test_the_first_of_a_unit_is_at_or_before_an_instant_and_local_midnight(
    instant: datetime, every: Every, zone: ZoneInfo
) -> None:
    floor = unit_floor(instant, every, zone)
    assert floor <= instant
    assert unit_floor(floor, every, zone) == floor


@claims
@given(intervals, intervals, instants, zones, st.integers(0, 12))
def test_a_grid_fits_where_it_keeps_every_boundary_of_the_old_one(
    old: Every, new: Every, anchor: datetime, zone: ZoneInfo, index: int
) -> None:
    assume(fits(old, new))
    border = boundary(anchor, old, index, zone)
    assert period_at(anchor, new, border, zone).start == border
