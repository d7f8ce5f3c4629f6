"""Amounts of an asset: integers in memory and in storage, exact decimal strings on the wire.

Nothing here is a float and nothing rounds by itself: `round_to_atoms` is the one place where a
number becomes coarser, and its caller names the mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import assert_never

from kernel.errors import InvalidValue

INTEGER_DIGITS_MAX = 20  # a quantity of 10^15 bytes is ordinary; 10^20 is a mistake
FRACTION_DIGITS_MAX = 18  # the finest scale an asset may have
SCALE_MAX = FRACTION_DIGITS_MAX
ATOMS_MAX = 10**38 - 1  # NUMERIC(38, 0)

Exact = Decimal | Fraction | int


class RoundingMode(Enum):
    """How a value that lies between two units goes to one of them (RND-1)."""

    HALF_UP = "HALF_UP"  # half away from zero: what auditors recompute by hand
    HALF_EVEN = "HALF_EVEN"
    UP = "UP"  # away from zero
    DOWN = "DOWN"  # towards zero


@dataclass(frozen=True, slots=True)
class Asset:
    """A unit of value. `scale` is the count of decimal places one atom stands for, 0 to 18."""

    code: str
    scale: int

    def __post_init__(self) -> None:
        if not 0 <= self.scale <= SCALE_MAX:
            raise InvalidValue("scale", f"{self.scale} is not between 0 and {SCALE_MAX}")

    def zero(self) -> Amount:
        return Amount(self, 0)


@dataclass(frozen=True, slots=True)
class Amount:
    """An exact count of atoms of one asset. Adding two assets is an error, not a conversion."""

    asset: Asset
    atoms: int

    def __add__(self, other: Amount) -> Amount:
        return Amount(self._same(other), self.atoms + other.atoms)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self._same(other), self.atoms - other.atoms)

    def __neg__(self) -> Amount:
        return Amount(self.asset, -self.atoms)

    def __str__(self) -> str:
        return f"{format_atoms(self.atoms, self.asset.scale)} {self.asset.code}"

    @property
    def value(self) -> str:
        """The canonical decimal string, without the asset."""
        return format_atoms(self.atoms, self.asset.scale)

    def _same(self, other: Amount) -> Asset:
        if self.asset != other.asset:
            raise TypeError(f"{self.asset.code} and {other.asset.code} do not add up")
        return self.asset


def parse_decimal(text: str, field: str, *, signed: bool = False) -> Decimal:
    """Read an exact decimal such as "12.5". No exponent, NaN, infinity, sign "+" or blanks.

    Raises InvalidValue naming `field` where the text is not such a number, has more than 20
    integer or 18 fraction digits, or is negative although `signed` is false.
    """
    digits = text[1:] if text.startswith("-") else text
    whole, point, fraction = digits.partition(".")
    plain = whole.isascii() and whole.isdigit()
    if point:
        plain = plain and fraction.isascii() and fraction.isdigit()
    if not plain:
        raise InvalidValue(field, f"{text!r} is not a decimal number")
    if len(whole.lstrip("0")) > INTEGER_DIGITS_MAX:
        raise InvalidValue(field, f"more than {INTEGER_DIGITS_MAX} digits before the point")
    if len(fraction.rstrip("0")) > FRACTION_DIGITS_MAX:
        raise InvalidValue(field, f"more than {FRACTION_DIGITS_MAX} digits after the point")
    value = Decimal(text)
    if value < 0 and not signed:
        raise InvalidValue(field, f"{text} is negative")
    return value


def parse_atoms(text: str, scale: int, field: str, *, signed: bool = False) -> int:
    """Read a decimal string as whole atoms; a value finer than the scale is refused."""
    parse_decimal(text, field, signed=signed)
    negative = text.startswith("-")
    whole, _, fraction = text.lstrip("-").partition(".")
    fraction = fraction.rstrip("0")
    if len(fraction) > scale:
        raise InvalidValue(field, f"{text} is finer than {scale} decimal places")
    atoms = int(whole + fraction.ljust(scale, "0"))
    if atoms > ATOMS_MAX:
        raise InvalidValue(field, f"{text} is more than an amount can hold")
    return -atoms if negative else atoms


def format_atoms(atoms: int, scale: int) -> str:
    """The canonical decimal string of a count of atoms: no exponent, no trailing zeros."""
    if scale == 0:
        return str(atoms)
    sign = "-" if atoms < 0 else ""
    whole, fraction = divmod(abs(atoms), 10**scale)
    digits = str(fraction).rjust(scale, "0").rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def format_decimal(value: Decimal) -> str:
    """The canonical decimal string of a decimal: no exponent, no trailing zeros, no minus zero."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


def round_to_atoms(value: Exact, scale: int, mode: RoundingMode = RoundingMode.HALF_UP) -> int:
    """Round an exact value once, to whole atoms of 10^-scale."""
    unit: int = 10**scale
    scaled = Fraction(value) * unit
    down, rest = divmod(abs(scaled.numerator), scaled.denominator)
    match mode:
        case RoundingMode.HALF_UP:
            up = 2 * rest >= scaled.denominator
        case RoundingMode.HALF_EVEN:
            twice = 2 * rest
            up = twice > scaled.denominator or (twice == scaled.denominator and down % 2 == 1)
        case RoundingMode.UP:
            up = rest > 0
        case RoundingMode.DOWN:
            up = False
        case _:
            assert_never(mode)
    magnitude = down + up
    return -magnitude if scaled < 0 else magnitude


def allocate(atoms: int, weights: Sequence[Exact]) -> list[int]:
    """Spread whole atoms over weights so that the shares sum to them exactly (RND-4).

    Every share is cut down to whole atoms and the rest goes by largest remainder, ties to the
    last position. A negative amount mirrors the positive one. A zero weight gets nothing.
    """
    exact = [Fraction(weight) for weight in weights]
    total = sum(exact, Fraction(0))
    if any(weight < 0 for weight in exact) or total == 0:
        raise InvalidValue("weights", "must not be negative and must not all be zero")
    ideal = [abs(atoms) * weight / total for weight in exact]
    shares = [part.numerator // part.denominator for part in ideal]
    left = abs(atoms) - sum(shares)
    by_remainder = sorted(range(len(exact)), key=lambda i: (ideal[i] - shares[i], i), reverse=True)
    for position in by_remainder[:left]:
        shares[position] += 1
    return [-share for share in shares] if atoms < 0 else shares
