"""Many concurrent calls, few transactions: what arrives while one is in flight forms the next.

A lane flushes one batch at a time. Items of one key always go to one lane, in the order in which
they came, so a wallet never waits for itself on two connections. There is no timer: an idle lane
flushes at once, a busy one as soon as its last commit is back, and that is the batch size that the
moment's load calls for.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from chassis.database import OutcomeUnknown
from kernel.errors import Kind, Refusal

I = TypeVar("I")  # noqa: E741  an item
O = TypeVar("O")  # noqa: E741  its outcome

Flush = Callable[[Sequence[I]], Awaitable[Sequence[O | Exception]]]


class LaneFull(Refusal):
    """More is waiting than a lane holds. Nothing of this call was done; try again later."""

    reason = "QUEUE_FULL"
    kind = Kind.EXHAUSTED

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(f"{name}: {limit} items are waiting already", limit=limit)


class LanesClosed(Refusal):
    """The process is going down. Nothing of this call was done; try another."""

    reason = "DRAINING"
    kind = Kind.UNAVAILABLE


class WrongOutcomeCount(Exception):
    """`flush` answered another number of outcomes than it was given items."""


@dataclass(slots=True)
class _Unit(Generic[I, O]):
    items: Sequence[I]
    group: Hashable
    answered: asyncio.Future[list[O | Exception]]


class Lanes(Generic[I, O]):
    """`count` lanes over one `flush`.

    `flush(items)` does a batch in one transaction and answers an outcome or an Exception per item,
    in order. `batch_max` bounds a batch, `queue_max` what waits in one lane. With `group_of`, a
    batch takes items of one group only (the first waiting item's); the others keep their order.
    """

    def __init__(
        self,
        flush: Flush[I, O],
        *,
        count: int,
        batch_max: int,
        queue_max: int,
        group_of: Callable[[I], Hashable] | None = None,
        name: str = "lanes",
    ) -> None:
        if count < 1 or batch_max < 1 or queue_max < 1:
            raise ValueError("count, batch_max and queue_max must be positive")
        self.name = name
        self._flush = flush
        self._group_of = group_of
        self._lanes = [_Lane(self, batch_max, queue_max, number) for number in range(count)]
        self._closed = False

    async def submit(self, key: Hashable, item: I) -> O:
        """Wait for one item's outcome, or raise the exception it got.

        Cancelling the caller does not cancel the item: it is done or refused with its batch.
        Raises LaneFull, LanesClosed.
        """
        (outcome,) = await self.submit_many(key, [item])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def submit_many(self, key: Hashable, items: Sequence[I]) -> list[O | Exception]:
        """The same for a whole request: its items stay together, up to `batch_max` in one batch.

        Answers an outcome or an exception per item, in order. With `group_of`, items of one
        request must be of one group. Raises LaneFull where not all of them fit, and then none is
        taken; a request larger than the queue is taken when the queue is empty.
        """
        if self._closed:
            raise LanesClosed(f"{self.name}: draining")
        if not items:
            return []
        lane = self._lanes[_spread(key) % len(self._lanes)]
        group = self._group_of(items[0]) if self._group_of else None
        parts = lane.enqueue(items, group)
        answers: list[O | Exception] = []
        for part in parts:
            # A caller that goes away cancels its future alone: the batch does not look at it.
            answers.extend(await part)
        return answers

    @property
    def waiting(self) -> int:
        """How many items wait in all lanes, without those in flight."""
        return sum(lane.waiting for lane in self._lanes)

    @property
    def fullness(self) -> float:
        """How full the fullest lane is, 0 to 1; readiness goes off at 0.9."""
        return max(lane.waiting / lane.queue_max for lane in self._lanes)

    async def close(self) -> None:
        """Take nothing more and wait until everything that was taken has been flushed."""
        self._closed = True
        for lane in self._lanes:
            await lane.drained()


class _Lane(Generic[I, O]):
    def __init__(self, lanes: Lanes[I, O], batch_max: int, queue_max: int, number: int) -> None:
        self.queue_max = queue_max
        self.waiting = 0
        self._lanes = lanes
        self._batch_max = batch_max
        self._number = number
        self._queue: deque[_Unit[I, O]] = deque()
        self._running: asyncio.Task[None] | None = None

    def enqueue(
        self, items: Sequence[I], group: Hashable
    ) -> list[asyncio.Future[list[O | Exception]]]:
        if self.waiting and self.waiting + len(items) > self.queue_max:
            raise LaneFull(self._lanes.name, self.queue_max)
        loop = asyncio.get_running_loop()
        parts = []
        for start in range(0, len(items), self._batch_max):
            part = items[start : start + self._batch_max]
            unit: _Unit[I, O] = _Unit(part, group, loop.create_future())
            self._queue.append(unit)
            self.waiting += len(part)
            parts.append(unit.answered)
        if self._running is None:
            name = f"{self._lanes.name}-{self._number}"
            self._running = loop.create_task(self._run(), name=name)
        return parts

    async def drained(self) -> None:
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        batch: list[_Unit[I, O]] = []
        try:
            while self._queue:
                batch = self._take()
                items = [item for unit in batch for item in unit.items]
                outcomes = await settle(self._lanes._flush, items)
                start = 0
                for unit in batch:
                    end = start + len(unit.items)
                    if not unit.answered.done():  # its caller may have gone
                        unit.answered.set_result(outcomes[start:end])
                    start = end
        except asyncio.CancelledError:
            # The process is being torn down; nobody may be left waiting for an answer.
            _answer(batch, OutcomeUnknown("the batch was cut off"))
            _answer(self._queue, LanesClosed(f"{self._lanes.name}: draining"))
            self._queue.clear()
            self.waiting = 0
            raise
        finally:
            self._running = None

    def _take(self) -> list[_Unit[I, O]]:
        """The longest run of waiting units of the first one's group that fits one batch."""
        first = self._queue.popleft()
        batch, size = [first], len(first.items)
        passed: deque[_Unit[I, O]] = deque()
        while self._queue and size < self._batch_max:
            unit = self._queue.popleft()
            if unit.group != first.group:
                passed.append(unit)
                continue
            if size + len(unit.items) > self._batch_max:
                # Stop here, or a smaller unit behind would overtake one of the same key.
                passed.append(unit)
                break
            batch.append(unit)
            size += len(unit.items)
        passed.extend(self._queue)
        self._queue = passed
        self.waiting -= size
        return batch


async def settle(flush: Flush[I, O], items: Sequence[I]) -> list[O | Exception]:
    """Flush a batch; where it fails as a whole, halve it until the guilty item is alone."""
    try:
        outcomes = list(await flush(items))
    except Exception as error:
        if len(items) == 1 or _says_nothing_of_the_items(error):
            return [error] * len(items)
        middle = len(items) // 2
        return [*await settle(flush, items[:middle]), *await settle(flush, items[middle:])]
    if len(outcomes) != len(items):
        wrong = WrongOutcomeCount(f"{len(outcomes)} outcomes for {len(items)} items")
        return [wrong] * len(items)
    return outcomes


def _answer(units: Iterable[_Unit[I, O]], error: Exception) -> None:
    for unit in units:
        if not unit.answered.done():
            unit.answered.set_result([error] * len(unit.items))


def _says_nothing_of_the_items(error: Exception) -> bool:
    # Halves of a batch whose commit may have gone through must not be sent again by us: the callers
    # repeat by key. And a database that is away is away for every half.
    return isinstance(error, Refusal) and error.kind in (Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME)


def _spread(key: Hashable) -> int:
    # Not hash(): that differs between processes, and lanes of two replicas should agree so that
    # their row locks meet in the same order.
    return zlib.crc32(repr(key).encode())
