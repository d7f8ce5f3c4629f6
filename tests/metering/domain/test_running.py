"""Running usage: charges add up to the rounded cost, whatever is taken back in between."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from kernel.money import round_to_atoms
from kernel.period import Period
from metering.aggregates.domain.tally import Aggregation, Rule
from metering.ratecards.domain import Stretch, pricing_of_document
from metering.usage.domain import Running
from rating import State, cost

MONTH = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
FALLING = {
    "asset": "USD",
    "graduated": {
        "tiers": [
            {"up_to": "10", "unit_price": "0.3333333333"},
            {"up_to": "100", "unit_price": "0.01", "flat_fee": "1"},
            {"unit_price": "0.0000000007"},
        ]
    },
}
RISING = {
    "asset": "USD",
    "graduated": {"tiers": [{"up_to": "50", "unit_price": "0.001"}, {"unit_price": "2"}]},
}
VOLUME = {
    "asset": "USD",
    "volume": {"tiers": [{"up_to": "60", "unit_price": "1"}, {"unit_price": "0.1"}]},
}
MATRIX = {
    "asset": "USD",
    "matrix": {
        "dimensions": ["model"],
        "cells": [
            {"values": {"model": "a"}, **{k: v for k, v in FALLING.items() if k != "asset"}},
            {"values": {}, "unit": {"unit_price": "0.7"}},
        ],
    },
}
PRICES = [FALLING, RISING, VOLUME, MATRIX]


def running(
    document: dict[str, object],
    rule: Rule = Rule(Aggregation.SUM),  # noqa: B008
) -> Running:
    text = json.dumps(document)
    return Running(
        number=1,
        customer_id="acme",
        subscription_item_id="item",
        price_id="price",
        plan_code="plan",
        meter="tokens",
        rule=rule,
        dimensions=(),
        pricing=pricing_of_document(text, UUID(int=1)),
        stretch=Stretch(MONTH, MONTH),
        time_zone="UTC",
        from_wallet=True,
        scale=9,
    )


events = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["a", "b"]), st.booleans()), max_size=25
)


@given(st.sampled_from(PRICES), events)
def test_charges_and_what_is_left_over_are_the_rounded_cost(
    document: dict[str, object], batch: list[tuple[int, str, bool]]
) -> None:
    usage = running(document)
    charged = 0
    for quantity, model, _ in batch:
        _, atoms = usage.add(quantity, {"model": model}, MONTH.start)
        assert atoms >= 0
        charged += atoms
        exact = cost(usage.pricing.price, usage.state())
        assert charged + usage.left_over == round_to_atoms(Fraction(exact), 9)
    assert charged == usage.asked


@given(st.sampled_from([FALLING, RISING, VOLUME]), events)
def test_taking_events_back_leaves_what_the_others_cost(
    document: dict[str, object], batch: list[tuple[int, str, bool]]
) -> None:
    usage = running(document)
    kept = State()
    charged = 0
    for quantity, model, is_refused in batch:
        added, atoms = usage.add(quantity, {"model": model}, MONTH.start)
        if is_refused:
            usage.take_back(added, atoms, 0)
        else:
            charged += atoms
            kept = State(quantity=kept.quantity + added, event_count=kept.event_count + 1)
    assert usage.state() == kept
    assert usage.asked == charged
    if batch:
        exact = cost(usage.pricing.price, kept)
        assert charged + usage.left_over == round_to_atoms(Fraction(exact), 9)


@given(events)
def test_a_recount_ends_where_counting_did(batch: list[tuple[int, str, bool]]) -> None:
    usage = running(MATRIX)
    for quantity, model, _ in batch:
        usage.add(quantity, {"model": model}, MONTH.start)
    state, left = usage.state(), usage.left_over
    usage.restart()
    for quantity, model, _ in batch:
        usage.recount(quantity, {"model": model}, MONTH.start)
    usage.settle(0, 0)
    assert usage.state() == state
    if batch:
        assert usage.left_over == left


def test_the_greatest_value_counts_only_as_far_as_it_grows() -> None:
    usage = running({"asset": "USD", "unit": {"unit_price": "1"}}, Rule(Aggregation.MAX))
    added = [usage.add(value, {}, MONTH.start) for value in (3, 2, 7)]
    assert added == [(3, 3_000_000_000), (0, 0), (4, 4_000_000_000)]
    assert usage.quantity == 7
    assert usage.event_count == 3


def test_the_margin_counts_what_is_reserved_and_changes_nothing() -> None:
    usage = running(RISING)
    usage.add(40, {}, MONTH.start)
    alone = usage.margin(10, {}, MONTH.start, 0, 0)
    behind = usage.margin(10, {}, MONTH.start, 10, alone)
    assert alone == 10_000_000
    assert behind == 20_000_000_000
    assert usage.quantity == 40


def test_a_short_period_keeps_its_share() -> None:
    half = Period(MONTH.start, MONTH.start + timedelta(days=15, hours=12))
    assert Stretch(MONTH, half).share == Fraction(1, 2)
    assert Stretch(MONTH, MONTH).share == 1
