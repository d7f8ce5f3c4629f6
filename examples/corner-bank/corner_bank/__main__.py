"""`python -m corner_bank --listen 127.0.0.1:0 --books FILE`: the bank as a provider over gRPC."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import grpc

from corner_bank.ledger import DEMO_MANDATES, Ledger
from corner_bank.letters import send_for_ever
from corner_bank.service import CornerBank, add_to

GRACE_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m corner_bank", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port, or unix:<path>")
    parser.add_argument("--books", type=Path, required=True, help="the SQLite file")
    parser.add_argument("--demo-customer", default="", help="signs a mandate of each sort for it")
    asyncio.run(serve(parser.parse_args()))


async def serve(options: argparse.Namespace) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    ledger = Ledger(options.books)
    if options.demo_customer:
        for token, verdict in DEMO_MANDATES.items():
            ledger.sign_mandate(token, options.demo_customer, verdict)
    secret = os.environ.get("CORNER_BANK_LETTER_SECRET", "set one of your own").encode()
    server = grpc.aio.server()
    add_to(server, CornerBank(ledger, secret))
    port = server.add_insecure_port(options.listen)
    await server.start()
    host = options.listen.rpartition(":")[0]
    target = options.listen if options.listen.startswith("unix:") else f"{host}:{port}"
    print(json.dumps({"target": target, "process": os.getpid()}), flush=True)
    letters = asyncio.create_task(send_for_ever(ledger, secret))
    try:
        await told.wait()
    finally:
        letters.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await letters
        await server.stop(GRACE_SECONDS)
        ledger.close()


if __name__ == "__main__":
    main()
