"""A proxy before Postgres that cuts connections at a chosen moment."""

from __future__ import annotations

import asyncio
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from chassis.database import dsn_with


class CuttingProxy:
    """Passes everything on until it is told to cut; `dsn` leads through it."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        query = parse_qs(parts.query)
        self._target_host = query["host"][0] if "host" in query else (parts.hostname or "")
        self._target_port = parts.port or int(query.get("port", ["5432"])[0])
        self._parts = parts
        self._cut_at: bytes | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        login = self._parts.netloc.rpartition("@")[0]
        self.dsn = dsn_with(f"postgresql://{login}@{host}:{port}{self._parts.path}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut_before_reply_to(self, words: bytes) -> None:
        """Let the next request that holds these words through, and cut instead of its reply."""
        self._cut_at = words

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self._target_host.startswith("/"):
            path = f"{self._target_host}/.s.PGSQL.{self._target_port}"
            far_reader, far_writer = await asyncio.open_unix_connection(path)
        else:
            far_reader, far_writer = await asyncio.open_connection(
                self._target_host, self._target_port
            )
        silent = asyncio.Event()
        forth = asyncio.create_task(self._pass_on(reader, far_writer, silent))
        back = asyncio.create_task(self._pass_back(far_reader, writer, silent))
        try:
            await asyncio.wait([forth, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in (forth, back):
                part.cancel()
            await asyncio.gather(forth, back, return_exceptions=True)
            for end in (writer, far_writer):
                end.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event
    ) -> None:
        while part := await reader.read(65536):
            if self._cut_at is not None and self._cut_at in part:
                self._cut_at = None
                silent.set()
            writer.write(part)
            await writer.drain()

    async def _pass_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event
    ) -> None:
        while part := await reader.read(65536):
            if silent.is_set():
                return
            writer.write(part)
            await writer.drain()
