"""Asks about every operation that is due, for as long as the process works."""

from __future__ import annotations

import asyncio

from gateway.collection.operations import Collector

OBSERVE_EVERY = 10  # rounds between two looks at how much is unknown


async def settle(collector: Collector, pause_seconds: float) -> None:
    """Sweep leases that ran out and ask what became of them; also what is merely not over yet."""
    rounds = 0
    while True:
        now = collector.clock.now()
        if rounds % OBSERVE_EVERY == 0:
            await collector.observe_unknown(now)
        rounds += 1
        if not await collector.settle_due(now):
            await asyncio.sleep(pause_seconds)
