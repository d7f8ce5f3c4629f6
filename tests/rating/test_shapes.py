"""The shape of single models: P4 to P9, P23."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from rating import Price, State, Usage, advance, close, cost, parse_price, rate, render_price
from rating.exact import Number
from tests.rating.strategies import (
    DIMENSION,
    MONEY,
    QUANTITIES,
    claims,
    decimals,
    ladders,
    matrices,
    periods,
    prices,
    quantity_models,
    usages,
)

MONEY_FIELDS = frozenset(
    [
        "unit_price",
        "flat_fee",
        "amount",
        "fixed_fee",
        "event_amount_min",
        "event_amount_max",
        "minimum",
        "maximum",
    ]
)


def after(price: Price, events: list[Usage]) -> State:
    state = State()
    for usage in events:
        state = advance(price, state, usage)
    return state


def at(price: Price, quantity: Number) -> Number:
    return cost(price, State(quantity=quantity))


def priced(document: dict[str, Any]) -> Price:
    return parse_price({"asset": "USD", **document})


@claims
@given(quantity_models(("unit", "package", "graduated")), QUANTITIES, QUANTITIES)
def test_cost_never_falls_as_quantity_grows(
    model: dict[str, Any], first: Number, more: Number
) -> None:
    """P4."""
    price = priced(model)
    assert at(price, first) <= at(price, first + more)


@claims
@given(
    ladders(flats=False, packages=False), st.sampled_from(["UPPER_INCLUSIVE", "UPPER_EXCLUSIVE"])
)
def test_graduated_cost_is_continuous_at_every_bound(
    tiers: list[dict[str, Any]], bound: str
) -> None:
    """P5: at a bound the lower tier's price still holds, right after it the upper one's."""
    price = priced({"graduated": {"tiers": tiers, "bound": bound}})
    little = Fraction(1, 1000)
    for lower, upper in pairwise(tiers):
        place = Fraction(lower["up_to"])
        assert at(price, place) - at(price, place - little) == little * Fraction(
            lower["unit_price"]
        )
        assert at(price, place + little) - at(price, place) == little * Fraction(
            upper["unit_price"]
        )


@claims
@given(ladders(flats=False, packages=False), st.data(), QUANTITIES)
def test_splitting_a_tier_changes_nothing(
    tiers: list[dict[str, Any]], data: st.DataObject, quantity: Number
) -> None:
    """P6."""
    position = data.draw(st.integers(0, len(tiers) - 1))
    below = Decimal(tiers[position - 1]["up_to"]) if position else Decimal(0)
    above = Decimal(tiers[position].get("up_to", below + 10))
    middle = {**tiers[position], "up_to": str((below + above) / 2)}
    split = [*tiers[:position], middle, *tiers[position:]]
    assert at(priced({"graduated": {"tiers": tiers}}), quantity) == at(
        priced({"graduated": {"tiers": split}}), quantity
    )


@claims
@given(matrices(), periods())
def test_a_matrix_is_the_sum_of_its_cells(matrix: dict[str, Any], events: list[Usage]) -> None:
    """P7: each cell prices its own events alone."""
    whole = priced(matrix)
    cells = matrix["matrix"]["cells"]
    named = [cell["values"][DIMENSION] for cell in cells if "values" in cell]
    apart = Fraction(0)
    for cell in cells:
        model = {name: body for name, body in cell.items() if name not in ("values", "name")}
        wanted = cell.get("values", {}).get(DIMENSION)
        own = [
            usage
            for usage in events
            if usage.properties[DIMENSION] == wanted
            or (wanted is None and usage.properties[DIMENSION] not in named)
        ]
        if own:
            apart += cost(priced(model), after(priced(model), own))
    assert cost(whole, after(whole, events)) == apart


@claims
@given(prices(), periods(), st.integers(2, 9))
def test_cost_scales_with_every_money_parameter(
    price: Price, events: list[Usage], factor: int
) -> None:
    """P8. Amounts and costs that events state are money too where the model multiplies them."""
    document = render_price(price)
    by_amount = {"percentage", "graduated_percentage", "dynamic", "cost_plus", "matrix"}
    by_amount |= {"time_of_use"}
    assume(not by_amount & document.keys())
    scaled = parse_price(_scaled(document, factor))
    expected = factor * cost(price, after(price, events))
    assert cost(scaled, after(scaled, events)) == expected


def _scaled(document: Any, factor: int, name: str = "") -> Any:
    if isinstance(document, dict):
        return {key: _scaled(value, factor, key) for key, value in document.items()}
    if isinstance(document, list):
        return [_scaled(item, factor) for item in document]
    return str(Decimal(document) * factor) if name in MONEY_FIELDS else document


@claims
@given(
    decimals(300, 3),
    MONEY,
    st.tuples(decimals(300, 2), decimals(300, 2)),
    st.sampled_from([None, "0", "40"]),
    st.sampled_from([None, 0, 2]),
    periods(signed=False),
)
def test_a_paid_event_lies_within_its_bounds_and_a_free_one_is_free(
    rate_: str,
    fixed: str,
    bounds: tuple[str, str],
    free_amount: str | None,
    free_events: int | None,
    events: list[Usage],
) -> None:
    """P9."""
    least, most = sorted(bounds, key=Decimal)
    price = priced(
        {
            "percentage": {
                "rate": rate_,
                "fixed_fee": fixed,
                "event_amount_min": least,
                "event_amount_max": most,
                "free_amount": free_amount,
                "free_events": free_events,
                "fixed_at_zero": "CHARGE",
            }
        }
    )
    state = State()
    for usage in events:
        grown = advance(price, state, usage)
        fee = cost(price, grown) - cost(price, state)
        free = grown.free_amount - state.free_amount
        if free == usage.amount:
            assert fee == 0
        else:
            assert Fraction(least) <= fee <= Fraction(most)
        state = grown


@claims
@given(prices(decreasing=False), periods(), usages())
def test_the_minimum_fills_up_and_the_maximum_cuts(
    price: Price, events: list[Usage], one_more: Usage
) -> None:
    """P23, with the minimum of a whole period."""
    closing = close(price, after(price, events))
    if price.maximum is not None:
        assert closing.cost <= Fraction(price.maximum)
        assert closing.minimum == 0
    if price.minimum is None or price.minimum_at_zero.value == "WAIVE":
        return
    assert closing.cost + closing.minimum >= Fraction(price.minimum)
    larger = close(price, after(price, [*events, one_more]))
    if max(closing.cost, larger.cost) <= Fraction(price.minimum):
        assert closing.cost + closing.minimum == larger.cost + larger.minimum


@claims
@given(prices(), periods())
def test_nothing_is_charged_below_zero_unless_it_mirrors(price: Price, events: list[Usage]) -> None:
    if price.negative_quantity.value == "CLAMP":
        assert cost(price, after(price, events)) >= 0


@claims
@given(quantity_models(), QUANTITIES)
def test_a_mirrored_quantity_costs_minus_its_opposite(
    model: dict[str, Any], quantity: Number
) -> None:
    price = priced(model | {"negative_quantity": "MIRROR"})
    assume(quantity != 0)
    assert at(price, -quantity) == -at(price, quantity)
    clamped = priced(model)
    assert at(clamped, -quantity) == at(clamped, 0)


@claims
@given(prices(), periods())
def test_parts_with_a_unit_price_are_its_product(price: Price, events: list[Usage]) -> None:
    for part in rate(price, after(price, events)).components:
        if part.unit_price is not None and part.quantity is not None:
            assert part.amount == part.quantity * part.unit_price
