"""Curves: a model compiled to a function from a quantity to its cost, in whole numerators.

Fractions cost microseconds, so the tiers' prices are brought to one common denominator (`unit`)
and what full tiers cost is added up beforehand. A quantity that is no whole number still gives an
exact cost: the numerator is then a Fraction.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm
from typing import assert_never

from rating.exact import Number, ceil_div, exact, floor_div
from rating.price import (
    Bound,
    FlatAtZero,
    Graduated,
    GraduatedPercentage,
    Package,
    PackageRound,
    Stairstep,
    Unit,
    Volume,
)

LadderModel = Unit | Package | Graduated | Volume | Stairstep | GraduatedPercentage


@dataclass(frozen=True, slots=True)
class Rung:
    """A tier in exact numbers."""

    up_to: Number | None
    price: Number
    flat: Number
    size: Number | None


@dataclass(frozen=True, slots=True)
class Curve:
    """`cost(q) / unit` is the exact cost of q ≥ 0; `breaks` are where it may jump or fall."""

    unit: int
    cost: Callable[[Number], Number]
    breaks: tuple[Number, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """What is done to quantities of a model: bounds shrink, or quantities come undivided."""

    bounds: Number = 1  # share of the period, where bounds shrink with it
    divisor: Number = 1  # the quantity is this many times what the model speaks of
    leading: Number = 0  # free units in front of the first tier, in units of the quantity


def curve_of(model: LadderModel, scale: Scale) -> Curve:
    """Compile a model that prices one total."""
    if isinstance(model, Package):
        return _package_curve(model, scale)
    rungs = rungs_of(model, scale)
    find = bisect_left if _bound(model) is Bound.UPPER_INCLUSIVE else bisect_right
    waive = _flat_at_zero(model) is FlatAtZero.WAIVE
    match model:
        case Unit() | Graduated() | GraduatedPercentage():
            curve = _graduated_curve(rungs, find)
        case Volume():
            curve = _volume_curve(rungs, find)
        case Stairstep():
            curve = _stairstep_curve(rungs, find)
        case _:
            assert_never(model)
    if not waive or not rungs[0].flat:
        return curve
    return replace(curve, cost=_nothing_at_zero(curve.cost))


def rungs_of(
    model: Unit | Graduated | Volume | Stairstep | GraduatedPercentage, scale: Scale
) -> list[Rung]:
    """The tiers of a model in exact numbers, scaled, with the leading free tier if there is one."""
    if isinstance(model, Unit):
        rungs = [Rung(None, exact(model.unit_price), 0, None)]
    else:
        rungs = [
            Rung(
                None if tier.up_to is None else exact(tier.up_to),
                exact(tier.unit_price),
                exact(tier.flat_fee),
                None if tier.package_size is None else exact(tier.package_size),
            )
            for tier in model.tiers
        ]
    wide = [_scaled(rung, scale) for rung in rungs]
    if not scale.leading:
        return wide
    return [
        Rung(scale.leading, 0, 0, None),
        *(
            rung if rung.up_to is None else replace(rung, up_to=rung.up_to + scale.leading)
            for rung in wide
        ),
    ]


def tier_at(bound: Bound, rungs: list[Rung], quantity: Number) -> int:
    """The position of the tier that a quantity is in."""
    bounds = [rung.up_to for rung in rungs if rung.up_to is not None]
    find = bisect_left if bound is Bound.UPPER_INCLUSIVE else bisect_right
    return find(bounds, quantity)


def _scaled(rung: Rung, scale: Scale) -> Rung:
    up_to = (
        None if rung.up_to is None else exact(Fraction(rung.up_to) * scale.bounds * scale.divisor)
    )
    if rung.size is not None:
        return replace(rung, up_to=up_to, size=rung.size * scale.divisor)
    return replace(rung, up_to=up_to, price=exact(Fraction(rung.price) / scale.divisor))


def _graduated_curve(rungs: list[Rung], find: Callable[..., int]) -> Curve:
    bounds = [rung.up_to for rung in rungs if rung.up_to is not None]
    starts: list[Number] = [0, *bounds]
    reached: Number = 0
    begun: list[Number] = []  # cost on entering each tier: all below in full, and the flats
    for position, rung in enumerate(rungs):
        reached = reached + rung.flat
        begun.append(reached)
        if rung.up_to is not None:
            reached = reached + _inside(rung, rung.up_to - starts[position])
    prices = [rung.price for rung in rungs]
    unit = _common(prices, begun)
    slopes, bases = _whole(prices, unit), _whole(begun, unit)
    sizes = [rung.size for rung in rungs]
    if len(rungs) == 1 and sizes[0] is None:
        slope, base = slopes[0], bases[0]
        return Curve(unit, lambda q: base + q * slope, ())

    def cost(q: Number) -> Number:
        tier = find(bounds, q)
        size = sizes[tier]
        inside = q - starts[tier]
        if size is not None:
            inside = -(-inside // size)
        return bases[tier] + inside * slopes[tier]

    return Curve(unit, cost, tuple(bounds))


def _volume_curve(rungs: list[Rung], find: Callable[..., int]) -> Curve:
    bounds = [rung.up_to for rung in rungs if rung.up_to is not None]
    prices, fees = [rung.price for rung in rungs], [rung.flat for rung in rungs]
    unit = _common(prices, fees)
    slopes, bases = _whole(prices, unit), _whole(fees, unit)
    sizes = [rung.size for rung in rungs]

    def cost(q: Number) -> Number:
        tier = find(bounds, q)
        size = sizes[tier]
        if size is not None:
            q = -(-q // size)
        return bases[tier] + q * slopes[tier]

    return Curve(unit, cost, tuple(bounds))


def _stairstep_curve(rungs: list[Rung], find: Callable[..., int]) -> Curve:
    bounds = [rung.up_to for rung in rungs if rung.up_to is not None]
    fees = [rung.flat for rung in rungs]
    unit = _common(fees)
    bases = _whole(fees, unit)
    return Curve(unit, lambda q: bases[find(bounds, q)], tuple(bounds))


def _package_curve(model: Package, scale: Scale) -> Curve:
    amount = exact(model.amount)
    unit = _common([amount])
    fee = _whole([amount], unit)[0]
    size = exact(model.size) * scale.divisor
    free = exact(Fraction(model.free_units) * scale.bounds * scale.divisor) + scale.leading
    least = model.packages_min
    up = model.package_round is PackageRound.UP

    def cost(q: Number) -> Number:
        if q <= 0:
            return 0
        paid = q - free
        packages = 0 if paid <= 0 else ceil_div(paid, size) if up else floor_div(paid, size)
        return max(packages, least) * fee

    return Curve(unit, cost, ())


def _nothing_at_zero(cost: Callable[[Number], Number]) -> Callable[[Number], Number]:
    return lambda q: cost(q) if q else 0


def _inside(rung: Rung, width: Number) -> Number:
    return (width if rung.size is None else ceil_div(width, rung.size)) * rung.price


def _common(*columns: Iterable[Number]) -> int:
    return lcm(*(Fraction(number).denominator for column in columns for number in column))


def _whole(numbers: list[Number], unit: int) -> list[int]:
    return [int(number * unit) for number in numbers]


def _bound(model: LadderModel) -> Bound:
    return Bound.UPPER_INCLUSIVE if isinstance(model, Unit | Package) else model.bound


def _flat_at_zero(model: LadderModel) -> FlatAtZero:
    return FlatAtZero.CHARGE if isinstance(model, Unit | Package) else model.flat_at_zero
