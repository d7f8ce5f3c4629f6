"""Plans, prices and rate cards as messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from chassis.wire import parse_member, parse_text, render_time
from invoicing.catalog.domain import (
    CardEntry,
    PlanKind,
    PlanPrice,
    PlanVersion,
    PriceKind,
    RateCard,
    Settlement,
    Timing,
    Trial,
    TrialEnd,
    VersionState,
    check_prices,
)
from invoicing.entitlements.wire import (
    parse_entitlements,
    render_entitlement,
    render_plan_entitlement,
)
from invoicing.wire import CODE_MAX, METER_CODE, parse_code, parse_interval, render_interval
from kernel.errors import InvalidValue
from kernel.ids import new_id
from kernel.money import format_decimal, parse_decimal
from tollgate.invoicing.v1 import catalog_pb2 as pb
from tollgate.type.v1 import price_pb2

PRICES_MAX = 200  # an invoice with more lines per plan is nobody's reading
FEATURES_MAX = 200
DIMENSIONS_MAX = 10  # as many as a meter may have
DIMENSION_TEXT_MAX = 128
RENDERED_MAX = 4_096  # pricings kept as messages; a large ladder takes some kilobytes

COMPATIBLE_MAX = 200
CURRENCIES_MAX = 50

PLAN_KINDS = {
    pb.PLAN_KIND_UNSPECIFIED: PlanKind.PLAN,
    pb.PLAN_KIND_PLAN: PlanKind.PLAN,
    pb.PLAN_KIND_ADD_ON: PlanKind.ADD_ON,
}
TRIAL_ENDS = {
    pb.TRIAL_END_UNSPECIFIED: TrialEnd.CONVERT,
    pb.TRIAL_END_CONVERT: TrialEnd.CONVERT,
    pb.TRIAL_END_CANCEL: TrialEnd.CANCEL,
    pb.TRIAL_END_PAUSE: TrialEnd.PAUSE,
}
RENDERED_TRIAL_ENDS = {end: number for number, end in TRIAL_ENDS.items() if number}
RENDERED_PLAN_KINDS = {kind: number for number, kind in PLAN_KINDS.items() if number}
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
    kind = parse_member(message.kind, PLAN_KINDS, "plan.kind")
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
        kind=kind,
        quantity_max=_parse_quantity_max(message, kind),
        compatible_plans=_parse_compatible(message, kind),
        trial=_parse_plan_trial(message, kind),
        entitlements=parse_entitlements(
            message.entitlements,
            "plan.entitlements",
            {price.code for price in prices if price.kind is PriceKind.SEAT},
        ),
    )


def _parse_quantity_max(message: pb.Plan, kind: PlanKind) -> Decimal | None:
    if not message.quantity_max:
        return None
    quantity = parse_decimal(message.quantity_max, "plan.quantity_max")
    if kind is not PlanKind.ADD_ON or not quantity:
        raise InvalidValue("plan.quantity_max", "is for an ADD_ON, and above zero")
    return quantity


def _parse_compatible(message: pb.Plan, kind: PlanKind) -> tuple[str, ...]:
    if message.compatible_plans and kind is not PlanKind.ADD_ON:
        raise InvalidValue("plan.compatible_plans", "is for an ADD_ON")
    if len(message.compatible_plans) > COMPATIBLE_MAX:
        raise InvalidValue("plan.compatible_plans", f"takes at most {COMPATIBLE_MAX} codes")
    return tuple(
        parse_code(code, f"plan.compatible_plans[{index}]")
        for index, code in enumerate(message.compatible_plans)
    )


def _parse_plan_trial(message: pb.Plan, kind: PlanKind) -> Trial | None:
    if not message.HasField("trial"):
        return None
    if kind is PlanKind.ADD_ON:
        raise InvalidValue("plan.trial", "an add-on shares the trial of its plan")
    return parse_trial(message.trial, "plan.trial")


def parse_trial(message: pb.Trial, field: str) -> Trial:
    if not message.HasField("length"):
        raise InvalidValue(f"{field}.length", "is needed")
    if message.usage not in pb.TrialUsage.values():
        raise InvalidValue(f"{field}.usage", f"{message.usage} is not known")
    if message.anchor_from not in pb.TrialAnchor.values():
        raise InvalidValue(f"{field}.anchor_from", f"{message.anchor_from} is not known")
    return Trial(
        length=parse_interval(message.length, f"{field}.length"),
        requires_payment_method=message.requires_payment_method,
        end=parse_member(message.end, TRIAL_ENDS, f"{field}.end"),
        is_usage_charged=message.usage == pb.TRIAL_USAGE_CHARGED,
        keeps_anchor=message.anchor_from == pb.TRIAL_ANCHOR_START,
        is_once=not message.repeatable,
    )


def render_trial(trial: Trial) -> pb.Trial:
    return pb.Trial(
        length=render_interval(trial.length),
        requires_payment_method=trial.requires_payment_method,
        end=RENDERED_TRIAL_ENDS[trial.end],
        usage=pb.TRIAL_USAGE_CHARGED if trial.is_usage_charged else pb.TRIAL_USAGE_FREE,
        anchor_from=pb.TRIAL_ANCHOR_START if trial.keeps_anchor else pb.TRIAL_ANCHOR_TRIAL_END,
        repeatable=not trial.is_once,
    )


def _parse_currencies(
    messages: Sequence[price_pb2.Price], asset: str, field: str
) -> dict[str, dict[str, Any]]:
    if len(messages) > CURRENCIES_MAX:
        raise InvalidValue(field, f"takes at most {CURRENCIES_MAX}")
    found: dict[str, dict[str, Any]] = {}
    for index, message in enumerate(messages):
        if message.asset in found or message.asset == asset:
            raise InvalidValue(f"{field}[{index}].asset", f"{message.asset!r} is there twice")
        found[message.asset] = document_of(message)
    return found


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
        every=(
            parse_interval(message.interval, f"{field}.interval")
            if message.HasField("interval")
            else None
        ),
        currency_pricings=_parse_currencies(
            message.currency_pricings, message.pricing.asset, f"{field}.currency_pricings"
        ),
    )
    check_prices(price, field)
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
    return render_document(json.dumps(price.document, sort_keys=True))


@lru_cache(maxsize=RENDERED_MAX)
def render_document(document: str) -> price_pb2.Price:
    """A pricing document as a message: rate cards render the same ones for every customer."""
    message = price_pb2.Price()
    json_format.ParseDict(json.loads(document), message)
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
        kind=RENDERED_PLAN_KINDS[plan.kind],
        quantity_max="" if plan.quantity_max is None else format_decimal(plan.quantity_max),
        compatible_plans=plan.compatible_plans,
        trial=None if plan.trial is None else render_trial(plan.trial),
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
        interval=None if price.every is None else render_interval(price.every),
        currency_pricings=[
            render_document(json.dumps(document, sort_keys=True))
            for document in price.currency_pricings.values()
        ],
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
