"""Plans, prices and rate cards as messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf import json_format
from google.protobuf.message import Message

from chassis.wire import parse_member, parse_text, render_time
from invoicing.catalog.domain import (
    CardEntry,
    PlanPrice,
    PlanVersion,
    PriceKind,
    RateCard,
    Settlement,
    Timing,
    VersionState,
    check_price,
)
from invoicing.entitlements.wire import (
    parse_entitlements,
    render_entitlement,
    render_plan_entitlement,
)
from invoicing.wire import CODE_MAX, METER_CODE, parse_code, parse_interval, render_interval
from kernel.errors import InvalidValue
from kernel.ids import new_id
from tollgate.invoicing.v1 import catalog_pb2 as pb
from tollgate.type.v1 import price_pb2

PRICES_MAX = 200  # an invoice with more lines per plan is nobody's reading
FEATURES_MAX = 200
DIMENSIONS_MAX = 10  # as many as a meter may have
DIMENSION_TEXT_MAX = 128
RENDERED_MAX = 4_096  # pricings kept as messages; a large ladder takes some kilobytes

KINDS = {
    pb.PRICE_KIND_FIXED: PriceKind.FIXED,
    pb.PRICE_KIND_SEAT: PriceKind.SEAT,
    pb.PRICE_KIND_USAGE: PriceKind.USAGE,
}
SETTLEMENTS = {
    pb.SETTLEMENT_UNSPECIFIED: Settlement.INVOICE,
    pb.SETTLEMENT_INVOICE: Settlement.INVOICE,
    pb.SETTLEMENT_WALLET: Settlement.WALLET,
}
RENDERED_KINDS = {kind: number for number, kind in KINDS.items()}
RENDERED_SETTLEMENTS = {
    Settlement.INVOICE: pb.SETTLEMENT_INVOICE,
    Settlement.WALLET: pb.SETTLEMENT_WALLET,
}
RENDERED_TIMINGS = {
    Timing.ADVANCE: pb.BILLING_TIMING_ADVANCE,
    Timing.ARREARS: pb.BILLING_TIMING_ARREARS,
}
RENDERED_STATES = {
    VersionState.DRAFT: pb.PLAN_VERSION_STATE_DRAFT,
    VersionState.PUBLISHED: pb.PLAN_VERSION_STATE_PUBLISHED,
    VersionState.ARCHIVED: pb.PLAN_VERSION_STATE_ARCHIVED,
}

_RENDERED: dict[UUID, price_pb2.Price] = {}


def document_of(message: Message) -> dict[str, Any]:
    """A message as the document `rating` reads: the proto's own field names."""
    document: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return document


def parse_plan(message: pb.Plan, now: datetime) -> PlanVersion:
    """A draft; its version is given by the store."""
    if not 1 <= len(message.prices) <= PRICES_MAX:
        raise InvalidValue("plan.prices", f"takes 1 to {PRICES_MAX} prices")
    if len(message.features) > FEATURES_MAX:
        raise InvalidValue("plan.features", f"takes at most {FEATURES_MAX} codes")
    prices = tuple(
        parse_plan_price(price, f"plan.prices[{index}]", now)
        for index, price in enumerate(message.prices)
    )
    codes = [price.code for price in prices]
    for index, code in enumerate(codes):
        if code in codes[:index]:
            raise InvalidValue(f"plan.prices[{index}].code", f"{code!r} is there twice")
    return PlanVersion(
        code=parse_code(message.code, "plan.code"),
        version=0,
        name=parse_text(message.name, "plan.name"),
        state=VersionState.DRAFT,
        prices=prices,
        every=parse_interval(message.interval, "plan.interval"),
        features=tuple(
            parse_code(feature, f"plan.features[{index}]")
            for index, feature in enumerate(message.features)
        ),
        create_time=now,
        entitlements=parse_entitlements(
            message.entitlements,
            "plan.entitlements",
            {price.code for price in prices if price.kind is PriceKind.SEAT},
        ),
    )


def parse_plan_price(message: pb.PlanPrice, field: str, now: datetime) -> PlanPrice:
    kind = parse_member(message.kind, KINDS, f"{field}.kind")
    meter = message.meter
    if kind is PriceKind.USAGE:
        meter = parse_text(meter, f"{field}.meter", maximum=CODE_MAX, pattern=METER_CODE)
    elif meter or message.dimensions:
        raise InvalidValue(f"{field}.meter", "only a USAGE price has a meter and dimensions")
    settlement = parse_member(message.settlement, SETTLEMENTS, f"{field}.settlement")
    if kind is not PriceKind.USAGE and settlement is not Settlement.INVOICE:
        raise InvalidValue(f"{field}.settlement", "only USAGE is settled by wallets")
    price = PlanPrice(
        price_id=new_id(now),
        code=parse_code(message.code, f"{field}.code"),
        description=parse_text(message.description, f"{field}.description"),
        kind=kind,
        meter=meter,
        dimensions=_parse_dimensions(message.dimensions, f"{field}.dimensions"),
        document=document_of(message.pricing),
        settlement=settlement,
        timing=_parse_timing(message.timing, kind, f"{field}.timing"),
        tax_category=parse_code(message.tax_category or "standard", f"{field}.tax_category"),
    )
    check_price(price, field)
    return price


def _parse_timing(value: int, kind: PriceKind, field: str) -> Timing:
    if kind is PriceKind.USAGE:
        if value == pb.BILLING_TIMING_ADVANCE:
            raise InvalidValue(field, "usage is billed when it has been used")
        return Timing.ARREARS
    return parse_member(
        value or pb.BILLING_TIMING_ADVANCE,
        {number: timing for timing, number in RENDERED_TIMINGS.items()},
        field,
    )


def _parse_dimensions(values: Mapping[str, str], field: str) -> dict[str, str]:
    if len(values) > DIMENSIONS_MAX:
        raise InvalidValue(field, f"takes at most {DIMENSIONS_MAX} properties")
    return {
        parse_text(name, field, maximum=DIMENSION_TEXT_MAX): parse_text(
            value, f"{field}.{name}", minimum=0, maximum=DIMENSION_TEXT_MAX
        )
        for name, value in sorted(values.items())
    }


def render_pricing(price: PlanPrice) -> price_pb2.Price:
    """The pricing of a price; do not change it, for it is shared."""
    # A price never changes, and rate cards render the same ones for every customer.
    message = _RENDERED.get(price.price_id)
    if message is None:
        message = price_pb2.Price()
        json_format.ParseDict(dict(price.document), message)
        if len(_RENDERED) >= RENDERED_MAX:
            _RENDERED.clear()
        _RENDERED[price.price_id] = message
    return message


def render_plan(plan: PlanVersion) -> pb.Plan:
    message = pb.Plan(
        code=plan.code,
        name=plan.name,
        version=plan.version,
        state=RENDERED_STATES[plan.state],
        prices=[render_plan_price(price) for price in plan.prices],
        interval=render_interval(plan.every),
        features=plan.features,
        create_time=render_time(plan.create_time),
        entitlements=[render_plan_entitlement(one) for one in plan.entitlements],
    )
    if plan.publish_time is not None:
        message.publish_time.CopyFrom(render_time(plan.publish_time))
    return message


def render_plan_price(price: PlanPrice) -> pb.PlanPrice:
    return pb.PlanPrice(
        price_id=str(price.price_id),
        code=price.code,
        description=price.description,
        kind=RENDERED_KINDS[price.kind],
        meter=price.meter,
        dimensions=price.dimensions,
        pricing=render_pricing(price),
        settlement=RENDERED_SETTLEMENTS[price.settlement],
        timing=RENDERED_TIMINGS[price.timing],
        tax_category=price.tax_category,
    )


def render_rate_card(card: RateCard) -> pb.RateCard:
    message = pb.RateCard(
        customer_id=card.customer_id,
        version=card.version,
        known=card.known,
        suspended=card.suspended,
        time_zone=card.time_zone,
        entries=[render_card_entry(entry) for entry in card.entries],
        features=card.features,
        entitlements=[render_entitlement(one) for one in card.entitlements],
    )
    if card.valid_until is not None:
        message.valid_until_time.CopyFrom(render_time(card.valid_until))
    return message


def render_card_entry(entry: CardEntry) -> pb.RateCardEntry:
    price = entry.price
    message = pb.RateCardEntry(
        price_id=str(price.price_id),
        subscription_item_id=str(entry.subscription_item_id),
        plan_code=entry.plan_code,
        meter=price.meter,
        dimensions=price.dimensions,
        pricing=render_pricing(price),
        settlement=RENDERED_SETTLEMENTS[price.settlement],
        anchor_time=render_time(entry.anchor_time),
        interval=render_interval(entry.every),
        time_zone=entry.time_zone,
        start_time=render_time(entry.start_time),
    )
    if entry.end_time is not None:
        message.end_time.CopyFrom(render_time(entry.end_time))
    return message
