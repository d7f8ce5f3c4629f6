"""Types of an expression, what can go wrong with one, and its functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from fractions import Fraction
from typing import NamedTuple

from kernel.money import RoundingMode, round_to_atoms

Value = int | Fraction | str | bool | list["Value"]
Properties = Mapping[str, str]
Evaluate = Callable[[Properties], Value]


class Type(Enum):
    """What a part of an expression is. There is one kind of number, and it is exact."""

    NUMBER = "number"
    STRING = "string"
    BOOL = "bool"
    LIST = "list"  # a literal one, to the right of `in`


class Fault(Exception):
    """An expression cannot be used; the message says where and why."""


class Unusable(Exception):
    """An event has no usable value for an expression: the property and why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name
        self.why = why


class Function(NamedTuple):
    """A function by its arguments and what it answers."""

    takes: tuple[Type, ...]
    gives: Type
    of: Callable[..., Value]
    is_variadic: bool = False  # the last argument may be repeated


def _nearest(value: int | Fraction) -> int:
    return round_to_atoms(Fraction(value), 0, RoundingMode.HALF_UP)


_NUMBER, _STRING, _BOOL = Type.NUMBER, Type.STRING, Type.BOOL

FUNCTIONS: Mapping[str, Function] = {
    "abs": Function((_NUMBER,), _NUMBER, abs),
    "ceil": Function((_NUMBER,), _NUMBER, math.ceil),
    "floor": Function((_NUMBER,), _NUMBER, math.floor),
    "round": Function((_NUMBER,), _NUMBER, _nearest),
    "min": Function((_NUMBER, _NUMBER), _NUMBER, min, is_variadic=True),
    "max": Function((_NUMBER, _NUMBER), _NUMBER, max, is_variadic=True),
    "size": Function((_STRING,), _NUMBER, len),
}

METHODS: Mapping[str, Function] = {
    "contains": Function((_STRING, _STRING), _BOOL, lambda text, part: part in text),
    "startsWith": Function((_STRING, _STRING), _BOOL, str.startswith),
    "endsWith": Function((_STRING, _STRING), _BOOL, str.endswith),
    "size": Function((_STRING,), _NUMBER, len),
}
