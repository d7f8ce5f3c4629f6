"""Amounts that can be collected: whole minor units, ISO 4217's here and a provider's own there."""

from __future__ import annotations

from kernel.currency import MINOR_DIGITS, currency
from kernel.errors import InvalidValue, Kind, Refusal
from kernel.money import ATOMS_MAX, Amount, Asset, parse_decimal


class AmountNotRepresentable(Refusal):
    """The amount is no whole number of the currency's minor units. It is refused, not rounded."""

    reason = "AMOUNT_NOT_REPRESENTABLE"
    kind = Kind.INVALID

    def __init__(self, value: str, asset: str, minor_digits: int) -> None:
        super().__init__(
            f"{value} {asset} is finer than {minor_digits} decimal places",
            asset=asset,
            minor_digits=minor_digits,
        )


def collectable(code: str, value: str, field: str = "amount") -> Amount:
    """An amount that can be collected: above zero, in whole minor units of a currency.

    Raises InvalidValue naming the field, AmountNotRepresentable.
    """
    asset = currency(code, f"{field}.asset")
    exact = parse_decimal(value, f"{field}.value")
    scaled = exact.scaleb(asset.scale)
    if scaled != scaled.to_integral_value():
        raise AmountNotRepresentable(value, code, asset.scale)
    if not 0 < scaled <= ATOMS_MAX:
        raise InvalidValue(f"{field}.value", "must be above zero")
    return Amount(asset, int(scaled))


def to_provider_units(amount: Amount, minor_digits: int) -> int:
    """The amount as an integer of a provider's own minor unit, which may not be ISO's.

    Raises AmountNotRepresentable where it does not fit exactly, before anything is asked.
    """
    shift = minor_digits - amount.asset.scale
    if shift >= 0:
        factor: int = 10**shift
        return amount.atoms * factor
    divisor: int = 10**-shift
    units, rest = divmod(amount.atoms, divisor)
    if rest:
        raise AmountNotRepresentable(amount.value, amount.asset.code, minor_digits)
    return units


def from_provider_units(units: object, code: object, minor_digits: int) -> Amount | None:
    """An amount as a provider states it; None where it states none that can be relied on.

    `units` may be an integer or its decimal text. Signs are the caller's.
    """
    if isinstance(units, str) and units.isascii() and units.isdigit() and len(units) <= 20:
        units = int(units)
    if not isinstance(units, int) or isinstance(units, bool) or units < 0:
        return None
    digits = MINOR_DIGITS.get(code) if isinstance(code, str) else None
    if digits is None or not isinstance(code, str):
        return None
    shift = minor_digits - digits
    if shift <= 0:
        factor: int = 10**-shift
        return Amount(Asset(code, digits), units * factor)
    divisor: int = 10**shift
    atoms, rest = divmod(units, divisor)
    return None if rest else Amount(Asset(code, digits), atoms)
