"""Who is taxed how: by table, with exemptions and the reverse charge of the European Union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from invoicing.customers.domain import Customer
from invoicing.sellers.domain import Seller
from invoicing.taxes.domain.rates import (
    Exemption,
    Levy,
    PrepaidTiming,
    TaxRate,
    TaxRounding,
    Treatment,
    find_rates,
)
from invoicing.taxes.domain.tax_ids import is_eu_vat
from kernel.money import Amount

# Member states of the European Union, whose businesses owe the tax of what they buy across borders.
EUROPEAN_UNION = frozenset(
    [
        "AT",
        "BE",
        "BG",
        "CY",
        "CZ",
        "DE",
        "DK",
        "EE",
        "ES",
        "FI",
        "FR",
        "GR",
        "HR",
        "HU",
        "IE",
        "IT",
        "LT",
        "LU",
        "LV",
        "MT",
        "NL",
        "PL",
        "PT",
        "RO",
        "SE",
        "SI",
        "SK",
    ]
)
REVERSE_CHARGE = "Reverse charge: the buyer owes the tax"
EXPORT = "Not taxed here: supplied outside the European Union"


@dataclass(frozen=True, slots=True)
class Taxable:
    """What is taxed: an amount, its category, and when it was supplied.

    `included` where the amount has its taxes in it; `prepaid` where wallets paid it.
    """

    category: str
    amount: Amount
    supply_time: datetime
    included: bool = False
    prepaid: bool = False


class Taxing(Protocol):
    """What a document needs to know of taxes. The table answers by itself; what a tax provider
    answered outside the transaction is kept in a value of this kind too."""

    @property
    def rounding(self) -> TaxRounding: ...

    @property
    def prices_include_tax(self) -> bool: ...

    def levies(self, part: Taxable) -> tuple[Levy, ...]:
        """The taxes on a part, those that are on others last. None: it is not mentioned."""
        ...

    def prepaid(self, asset: str) -> PrepaidTiming: ...


@dataclass(frozen=True)
class TaxTable:
    """The built-in answer: rates of the customer's country, its exemptions, who sells."""

    customer: Customer
    seller: Seller
    rates: tuple[TaxRate, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    redeemed: frozenset[str] = frozenset()  # assets that are taxed when they are used

    @property
    def rounding(self) -> TaxRounding:
        return TaxRounding(self.seller.tax_rounding)

    @property
    def prices_include_tax(self) -> bool:
        return self.seller.prices_include_tax

    def prepaid(self, asset: str) -> PrepaidTiming:
        at_redemption = asset in self.redeemed
        return PrepaidTiming.AT_REDEMPTION if at_redemption else PrepaidTiming.AT_PURCHASE

    def levies(self, part: Taxable) -> tuple[Levy, ...]:
        country, region = self.customer.country, self.customer.region
        rates = find_rates(self.rates, country, region, part.category, part.supply_time)
        if self._owed_by_buyer:
            name = rates[0].name if rates else "VAT"
            return (
                Levy(
                    name=name,
                    category=part.category,
                    rate=Decimal(0),
                    jurisdiction=country,
                    treatment=Treatment.REVERSE_CHARGE,
                    reason=REVERSE_CHARGE,
                ),
            )
        if not rates:
            return self._abroad(part)
        for exemption in self.exemptions:
            if exemption.covers(country, part.category, part.supply_time):
                return (_exempt(rates[0], exemption),)
        return tuple(_levy(rate) for rate in rates)

    @property
    def _owed_by_buyer(self) -> bool:
        """Between businesses of two member states. Both must be known to be in business."""
        seller, buyer = self.seller, self.customer
        across = seller.country != buyer.country
        within = seller.country in EUROPEAN_UNION and buyer.country in EUROPEAN_UNION
        return across and within and is_eu_vat(buyer.tax_id, buyer.country)

    def _abroad(self, part: Taxable) -> tuple[Levy, ...]:
        sold_from_union = self.seller.country in EUROPEAN_UNION
        if not sold_from_union or self.customer.country in EUROPEAN_UNION:
            return ()
        return (
            Levy(
                name="VAT",
                category=part.category,
                rate=Decimal(0),
                jurisdiction=self.seller.country,
                treatment=Treatment.EXPORT,
                reason=EXPORT,
            ),
        )


def _levy(rate: TaxRate) -> Levy:
    return Levy(
        name=rate.name,
        category=rate.category,
        rate=rate.rate,
        jurisdiction=rate.jurisdiction,
        treatment=rate.treatment,
        compound=rate.compound,
        reason=rate.reason,
    )


def _exempt(rate: TaxRate, exemption: Exemption) -> Levy:
    return Levy(
        name=rate.name,
        category=rate.category,
        rate=Decimal(0),
        jurisdiction=rate.country,
        treatment=Treatment.EXEMPT,
        reason=exemption.wording,
    )


@dataclass(frozen=True)
class Untaxed:
    """Nothing is taxed: bought value that is taxed when it is used."""

    rounding: TaxRounding = TaxRounding.DOCUMENT
    prices_include_tax: bool = False

    def prepaid(self, asset: str) -> PrepaidTiming:
        return PrepaidTiming.AT_REDEMPTION

    def levies(self, part: Taxable) -> tuple[Levy, ...]:
        return ()


def assess(taxing: Taxing, parts: Sequence[Taxable]) -> list[tuple[Levy, ...]]:
    """The taxes of each part; equal questions are asked once."""
    known: dict[tuple[str, datetime, bool], tuple[Levy, ...]] = {}
    found = []
    for part in parts:
        key = (part.category, part.supply_time, part.prepaid)
        if key not in known:
            known[key] = taxing.levies(part)
        found.append(known[key])
    return found
