"""Adds usage to a state, one event (or one row of added-up events) at a time."""

from __future__ import annotations

from dataclasses import replace

from kernel.errors import InvalidValue
from rating.cells import part_of
from rating.percentage import add_amount
from rating.price import Accumulate, Matrix, Percentage, Price, TimeOfUse
from rating.state import State, Usage
from rating.steps import bounds_share, has_windows_of_its_own
from rating.tariff import Tariff, tariff_of


def advance(price: Price, state: State, usage: Usage) -> State:
    """The state after one more event.

    Raises UnpricedUsage where no cell of a matrix matches, and InvalidValue where a model that
    prices each event by itself is given several at once.
    """
    return advance_tariff(tariff_of(price, state), state, usage)


def advance_tariff(tariff: Tariff, state: State, usage: Usage) -> State:
    """The same, with the price compiled already."""
    price = tariff.price
    after = replace(
        state,
        quantity=state.quantity + usage.quantity,
        event_count=state.event_count + usage.event_count,
        amount=state.amount + usage.amount,
        cost=state.cost + usage.cost,
    )
    if price.accumulate is Accumulate.WINDOW:
        assert tariff.inner is not None
        return _into_part(after, usage.window, tariff.inner, usage)
    if isinstance(price.model, Matrix | TimeOfUse):
        cell = part_of(price.model, usage)
        return _into_part(after, str(cell), tariff.cells[cell], usage)
    if price.accumulate is Accumulate.EVENT:
        assert tariff.inner is not None
        _check_single(usage)
        alone = advance_tariff(tariff.inner, State(share=state.share), usage)
        cost = after.event_cost + tariff.inner.cost(alone)
        return replace(after, event_cost=cost, event_cost_bare=cost)
    if isinstance(price.model, Percentage):
        _check_single(usage)
        return add_amount(price.model, bounds_share(price, state), after, usage.amount)
    if has_windows_of_its_own(price):
        part = state.parts.get(usage.window, State())
        quantity = part.quantity + usage.quantity
        count = part.event_count + usage.event_count
        grown = replace(part, quantity=quantity, event_count=count)
        return replace(after, parts={**state.parts, usage.window: grown})
    return after


def _into_part(state: State, key: str, tariff: Tariff, usage: Usage) -> State:
    part = state.parts.get(key) or State(share=state.share)
    return replace(state, parts={**state.parts, key: advance_tariff(tariff, part, usage)})


def _check_single(usage: Usage) -> None:
    if usage.event_count != 1:
        raise InvalidValue(
            "event_count", "this price looks at single events, so they cannot be added up before"
        )
