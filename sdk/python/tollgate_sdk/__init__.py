"""Python client of Tollgate: the gate, a producer of usage events, typed stubs, retries by key."""

from tollgate.metering.v1.correction_pb2 import CorrectionOutcome, CorrectionState
from tollgate.metering.v1.event_pb2 import Event, EventOutcome, EventState
from tollgate.metering.v1.gate_pb2 import Authorization, OverUse, UsageEstimate
from tollgate.type.v1.amount_pb2 import Amount
from tollgate_sdk.backlog import Delivery
from tollgate_sdk.client import Endpoints, Tollgate
from tollgate_sdk.errors import (
    BufferFull,
    Denied,
    EventTooLarge,
    GateAway,
    JournalBroken,
    JournalCorrupted,
    JournalError,
    JournalLocked,
    NotDelivered,
    NotReported,
    ProducerClosed,
    ProducerError,
    Reason,
    TollgateError,
)
from tollgate_sdk.events import (
    LATE_PROPERTY,
    make_amount,
    make_estimate,
    make_event,
    new_event_id,
)
from tollgate_sdk.gate import Authorized, Usage, WhenAway
from tollgate_sdk.producer import Limits, Producer, WhenFull
from tollgate_sdk.streaming import EventStream

__all__ = [
    "LATE_PROPERTY",
    "Amount",
    "Authorization",
    "Authorized",
    "BufferFull",
    "CorrectionOutcome",
    "CorrectionState",
    "Delivery",
    "Denied",
    "Endpoints",
    "Event",
    "EventOutcome",
    "EventState",
    "EventStream",
    "EventTooLarge",
    "GateAway",
    "JournalBroken",
    "JournalCorrupted",
    "JournalError",
    "JournalLocked",
    "Limits",
    "NotDelivered",
    "NotReported",
    "OverUse",
    "Producer",
    "ProducerClosed",
    "ProducerError",
    "Reason",
    "Tollgate",
    "TollgateError",
    "Usage",
    "UsageEstimate",
    "WhenAway",
    "WhenFull",
    "make_amount",
    "make_estimate",
    "make_event",
    "new_event_id",
]
