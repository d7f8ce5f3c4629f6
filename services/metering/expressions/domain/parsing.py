"""From text to a small tree of what matters: checked for size before anything walks it."""

from __future__ import annotations

import ast
from typing import NamedTuple

from celpy.celparser import CELParseError, CELParser
from lark import Token, Tree
from lark.exceptions import LarkError

from metering.expressions.domain.values import Fault

LENGTH_MAX = 1_000  # characters
NODES_MAX = 200  # values, operators and calls: what an evaluation costs is bounded by them
DEPTH_MAX = 32  # of parts inside parts


class Node(NamedTuple):
    """One part: a literal, a name, an operator or a call, with the parts it is made of."""

    kind: str  # of the grammar: "addition_add", "ident", "literal" …
    text: str
    column: int
    parts: tuple[Node, ...]


def parse(text: str) -> Node:
    """The tree of an expression. Raises Fault where it is none, or too large."""
    if not text.strip():
        raise Fault("is empty")
    if len(text) > LENGTH_MAX:
        raise Fault(f"{len(text)} characters; takes at most {LENGTH_MAX}")
    _check_nesting(text)
    try:
        tree = CELParser().parse(text)
    except CELParseError as error:
        raise Fault(f"is no CEL expression: unexpected text at column {error.column}") from None
    except LarkError as error:
        raise Fault(f"is no CEL expression: {str(error).splitlines()[0]}") from None
    return _plain(tree, [0])


def _check_nesting(text: str) -> None:
    """Brackets and signs in a row, which the parser would nest deeper than Python recurses."""
    depth = run = 0
    for sign in text:
        if sign in "([{?":
            depth += 1
        elif sign in ")]}":
            depth -= 1
        run = run + 1 if sign in "!-" else (run if sign == " " else 0)
        if depth > DEPTH_MAX or run > DEPTH_MAX:
            raise Fault(f"is nested deeper than {DEPTH_MAX}")


def _plain(tree: Tree[Token], count: list[int]) -> Node:
    """A node of the grammar without the steps in between that say nothing."""
    while len(tree.children) == 1 and isinstance(tree.children[0], Tree):
        if tree.data in _KEPT:
            break
        tree = tree.children[0]
    count[0] += 1
    if count[0] > NODES_MAX:
        raise Fault(f"has more than {NODES_MAX} parts")
    return _node(tree, count)


def _node(tree: Tree[Token], count: list[int]) -> Node:
    # An operator with its left side is a child of the level it binds at: [relation_lt, addition].
    children = [child for child in tree.children if child is not None]
    column = getattr(tree.meta, "column", 1)
    kind, text = str(tree.data), ""
    trees: list[Tree[Token]] = []
    for child in children:
        if isinstance(child, Tree):
            trees.append(child)
        else:
            text, kind = str(child), kind if kind != "literal" else str(child.type)
    if kind in _LEVELS and len(trees) == 2:
        operator, right = trees
        if operator.data in _OPERATORS:
            kind, trees = str(operator.data), [_only(operator), right]
        elif operator.data in ("unary_not", "unary_neg"):
            kind, trees = str(operator.data), [right]
    if trees and trees[-1].data == "exprlist":
        trees = [*trees[:-1], *(one for one in trees[-1].children if isinstance(one, Tree))]
    return Node(kind, text, column, tuple(_plain(one, count) for one in trees))


def _only(tree: Tree[Token]) -> Tree[Token]:
    child = tree.children[0]
    assert isinstance(child, Tree)
    return child


_LEVELS = {"relation", "addition", "multiplication", "unary"}
_OPERATORS = {
    "relation_lt", "relation_le", "relation_gt", "relation_ge", "relation_eq", "relation_ne",
    "relation_in", "addition_add", "addition_sub", "multiplication_mul", "multiplication_div",
    "multiplication_mod",
}  # fmt: skip
# With a single child these still mean something.
_KEPT = {"member_dot", "member_dot_arg", "list_lit", "ident_arg", "dot_ident_arg", "map_lit"}


def string_of(node: Node) -> str:
    """The content of a string literal."""
    text = node.text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise Fault(f"{text} is no string (column {node.column})") from None
    assert isinstance(value, str)
    return value
