"""What few items of a batch need beside balances and grants, and what they leave to be written."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias

# Who did what by hand, and why: tenant, key, kind, wallet, reason, approver, caller, time.
Adjustment: TypeAlias = tuple[str, str, int, str, str, str, str, datetime]


@dataclass(frozen=True, slots=True)
class Rollover:
    """What of a grant goes on into a new one when it expires: a share of the rest, at most `cap`
    atoms, for `seconds` from the old expiry (None: for ever)."""

    fraction: Decimal
    cap: int | None
    seconds: int | None

    def part_of(self, atoms: int) -> int:
        """How many of so many atoms go on; what is finer than an atom does not."""
        numerator, denominator = self.fraction.as_integer_ratio()
        part = atoms * numerator // denominator
        return part if self.cap is None else min(part, self.cap)


@dataclass(slots=True)
class Details:
    """Read after the lock, for the batch's items alone."""

    # What was given back of a transfer, by (tenant, wallet, number).
    reversed: dict[tuple[str, str, int], int] = field(default_factory=dict)
    # The rate in force and since when, by (tenant, asset, other asset).
    rates: dict[tuple[str, str, str], tuple[datetime, Decimal]] = field(default_factory=dict)
    closed: dict[str, datetime] = field(default_factory=dict)
    # When a grant first paid for something, where its tenant has closed a period.
    first_uses: dict[str, datetime] = field(default_factory=dict)

    reversals: list[tuple[str, str, int, str, int, datetime]] = field(default_factory=list)
    adjustments: list[Adjustment] = field(default_factory=list)
