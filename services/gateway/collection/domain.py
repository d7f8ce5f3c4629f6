"""An errand: one operation to carry out at a provider, or to ask about, whatever it is for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Protocol
from uuid import UUID

from gateway.attempts.domain import Operation
from gateway.domain.resolution import Question
from gateway.providers.driver import Line
from gateway.providers.plan import Plan, Provider


class Standing(Enum):
    """How far an errand is, as far as asking is concerned."""

    REQUESTED = "REQUESTED"  # written down; perhaps sent
    UNKNOWN = "UNKNOWN"  # sent, and not clearly answered
    WAITING = "WAITING"  # the provider has it, and it is not over
    ENDED = "ENDED"


class Errand(Protocol):
    """What the collector needs to know of an operation. A value: recording makes another."""

    @property
    def tenant_id(self) -> UUID: ...

    @property
    def operation(self) -> Operation: ...

    @property
    def provider(self) -> Provider: ...

    @property
    def line(self) -> Line: ...

    @property
    def waited_for(self) -> UUID:
        """By which id callers wait for it."""

    @property
    def standing(self) -> Standing: ...

    @property
    def stage(self) -> object:
        """What changes when evidence changes anything."""

    def offered(self, unknown: bool, now: datetime) -> Sequence[Question]:
        """What may be asked, in order, supposing that the outcome is unknown or as it stands."""

    def send(self) -> Plan:
        """The request itself: the same, word for word, each time."""

    def read(self) -> Plan: ...

    def find(self) -> Plan: ...
