"""Features and entitlements as messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from chassis.wire import find_time, find_uuid, parse_member, parse_text, render_time
from invoicing.customers.wire import parse_customer_id
from invoicing.entitlements.domain.resolve import (
    EffectiveLimit,
    Entitlement,
    Grant,
    Override,
    Source,
)
from invoicing.entitlements.domain.value import (
    Enforcement,
    Feature,
    FeatureKind,
    Limit,
    Merge,
    PlanEntitlement,
    Reset,
    Value,
    check_value,
)
from invoicing.wire import CODE_MAX, METER_CODE, parse_code, parse_interval, render_interval
from kernel.errors import InvalidValue
from kernel.ids import new_id
from kernel.money import format_decimal, parse_decimal
from tollgate.invoicing.v1 import catalog_pb2, entitlement_pb2

ENTITLEMENTS_MAX = 200
LIMITS_MAX = 8  # windows that one event is counted in
CONFIG_MAX = 1_000
ROLLING_SECONDS_MIN = 60
ROLLING_SECONDS_MAX = 366 * 86_400

KINDS = {
    catalog_pb2.FEATURE_KIND_BOOLEAN: FeatureKind.BOOLEAN,
    catalog_pb2.FEATURE_KIND_CONFIG: FeatureKind.CONFIG,
    catalog_pb2.FEATURE_KIND_METERED: FeatureKind.METERED,
}
MERGES = {
    entitlement_pb2.CONFIG_MERGE_UNSPECIFIED: Merge.REPLACE,
    entitlement_pb2.CONFIG_MERGE_REPLACE: Merge.REPLACE,
    entitlement_pb2.CONFIG_MERGE_MAX: Merge.MAX,
    entitlement_pb2.CONFIG_MERGE_SUM: Merge.SUM,
}
ENFORCEMENTS = {
    catalog_pb2.LIMIT_ENFORCEMENT_UNSPECIFIED: Enforcement.HARD,
    catalog_pb2.LIMIT_ENFORCEMENT_HARD: Enforcement.HARD,
    catalog_pb2.LIMIT_ENFORCEMENT_SOFT: Enforcement.SOFT,
}
RESETS = {
    catalog_pb2.LIMIT_RESET_BILLING: Reset.BILLING,
    catalog_pb2.LIMIT_RESET_CALENDAR: Reset.CALENDAR,
    catalog_pb2.LIMIT_RESET_ROLLING: Reset.ROLLING,
    catalog_pb2.LIMIT_RESET_NEVER: Reset.NEVER,
}
RENDERED_KINDS = {kind: number for number, kind in KINDS.items()}
RENDERED_MERGES = {merge: number for number, merge in MERGES.items() if number}
RENDERED_ENFORCEMENTS = {one: number for number, one in ENFORCEMENTS.items() if number}
RENDERED_RESETS = {reset: number for number, reset in RESETS.items()}
RENDERED_SOURCES = {
    source: catalog_pb2.EntitlementSource.Value(f"ENTITLEMENT_SOURCE_{source.value}")
    for source in Source
}


def parse_feature(message: entitlement_pb2.Feature, now: datetime) -> Feature:
    kind = parse_member(message.kind, KINDS, "feature.kind")
    meter = message.meter
    if kind is FeatureKind.METERED:
        meter = parse_text(meter, "feature.meter", maximum=CODE_MAX, pattern=METER_CODE)
    elif meter:
        raise InvalidValue("feature.meter", "only a METERED feature has a meter")
    merge = parse_member(message.merge, MERGES, "feature.merge")
    if kind is not FeatureKind.CONFIG and message.merge:
        raise InvalidValue("feature.merge", "only CONFIG values are merged")
    feature = Feature(
        code=parse_code(message.code, "feature.code"),
        name=parse_text(message.name, "feature.name"),
        kind=kind,
        create_time=now,
        meter=meter,
        merge=merge,
        default=(
            parse_value(message.default_value, "feature.default_value")
            if message.HasField("default_value")
            else None
        ),
    )
    if feature.default is not None:
        check_value(feature, feature.default, "feature.default_value")
    return feature


def parse_value(message: catalog_pb2.EntitlementValue, field: str) -> Value:
    if len(message.limits) > LIMITS_MAX:
        raise InvalidValue(f"{field}.limits", f"takes at most {LIMITS_MAX} limits")
    return Value(
        disabled=message.disabled,
        config=parse_text(message.config, f"{field}.config", minimum=0, maximum=CONFIG_MAX),
        limits=tuple(
            _parse_limit(limit, f"{field}.limits[{index}]")
            for index, limit in enumerate(message.limits)
        ),
    )


def _parse_limit(message: catalog_pb2.UsageLimit, field: str) -> Limit:
    quantity: Decimal | None = None
    if not message.unlimited:
        quantity = parse_decimal(message.quantity, f"{field}.quantity")
    elif message.quantity:
        raise InvalidValue(f"{field}.quantity", "is not stated where there is no limit")
    reset = parse_member(message.reset, RESETS, f"{field}.reset") if message.reset else None
    has_interval = message.HasField("interval")
    if has_interval and reset not in (None, Reset.BILLING, Reset.CALENDAR):
        raise InvalidValue(f"{field}.interval", "is for BILLING and CALENDAR")
    rolling = message.rolling_seconds
    if reset is Reset.ROLLING:
        if not ROLLING_SECONDS_MIN <= rolling <= ROLLING_SECONDS_MAX:
            why = f"{rolling} is not between {ROLLING_SECONDS_MIN} and {ROLLING_SECONDS_MAX}"
            raise InvalidValue(f"{field}.rolling_seconds", why)
    elif rolling:
        raise InvalidValue(f"{field}.rolling_seconds", "is for ROLLING")
    return Limit(
        quantity=quantity,
        enforcement=parse_member(message.enforcement, ENFORCEMENTS, f"{field}.enforcement"),
        # A length of its own is a window of its own.
        reset=Reset.BILLING if reset is None and has_interval else reset,
        every=parse_interval(message.interval, f"{field}.interval") if has_interval else None,
        rolling_seconds=rolling,
    )


def parse_entitlements(
    messages: Sequence[catalog_pb2.PlanEntitlement], field: str, seats: Collection[str]
) -> tuple[PlanEntitlement, ...]:
    """A plan's entitlements. Whether their features exist is looked up when it is published."""
    if len(messages) > ENTITLEMENTS_MAX:
        raise InvalidValue(field, f"takes at most {ENTITLEMENTS_MAX}")
    found: dict[str, PlanEntitlement] = {}
    for index, message in enumerate(messages):
        here = f"{field}[{index}]"
        code = parse_code(message.feature_code, f"{here}.feature_code")
        if code in found:
            raise InvalidValue(f"{here}.feature_code", f"{code!r} is there twice")
        per = message.per_price_code
        if per and per not in seats:
            raise InvalidValue(f"{here}.per_price_code", f"there is no SEAT price {per!r}")
        found[code] = PlanEntitlement(code, parse_value(message.value, f"{here}.value"), per)
    return tuple(found.values())


def parse_override(message: entitlement_pb2.EntitlementOverride, now: datetime) -> Override:
    start, end = _stretch(message, "override", now)
    return Override(
        customer_id=parse_customer_id(message.customer_id, "override.customer_id"),
        subscription_id=find_uuid(message.subscription_id, "override.subscription_id"),
        feature_code=parse_code(message.feature_code, "override.feature_code"),
        value=parse_value(message.value, "override.value"),
        start=start,
        end=end,
    )


def parse_grant(message: entitlement_pb2.EntitlementGrant, now: datetime) -> Grant:
    start, end = _stretch(message, "grant", now)
    return Grant(
        grant_id=new_id(now),
        customer_id=parse_customer_id(message.customer_id, "grant.customer_id"),
        feature_code=parse_code(message.feature_code, "grant.feature_code"),
        value=parse_value(message.value, "grant.value"),
        start=start,
        end=end,
        reason=parse_text(message.reason, "grant.reason", minimum=0),
    )


def _stretch(
    message: entitlement_pb2.EntitlementOverride | entitlement_pb2.EntitlementGrant,
    field: str,
    now: datetime,
) -> tuple[datetime, datetime | None]:
    start = find_time(message, "start_time") or now
    end = find_time(message, "end_time")
    if end is not None and end <= start:
        raise InvalidValue(f"{field}.end_time", "is not after start_time")
    return start, end


def render_feature(feature: Feature) -> entitlement_pb2.Feature:
    message = entitlement_pb2.Feature(
        code=feature.code,
        name=feature.name,
        kind=RENDERED_KINDS[feature.kind],
        meter=feature.meter,
    )
    if feature.kind is FeatureKind.CONFIG:
        message.merge = RENDERED_MERGES[feature.merge]
    if feature.create_time is not None:
        message.create_time.CopyFrom(render_time(feature.create_time))
    if feature.default is not None:
        message.default_value.CopyFrom(render_value(feature.default))
    return message


def render_value(value: Value) -> catalog_pb2.EntitlementValue:
    return catalog_pb2.EntitlementValue(
        disabled=value.disabled,
        config=value.config,
        limits=[
            catalog_pb2.UsageLimit(
                quantity="" if one.quantity is None else format_decimal(one.quantity),
                unlimited=one.quantity is None,
                enforcement=RENDERED_ENFORCEMENTS[one.enforcement],
                reset=RENDERED_RESETS[one.reset]
                if one.reset
                else catalog_pb2.LIMIT_RESET_UNSPECIFIED,
                interval=render_interval(one.every) if one.every else None,
                rolling_seconds=one.rolling_seconds,
            )
            for one in value.limits
        ],
    )


def render_plan_entitlement(one: PlanEntitlement) -> catalog_pb2.PlanEntitlement:
    return catalog_pb2.PlanEntitlement(
        feature_code=one.feature_code,
        value=render_value(one.value),
        per_price_code=one.per_price_code,
    )


def render_entitlement(entitlement: Entitlement) -> catalog_pb2.Entitlement:
    feature = entitlement.feature
    return catalog_pb2.Entitlement(
        feature_code=feature.code,
        kind=RENDERED_KINDS[feature.kind],
        enabled=entitlement.enabled,
        config=entitlement.config,
        meter=feature.meter,
        limits=[_render_limit(limit) for limit in entitlement.limits],
        origins=[
            catalog_pb2.EntitlementOrigin(source=RENDERED_SOURCES[source], name=name)
            for source, name in entitlement.origins
        ],
    )


def _render_limit(limit: EffectiveLimit) -> catalog_pb2.EffectiveLimit:
    return catalog_pb2.EffectiveLimit(
        quantity=format_decimal(limit.quantity),
        enforcement=RENDERED_ENFORCEMENTS[limit.enforcement],
        reset=RENDERED_RESETS[limit.reset],
        anchor_time=render_time(limit.anchor) if limit.anchor else None,
        interval=render_interval(limit.every) if limit.every else None,
        time_zone=limit.time_zone,
        rolling_seconds=limit.rolling_seconds,
    )


def render_override(override: Override) -> entitlement_pb2.EntitlementOverride:
    return entitlement_pb2.EntitlementOverride(
        customer_id=override.customer_id,
        subscription_id=_render_id(override.subscription_id),
        feature_code=override.feature_code,
        value=render_value(override.value),
        start_time=render_time(override.start),
        end_time=render_time(override.end) if override.end else None,
    )


def render_grant(grant: Grant) -> entitlement_pb2.EntitlementGrant:
    return entitlement_pb2.EntitlementGrant(
        grant_id=str(grant.grant_id),
        customer_id=grant.customer_id,
        feature_code=grant.feature_code,
        value=render_value(grant.value),
        start_time=render_time(grant.start),
        end_time=render_time(grant.end) if grant.end else None,
        reason=grant.reason,
    )


def _render_id(identifier: UUID | None) -> str:
    return "" if identifier is None else str(identifier)
