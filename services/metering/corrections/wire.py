"""Corrections between protobuf and the domain."""

from __future__ import annotations

from datetime import datetime

from chassis.requests import fingerprint_of
from chassis.wire import parse_request_id, parse_text, render_time
from kernel.errors import InvalidValue
from kernel.money import format_atoms
from metering.corrections.domain.revision import (
    CORRECTIONS_MAX,
    REASON_MAX,
    Correction,
    CorrectionOutcome,
    History,
    Returned,
    Revision,
    RevisionKind,
    RevisionState,
)
from metering.events.domain.event import BatchTooLarge, Outcome
from metering.events.wire import ID_MAX, parse_event, render_charge, render_event, render_refusal
from tollgate.metering.v1 import correction_pb2
from tollgate.type.v1 import amount_pb2

STATES = {
    RevisionState.APPLIED: correction_pb2.CORRECTION_STATE_APPLIED,
    RevisionState.REJECTED: correction_pb2.CORRECTION_STATE_REJECTED,
    RevisionState.PENDING: correction_pb2.CORRECTION_STATE_PENDING,
    RevisionState.INVALID: correction_pb2.CORRECTION_STATE_INVALID,
}
KINDS = {
    RevisionKind.AMENDMENT: correction_pb2.REVISION_KIND_AMENDMENT,
    RevisionKind.DEPRECATION: correction_pb2.REVISION_KIND_DEPRECATION,
    RevisionKind.RESTORATION: correction_pb2.REVISION_KIND_RESTORATION,
}


def check_count(count: int) -> None:
    """Raise unless a call has 1 to 1000 items."""
    if not count:
        raise InvalidValue("items", "is required; takes 1 to 1000 items")
    if count > CORRECTIONS_MAX:
        raise BatchTooLarge("items", CORRECTIONS_MAX, count)


def parse_amendment(message: correction_pb2.Amendment, field: str, now: datetime) -> Correction:
    """An event's new content; every fault names its field under `field`."""
    return Correction(
        parse_request_id(message.request_id, f"{field}.request_id"),
        RevisionKind.AMENDMENT,
        message.event.event_id,
        parse_event(message.event, f"{field}.event", now),
        parse_text(message.reason, f"{field}.reason", maximum=REASON_MAX),
        fingerprint_of(message),
        field,
    )


def parse_deprecation(message: correction_pb2.Deprecation, field: str) -> Correction:
    """An event that never happened."""
    return Correction(
        parse_request_id(message.request_id, f"{field}.request_id"),
        RevisionKind.DEPRECATION,
        parse_text(message.event_id, f"{field}.event_id", maximum=ID_MAX),
        None,
        parse_text(message.reason, f"{field}.reason", maximum=REASON_MAX),
        fingerprint_of(message),
        field,
    )


def render_outcome(outcome: CorrectionOutcome) -> correction_pb2.CorrectionOutcome:
    """What became of one correction."""
    message = correction_pb2.CorrectionOutcome(
        event_id=outcome.event_id,
        state=STATES[outcome.state],
        revision=outcome.revision,
        charges=[render_charge(charge) for charge in outcome.charges],
        returns=[render_return(one) for one in outcome.returns],
        duplicate=outcome.duplicate,
    )
    if outcome.refusal is not None:
        message.refusal.CopyFrom(render_refusal(outcome.refusal))
    return message


def render_return(returned: Returned) -> correction_pb2.ChargeReturn:
    """A part of a charge that went back."""
    return correction_pb2.ChargeReturn(
        charge_id=returned.charge_id,
        amount=amount_pb2.Amount(
            asset=returned.asset, value=format_atoms(returned.atoms, returned.scale)
        ),
    )


def render_original(history: History, outcome: Outcome) -> correction_pb2.EventRevision:
    """The event as it was received."""
    return correction_pb2.EventRevision(
        kind=correction_pb2.REVISION_KIND_ORIGINAL,
        event=render_event(history.origin.event),
        create_time=render_time(history.origin.receive_time),
        state=correction_pb2.CORRECTION_STATE_REJECTED
        if outcome.refusal is not None
        else correction_pb2.CORRECTION_STATE_APPLIED,
        charges=[render_charge(charge) for charge in outcome.charges],
    )


def render_revision(
    revision: Revision, history: History, outcome: CorrectionOutcome
) -> correction_pb2.EventRevision:
    """One revision of an event."""
    row = history.rows.get(revision.receipt_id)
    if row is None and revision.supersedes is not None:
        row = history.rows.get(revision.supersedes)
    content = (row or history.origin).event
    content = content._replace(authorization_id=history.origin.event.authorization_id)
    return correction_pb2.EventRevision(
        revision=revision.number,
        kind=KINDS[revision.kind],
        event=render_event(content),
        reason=revision.reason,
        request_id=revision.request_id,
        create_time=render_time(revision.create_time),
        state=STATES[outcome.state],
        charges=[render_charge(charge) for charge in outcome.charges],
        returns=[render_return(one) for one in outcome.returns],
    )
