"""Meters, ids, debits, windows: the smaller rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidValue
from kernel.ids import new_id
from kernel.period import Period
from metering.charging.domain import (
    DEBITS_PER_CALL_MAX,
    OverUse,
    Posted,
    Refused,
    batch_end,
    batch_of,
    charge_of,
    chunks_of,
    receipt_of,
    receipt_of_charge,
)
from metering.events.domain.event import event_key
from metering.gate.domain.authorization import Authorization, AuthorizationState, Hold
from metering.meters.domain import (
    Aggregation,
    Filter,
    FilterOperator,
    Meter,
    MeterSet,
    PropertyUnusable,
)
from metering.queries.domain import Window, cut, window_at
from metering.settlement.domain import Chargeable, ChargeLine, debits_of, read_answers

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
BATCH = batch_of(new_id(NOW))


def meter(code: str = "tokens", **changes: object) -> Meter:
    given: dict[str, object] = {
        "code": code,
        "name": "",
        "event_name": "call",
        "aggregation": Aggregation.SUM,
        "value_property": "tokens",
        "filters": (),
        "dimensions": (),
        "unit": "",
        "create_time": NOW,
        "from_version": 1,
    }
    return Meter(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "x", "-1", "NaN", "inf", "1e3", "+1", " 1", "1.", "٣"])
def test_a_value_that_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(PropertyUnusable) as refused:
        meter().value({"tokens": text}, "events[4]")
    assert refused.value.facts["field"] == "events[4].properties.tokens"
    assert refused.value.facts["meter"] == "tokens"


@given(st.integers(0, 10**20 - 1), st.integers(0, 10**18 - 1))
def test_values_are_read_exactly(whole: int, fraction: int) -> None:
    value = meter().value({"tokens": f"{whole}.{fraction:018d}"}, "event")
    assert value * 10**18 == whole * 10**18 + fraction


def test_filters_see_a_missing_property_as_the_empty_string() -> None:
    inside = Filter("tier", FilterOperator.IN, frozenset({"", "pro"}))
    outside = Filter("tier", FilterOperator.NOT_IN, frozenset({""}))
    present = Filter("tier", FilterOperator.EXISTS, frozenset())
    assert [f.passes({}) for f in (inside, outside, present)] == [True, False, False]
    assert [f.passes({"tier": "pro"}) for f in (inside, outside, present)] == [True, True, True]


def test_each_version_of_a_set_counts_with_its_own_meters() -> None:
    first, second = meter("a", from_version=1, until_version=3), meter("b", from_version=2)
    meters = MeterSet.of(3, [first, second])
    reading = [[m.code for m in meters.reading("call", version)] for version in (1, 2, 3)]
    assert reading == [["a"], ["a", "b"], ["b"]]
    assert meters.reading("other", 3) == ()


@given(st.text(min_size=1, max_size=128), st.text(min_size=1, max_size=128))
def test_event_ids_have_keys_of_their_own(one: str, other: str) -> None:
    assert (event_key(one) == event_key(other)) == (one == other)


def test_a_uuid_is_its_own_key_only_in_its_canonical_form() -> None:
    text = "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"
    assert event_key(text) == UUID(text)
    assert event_key(text.upper()) != UUID(text)
    assert event_key("anything").version == 8


@given(st.integers(0, 4_095), st.integers(1, 255))
def test_charges_find_their_event_and_events_their_batch(index: int, number: int) -> None:
    receipt = receipt_of(BATCH, index)
    charge = charge_of(receipt, number)
    assert str(UUID(charge)) == charge
    assert receipt_of_charge(charge) == receipt
    assert batch_of(receipt) == BATCH
    assert str(receipt) < charge < str(receipt_of(BATCH, index + 1))
    assert receipt < batch_end(BATCH)


def chargeable(*lines: tuple[str, int], holds: tuple[str, ...] = ()) -> Chargeable:
    authorization = None
    if holds:
        authorization = Authorization(
            authorization_id=UUID(int=9),
            request_id="r",
            fingerprint=b"",
            customer_id="acme",
            feature="chat",
            state=AuthorizationState.OPEN,
            over_use=OverUse.CLAMP,
            holds=tuple(Hold(asset, 2, f"hold {asset}", 100, "") for asset in holds),
            reserved=(),
            reasons=(),
            create_time=NOW,
            expire_time=NOW + timedelta(minutes=1),
        )
    parts = [ChargeLine("tokens", "plan", asset, 2, atoms) for asset, atoms in lines]
    return Chargeable(receipt_of(BATCH, 3), "event", "acme", parts, authorization)


def test_a_single_debit_stands_alone_and_several_form_a_group() -> None:
    (alone,) = debits_of(chargeable(("USD", 5), ("USD", 0)))
    assert (alone.atoms, alone.group, alone.capture) == (5, "", None)
    several = debits_of(chargeable(("USD", 5), ("token", 7), ("USD", 1)))
    assert len({debit.group for debit in several}) == 1
    assert several[0].group
    assert [debit.charge_id for debit in several] == sorted(d.charge_id for d in several)


def test_the_last_debit_of_an_asset_ends_its_hold_and_unused_holds_are_released() -> None:
    event = chargeable(("USD", 5), ("USD", 6), holds=("USD", "token", "gpu"))
    debits = debits_of(event)
    assert [(d.asset, d.atoms, d.capture.is_final) for d in debits if d.capture] == [
        ("USD", 5, False),
        ("USD", 6, True),
        ("token", 0, True),
        ("gpu", 0, True),
    ]
    assert [debit.charge_id for debit in debits] == sorted(d.charge_id for d in debits)
    assert debits == debits_of(event)


def test_one_refusal_refuses_the_event_and_its_cause_is_told() -> None:
    event = chargeable(("USD", 5), ("token", 7))
    other = Refused("GROUP_REFUSED", "", {})
    cause = Refused("INSUFFICIENT_FUNDS", "short", {"asset": "token"})
    answer = read_answers(event, [other, cause])
    assert answer.refusal == cause
    odd = read_answers(event, [Refused("WALLET_CLOSED", "", {"wallet_id": "w"}), other])
    assert odd.refusal is not None
    assert odd.refusal.reason == "CHARGE_REFUSED"
    assert odd.refusal.facts == {"wallet_id": "w", "wallet_reason": "WALLET_CLOSED"}


def test_answers_go_to_the_lines_that_asked() -> None:
    event = chargeable(("USD", 0), ("USD", 6), holds=("token",))
    answer = read_answers(event, [Posted(4, 2, "0"), Posted(0, 0, "1")])
    assert answer.lines == [None, Posted(4, 2, "0")]
    assert answer.shortfalls == {1: 2}


@given(st.lists(st.integers(1, 4), max_size=900))
def test_calls_to_the_wallet_never_part_a_group(sizes: list[int]) -> None:
    debits = [
        debit
        for place, size in enumerate(sizes)
        for debit in debits_of(
            chargeable(*[("USD", 1)] * size)._replace(receipt_id=receipt_of(BATCH, place))
        )
    ]
    chunks = chunks_of(debits)
    assert [debit for chunk in chunks for debit in chunk] == debits
    assert all(0 < len(chunk) <= DEBITS_PER_CALL_MAX for chunk in chunks)
    for before, after in pairwise(chunks):
        assert not before[-1].group or before[-1].group != after[0].group


zones = st.sampled_from(
    ["UTC", "Europe/Paris", "America/St_Johns", "Asia/Kathmandu", "Asia/Kolkata", "Pacific/Apia"]
)


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2026, 12, 31)),
    st.timedeltas(timedelta(minutes=1), timedelta(days=30)),
    st.sampled_from(Window),
    zones,
)
def test_every_instant_of_an_interval_is_looked_at_once(
    naive: datetime, length: timedelta, window: Window, zone: str
) -> None:
    interval = Period(naive.replace(tzinfo=UTC), naive.replace(tzinfo=UTC) + length)
    parts = cut(interval, window, ZoneInfo(zone))
    broken = set(parts.broken)
    for step in range(40):
        instant = interval.start + length * step / 40
        hour = instant.replace(minute=0, second=0, microsecond=0)
        by_hours = parts.hours is not None and hour in parts.hours and hour not in broken
        by_events = any(instant in stretch for stretch in parts.raw)
        assert by_hours != by_events
    if parts.hours is not None:
        # Hours that are taken whole must lie in the interval, and in one window.
        whole = [h for h in _hours(parts.hours) if h not in broken]
        assert all(interval.start <= h and h + timedelta(hours=1) <= interval.end for h in whole)


def _hours(period: Period) -> list[datetime]:
    count = (period.end - period.start) // timedelta(hours=1)
    return [period.start + timedelta(hours=place) for place in range(count)]


def test_a_window_ends_where_the_interval_does() -> None:
    interval = Period(NOW, NOW + timedelta(hours=30))
    zone = ZoneInfo("Europe/Paris")
    first = window_at(datetime(2026, 3, 13, 23, tzinfo=UTC), Window.DAY, zone, interval)
    assert first == Period(NOW, datetime(2026, 3, 14, 23, tzinfo=UTC))
    last = window_at(datetime(2026, 3, 15, 21, tzinfo=UTC), Window.HOUR, zone, interval)
    assert last.end == interval.end


def test_hours_of_a_shifted_zone_are_told_for_a_bounded_time_only() -> None:
    interval = Period(NOW, NOW + timedelta(days=36))
    with pytest.raises(InvalidValue):
        cut(interval, Window.HOUR, ZoneInfo("Asia/Kolkata"))
    assert cut(interval, Window.HOUR, ZoneInfo("Asia/Tokyo")).hours is not None
