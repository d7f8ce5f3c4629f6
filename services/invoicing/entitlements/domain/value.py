"""Features, and what can be granted of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from kernel.errors import InvalidValue, Kind, Refusal
from kernel.money import format_decimal, parse_decimal
from kernel.period import Every, Unit


class FeatureKind(Enum):
    """Kinds of features (§6)."""

    BOOLEAN = "BOOLEAN"
    CONFIG = "CONFIG"
    METERED = "METERED"


class Merge(Enum):
    """How CONFIG values of several sources become one."""

    REPLACE = "REPLACE"
    MAX = "MAX"
    SUM = "SUM"


class Enforcement(Enum):
    """What happens beyond a limit (ENT-3)."""

    HARD = "HARD"
    SOFT = "SOFT"


class Reset(Enum):
    """When the count against a limit begins anew (ENT-1)."""

    BILLING = "BILLING"
    CALENDAR = "CALENDAR"
    ROLLING = "ROLLING"
    NEVER = "NEVER"


class FeatureFixed(Refusal):
    """What a feature is never changes: plans that grant it rely on it."""

    reason = "FEATURE_FIXED"
    kind = Kind.PRECONDITION

    def __init__(self, code: str, what: str) -> None:
        super().__init__(f"the {what} of feature {code!r} never changes", code=code, what=what)


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of a meter may be used in a window; a quantity of None means no limit."""

    quantity: Decimal | None
    enforcement: Enforcement = Enforcement.HARD
    reset: Reset | None = None
    every: Every | None = None
    rolling_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Value:
    """What is granted of a feature. Of a BOOLEAN feature the empty value means on."""

    disabled: bool = False
    config: str = ""
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that can be granted."""

    code: str
    name: str
    kind: FeatureKind
    create_time: datetime | None = None
    meter: str = ""
    merge: Merge = Merge.REPLACE
    default: Value | None = None


@dataclass(frozen=True, slots=True)
class PlanEntitlement:
    """What a plan version grants of a feature, once for each seat of a price where it says so."""

    feature_code: str
    value: Value
    per_price_code: str = ""


def check_value(feature: Feature, value: Value, field: str) -> None:
    """The rules between a feature and what is granted of it; raises InvalidValue."""
    if feature.kind is not FeatureKind.CONFIG and value.config:
        raise InvalidValue(f"{field}.config", f"feature {feature.code!r} has no value")
    if feature.kind is not FeatureKind.METERED and value.limits:
        raise InvalidValue(f"{field}.limits", f"feature {feature.code!r} is not metered")
    if feature.kind is FeatureKind.CONFIG and not value.disabled:
        if not value.config:
            raise InvalidValue(f"{field}.config", f"feature {feature.code!r} needs a value")
        if feature.merge is not Merge.REPLACE:
            parse_decimal(value.config, f"{field}.config", signed=True)


def change(present: Feature, wanted: Feature) -> Feature:
    """A feature with another name, merge and default. Raises FeatureFixed."""
    for what in ("kind", "meter"):
        if getattr(present, what) != getattr(wanted, what):
            raise FeatureFixed(present.code, what)
    return replace(wanted, create_time=present.create_time)


def value_document(value: Value) -> dict[str, Any]:
    """A value as it is kept."""
    return {
        "disabled": value.disabled,
        "config": value.config,
        "limits": [
            {
                "quantity": None if one.quantity is None else format_decimal(one.quantity),
                "enforcement": one.enforcement.value,
                "reset": None if one.reset is None else one.reset.value,
                "count": None if one.every is None else one.every.count,
                "unit": None if one.every is None else one.every.unit.value,
                "rolling_seconds": one.rolling_seconds,
            }
            for one in value.limits
        ],
    }


def value_of(document: Mapping[str, Any]) -> Value:
    """The value of a document that `value_document` made."""
    return Value(
        disabled=document["disabled"],
        config=document["config"],
        limits=tuple(
            Limit(
                quantity=None if one["quantity"] is None else Decimal(one["quantity"]),
                enforcement=Enforcement(one["enforcement"]),
                reset=None if one["reset"] is None else Reset(one["reset"]),
                every=None if one["count"] is None else Every(one["count"], Unit(one["unit"])),
                rolling_seconds=one["rolling_seconds"],
            )
            for one in document["limits"]
        ),
    )


def entitlement_documents(entitlements: Iterable[PlanEntitlement]) -> list[dict[str, Any]]:
    """A plan's entitlements as they are kept."""
    return [
        {
            "feature_code": one.feature_code,
            "per_price_code": one.per_price_code,
            "value": value_document(one.value),
        }
        for one in entitlements
    ]


def entitlements_of(documents: Iterable[Mapping[str, Any]]) -> tuple[PlanEntitlement, ...]:
    """The entitlements that `entitlement_documents` kept."""
    return tuple(
        PlanEntitlement(one["feature_code"], value_of(one["value"]), one["per_price_code"])
        for one in documents
    )
