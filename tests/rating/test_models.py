"""Every model and option does what its line in the pricing design says."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from kernel.errors import InvalidValue
from kernel.money import RoundingMode
from rating import (
    Level,
    Price,
    State,
    Tab,
    UnpricedUsage,
    Usage,
    advance,
    charge,
    close,
    cost,
    parse_price,
    rate,
)

LADDER = [
    {"up_to": "1000", "unit_price": "0.10"},
    {"up_to": "10000", "unit_price": "0.05"},
    {"unit_price": "0.01"},
]
FEES = [{"up_to": "10", "flat_fee": "5"}, {"flat_fee": "8"}]


def priced(**document: Any) -> Price:
    return parse_price({"asset": "USD", **document})


def at(price: Price, quantity: object, **facts: Any) -> Decimal:
    number = Fraction(str(quantity))
    whole = number.numerator if number.denominator == 1 else number
    state = State(quantity=whole, event_count=1, **facts)
    assert rate(price, state).cost == cost(price, state)
    return as_decimal(cost(price, state))


def as_decimal(value: Any) -> Decimal:
    number = Fraction(value)
    return Decimal(number.numerator) / Decimal(number.denominator)


def after(price: Price, *events: Usage) -> Decimal:
    state = State()
    for usage in events:
        state = advance(price, state, usage)
    assert rate(price, state).cost == cost(price, state)
    return as_decimal(cost(price, state))


def test_live_deltas_of_a_graduated_price() -> None:
    tab = Tab(priced(graduated={"tiers": LADDER}), 2)
    assert [tab.add_quantity(q) for q in (900, 200, 13_900)] == [9000, 1500, 49500]
    assert close(tab.price, tab.state, 600).delta == 0


def test_a_volume_price_gives_back_when_it_falls_unless_it_keeps_its_high_water() -> None:
    price = priced(volume={"tiers": LADDER})
    tab = Tab(price, 2)
    assert [tab.add_quantity(q) for q in (900, 200, 13_900)] == [9000, -3500, 9500]
    keeps = Tab(priced(volume={"tiers": LADDER}, on_decrease="HIGH_WATER"), 2)
    assert [keeps.add_quantity(q) for q in (900, 200, 13_900)] == [9000, 0, 6000]
    assert charge(keeps.price, State(quantity=1100), 9000, 2) == 0
    assert close(keeps.price, State(quantity=1100), 90).delta == 0
    assert close(price, State(quantity=1100), 90).delta == -35


@pytest.mark.parametrize(
    ("options", "costs"),
    [
        ({}, {"0": 0, "1": 5, "100": 5, "100.1": 10}),
        ({"free_units": "50"}, {"50": 0, "51": 5, "150": 5, "151": 10}),
        ({"package_round": "DOWN"}, {"99": 0, "100": 5, "199": 5}),
        ({"package_round": "DOWN", "packages_min": 1}, {"0": 0, "1": 5, "100": 5, "200": 10}),
        ({"free_units": "50", "packages_min": 2}, {"0": 0, "3": 10, "300": 15}),
    ],
)
def test_packages(options: dict[str, Any], costs: dict[str, int]) -> None:
    price = priced(package={"size": "100", "amount": "5", **options})
    assert {quantity: at(price, quantity) for quantity in costs} == costs


@pytest.mark.parametrize(
    ("model", "options", "costs"),
    [
        ("graduated", {}, {"0": 5, "10": 5, "10.1": 13}),
        ("graduated", {"flat_at_zero": "WAIVE"}, {"0": 0, "0.1": 5, "11": 13}),
        ("graduated", {"bound": "UPPER_EXCLUSIVE"}, {"9.9": 5, "10": 13}),
        ("volume", {}, {"0": 5, "10": 5, "11": 8}),
        ("volume", {"flat_at_zero": "WAIVE"}, {"0": 0, "1": 5, "11": 8}),
        ("volume", {"bound": "UPPER_EXCLUSIVE"}, {"9.9": 5, "10": 8}),
        ("stairstep", {}, {"0": 5, "10": 5, "11": 8}),
        ("stairstep", {"flat_at_zero": "WAIVE"}, {"0": 0, "1": 5}),
        ("stairstep", {"bound": "UPPER_EXCLUSIVE"}, {"10": 8}),
    ],
)
def test_flat_fees_of_tiers(model: str, options: dict[str, str], costs: dict[str, int]) -> None:
    price = priced(**{model: {"tiers": FEES, **options}})
    assert {quantity: at(price, quantity) for quantity in costs} == costs


def test_packages_inside_tiers() -> None:
    tiers = [{"up_to": "10", "unit_price": "2", "package_size": "4"}, {"unit_price": "1"}]
    assert at(priced(graduated={"tiers": tiers}), 9) == 6
    assert at(priced(graduated={"tiers": tiers}), 12) == 8
    assert at(priced(volume={"tiers": tiers}), 9) == 6
    assert at(priced(volume={"tiers": tiers}), 12) == 12


def test_a_fixed_fee_is_prorated_and_tier_bounds_only_on_request() -> None:
    assert at(priced(flat={"amount": "30"}), 0, share=Fraction(1, 3)) == 10
    fixed = priced(graduated={"tiers": LADDER})
    shrunk = priced(graduated={"tiers": LADDER}, stub_bounds="PRORATED")
    assert at(fixed, 1000, share=Fraction(1, 2)) == 100
    assert at(shrunk, 1000, share=Fraction(1, 2)) == 75


def test_percentage_with_an_allowance_that_an_event_crosses() -> None:
    price = priced(percentage={"rate": "0.02", "fixed_fee": "0.30", "free_amount": "100"})
    tab = Tab(price, 2)
    assert [tab.add(Usage(amount=amount)) for amount in (60, 90, 500)] == [0, 130, 1030]


def test_percentage_allowance_ends_with_the_first_of_the_two() -> None:
    price = priced(percentage={"rate": "0.1", "free_amount": "100", "free_events": 2})
    tab = Tab(price, 2)
    assert [tab.add(Usage(amount=10)) for _ in range(3)] == [0, 0, 100]
    by_amount = Tab(price, 2)
    assert [by_amount.add(Usage(amount=amount)) for amount in (150, 10)] == [500, 100]


def test_percentage_bounds_hold_for_paid_events_only() -> None:
    price = priced(
        percentage={
            "rate": "0.1",
            "event_amount_min": "2",
            "event_amount_max": "7",
            "free_events": 1,
        }
    )
    tab = Tab(price, 2)
    assert [tab.add(Usage(amount=amount)) for amount in (5, 5, 50, 500)] == [0, 200, 500, 700]


def test_a_refund_returns_the_rate_and_a_period_of_nothing_has_no_fixed_fees() -> None:
    body = {"rate": "0.1", "fixed_fee": "1"}
    tab = Tab(priced(percentage=body), 2)
    assert [tab.add(Usage(amount=a)) for a in (50, 50, -50)] == [600, 600, -500]
    assert tab.add(Usage(amount=-50)) == -700
    charging = Tab(priced(percentage=body | {"fixed_at_zero": "CHARGE"}), 2)
    assert [charging.add(Usage(amount=a)) for a in (50, -50)] == [600, -500]


def test_several_events_at_once_have_no_percentage_each() -> None:
    price = priced(percentage={"rate": "0.1"})
    with pytest.raises(InvalidValue, match="single events"):
        advance(price, State(), Usage(amount=10, event_count=2))


def test_stated_amounts() -> None:
    free = priced(dynamic={"multiplier": "1.5"})
    charged = priced(dynamic={"multiplier": "1.5", "zero_quantity": "CHARGE"})
    assert after(free, Usage(quantity=2, amount=10)) == 15
    assert after(free, Usage(quantity=0, amount=10)) == 0
    assert after(charged, Usage(quantity=0, amount=10)) == 15


def test_markup_and_margin_of_a_cost() -> None:
    event = Usage(cost=Fraction("0.40"))
    assert after(priced(cost_plus={"markup": "0.25"}), event) == Decimal("0.5")
    assert after(priced(cost_plus={"margin": "0.20"}), event) == Decimal("0.5")
    assert after(priced(cost_plus={"margin": "0"}), event) == Decimal("0.4")


def test_a_matrix_prefers_exact_values_then_order() -> None:
    cells = [
        {"values": {"model": "*", "region": "eu"}, "unit": {"unit_price": "3"}},
        {"values": {"model": "big"}, "unit": {"unit_price": "4"}},
        {"values": {"model": "big", "region": "eu"}, "unit": {"unit_price": "5"}},
    ]
    price = priced(matrix={"dimensions": ["model", "region"], "cells": cells})

    def fee(**properties: str) -> Decimal:
        return after(price, Usage(properties=properties))

    assert fee(model="big", region="eu") == 5
    assert fee(model="small", region="eu") == 3
    assert fee(model="big", region="us") == 4
    assert fee(model="big") == 4
    with pytest.raises(UnpricedUsage, match="no cell"):
        fee(model="small", region="us")


def test_an_unpriced_event_leaves_the_tab_as_it_was() -> None:
    cells = [{"values": {"m": "a"}, "unit": {"unit_price": "1"}}]
    tab = Tab(priced(matrix={"dimensions": ["m"], "cells": cells}), 0)
    tab.add(Usage(5, properties={"m": "a"}))
    before = tab.state
    with pytest.raises(UnpricedUsage):
        tab.add(Usage(5, properties={"m": "b"}))
    assert tab.state == before
    assert tab.charged_atoms == 5


def test_windows_are_priced_by_themselves() -> None:
    price = priced(graduated={"tiers": FEES}, accumulate="WINDOW", window="HOUR")
    assert after(price) == 0
    assert after(price, Usage(9, window="a"), Usage(9, window="b")) == 10
    assert after(price, Usage(9, window="a"), Usage(9, window="a")) == 13


def test_events_are_priced_by_themselves_with_a_connection_fee_and_pulses() -> None:
    tiers = [{"unit_price": "0.10", "flat_fee": "0.05", "package_size": "60"}]
    price = priced(graduated={"tiers": tiers}, accumulate="EVENT")
    assert after(price, Usage(61), Usage(60)) == Decimal("0.25") + Decimal("0.15")


@pytest.mark.parametrize(
    ("rounding", "expected"), [("NONE", "2.5"), ("UP", 3), ("DOWN", 2), ("NEAREST", 3)]
)
def test_a_quantity_is_divided_before_anything_else(rounding: str, expected: str) -> None:
    price = priced(unit={"unit_price": "1"}, divide_by="1000", divide_round=rounding)
    assert at(price, 2500) == Decimal(expected)
    included = priced(
        unit={"unit_price": "1"},
        divide_by="1000",
        divide_round=rounding,
        included={"quantity": "1"},
    )
    assert at(included, 2500) == Decimal(expected) - 1


def test_packages_inside_tiers_are_packages_of_divided_units() -> None:
    tiers = [{"up_to": "4", "unit_price": "2", "package_size": "2"}, {"unit_price": "1"}]
    price = priced(graduated={"tiers": tiers}, divide_by="10")
    assert [at(price, quantity) for quantity in (20, 21, 40, 50)] == [2, 4, 4, 5]
    assert at(priced(package={"size": "2", "amount": "3"}, divide_by="10"), 21) == 6


def test_included_units_are_taken_off_or_lead() -> None:
    tiers = [{"up_to": "10", "unit_price": "2"}, {"unit_price": "1"}]

    def both(model: str, quantity: int) -> tuple[Decimal, Decimal]:
        body = {"tiers": tiers}
        return (
            at(priced(**{model: body}, included={"quantity": "5"}), quantity),
            at(
                priced(**{model: body}, included={"quantity": "5", "mode": "LEADING_TIER"}),
                quantity,
            ),
        )

    assert both("graduated", 12) == (14, 14)
    assert both("volume", 5) == (0, 0)
    assert both("volume", 12) == (14, 24)


def test_an_included_amount_is_taken_off_the_cost() -> None:
    price = priced(unit={"unit_price": "2"}, included={"amount": "10"}, overage_multiplier="1.5")
    assert [at(price, quantity) for quantity in (5, 6)] == [0, 3]
    unlimited = priced(graduated={"tiers": FEES}, included={"unlimited": True})
    assert at(unlimited, 1000) == 0


def test_a_daily_allowance_begins_anew_each_day_and_may_roll_over() -> None:
    events = [Usage(4, window="1"), Usage(15, window="2"), Usage(11, window="3")]
    daily = {"quantity": "10", "reset": "DAY"}
    assert after(priced(unit={"unit_price": "1"}, included=daily), *events) == 6
    rolled = priced(unit={"unit_price": "1"}, included=daily | {"rollover_max": "4"})
    assert after(rolled, *events) == 2


def test_rolled_over_units_count_up_to_their_limit() -> None:
    price = priced(unit={"unit_price": "1"}, included={"quantity": "10", "rollover_max": "5"})
    assert at(price, 20, rolled_over=3) == 7
    assert at(price, 20, rolled_over=30) == 5


def test_overage_is_a_component_of_its_own() -> None:
    price = priced(unit={"unit_price": "10"}, included={"quantity": "5"}, overage_multiplier="1.1")
    parts = rate(price, State(quantity=7, event_count=1)).components
    assert [(part.name, part.quantity, part.amount) for part in parts] == [
        ("units", 2, 20),
        ("overage", 2, 2),
    ]
    at_list = priced(unit={"unit_price": "10"}, overage_multiplier="1.5")
    assert at(at_list, 7) == 70
    assert at(at_list, 7, committed=5) == 80


def test_overage_begins_where_both_included_and_committed_units_end() -> None:
    unit = {"unit_price": "10"}
    taken_off = priced(unit=unit, included={"quantity": "5"}, overage_multiplier="1.5")
    # 12 units, 5 of them free: of the 7 that cost 70, those beyond the 8th cost half as much again.
    assert at(taken_off, 12, committed=8) == 70 + 20
    assert at(taken_off, 12, committed=3) == 70 + 35
    tiers = {"tiers": [{"unit_price": "10"}]}
    leads = {"quantity": "5", "mode": "LEADING_TIER"}
    leading = priced(graduated=tiers, included=leads, overage_multiplier="1.5")
    assert at(leading, 12, committed=8) == 70 + 20
    assert at(leading, 12, committed=3) == 70 + 35


def test_allowances_shrink_with_a_short_period_only_on_request() -> None:
    half = State(share=Fraction(1, 2))
    for option, by_event, by_amount in (("FIXED", 0, 20), ("PRORATED", 20, 25)):
        price = priced(percentage={"rate": "1", "free_events": 3}, stub_bounds=option)
        state = half
        for _ in range(2):
            state = advance(price, state, Usage(amount=20))
        assert cost(price, state) == rate(price, state).cost == by_event
        lesser = priced(unit={"unit_price": "1"}, included={"amount": "10"}, stub_bounds=option)
        assert at(lesser, 30, share=half.share) == by_amount


def test_minimum_at_the_close() -> None:
    price = priced(unit={"unit_price": "1"}, minimum="30")
    used = State(quantity=10, event_count=1)
    closing = close(price, used, charged=4)
    assert (closing.cost, closing.minimum, closing.delta) == (10, 20, 26)
    assert closing.breakdown.components[-1].name == "minimum"
    assert close(price, State()).minimum == 30
    assert close(price, State(share=Fraction(1, 3))).minimum == 10
    whole = priced(unit={"unit_price": "1"}, minimum="30", minimum_prorated=False)
    assert close(whole, State(share=Fraction(1, 3))).minimum == 30
    waived = priced(unit={"unit_price": "1"}, minimum="30", minimum_at_zero="WAIVE")
    assert close(waived, State()).minimum == 0
    assert close(waived, used).minimum == 20
    assert rate(price, used).cost == 10


def test_a_maximum_cuts_and_says_so() -> None:
    price = priced(unit={"unit_price": "1"}, maximum="7.5")
    assert at(price, 10) == Decimal("7.5")
    assert rate(price, State(quantity=10)).components[-1].amount == Fraction("-2.5")


LEVELS = (Level(Fraction(1, 2), 5), Level(Fraction(1, 4), 15), Level(Fraction(1, 4), 8))


@pytest.mark.parametrize(
    ("basis", "expected"), [("TIME_WEIGHTED", "8.25"), ("PEAK", 15), ("CLOSING", 8)]
)
def test_seats_by_their_basis(basis: str, expected: str) -> None:
    price = priced(seat={"unit": {"unit_price": "1"}, "seat_basis": basis})
    assert as_decimal(cost(price, State(levels=LEVELS))) == Decimal(expected)


def test_a_weighted_level_pays_the_flats_of_the_tiers_it_reached() -> None:
    tiers = [{"up_to": "10", "unit_price": "2", "flat_fee": "1"}, {"unit_price": "1"}]
    graduated = priced(graduated={"tiers": tiers}, time_weighting="SECOND")
    # Half a period of 5 at 2, a quarter of 10 at 2 and 5 at 1, a quarter of 8 at 2, and the flat.
    assert cost(graduated, State(levels=LEVELS)) == 5 + Fraction(25, 4) + 4 + 1
    volume = priced(volume={"tiers": tiers}, time_weighting="SECOND")
    assert cost(volume, State(levels=LEVELS)) == Fraction(33, 4) * 2 + 1
    each = priced(
        volume={"tiers": tiers}, time_weighting="SECOND", volume_weighting="LEVEL_INTEGRAL"
    )
    assert cost(each, State(levels=LEVELS)) == 5 + Fraction(15, 4) + 4 + 1


def test_a_level_below_zero_offsets_others_but_never_the_period() -> None:
    price = priced(unit={"unit_price": "2"}, time_weighting="DAY")
    owed = State(levels=(Level(Fraction(1, 2), 10), Level(Fraction(1, 2), -4)))
    assert cost(price, owed) == 6
    assert cost(price, State(levels=(Level(1, -4),))) == 0
    # Below zero a package is worth its units, in a straight line.
    packed = priced(package={"size": "4", "amount": "2"}, time_weighting="DAY")
    assert cost(packed, owed) == 3 - 1


def test_half_an_atom_is_rounded_up() -> None:
    price = priced(unit={"unit_price": "0.005"})
    assert [charge(price, State(quantity=quantity), 0, 2) for quantity in (1, 2, 3)] == [1, 1, 2]
    assert charge(price, State(quantity=1), 0, 2, RoundingMode.HALF_EVEN) == 0
    assert charge(price, State(quantity=1), 0, 2, RoundingMode.DOWN) == 0


def test_small_rates_and_large_quantities_stay_exact() -> None:
    price = priced(unit={"unit_price": "0.000000000000000001"})
    assert at(price, 10**15) == Decimal("0.001")
    assert cost(price, State(quantity=10**19 + 1)) == Fraction(10**19 + 1, 10**18)
