"""Price documents of which everything costs the same multiple: uplifts, and several of a fee."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from kernel.errors import InvalidValue
from kernel.money import FRACTION_DIGITS_MAX, format_decimal

MONEY = frozenset(
    {
        "amount",
        "unit_price",
        "flat_fee",
        "minimum",
        "maximum",
        "fixed_fee",
        "event_amount_min",
        "event_amount_max",
        "rate",
        "multiplier",
    }
)
_CONTEXT = Context(prec=80, rounding=ROUND_HALF_UP)


def scale_document(document: Mapping[str, Any], factor: Decimal) -> dict[str, Any]:
    """A price document with every parameter of money times a factor, to 18 fraction digits.

    Raises InvalidValue for a price that follows costs, which no factor describes.
    """
    scaled: dict[str, Any] = _scaled(document, factor, "")
    if "dynamic" in document and "multiplier" not in document["dynamic"]:
        scaled["dynamic"] = {**scaled["dynamic"], "multiplier": _times("1", factor)}
    return scaled


def _scaled(value: Any, factor: Decimal, name: str) -> Any:
    if name == "cost_plus":
        raise InvalidValue("pricing.cost_plus", "a price by cost is not scaled")
    if isinstance(value, Mapping):
        return {key: _scaled(one, factor, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_scaled(one, factor, "") for one in value]
    return _times(value, factor) if name in MONEY else value


def _times(value: str, factor: Decimal) -> str:
    product = _CONTEXT.multiply(Decimal(value), factor)
    exponent = Decimal(1).scaleb(-FRACTION_DIGITS_MAX)
    if -int(product.as_tuple().exponent) > FRACTION_DIGITS_MAX:
        product = product.quantize(exponent, context=_CONTEXT)
    return format_decimal(product)
