"""Budgets on the wire: trees, caps, and the messages that leave with a debit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from chassis.messages import Outgoing
from chassis.wire import (
    find_time,
    parse_asset_code,
    parse_count,
    parse_member,
    parse_text,
    render_time,
)
from kernel.errors import InvalidValue, NotFound
from kernel.money import format_atoms
from kernel.period import parse_zone
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import budget_pb2, messages_pb2
from tollgate.wallet.v1 import budget_service_pb2 as pb
from wallet.budgets.domain.caps import Cap
from wallet.budgets.domain.counting import Alert
from wallet.budgets.domain.windows import (
    COUNT_MAX,
    ROLLING_MAX,
    ROLLING_MIN,
    CalendarUnit,
    CalendarWindow,
    RollingWindow,
    Window,
    first_anchor,
)
from wallet.budgets.store import Node
from wallet.ledger.wire import CODE_MAX, parse_customer, parse_node, parse_value

BUDGET_ALERT = "wallet.budget_alert"
PERCENTS_MAX, PERCENT_MAX = 10, 1_000
PERCENTS_DEFAULT = (100,)
UNITS = {int(unit): unit for unit in CalendarUnit}
HARD = {
    budget_pb2.CAP_ENFORCEMENT_UNSPECIFIED: True,
    budget_pb2.CAP_ENFORCEMENT_HARD: True,
    budget_pb2.CAP_ENFORCEMENT_SOFT: False,
}


def parse_key(text: str, field: str) -> str:
    """Key of a node, 1 to 128 characters."""
    if not text:
        raise InvalidValue(field, "is required")
    return parse_node(text, field)


def parse_new_node(request: pb.PutNodeRequest, now: datetime) -> Node:
    """A node to put; its path is found from its parent's."""
    key = parse_key(request.key, "key")
    return Node(
        customer_id=parse_customer(request.customer_id),
        key=key,
        parent_key=parse_node(request.parent_key, "parent_key"),
        name=parse_text(request.name, "name", minimum=0),
        path=(key,),
        create_time=now,
    )


def parse_cap(
    request: pb.PutCapRequest,
    tenant_id: UUID,
    scales: Mapping[str, int],
    cap_id: str,
    now: datetime,
) -> Cap:
    """A cap to put. Raises InvalidValue naming the field, NotFound for an unknown asset."""
    message = request.cap
    asset = parse_asset_code(message.limit.asset, "cap.limit.asset")
    if asset not in scales:
        raise NotFound("asset", asset)
    if message.enforcement not in HARD:
        raise InvalidValue("cap.enforcement", f"{message.enforcement} is not known")
    return Cap(
        tenant_id=str(tenant_id),
        customer_id=parse_customer(request.customer_id),
        node=parse_key(request.node_key, "node_key"),
        cap_id=cap_id,
        asset=asset,
        scale=scales[asset],
        meter=parse_text(message.meter, "cap.meter", minimum=0, maximum=CODE_MAX),
        limit=parse_value(message.limit.value, scales[asset], "cap.limit.value", True),
        hard=HARD[message.enforcement],
        window=parse_window(message),
        percents=_parse_percents(message.alert_percents),
        create_time=now,
    )


def parse_window(message: budget_pb2.SpendCap) -> Window:
    """Calendar or rolling; one of both must be there."""
    kind = message.WhichOneof("window")
    if kind == "calendar":
        calendar = message.calendar
        zone = calendar.time_zone or "UTC"
        parse_zone(zone, "cap.calendar.time_zone")
        return CalendarWindow(
            unit=parse_member(calendar.unit, UNITS, "cap.calendar.unit"),
            count=parse_count(
                calendar.count, "cap.calendar.count", minimum=1, maximum=COUNT_MAX, default=1
            ),
            time_zone=zone,
            anchor=find_time(calendar, "anchor_time") or first_anchor(zone),
        )
    if kind == "rolling":
        length = timedelta(seconds=0)
        if abs(message.rolling.seconds) <= ROLLING_MAX.total_seconds():
            length = timedelta(seconds=message.rolling.seconds)
        if message.rolling.nanos or not ROLLING_MIN <= length <= ROLLING_MAX:
            raise InvalidValue("cap.rolling", "takes whole seconds, 1 minute to 366 days")
        return RollingWindow(length)
    raise InvalidValue("cap.window", "one of calendar and rolling is required")


def _parse_percents(values: Sequence[int]) -> tuple[int, ...]:
    if len(values) > PERCENTS_MAX or any(not 1 <= value <= PERCENT_MAX for value in values):
        raise InvalidValue("cap.alert_percents", "takes at most 10 values of 1 to 1000")
    return tuple(sorted(set(values))) or PERCENTS_DEFAULT


def render_node(node: Node) -> budget_pb2.BudgetNode:
    return budget_pb2.BudgetNode(
        customer_id=node.customer_id,
        key=node.key,
        parent_key=node.parent_key,
        name=node.name,
        path=node.path,
        create_time=render_time(node.create_time),
    )


def render_budget(cap: Cap, now: datetime) -> budget_pb2.Budget:
    """A cap as it stands at an instant."""
    start, end = cap.window.bounds_at(now)
    leave = cap.next_leave(now)
    return budget_pb2.Budget(
        node_key=cap.node,
        cap=_render_cap(cap),
        spent=format_atoms(cap.spent(now), cap.scale),
        held=format_atoms(cap.held, cap.scale),
        left=format_atoms(max(0, cap.left(now)), cap.scale),
        window_start_time=render_time(start),
        window_end_time=render_time(end),
        next_reset_time=render_time(leave) if leave else None,
    )


def _render_cap(cap: Cap) -> budget_pb2.SpendCap:
    message = budget_pb2.SpendCap(
        cap_id=cap.cap_id,
        limit=amount_pb2.Amount(asset=cap.asset, value=format_atoms(cap.limit, cap.scale)),
        meter=cap.meter,
        enforcement=(
            budget_pb2.CAP_ENFORCEMENT_HARD if cap.hard else budget_pb2.CAP_ENFORCEMENT_SOFT
        ),
        alert_percents=cap.percents,
    )
    if isinstance(cap.window, RollingWindow):
        message.rolling.CopyFrom(Duration(seconds=int(cap.window.length.total_seconds())))
    else:
        message.calendar.unit = budget_pb2.CalendarUnit.ValueType(int(cap.window.unit))
        message.calendar.count = cap.window.count
        message.calendar.time_zone = cap.window.time_zone
        message.calendar.anchor_time.CopyFrom(render_time(cap.window.anchor))
    return message


def render_alerts(alerts: Sequence[Alert]) -> list[Outgoing]:
    """The messages that leave in the transaction of the debit or hold that caused them."""
    return [_render_alert(alert) for alert in alerts]


def _render_alert(alert: Alert) -> Outgoing:
    cap = alert.cap
    message = messages_pb2.BudgetAlert(
        customer_id=cap.customer_id,
        node_key=cap.node,
        cap_id=cap.cap_id,
        limit=amount_pb2.Amount(asset=cap.asset, value=format_atoms(cap.limit, cap.scale)),
        spent=format_atoms(alert.spent, cap.scale),
        held=format_atoms(alert.held, cap.scale),
        percent=alert.percent,
        refused=alert.refused,
        next_reset_time=render_time(alert.next_leave) if alert.next_leave else None,
    )
    return Outgoing(UUID(cap.tenant_id), BUDGET_ALERT, message)
