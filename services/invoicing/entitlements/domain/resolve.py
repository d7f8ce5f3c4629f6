"""Entitlements: what plans, add-ons, overrides and grants let a customer do with each feature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import assert_never
from uuid import UUID

from invoicing.entitlements.domain.value import (
    Enforcement,
    Feature,
    FeatureKind,
    Limit,
    Merge,
    PlanEntitlement,
    Reset,
    Value,
)
from kernel.money import format_decimal
from kernel.period import Every, Period, Unit, parse_zone, period_at, unit_floor

MONTH = Every(1, Unit.MONTH)


class Source(Enum):
    """Where an entitlement comes from, highest precedence first."""

    CUSTOMER_OVERRIDE = "CUSTOMER_OVERRIDE"
    SUBSCRIPTION_OVERRIDE = "SUBSCRIPTION_OVERRIDE"
    GRANT = "GRANT"
    ADD_ON = "ADD_ON"
    PLAN = "PLAN"
    DEFAULT = "DEFAULT"


PRECEDENCE = {source: rank for rank, source in enumerate(Source)}


@dataclass(frozen=True, slots=True)
class Provision:
    """What one subscription has of one plan or add-on for a time."""

    subscription_id: UUID
    source: Source
    name: str
    quantity: Decimal
    values: tuple[PlanEntitlement, ...]
    seats: Mapping[str, Decimal]
    anchor: datetime
    every: Every
    time_zone: str
    start: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Override:
    """A value in place of what a subscription grants, or for the customer of all (None)."""

    customer_id: str
    subscription_id: UUID | None
    feature_code: str
    value: Value
    start: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Grant:
    """Something granted for a time beside all plans."""

    grant_id: UUID
    customer_id: str
    feature_code: str
    value: Value
    start: datetime
    end: datetime | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EffectiveLimit:
    """A limit with the grid of its windows."""

    quantity: Decimal
    enforcement: Enforcement
    reset: Reset
    anchor: datetime | None
    every: Every | None
    time_zone: str
    rolling_seconds: int

    def window(self, instant: datetime) -> Period | None:
        """The window that contains an instant, where the grid alone tells it."""
        if self.anchor is None or self.every is None:
            return None
        return period_at(self.anchor, self.every, instant, parse_zone(self.time_zone))


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What a customer may do with one feature, and what that was put together from."""

    feature: Feature
    enabled: bool
    config: str
    limits: tuple[EffectiveLimit, ...]
    origins: tuple[tuple[Source, str], ...]


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that is stored of one customer's entitlements."""

    time_zone: str
    create_time: datetime
    provisions: tuple[Provision, ...] = ()
    overrides: tuple[Override, ...] = ()
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    source: Source
    name: str
    value: Value
    times: Decimal = Decimal(1)
    grid: Provision | None = None


def resolve(
    features: Mapping[str, Feature], held: Holdings, now: datetime
) -> tuple[tuple[Entitlement, ...], datetime | None]:
    """What a customer may do at an instant, by code, and when that changes by itself next.

    Customer overrides decide alone. An override for a subscription replaces what that one grants.
    Grants, add-ons and plans add up; a feature's default is for whom nothing else says anything.
    """
    parts = _parts(held, now)
    codes = {*parts, *(code for code, one in features.items() if one.default is not None)}
    found = []
    for code in sorted(codes):
        # A code that plans name without declaring it is a boolean.
        feature = features.get(code) or Feature(code, code, FeatureKind.BOOLEAN)
        said = parts.get(code)
        if said is None:
            assert feature.default is not None
            said = [_Part(Source.DEFAULT, code, feature.default)]
        found.append(_combined(feature, said, held))
    return tuple(found), _next_change(held, now)


def _parts(held: Holdings, now: datetime) -> dict[str, list[_Part]]:
    """What each feature is put together from, highest precedence first."""
    alone: dict[str, _Part] = {}
    replaced: dict[tuple[UUID, str], _Part] = {}
    for one in held.overrides:
        if _holds(one.start, one.end, now):
            if one.subscription_id is None:
                alone[one.feature_code] = _Part(
                    Source.CUSTOMER_OVERRIDE, one.customer_id, one.value
                )
            else:
                replaced[one.subscription_id, one.feature_code] = _Part(
                    Source.SUBSCRIPTION_OVERRIDE, str(one.subscription_id), one.value
                )
    found: dict[str, list[_Part]] = {}
    for provision in held.provisions:
        if not _holds(provision.start, provision.end, now):
            continue
        own = [*provision.values]
        if provision.source is Source.PLAN:
            named = {one.feature_code for one in own}
            extra = sorted(
                code
                for subscription_id, code in replaced
                if subscription_id == provision.subscription_id and code not in named
            )
            own += [PlanEntitlement(code, Value()) for code in extra]
        for entitlement in own:
            here = found.setdefault(entitlement.feature_code, [])
            override = replaced.get((provision.subscription_id, entitlement.feature_code))
            if override is None:
                seats = provision.seats.get(entitlement.per_price_code, Decimal(1))
                times = provision.quantity * seats
                here.append(
                    _Part(provision.source, provision.name, entitlement.value, times, provision)
                )
            elif all(part.name != override.name for part in here):
                here.append(replace(override, grid=provision))
    for grant in held.grants:
        if _holds(grant.start, grant.end, now):
            part = _Part(Source.GRANT, str(grant.grant_id), grant.value)
            found.setdefault(grant.feature_code, []).append(part)
    found |= {code: [part] for code, part in alone.items()}
    return {
        code: sorted(parts, key=lambda part: PRECEDENCE[part.source])
        for code, parts in found.items()
    }


def _combined(feature: Feature, parts: Sequence[_Part], held: Holdings) -> Entitlement:
    granted = [part for part in parts if not part.value.disabled and part.times > 0]
    config = ""
    limits: tuple[EffectiveLimit, ...] = ()
    match feature.kind:
        case FeatureKind.BOOLEAN:
            pass
        case FeatureKind.CONFIG:
            config = _merged(feature.merge, granted)
        case FeatureKind.METERED:
            limits = _limits(granted, held)
        case _:
            assert_never(feature.kind)
    origins = tuple(dict.fromkeys((part.source, part.name) for part in parts))
    return Entitlement(feature, bool(granted), config, limits, origins)


def _merged(merge: Merge, granted: Sequence[_Part]) -> str:
    if not granted:
        return ""
    match merge:
        case Merge.REPLACE:
            return granted[0].value.config
        case Merge.MAX:
            return format_decimal(max(Decimal(part.value.config) for part in granted))
        case Merge.SUM:
            numbers = (Decimal(part.value.config) * part.times for part in granted)
            return format_decimal(sum(numbers, Decimal(0)))
        case _:
            assert_never(merge)


_Window = tuple[Reset, Every | None, int]


def _limits(granted: Sequence[_Part], held: Holdings) -> tuple[EffectiveLimit, ...]:
    """Limits of the same window add up; those of different windows stand beside each other."""
    sums: dict[_Window, EffectiveLimit] = {}
    unlimited: set[_Window] = set()
    # From the lowest precedence up, so that what a grant adds falls into the plan's window.
    for part in reversed(granted):
        for limit in part.value.limits:
            window = _window_of(limit, part, sums, unlimited)
            if limit.quantity is None:
                unlimited.add(window)
                continue
            quantity = limit.quantity * part.times
            present = sums.get(window)
            if present is None:
                sums[window] = _effective(window, quantity, limit.enforcement, part, held)
                continue
            soft = Enforcement.SOFT in (present.enforcement, limit.enforcement)
            sums[window] = replace(
                present,
                quantity=present.quantity + quantity,
                enforcement=Enforcement.SOFT if soft else Enforcement.HARD,
            )
    boundless = any(not part.value.limits for part in granted)
    if boundless:
        return ()
    return tuple(limit for window, limit in sums.items() if window not in unlimited)


def _window_of(
    limit: Limit, part: _Part, sums: Iterable[_Window], unlimited: Iterable[_Window]
) -> _Window:
    if limit.reset is None:
        for window in (*sums, *unlimited):
            return window
    reset = limit.reset or Reset.BILLING
    match reset:
        case Reset.BILLING:
            if part.grid is None:
                # Without a subscription there is no grid but the calendar's.
                return Reset.CALENDAR, limit.every or MONTH, 0
            return reset, limit.every or part.grid.every, 0
        case Reset.CALENDAR:
            return reset, limit.every or MONTH, 0
        case Reset.ROLLING:
            return reset, None, limit.rolling_seconds
        case Reset.NEVER:
            return reset, None, 0
        case _:
            assert_never(reset)


def _effective(
    window: _Window, quantity: Decimal, enforcement: Enforcement, part: _Part, held: Holdings
) -> EffectiveLimit:
    reset, every, rolling = window
    anchor: datetime | None = None
    time_zone = held.time_zone
    if reset is Reset.BILLING:
        assert part.grid is not None
        anchor, time_zone = part.grid.anchor, part.grid.time_zone
    elif reset is Reset.CALENDAR:
        assert every is not None
        anchor = unit_floor(held.create_time, every, parse_zone(time_zone))
    return EffectiveLimit(quantity, enforcement, reset, anchor, every, time_zone, rolling)


def _holds(start: datetime, end: datetime | None, now: datetime) -> bool:
    return start <= now and (end is None or now < end)


def _next_change(held: Holdings, now: datetime) -> datetime | None:
    stretches: tuple[Provision | Override | Grant, ...] = (
        *held.provisions,
        *held.overrides,
        *held.grants,
    )
    instants = [one.start for one in stretches]
    instants += [one.end for one in stretches if one.end is not None and one.end > one.start]
    return min((instant for instant in instants if instant > now), default=None)
