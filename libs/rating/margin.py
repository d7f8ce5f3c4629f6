"""Charging at the margin: what an event adds to what is posted, and what a close adds to that."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from kernel.money import Exact, RoundingMode
from rating.breakdown import rate
from rating.components import Breakdown, Component
from rating.exact import Number, atoms_of, exact
from rating.price import MinimumAtZero, OnDecrease, Price
from rating.state import State
from rating.tariff import tariff_of


@dataclass(frozen=True, slots=True)
class Closing:
    """The end of a period: its cost, what the minimum adds to it, and what is left to charge."""

    breakdown: Breakdown  # the minimum among its components
    cost: Fraction  # before the minimum
    minimum: Fraction  # what the minimum adds; its own line item
    charged: Fraction

    @property
    def delta(self) -> Fraction:
        """Exactly what is left to charge; negative where too much was charged."""
        return self.cost + self.minimum - self.charged


def cost(price: Price, state: State) -> Number:
    """C(state): the exact cost, the same as `rate(price, state).cost` and much quicker."""
    return tariff_of(price, state).cost(state)


def cost_between(price: Price, before: State, after: State) -> Number:
    """C(after) − C(before): a period inside a longer reset (PRC-2), or the stretch of one price
    version that continues in the tiers where another left off (PRC-4)."""
    return exact(Fraction(cost(price, after)) - cost(price, before))


def charge(
    price: Price,
    state: State,
    charged_atoms: int,
    scale: int,
    mode: RoundingMode = RoundingMode.HALF_UP,
) -> int:
    """Atoms to post so that all that is posted equals round(C(state), scale) (RND-3).

    `charged_atoms` is what this (subscription item, period) has posted so far: 0 at first, not
    C(empty). The answer is negative where the cost fell, unless the price keeps its high water.
    """
    tariff = tariff_of(price, state)
    delta = atoms_of(tariff.numerator(state), tariff.unit, scale, mode) - charged_atoms
    return max(delta, 0) if price.on_decrease is OnDecrease.HIGH_WATER else delta


def minimum_due(price: Price, state: State, cost: Exact) -> Fraction:
    """What the minimum adds to a cost at the close; 0 where none is due."""
    if price.minimum is None:
        return Fraction(0)
    if price.minimum_at_zero is MinimumAtZero.WAIVE and state.is_empty:
        return Fraction(0)
    share = state.share if price.minimum_prorated else 1
    return max(Fraction(price.minimum) * share - Fraction(cost), Fraction(0))


def close(price: Price, state: State, charged: Exact = 0) -> Closing:
    """Close a period: the minimum is added, and what live charging posted is taken off."""
    rated = rate(price, state)
    at_close = rated.cost
    components = rated.components
    if price.on_decrease is OnDecrease.HIGH_WATER and Fraction(charged) > at_close:
        components = (*components, Component("high water", exact(Fraction(charged) - at_close)))
        at_close = Fraction(charged)
    minimum = minimum_due(price, state, at_close)
    if minimum:
        components = (*components, Component("minimum", exact(minimum)))
    return Closing(Breakdown(price.asset, components), at_close, minimum, Fraction(charged))
