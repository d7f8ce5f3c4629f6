"""Tariffs: a price compiled once, so that a live event costs a few whole-number operations.

`rating.breakdown` computes the same costs in plain fractions, part by part; tests hold the two
against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache, partial
from math import lcm

from rating.cells import parts_of
from rating.components import total
from rating.curves import Curve, LadderModel, Scale, curve_of
from rating.exact import Number, exact
from rating.levels import is_level_price, level_components
from rating.percentage import percentage_cost
from rating.price import (
    ONE,
    Accumulate,
    Cell,
    CostPlus,
    DivideRound,
    Dynamic,
    Flat,
    GraduatedPercentage,
    Matrix,
    NegativeQuantity,
    Percentage,
    Price,
    Seat,
    Slot,
    Stairstep,
    StubBounds,
    TimeOfUse,
    Volume,
    ZeroQuantity,
)
from rating.state import State
from rating.steps import (
    bounds_share,
    divided,
    has_windows_of_its_own,
    included_units,
    is_leading,
    model_quantity,
    overage_begins,
)

TARIFFS_MAX = 4_096  # compiled prices kept; a long ladder takes a few kilobytes

StateCost = Callable[[State], Number]
QuantityCost = Callable[[Number], Number]


@dataclass(frozen=True, slots=True)
class Tariff:
    """A price, ready to rate: `numerator(state) / unit` is its exact cost, maximum included.

    `of_quantity` is there where the cost of a usual state (nothing rolled over, no commitment)
    depends on its total quantity alone. `cells` are the tariffs of a matrix or of slots of time,
    `inner` that of one window or event. `breaks` are the quantities, as the model sees them, after
    which the cost may fall.
    """

    price: Price
    unit: int
    numerator: StateCost
    of_quantity: QuantityCost | None = None
    breaks: tuple[Number, ...] = ()
    cells: tuple[Tariff, ...] = ()
    inner: Tariff | None = None
    sums_parts: bool = False  # the cost is that of the parts, maximum apart
    maximum: Number | None = None  # in numerators

    def cost(self, state: State) -> Number:
        """The exact cost of a state, in units of the asset."""
        return exact(Fraction(self.numerator(state)) / self.unit)


def tariff_of(price: Price, state: State) -> Tariff:
    """The compiled price; short periods have their own where bounds shrink with them."""
    return compile_price(price, bounds_share(price, state))


@lru_cache(maxsize=TARIFFS_MAX)
def compile_price(price: Price, share: Number = 1) -> Tariff:
    """Compile a price whose bounds are scaled to a share of the full period."""
    return _capped(_compile(price, share))


def one_scope(price: Price) -> Price:
    """The price of one window or of one event by itself."""
    return replace(price, accumulate=Accumulate.PERIOD, window=None, minimum=None, maximum=None)


def cell_price(price: Price, cell: Cell | Slot) -> Price:
    """The price of one cell or slot: its model, and the steps that see the quantities of events."""
    return Price(
        asset=price.asset,
        model=cell.model,
        accumulate=price.accumulate,
        divide_by=price.divide_by,
        divide_round=price.divide_round,
        negative_quantity=price.negative_quantity,
        stub_bounds=price.stub_bounds,
    )


def _compile(price: Price, share: Number) -> Tariff:
    if price.accumulate is Accumulate.WINDOW:
        inner = compile_price(one_scope(price), share)
        return Tariff(price, inner.unit, _sum_of_windows(inner), inner=inner, sums_parts=True)
    if isinstance(price.model, Matrix | TimeOfUse):
        return _matrix(price, price.model, share)
    if price.accumulate is Accumulate.EVENT:
        inner = compile_price(one_scope(price), share)
        return Tariff(price, 1, lambda state: state.event_cost, inner=inner)
    if is_level_price(price):
        tariff = Tariff(price, 1, lambda state: total(level_components(price, state)))
        return _after(tariff, share)
    match price.model:
        case Flat(amount):
            ratio = Fraction(amount)
            fee, unit = ratio.numerator, ratio.denominator
            tariff = Tariff(price, unit, lambda state: fee * state.share)
        case Percentage():
            tariff = Tariff(price, 1, _floored(price, partial(percentage_cost, price.model)))
        case Dynamic() | CostPlus() as model:
            tariff = _proportional(price, model)
        case GraduatedPercentage() as model:
            curve = curve_of(model, Scale(bounds=share))
            tariff = Tariff(price, curve.unit, _amount_cost(price, curve))
        case Seat():
            raise AssertionError("a seat price is a level price")
        case _:
            return _after(_quantity_tariff(price, price.model, share), share)
    return _after(tariff, share)


def _sum_of_windows(inner: Tariff) -> StateCost:
    numerator = inner.numerator

    def cost(state: State) -> Number:
        return sum((numerator(part) for part in state.parts.values()), 0)

    return cost


def _matrix(price: Price, model: Matrix | TimeOfUse, share: Number) -> Tariff:
    cells = tuple(compile_price(cell_price(price, cell), share) for cell in parts_of(model))
    unit = lcm(*(cell.unit for cell in cells))

    def cost(state: State) -> Number:
        numerator: Number = 0
        for key, part in state.parts.items():
            cell = cells[int(key)]
            numerator += cell.numerator(part) * (unit // cell.unit)
        return numerator

    plain = price.included is None and price.overage_multiplier == ONE
    tariff = Tariff(price, unit, cost, cells=cells, sums_parts=plain)
    return _after(tariff, share)


def _floored(price: Price, cost: StateCost) -> StateCost:
    """A negative sum of amounts costs zero, unless it mirrors the positive one."""
    if price.negative_quantity is NegativeQuantity.MIRROR:
        return cost
    return lambda state: max(cost(state), 0)


def _proportional(price: Price, model: Dynamic | CostPlus) -> Tariff:
    ratio = amount_factor(model)
    factor, unit = ratio.numerator, ratio.denominator
    if isinstance(model, CostPlus):
        return Tariff(price, unit, _floored(price, lambda state: state.cost * factor))
    if model.zero_quantity is ZeroQuantity.CHARGE:
        return Tariff(price, unit, _floored(price, lambda state: state.amount * factor))
    return Tariff(
        price,
        unit,
        _floored(price, lambda state: state.amount * factor if state.quantity else 0),
    )


def amount_factor(model: Dynamic | CostPlus) -> Fraction:
    """What stated amounts or costs are multiplied with."""
    if isinstance(model, Dynamic):
        return Fraction(model.multiplier)
    if model.margin is not None:
        return 1 / (1 - Fraction(model.margin))
    return 1 + Fraction(model.markup or 0)


def _amount_cost(price: Price, curve: Curve) -> StateCost:
    mirror = price.negative_quantity is NegativeQuantity.MIRROR

    def cost(state: State) -> Number:
        amount = state.amount
        if amount >= 0:
            return curve.cost(amount)
        return -curve.cost(-amount) if mirror else curve.cost(0)

    return cost


def _quantity_tariff(price: Price, model: LadderModel, share: Number) -> Tariff:
    # Dividing without rounding is done to the bounds and prices once, not to each quantity.
    folded = exact(price.divide_by) if price.divide_round is DivideRound.NONE else 1
    usual = State(share=share) if price.stub_bounds is StubBounds.PRORATED else State()
    units = included_units(price, usual) * folded
    leading = units if is_leading(price) else 0
    curve = curve_of(model, Scale(bounds=share, divisor=folded, leading=leading))

    def of_state(state: State) -> Number:
        quantity, mirrored = model_quantity(price, state)
        begins = overage_begins(price, state)
        cost = _with_overage(curve, price.overage_multiplier, quantity * folded, begins, folded)
        return -cost if mirrored else cost

    falling = isinstance(model, Volume | Stairstep)
    places = (exact(Fraction(place) / folded) for place in curve.breaks)
    tariff = Tariff(price, curve.unit, of_state, breaks=tuple(places) if falling else ())
    if has_windows_of_its_own(price):
        return tariff
    quick = _quick(price, curve, units - leading, overage_begins(price, usual), folded)

    def cost(state: State) -> Number:
        if state.rolled_over or state.committed is not None:
            return of_state(state)
        return quick(state.quantity)

    return replace(tariff, numerator=cost, of_quantity=quick)


def _quick(
    price: Price, curve: Curve, free: Number, begins: Number | None, folded: Number
) -> QuantityCost:
    """The cost of a quantity with nothing rolled over or committed, by the shortest path."""
    of_curve = curve.cost
    divide = price.divide_round is not DivideRound.NONE
    mirror = price.negative_quantity is NegativeQuantity.MIRROR
    multiplier = price.overage_multiplier
    if not (divide or mirror or free or begins is not None):
        return lambda quantity: of_curve(quantity if quantity > 0 else 0)

    def cost(quantity: Number) -> Number:
        if divide:
            quantity = divided(price, quantity)
        mirrored = mirror and quantity < 0
        rest = max((-quantity if mirrored else quantity) - free, 0)
        amount = _with_overage(curve, multiplier, rest, begins, folded)
        return -amount if mirrored else amount

    return cost


def _with_overage(
    curve: Curve, multiplier: Decimal, quantity: Number, begins: Number | None, folded: Number
) -> Number:
    """The cost at list, and the surcharge on what lies beyond the covered units."""
    cost = curve.cost(quantity)
    if begins is None or quantity <= begins * folded:
        return cost
    beyond = max(cost - curve.cost(begins * folded), 0)
    return cost + exact((Fraction(multiplier) - 1) * beyond)


def _after(tariff: Tariff, share: Number) -> Tariff:
    """Take an included amount off the cost, and put the overage multiplier on the rest."""
    included = tariff.price.included
    if included is None or (included.amount is None and not included.unlimited):
        return tariff
    if included.unlimited:
        return replace(tariff, numerator=lambda state: 0, of_quantity=None)
    assert included.amount is not None
    free = exact(Fraction(included.amount) * share * tariff.unit)
    factor = exact(tariff.price.overage_multiplier)
    before = tariff.numerator
    return replace(
        tariff,
        numerator=lambda state: max(before(state) - free, 0) * factor,
        of_quantity=None,
    )


def _capped(tariff: Tariff) -> Tariff:
    """Never more than the maximum of the price."""
    if tariff.price.maximum is None:
        return tariff
    most = exact(Fraction(tariff.price.maximum) * tariff.unit)
    before, quick = tariff.numerator, tariff.of_quantity
    return replace(
        tariff,
        numerator=lambda state: min(before(state), most),
        of_quantity=None if quick is None else lambda quantity: min(quick(quantity), most),
        maximum=most,
    )
