"""Questions about usage between protobuf and the domain."""

from __future__ import annotations

import json
from collections.abc import Sequence

from chassis.wire import parse_member, parse_text, parse_time, render_time
from kernel.errors import InvalidValue
from kernel.money import format_atoms
from kernel.period import Period, parse_zone
from metering.events.domain.event import BatchTooLarge
from metering.events.wire import ID_MAX
from metering.meters.domain import DIMENSIONS_MAX
from metering.meters.wire import PROPERTY_NAME_MAX, parse_code
from metering.queries.domain import Window
from metering.queries.operations import PeriodKey, PeriodUsage, Question, QuietPrice, window_of
from metering.queries.store import UsageRow
from metering.ratecards.wire import pricing_of_message
from metering.usage.domain import text_of
from tollgate.metering.v1 import usage_pb2
from tollgate.type.v1 import amount_pb2, price_pb2

NAMES_MAX = 1_000
KEYS_MAX = 1_000

WINDOWS = {
    usage_pb2.USAGE_WINDOW_UNSPECIFIED: Window.WHOLE,
    usage_pb2.USAGE_WINDOW_HOUR: Window.HOUR,
    usage_pb2.USAGE_WINDOW_DAY: Window.DAY,
    usage_pb2.USAGE_WINDOW_MONTH: Window.MONTH,
}


def parse_question(request: usage_pb2.QueryUsageRequest) -> Question:
    """A question about usage; raises InvalidValue naming the field."""
    if len(request.customer_ids) > NAMES_MAX:
        raise BatchTooLarge("customer_ids", NAMES_MAX, len(request.customer_ids))
    if len(request.meters) > NAMES_MAX:
        raise BatchTooLarge("meters", NAMES_MAX, len(request.meters))
    if len(request.group_by) > DIMENSIONS_MAX:
        raise InvalidValue("group_by", f"more than {DIMENSIONS_MAX} dimensions")
    if not request.HasField("interval"):
        raise InvalidValue("interval", "is required")
    time_zone = request.time_zone or "UTC"
    return Question(
        customer_ids=[
            parse_text(name, f"customer_ids[{index}]", maximum=ID_MAX)
            for index, name in enumerate(request.customer_ids)
        ],
        meters=[parse_code(code, f"meters[{i}]") for i, code in enumerate(request.meters)],
        interval=parse_interval(request.interval, "interval"),
        window=parse_member(request.window, WINDOWS, "window"),
        time_zone=time_zone,
        zone=parse_zone(time_zone),
        group_by=[
            parse_text(name, f"group_by[{index}]", maximum=PROPERTY_NAME_MAX)
            for index, name in enumerate(request.group_by)
        ],
    )


def parse_interval(message: amount_pb2.Interval, field: str) -> Period:
    """A half-open stretch of time."""
    try:
        return Period(parse_time(message, "start_time"), parse_time(message, "end_time"))
    except InvalidValue as error:
        raise error.inside(field) from None


def parse_period_keys(request: usage_pb2.GetPeriodUsageRequest) -> list[PeriodKey]:
    """The items and periods asked for."""
    count = len(request.keys)
    if not count:
        raise InvalidValue("keys", "is required; takes 1 to 1000 keys")
    if count > KEYS_MAX:
        raise BatchTooLarge("keys", KEYS_MAX, count)
    keys = []
    for index, key in enumerate(request.keys):
        field = f"keys[{index}]"
        keys.append(
            PeriodKey(
                parse_text(key.customer_id, f"{field}.customer_id", maximum=ID_MAX),
                parse_text(key.subscription_item_id, f"{field}.subscription_item_id"),
                parse_text(key.price_id, f"{field}.price_id"),
                parse_interval(key.period, f"{field}.period"),
                _parse_quiet(key, field),
            )
        )
    return keys


def _parse_quiet(key: usage_pb2.PeriodKey, field: str) -> QuietPrice | None:
    """What is to be known of a price in whose period nothing happened."""
    if not key.meter or not key.HasField("pricing"):
        return None
    time_zone = key.time_zone or "UTC"
    parse_zone(time_zone)
    in_force = key.in_force if key.HasField("in_force") else key.period
    try:
        pricing = pricing_of_message(key.pricing.SerializeToString(deterministic=True))
    except InvalidValue as error:
        raise error.inside(field) from None
    return QuietPrice(
        parse_code(key.meter, f"{field}.meter"),
        tuple(sorted(key.dimensions.items())),
        parse_interval(in_force, f"{field}.in_force"),
        time_zone,
        pricing,
    )


def render_rows(rows: Sequence[UsageRow], question: Question) -> list[usage_pb2.UsageRow]:
    """Figures as they are answered."""
    return [
        usage_pb2.UsageRow(
            customer_id=row.customer_id,
            meter=row.meter,
            window=render_interval(window_of(row, question)),
            group=dict(zip(question.group_by, json.loads(row.group), strict=True)),
            quantity=row.quantity,
            events=row.event_count,
        )
        for row in rows
    ]


def render_interval(period: Period) -> amount_pb2.Interval:
    """A half-open stretch of time."""
    return amount_pb2.Interval(
        start_time=render_time(period.start), end_time=render_time(period.end)
    )


def render_period_usage(usage: PeriodUsage) -> usage_pb2.PeriodUsage:
    """What was counted and charged. Without usage there is no asset to name."""
    running = usage.running
    if running is None:
        return usage_pb2.PeriodUsage(
            usage=price_pb2.RatingUsage(quantity="0", event_count=0),
            charged=amount_pb2.Amount(value="0"),
        )
    rated = price_pb2.RatingUsage()
    if usage.events is None:
        rated.quantity = text_of(running.quantity)
        rated.event_count = running.event_count
    else:
        for event in usage.events:
            # A price of amounts or costs takes the meter's value as the amount or cost.
            text = text_of(event.quantity)
            rated.events.add(
                quantity=text,
                amount=text,
                cost=text,
                properties=event.properties,
                window=event.window,
                time=event.time.isoformat() if event.time is not None else "",
            )
    share = running.stretch.share
    if share != 1:
        rated.share = text_of(share)
    charged = format_atoms(running.asked - running.shortfall, running.scale)
    return usage_pb2.PeriodUsage(
        usage=rated,
        charged=amount_pb2.Amount(asset=running.asset, value=charged),
        events_pending=usage.events_pending,
    )
