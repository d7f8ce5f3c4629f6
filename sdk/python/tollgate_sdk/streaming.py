"""Events over one open call: batches answered in order, several on their way at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from tollgate.metering.v1 import event_pb2
from tollgate_sdk.errors import ProducerClosed, TollgateError, read_error
from tollgate_sdk.events import completed

_AIO: Any = grpc.aio  # its stubs leave EOF out
Answer = asyncio.Future[list[event_pb2.EventOutcome]]


class EventStream:
    """`async with tollgate.event_stream() as stream: outcomes = await stream.send(events)`.

    Up to 1000 events a batch. Where the service takes no more for the moment, `send` waits: the
    transport holds it back. When the connection is lost every batch on its way raises
    TollgateError, and the stream is over; open another and send them again, by their ids they are
    counted once. A producer does that by itself.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._waiting: deque[Answer] = deque()
        self._writing = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> EventStream:
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, events: Sequence[event_pb2.Event]) -> list[event_pb2.EventOutcome]:
        """The outcomes of a batch, in order. Raises TollgateError, ProducerClosed."""
        if self._closed:
            raise ProducerClosed("the stream is closed")
        answer: Answer = asyncio.get_running_loop().create_future()
        request = event_pb2.StreamEventsRequest(events=[completed(event) for event in events])
        async with self._writing:
            self._waiting.append(answer)
            try:
                await self._call.write(request)
            except grpc.aio.AioRpcError as error:
                self._fail(read_error(error))
            except asyncio.InvalidStateError:
                self._fail(_lost())
        return await answer

    async def close(self) -> None:
        """Send no more, and wait for what is on its way."""
        if self._closed:
            return
        self._closed = True
        async with self._writing:
            await self._call.done_writing()
        if self._reader is not None:
            await self._reader

    async def _read(self) -> None:
        try:
            while (answer := await self._call.read()) is not _AIO.EOF:
                future = self._waiting.popleft()
                if not future.done():
                    future.set_result(list(answer.outcomes))
        except grpc.aio.AioRpcError as error:
            self._fail(read_error(error))
        self._fail(_lost())

    def _fail(self, error: TollgateError) -> None:
        self._closed = True
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)


def _lost() -> TollgateError:
    return TollgateError(grpc.StatusCode.UNAVAILABLE, "", "the stream has ended", {})
