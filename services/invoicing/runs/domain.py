"""Billing runs: one pass over all customers of whom something is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

RETRY_SECONDS = 0.25  # before a customer is tried again, doubled each time
RETRY_SECONDS_MAX = 60.0
DOUBLINGS_MAX = 10  # beyond which the pause is at its longest anyway


class RunState(Enum):
    """Where a run stands: issuing, or all issued."""

    RUNNING = "RUNNING"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class Run:
    """Bill what was due by `as_of`; documents bear `issue_time`, however long the run takes."""

    run_id: UUID
    as_of: datetime
    issue_time: datetime
    state: RunState
    customers: int
    ahead: bool = False  # only what reached a threshold, whatever is due


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a customer could not be billed yet."""

    customer_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    run: Run
    customers_done: int
    invoices: int
    invoices_collected: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """One customer of one run, taken by a worker."""

    run: Run
    customer_id: str
    attempts: int


def retry_pause(attempts: int) -> timedelta:
    """How long a customer that could not be billed is left alone."""
    seconds = RETRY_SECONDS * 2.0 ** min(attempts, DOUBLINGS_MAX)
    return timedelta(seconds=min(seconds, RETRY_SECONDS_MAX))


def batches(turns: Sequence[Turn], size: int) -> list[list[Turn]]:
    """Turns in groups of one run each, none larger than `size`."""
    by_run: dict[UUID, list[Turn]] = {}
    for turn in turns:
        by_run.setdefault(turn.run.run_id, []).append(turn)
    return [
        own[start : start + size] for own in by_run.values() for start in range(0, len(own), size)
    ]


def hour_of(instant: datetime) -> datetime:
    """The full hour before an instant: the service bills by itself once an hour."""
    return instant.replace(minute=0, second=0, microsecond=0)
