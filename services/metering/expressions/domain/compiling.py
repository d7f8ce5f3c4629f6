"""From a checked tree to a function of an event's properties, in exact numbers.

CEL's own numbers are 64 bits wide or binary floats; money is neither. So there is one kind of
number here, a fraction: literals, properties and results of division are exact, and what a meter
keeps of the result is rounded once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, cast

from kernel.errors import InvalidValue
from kernel.money import (
    FRACTION_DIGITS_MAX,
    INTEGER_DIGITS_MAX,
    parse_decimal,
    round_to_atoms,
)
from metering.expressions.domain.parsing import Node, parse, string_of
from metering.expressions.domain.values import (
    FUNCTIONS,
    METHODS,
    Evaluate,
    Fault,
    Function,
    Properties,
    Type,
    Unusable,
    Value,
)
from rating.exact import Number, exact

EXPRESSIONS_MAX = 4_096  # kept compiled
EXPONENT_MAX = 38
_ATOM = 10**FRACTION_DIGITS_MAX
_LIMIT = 10**INTEGER_DIGITS_MAX


class Expression(NamedTuple):
    """A compiled expression, what it answers, and the properties it reads."""

    gives: Type
    evaluate: Evaluate
    reads: frozenset[str]

    def number(self, properties: Properties) -> Number:
        """Its number, rounded half up to 18 decimal places. Raises Unusable."""
        value = exact(cast("int | Fraction", self.evaluate(properties)))
        if not isinstance(value, int):
            value = exact(Fraction(round_to_atoms(value, FRACTION_DIGITS_MAX), _ATOM))
        if not -_LIMIT < value < _LIMIT:
            raise Unusable("", f"the expression gives more than {INTEGER_DIGITS_MAX} digits")
        return value

    def text(self, properties: Properties) -> str:
        """Its value as text, equal for equal values. Raises Unusable."""
        value = self.evaluate(properties)
        return ("true" if value else "false") if isinstance(value, bool) else str(value)

    def holds(self, properties: Properties) -> bool:
        """Its truth. Raises Unusable."""
        return bool(self.evaluate(properties))


class _Part(NamedTuple):
    type: Type
    of: Evaluate


@lru_cache(maxsize=EXPRESSIONS_MAX)
def compile_expression(text: str, types: tuple[tuple[str, Type], ...]) -> Expression:
    """Compile an expression over properties of these types. Raises Fault saying where and why."""
    compiler = _Compiler(dict(types))
    part = compiler.part(parse(text))
    if part.type is Type.LIST:
        raise Fault("a list is no value")
    return Expression(part.type, part.of, frozenset(compiler.reads))


class _Compiler:
    def __init__(self, types: Mapping[str, Type]) -> None:
        self._types = types
        self.reads: set[str] = set()

    def part(self, node: Node) -> _Part:
        if node.kind in _ARITHMETIC or node.kind in _ORDER:
            return self._binary(node)
        match node.kind:
            case "INT_LIT" | "FLOAT_LIT" | "UINT_LIT":
                return _constant(Type.NUMBER, _number_of(node))
            case "STRING_LIT" | "MLSTRING_LIT":
                return _constant(Type.STRING, string_of(node))
            case "BOOL_LIT":
                return _constant(Type.BOOL, node.text == "true")
            case "ident" | "member_dot":
                return self._property(node)
            case "expr":
                return self._choice(node)
            case "conditionalor" | "conditionaland":
                return self._logic(node, ends=node.kind == "conditionalor")
            case "relation_eq" | "relation_ne":
                return self._equality(node)
            case "relation_in":
                return self._membership(node)
            case "unary_not":
                (inner,) = self._typed(node, Type.BOOL)
                return _Part(Type.BOOL, lambda p: not inner(p))
            case "unary_neg":
                (number,) = self._typed(node, Type.NUMBER)
                return _Part(Type.NUMBER, lambda p: -cast(Fraction, number(p)))
            case "ident_arg" if node.text == "has":
                return self._has(node)
            case "ident_arg":
                return self._call(node, FUNCTIONS)
            case "member_dot_arg":
                return self._call(node, METHODS)
            case _:
                raise _fault(node, "this form of expression is not used here")

    def _typed(self, node: Node, *types: Type) -> list[Evaluate]:
        parts = [self.part(inner) for inner in node.parts]
        for inner, part, wanted in zip(node.parts, parts, types, strict=True):
            if part.type is not wanted:
                raise _fault(inner, f"is a {part.type.value} where a {wanted.value} is needed")
        return [part.of for part in parts]

    def _binary(self, node: Node) -> _Part:
        left, right = (self.part(inner) for inner in node.parts)
        if left.type is not right.type or left.type not in (Type.NUMBER, Type.STRING):
            raise _fault(node, f"a {left.type.value} and a {right.type.value} do not go together")
        if node.kind in _ORDER:
            return _Part(Type.BOOL, _apply(_ORDER[node.kind], left.of, right.of))
        if left.type is Type.STRING and node.kind != "addition_add":
            raise _fault(node, "strings are only added")
        return _Part(left.type, _apply(_ARITHMETIC[node.kind], left.of, right.of))

    def _equality(self, node: Node) -> _Part:
        left, right = (self.part(inner) for inner in node.parts)
        if left.type is not right.type or left.type is Type.LIST:
            raise _fault(node, f"a {left.type.value} is never a {right.type.value}")
        same = operator.eq if node.kind == "relation_eq" else operator.ne
        return _Part(Type.BOOL, _apply(same, left.of, right.of))

    def _membership(self, node: Node) -> _Part:
        wanted = self.part(node.parts[0])
        if node.parts[1].kind != "list_lit":
            raise _fault(node.parts[1], "is no list, which `in` looks into")
        entries = [self.part(inner) for inner in node.parts[1].parts]
        for inner, entry in zip(node.parts[1].parts, entries, strict=True):
            if entry.type is not wanted.type:
                raise _fault(inner, f"is a {entry.type.value} in a list of {wanted.type.value}s")
        of, values = wanted.of, [entry.of for entry in entries]
        return _Part(Type.BOOL, lambda p: (sought := of(p)) in [value(p) for value in values])

    def _choice(self, node: Node) -> _Part:
        condition, first, second = (self.part(inner) for inner in node.parts)
        if condition.type is not Type.BOOL:
            raise _fault(node.parts[0], "is no condition")
        if first.type is not second.type:
            raise _fault(node, f"gives a {first.type.value} or a {second.type.value}")
        when, then, otherwise = condition.of, first.of, second.of
        return _Part(first.type, lambda p: then(p) if when(p) else otherwise(p))

    def _logic(self, node: Node, *, ends: bool) -> _Part:
        """Either side may decide alone, even where the other has no value."""
        left, right = self._typed(node, Type.BOOL, Type.BOOL)

        def decide(properties: Properties) -> Value:
            try:
                if left(properties) is ends:
                    return ends
            except Unusable:
                if right(properties) is ends:
                    return ends
                raise
            return right(properties)

        return _Part(Type.BOOL, decide)

    def _name(self, node: Node) -> str:
        if node.kind == "ident":
            return node.text
        owner = node.parts[0] if node.kind == "member_dot" else None
        if owner is not None and (owner.kind, owner.text) == ("ident", "properties"):
            return node.text
        raise _fault(node, "names no property")

    def _property(self, node: Node) -> _Part:
        name = self._name(node)
        if name not in self._types:
            raise _fault(node, f"{name!r} is not one of the declared properties")
        self.reads.add(name)
        kind = self._types[name]
        return _Part(kind, _READERS[kind](name))

    def _has(self, node: Node) -> _Part:
        if len(node.parts) != 1:
            raise _fault(node, "has() takes one property")
        name = self._name(node.parts[0])
        if name not in self._types:
            raise _fault(node, f"{name!r} is not one of the declared properties")
        return _Part(Type.BOOL, lambda p: p.get(name, "") != "")

    def _call(self, node: Node, functions: Mapping[str, Function]) -> _Part:
        function = functions.get(node.text)
        if function is None:
            allowed = ", ".join([*FUNCTIONS, *METHODS, "has"])
            raise _fault(node, f"{node.text!r} is not one of the functions {allowed}")
        parts = [self.part(inner) for inner in node.parts]
        takes = function.takes
        if function.is_variadic:
            takes = takes + takes[-1:] * (len(parts) - len(takes))
        if [part.type for part in parts] != list(takes):
            told = ", ".join(kind.value for kind in takes)
            raise _fault(node, f"{node.text} takes {told}")
        of, arguments = function.of, [part.of for part in parts]
        return _Part(function.gives, lambda p: of(*[argument(p) for argument in arguments]))


def _fault(node: Node, why: str) -> Fault:
    return Fault(f"column {node.column}: {why}")


def _constant(kind: Type, value: Value) -> _Part:
    return _Part(kind, lambda properties: value)


def _apply(of: Callable[..., Value], left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda properties: of(left(properties), right(properties))


def _number_of(node: Node) -> Number:
    text = node.text
    if node.kind == "UINT_LIT":
        text = text[:-1]
    if "0x" in text:
        return int(text, 16)
    _, _, exponent = text.lower().partition("e")
    if exponent and abs(int(exponent)) > EXPONENT_MAX:
        raise _fault(node, f"{text} has an exponent beyond {EXPONENT_MAX}")
    return exact(Fraction(text))


def _divided(left: Number, right: Number) -> Number:
    if right == 0:
        raise Unusable("", "the expression divides by zero")
    return exact(Fraction(left) / right)


def _rest(left: Number, right: Number) -> Number:
    """The remainder with the sign of the dividend, as CEL has it."""
    if right == 0:
        raise Unusable("", "the expression divides by zero")
    size = left if left >= 0 else -left
    divisor = right if right >= 0 else -right
    rest = size - divisor * (size // divisor)
    return -rest if left < 0 else rest


_ARITHMETIC: Mapping[str, Callable[..., Value]] = {
    "addition_add": operator.add,
    "addition_sub": operator.sub,
    "multiplication_mul": operator.mul,
    "multiplication_div": _divided,
    "multiplication_mod": _rest,
}
_ORDER: Mapping[str, Callable[..., Value]] = {
    "relation_lt": operator.lt,
    "relation_le": operator.le,
    "relation_gt": operator.gt,
    "relation_ge": operator.ge,
}


def _number_reader(name: str) -> Evaluate:
    def read(properties: Properties) -> Value:
        text = properties.get(name, "")
        # The usual value is a short whole number, and needs no decimal arithmetic.
        if len(text) <= 18 and text.isdecimal() and text.isascii():
            return int(text)
        if not text:
            raise Unusable(name, "is missing")
        try:
            return exact(parse_decimal(text, name, signed=True))
        except InvalidValue as error:
            raise Unusable(name, error.why) from None

    return read


def _string_reader(name: str) -> Evaluate:
    def read(properties: Properties) -> Value:
        text = properties.get(name)
        if text is None:
            raise Unusable(name, "is missing")
        return text

    return read


def _bool_reader(name: str) -> Evaluate:
    def read(properties: Properties) -> Value:
        text = properties.get(name, "")
        if text not in ("true", "false"):
            raise Unusable(name, f"{text!r} is neither true nor false" if text else "is missing")
        return text == "true"

    return read


_READERS: Mapping[Type, Callable[[str], Evaluate]] = {
    Type.NUMBER: _number_reader,
    Type.STRING: _string_reader,
    Type.BOOL: _bool_reader,
}
