"""`python -m gateway.sandbox --port 0 --seed 1 --journal FILE`: the sandbox as a program."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

from aiohttp import web

from gateway.sandbox.books import Books, JournalInUse
from gateway.sandbox.providers import DIALECTS
from gateway.sandbox.server import Sandbox

LOOPBACK = "127.0.0.1"


def main() -> None:
    options = _parse()
    try:
        code = asyncio.run(_serve(options))
    except (OSError, JournalInUse, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr, flush=True)
        code = 1
    raise SystemExit(code)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.sandbox", description="A payment provider for tests and demos."
    )
    parser.add_argument("--host", default=LOOPBACK, help="loopback, unless --expose is given")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--seed", type=int, default=1, help="ids follow from it")
    parser.add_argument("--journal", type=Path, help="file that keeps the books across restarts")
    parser.add_argument("--dialect", choices=sorted(DIALECTS), help="speak another's words")
    parser.add_argument("--notify-url", default="", help="of a dialect: where it notifies")
    parser.add_argument("--notify-secret-file", type=Path, help="of a dialect: what it signs with")
    parser.add_argument("--expose", action="store_true", help="allow a host beyond loopback")
    options = parser.parse_args()
    if options.host not in (LOOPBACK, "::1", "localhost") and not options.expose:
        parser.error(f"--host {options.host} is beyond loopback; add --expose if that is meant")
    if not 0 <= options.port <= 65_535:
        parser.error("--port takes 0 to 65535")
    return options


async def _serve(options: argparse.Namespace) -> int:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    books = Books(options.seed, options.journal)
    listener = _listen(options.host, options.port)
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    runner = web.AppRunner(
        _application(options, books, address), access_log=None, shutdown_timeout=1.0
    )
    try:
        await runner.setup()
        await web.SockSite(runner, listener).start()
        line = {"listening": f"{host}:{port}", "service": "sandbox", "endpoint": address}
        print(json.dumps({**line, "process": os.getpid()}), flush=True)
        await told.wait()
    finally:
        await runner.cleanup()
        books.close()
    return 0


def _application(options: argparse.Namespace, books: Books, address: str) -> web.Application:
    if options.dialect is None:
        return Sandbox(books, address).application()
    secret = ""
    if options.notify_secret_file is not None:
        secret = options.notify_secret_file.read_text(encoding="utf-8").strip()
    dialect = DIALECTS[options.dialect](books, address, options.notify_url, secret)
    return dialect.application()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    listener.setblocking(False)
    return listener


if __name__ == "__main__":
    main()
