"""Parked events and policies between protobuf and the domain."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.wire import parse_member, parse_text, render_time
from kernel.errors import InvalidValue
from metering.events.domain.event import EVENTS_PER_CALL_MAX, BatchTooLarge
from metering.events.wire import ID_MAX, render_event, render_refusal
from metering.parking.domain import IngestChoice, IngestPolicy, Parked
from tollgate.metering.v1 import event_pb2, parking_pb2

CHOICES = {
    parking_pb2.INGEST_CHOICE_UNSPECIFIED: IngestChoice.REFUSE,
    parking_pb2.INGEST_CHOICE_REFUSE: IngestChoice.REFUSE,
    parking_pb2.INGEST_CHOICE_PARK: IngestChoice.PARK,
}


def parse_policy(message: parking_pb2.IngestPolicy) -> IngestPolicy:
    """A tenant's choices."""
    return IngestPolicy(
        parse_member(message.unmatched, CHOICES, "policy.unmatched"),
        parse_member(message.unusable, CHOICES, "policy.unusable"),
        parse_member(message.unpriced, CHOICES, "policy.unpriced"),
    )


def render_policy(policy: IngestPolicy) -> parking_pb2.IngestPolicy:
    """A tenant's choices."""
    told = {IngestChoice.REFUSE: parking_pb2.INGEST_CHOICE_REFUSE}
    told[IngestChoice.PARK] = parking_pb2.INGEST_CHOICE_PARK
    return parking_pb2.IngestPolicy(
        unmatched=told[policy.unmatched],
        unusable=told[policy.unusable],
        unpriced=told[policy.unpriced],
    )


def parse_event_ids(event_ids: Sequence[str], *, required: bool) -> list[str]:
    """Ids of up to 1000 events."""
    if required and not event_ids:
        raise InvalidValue("event_ids", "is required; takes 1 to 1000 ids")
    if len(event_ids) > EVENTS_PER_CALL_MAX:
        raise BatchTooLarge("event_ids", EVENTS_PER_CALL_MAX, len(event_ids))
    return [
        parse_text(event_id, f"event_ids[{index}]", maximum=ID_MAX)
        for index, event_id in enumerate(event_ids)
    ]


def render_parked(parked: Parked) -> parking_pb2.ParkedEvent:
    """An event that waits."""
    return parking_pb2.ParkedEvent(
        event=render_event(parked.event),
        refusal=render_refusal(parked.refusal),
        receive_time=render_time(parked.receive_time),
        attempts=parked.attempts,
    )


def render_parked_event(parked: Parked) -> event_pb2.GetEventResponse:
    """A parked event as any event is told of."""
    return event_pb2.GetEventResponse(
        event=render_event(parked.event),
        outcome=event_pb2.EventOutcome(
            event_id=parked.event.event_id,
            state=event_pb2.EVENT_STATE_PARKED,
            refusal=render_refusal(parked.refusal),
        ),
        receive_time=render_time(parked.receive_time),
    )
