"""How much a balance buys is the inverse of what usage costs (P10)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidValue
from kernel.money import round_to_atoms
from rating import Price, State, Usage, advance, cost, max_quantity, parse_price
from rating.headroom import _leaf, _measure
from rating.tariff import tariff_of
from tests.rating.strategies import claims, decimals, periods, prices, usages

TIERS = [
    {"up_to": "9999", "unit_price": "0.20"},
    {"unit_price": "0.10"},
]

NOON = datetime(2026, 3, 27, 12, tzinfo=UTC)


def grown(price: Price, state: State, usage: Usage, more: Fraction) -> Fraction:
    measure = _measure(_leaf(tariff_of(price, state), usage))
    after = advance(price, state, replace(usage, **{measure: more}))
    return Fraction(cost(price, after)) - cost(price, state)


@claims
@given(
    prices(gated=True),
    periods(),
    usages(),
    decimals(30_000, 2),
    st.sampled_from([Fraction(1), Fraction(1, 4), Fraction(3)]),
)
def test_the_answer_is_affordable_and_one_step_more_is_not(
    price: Price, events: list[Usage], usage: Usage, text: str, step: Fraction
) -> None:
    state = State()
    for each in events:
        state = advance(price, state, each)
    amount = Fraction(text)
    most = max_quantity(price, state, amount, usage=usage, step=step)
    if most is None:
        assert grown(price, state, usage, Fraction(10**20)) <= amount
        return
    assert most % step == 0
    assert grown(price, state, usage, Fraction(most) + step) > amount or most == 0
    # Nothing on the way there costs more: usage stops where it likes.
    for part in range(1, 8):
        steps = Fraction(most) / step * part // 7
        assert grown(price, state, usage, steps * step) <= amount or most == 0


@claims
@given(prices(gated=True), periods(), decimals(30_000, 2), st.sampled_from([0, 2, 9]))
def test_with_a_scale_the_rounded_charge_fits_the_amount(
    price: Price, events: list[Usage], text: str, scale: int
) -> None:
    state, usage = State(), Usage(properties={"model": "small"}, window="2026-01-03", time=NOON)
    for each in events:
        state = advance(price, state, each)
    most = max_quantity(price, state, Decimal(text), usage=usage, scale=scale)
    if not most:
        return
    before = round_to_atoms(cost(price, state), scale)
    after = cost(price, state) + grown(price, state, usage, Fraction(most))
    assert round_to_atoms(after, scale) - before <= Fraction(text) * 10**scale


def test_a_balance_stops_before_the_stretch_it_cannot_pay() -> None:
    """10,000 units at 0.10 would cost 1,000, but 9,999 units cost 1,999.80 on the way there."""
    price = parse_price({"asset": "USD", "volume": {"tiers": TIERS}})
    assert max_quantity(price, State(), 1500) == 7500
    assert max_quantity(price, State(), 2000) == 20000
    assert max_quantity(price, State(), Decimal("1999.70")) == 9998
    rows = [{"up_to": "10000", "unit_price": "0.20"}, {"unit_price": "0.10"}]
    price = parse_price({"asset": "USD", "volume": {"tiers": rows, "bound": "UPPER_EXCLUSIVE"}})
    assert max_quantity(price, State(), 1500) == 7500
    assert max_quantity(price, State(), 2000) == 20000


def test_what_is_charged_already_counts() -> None:
    price = parse_price({"asset": "USD", "unit": {"unit_price": "2"}})
    assert max_quantity(price, State(quantity=5), 7) == 3
    assert max_quantity(price, State(quantity=5), 7, charged=12) == 4
    assert max_quantity(price, State(quantity=5), 7, charged=0) == 0
    assert max_quantity(price, State(quantity=5), 7, step=Decimal("0.5")) == Fraction(7, 2)


def test_a_free_price_has_no_end() -> None:
    price = parse_price({"asset": "USD", "unit": {"unit_price": "1"}, "maximum": "10"})
    assert max_quantity(price, State(), 9) == 9
    assert max_quantity(price, State(), 10) is None


def test_a_price_of_levels_has_no_next_unit() -> None:
    price = parse_price({"asset": "USD", "seat": {"unit": {"unit_price": "1"}}})
    with pytest.raises(InvalidValue, match="no next unit"):
        max_quantity(price, State(), 10)
