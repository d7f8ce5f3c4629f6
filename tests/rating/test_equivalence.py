"""Live, close, preview and stored state agree to the last digit (P1, P2, P3, P12, PRC-0)."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.money import round_to_atoms
from rating import (
    Level,
    Price,
    State,
    Tab,
    Usage,
    advance,
    charge,
    close,
    cost,
    cost_between,
    parse_price,
    parse_state,
    rate,
    render_state,
    state_digest,
)
from rating.price import OnDecrease, Seat, TimeWeighting
from tests.rating.strategies import SHARES, claims, level_prices, periods, prices, usages

SCALES = st.sampled_from([0, 2, 9])


def after(price: Price, events: list[Usage], begun: State | None = None) -> State:
    state = begun or State()
    for usage in events:
        state = advance(price, state, usage)
    return state


@st.composite
def beginnings(draw: st.DrawFn) -> State:
    """Facts that a service knows about a period before its first event."""
    return State(
        share=draw(st.one_of(st.just(1), SHARES)),
        rolled_over=draw(st.sampled_from([0, 0, 4, 30])),
        committed=draw(st.sampled_from([None, None, 0, 25])),
    )


@settings(claims, max_examples=500)
@given(prices(), periods(), beginnings())
def test_the_compiled_cost_is_the_sum_of_the_parts(
    price: Price, events: list[Usage], begun: State
) -> None:
    state = after(price, events, begun)
    assert cost(price, state) == rate(price, state).cost


@claims
@given(prices(), periods(), beginnings(), SCALES, st.data())
def test_live_deltas_and_the_close_sum_to_the_closing_cost(
    price: Price, events: list[Usage], begun: State, scale: int, data: st.DataObject
) -> None:
    """P1 and P12: in any split into calls, with the state stored as JSON between them."""
    state, charged = begun, 0
    rest = events
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        tab = Tab(price, scale, state=state, charged_atoms=charged)
        posted = [tab.add(usage) for usage in rest[:size]]
        assert charged + sum(posted) == tab.charged_atoms
        state, charged = (
            parse_state(json.loads(json.dumps(render_state(tab.state)))),
            (tab.charged_atoms),
        )
        rest = rest[size:]
    assert state == after(price, events, begun)
    live_cost = cost(price, state)
    if price.on_decrease is OnDecrease.REVERSE and events:
        assert charged == round_to_atoms(live_cost, scale)
    closing = close(price, state, Fraction(charged, 10**scale))
    assert Fraction(charged, 10**scale) + closing.delta == closing.breakdown.cost
    keeps = price.on_decrease is OnDecrease.HIGH_WATER
    assert closing.cost == (max(live_cost, closing.charged) if keeps else live_cost)
    assert closing.breakdown.cost == closing.cost + closing.minimum


@claims
@given(prices(), periods(), SCALES)
def test_a_tab_charges_what_the_function_of_states_charges(
    price: Price, events: list[Usage], scale: int
) -> None:
    tab, state, charged = Tab(price, scale), State(), 0
    for usage in events:
        state = advance(price, state, usage)
        delta = charge(price, state, charged, scale)
        assert tab.add(usage) == delta
        charged += delta
    assert tab.charged_atoms == charged


@claims
@given(prices(), periods())
def test_high_water_never_gives_back(price: Price, events: list[Usage]) -> None:
    tab = Tab(price, 9)
    deltas = [tab.add(usage) for usage in events]
    if price.on_decrease is OnDecrease.HIGH_WATER:
        assert all(delta >= 0 for delta in deltas)


@claims
@given(prices(allowances=False), periods(), st.data())
def test_order_free_prices_do_not_see_the_order(
    price: Price, events: list[Usage], data: st.DataObject
) -> None:
    """P2: without allowances, C is the same for every permutation of events."""
    shuffled = data.draw(st.permutations(events))
    assert cost(price, after(price, events)) == cost(price, after(price, shuffled))


@claims
@given(prices(), periods(), st.data())
def test_versions_that_continue_sum_to_one_version(
    price: Price, events: list[Usage], data: st.DataObject
) -> None:
    """PRC-4: Σ C(end) − C(start) over stretches of the same price is C of the whole."""
    cut = data.draw(st.integers(0, len(events)))
    middle = after(price, events[:cut])
    end = after(price, events[cut:], middle)
    first = cost_between(price, State(), middle)
    assert first + cost_between(price, middle, end) + cost(price, State()) == cost(price, end)


@claims
@given(periods(), beginnings(), prices(), st.lists(usages(), max_size=1))
def test_a_state_survives_its_document(
    events: list[Usage], begun: State, price: Price, more: list[Usage]
) -> None:
    state = after(price, events, begun)
    assert parse_state(render_state(state)) == state
    changed = after(price, more, state)
    assert (state_digest(state) == state_digest(changed)) == (state == changed)


@claims
@given(level_prices(), st.lists(st.tuples(SHARES, st.integers(-20, 60)), min_size=1, max_size=5))
def test_levels_agree_however_their_time_is_cut(
    price: Price, spans: list[tuple[Fraction, int]]
) -> None:
    """P20: cutting a stretch of one level in two changes nothing."""
    whole = tuple(Level(share / len(spans), quantity) for share, quantity in spans)
    cut = tuple(
        Level(part, level.quantity)
        for level in whole
        for part in (level.share / 3, 2 * level.share / 3)
    )
    share = sum((Fraction(level.share) for level in whole), Fraction(0))
    first, second = State(levels=whole, share=share), State(levels=cut, share=share)
    assert cost(price, first) == cost(price, second)
    assert cost(price, first) == rate(price, first).cost


@claims
@given(level_prices(), st.integers(0, 60))
def test_a_constant_level_costs_what_the_quantity_costs(price: Price, level: int) -> None:
    """P20: over a full period, weighting by time changes nothing."""
    model = price.model.model if isinstance(price.model, Seat) else price.model
    plain = replace(price, model=model, time_weighting=TimeWeighting.NONE)
    constant = State(levels=(Level(Fraction(1, 4), level), Level(Fraction(3, 4), level)))
    assert cost(price, constant) == cost(plain, State(quantity=level))


def test_a_million_debits_drift_by_less_than_an_atom() -> None:
    """RND-3: a third of a cent, many times, at a scale of two decimals."""
    price = parse_price({"asset": "USD", "unit": {"unit_price": "0.01"}, "divide_by": "3"})
    tab = Tab(price, 2)
    posted = sum(tab.add_quantity(1) for _ in range(1_000_000))
    assert posted == tab.charged_atoms == 333_333
    assert tab.state.quantity == tab.state.event_count == 1_000_000
