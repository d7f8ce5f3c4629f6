"""Reports usage: batches by itself, keeps what is unsent on disk, tells each event's outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from google.protobuf.json_format import MessageToJson

from tollgate.metering.v1 import event_pb2
from tollgate_sdk.backlog import Backlog, Delivery, Entry, Room
from tollgate_sdk.calls import Calls
from tollgate_sdk.errors import EventTooLarge, JournalBroken, NotDelivered, ProducerClosed
from tollgate_sdk.events import completed
from tollgate_sdk.journal import Record
from tollgate_sdk.sending import Sender, is_final, second_form
from tollgate_sdk.settling import Settling
from tollgate_sdk.spool import Spool

DRAIN_SECONDS = 20.0  # less than the 30 that Kubernetes gives a pod to end
EVENTS_PER_CALL_MAX = 1_000  # metering's limit
OCTETS_PER_CALL_MAX = 3 * 1024 * 1024  # metering takes messages of 4 MiB
EVENT_OCTETS_MAX = 64 * 1024  # metering takes 8,192 characters of properties; none comes near

OnOutcome = Callable[[event_pb2.Event, event_pb2.EventOutcome], None]

log = logging.getLogger("tollgate_sdk.producer")


class WhenFull(Enum):
    """What `send` does while the buffer is full."""

    WAIT = "wait"
    RAISE = "raise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a producer. A batch goes when one of its three bounds is reached and a place is
    free; while all places are taken, what arrives forms the next batches."""

    batch_events: int = 500  # 1 to 1000; large enough to share a commit, small enough to be quick
    batch_octets: int = 1024 * 1024  # at most 3 MiB
    linger_ms: float = 5.0  # how long an event waits for company
    batches_in_flight: int = 4  # a customer's events are never in two of them
    buffer_events: int = 50_000  # not settled yet, those on disk included
    buffer_octets: int = 64 * 1024 * 1024
    backoff_seconds_max: float = 5.0  # longest pause between two attempts

    def __post_init__(self) -> None:
        for name, value, most in (
            ("batch_events", self.batch_events, EVENTS_PER_CALL_MAX),
            ("batch_octets", self.batch_octets, OCTETS_PER_CALL_MAX),
            ("batches_in_flight", self.batches_in_flight, 64),
            ("buffer_events", self.buffer_events, 10_000_000),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"{name}: {value} is not between 1 and {most}")
        if self.buffer_octets < EVENT_OCTETS_MAX:
            raise ValueError(f"buffer_octets: holds less than one event of {EVENT_OCTETS_MAX}")
        if self.linger_ms < 0 or self.backoff_seconds_max <= 0:
            raise ValueError("linger_ms is 0 or more, backoff_seconds_max more than 0")


class Producer:
    """Sends usage events in batches, each exactly once whatever crashes.

    `async with tollgate.producer(folder=…) as producer:` opens the journal, sends first what an
    earlier life left in it, and at the end drains. With a `folder`, an event is in its journal when
    `send` returns: synced to disk where `durable`, else safe from a crash of this process alone.
    Without one, events live in memory and die with the process.

    Events of one customer are sent, counted and charged in the order in which `send` took them.
    `on_outcome` is called in the loop with every final outcome, those of an earlier life included.
    """

    def __init__(
        self,
        calls: Calls,
        *,
        folder: Path | str | None = None,
        durable: bool = True,
        limits: Limits | None = None,
        when_full: WhenFull = WhenFull.WAIT,
        on_outcome: OnOutcome | None = None,
    ) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._durable = durable
        self._limits = limits or Limits()
        self._when_full = when_full
        self._on_outcome = on_outcome
        self._sender = Sender(calls, backoff_seconds_max=self._limits.backoff_seconds_max)
        self._settling = Settling(self._sender, self._limits.batch_events, self._answered)
        self._room = Room(self._limits.buffer_events, self._limits.buffer_octets)
        self._backlog = Backlog()
        self._entries: set[Entry] = set()  # not settled
        self._spool: Spool | None = None
        self._batches: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._hurrying = 0  # callers who wait for all to be settled
        self._open = False

    async def __aenter__(self) -> Producer:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def unsettled(self) -> int:
        """How many events wait, are in flight, or have no final outcome yet."""
        return len(self._entries)

    @property
    def trouble(self) -> Exception | None:
        """Why events are not taken at present (a TollgateError); None while all is well."""
        return self._sender.trouble

    async def open(self) -> None:
        """Open the journal and start sending. Raises JournalLocked, JournalCorrupted, OSError."""
        if self._tasks:
            raise ProducerClosed("a producer is opened once")
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        if self._folder is not None:
            self._spool, left = await Spool.open(self._folder, durable=self._durable)
            self._resume(left)
        self._tasks = [
            asyncio.create_task(self._dispatch(), name="tollgate-dispatch"),
            asyncio.create_task(self._settling.run(), name="tollgate-settling"),
        ]
        self._open = True

    async def send(self, event: event_pb2.Event, *, when_full: WhenFull | None = None) -> Delivery:
        """Take an event and answer its Delivery: await it for the outcome, or forget it.

        An event without id gets a UUIDv7, one without time the present. Waits, or raises
        BufferFull, while the buffer is full; raises EventTooLarge (more than 64 KiB), JournalBroken
        (the disk did not take it), ProducerClosed. Cancelled, the event may be sent all the same.
        """
        self._check_open()
        event = completed(event)
        octets = event.ByteSize()
        if octets > EVENT_OCTETS_MAX:
            raise EventTooLarge(event.event_id, octets, EVENT_OCTETS_MAX)
        wait = (when_full or self._when_full) is WhenFull.WAIT
        await self._room.take(octets, wait=wait)
        if not self._open:
            self._room.give_back(octets)
            self._check_open()
        entry = Entry(event, octets, Delivery(event.event_id, self._loop), self._loop.time())
        self._entries.add(entry)
        if self._spool is None:
            self._admit(entry)
        else:
            await self._store(self._spool, entry)
        return entry.delivery

    async def flush(self) -> None:
        """Return when every event that was taken so far has its final outcome."""
        waiting = [entry.delivery.answered for entry in self._entries]
        if not waiting:
            return
        self._hurrying += 1
        self._changed.set()
        try:
            await asyncio.wait(waiting)
        finally:
            self._hurrying -= 1

    async def close(self, drain_seconds: float = DRAIN_SECONDS) -> int:
        """Take no more, wait for outcomes at most this long, and answer how many are missing.

        Missing ones stay in the journal for the next start; their deliveries raise NotDelivered.
        Without a journal they are lost, and `close` raises NotDelivered itself.
        """
        if not self._open:
            return len(self._entries)
        self._open = False
        self._room.turn_away(ProducerClosed("the producer was closed meanwhile"))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(drain_seconds):
                    await self.flush()
        finally:
            await self._stop()
        left = len(self._entries)
        if left and self._spool is None:
            raise NotDelivered(f"{left} events are lost: no outcome after {drain_seconds} s")
        return left

    async def _stop(self) -> None:
        tasks = [*self._tasks, *self._batches]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._spool is not None:
            await self._spool.close()
        for entry in self._entries:
            _fail(entry, NotDelivered(f"event {entry.event.event_id!r}: the producer was closed"))

    def _check_open(self) -> None:
        if not self._open:
            raise ProducerClosed("the producer is not open")

    async def _store(self, spool: Spool, entry: Entry) -> None:
        written: asyncio.Future[None] = self._loop.create_future()

        def stored(position: int | JournalBroken) -> None:
            if isinstance(position, JournalBroken):
                self._forget(entry)
                _fail(entry, position)
                if not written.done():
                    written.set_exception(position)
                return
            # Sent even where the caller has gone: the journal has it, and it is in order here.
            entry.position = position
            self._admit(entry)
            if not written.done():
                written.set_result(None)

        spool.append(entry.event.SerializeToString(), stored)
        await written

    def _resume(self, left: Iterable[Record]) -> None:
        now = self._loop.time()
        for position, payload in left:
            event = event_pb2.Event.FromString(payload)
            delivery = Delivery(event.event_id, self._loop)
            entry = Entry(event, len(payload), delivery, now, position, resumed=True)
            self._room.take_anyway(entry.octets)
            self._entries.add(entry)
            self._backlog.add(entry)
        if self._entries:
            log.info("%d events of an earlier life are sent first", len(self._entries))

    def _admit(self, entry: Entry) -> None:
        first = not self._backlog.ready_events
        self._backlog.add(entry)
        if first or self._is_full():
            self._changed.set()

    def _is_full(self) -> bool:
        ready = self._backlog
        limits = self._limits
        return (
            ready.ready_events >= limits.batch_events or ready.ready_octets >= limits.batch_octets
        )

    async def _dispatch(self) -> None:
        """Send a batch whenever there is something to send and a place to send it from."""
        while True:
            self._changed.clear()
            pause = self._pause()
            if pause is not None and pause <= 0:
                batch = self._backlog.take(self._limits.batch_events, self._limits.batch_octets)
                task = asyncio.create_task(self._deliver(batch), name="tollgate-batch")
                self._batches.add(task)
                task.add_done_callback(self._batches.discard)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    def _pause(self) -> float | None:
        """Seconds until the next batch is due; None where that depends on something else."""
        if not self._backlog.ready_events or len(self._batches) >= self._limits.batches_in_flight:
            return None
        if self._hurrying or not self._open or self._is_full():
            return 0.0
        due = self._backlog.oldest_arrival() + self._limits.linger_ms / 1_000
        return max(0.0, due - self._loop.time())

    async def _deliver(self, batch: Sequence[Entry]) -> None:
        outcomes = await self._sender.ask([entry.event for entry in batch])
        self._answered(batch, outcomes)
        self._backlog.release({entry.event.customer_id for entry in batch})
        # The place is free now, not when the task's callbacks have run.
        task = asyncio.current_task()
        assert task is not None
        self._batches.discard(task)
        self._changed.set()

    def _answered(
        self, entries: Sequence[Entry], outcomes: Sequence[event_pb2.EventOutcome]
    ) -> None:
        """Settle what has a final outcome, ask again for the rest."""
        settled: list[tuple[Entry, event_pb2.EventOutcome]] = []
        for entry, outcome in zip(entries, outcomes, strict=True):
            second = None
            if not entry.late:
                second = second_form(entry.event, outcome, resumed=entry.resumed)
            if second is not None:
                entry.event, entry.late = second, True
                self._settling.add(entry)
            elif is_final(outcome):
                settled.append((entry, outcome))
            else:
                self._settling.add(entry)
        self._acknowledge(settled)
        for entry, outcome in settled:
            self._forget(entry)
            if not entry.delivery.answered.done():
                entry.delivery.answered.set_result(outcome)
            self._tell(entry.event, outcome)

    def _acknowledge(self, settled: Sequence[tuple[Entry, event_pb2.EventOutcome]]) -> None:
        refused = [
            (entry, outcome)
            for entry, outcome in settled
            if outcome.state != event_pb2.EVENT_STATE_ACCEPTED
        ]
        if refused:
            first = refused[0][1]
            log.warning(
                "%d events are not accepted; the first, %s: %s: %s", len(refused),
                first.event_id, first.refusal.reason, first.refusal.message,
            )  # fmt: skip
        if self._spool is not None and settled:
            lines = [
                _refused_line(entry.event, outcome)
                for entry, outcome in refused
                if outcome.state == event_pb2.EVENT_STATE_INVALID
            ]
            positions = [entry.position for entry, _ in settled if entry.position is not None]
            self._spool.acknowledge(positions, lines)

    def _forget(self, entry: Entry) -> None:
        self._entries.remove(entry)
        self._room.give_back(entry.octets)

    def _tell(self, event: event_pb2.Event, outcome: event_pb2.EventOutcome) -> None:
        if self._on_outcome is None:
            return
        try:
            self._on_outcome(event, outcome)
        except Exception:
            log.exception("on_outcome failed for event %s", event.event_id)


def _fail(entry: Entry, error: Exception) -> None:
    answered = entry.delivery.answered
    if not answered.done():
        answered.set_exception(error)
        answered.exception()  # who forgot the delivery is not told by the loop


def _refused_line(event: event_pb2.Event, outcome: event_pb2.EventOutcome) -> str:
    kept = event_pb2.GetEventResponse(event=event, outcome=outcome)
    return MessageToJson(kept, indent=None)
