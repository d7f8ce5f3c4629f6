"""Batches, order per customer, and room: rules that need no service."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollgate.metering.v1 import event_pb2
from tollgate_sdk import BufferFull
from tollgate_sdk.backlog import Backlog, Delivery, Entry, Room

PROPERTY = settings(derandomize=True, max_examples=200, deadline=None)


def entry(customer: str, number: int, octets: int, loop: asyncio.AbstractEventLoop) -> Entry:
    event = event_pb2.Event(event_id=str(number), customer_id=customer)
    return Entry(event, octets, Delivery(event.event_id, loop), float(number))


@PROPERTY
@given(
    arrivals=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 50)), max_size=60),
    moves=st.lists(st.integers(0, 5), max_size=60),
    events_max=st.integers(1, 7),
    octets_max=st.integers(1, 120),
)
def test_batches_keep_to_their_bounds_and_to_each_customers_order(
    arrivals: list[tuple[str, int]], moves: list[int], events_max: int, octets_max: int
) -> None:
    loop = asyncio.new_event_loop()
    backlog = Backlog()
    in_flight: list[list[Entry]] = []
    answered: dict[str, list[int]] = defaultdict(list)
    entries = [entry(c, number, octets, loop) for number, (c, octets) in enumerate(arrivals)]
    waiting = list(entries)

    def take() -> None:
        ready = backlog.ready_events
        batch = backlog.take(events_max, octets_max)
        assert bool(batch) == bool(ready)
        assert len(batch) <= events_max
        assert len(batch) <= 1 or sum(each.octets for each in batch) <= octets_max
        busy = {each.event.customer_id for flight in in_flight for each in flight}
        assert not busy & {each.event.customer_id for each in batch}
        if batch:
            in_flight.append(batch)

    def answer(choice: int) -> None:
        batch = in_flight.pop(choice % len(in_flight))
        for each in batch:
            answered[each.event.customer_id].append(int(each.event.event_id))
        backlog.release({each.event.customer_id for each in batch})

    for move in moves:
        if move < 3 and waiting:
            backlog.add(waiting.pop(0))
        elif move < 5:
            take()
        elif in_flight:
            answer(move)
    while waiting:
        backlog.add(waiting.pop(0))
    while backlog.ready_events or in_flight:
        take()
        while in_flight:
            answer(0)
    loop.close()
    assert (backlog.ready_events, backlog.ready_octets) == (0, 0)
    assert sum(map(len, answered.values())) == len(entries)
    assert all(numbers == sorted(numbers) for numbers in answered.values())


async def test_room_is_given_to_who_came_first_and_to_nobody_who_left() -> None:
    room = Room(2, 100)
    await room.take(40, wait=False)
    await room.take(40, wait=False)
    with pytest.raises(BufferFull) as full:
        await room.take(1, wait=False)
    assert (full.value.events, full.value.octets) == (2, 80)
    order: list[str] = []

    async def come(name: str, octets: int) -> None:
        await room.take(octets, wait=True)
        order.append(name)

    first, second, third = (
        asyncio.create_task(come(name, octets)) for name, octets in (("a", 90), ("b", 5), ("c", 6))
    )
    await asyncio.sleep(0)
    room.give_back(40)
    await asyncio.sleep(0)
    assert order == [], "90 bytes do not fit yet, and the others came later"
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    room.give_back(40)
    await asyncio.gather(second, third)
    assert order == ["b", "c"]
    assert (room.events, room.octets) == (2, 11)
    room.give_back(5)
    room.give_back(6)
    assert (room.events, room.octets) == (0, 0)


async def test_who_is_cancelled_just_as_room_is_given_takes_none() -> None:
    room = Room(1, 10)
    await room.take(1, wait=False)
    waiting = asyncio.create_task(room.take(1, wait=True))
    await asyncio.sleep(0)
    room.give_back(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert room.events == 0
