"""Writes prices as documents: defaults are left out, so that equal prices render equally."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from enum import Enum
from typing import Any

from kernel.money import format_decimal
from rating.cells import clock_text
from rating.price import (
    ANY,
    CostPlus,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    Included,
    Matrix,
    Model,
    Package,
    Percentage,
    Price,
    Seat,
    Slot,
    Stairstep,
    Tier,
    Tiered,
    TimeOfUse,
    Unit,
    Volume,
)

MODEL_NAMES: dict[type[Any], str] = {
    Flat: "flat",
    Unit: "unit",
    Package: "package",
    Graduated: "graduated",
    Volume: "volume",
    Stairstep: "stairstep",
    Seat: "seat",
    Percentage: "percentage",
    GraduatedPercentage: "graduated_percentage",
    Matrix: "matrix",
    TimeOfUse: "time_of_use",
    Dynamic: "dynamic",
    CostPlus: "cost_plus",
}


def render_price(price: Price) -> dict[str, Any]:
    """The document of a price; `parse_price` reads the same price back."""
    document = _render_fields(price)
    name, body = _render_model(price.model)
    return {"asset": document.pop("asset"), name: body, **document}


def _render_model(model: Model) -> tuple[str, dict[str, Any]]:
    body = _render_fields(model)
    if isinstance(model, Tiered):
        body = {"tiers": [_render_tier(model, tier) for tier in model.tiers], **body}
    elif isinstance(model, Seat):
        name, inner = _render_model(model.model)
        body = {name: inner, **body}
    elif isinstance(model, TimeOfUse):
        body = {"time_zone": model.time_zone, "slots": [_render_slot(s) for s in model.slots]}
    elif isinstance(model, Matrix):
        body = {"dimensions": list(model.dimensions), "cells": _render_cells(model)}
    return MODEL_NAMES[type(model)], body


def _render_cells(matrix: Matrix) -> list[dict[str, Any]]:
    cells = []
    for cell in matrix.cells:
        named = zip(matrix.dimensions, cell.values, strict=True)
        values = {name: value for name, value in named if value != ANY}
        name, body = _render_model(cell.model)
        document: dict[str, Any] = {"name": cell.name} if cell.name else {}
        cells.append(document | ({"values": values} if values else {}) | {name: body})
    return cells


def _render_slot(slot: Slot) -> dict[str, Any]:
    document: dict[str, Any] = {"name": slot.name} if slot.name else {}
    if slot.weekdays:
        document["weekdays"] = [day.value for day in slot.weekdays]
    if slot.start_minute is not None and slot.end_minute is not None:
        document["start"] = clock_text(slot.start_minute)
        document["end"] = clock_text(slot.end_minute)
    name, body = _render_model(slot.model)
    return document | {name: body}


def _render_tier(ladder: Tiered, tier: Tier) -> dict[str, str]:
    document = {} if tier.up_to is None else {"up_to": format_decimal(tier.up_to)}
    if isinstance(ladder, Stairstep):
        return document | {"flat_fee": format_decimal(tier.flat_fee)}
    price_name = "rate" if isinstance(ladder, GraduatedPercentage) else "unit_price"
    document[price_name] = format_decimal(tier.unit_price)
    if tier.flat_fee:
        document["flat_fee"] = format_decimal(tier.flat_fee)
    if tier.package_size is not None:
        document["package_size"] = format_decimal(tier.package_size)
    return document


def _render_fields(value: Price | Model | Included) -> dict[str, Any]:
    """Every scalar that differs from its default. Composite fields are rendered by the caller."""
    document: dict[str, Any] = {}
    for field in fields(value):
        content = getattr(value, field.name)
        if content is None or content == field.default:
            continue
        if isinstance(content, Decimal):
            document[field.name] = format_decimal(content)
        elif isinstance(content, Enum):
            document[field.name] = content.value
        elif isinstance(content, Included):
            document[field.name] = _render_fields(content)
        elif isinstance(content, bool | int | str):
            document[field.name] = content
    return document
