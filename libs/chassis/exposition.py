"""`/metrics` for Prometheus, on an address of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.metrics import Metrics, render_text
from chassis.settings import split_address

REQUEST_SECONDS_MAX = 5.0
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def exposing(metrics: Metrics, listen: str) -> AsyncIterator[str]:
    """Answer GET /metrics on `listen` ("host:port", or empty for not at all) while in the block;
    yields the address."""
    if not listen:
        yield ""
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                known = head.startswith((b"GET /metrics ", b"GET /metrics?"))
                body = render_text(metrics).encode() if known else b"only /metrics is here\n"
                status = "200 OK" if known else "404 Not Found"
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                )
                writer.write(body)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            return  # a scraper that went away, or something that is none
        finally:
            writer.close()

    host, port = split_address(listen)
    server = await asyncio.start_server(answer, host.strip("[]"), port)
    try:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
