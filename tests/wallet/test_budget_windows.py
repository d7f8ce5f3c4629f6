"""Windows and caps, the pure rules: no limit is passed in any stretch, nothing counts for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet.budgets.domain.caps import Cap
from wallet.budgets.domain.counting import Budgets, Claim
from wallet.budgets.domain.refusals import SpendCapReached
from wallet.budgets.domain.windows import (
    CalendarUnit,
    CalendarWindow,
    RollingWindow,
    Window,
    first_anchor,
    read_window,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
ZONES = ["UTC", "Europe/Paris", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]


def calendar(unit: CalendarUnit, zone: str = "UTC", count: int = 1) -> CalendarWindow:
    return CalendarWindow(unit, count, zone, first_anchor(zone))


def cap_of(window: Window, limit: int, *, hard: bool = True, node: str = "n") -> Cap:
    return Cap(
        "t", "c", node, f"cap-{node}-{window.text()}", "USD", 2, "", limit, hard, window, (50, 100)
    )


def claim_of(*caps: Cap) -> Claim:
    budgets = Budgets()
    for cap in caps:
        budgets.caps.setdefault(("t", "c", cap.node), []).append(cap)
    path = tuple(dict.fromkeys(cap.node for cap in caps))
    return budgets.claim("t", "c", path, "USD", "")


def spends(claim: Claim, atoms: int, now: datetime) -> bool:
    try:
        claim.check(atoms, now)
    except SpendCapReached:
        return False
    claim.spend(atoms, now, f"k{len(claim.budgets.entries)}")
    return True


windows = st.one_of(
    st.builds(
        calendar,
        st.sampled_from(CalendarUnit),
        st.sampled_from(ZONES),
        st.sampled_from([1, 1, 2, 5]),
    ),
    st.builds(
        RollingWindow, st.integers(60, 8 * 86_400).map(lambda seconds: timedelta(seconds=seconds))
    ),
)
instants = st.integers(0, 3 * 366 * 86_400).map(lambda s: START + timedelta(seconds=s))


@given(windows, instants)
def test_every_instant_is_in_one_slot_and_slots_follow_each_other(
    window: Window, instant: datetime
) -> None:
    slot = window.slot_of(instant)
    assert slot.start <= instant < slot.stop <= slot.leave
    assert window.slot_of(slot.start) == slot
    assert window.slot_of(slot.stop - timedelta(microseconds=1)) == slot
    assert window.slot_of(slot.stop).start == slot.stop
    assert read_window(window.text()) == window


def test_a_day_of_a_zone_has_the_hours_of_that_day() -> None:
    paris = ZoneInfo("Europe/Paris")
    window = calendar(CalendarUnit.DAY, "Europe/Paris")
    slot = window.slot_of(datetime(2026, 3, 29, 12, tzinfo=paris))
    assert slot.stop - slot.start == timedelta(hours=23)
    week = calendar(CalendarUnit.WEEK, "Europe/Paris").slot_of(datetime(2026, 4, 2, tzinfo=paris))
    assert week.start.astimezone(paris).isoformat() == "2026-03-30T00:00:00+02:00"


@given(
    st.integers(60, 7 * 86_400),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 20)), min_size=1, max_size=60),
)
def test_no_stretch_as_long_as_a_rolling_window_passes_its_limit(
    seconds: int, limit: int, steps: list[tuple[int, int]]
) -> None:
    """Conservative: never more than the limit in any window; never blocked a sixtieth too long."""
    window = RollingWindow(timedelta(seconds=seconds))
    claim = claim_of(cap_of(window, limit))
    now, spent = START, list[tuple[datetime, int]]()
    for wait, atoms in steps:
        now += timedelta(seconds=wait % (2 * seconds))
        if spends(claim, atoms, now):
            spent.append((now, atoms))
        else:
            near = now - window.length - window.step
            assert sum(a for t, a in spent if t > near) + atoms > limit
    for end, _ in spent:
        inside = sum(a for t, a in spent if end - window.length < t <= end)
        assert inside <= limit


@given(
    st.sampled_from(CalendarUnit),
    st.sampled_from(ZONES),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 40 * 86_400), st.integers(1, 20)), min_size=1, max_size=40),
)
def test_a_calendar_window_is_exact(
    unit: CalendarUnit, zone: str, limit: int, steps: list[tuple[int, int]]
) -> None:
    window = calendar(unit, zone)
    claim = claim_of(cap_of(window, limit))
    now, spent = START, dict[datetime, int]()
    for wait, atoms in steps:
        now += timedelta(seconds=wait)
        start = window.slot_of(now).start
        fits = spent.get(start, 0) + atoms <= limit
        assert spends(claim, atoms, now) == fits
        if fits:
            spent[start] = spent.get(start, 0) + atoms


def test_the_refusal_names_when_there_is_room_again() -> None:
    hours, days = RollingWindow(timedelta(hours=5)), RollingWindow(timedelta(days=7))
    claim = claim_of(cap_of(hours, 10), cap_of(days, 30))
    now = START
    for _ in range(3):
        assert spends(claim, 10, now)
        with pytest.raises(SpendCapReached) as refused:
            claim.check(1, now)
        back = datetime.fromisoformat(refused.value.facts["reset_time"])
        assert now < back <= START + timedelta(days=7, hours=11)
        if refused.value.facts["limit"] == "0.1":
            assert not spends(claim, 1, back - timedelta(microseconds=1))
            now = back
    assert refused.value.facts["limit"] == "0.3", "the one that blocks for longest is named"
    assert spends(claim, 1, back)
    with pytest.raises(SpendCapReached) as refused:
        claim.check(11, back)
    assert refused.value.facts["reset_time"] == "", "more than the limit never fits"


def test_a_threshold_is_told_once_a_window_and_again_when_it_was_left() -> None:
    claim = claim_of(cap_of(calendar(CalendarUnit.DAY), 10))
    day = timedelta(days=1)
    for now, atoms in ((START, 4), (START, 1), (START, 5), (START + day, 6), (START + 2 * day, 1)):
        assert spends(claim, atoms, now)
    assert [(a.percent, a.spent) for a in claim.budgets.alerts] == [(50, 5), (100, 10), (50, 6)]
    assert not spends(claim, 10, START + 2 * day)
    assert not spends(claim, 10, START + 2 * day)
    assert [a.refused for a in claim.budgets.alerts] == [False, False, False, True]
    claim.give_back(1, START + 2 * day, "r")
    assert spends(claim, 10, START + 2 * day)


def test_what_is_given_back_leaves_the_window_it_was_spent_in() -> None:
    cap = cap_of(calendar(CalendarUnit.DAY), 10)
    claim = claim_of(cap)
    assert spends(claim, 10, START)
    claim.give_back(4, START, "r1")
    assert cap.left(START) == 4
    tomorrow = START + timedelta(days=1)
    assert spends(claim, 3, tomorrow)
    claim.give_back(6, START, "r2")
    assert cap.left(tomorrow) == 7, "yesterday's is not today's"


def test_a_hold_counts_in_every_window_until_it_ends() -> None:
    cap = cap_of(calendar(CalendarUnit.HOUR), 10)
    claim = claim_of(cap)
    claim.hold(8)
    later = START + timedelta(hours=3)
    assert cap.left(later) == 2
    assert not spends(claim, 3, later)
    claim.release(8)
    claim.spend(8, later, "capture")
    assert cap.left(later) == 2
    assert cap.left(later + timedelta(hours=1)) == 10
