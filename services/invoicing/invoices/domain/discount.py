"""What coupons take off: exact costs before they are lines (step 2), then lines (step 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from invoicing.catalog.domain import Settlement
from invoicing.coupons.domain import HeldCoupon, Scope
from invoicing.invoices.domain.charge import Charge, SourceKey
from invoicing.invoices.domain.line import Consumption, Line, Off, base_cost
from kernel.money import Amount, Asset, allocate, round_to_atoms


@dataclass(frozen=True, slots=True)
class Discount:
    """What one coupon took off a document. `on_lines` where it is in the lines' amounts already."""

    code: str
    description: str
    amount: Amount
    on_lines: bool = False


def in_order(coupons: Sequence[HeldCoupon]) -> list[HeldCoupon]:
    """DIS-1: narrow scope first; in a scope amounts, then shares; then the older, then by code."""
    return sorted(
        (one for one in coupons if one.is_open),
        key=lambda one: (
            one.coupon.scope.value,
            one.coupon.amount is None,
            one.coupon.create_time,
            one.coupon.code,
        ),
    )


def discount_charges(
    charges: Sequence[Charge],
    consumptions: Mapping[SourceKey, Consumption],
    coupons: Sequence[HeldCoupon],
    money: Asset,
) -> tuple[dict[SourceKey, list[Off]], list[Discount]]:
    """Step 2: what coupons on prices take off exact costs. What wallets settle is outside."""
    offs: dict[SourceKey, list[Off]] = {}
    found: list[Discount] = []
    left: dict[SourceKey, Fraction] = {}
    for held in in_order(coupons):
        if held.coupon.scope is not Scope.PRICE:
            continue
        covered = [charge for charge in charges if _covers(held, charge)]
        for charge in covered:
            if charge.key not in left:
                cost = base_cost(charge, consumptions.get(charge.key))
                left[charge.key] = max(cost, Fraction(0))
        whole = sum((left[charge.key] for charge in covered), Fraction(0))
        taken = _taken(held, whole, Fraction(held.left, 10**money.scale))
        if not taken:
            continue
        for charge in covered:
            part = taken * left[charge.key] / whole
            left[charge.key] -= part
            offs.setdefault(charge.key, []).append(Off(held.coupon.name, part))
        amount = Amount(money, round_to_atoms(taken, money.scale))
        found.append(Discount(held.coupon.code, held.coupon.name, amount, on_lines=True))
    return offs, found


def discount_lines(
    lines: Sequence[Line],
    coupons: Sequence[HeldCoupon],
    plan_of: Callable[[Line], str],
) -> tuple[list[Line], list[Discount]]:
    """Step 7: what coupons on a plan or the document take off lines, in whole minor units."""
    changed = list(lines)
    found: list[Discount] = []
    for held in in_order(coupons):
        if held.coupon.scope is Scope.PRICE:
            continue
        weights = [
            line.net.atoms if line.net.atoms > 0 and held.coupon.covers(plan_of(line), "") else 0
            for line in changed
        ]
        whole = sum(weights)
        taken = round_to_atoms(_taken(held, Fraction(whole), Fraction(held.left)), 0)
        if not taken:
            continue
        for index, share in enumerate(allocate(taken, weights)):
            line = changed[index]
            changed[index] = replace(line, off=line.off + share)
        asset = changed[0].amount.asset
        found.append(Discount(held.coupon.code, held.coupon.name, Amount(asset, taken)))
    return changed, found


def _covers(held: HeldCoupon, charge: Charge) -> bool:
    price = charge.item.price
    return (
        charge.billed is None
        and charge.late is None
        and price.settlement is Settlement.INVOICE
        and held.coupon.covers(charge.plan_code, price.code)
    )


def _taken(held: HeldCoupon, whole: Fraction, left: Fraction) -> Fraction:
    """What a coupon takes off a whole: never more than there is."""
    if held.coupon.rate is not None:
        return whole * Fraction(held.coupon.rate)
    return min(whole, left)
