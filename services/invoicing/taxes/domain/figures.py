"""What taxes come to: rounded once for each tax of a document, or of a line, and given to lines.

Beside the amounts: tax = round(Σ amounts × rate). In them: net = round(Σ amounts ÷ (1 + Σ rates))
and the taxes are the rest, split by their rates. A compound tax is on the amount and on the whole
minor units of the taxes before it, so that every printed figure is recomputed from printed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from invoicing.taxes.domain.assessment import Taxable
from invoicing.taxes.domain.rates import Levy, TaxRounding, Treatment
from kernel.money import Amount, Asset, allocate, round_to_atoms


@dataclass(frozen=True, slots=True)
class Tax:
    """One tax of a document. `taxable` is without the tax itself, whichever way it is stated."""

    description: str
    category: str
    rate: Decimal
    taxable: Amount
    amount: Amount
    jurisdiction: str = ""
    treatment: Treatment = Treatment.STANDARD
    reason: str = ""
    included: bool = False
    prepaid: bool = False
    compound: bool = False

    @property
    def name(self) -> str:
        """Without its rate: "VAT"."""
        return self.description.rpartition(" ")[0] or self.description


@dataclass(frozen=True, slots=True)
class Share:
    """What of a document's tax, by its position, is on one part of it, in minor units."""

    position: int
    atoms: int


@dataclass(frozen=True, slots=True)
class Taxed:
    """The taxes of a document in order of mention, and each part's shares of them."""

    taxes: tuple[Tax, ...]
    shares: tuple[tuple[Share, ...], ...]


_Key = tuple[Levy, bool, bool]  # the tax, whether it is included, whether wallets paid it


@dataclass
class _Sums:
    """What was found so far, by tax: its base and amount, and the shares by part."""

    base: dict[_Key, int] = field(default_factory=dict)
    tax: dict[_Key, int] = field(default_factory=dict)
    shares: dict[tuple[int, _Key], int] = field(default_factory=dict)

    def add(self, key: _Key, base: int, tax: int, members: Sequence[int], by: list[int]) -> None:
        self.base[key] = self.base.get(key, 0) + base
        self.tax[key] = self.tax.get(key, 0) + tax
        for member, atoms in zip(members, spread(tax, by), strict=True):
            self.shares[member, key] = self.shares.get((member, key), 0) + atoms

    def on(self, member: int) -> int:
        """Taxes that a part has so far."""
        return sum(atoms for (one, _), atoms in self.shares.items() if one == member)


def tax_parts(
    asset: Asset,
    parts: Sequence[Taxable],
    levies: Sequence[tuple[Levy, ...]],
    rounding: TaxRounding = TaxRounding.DOCUMENT,
) -> Taxed:
    """The taxes of a document's parts. Parts without a levy are not mentioned.

    Shares sum to their tax exactly; under LINE each is what the part by itself would have.
    """
    sums = _Sums()
    order: dict[_Key, int] = {}
    for part, applied in zip(parts, levies, strict=True):
        for levy in applied:
            order.setdefault((levy, part.included, part.prepaid), len(order))
    everything = list(range(len(parts)))
    groups = [everything] if rounding is TaxRounding.DOCUMENT else [[one] for one in everything]
    for group in groups:
        _included(sums, parts, levies, group)
        _beside(sums, parts, levies, group, list(order))
    taxes = tuple(
        Tax(
            description=levy.description,
            category=levy.category,
            rate=levy.rate,
            taxable=Amount(asset, sums.base[levy, included, prepaid]),
            amount=Amount(asset, sums.tax[levy, included, prepaid]),
            jurisdiction=levy.jurisdiction,
            treatment=levy.treatment,
            reason=levy.reason,
            included=included,
            prepaid=prepaid,
            compound=levy.compound,
        )
        for levy, included, prepaid in order
    )
    shares = tuple(
        tuple(
            Share(order[key], sums.shares[index, key])
            for key in ((levy, part.included, part.prepaid) for levy in levies[index])
        )
        for index, part in enumerate(parts)
    )
    return Taxed(taxes, shares)


def _included(
    sums: _Sums,
    parts: Sequence[Taxable],
    levies: Sequence[tuple[Levy, ...]],
    group: Sequence[int],
) -> None:
    """Taxes that are in the amounts: parts with the same taxes are cut apart together (TAX-2)."""
    alike: dict[tuple[tuple[Levy, ...], bool], list[int]] = {}
    for index in group:
        if parts[index].included and levies[index]:
            alike.setdefault((levies[index], parts[index].prepaid), []).append(index)
    for (applied, prepaid), members in alike.items():
        amounts = [parts[index].amount.atoms for index in members]
        gross = sum(amounts)
        weights = _weights(applied)
        net = round_to_atoms(Fraction(gross) / (1 + sum(weights)), 0)
        whole = gross - net
        cut = allocate(whole, weights) if any(weights) else [0] * len(weights)
        before = 0
        for levy, atoms in zip(applied, cut, strict=True):
            base = net + (before if levy.compound else 0)
            sums.add((levy, True, prepaid), base, atoms, members, amounts)
            before += atoms


def _weights(applied: Sequence[Levy]) -> list[Fraction]:
    """What each tax is of one unit of the net amount."""
    found: list[Fraction] = []
    for levy in applied:
        on = 1 + sum(found, Fraction(0)) if levy.compound else Fraction(1)
        found.append(Fraction(levy.rate) * on)
    return found


def _beside(
    sums: _Sums,
    parts: Sequence[Taxable],
    levies: Sequence[tuple[Levy, ...]],
    group: Sequence[int],
    order: Sequence[_Key],
) -> None:
    """Taxes beside the amounts, those that are on others after them."""
    for key in sorted(order, key=lambda one: one[0].compound):
        levy, included, prepaid = key
        if included:
            continue
        members = [
            index
            for index in group
            if levy in levies[index]
            and not parts[index].included
            and parts[index].prepaid == prepaid
        ]
        if not members:
            continue
        bases = [
            parts[index].amount.atoms + (sums.on(index) if levy.compound else 0)
            for index in members
        ]
        base = sum(bases)
        tax = round_to_atoms(Fraction(base) * Fraction(levy.rate), 0)
        sums.add(key, base, tax, members, bases)


def spread(atoms: int, by: Sequence[int]) -> list[int]:
    """Whole atoms over amounts (RND-4); where those are of both signs, by their running sum, which
    is exact at the end too."""
    if not any(by):
        assert not atoms
        return [0] * len(by)
    if all(one >= 0 for one in by) or all(one <= 0 for one in by):
        return allocate(atoms, [abs(one) for one in by])
    total = sum(by)
    if total == 0:
        assert not atoms
        return [0] * len(by)
    shares, running, given = [], 0, 0
    for one in by:
        running += one
        now = round_to_atoms(Fraction(atoms) * running / total, 0)
        shares.append(now - given)
        given = now
    return shares
