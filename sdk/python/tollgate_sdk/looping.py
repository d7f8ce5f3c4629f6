"""A loop on a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopClosed(RuntimeError):
    """The loop has ended, or belongs to the process that this one was forked from."""


class LoopThread:
    """Runs coroutines for any number of threads. `run` blocks its caller, never the loop."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._process_id = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine and answer what it returns, or raise what it raises.

        After `timeout` seconds, or on an exception such as KeyboardInterrupt while waiting, the
        coroutine is cancelled; the former raises TimeoutError.
        """
        if self._closed or os.getpid() != self._process_id:
            work.close()
            raise LoopClosed("closed, or forked: connect anew in each process")
        if threading.current_thread() is self._thread:
            work.close()
            raise LoopClosed("called from its own loop: use the asynchronous client there")
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result(timeout)
        except BaseException:
            waiting.cancel()
            raise

    def close(self) -> None:
        """End the loop and its thread. Harmless when it is closed already."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if os.getpid() != self._process_id:
            return
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
