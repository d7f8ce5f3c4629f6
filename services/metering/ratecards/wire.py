"""Rate cards as invoicing sends them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from uuid import UUID

from google.protobuf.json_format import MessageToDict

from chassis.wire import find_time, parse_time
from kernel.errors import InvalidValue
from kernel.ids import derived_id
from kernel.period import Every, Unit, parse_zone
from metering.limits.domain import FIRST_INSTANT, Limit, Reset
from metering.ratecards.domain import PRICINGS_MAX, Entry, Pricing, RateCard
from rating import parse_price, render_price
from rating.exact import parse_number
from tollgate.invoicing.v1 import catalog_pb2
from tollgate.type.v1 import price_pb2

_NAMESPACE = UUID("6f1d2a52-3c1f-5d84-9d39-6d1f2f6f0c11")
_UNITS = {
    catalog_pb2.INTERVAL_UNIT_UNSPECIFIED: Unit.MONTH,
    catalog_pb2.INTERVAL_UNIT_DAY: Unit.DAY,
    catalog_pb2.INTERVAL_UNIT_WEEK: Unit.WEEK,
    catalog_pb2.INTERVAL_UNIT_MONTH: Unit.MONTH,
    catalog_pb2.INTERVAL_UNIT_YEAR: Unit.YEAR,
}


_RESETS = {
    catalog_pb2.LIMIT_RESET_BILLING: Reset.GRID,
    catalog_pb2.LIMIT_RESET_CALENDAR: Reset.GRID,
    catalog_pb2.LIMIT_RESET_ROLLING: Reset.ROLLING,
    catalog_pb2.LIMIT_RESET_NEVER: Reset.NEVER,
}


def parse_rate_card(message: catalog_pb2.RateCard) -> RateCard:
    """One customer's card; raises InvalidValue where invoicing sends what cannot be used."""
    entries: dict[str, tuple[Entry, ...]] = {}
    assets = set()
    for index, inner in enumerate(message.entries):
        try:
            entry = _parse_entry(inner)
        except InvalidValue as error:
            raise error.inside(f"rate_card.entries[{index}]") from None
        entries[entry.meter] = (*entries.get(entry.meter, ()), entry)
        if entry.from_wallet:
            assets.add(entry.pricing.price.asset)
    return RateCard(
        customer_id=message.customer_id,
        version=message.version,
        suspended=message.suspended,
        features=frozenset(message.features),
        entries=entries,
        wallet_assets=frozenset(assets),
        limits=_parse_limits(message.entitlements),
        valid_until=find_time(message, "valid_until_time"),
    )


def _parse_limits(
    entitlements: Iterable[catalog_pb2.Entitlement],
) -> dict[str, tuple[Limit, ...]]:
    """The limits of what is granted, by meter."""
    limits: dict[str, tuple[Limit, ...]] = {}
    for entitlement in entitlements:
        if not entitlement.enabled or entitlement.kind != catalog_pb2.FEATURE_KIND_METERED:
            continue
        for message in entitlement.limits:
            limit = _parse_limit(entitlement, message)
            limits[limit.meter] = (*limits.get(limit.meter, ()), limit)
    return limits


def _parse_limit(
    entitlement: catalog_pb2.Entitlement, message: catalog_pb2.EffectiveLimit
) -> Limit:
    reset = _RESETS[message.reset]
    is_grid = reset is Reset.GRID
    return Limit(
        feature=entitlement.feature_code,
        meter=entitlement.meter,
        quantity=parse_number(message.quantity, "limit.quantity"),
        is_hard=message.enforcement != catalog_pb2.LIMIT_ENFORCEMENT_SOFT,
        reset=reset,
        anchor=parse_time(message, "anchor_time") if is_grid else FIRST_INSTANT,
        every=Every(message.interval.count or 1, _UNITS[message.interval.unit])
        if is_grid
        else None,
        zone=parse_zone(message.time_zone or "UTC"),
        seconds=message.rolling_seconds,
    )


def _parse_entry(message: catalog_pb2.RateCardEntry) -> Entry:
    time_zone = message.time_zone or "UTC"
    return Entry(
        price_id=message.price_id,
        subscription_item_id=message.subscription_item_id,
        plan_code=message.plan_code,
        meter=message.meter,
        dimensions=tuple(sorted(message.dimensions.items())),
        pricing=pricing_of_message(message.pricing.SerializeToString(deterministic=True)),
        from_wallet=message.settlement == catalog_pb2.SETTLEMENT_WALLET,
        anchor=parse_time(message, "anchor_time"),
        every=Every(message.interval.count or 1, _UNITS[message.interval.unit]),
        zone=parse_zone(time_zone),
        time_zone=time_zone,
        start=parse_time(message, "start_time"),
        end=find_time(message, "end_time"),
    )


@lru_cache(maxsize=PRICINGS_MAX)
def pricing_of_message(content: bytes) -> Pricing:
    """A price from its serialized message. Raises InvalidValue."""
    message = price_pb2.Price.FromString(content)
    document = MessageToDict(message, preserving_proto_field_name=True)
    price = parse_price(document, "pricing")
    canonical = json.dumps(render_price(price), sort_keys=True, separators=(",", ":"))
    return Pricing.of(derived_id(_NAMESPACE, canonical), canonical, price)
