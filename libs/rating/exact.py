"""Exact numbers: whole ones as int, because that is fast, and all others as Fraction."""

from __future__ import annotations

from fractions import Fraction

from kernel.errors import InvalidValue
from kernel.money import FRACTION_DIGITS_MAX, INTEGER_DIGITS_MAX, Exact, parse_decimal

Number = int | Fraction


def exact(value: Exact) -> Number:
    """The same value, as an int where it is whole."""
    if isinstance(value, int):
        return value
    fraction = value if isinstance(value, Fraction) else Fraction(value)
    return fraction.numerator if fraction.denominator == 1 else fraction


def ceil_div(value: Number, divisor: Number) -> int:
    """How many whole divisors cover the value."""
    return int(-(-value // divisor))


def nearest(value: Number) -> int:
    """The nearest whole number, a half away from zero."""
    magnitude = abs(value)
    down = int(magnitude // 1)
    whole = down + (2 * (magnitude - down) >= 1)
    return -whole if value < 0 else whole


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
