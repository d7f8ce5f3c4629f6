"""Expressions: exact, typed, bounded, and refused with where and why."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.expressions.domain.compiling import Expression, compile_expression
from metering.expressions.domain.values import Fault, Type, Unusable
from rating.exact import exact

TYPES = (("a", Type.NUMBER), ("b", Type.NUMBER), ("kind", Type.STRING), ("hot", Type.BOOL))


def expression(text: str) -> Expression:
    return compile_expression(text, TYPES)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + b * 2", 11),
        ("(a + b) * 2", 16),
        ("a / b", Fraction(5, 3)),
        ("a % b", 2),
        ("-a % b", -2),
        ("-a - -b", -2),
        ("a -1", 4),
        ("0.1 + 0.2", Fraction(3, 10)),
        ("1.5e3 + 0x10 + 2u", 1518),
        ("a > b ? ceil(a / b) : floor(b / a)", 2),
        ("round(a / 2) + round(-a / 2)", 0),
        ("min(a, b, 4) + max(a, b) + abs(-1)", 9),
        ("kind.startsWith('gpu') && !hot ? size(kind) : 0", 6),
        ("kind in ['gpu-h1', 'cpu'] ? 1 : 0", 1),
        ("properties.a * (has(properties.missing_one) ? 2 : 3)", 15),
        ("kind + '!' == \"gpu-h1!\" || kind.contains('x') ? 7 : 8", 7),
    ],
)
def test_an_expression_is_computed_exactly(text: str, value: Fraction) -> None:
    types = (*TYPES, ("missing_one", Type.NUMBER))
    properties = {"a": "5", "b": "3", "kind": "gpu-h1", "hot": "false"}
    assert compile_expression(text, types).evaluate(properties) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("a +", "no CEL expression"),
        ("a $ b", "column 3"),
        ("missing + 1", "'missing' is not one of the declared properties"),
        ("a + kind", "column 1: a number and a string"),
        ("a ? 1 : 2", "is no condition"),
        ("hot ? 1 : 'x'", "gives a number or a string"),
        ("kind - kind", "strings are only added"),
        ("hot < hot", "do not go together"),
        ("!a", "is a number where a bool is needed"),
        ("a in kind", "is no list"),
        ("a in [1, 'x']", "is a string in a list of numbers"),
        ("a == 'x'", "is never"),
        ("[1, 2].all(x, x > 0)", "'all' is not one of the functions"),
        ("[1, 2]", "not used here"),
        ("{'a': 1}", "not used here"),
        ("null", "not used here"),
        ("b'x'", "not used here"),
        ("kind.matches('(a+)+$')", "'matches' is not one of the functions"),
        ("a.b", "names no property"),
        ("__import__('os')", "'__import__' is not one of the functions"),
        ("min(1)", "min takes"),
        ("1e9999", "exponent"),
        ("a" + " + a" * 250, "takes at most 1000"),
        ("1" + "+1" * 150, "more than 200 parts"),
        ("(" * 40 + "a" + ")" * 40, "nested deeper than 32"),
        ("!" * 900 + "hot", "nested deeper than 32"),
        ("hot ? 1 : " * 40 + "2", "nested deeper than 32"),
    ],
)
def test_a_faulty_expression_is_refused_with_where_and_why(text: str, why: str) -> None:
    with pytest.raises(Fault) as caught:
        expression(text)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name"), [("a + 1", "a"), ("hot ? 1 : 2", "hot"), ("kind + 'x'", "kind")]
)
def test_a_missing_property_is_named(text: str, name: str) -> None:
    with pytest.raises(Unusable) as caught:
        expression(text).evaluate({})
    assert caught.value.name == name


def test_either_side_of_logic_decides_alone() -> None:
    assert expression("a > 1 || true").holds({}) is True
    assert expression("a > 1 && false").holds({}) is False
    with pytest.raises(Unusable):
        expression("a > 1 || false").holds({})


def test_dividing_by_zero_is_no_value() -> None:
    for text in ("a / 0", "a % (b - b)"):
        with pytest.raises(Unusable, match="divides by zero"):
            expression(text).number({"a": "1", "b": "2"})


def test_a_result_is_rounded_once_to_eighteen_places() -> None:
    assert expression("a / 3").number({"a": "2"}) == Fraction(666666666666666667, 10**18)
    tiny = {"a": "0.000000000000000001", "b": "1000000000000000"}
    assert expression("a * b * b").number(tiny) == 10**12
    assert expression("a + b").number(tiny) == 10**15 + Fraction(1, 10**18)
    with pytest.raises(Unusable, match="20 digits"):
        expression("b * b").number({"b": "1000000000000000"})


OPERATORS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}


@st.composite
def sums(draw: st.DrawFn, depth: int = 3) -> tuple[str, Fraction]:
    """An expression with its value, computed beside it."""
    if depth == 0 or draw(st.booleans()):
        number = draw(st.integers(0, 10**20))
        places = draw(st.integers(0, 18))
        value = Fraction(number, 10**places)
        whole, part = divmod(number, 10**places)
        return (f"{whole}.{part:0{places}d}" if places else str(whole)), value
    sign = draw(st.sampled_from(sorted(OPERATORS)))
    left, right = draw(sums(depth - 1)), draw(sums(depth - 1))
    return f"({left[0]} {sign} {right[0]})", OPERATORS[sign](left[1], right[1])


@settings(derandomize=True, deadline=None, database=None)
@given(sums())
def test_arithmetic_is_that_of_fractions(case: tuple[str, Fraction]) -> None:
    text, value = case
    assert expression(text).evaluate({}) == exact(value)
