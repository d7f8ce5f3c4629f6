"""Usage counted as events come is usage recomputed from them, for every aggregation and order."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.period import Period
from metering.aggregates.domain.counting import Counter, Opening, Reading
from metering.aggregates.domain.series import Series
from metering.aggregates.domain.tally import (
    LEVELS,
    Aggregation,
    Moment,
    Rounding,
    RoundingMode,
    Rule,
    Tally,
)
from metering.ratecards.domain import Stretch, pricing_of_document
from metering.usage.domain import Running
from tests.metering.oracle import Said, usage

START = datetime(2026, 2, 1, tzinfo=UTC)
END = datetime(2026, 3, 1, tzinfo=UTC)
MONTH = Period(START, END)
NAMES = UUID(int=7)

claims = settings(derandomize=True, deadline=None, database=None, max_examples=200)

VALUES = st.one_of(
    st.integers(-5, 5).map(Fraction),
    st.integers(-(10**30), 10**30).map(lambda units: Fraction(units, 10**18)),
)
RULES = st.sampled_from(
    [Rule(each) for each in Aggregation] + [Rule(each, True) for each in sorted(LEVELS, key=str)]
)


@st.composite
def histories(draw: st.DrawFn, earliest: int = -3_000_000) -> list[Said]:
    """Events in their order of arrival; several at one instant among them, and late ones."""
    seconds = st.one_of(
        st.integers(earliest, 28 * 86_400 - 1), st.sampled_from([max(earliest, -1), 0, 3_600])
    )
    rows = draw(
        st.lists(st.tuples(seconds, VALUES, st.sampled_from("abcd"), st.booleans()), max_size=20)
    )
    return [
        Said(START + timedelta(seconds=second), place, value, key, added)
        for place, (second, value, key, added) in enumerate(rows, 1)
    ]


def reading(rule: Rule, said: Said) -> Reading:
    moment = Moment.of(said.time, said.sequence)
    if rule.aggregation is Aggregation.UNIQUE_COUNT:
        return Reading(1, moment, uuid5(NAMES, said.key), said.is_added)
    value = 1 if rule.aggregation is Aggregation.COUNT else said.value
    return Reading(value if value != int(value) else int(value), moment)


@claims
@given(RULES, histories(), st.randoms(use_true_random=False))
def test_windows_counted_in_any_order_and_grouping_are_windows_recomputed(
    rule: Rule, events: list[Said], random: Any
) -> None:
    """Days of a month: added up by hours in a random grouping, and merged in a random order."""
    days = [Period(START + timedelta(days=n), START + timedelta(days=n + 1)) for n in range(28)]
    series = Series(rule, days)
    shuffled = list(events)
    random.shuffle(shuffled)
    hours: dict[tuple[int, int], Tally] = {}
    for said in shuffled:
        read = reading(rule, said)
        if said.time < START:
            series.begin_reading(read)
            continue
        place = (said.time - START).days
        if read.key is not None or random.random() < 0.5:
            series.read(place, read)
            continue
        part = hours.setdefault((place, random.randrange(3)), Tally())
        part.add(rule.aggregation, read.value, read.moment)
    merged = list(hours.items())
    random.shuffle(merged)
    for (place, _), tally in merged:
        series.add(place, tally)
    found = {figure.place: figure.quantity for figure in series.figures(len(days) - 1)}
    for place, day in enumerate(days):
        wanted = usage(rule.aggregation.name, rule.carries, events, day.start, day.end)
        if place in found:
            assert found[place] == wanted
        else:
            assert not any(said.time in day for said in events)


@claims
@given(RULES, histories())
def test_a_counter_agrees_with_a_recomputation_after_every_event(
    rule: Rule, events: list[Said]
) -> None:
    counter = Counter(rule, MONTH, MONTH)
    past = [said for said in events if said.time < START]
    if rule.carries and past:
        opening = usage(_plain(rule), True, past, START, END)
        counter.openings[""] = Opening(Tally(total=opening), {}, "")
        latest = {said.key: said.is_added for said in sorted(past, key=lambda s: s[:2])}
        counter.carried = {("", uuid5(NAMES, key)) for key, added in latest.items() if added}
    known = list(past)
    total = counter.total()
    for said in events:
        if said.time < START:
            continue
        known.append(said)
        read = reading(rule, said)
        expected = counter.preview("", read)
        grown = counter.count("", read)
        assert grown == expected
        total += grown
        assert counter.total() == total
        wanted = usage(rule.aggregation.name, rule.carries, known, START, END)
        assert total == wanted
    again = Counter(rule, MONTH, MONTH)
    again.read(json.loads(json.dumps(counter.render())))
    assert again.total() == counter.total()


def _plain(rule: Rule) -> str:
    """What a level comes to, without the weight of time."""
    return "SUM" if rule.aggregation is Aggregation.WEIGHTED_SUM else rule.aggregation.name


def running(rule: Rule, document: dict[str, Any]) -> Running:
    return Running(
        number=1,
        customer_id="acme",
        subscription_item_id="item",
        price_id="price",
        plan_code="plan",
        meter="meter",
        rule=rule,
        dimensions=(),
        pricing=pricing_of_document(json.dumps(document), UUID(int=1)),
        stretch=Stretch(MONTH, MONTH),
        time_zone="UTC",
        from_wallet=True,
        scale=9,
    )


PRICES: list[dict[str, Any]] = [
    {"asset": "USD", "unit": {"unit_price": "0.3333"}},
    {"asset": "USD", "graduated": {"tiers": [
        {"up_to": "10", "unit_price": "1", "flat_fee": "2"}, {"unit_price": "0.1"}]}},
    {"asset": "USD", "unit": {"unit_price": "2"}, "accumulate": "WINDOW", "window": "DAY"},
    {"asset": "USD", "matrix": {"dimensions": ["key"], "cells": [
        {"values": {"key": "a"}, "unit": {"unit_price": "1"}},
        {"values": {}, "volume": {"tiers": [{"up_to": "9", "unit_price": "3"},
                                            {"unit_price": "1"}]}}]}},
    {"asset": "USD", "time_of_use": {"time_zone": "Asia/Tokyo", "slots": [
        {"start": "06:00", "end": "18:00", "unit": {"unit_price": "2"}},
        {"unit": {"unit_price": "1"}}]}},
]  # fmt: skip


@claims
@given(
    st.sampled_from([Aggregation.LAST, Aggregation.MAX, Aggregation.SUM, Aggregation.WEIGHTED_SUM]),
    st.sampled_from(PRICES),
    histories(0),
    st.sampled_from([None, Rounding(RoundingMode.CEIL, Fraction(5), False)]),
)
def test_charges_are_the_cost_of_what_was_recounted(
    aggregation: Aggregation, document: dict[str, Any], events: list[Said], rounding: Rounding
) -> None:
    """Charged and left over together are the cost, and a recount in the order of arrival ends
    where counting did."""
    rule = Rule(aggregation, False, rounding)
    live = running(rule, document)
    charged = 0
    for said in events:
        value, properties = abs(reading(rule, said).value), {"key": said.key}
        _, atoms = live.add(value, properties, said.time, None, said.sequence)
        assert atoms >= 0
        assert rule.is_live or atoms == 0
        charged += atoms
        assert charged == live.asked
        assert live.owed() == live.left_over
    state, quantity = live.state(), live.quantity
    live.restart()
    for said in events:
        live.recount(
            abs(reading(rule, said).value), {"key": said.key}, said.time, None, said.sequence
        )
    assert (live.state(), live.quantity) == (state, quantity)


@pytest.mark.parametrize(
    ("mode", "step", "value", "wanted"),
    [
        (RoundingMode.CEIL, Fraction(10), Fraction("4321.5"), 4330),
        (RoundingMode.FLOOR, Fraction(10), Fraction("4321.5"), 4320),
        (RoundingMode.ROUND, Fraction(1), Fraction("4321.5"), 4322),
        (RoundingMode.ROUND, Fraction(1), Fraction("-0.5"), -1),
        (RoundingMode.CEIL, Fraction(6), Fraction(61), 66),
        (RoundingMode.CEIL, Fraction(1, 1000), Fraction(1, 3), Fraction(334, 1000)),
    ],
)  # fmt: skip
def test_usage_is_rounded_to_whole_steps(
    mode: RoundingMode, step: Fraction, value: Fraction, wanted: Fraction
) -> None:
    assert Rounding(mode, step, False).apply(value) == wanted
