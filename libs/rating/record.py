"""States as documents, for services that keep one between events and for rating records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

from rating.exact import number_text
from rating.fields import Fields
from rating.state import Level, State

PARTS_MAX = 1_000_000  # cells times windows of one period
_COUNTS = ("event_count", "free_event_count")
_NUMBERS = (
    "quantity",
    "amount",
    "cost",
    "event_cost",
    "event_cost_bare",
    "free_amount",
    "share",
    "rolled_over",
    "committed",
)


def render_state(state: State) -> dict[str, Any]:
    """The document of a state; what is as in an empty state is left out. JSON-ready, exact."""
    empty = State()
    document: dict[str, Any] = {}
    for field in fields(State):
        value = getattr(state, field.name)
        if value == getattr(empty, field.name):
            continue
        if field.name in _COUNTS:
            document[field.name] = value
        elif field.name in _NUMBERS:
            document[field.name] = number_text(Fraction(value))
    if state.parts:
        document["parts"] = {key: render_state(part) for key, part in state.parts.items()}
    if state.levels:
        document["levels"] = [
            {"share": number_text(level.share), "quantity": number_text(level.quantity)}
            for level in state.levels
        ]
    return document


def parse_state(document: Mapping[str, Any], path: str = "state") -> State:
    """Read the document of a state back; `parse_state(render_state(s)) == s`."""
    source = Fields(document, path)
    given: dict[str, Any] = {name: source.number(name, signed=True) for name in _NUMBERS}
    counts = {name: source.whole(name) for name in _COUNTS}
    levels = tuple(_parse_level(inner) for inner in source.items("levels", PARTS_MAX))
    parts = source.take("parts")
    named = parts if isinstance(parts, Mapping) else {}
    source.done()
    inner = {str(key): parse_state(part, f"{path}.parts.{key}") for key, part in named.items()}
    state = State(parts=inner, levels=levels)
    found = {name: value for name, value in (given | counts).items() if value is not None}
    # Each name is a field of State and each value was read as what that field holds.
    return replace(state, **found)


def state_digest(state: State) -> str:
    """A fingerprint of a state, equal for equal states (SHA-256, hexadecimal)."""
    text = json.dumps(render_state(state), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _parse_level(source: Fields) -> Level:
    share, quantity = source.number("share"), source.number("quantity", signed=True)
    source.done()
    return Level(share or 0, quantity or 0)
