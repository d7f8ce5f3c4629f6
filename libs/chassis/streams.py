"""Bidirectional streams whose requests are answered in turn, several of them under way at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


class _StreamEnd(Exception):
    """The caller sends no more. StopAsyncIteration cannot leave a task."""


async def answer_in_turn(
    requests: AsyncIterator[Q], answer: Callable[[Q], Awaitable[R]], going_max: int
) -> AsyncIterator[R]:
    """Answers of a stream's requests, in their order; at most `going_max` are worked on at once.

    Beyond those nothing is read, so the transport holds the caller back. An answer that raises ends
    the stream with it; what was under way behind it is cancelled.
    """
    going: deque[asyncio.Task[R]] = deque()
    arriving: asyncio.Task[Q] | None = None
    has_ended = False
    try:
        while not has_ended or going:
            if arriving is None and not has_ended and len(going) < going_max:
                arriving = asyncio.create_task(_next(requests))
            waited = [task for task in (arriving, going[0] if going else None) if task]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if arriving is not None and arriving.done():
                try:
                    going.append(asyncio.create_task(_run(answer, arriving.result())))
                except _StreamEnd:
                    has_ended = True
                arriving = None
            elif going and going[0].done():
                yield going.popleft().result()
    finally:
        left = [task for task in (arriving, *going) if task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _run(answer: Callable[[Q], Awaitable[R]], request: Q) -> R:
    return await answer(request)


async def _next(requests: AsyncIterator[Q]) -> Q:
    try:
        return await anext(requests)
    except StopAsyncIteration:
        raise _StreamEnd from None
