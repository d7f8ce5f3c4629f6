"""The fee of one event that states an amount, and what it uses up of the allowances."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from rating.exact import Number, exact, floor_div
from rating.price import FixedAtZero, Percentage
from rating.state import State


def add_amount(model: Percentage, share: Number, state: State, amount: Number) -> State:
    """The state after one more event. `share` scales the allowances.

    An event without a positive amount uses up no allowance: a negative one returns its rate part,
    one of zero costs nothing.
    """
    free = _free_part(model, share, state, amount)
    took_allowance = amount > 0 and free > 0
    paid = amount - free
    fee, bare = _fees(model, paid)
    return replace(
        state,
        event_cost=exact(state.event_cost + fee),
        event_cost_bare=exact(state.event_cost_bare + bare),
        free_event_count=state.free_event_count + took_allowance,
        free_amount=state.free_amount + free,
    )


def percentage_cost(model: Percentage, state: State) -> Number:
    """What the events of a state cost together."""
    if state.amount == 0 and model.fixed_at_zero is FixedAtZero.SUPPRESS:
        return state.event_cost_bare
    return state.event_cost


def _free_part(model: Percentage, share: Number, state: State, amount: Number) -> Number:
    if amount <= 0 or (model.free_events is None and model.free_amount is None):
        return 0
    if model.free_events is not None:
        events = floor_div(model.free_events * share, 1)
        if state.free_event_count >= events:
            return 0
    if model.free_amount is None:
        return amount
    left = exact(Fraction(model.free_amount) * share) - state.free_amount
    return min(amount, left)


def _fees(model: Percentage, paid: Number) -> tuple[Number, Number]:
    """The fee of a paid part, and the same as if there were no fixed fees."""
    part = exact(Fraction(model.rate) * paid)
    if paid <= 0:
        return part, part
    return _clamp(model, part + exact(model.fixed_fee)), _clamp(model, part)


def _clamp(model: Percentage, fee: Number) -> Number:
    if model.event_amount_min is not None:
        fee = max(fee, exact(model.event_amount_min))
    if model.event_amount_max is not None:
        fee = min(fee, exact(model.event_amount_max))
    return fee
