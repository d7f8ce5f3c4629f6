"""Ratings a second in one process: events charged at the margin, and whole breakdowns."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

from bench.records import Records
from rating import Price, State, Tab, Usage, rate
from rating.price import Graduated, Tier, Unit

SECONDS = 2.0
AT_ONCE = 1_000
SCALE = 9  # decimal places of the asset that is charged

SIMPLE = Price("USD", Unit(Decimal("0.000003")))
GRADUATED = Price(
    "USD",
    Graduated(
        (
            Tier(Decimal(1_000_000), Decimal("0.00001")),
            Tier(Decimal(100_000_000), Decimal("0.000005")),
            Tier(None, Decimal("0.000002")),
        )
    ),
)


def measure(records: Records) -> None:
    """What a price makes of each event, rounded to atoms; and of a period, in all its parts."""
    for name, price in (("simple", SIMPLE), ("graduated", GRADUATED)):
        records.add(f"rating.{name}", _rate_events(price), "ratings/s")
        records.add(f"rating.{name}.breakdown", _rate_periods(price), "ratings/s")


def _rate_events(price: Price) -> float:
    usages = [Usage(quantity=index * 37 % 5_000) for index in range(AT_ONCE)]
    tab = Tab(price, SCALE)

    def some() -> None:
        for usage in usages:
            tab.add(usage)

    return _repeated(some)


def _rate_periods(price: Price) -> float:
    states = [State(quantity=index * 150_001, event_count=index) for index in range(AT_ONCE)]

    def some() -> None:
        for state in states:
            rate(price, state)

    return _repeated(some)


def _repeated(some: Callable[[], None]) -> float:
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        some()
        done += AT_ONCE
    return done / (time.perf_counter() - began)
