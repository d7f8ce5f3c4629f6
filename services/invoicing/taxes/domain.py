"""Taxes: a table of rates by country and category, valid from a date on (§8.5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from kernel.money import Amount, Asset, format_decimal, round_to_atoms

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)  # a rate without a date holds from here


@dataclass(frozen=True, slots=True)
class TaxRate:
    """One rate: 0.2 is twenty percent. It holds until the next one of its country and category."""

    country: str
    category: str
    name: str
    rate: Decimal
    start_time: datetime = ALWAYS


@dataclass(frozen=True, slots=True)
class Taxable:
    """What is taxed: an amount due, its category, and when it was supplied."""

    category: str
    amount: Amount
    supply_time: datetime


@dataclass(frozen=True, slots=True)
class Tax:
    """Tax at one rate of one category on a document."""

    description: str
    category: str
    rate: Decimal
    taxable: Amount
    amount: Amount


def find_rate(
    rates: Sequence[TaxRate], country: str, category: str, supply_time: datetime
) -> TaxRate | None:
    """The rate of the time of supply, or None where the table has none."""
    found = [
        rate
        for rate in rates
        if (rate.country, rate.category) == (country, category) and rate.start_time <= supply_time
    ]
    return max(found, key=lambda rate: rate.start_time, default=None)


def tax_document(
    asset: Asset, country: str, parts: Iterable[Taxable], rates: Sequence[TaxRate]
) -> tuple[Tax, ...]:
    """Taxes of a document: one rounding for each rate of a category (TAX-1), in order of mention.

    A part without a rate is not taxed and not mentioned.
    """
    groups: dict[tuple[str, str, Decimal], int] = {}
    for part in parts:
        rate = find_rate(rates, country, part.category, part.supply_time)
        if rate is not None:
            key = (rate.name, rate.category, rate.rate)
            groups[key] = groups.get(key, 0) + part.amount.atoms
    return tuple(
        Tax(
            description=describe(name, rate),
            category=category,
            rate=rate,
            taxable=Amount(asset, atoms),
            amount=_tax_on(asset, atoms, rate),
        )
        for (name, category, rate), atoms in groups.items()
    )


def describe(name: str, rate: Decimal) -> str:
    """What a document calls a tax: "VAT 20%"."""
    return f"{name} {percent(rate)}"


def percent(rate: Decimal) -> str:
    """A rate for people: 0.075 reads "7.5%"."""
    return f"{format_decimal(rate * 100)}%"


def _tax_on(asset: Asset, atoms: int, rate: Decimal) -> Amount:
    return Amount(asset, round_to_atoms(Fraction(atoms) * Fraction(rate), 0))
