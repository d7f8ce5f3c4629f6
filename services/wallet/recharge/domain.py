"""When a wallet tops itself up, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

from kernel.errors import Kind, Refusal
from kernel.money import round_to_atoms


class RechargeMode(IntEnum):
    FIXED = 1
    TO_TARGET = 2


class RechargeState(IntEnum):
    IN_FLIGHT = 1
    GRANTED = 2
    FAILED = 3


class RechargeEnded(Refusal):
    """The recharge was decided before, in another way."""

    reason = "RECHARGE_ENDED"
    kind = Kind.PRECONDITION

    def __init__(self, recharge_id: str, state: RechargeState) -> None:
        super().__init__(
            f"recharge {recharge_id} ended as {state.name}",
            recharge_id=recharge_id,
            state=state.name,
        )


@dataclass(slots=True)
class Rule:
    """A rule with what it has bought; amounts are atoms of the wallet's asset."""

    threshold: int
    mode: RechargeMode
    value: int
    unit_price: Decimal
    price_asset: str
    price_scale: int
    monthly_cap: int
    payment_method_id: str
    generation: int
    in_flight: bool
    pause_until: datetime
    month: date
    month_bought: int
    scale: int

    def due(self, available: int, now: datetime) -> int:
        """How much to buy now, 0 where nothing is due.

        A fixed amount that does not fit under the month's cap is not bought in part; on the way to
        a target, what is left of the cap is.
        """
        if available > self.threshold or self.in_flight or now < self.pause_until:
            return 0
        left = self.monthly_cap - (self.month_bought if self.month == month_of(now) else 0)
        if self.mode is RechargeMode.FIXED:
            return self.value if self.value <= left else 0
        return max(0, min(self.value - available, left))

    def start(self, atoms: int, now: datetime) -> None:
        """Note that a recharge is in flight; there is at most one."""
        month = month_of(now)
        self.month_bought = atoms + (self.month_bought if self.month == month else 0)
        self.month = month
        self.in_flight = True
        self.generation += 1

    def price_of(self, atoms: int) -> int:
        """What to charge for so many atoms of the asset, in atoms of the price's."""
        exact = Fraction(atoms, 10**self.scale) * Fraction(self.unit_price)
        return max(1, round_to_atoms(exact, self.price_scale))


def month_of(instant: datetime) -> date:
    """First day of an instant's calendar month, UTC."""
    return date(instant.year, instant.month, 1)
