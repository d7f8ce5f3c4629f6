"""Events that metering has not settled yet, asked for again until it has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from tollgate.metering.v1 import event_pb2
from tollgate_sdk.backlog import Entry
from tollgate_sdk.sending import Sender

PAUSE_SECONDS = 0.05  # a charge that was not answered at once is usually settled soon
PAUSE_SECONDS_MAX = 2.0

Answered = Callable[[Sequence[Entry], Sequence[event_pb2.EventOutcome]], None]


class Settling:
    """Asks again, with the same events, after pauses that grow while nothing is settled.

    What is asked for again has its place in its customer's order already, so it holds up nobody.
    """

    def __init__(self, sender: Sender, batch_events: int, answered: Answered) -> None:
        self._sender = sender
        self._batch_events = batch_events
        self._answered = answered
        self._waiting: list[Entry] = []
        self._added = asyncio.Event()

    def add(self, entry: Entry) -> None:
        """Ask for it again after a pause."""
        self._waiting.append(entry)
        self._added.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        pause = PAUSE_SECONDS
        while True:
            await self._added.wait()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            asked, self._waiting = (
                self._waiting[: self._batch_events],
                self._waiting[self._batch_events :],
            )
            if not self._waiting:
                self._added.clear()
            outcomes = await self._sender.ask([entry.event for entry in asked])
            returned = len(self._waiting)
            self._answered(asked, outcomes)
            settled = len(self._waiting) - returned < len(asked)
            pause = PAUSE_SECONDS if settled else min(pause * 2, PAUSE_SECONDS_MAX)
