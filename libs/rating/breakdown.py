"""Rates a state in plain fractions and tells what the cost is made of."""

from __future__ import annotations

from fractions import Fraction
from typing import assert_never

from rating.cells import part_name, parts_of
from rating.components import Breakdown, Component, total
from rating.curves import Rung, Scale, rungs_of
from rating.exact import Number, ceil_div, exact, floor_div
from rating.levels import flat_component, is_level_price, level_components
from rating.percentage import percentage_cost
from rating.price import (
    Accumulate,
    Bound,
    CostPlus,
    Dynamic,
    Flat,
    FlatAtZero,
    Graduated,
    GraduatedPercentage,
    Matrix,
    NegativeQuantity,
    Package,
    PackageRound,
    Percentage,
    Price,
    Seat,
    Stairstep,
    Tiered,
    TimeOfUse,
    Unit,
    Volume,
    ZeroQuantity,
)
from rating.state import State
from rating.steps import (
    bounds_share,
    included_units,
    is_leading,
    model_quantity,
    overage_begins,
)
from rating.tariff import amount_factor, cell_price, one_scope

Parts = list[Component]


def rate(price: Price, state: State) -> Breakdown:
    """What a state costs: exact, total and pure; the maximum applied, the minimum not."""
    parts = _scoped(price, state)
    if price.maximum is not None and total(parts) > Fraction(price.maximum):
        cut = Fraction(price.maximum) - total(parts)
        parts = [*parts, Component("maximum", exact(cut))]
    return Breakdown(price.asset, tuple(parts))


def _scoped(price: Price, state: State) -> Parts:
    """Step 1: the period, each window, or each event."""
    if price.accumulate is Accumulate.WINDOW:
        inner = one_scope(price)
        windows = sorted(state.parts)
        return [p.inside(name) for name in windows for p in _scoped(inner, state.parts[name])]
    if isinstance(price.model, Matrix | TimeOfUse):
        return _after(price, state, _matrix(price, price.model, state))
    if price.accumulate is Accumulate.EVENT:
        return [Component("events", state.event_cost, state.event_count)]
    return _after(price, state, _modelled(price, state))


def _matrix(price: Price, model: Matrix | TimeOfUse, state: State) -> Parts:
    parts: Parts = []
    for position, cell in enumerate(parts_of(model)):
        part = state.parts.get(str(position))
        if part is not None:
            inner = _scoped(cell_price(price, cell), part)
            parts += [component.inside(part_name(cell)) for component in inner]
    return parts


def _modelled(price: Price, state: State) -> Parts:
    if is_level_price(price):
        return level_components(price, state)
    model = price.model
    match model:
        case Flat():
            return [flat_component(model, state)]
        case Percentage():
            return _not_negative(price, _percentage(model, state))
        case Dynamic() | CostPlus():
            return _not_negative(price, [_proportional(model, state)])
        case GraduatedPercentage():
            mirrored = state.amount < 0 and price.negative_quantity is NegativeQuantity.MIRROR
            amount: Number = -state.amount if mirrored else max(state.amount, 0)
            parts = _graduated(
                model, rungs_of(model, Scale(bounds=bounds_share(price, state))), amount
            )
            return [part.mirrored() for part in parts] if mirrored else parts
        case Seat() | Matrix() | TimeOfUse():
            raise AssertionError("is rated before")
        case _:
            return _of_quantity(price, model, state)


def _of_quantity(
    price: Price, model: Unit | Package | Graduated | Volume | Stairstep, state: State
) -> Parts:
    """Steps 2, 3, 4 and 6 around a model that prices one total."""
    quantity, mirrored = model_quantity(price, state)
    parts = _priced(price, model, state, quantity)
    parts += _overage(price, model, state, quantity)
    return [part.mirrored() for part in parts] if mirrored else parts


def _overage(
    price: Price,
    model: Unit | Package | Graduated | Volume | Stairstep,
    state: State,
    quantity: Number,
) -> Parts:
    begins = overage_begins(price, state)
    if begins is None or quantity <= begins:
        return []
    at_list = total(_priced(price, model, state, quantity))
    beyond = max(at_list - total(_priced(price, model, state, begins)), Fraction(0))
    surcharge = exact((Fraction(price.overage_multiplier) - 1) * beyond)
    return [Component("overage", surcharge, quantity - begins)]


def _priced(
    price: Price,
    model: Unit | Package | Graduated | Volume | Stairstep,
    state: State,
    quantity: Number,
) -> Parts:
    leading = included_units(price, state) if is_leading(price) else 0
    scale = Scale(bounds=bounds_share(price, state), leading=leading)
    match model:
        case Package():
            return _package(model, scale, quantity)
        case Unit() | Graduated():
            return _graduated(model, rungs_of(model, scale), quantity)
        case Volume() | Stairstep():
            return _reached(model, rungs_of(model, scale), quantity)
        case _:
            assert_never(model)


def _package(model: Package, scale: Scale, quantity: Number) -> Parts:
    free = Fraction(model.free_units) * scale.bounds + scale.leading
    paid = max(quantity - free, Fraction(0))
    count = ceil_div if model.package_round is PackageRound.UP else floor_div
    packages = count(paid, Fraction(model.size))
    if quantity > 0:
        packages = max(packages, model.packages_min)
    return [_times("packages", packages, exact(model.amount))]


def _graduated(
    model: Unit | Graduated | GraduatedPercentage, rungs: list[Rung], quantity: Number
) -> Parts:
    parts: Parts = []
    over: Number = 0
    for position, rung in enumerate(rungs):
        if position and not _entered(model, over, quantity):
            break
        inside = quantity - over if rung.up_to is None else min(quantity, rung.up_to) - over
        name = "units" if len(rungs) == 1 else f"tier {position + 1}"
        parts.append(_tier(name, rung, over, inside))
        parts += _flat_fee(model, rung, position, quantity)
        if rung.up_to is not None:
            over = rung.up_to
    return parts


def _reached(model: Volume | Stairstep, rungs: list[Rung], quantity: Number) -> Parts:
    over: Number = 0
    position = 0
    for rung in rungs[:-1]:
        assert rung.up_to is not None
        if not _entered(model, rung.up_to, quantity):
            break
        over, position = rung.up_to, position + 1
    rung = rungs[position]
    fee = _flat_fee(model, rung, position, quantity)
    if isinstance(model, Stairstep):
        return fee
    return [_tier(f"tier {position + 1}", rung, over, quantity), *fee]


def _entered(model: Unit | Tiered, over: Number, quantity: Number) -> bool:
    if isinstance(model, Unit) or model.bound is Bound.UPPER_INCLUSIVE:
        return quantity > over
    return quantity >= over


def _tier(name: str, rung: Rung, over: Number, quantity: Number) -> Component:
    count = quantity if rung.size is None else ceil_div(quantity, rung.size)
    amount = exact(count * rung.price)
    return Component(name, amount, count, rung.price, over, rung.up_to)


def _flat_fee(model: Unit | Tiered, rung: Rung, position: int, quantity: Number) -> Parts:
    if isinstance(model, Unit) or not rung.flat:
        return []
    if position == 0 and quantity == 0 and model.flat_at_zero is FlatAtZero.WAIVE:
        return []
    return [Component(f"flat fee of tier {position + 1}", rung.flat)]


def _percentage(model: Percentage, state: State) -> Parts:
    fixed = percentage_cost(model, state) - state.event_cost_bare
    parts = [Component("share of amounts", state.event_cost_bare)]
    return [*parts, Component("fixed fees", fixed)] if fixed else parts


def _proportional(model: Dynamic | CostPlus, state: State) -> Component:
    factor = exact(amount_factor(model))
    if isinstance(model, CostPlus):
        return _times("costs", state.cost, factor)
    free = model.zero_quantity is ZeroQuantity.FREE and state.quantity == 0
    return _times("amounts", 0 if free else state.amount, factor)


def _times(name: str, quantity: Number, unit_price: Number) -> Component:
    return Component(name, exact(quantity * unit_price), quantity, unit_price)


def _not_negative(price: Price, parts: Parts) -> Parts:
    short = -total(parts)
    if short <= 0 or price.negative_quantity is NegativeQuantity.MIRROR:
        return parts
    return [*parts, Component("not below zero", exact(short))]


def _after(price: Price, state: State, parts: Parts) -> Parts:
    """An included amount, or everything, is taken off the cost."""
    included = price.included
    cost = total(parts)
    if included is None or (included.amount is None and not included.unlimited):
        return parts
    if included.unlimited:
        return [*parts, Component("included", exact(-cost))]
    assert included.amount is not None
    free = Fraction(included.amount) * bounds_share(price, state)
    # A negative cost (negative_quantity MIRROR) has used nothing of the amount, and is no cost.
    parts = [*parts, Component("included", exact(-min(free, cost)))]
    surcharge = exact(total(parts) * (Fraction(price.overage_multiplier) - 1))
    return [*parts, Component("overage", surcharge)] if surcharge else parts
