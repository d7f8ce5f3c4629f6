"""Events on their way, by customer, and the room that is left for more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass

from tollgate.metering.v1 import event_pb2
from tollgate_sdk.errors import BufferFull


class Delivery:
    """An event that the producer took. Await it for the outcome, or forget it.

    Awaiting raises NotDelivered where the producer closes first. It may be awaited many times.
    """

    __slots__ = ("_answered", "event_id")

    def __init__(self, event_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self.event_id = event_id
        self._answered: asyncio.Future[event_pb2.EventOutcome] = loop.create_future()

    def __await__(self) -> Generator[object, None, event_pb2.EventOutcome]:
        # Shielded: who gives up waiting does not take the outcome from others.
        return asyncio.shield(self._answered).__await__()

    @property
    def done(self) -> bool:
        """Whether the outcome is known, or known not to come."""
        return self._answered.done()

    @property
    def answered(self) -> asyncio.Future[event_pb2.EventOutcome]:
        """The future behind it, for callbacks. Do not set or cancel it."""
        return self._answered


@dataclass(eq=False, slots=True)
class Entry:
    """One event until its outcome is final."""

    event: event_pb2.Event
    octets: int
    delivery: Delivery
    arrived: float  # seconds of the loop's clock
    position: int | None = None  # in the journal
    resumed: bool = False  # sent by an earlier life, perhaps with an answer that was lost
    late: bool = False


class Room:
    """Bounds the events, and their bytes, that are not settled. First come, first served."""

    def __init__(self, events_max: int, octets_max: int) -> None:
        self._events_max = events_max
        self._octets_max = octets_max
        self.events = 0
        self.octets = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, octets: int, *, wait: bool) -> None:
        """Take room for one event; without it, wait or raise BufferFull."""
        if not self._waiting and self._fits(octets):
            self.take_anyway(octets)
            return
        if not wait:
            raise BufferFull(self.events, self.octets)
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((octets, called))
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled() and called.exception() is None:
                self.give_back(octets)  # it was this one's turn, and it had just left
            raise

    def take_anyway(self, octets: int) -> None:
        """Take room even where there is none: what a journal held before has to be somewhere."""
        self.events += 1
        self.octets += octets

    def give_back(self, octets: int) -> None:
        """Give room back, and call in those who wait for it."""
        self.events -= 1
        self.octets -= octets
        while self._waiting:
            wanted, called = self._waiting[0]
            if called.done():
                self._waiting.popleft()  # gave up
            elif self._fits(wanted):
                self._waiting.popleft()
                self.take_anyway(wanted)
                called.set_result(None)
            else:
                return

    def turn_away(self, error: Exception) -> None:
        """Let all who wait fail."""
        while self._waiting:
            _, called = self._waiting.popleft()
            if not called.done():
                called.set_exception(error)

    def _fits(self, octets: int) -> bool:
        return self.events < self._events_max and self.octets + octets <= self._octets_max


class Backlog:
    """Events that wait to be sent. A customer's are in one batch at a time, in order of arrival."""

    def __init__(self) -> None:
        self.ready_events = 0  # of customers without a batch in flight
        self.ready_octets = 0
        self._queues: dict[str, deque[Entry]] = {}
        self._octets: dict[str, int] = {}
        self._ready: deque[str] = deque()
        self._busy: set[str] = set()

    def add(self, entry: Entry) -> None:
        """Put an event behind all of its customer's."""
        customer_id = entry.event.customer_id
        queue = self._queues.get(customer_id)
        if queue is None:
            queue = self._queues[customer_id] = deque()
            self._octets[customer_id] = 0
            if customer_id not in self._busy:
                self._ready.append(customer_id)
        queue.append(entry)
        self._octets[customer_id] += entry.octets
        if customer_id not in self._busy:
            self.ready_events += 1
            self.ready_octets += entry.octets

    def oldest_arrival(self) -> float:
        """When the first event of the customer whose turn it is arrived; one must be ready."""
        return self._queues[self._ready[0]][0].arrived

    def take(self, events_max: int, octets_max: int) -> list[Entry]:
        """The next batch, at least one event where any is ready; its customers become busy."""
        batch: list[Entry] = []
        octets = 0
        while self._ready and len(batch) < events_max:
            queue = self._queues[self._ready[0]]
            if batch and octets + queue[0].octets > octets_max:
                break
            customer_id = self._ready.popleft()
            self._busy.add(customer_id)
            self.ready_events -= len(queue)
            self.ready_octets -= self._octets[customer_id]
            while queue and len(batch) < events_max:
                if batch and octets + queue[0].octets > octets_max:
                    break
                entry = queue.popleft()
                self._octets[customer_id] -= entry.octets
                octets += entry.octets
                batch.append(entry)
            if not queue:
                del self._queues[customer_id], self._octets[customer_id]
        return batch

    def release(self, customer_ids: Iterable[str]) -> None:
        """The batch of these customers is answered: their next events may go."""
        for customer_id in customer_ids:
            self._busy.discard(customer_id)
            queue = self._queues.get(customer_id)
            if queue is not None:
                self._ready.append(customer_id)
                self.ready_events += len(queue)
                self.ready_octets += self._octets[customer_id]
