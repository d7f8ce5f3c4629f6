"""A TCP line of ours to a server, which cuts: before a request, after it, or before its reply."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from enum import Enum

RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: closing is a reset
REPLY_BYTES_MIN = 64  # what is shorter is the protocol's own talk
REPLY_SECONDS_MAX = 0.5
CONNECT_SECONDS_MAX = 5.0


class Cut(Enum):
    """Where a line is cut; each is done once, on the first connection that comes to it."""

    BEFORE_REQUEST = "the request is lost and the connection reset"
    AFTER_REQUEST = "the request goes through and the connection is reset at once"
    BEFORE_REPLY = "the request goes through; when its reply comes, the connection is reset"


class Line:
    """Passes everything on until it is told to cut.

    `target` is "host:port", or a socket's path. With `match`, only a request that holds one of
    these words is cut.
    """

    def __init__(self, target: str, match: tuple[bytes, ...] = (b"",)) -> None:
        self.cuts = 0
        self._target = target
        self._match = match
        self._armed: Cut | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        self.cut_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, how: Cut) -> None:
        """Cut at the next request."""
        self._armed = how

    def cut_all(self) -> None:
        """Reset every connection now."""
        for link in list(self._links):
            link.reset()

    def heal(self) -> None:
        """Cut nothing any more."""
        self._armed = None

    def take(self, part: bytes) -> Cut | None:
        """What is to be done to a request that comes now."""
        if self._armed is None or not any(words in part for words in self._match):
            return None
        how, self._armed = self._armed, None
        self.cuts += 1
        return how

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await self._connect()
        except (OSError, TimeoutError):
            writer.transport.abort()
            self._tasks.discard(task)
            return
        link = _Link(self, reader, writer, far_reader, far_writer)
        self._links.add(link)
        try:
            await link.run()
        except asyncio.CancelledError:
            return
        finally:
            link.reset()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            if self._target.startswith("/"):
                return await asyncio.open_unix_connection(self._target)
            host, _, port = self._target.rpartition(":")
            return await asyncio.open_connection(host, int(port))


class _Link:
    """One connection and its far end."""

    def __init__(
        self,
        line: Line,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        self._line = line
        self._near = (reader, writer)
        self._far = (far_reader, far_writer)
        self._swallowing = False
        self._ended = asyncio.Event()

    async def run(self) -> None:
        tasks = [
            asyncio.create_task(self._forth()),
            asyncio.create_task(self._back()),
            asyncio.create_task(self._ended.wait()),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def reset(self) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        for writer in (self._near[1], self._far[1]):
            handle = writer.get_extra_info("socket")
            if handle is not None and handle.family != socket.AF_UNIX:
                with suppress(OSError, ValueError):  # it may be closed already
                    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def _forth(self) -> None:
        reader, writer = self._near[0], self._far[1]
        with suppress(OSError):
            while part := await reader.read(262_144):
                match self._line.take(part):
                    case Cut.BEFORE_REQUEST:
                        self.reset()
                        return
                    case Cut.AFTER_REQUEST:
                        writer.write(part)
                        await writer.drain()
                        # What is in the socket's buffer is read by the server before the reset.
                        await asyncio.sleep(0)
                        self.reset()
                        return
                    case Cut.BEFORE_REPLY:
                        self._swallowing = True
                        loop = asyncio.get_running_loop()
                        loop.call_later(REPLY_SECONDS_MAX, self.reset)
                writer.write(part)
                await writer.drain()

    async def _back(self) -> None:
        reader, writer = self._far[0], self._near[1]
        swallowed = 0
        with suppress(OSError):
            while part := await reader.read(262_144):
                if self._swallowing:
                    swallowed += len(part)
                    if swallowed >= REPLY_BYTES_MIN:
                        self.reset()
                        return
                    continue
                writer.write(part)
                await writer.drain()
