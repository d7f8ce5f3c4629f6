"""A program that reports usage from several threads and forgets to close what it opened."""

from __future__ import annotations

import sys
import threading

from tollgate_sdk import make_event
from tollgate_sdk.sync import Endpoints, Limits, Tollgate

THREADS = 4


def report(address: str, key: str, folder: str, count: int) -> None:
    tollgate = Tollgate(Endpoints.at(address), key)
    producer = tollgate.producer(folder=folder or None, limits=Limits(linger_ms=500))

    def send() -> None:
        for _ in range(count // THREADS):
            producer.send(make_event("call", "acme"))

    threads = [threading.Thread(target=send) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    report(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
