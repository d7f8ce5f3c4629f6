"""Making usage events: ids that rise with time, exact quantities, and nothing left out."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp

from tollgate.metering.v1 import event_pb2, gate_pb2
from tollgate.type.v1 import amount_pb2

Properties = Mapping[str, "str | int | Decimal"]

LATE_PROPERTY = "tollgate_late"
"""Marks usage that is charged without the authorization it should have had; says why."""
GATE_AWAY = "gate_away"
"""Value of LATE_PROPERTY: it was allowed by the caller's choice while the gate was away."""
AUTHORIZATION_EXPIRED = "authorization_expired"
"""Value of LATE_PROPERTY: its report reached metering after the authorization's time was over."""

PROPERTIES_MAX = 49  # metering takes 50; one place is kept for LATE_PROPERTY


def new_event_id() -> str:
    """A version 7 UUID (RFC 9562 §5.7): ids that rise with time keep metering's indexes cheap."""
    value = time.time_ns() // 1_000_000 << 80
    value |= 0x7 << 76
    value |= secrets.randbits(12) << 64
    value |= 0b10 << 62
    value |= secrets.randbits(62)
    return str(uuid.UUID(int=value))


def make_event(
    name: str,
    customer_id: str,
    properties: Properties | None = None,
    *,
    subject: str = "",
    event_time: datetime | None = None,
    event_id: str = "",
    authorization_id: str = "",
    node: str = "",
) -> event_pb2.Event:
    """An event. Quantities are int, Decimal or decimal strings; a float raises TypeError.

    `event_time` must have a zone; without one the machine's present time is taken, and without an
    `event_id` a UUIDv7. Metering takes at most 50 properties of at most 512 characters each.
    """
    event = event_pb2.Event(
        event_id=event_id,
        name=name,
        customer_id=customer_id,
        subject=subject,
        properties=render_properties(properties or {}),
        authorization_id=authorization_id,
        node=node,
    )
    if event_time is not None:
        event.event_time.CopyFrom(_render_time(event_time))
    return completed(event)


def make_estimate(name: str, properties: Properties | None = None) -> gate_pb2.UsageEstimate:
    """The usage that is expected, in the form of the event that will report it."""
    return gate_pb2.UsageEstimate(name=name, properties=render_properties(properties or {}))


def make_amount(value: str | int | Decimal, asset: str) -> amount_pb2.Amount:
    """An exact amount of one asset, for example `make_amount("0.25", "USD")`."""
    return amount_pb2.Amount(asset=asset, value=_render_value("amount", value))


def render_properties(properties: Properties) -> dict[str, str]:
    """Properties as exact decimal strings and text. Raises TypeError or ValueError."""
    return {name: _render_value(name, value) for name, value in properties.items()}


def completed(event: event_pb2.Event) -> event_pb2.Event:
    """A copy of the event, with an id and a time where it has none."""
    copy = event_pb2.Event()
    copy.CopyFrom(event)
    if not copy.event_id:
        copy.event_id = new_event_id()
    if not copy.HasField("event_time"):
        copy.event_time.CopyFrom(_render_time(datetime.now(UTC)))
    return copy


def late_form(event: event_pb2.Event, why: str) -> event_pb2.Event:
    """The same event without its authorization, marked as late."""
    late = event_pb2.Event()
    late.CopyFrom(event)
    late.authorization_id = ""
    late.authorization_continues = False
    late.properties[LATE_PROPERTY] = why
    return late


def _render_value(name: str, value: str | int | Decimal) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            if not value.is_finite():
                raise ValueError(f"{name}: {value} is not a quantity")
            return format(value, "f")
    raise TypeError(f"{name}: {value!r} is not exact; pass an int, a Decimal or a decimal string")


def _render_time(instant: datetime) -> Timestamp:
    if instant.tzinfo is None:
        raise ValueError(f"event_time: {instant} has no time zone")
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp
