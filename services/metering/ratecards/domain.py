"""A customer's prices, ready to be asked which of them an event falls under, and when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from kernel.period import Every, Period, period_at
from metering.limits.domain import Limit
from rating import parse_price
from rating.exact import Number, exact
from rating.price import ONE, Accumulate, DivideRound, Price, Unit, WindowUnit
from rating.steps import has_windows_of_its_own
from rating.tariff import QuantityCost, compile_price

PRICINGS_MAX = 4_096  # documents kept parsed; many customers share each
PERIODS_KEPT = 4  # of one entry: this period, the one before, and late events of older ones


class Stretch(NamedTuple):
    """One billing period, and the part of it in which a price is in force."""

    period: Period
    in_force: Period

    @property
    def share(self) -> Number:
        """The part in force as an exact share of the period."""
        if self.in_force == self.period:
            return 1
        return exact(self.in_force.share_of(self.period))


@dataclass(frozen=True, slots=True)
class Pricing:
    """A price, its document, and what the hot path must know of it beforehand."""

    pricing_id: UUID
    document: str  # canonical JSON
    price: Price
    is_plain: bool  # the total quantity alone decides the cost
    is_linear: bool  # one unit more always costs the same
    window: WindowUnit | None  # events must name the window they fall in
    of_quantity: QuantityCost  # with a plain price: quantity → numerator of the exact cost
    unit: int  # denominator of the exact cost

    @classmethod
    def of(cls, pricing_id: UUID, document: str, price: Price) -> Pricing:
        tariff = compile_price(price)
        is_plain = tariff.of_quantity is not None
        is_linear = (
            is_plain
            and isinstance(price.model, Unit)
            and price.included is None
            and price.maximum is None
            and price.divide_round is DivideRound.NONE
            and price.overage_multiplier == ONE
        )
        return cls(
            pricing_id,
            document,
            price,
            is_plain,
            is_linear,
            _window_of(price),
            tariff.of_quantity or _not_plain,
            tariff.unit,
        )

    def unit_cost(self) -> Fraction:
        """With a linear price: what one unit costs, exactly."""
        return Fraction(self.of_quantity(1)) / self.unit


@dataclass(slots=True)
class Entry:
    """One price of a meter for one customer. Only its memory of periods ever changes."""

    price_id: str
    subscription_item_id: str
    plan_code: str
    meter: str
    dimensions: tuple[tuple[str, str], ...]
    pricing: Pricing
    from_wallet: bool
    anchor: datetime
    every: Every
    zone: ZoneInfo
    time_zone: str
    start: datetime
    end: datetime | None
    stretches: list[Stretch] = field(default_factory=list)

    def applies(self, properties: Mapping[str, str], instant: datetime) -> bool:
        """Whether an event of its meter falls under it."""
        if instant < self.start or (self.end is not None and instant >= self.end):
            return False
        if not self.dimensions:
            return True
        return all(properties.get(name, "") == value for name, value in self.dimensions)

    def stretch_at(self, instant: datetime) -> Stretch:
        """The billing period of an instant at which the price is in force."""
        for stretch in self.stretches:
            period = stretch.period
            if period.start <= instant < period.end:
                return stretch
        period = period_at(self.anchor, self.every, instant, self.zone)
        end = period.end if self.end is None else min(self.end, period.end)
        stretch = Stretch(period, Period(max(self.start, period.start), end))
        self.stretches = [stretch, *self.stretches[: PERIODS_KEPT - 1]]
        return stretch


@dataclass(frozen=True, slots=True)
class RateCard:
    """All prices in force for one customer."""

    customer_id: str
    version: int
    suspended: bool
    features: frozenset[str]
    entries: Mapping[str, tuple[Entry, ...]]  # by meter, in the order in which they apply
    wallet_assets: frozenset[str]  # of the prices that wallets settle
    limits: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)  # by meter
    valid_until: datetime | None = None  # when it changes by itself


@lru_cache(maxsize=PRICINGS_MAX)
def pricing_of_document(document: str, pricing_id: UUID) -> Pricing:
    """A price from the document that was stored of it."""
    return Pricing.of(pricing_id, document, parse_price(json.loads(document), "pricing"))


def window_name(unit: WindowUnit | None, instant: datetime, zone: ZoneInfo) -> str:
    """The name of the window an event falls in; names sort in the order of time."""
    if unit is None:
        return ""
    local = instant.astimezone(zone)
    match unit:
        case WindowUnit.HOUR:
            # Where the clock is set back an hour comes twice: fold tells the two apart.
            return f"{local:%Y-%m-%dT%H}{'b' if local.fold else 'a'}"
        case WindowUnit.DAY:
            return f"{local:%Y-%m-%d}"
        case WindowUnit.WEEK:
            year, week, _ = local.isocalendar()
            return f"{year}-W{week:02d}"
        case WindowUnit.MONTH:
            return f"{local:%Y-%m}"


def _not_plain(quantity: Number) -> Number:
    raise AssertionError("this price needs more than a total quantity")


def _window_of(price: Price) -> WindowUnit | None:
    if price.accumulate is Accumulate.WINDOW:
        return price.window
    if has_windows_of_its_own(price):
        assert price.included is not None
        return WindowUnit[price.included.reset.name]
    return None
