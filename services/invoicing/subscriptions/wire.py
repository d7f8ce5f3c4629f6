"""Subscriptions as messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from chassis.wire import find_time, parse_count, parse_member, render_time
from invoicing.customers.wire import parse_customer_id
from invoicing.subscriptions.domain import AnchorMode, Subscription, SubscriptionState
from invoicing.subscriptions.operations import Wish
from invoicing.wire import parse_code
from kernel.errors import InvalidValue
from kernel.money import format_decimal, parse_decimal
from tollgate.invoicing.v1 import subscription_pb2 as pb

VERSION_MAX = 2**31 - 1
SEATS_MAX = Decimal(1_000_000_000)  # more seats than there are people who could sit on them

ANCHOR_MODES = {
    pb.ANCHOR_MODE_UNSPECIFIED: AnchorMode.ANNIVERSARY,
    pb.ANCHOR_MODE_ANNIVERSARY: AnchorMode.ANNIVERSARY,
    pb.ANCHOR_MODE_CALENDAR: AnchorMode.CALENDAR,
}
STATES = {
    SubscriptionState.SCHEDULED: pb.SUBSCRIPTION_STATE_SCHEDULED,
    SubscriptionState.ACTIVE: pb.SUBSCRIPTION_STATE_ACTIVE,
    SubscriptionState.ENDED: pb.SUBSCRIPTION_STATE_ENDED,
}


def parse_wish(request: pb.CreateSubscriptionRequest) -> Wish:
    return Wish(
        customer_id=parse_customer_id(request.customer_id),
        plan_code=parse_code(request.plan_code, "plan_code"),
        plan_version=parse_count(
            request.plan_version, "plan_version", minimum=0, maximum=VERSION_MAX
        ),
        quantities=_parse_quantities(request.items),
        start_time=find_time(request, "start_time"),
        anchor_mode=parse_member(request.anchor_mode, ANCHOR_MODES, "anchor_mode"),
    )


def _parse_quantities(items: Sequence[pb.SubscriptionItem]) -> dict[str, Decimal]:
    quantities: dict[str, Decimal] = {}
    for index, item in enumerate(items):
        code = parse_code(item.price_code, f"items[{index}].price_code")
        if code in quantities:
            raise InvalidValue(f"items[{index}].price_code", f"{code!r} is there twice")
        quantity = parse_decimal(item.quantity or "1", f"items[{index}].quantity")
        if quantity > SEATS_MAX:
            raise InvalidValue(f"items[{index}].quantity", f"is above {SEATS_MAX}")
        quantities[code] = quantity
    return quantities


def render_subscription(subscription: Subscription, now: datetime) -> pb.Subscription:
    message = pb.Subscription(
        subscription_id=str(subscription.subscription_id),
        customer_id=subscription.customer_id,
        plan_code=subscription.plan_code,
        plan_version=subscription.plan_version,
        items=[
            pb.SubscriptionItem(
                subscription_item_id=str(item.subscription_item_id),
                price_code=item.price.code,
                quantity=format_decimal(item.quantity),
            )
            for item in subscription.items
        ],
        start_time=render_time(subscription.start_time),
        anchor_time=render_time(subscription.anchor_time),
        time_zone=subscription.time_zone,
        state=STATES[subscription.state(now)],
        create_time=render_time(subscription.create_time),
    )
    if subscription.end_time is not None:
        message.end_time.CopyFrom(render_time(subscription.end_time))
    return message
