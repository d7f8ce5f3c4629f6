"""The steps before a model (§3.2 of the pricing design): divide, negative, included.

The pricing options say what happens to a quantity before any tier sees it. Both the compiled
tariff and the breakdown take these steps from here.
"""

from __future__ import annotations

from fractions import Fraction

from rating.exact import Number, ceil_div, exact, floor_div, nearest_div
from rating.price import (
    ONE,
    WINDOW_RESETS,
    DivideRound,
    IncludedMode,
    NegativeQuantity,
    Price,
    StubBounds,
)
from rating.state import State


def bounds_share(price: Price, state: State) -> Number:
    """What bounds, included units and allowances are multiplied with."""
    return state.share if price.stub_bounds is StubBounds.PRORATED else 1


def divided(price: Price, quantity: Number) -> Number:
    """The quantity in the units of the price."""
    if price.divide_by == ONE and price.divide_round is DivideRound.NONE:
        return quantity
    divisor = exact(price.divide_by)
    match price.divide_round:
        case DivideRound.NONE:
            return exact(Fraction(quantity) / divisor)
        case DivideRound.UP:
            return ceil_div(quantity, divisor)
        case DivideRound.DOWN:
            return floor_div(quantity, divisor)
        case DivideRound.NEAREST:
            return nearest_div(quantity, divisor)


def model_quantity(price: Price, state: State) -> tuple[Number, bool]:
    """The quantity ≥ 0 that the model sees, and whether its cost is to be mirrored."""
    if has_windows_of_its_own(price):
        return beyond_windows(price, state), False
    quantity = divided(price, state.quantity)
    mirrored = quantity < 0 and price.negative_quantity is NegativeQuantity.MIRROR
    quantity = -quantity if mirrored else max(quantity, 0)
    if not is_leading(price):
        quantity = max(quantity - included_units(price, state), 0)
    return quantity, mirrored


def included_units(price: Price, state: State) -> Number:
    """The free units of the period, those of earlier periods among them."""
    included = price.included
    if included is None or included.quantity is None:
        return 0
    units = exact(Fraction(included.quantity) * bounds_share(price, state))
    return units + min(state.rolled_over, exact(included.rollover_max))


def has_windows_of_its_own(price: Price) -> bool:
    """True where the free units begin anew inside the period."""
    return price.included is not None and price.included.reset in WINDOW_RESETS


def beyond_windows(price: Price, state: State) -> Number:
    """Σ over windows of what exceeds their free units; unused ones roll over up to their limit."""
    included = price.included
    assert included is not None
    assert included.quantity is not None
    # A window is never a stub, so its allowance is not scaled.
    free, most = exact(included.quantity), exact(included.rollover_max)
    saved: Number = min(state.rolled_over, most)
    beyond: Number = 0
    for name in sorted(state.parts):
        used = divided(price, state.parts[name].quantity)
        left = free + saved - max(used, 0)
        beyond += max(-left, 0)
        saved = min(max(left, 0), most)
    return beyond


def overage_begins(price: Price, state: State) -> Number | None:
    """Beyond which quantity, in units of the model, the overage multiplier counts, if at all.

    A commitment covers units of the whole quantity; where included units are taken off before the
    model, they are taken off what is committed too.
    """
    included = price.included
    has_quantity = included is not None and included.quantity is not None
    has_other = included is not None and not has_quantity
    covers = has_quantity or state.committed is not None
    if price.overage_multiplier == ONE or has_other or not covers:
        return None
    units = included_units(price, state) if has_quantity else 0
    committed = state.committed or 0
    if is_leading(price):
        return max(units, committed)
    return max(committed - units, 0)


def is_leading(price: Price) -> bool:
    return price.included is not None and price.included.mode is IncludedMode.LEADING_TIER
