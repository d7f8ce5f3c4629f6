"""A program that reports usage and tells each event that was taken, until it is killed."""

from __future__ import annotations

import asyncio
import sys

from tollgate_sdk import Endpoints, Limits, Tollgate, make_event

SENDERS = 8


async def produce(address: str, key: str, folder: str, count: int) -> None:
    async with Tollgate(Endpoints.at(address), key) as tollgate:
        limits = Limits(batch_events=10, backoff_seconds_max=0.2)
        async with tollgate.producer(folder=folder, limits=limits) as producer:

            async def send(sender: int) -> None:
                customer = ("acme", "other")[sender % 2]
                for number in range(sender, count, SENDERS):
                    event = make_event("call", customer, event_id=f"event-{number}")
                    await producer.send(event)
                    print(event.event_id, flush=True)

            await asyncio.gather(*(send(sender) for sender in range(SENDERS)))
        print("drained", flush=True)


if __name__ == "__main__":
    asyncio.run(produce(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
