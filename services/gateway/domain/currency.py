"""Amounts that can be collected: whole minor units, ISO 4217's here and a provider's own there."""

from __future__ import annotations

from kernel.currency import currency
from kernel.errors import InvalidValue, Kind, Refusal
from kernel.money import ATOMS_MAX, Amount, parse_decimal


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
