"""Prices of a level: C = Σ share × V(level) + the flats of the tiers reached.

V is the model without flats; below zero it extends the first tier in a straight line, and the sum
over the period is floored at zero. A stairstep's fee is its price, so it is weighted like one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import assert_never

from rating.components import Component, total
from rating.curves import Curve, LadderModel, Scale, curve_of, rungs_of, tier_at
from rating.exact import Number, ceil_div, exact
from rating.price import (
    Flat,
    FlatAtZero,
    Graduated,
    LevelModel,
    Package,
    Price,
    Seat,
    SeatBasis,
    Stairstep,
    TimeWeighting,
    Unit,
    Volume,
    VolumeWeighting,
)
from rating.state import Level, State
from rating.steps import bounds_share, divided, included_units, is_leading


def is_level_price(price: Price) -> bool:
    """True where the cost is that of levels over time rather than of one total."""
    return isinstance(price.model, Seat) or price.time_weighting is not TimeWeighting.NONE


def level_components(price: Price, state: State) -> list[Component]:
    """What the levels of a state cost, part by part."""
    model = price.model.model if isinstance(price.model, Seat) else price.model
    assert isinstance(model, LevelModel)
    if isinstance(model, Flat):
        return [flat_component(model, state)]
    units = included_units(price, state)
    leading = units if is_leading(price) else 0
    scale = Scale(bounds=bounds_share(price, state), leading=leading)
    free = units - leading
    levels = [
        replace(level, quantity=_beyond(divided(price, level.quantity), free))
        for level in _levels(price, state)
    ]
    by_tier = isinstance(model, Volume) and price.volume_weighting is VolumeWeighting.PERIOD_TIER
    if by_tier and isinstance(model, Volume):
        parts = _at_closing_tier(model, scale, levels)
    else:
        parts = [*_floored(_weighted(model, scale, levels)), *_flats(model, scale, levels)]
    return parts


def flat_component(model: Flat, state: State) -> Component:
    """A fixed fee, times the billed share of the period."""
    amount = exact(model.amount)
    return Component("flat fee", exact(amount * state.share), state.share, amount)


def _levels(price: Price, state: State) -> Sequence[Level]:
    """The levels that count, each with its share of the period."""
    if not state.levels:
        return [Level(state.share, state.quantity)]
    if not isinstance(price.model, Seat):
        return state.levels
    match price.model.seat_basis:
        case SeatBasis.TIME_WEIGHTED:
            return state.levels
        case SeatBasis.PEAK:
            return [Level(state.share, max(level.quantity for level in state.levels))]
        case SeatBasis.CLOSING:
            return [Level(state.share, state.levels[-1].quantity)]
        case _:
            assert_never(price.model.seat_basis)


def _beyond(quantity: Number, free: Number) -> Number:
    """A level after its free units; one below zero has not used any."""
    return quantity if quantity < 0 else max(quantity - free, 0)


def _weighted(model: LadderModel, scale: Scale, levels: Sequence[Level]) -> list[Component]:
    bare = curve_of(_bare(model), scale)
    parts = []
    for level in levels:
        cost = _value(model, scale, bare, level.quantity)
        parts.append(
            Component(f"level {level.quantity}", exact(cost * level.share), level.share, cost)
        )
    return parts


def _value(model: LadderModel, scale: Scale, bare: Curve, quantity: Number) -> Number:
    if quantity >= 0:
        return exact(Fraction(bare.cost(quantity)) / bare.unit)
    return exact(Fraction(quantity) * _first_slope(model, scale))


def _first_slope(model: LadderModel, scale: Scale) -> Number:
    """What one unit costs at the beginning of the first tier."""
    if isinstance(model, Package):
        return exact(Fraction(model.amount) / Fraction(model.size))
    if isinstance(model, Stairstep):
        return 0
    first = rungs_of(model, replace(scale, leading=0))[0]
    return first.price if first.size is None else exact(Fraction(first.price) / first.size)


def _floored(parts: list[Component]) -> list[Component]:
    short = -total(parts)
    return [*parts, Component("not below zero", exact(short))] if short > 0 else parts


def _flats(model: LadderModel, scale: Scale, levels: Sequence[Level]) -> list[Component]:
    """The flat fee of every tier entered (graduated) or reached by some level (volume)."""
    if not isinstance(model, Graduated | Volume):
        return []
    rungs = rungs_of(model, scale)
    reached = {tier_at(model.bound, rungs, max(level.quantity, 0)) for level in levels}
    if isinstance(model, Graduated):
        reached = set(range(max(reached) + 1))
    if model.flat_at_zero is FlatAtZero.WAIVE and all(level.quantity <= 0 for level in levels):
        reached.discard(0)
    return [
        Component(f"flat fee of tier {tier + 1}", rungs[tier].flat)
        for tier in sorted(reached)
        if rungs[tier].flat
    ]


def _at_closing_tier(model: Volume, scale: Scale, levels: Sequence[Level]) -> list[Component]:
    """The weighted quantity at the price of the tier that the last level is in."""
    rungs = rungs_of(model, scale)
    closing = levels[-1].quantity
    rung = rungs[tier_at(model.bound, rungs, max(closing, 0))]
    weighted = exact(sum((Fraction(level.share) * level.quantity for level in levels), Fraction(0)))
    weighted = max(weighted, 0)
    count = weighted if rung.size is None else ceil_div(weighted, rung.size)
    parts = [Component("weighted level", exact(count * rung.price), count, rung.price)]
    return [*parts, *_flats(model, scale, levels[-1:])]


def _bare(model: LadderModel) -> LadderModel:
    if isinstance(model, Unit | Package | Stairstep):
        return model
    tiers = tuple(replace(tier, flat_fee=Decimal(0)) for tier in model.tiers)
    return replace(model, tiers=tiers)
