"""What a cost is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from kernel.money import Asset, RoundingMode, round_to_atoms
from rating.exact import Number


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a cost. `amount` is exact; where there is a `unit_price`, it is the product.

    `over` and `up_to` are the bounds of a tier, `group` the matrix cell or window it belongs to.
    """

    name: str
    amount: Number
    quantity: Number | None = None
    unit_price: Number | None = None
    over: Number | None = None
    up_to: Number | None = None
    group: str = ""

    def inside(self, group: str) -> Component:
        """The same component, seen from one level further out."""
        return replace(self, group=f"{group} / {self.group}" if self.group else group)

    def mirrored(self) -> Component:
        quantity = None if self.quantity is None else -self.quantity
        return replace(self, amount=-self.amount, quantity=quantity)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """An exact cost in one asset, and the ordered components that sum to it."""

    asset: str
    components: tuple[Component, ...]

    @property
    def cost(self) -> Fraction:
        """The exact cost, in units of the asset."""
        return total(self.components)

    def atoms(self, asset: Asset, mode: RoundingMode = RoundingMode.HALF_UP) -> int:
        """The cost rounded once to the asset's atoms."""
        return round_to_atoms(self.cost, asset.scale, mode)


def total(components: tuple[Component, ...] | list[Component]) -> Fraction:
    """The exact sum of amounts."""
    return sum((Fraction(part.amount) for part in components), Fraction(0))
