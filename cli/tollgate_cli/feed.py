"""Feeds usage into metering the way a platform service would: authorizations, then batches.

One lane of a feeder sends one request at a time, so the events of a customer, who always belongs to
the same lane, are decided in the order in which they are fed, whatever crashes in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from tollgate.metering.v1 import event_pb2 as events
from tollgate.metering.v1 import gate_pb2 as gate
from tollgate_cli.tally import Tally
from tollgate_sdk import Tollgate

BATCH_EVENTS = 500  # large enough to share a commit, small enough to answer within 100 ms
PENDING_WAIT_SECONDS = 0.1
PENDING_SECONDS_MAX = 120.0  # a charge that is not settled by then is told, not waited for

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Usage:
    """One event to feed; with an estimate, the gate is asked first."""

    event: events.Event
    estimate: gate.UsageEstimate | None = None


class Feeder:
    """Sends usage through `lanes` concurrent lanes and counts what became of it."""

    def __init__(self, client: Tollgate, *, lanes: int = 16, progress: Progress | None = None):
        self.tally = Tally()
        self._client = client
        self._lanes = lanes
        self._progress = progress or (lambda _: None)

    async def feed(self, usages: Iterable[Usage]) -> None:
        """Send all of it; returns when the last event has its final answer."""
        lanes: list[list[Usage]] = [[] for _ in range(self._lanes)]
        for usage in usages:
            lanes[_lane_of(usage.event.customer_id, self._lanes)].append(usage)
        async with asyncio.TaskGroup() as tasks:
            for lane in lanes:
                if lane:
                    tasks.create_task(self._run_lane(lane))

    async def _run_lane(self, usages: Sequence[Usage]) -> None:
        batch: list[events.Event] = []
        for usage in usages:
            event = usage.event
            if usage.estimate is not None:
                authorization_id = await self._authorize(event, usage.estimate)
                if authorization_id is None:
                    self._progress(1)
                    continue
                event.authorization_id = authorization_id
            batch.append(event)
            if len(batch) == BATCH_EVENTS:
                await self._send(batch)
                batch = []
        if batch:
            await self._send(batch)

    async def _authorize(self, event: events.Event, estimate: gate.UsageEstimate) -> str | None:
        request = gate.AuthorizeUsageRequest(
            request_id=f"authorize-{event.event_id}",
            customer_id=event.customer_id,
            subject=event.subject,
            estimate=estimate,
        )
        started = time.perf_counter()
        answer = await self._client.call(self._client.gate.AuthorizeUsage, request)
        self.tally.authorize_ms.append((time.perf_counter() - started) * 1_000)
        if answer.WhichOneof("answer") == "allowed":
            self.tally.allowed_at_gate += 1
            return str(answer.allowed.authorization_id)
        self.tally.deny(event.customer_id, [reason.reason for reason in answer.denied.reasons])
        return None

    async def _send(self, batch: Sequence[events.Event]) -> None:
        outcomes = await settle(
            batch, lambda request: self._client.call(self._client.events.IngestEvents, request)
        )
        for event, outcome in zip(batch, outcomes, strict=True):
            self.tally.count(event, outcome)
        self._progress(len(batch))


async def settle(
    batch: Sequence[events.Event],
    ingest: Callable[[events.IngestEventsRequest], Awaitable[events.IngestEventsResponse]],
) -> list[events.EventOutcome]:
    """Ingest a batch and ask again for the events whose charge is still being settled."""
    answer = await ingest(events.IngestEventsRequest(events=batch))
    outcomes = list(answer.outcomes)
    give_up = time.monotonic() + PENDING_SECONDS_MAX
    while True:
        waiting = [i for i, o in enumerate(outcomes) if o.state == events.EVENT_STATE_PENDING]
        if not waiting:
            return outcomes
        if time.monotonic() > give_up:
            raise TimeoutError(
                f"the charges of {len(waiting)} events are not settled after "
                f"{PENDING_SECONDS_MAX:.0f} s; they are kept, and `tollgate verify` tells of them"
            )
        await asyncio.sleep(PENDING_WAIT_SECONDS)
        again = await ingest(events.IngestEventsRequest(events=[batch[i] for i in waiting]))
        for position, outcome in zip(waiting, again.outcomes, strict=True):
            outcomes[position] = outcome


def _lane_of(customer_id: str, lanes: int) -> int:
    # Not hash(): that differs from one process to the next, and the demo must not.
    return sum(customer_id.encode()) % lanes
