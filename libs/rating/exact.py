"""Exact numbers: whole ones as int, because that is fast, and all others as Fraction."""

from __future__ import annotations

from fractions import Fraction

from kernel.errors import InvalidValue
from kernel.money import (
    FRACTION_DIGITS_MAX,
    INTEGER_DIGITS_MAX,
    Exact,
    RoundingMode,
    parse_decimal,
    round_to_atoms,
)

Number = int | Fraction


def exact(value: Exact) -> Number:
    """The same value, as an int where it is whole."""
    if isinstance(value, int):
        return value
    fraction = value if isinstance(value, Fraction) else Fraction(value)
    return fraction.numerator if fraction.denominator == 1 else fraction


def ceil_div(value: Number, divisor: Number) -> int:
    """How many whole divisors cover the value."""
    count: int = -(-value // divisor)
    return count


def floor_div(value: Number, divisor: Number) -> int:
    """How many whole divisors fit into the value."""
    count: int = value // divisor
    return count


def nearest_div(value: Number, divisor: Number) -> int:
    """The nearest whole number of divisors, a half away from zero."""
    return round_to_atoms(Fraction(value) / divisor, 0)


def atoms_of(numerator: Number, unit: int, scale: int, mode: RoundingMode) -> int:
    """Round numerator ÷ unit once, to whole atoms of 10^-scale, as the kernel does."""
    if mode is RoundingMode.HALF_UP and isinstance(numerator, int) and numerator >= 0:
        # The usual case without a Fraction: the same rule in three whole-number operations.
        atoms: int = (2 * numerator * 10**scale + unit) // (2 * unit)
        return atoms
    return round_to_atoms(Fraction(numerator) / unit, scale, mode)


def number_text(value: Exact) -> str:
    """A decimal string where one ends, otherwise the reduced fraction "n/d"."""
    fraction = Fraction(value)
    twos, rest = _strip(fraction.denominator, 2)
    fives, rest = _strip(rest, 5)
    scale = max(twos, fives)
    if rest != 1:
        return f"{fraction.numerator}/{fraction.denominator}"
    unit: int = 10**scale
    digits = fraction.numerator * unit // fraction.denominator
    sign = "-" if digits < 0 else ""
    if scale == 0:
        return str(digits)
    padded = str(abs(digits)).rjust(scale + 1, "0")
    return f"{sign}{padded[:-scale]}.{padded[-scale:]}"


def parse_number(text: str, field: str, *, signed: bool = False) -> Number:
    """Read a decimal string, or a fraction "n/d" of whole numbers."""
    above, slash, below = text.partition("/")
    if not slash:
        return exact(parse_decimal(text, field, signed=signed))
    digits = above.removeprefix("-")
    width = INTEGER_DIGITS_MAX + FRACTION_DIGITS_MAX
    plain = digits.isascii() and digits.isdigit() and below.isascii() and below.isdigit()
    if not plain or int(below) == 0:
        raise InvalidValue(field, f"{text!r} is neither a decimal number nor a fraction")
    if max(len(digits), len(below)) > 4 * width:
        raise InvalidValue(field, "has more digits than a quantity can hold")
    value = Fraction(int(above), int(below))
    if value < 0 and not signed:
        raise InvalidValue(field, f"{text} is negative")
    return exact(value)


def _strip(number: int, prime: int) -> tuple[int, int]:
    """How often a prime divides a number, and what is left of it."""
    count = 0
    while number % prime == 0:
        number //= prime
        count += 1
    return count, number
