"""Waiting for a condition, with a deadline; the tests' only way to let time pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS_MAX = 15.0
PAUSE_SECONDS = 0.01


async def until(
    condition: Callable[[], Awaitable[T]] | Callable[[], T],
    *,
    what: str = "the condition",
    seconds_max: float = SECONDS_MAX,
) -> T:
    """Ask until the answer is true in the sense of `if`, and return it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds_max
    while True:
        answer = condition()
        found: T = await answer if isinstance(answer, Awaitable) else answer
        if found:
            return found
        if loop.time() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds_max} s: {found!r}")
        await asyncio.sleep(PAUSE_SECONDS)
