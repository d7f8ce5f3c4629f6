"""Bounded closed-loop load: so many callers, each with one call in flight, for so many calls."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

SECONDS = 5.0  # of measuring; long enough for a few hundred commits
SECONDS_MAX = 30.0
RATE_CALLERS = 256  # of unary calls: enough that the server is never idle
LATENCY_CALLERS = 64


@dataclass(frozen=True, slots=True)
class Load:
    """What was done and how long each call took."""

    calls: int
    seconds: float
    durations: list[float]

    def rate(self, units_per_call: int = 1) -> float:
        return self.calls * units_per_call / self.seconds


async def drive(
    call: Callable[[int], Awaitable[None]],
    *,
    callers: int,
    seconds: float = SECONDS,
    warm_up: int = 1,
) -> Load:
    """Run `call(n)` with rising n from `callers` tasks until the time is over.

    The first `warm_up` calls of each caller are not measured. An exception ends the run.
    """
    numbers = itertools.count()
    durations: list[float] = []
    await asyncio.gather(*[_warm(call, numbers, warm_up) for _ in range(callers)])
    started = time.perf_counter()
    end = started + min(seconds, SECONDS_MAX)

    async def loop() -> None:
        while (begun := time.perf_counter()) < end:
            await call(next(numbers))
            durations.append(time.perf_counter() - begun)

    await asyncio.gather(*[loop() for _ in range(callers)])
    return Load(len(durations), time.perf_counter() - started, durations)


async def _warm(
    call: Callable[[int], Awaitable[None]], numbers: itertools.count[int], times: int
) -> None:
    for _ in range(times):
        await call(next(numbers))
