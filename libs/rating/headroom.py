"""How much more may be used for an amount: the inverse of charging at the margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from kernel.errors import InvalidValue
from kernel.money import Exact, RoundingMode, round_to_atoms
from rating.advance import advance_tariff
from rating.cells import part_of
from rating.exact import Number, atoms_of, exact
from rating.levels import is_level_price
from rating.price import (
    Accumulate,
    CostPlus,
    Dynamic,
    GraduatedPercentage,
    Matrix,
    Percentage,
    Price,
    TimeOfUse,
)
from rating.state import State, Usage
from rating.steps import model_quantity
from rating.tariff import Tariff, tariff_of

QUANTITY_MAX = 10**20  # no wire can carry more; a price that allows it allows everything

Count = int  # of steps


def max_quantity(
    price: Price,
    state: State,
    amount: Exact,
    *,
    charged: Exact | None = None,
    usage: Usage | None = None,
    step: Exact = 1,
    scale: int | None = None,
    mode: RoundingMode = RoundingMode.HALF_UP,
) -> Number | None:
    """How much more may be used for an amount, in whole steps; None where there is no end.

    Every quantity up to the answer costs at most `amount` beyond `charged` (default: C(state)),
    and one step more costs above it. So where a volume price falls at a bound that the amount
    does not reach, the answer stays below that bound: usage on the way there would be unpaid.
    `usage` gives properties and window of the event to come. Models that price amounts or costs
    are asked for the largest amount or cost. With `scale`, costs are compared in rounded atoms.

    Raises InvalidValue for a price of levels over time, which has no next unit.
    """
    if is_level_price(price):
        raise InvalidValue("price", "a price of levels over time has no next unit")
    tariff = tariff_of(price, state)
    size = exact(step)
    growth = _Growth(tariff, state, usage or Usage(), size)
    already = Fraction(tariff.cost(state) if charged is None else charged)
    affordable = _limit(growth, already, Fraction(amount), scale, mode)
    if not affordable(0):
        return 0
    low = 0
    for end in _ends(growth, int(QUANTITY_MAX // size)):
        if not affordable(end):
            return exact(_last(affordable, low, end) * size)
        low = end
    return None


class _Growth:
    """What a state becomes when a count of steps is added to it by one event."""

    def __init__(self, tariff: Tariff, state: State, usage: Usage, step: Number) -> None:
        self.tariff = tariff
        self._state, self._usage, self._step = state, usage, step
        self._measure = _measure(_leaf(tariff, usage))
        plain = not state.rolled_over and state.committed is None
        self._quick = tariff.of_quantity if plain else None

    def numerator(self, count: Count) -> Number:
        if self._quick is not None:
            return self._quick(self._state.quantity + count * self._step)
        return self.tariff.numerator(advance_tariff(self.tariff, self._state, self._more(count)))

    def position(self, count: Count) -> Number:
        """The quantity that the model then sees; it never falls as the count rises."""
        usage = self._more(count)
        after = advance_tariff(self.tariff, self._state, usage)
        leaf, state = _leaf_state(self.tariff, after, usage)
        quantity, mirrored = model_quantity(leaf.price, state)
        return -quantity if mirrored else quantity

    def places(self) -> list[Number]:
        """Positions after which the cost may fall."""
        breaks = _leaf(self.tariff, self._usage).breaks
        return sorted({*breaks, *(-place for place in breaks)})

    def _more(self, count: Count) -> Usage:
        added = count * self._step
        match self._measure:
            case "amount":
                return replace(self._usage, amount=added)
            case "cost":
                return replace(self._usage, cost=added)
            case _:
                return replace(self._usage, quantity=added)


def _limit(
    growth: _Growth,
    already: Fraction,
    amount: Fraction,
    scale: int | None,
    mode: RoundingMode,
) -> Callable[[Count], bool]:
    unit = growth.tariff.unit
    if scale is None:
        most = (already + amount) * unit
        return lambda count: growth.numerator(count) <= most
    # A budget is never rounded up; what was charged is rounded as it was posted.
    atoms = round_to_atoms(already, scale, mode)
    atoms += round_to_atoms(amount, scale, RoundingMode.DOWN)
    return lambda count: atoms_of(growth.numerator(count), unit, scale, mode) <= atoms


def _ends(growth: _Growth, most: Count) -> list[Count]:
    """The last counts before each place where the cost may fall, then the largest count."""
    ends = {most}
    for place in growth.places():
        # Whether the cost falls on the place or right after it is the bound's choice: try both.
        for within in (_up_to(growth, place), _below(growth, place)):
            if within(0) and not within(most):
                ends.add(_last(within, 0, most))
    return sorted(ends)


def _up_to(growth: _Growth, place: Number) -> Callable[[Count], bool]:
    return lambda count: growth.position(count) <= place


def _below(growth: _Growth, place: Number) -> Callable[[Count], bool]:
    return lambda count: growth.position(count) < place


def _last(holds: Callable[[Count], bool], low: Count, high: Count) -> Count:
    """The largest count below `high` for which a claim holds that holds at `low`, not at `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _measure(leaf: Tariff) -> str:
    """Which field of an event the model prices."""
    match leaf.price.model:
        case Percentage() | GraduatedPercentage() | Dynamic():
            return "amount"
        case CostPlus():
            return "cost"
        case _:
            return "quantity"


def _leaf(tariff: Tariff, usage: Usage) -> Tariff:
    """The tariff whose model an event of these properties reaches."""
    price = tariff.price
    if price.accumulate is not Accumulate.WINDOW and isinstance(price.model, Matrix | TimeOfUse):
        return _leaf(tariff.cells[part_of(price.model, usage)], usage)
    return tariff if tariff.inner is None else _leaf(tariff.inner, usage)


def _leaf_state(tariff: Tariff, state: State, usage: Usage) -> tuple[Tariff, State]:
    """That tariff, and the part of a state that it sees once the event is added."""
    price = tariff.price
    if price.accumulate is Accumulate.WINDOW:
        assert tariff.inner is not None
        return _leaf_state(tariff.inner, state.parts[usage.window], usage)
    if isinstance(price.model, Matrix | TimeOfUse):
        cell = part_of(price.model, usage)
        return _leaf_state(tariff.cells[cell], state.parts[str(cell)], usage)
    if price.accumulate is Accumulate.EVENT:
        assert tariff.inner is not None
        alone = advance_tariff(tariff.inner, State(share=state.share), usage)
        return _leaf_state(tariff.inner, alone, usage)
    return tariff, state
