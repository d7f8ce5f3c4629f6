"""The catalog as one YAML file: meters, features, plans and coupons; numbers as text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from kernel.errors import InvalidValue
from kernel.money import format_decimal
from tollgate.invoicing.v1 import catalog_pb2, coupon_pb2, entitlement_pb2
from tollgate.metering.v1 import meter_pb2

# The values of enums as people write them: without the name of their enum.
PREFIXES = {
    "PriceKind": "PRICE_KIND_",
    "Settlement": "SETTLEMENT_",
    "BillingTiming": "BILLING_TIMING_",
    "IntervalUnit": "INTERVAL_UNIT_",
    "CouponDuration": "COUPON_DURATION_",
    "Aggregation": "AGGREGATION_",
    "FilterOperator": "FILTER_OPERATOR_",
    "PropertyType": "PROPERTY_TYPE_",
    "MeterRoundingMode": "METER_ROUNDING_MODE_",
    "RoundingPoint": "ROUNDING_POINT_",
    "MissingValue": "MISSING_VALUE_",
    "PlanKind": "PLAN_KIND_",
    "TrialEnd": "TRIAL_END_",
    "TrialUsage": "TRIAL_USAGE_",
    "TrialAnchor": "TRIAL_ANCHOR_",
    "FeatureKind": "FEATURE_KIND_",
    "ConfigMerge": "CONFIG_MERGE_",
    "LimitEnforcement": "LIMIT_ENFORCEMENT_",
    "LimitReset": "LIMIT_RESET_",
}
# What an installation adds to what was stated.
ASSIGNED = {
    "Plan": ("version", "state", "create_time", "publish_time"),
    "PlanPrice": ("price_id",),
    "Feature": ("create_time",),
    "Coupon": ("redemptions", "archived", "create_time"),
    "Meter": ("create_time", "archived", "version", "state", "effective_time"),
}


@dataclass(frozen=True)
class Catalog:
    """What is counted and sold, as it is stated: meters, features, plans and coupons by code."""

    plans: Mapping[str, catalog_pb2.Plan]
    coupons: Mapping[str, coupon_pb2.Coupon]
    meters: Mapping[str, meter_pb2.Meter] = field(default_factory=dict)
    features: Mapping[str, entitlement_pb2.Feature] = field(default_factory=dict)


def stated_plan(plan: catalog_pb2.Plan) -> catalog_pb2.Plan:
    """A plan without what an installation assigned, its defaults filled in."""
    stated = catalog_pb2.Plan()
    stated.CopyFrom(plan)
    _clear(stated)
    stated.kind = stated.kind or catalog_pb2.PLAN_KIND_PLAN
    _fill(stated.interval)
    for entitlement in stated.entitlements:
        _fill_value(entitlement.value)
    if stated.HasField("trial"):
        trial = stated.trial
        _fill(trial.length)
        trial.end = trial.end or catalog_pb2.TRIAL_END_CONVERT
        trial.usage = trial.usage or catalog_pb2.TRIAL_USAGE_FREE
        trial.anchor_from = trial.anchor_from or catalog_pb2.TRIAL_ANCHOR_TRIAL_END
    for price in stated.prices:
        _clear(price)
        if price.HasField("interval"):
            _fill(price.interval)
        usage = price.kind == catalog_pb2.PRICE_KIND_USAGE
        arrears, advance = catalog_pb2.BILLING_TIMING_ARREARS, catalog_pb2.BILLING_TIMING_ADVANCE
        price.timing = price.timing or (arrears if usage else advance)
        price.settlement = price.settlement or catalog_pb2.SETTLEMENT_INVOICE
        price.tax_category = price.tax_category or "standard"
    return stated


def _fill(interval: catalog_pb2.BillingInterval) -> None:
    interval.count = interval.count or 1
    interval.unit = interval.unit or catalog_pb2.INTERVAL_UNIT_MONTH


def _fill_value(value: catalog_pb2.EntitlementValue) -> None:
    for limit in value.limits:
        limit.enforcement = limit.enforcement or catalog_pb2.LIMIT_ENFORCEMENT_HARD
        if limit.HasField("interval"):
            _fill(limit.interval)
            limit.reset = limit.reset or catalog_pb2.LIMIT_RESET_BILLING


def stated_feature(feature: entitlement_pb2.Feature) -> entitlement_pb2.Feature:
    """A feature as it was stated, its defaults filled in."""
    stated = entitlement_pb2.Feature()
    stated.CopyFrom(feature)
    _clear(stated)
    if stated.kind == catalog_pb2.FEATURE_KIND_CONFIG:
        stated.merge = stated.merge or entitlement_pb2.CONFIG_MERGE_REPLACE
    if stated.HasField("default_value"):
        _fill_value(stated.default_value)
    return stated


def stated_coupon(coupon: coupon_pb2.Coupon) -> coupon_pb2.Coupon:
    """A coupon without what an installation counted."""
    stated = coupon_pb2.Coupon()
    stated.CopyFrom(coupon)
    _clear(stated)
    stated.duration = stated.duration or coupon_pb2.COUPON_DURATION_ONCE
    return stated


def stated_meter(meter: meter_pb2.Meter) -> meter_pb2.Meter:
    """A meter without what an installation assigned, its rounding written one way."""
    stated = meter_pb2.Meter()
    stated.CopyFrom(meter)
    _clear(stated)
    if stated.on_missing == meter_pb2.MISSING_VALUE_REFUSE:
        stated.on_missing = meter_pb2.MISSING_VALUE_UNSPECIFIED
    for condition in stated.filters:
        condition.values[:] = sorted(condition.values)
    if stated.HasField("rounding"):
        rounding = stated.rounding
        if rounding.HasField("digits"):
            rounding.step = format_decimal(Decimal(1).scaleb(-rounding.digits))
            rounding.ClearField("digits")
        rounding.point = rounding.point or meter_pb2.ROUNDING_POINT_PERIOD
    return stated


def parse_meter(document: Any, path: str) -> meter_pb2.Meter:
    """A meter as people write it. Raises InvalidValue naming what is wrong and where."""
    return stated_meter(_parse(document, meter_pb2.Meter(), path))


def _clear(message: Message) -> None:
    for name in ASSIGNED[message.DESCRIPTOR.name]:
        message.ClearField(name)


def write(catalog: Catalog) -> str:
    """The file. The same catalog gives the same text."""
    meters = {"meters": [_document(meter) for _, meter in sorted(catalog.meters.items())]}
    return _text(
        (meters if catalog.meters else {})
        | {
            "features": [_document(one) for _, one in sorted(catalog.features.items())],
            "plans": [_document(plan) for _, plan in sorted(catalog.plans.items())],
            "coupons": [_document(coupon) for _, coupon in sorted(catalog.coupons.items())],
        }
    )


def read(text: str) -> Catalog:
    """The catalog of a file. Raises InvalidValue naming what is wrong and where."""
    try:
        # Every scalar stays text, so that 0.1 is a tenth and never a binary float.
        document = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes text alone
    except yaml.YAMLError as error:
        raise InvalidValue("file", "is not YAML: " + " ".join(str(error).split())) from error
    if not isinstance(document, dict):
        raise InvalidValue("file", "holds no plans and coupons")
    unknown = sorted(set(document) - {"meters", "features", "plans", "coupons"})
    if unknown:
        raise InvalidValue(
            unknown[0], "is not known; a catalog has meters, features, plans, coupons"
        )
    meters = [parse_meter(each, field) for field, each in _listed(document, "meters")]
    plans = [
        stated_plan(_parse(each, catalog_pb2.Plan(), field))
        for field, each in _listed(document, "plans")
    ]
    coupons = [
        stated_coupon(_parse(each, coupon_pb2.Coupon(), field))
        for field, each in _listed(document, "coupons")
    ]
    features = [
        stated_feature(_parse(each, entitlement_pb2.Feature(), field))
        for field, each in _listed(document, "features")
    ]
    return Catalog(
        _by_code(plans, "plans"),
        _by_code(coupons, "coupons"),
        _by_code(meters, "meters"),
        _by_code(features, "features"),
    )


def compare(present: Message | None, wanted: Message) -> str:
    """What would change, as a unified diff; empty where nothing does."""
    before = "" if present is None else _text(_document(present))
    lines = difflib.unified_diff(
        before.splitlines(), _text(_document(wanted)).splitlines(), "present", "file", lineterm=""
    )
    return "\n".join(lines)


def _listed(document: Mapping[str, Any], name: str) -> Iterable[tuple[str, Any]]:
    values = document.get(name) or []
    if not isinstance(values, list):
        raise InvalidValue(name, "is not a list")
    return [(f"{name}[{index}]", value) for index, value in enumerate(values)]


def _by_code(messages: Iterable[Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for message in messages:
        if message.code in found:
            raise InvalidValue(name, f"{message.code!r} is there twice")
        found[message.code] = message
    return found


def _parse(value: Any, message: Any, field: str) -> Any:
    try:
        json_format.ParseDict(_typed(value, message.DESCRIPTOR, field), message)
    except json_format.ParseError as error:
        raise InvalidValue(field, " ".join(str(error).split())) from error
    return message


def _typed(value: Any, descriptor: Descriptor, field: str) -> Any:
    """A document of texts as the message's own: enums by their full names, flags as flags."""
    if not isinstance(value, dict):
        raise InvalidValue(field, f"is not a {descriptor.name}")
    fields = descriptor.fields_by_name
    return {
        name: _typed_field(one, fields[name], f"{field}.{name}") if name in fields else one
        for name, one in value.items()
    }


def _typed_field(value: Any, field: FieldDescriptor, path: str) -> Any:
    if isinstance(value, list):
        return [_typed_field(one, field, f"{path}[{index}]") for index, one in enumerate(value)]
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            kind = field.message_type.fields_by_name["value"]
            if kind.enum_type is None or not isinstance(value, dict):
                return value
            return {name: _typed_field(one, kind, f"{path}.{name}") for name, one in value.items()}
        if field.message_type.name == "Timestamp":
            return value
        return _typed(value, field.message_type, path)
    if field.enum_type is not None and isinstance(value, str):
        return PREFIXES.get(field.enum_type.name, "") + value
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"true": True, "false": False}.get(value, value)
    return value


def _document(message: Message) -> dict[str, Any]:
    document = json_format.MessageToDict(message, preserving_proto_field_name=True)
    descriptor: Any = message.DESCRIPTOR
    return _shortened(document, descriptor)


def _shortened(document: dict[str, Any], descriptor: Descriptor) -> dict[str, Any]:
    found = {}
    for name, value in document.items():
        field = descriptor.fields_by_name[name]
        values = value if isinstance(value, list) else [value]
        if field.enum_type is not None:
            prefix = PREFIXES.get(field.enum_type.name, "")
            values = [one.removeprefix(prefix) for one in values]
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            kind = field.message_type.fields_by_name["value"].enum_type
            if kind is not None:
                prefix = PREFIXES.get(kind.name, "")
                values = [{key: one.removeprefix(prefix) for key, one in sorted(value.items())}]
        elif field.message_type is not None:
            values = [
                _shortened(one, field.message_type) if isinstance(one, dict) else one
                for one in values
            ]
        found[name] = values if isinstance(value, list) else values[0]
    return found


def _text(document: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return text
