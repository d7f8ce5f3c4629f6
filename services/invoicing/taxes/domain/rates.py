"""Rates by country, region and category, valid from a date on; and who is exempt (§8.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

from kernel.errors import Kind, Refusal
from kernel.money import format_decimal

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)  # a rate without a date holds from here


class PrepaidTaxFixed(Refusal):
    """When an asset is taxed is stated once: money taxed at purchase is not taxed again."""

    reason = "PREPAID_TAX_FIXED"
    kind = Kind.CONFLICT

    def __init__(self, asset: str, timing: PrepaidTiming) -> None:
        super().__init__(
            f"{asset} is taxed {timing.value} already, which never changes",
            asset=asset,
            timing=timing.value,
        )


class Treatment(Enum):
    """Why a tax has its rate."""

    STANDARD = "STANDARD"
    ZERO = "ZERO"
    EXEMPT = "EXEMPT"
    REVERSE_CHARGE = "REVERSE_CHARGE"
    EXPORT = "EXPORT"


class TaxRounding(Enum):
    """Where taxes become whole minor units (TAX-1)."""

    DOCUMENT = "DOCUMENT"
    LINE = "LINE"


class PrepaidTiming(Enum):
    """When value in wallets is taxed (TAX-3)."""

    AT_PURCHASE = "AT_PURCHASE"
    AT_REDEMPTION = "AT_REDEMPTION"


@dataclass(frozen=True, slots=True)
class TaxRate:
    """One rate: 0.2 is twenty percent. It holds until the next one of its kind.

    Of a country, or with a region of that part of it. Several components of a category are all
    on a line; a compound one is also on those before it.
    """

    country: str
    category: str
    name: str
    rate: Decimal
    start_time: datetime = ALWAYS
    region: str = ""
    component: str = ""
    treatment: Treatment = Treatment.STANDARD
    compound: bool = False
    reason: str = ""

    @property
    def jurisdiction(self) -> str:
        return f"{self.country}-{self.region}" if self.region else self.country


@dataclass(frozen=True, slots=True)
class Exemption:
    """That a customer is exempt: of a country's taxes or all, for a category or all."""

    exemption_id: UUID
    customer_id: str
    country: str
    category: str
    reason: str
    certificate: str
    start_time: datetime = ALWAYS
    end_time: datetime | None = None

    def covers(self, country: str, category: str, supply_time: datetime) -> bool:
        started = self.start_time <= supply_time
        going = self.end_time is None or supply_time < self.end_time
        there = not self.country or self.country == country
        return started and going and there and (not self.category or self.category == category)

    @property
    def wording(self) -> str:
        return f"{self.reason}, certificate {self.certificate}" if self.certificate else self.reason


@dataclass(frozen=True, slots=True)
class Levy:
    """A tax as it applies to a part of a document: equal ones are one tax of it."""

    name: str
    category: str
    rate: Decimal
    jurisdiction: str = ""
    treatment: Treatment = Treatment.STANDARD
    compound: bool = False
    reason: str = ""

    @property
    def description(self) -> str:
        """What a document calls it: "VAT 20%"."""
        return f"{self.name} {percent(self.rate)}"


def find_rates(
    rates: Sequence[TaxRate], country: str, region: str, category: str, supply_time: datetime
) -> list[TaxRate]:
    """The rates of the time of supply: one for each component of the country and the region.

    Those that are on others come last, in order of their component.
    """
    found: dict[tuple[str, str], TaxRate] = {}
    for rate in rates:
        here = (rate.country, rate.category) == (country, category)
        if not here or rate.region not in ("", region) or rate.start_time > supply_time:
            continue
        key = (rate.region, rate.component)
        if key not in found or found[key].start_time < rate.start_time:
            found[key] = rate
    ordered = sorted(found.items(), key=lambda one: (one[1].compound, one[0]))
    return [rate for _, rate in ordered]


def percent(rate: Decimal) -> str:
    """A rate for people: 0.075 reads "7.5%"."""
    return f"{format_decimal(rate * 100)}%"
