"""What goes wrong, as a caller sees it: refusals, failures, and the limits of this package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc
from google.rpc import error_details_pb2, status_pb2

from tollgate.metering.v1 import event_pb2, gate_pb2
from tollgate.type.v1 import refusal_pb2

# Nothing is known to have been done, or it was and the key will find it: safe to send again.
RETRYABLE = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.RESOURCE_EXHAUSTED}
)
_DETAILS_KEY = "grpc-status-details-bin"


class TollgateError(Exception):
    """A refusal or a failure. `reason` is stable; `facts` are what a caller can act on."""

    def __init__(
        self, code: grpc.StatusCode, reason: str, message: str, facts: dict[str, str]
    ) -> None:
        super().__init__(f"{reason}: {message}" if reason else message)
        self.code = code
        self.reason = reason
        self.message = message
        self.facts = facts

    @property
    def retryable(self) -> bool:
        """True where the same request with the same key may be sent again."""
        return self.code in RETRYABLE


def read_error(error: grpc.aio.AioRpcError) -> TollgateError:
    """Turn a gRPC error into a TollgateError, with google.rpc.ErrorInfo where there is one."""
    metadata = cast(Iterable[tuple[str, str | bytes]], error.trailing_metadata() or ())
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                found = error_details_pb2.ErrorInfo()
                if detail.Unpack(found):
                    return TollgateError(
                        error.code(), found.reason, status.message, dict(found.metadata)
                    )
    return TollgateError(error.code(), "", error.details() or error.code().name, {})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why usage may not run. `reason` is stable; `facts` say what would make it pass."""

    reason: str
    message: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, refusal: refusal_pb2.Refusal) -> Reason:
        """As a service answered it."""
        return cls(refusal.reason, refusal.message, dict(refusal.facts))


class Denied(Exception):
    """The gate said no: `reasons` holds every reason, for example INSUFFICIENT_FUNDS, and
    `remedies` what would make it pass."""

    def __init__(
        self,
        customer_id: str,
        reasons: Sequence[Reason],
        remedies: Sequence[gate_pb2.Remedy] = (),
    ) -> None:
        said = "; ".join(f"{each.reason}: {each.message}" for each in reasons)
        super().__init__(f"usage of customer {customer_id!r} is denied: {said}")
        self.customer_id = customer_id
        self.reasons = tuple(reasons)
        self.remedies = tuple(remedies)

    @property
    def facts(self) -> dict[str, str]:
        """Facts of all reasons in one; of several with one name, the first reason's."""
        merged: dict[str, str] = {}
        for each in reversed(self.reasons):
            merged |= each.facts
        return merged


def denied(customer_id: str, denial: gate_pb2.Denial) -> Denied:
    """The gate's no as an exception."""
    return Denied(customer_id, [Reason.of(each) for each in denial.reasons], denial.remedies)


class GateAway(Denied):
    """Nobody answered at the gate, and the caller's choice for that case does not let it pass.

    Its one reason is GATE_AWAY; facts: `code`, with ALLOW_UP_TO `limit`, `outstanding`, `asset`.
    """


class NotReported(Exception):
    """Usage ran and could not be handed over. `event` is complete: send it when it is possible."""

    def __init__(self, event: event_pb2.Event, why: object) -> None:
        super().__init__(f"event {event.event_id!r} of usage that ran is not reported: {why}")
        self.event = event


class ProducerError(Exception):
    """Base of what a producer raises."""


class BufferFull(ProducerError):
    """As many events, or bytes, as the buffer holds are not settled. The event was not taken."""

    def __init__(self, events: int, octets: int) -> None:
        super().__init__(f"{events} events of {octets} bytes are waiting; the buffer takes no more")
        self.events = events
        self.octets = octets


class ProducerClosed(ProducerError):
    """The producer is closed, or not yet open. The event was not taken."""


class EventTooLarge(ProducerError):
    """One event is larger than a batch may be. The event was not taken."""

    def __init__(self, event_id: str, octets: int, limit: int) -> None:
        super().__init__(f"event {event_id!r} has {octets} bytes; takes at most {limit}")
        self.limit = limit


class NotDelivered(ProducerError):
    """The producer closed before the outcome of the event was known.

    With a journal the event stays on disk and is sent at the next start.
    """


class JournalError(ProducerError):
    """Base of what goes wrong with the folder of a journal."""


class JournalLocked(JournalError):
    """Another producer, of this process or another, has the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"the journal in {folder} is in use by another producer")


class JournalCorrupted(JournalError):
    """A record in the middle of the journal is not what was written.

    A torn end is the mark of a crash and is tolerated; this is damage. Nothing was changed: keep
    the file for inspection and move it away to start without it.
    """

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(f"{path} is damaged at byte {offset}")
        self.path = path
        self.offset = offset


class JournalBroken(JournalError):
    """The disk did not take a write, or did not confirm it. The event was not taken."""
