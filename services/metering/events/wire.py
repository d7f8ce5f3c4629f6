"""Events between protobuf and the domain."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from chassis.wire import parse_text, parse_time, parse_uuid, render_time
from kernel.cloud_events import (
    MappedEvent,
    is_json,
    map_attributes,
    map_event,
    read_data,
    read_events,
)
from kernel.errors import InvalidValue
from kernel.money import format_atoms
from metering.charging.domain import Refused
from metering.corrections.domain.revision import History
from metering.events.domain.event import (
    EVENTS_PER_CALL_MAX,
    PROPERTIES_MAX,
    PROPERTIES_TOTAL_MAX,
    PROPERTY_NAME_MAX,
    PROPERTY_VALUE_MAX,
    BatchTooLarge,
    Charge,
    Event,
    EventState,
    Outcome,
    check_time,
)
from tollgate.metering.v1 import event_pb2
from tollgate.type.v1 import amount_pb2, refusal_pb2

ID_MAX = 128

STATES = {
    EventState.ACCEPTED: event_pb2.EVENT_STATE_ACCEPTED,
    EventState.REJECTED: event_pb2.EVENT_STATE_REJECTED,
    EventState.PENDING: event_pb2.EVENT_STATE_PENDING,
    EventState.INVALID: event_pb2.EVENT_STATE_INVALID,
    EventState.PARKED: event_pb2.EVENT_STATE_PARKED,
    EventState.DEPRECATED: event_pb2.EVENT_STATE_DEPRECATED,
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_batch(count: int) -> None:
    """Raise unless a batch has 1 to 1000 events."""
    if not count:
        raise InvalidValue("events", "is required; takes 1 to 1000 events")
    if count > EVENTS_PER_CALL_MAX:
        raise BatchTooLarge("events", EVENTS_PER_CALL_MAX, count)


def parse_event(
    message: event_pb2.Event, field: str, now: datetime, *, bounded: bool = True
) -> Event:
    """One event; every fault names its field under `field`, such as "events[3].name". Unless
    `bounded`, it may be of any time: a backfill's."""
    event_id, name = message.event_id, message.name
    customer_id, subject = message.customer_id, message.subject
    if not (0 < len(event_id) <= ID_MAX and event_id.isprintable()):
        parse_text(event_id, f"{field}.event_id", maximum=ID_MAX)
    if not (0 < len(name) <= ID_MAX and name.isprintable()):
        parse_text(name, f"{field}.name", maximum=ID_MAX)
    if not (0 < len(customer_id) <= ID_MAX and customer_id.isprintable()):
        parse_text(customer_id, f"{field}.customer_id", maximum=ID_MAX)
    if subject:
        parse_text(subject, f"{field}.subject", maximum=ID_MAX)
    event_time = _event_time(message, field)
    if bounded:
        check_time(event_time, now, f"{field}.event_time")
    authorization_id: UUID | None = None
    if message.authorization_id:
        authorization_id = parse_uuid(message.authorization_id, f"{field}.authorization_id")
    properties = dict(message.properties)
    check_properties(properties, f"{field}.properties")
    event = Event(event_id, name, customer_id, subject, event_time, properties, authorization_id)
    if message.node or message.authorization_continues:
        event = _parse_more(event, message, field)
    return event


def _parse_more(event: Event, message: event_pb2.Event, field: str) -> Event:
    """What few events have. An authorization's own node counts, not that of its events."""
    parse_text(message.node, f"{field}.node", minimum=0, maximum=ID_MAX)
    continues = message.authorization_continues
    if event.authorization_id is not None:
        return event._replace(continues=continues)
    if continues:
        raise InvalidValue(f"{field}.authorization_continues", "needs an authorization_id")
    return event._replace(node=message.node)


def _event_time(message: event_pb2.Event, field: str) -> datetime:
    stamp = message.event_time
    seconds, nanos = stamp.seconds, stamp.nanos
    if not seconds or not 0 <= nanos < 1_000_000_000 or not 0 < seconds < 2**33:
        # The slow way names what is wrong with it.
        try:
            return parse_time(message, "event_time")
        except InvalidValue as error:
            raise error.inside(field) from None
    return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1_000)


def check_properties(properties: dict[str, str], field: str) -> None:
    """Raise unless there are at most 50 properties of a bounded size."""
    if len(properties) > PROPERTIES_MAX:
        raise InvalidValue(field, f"{len(properties)} properties; takes at most {PROPERTIES_MAX}")
    total = 0
    for name, value in properties.items():
        size = len(value)
        total += size + len(name)
        if not (0 < len(name) <= PROPERTY_NAME_MAX and name.isprintable()):
            parse_text(name, f"{field} name {name[:80]!r}", maximum=PROPERTY_NAME_MAX)
        if size > PROPERTY_VALUE_MAX:
            raise InvalidValue(
                f"{field}.{name}", f"{size} characters; takes at most {PROPERTY_VALUE_MAX}"
            )
        if not value.isprintable():
            raise InvalidValue(f"{field}.{name}", "holds control characters")
    if total > PROPERTIES_TOTAL_MAX:
        raise InvalidValue(field, f"{total} characters; takes at most {PROPERTIES_TOTAL_MAX}")


def read_cloud_events(
    request: event_pb2.IngestCloudEventsRequest,
) -> list[Callable[[], event_pb2.Event]]:
    """CloudEvents in either format, each to be mapped for itself. Raises InvalidValue where the
    whole cannot be read."""
    if request.json and request.events:
        raise InvalidValue("events", "stand beside json; send one of both")
    if request.json:
        documents = read_events(request.json, "json")
        return [
            partial(_usage_event, partial(map_event, document, f"events[{index}]"))
            for index, document in enumerate(documents)
        ]
    return [
        partial(_usage_event, partial(_map_message, message, f"events[{index}]"))
        for index, message in enumerate(request.events)
    ]


def _usage_event(mapping: Callable[[], MappedEvent]) -> event_pb2.Event:
    mapped = mapping()
    return event_pb2.Event(
        event_id=mapped.event_id,
        name=mapped.name,
        customer_id=mapped.customer_id,
        subject=mapped.subject,
        event_time=render_time(mapped.event_time),
        properties=mapped.properties,
        authorization_id=mapped.authorization_id,
    )


def _map_message(message: event_pb2.CloudEvent, field: str) -> MappedEvent:
    attributes: dict[str, object] = {
        "id": message.id,
        "source": message.source,
        "specversion": message.spec_version,
        "type": message.type,
    }
    for name, value in message.attributes.items():
        kind = value.WhichOneof("attr")
        if kind == "ce_timestamp":
            try:
                attributes[name] = value.ce_timestamp.ToJsonString()
            except ValueError:
                raise InvalidValue(f"{field}.{name}", "is not a time") from None
        elif kind is not None:
            attributes[name] = getattr(value, kind)
    content_type = attributes.get("datacontenttype", "")
    if not is_json(str(content_type)):
        raise InvalidValue(f"{field}.datacontenttype", f"{content_type!r} is not JSON")
    form = message.WhichOneof("data")
    data = read_data(getattr(message, form), f"{field}.data") if form is not None else None
    return map_attributes(attributes, data, field)


def render_outcome(outcome: Outcome) -> event_pb2.EventOutcome:
    """What became of one event."""
    message = event_pb2.EventOutcome(
        event_id=outcome.event_id,
        state=STATES[outcome.state],
        charges=[render_charge(charge) for charge in outcome.charges],
        duplicate=outcome.duplicate,
    )
    if outcome.refusal is not None:
        message.refusal.CopyFrom(render_refusal(outcome.refusal))
    return message


def render_charge(charge: Charge) -> event_pb2.Charge:
    """One charge of an event."""
    return event_pb2.Charge(
        charge_id=charge.charge_id,
        price_id=charge.price_id,
        subscription_item_id=charge.subscription_item_id,
        meter=charge.meter,
        quantity=charge.quantity,
        amount=amount_pb2.Amount(
            asset=charge.asset, value=format_atoms(charge.atoms, charge.scale)
        ),
        shortfall=format_atoms(charge.shortfall, charge.scale) if charge.shortfall else "0",
        available=charge.available,
    )


def render_refusal(refusal: Refused) -> refusal_pb2.Refusal:
    """A refusal inside a batch's answer."""
    return refusal_pb2.Refusal(reason=refusal.reason, message=refusal.message, facts=refusal.facts)


def render_event(event: Event) -> event_pb2.Event:
    """An event as it was sent."""
    return event_pb2.Event(
        event_id=event.event_id,
        name=event.name,
        customer_id=event.customer_id,
        subject=event.subject,
        event_time=render_time(event.event_time),
        properties=event.properties,
        authorization_id=str(event.authorization_id) if event.authorization_id else "",
        node=event.node,
        authorization_continues=event.continues,
    )


def render_stored(history: History, outcome: Outcome) -> event_pb2.GetEventResponse:
    """A stored event as it is now, with its outcome."""
    origin = history.origin
    # A correction leaves the authorization to the original, which captured it.
    event = history.last.event._replace(authorization_id=origin.event.authorization_id)
    return event_pb2.GetEventResponse(
        event=render_event(event),
        outcome=render_outcome(outcome),
        receive_time=render_time(origin.receive_time),
        revision=len(history.standing),
    )
