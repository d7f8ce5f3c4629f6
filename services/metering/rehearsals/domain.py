"""What a rehearsed backfill changed for one customer."""

from __future__ import annotations

from typing import NamedTuple


class UsageChange(NamedTuple):
    """A change of usage, decimal strings."""

    meter: str
    before: str
    after: str


class CostChange(NamedTuple):
    """A change of cost, in atoms."""

    asset: str
    scale: int
    from_wallet: bool
    before: int
    after: int


class Effect(NamedTuple):
    """All of it."""

    customer_id: str
    added: int
    amended: int
    deprecated: int
    refused: int
    usage: list[UsageChange]
    costs: list[CostChange]


class Figures(NamedTuple):
    """A customer's usage by meter, and cost by asset, scale and who pays."""

    usage: dict[str, str]
    costs: dict[tuple[str, int, bool], int]


def compare(before: Figures, after: Figures) -> tuple[list[UsageChange], list[CostChange]]:
    """Only what changed."""
    usage = [
        UsageChange(meter, before.usage.get(meter, "0"), after.usage.get(meter, "0"))
        for meter in sorted(before.usage.keys() | after.usage.keys())
    ]
    costs = [
        CostChange(*key, before.costs.get(key, 0), after.costs.get(key, 0))
        for key in sorted(before.costs.keys() | after.costs.keys())
    ]
    return (
        [change for change in usage if change.before != change.after],
        [change for change in costs if change.before != change.after],
    )
