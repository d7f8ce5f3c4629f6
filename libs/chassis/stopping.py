"""Hearing that one was told to stop, even where a library did not pass it on."""

from __future__ import annotations

import asyncio


def heed_cancellation() -> None:
    """Raise CancelledError where this task was cancelled and the cancellation got lost.

    `asyncio.wait_for` of Python 3.11 loses it when the awaited call finishes in that very moment,
    and redis-py sends every command through it. A loop that did not ask would run for ever, and a
    drain would wait for it. To be called once a round.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
