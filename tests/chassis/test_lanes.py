"""Lanes: order per key, batches that form by themselves, and faults that stay with the guilty."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.database import DatabaseUnavailable, OutcomeUnknown
from chassis.lanes import LaneFull, Lanes, LanesClosed, WrongOutcomeCount
from tests.support.waiting import until


class Flusher:
    """Keeps every batch; waits at the gate while it is closed; poison makes a batch fail."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.poison: dict[str, Exception] = {}

    async def __call__(self, items: Sequence[str]) -> list[str | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        for item in items:
            if item in self.poison:
                raise self.poison[item]
        return [item.upper() for item in items]


def lanes_over(flusher: Flusher, **limits: int) -> Lanes[str, str]:
    limits = {"count": 1, "batch_max": 100, "queue_max": 1000} | limits
    return Lanes(flusher, **limits)


async def test_what_arrives_during_a_flush_forms_the_next_batch() -> None:
    flusher = Flusher()
    flusher.gate.clear()
    lanes = lanes_over(flusher)
    first = asyncio.create_task(lanes.submit("k", "a"))
    await until(lambda: flusher.batches)
    rest = [asyncio.create_task(lanes.submit("k", item)) for item in "bcd"]
    await until(lambda: lanes.waiting == 3)
    flusher.gate.set()
    assert await asyncio.gather(first, *rest) == ["A", "B", "C", "D"]
    assert flusher.batches == [["a"], ["b", "c", "d"]]


async def test_a_batch_is_bounded() -> None:
    flusher = Flusher()
    lanes = lanes_over(flusher, batch_max=2)
    assert await lanes.submit_many("k", list("abcde")) == list("ABCDE")
    assert flusher.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_request_that_fits_one_batch_is_not_torn_apart() -> None:
    flusher = Flusher()
    flusher.gate.clear()
    lanes = lanes_over(flusher, batch_max=4)
    tasks = [asyncio.create_task(lanes.submit("k", "x"))]
    await until(lambda: flusher.batches)
    tasks += [asyncio.create_task(lanes.submit_many("k", list(items))) for items in ("abc", "def")]
    await until(lambda: lanes.waiting == 6)
    flusher.gate.set()
    await asyncio.gather(*tasks)
    assert flusher.batches == [["x"], ["a", "b", "c"], ["d", "e", "f"]]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("pqrs"), st.integers(1, 5)), max_size=40),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_items_of_one_key_are_flushed_in_the_order_in_which_they_came(
    requests: list[tuple[str, int]], count: int, batch_max: int
) -> None:
    async def story() -> None:
        seen: dict[str, list[int]] = defaultdict(list)

        async def flush(items: Sequence[tuple[str, int]]) -> list[int | Exception]:
            assert len(items) <= batch_max
            await asyncio.sleep(0)
            for key, number in items:
                seen[key].append(number)
            return [number for _, number in items]

        lanes: Lanes[tuple[str, int], int] = Lanes(
            flush, count=count, batch_max=batch_max, queue_max=1000
        )
        sent: dict[str, list[int]] = defaultdict(list)
        tasks = []
        for key, size in requests:
            start = len(sent[key])
            numbers = list(range(start, start + size))
            sent[key].extend(numbers)
            items = [(key, number) for number in numbers]
            tasks.append(asyncio.create_task(lanes.submit_many(key, items)))
            await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks)
        assert [len(answer) for answer in answers] == [size for _, size in requests]
        assert seen == sent

    asyncio.run(story())


async def test_a_poisoned_item_fails_alone() -> None:
    flusher = Flusher()
    flusher.poison["d"] = ValueError("poison")
    lanes = lanes_over(flusher)
    outcomes = await lanes.submit_many("k", list("abcdefgh"))
    assert [o for o in outcomes if not isinstance(o, Exception)] == list("ABCEFGH")
    assert isinstance(outcomes[3], ValueError)
    # Halving eight takes one try, then three pairs of halves.
    assert len(flusher.batches) == 7


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), OutcomeUnknown("lost")])
async def test_a_batch_whose_outcome_is_not_known_is_never_sent_again(error: Exception) -> None:
    flusher = Flusher()
    flusher.poison["b"] = error
    lanes = lanes_over(flusher)
    assert await lanes.submit_many("k", list("abc")) == [error] * 3
    assert flusher.batches == [["a", "b", "c"]]


async def test_a_cancelled_submit_leaves_its_batch_and_its_neighbours_alone() -> None:
    flusher = Flusher()
    flusher.gate.clear()
    lanes = lanes_over(flusher)
    tasks = [asyncio.create_task(lanes.submit("k", item)) for item in "abc"]
    await until(lambda: lanes.waiting + sum(map(len, flusher.batches)) == 3)
    tasks[0].cancel()
    tasks[1].cancel()
    flusher.gate.set()
    assert await tasks[2] == "C"
    assert [item for batch in flusher.batches for item in batch] == ["a", "b", "c"]
    for task in tasks[:2]:
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_full_queue_refuses_and_takes_nothing() -> None:
    flusher = Flusher()
    flusher.gate.clear()
    lanes = lanes_over(flusher, queue_max=3)
    running = [asyncio.create_task(lanes.submit("k", "x"))]
    await until(lambda: flusher.batches)
    running += [asyncio.create_task(lanes.submit_many("k", ["a", "b"]))]
    await until(lambda: lanes.waiting == 2)
    assert lanes.fullness == pytest.approx(2 / 3)
    with pytest.raises(LaneFull):
        await lanes.submit_many("k", ["c", "d"])
    running += [asyncio.create_task(lanes.submit("k", "e"))]
    flusher.gate.set()
    await asyncio.gather(*running)
    assert [item for batch in flusher.batches for item in batch] == ["x", "a", "b", "e"]


async def test_a_batch_takes_items_of_one_group_and_the_others_keep_their_order() -> None:
    flusher = Flusher()
    flusher.gate.clear()
    lanes: Lanes[str, str] = Lanes(
        flusher, count=1, batch_max=10, queue_max=100, group_of=lambda item: item[0]
    )
    tasks = [asyncio.create_task(lanes.submit("k", "x0"))]
    await until(lambda: flusher.batches)
    for item in ("a1", "b1", "a2", "b2", "a3"):
        tasks.append(asyncio.create_task(lanes.submit("k", item)))
    await until(lambda: lanes.waiting == 5)
    flusher.gate.set()
    await asyncio.gather(*tasks)
    assert flusher.batches == [["x0"], ["a1", "a2", "a3"], ["b1", "b2"]]


async def test_closing_finishes_what_was_taken_and_takes_nothing_more() -> None:
    flusher = Flusher()
    flusher.gate.clear()
    lanes = lanes_over(flusher)
    tasks = [asyncio.create_task(lanes.submit("k", item)) for item in "ab"]
    await until(lambda: flusher.batches)
    closing = asyncio.create_task(lanes.close())
    await until(lambda: lanes._closed)
    with pytest.raises(LanesClosed):
        await lanes.submit("k", "c")
    assert not closing.done()
    flusher.gate.set()
    await closing
    assert await asyncio.gather(*tasks) == ["A", "B"]


async def test_a_flush_that_answers_too_little_is_a_bug_that_every_item_learns_of() -> None:
    async def flush(items: Sequence[str]) -> list[str | Exception]:
        return list(items)[1:]

    lanes: Lanes[str, str] = Lanes(flush, count=1, batch_max=10, queue_max=10)
    outcomes = await lanes.submit_many("k", ["a", "b"])
    assert all(isinstance(outcome, WrongOutcomeCount) for outcome in outcomes)


async def test_keys_spread_over_lanes_that_flush_at_the_same_time() -> None:
    flusher = Flusher()
    flusher.gate.clear()
    lanes = lanes_over(flusher, count=4)
    tasks = [asyncio.create_task(lanes.submit(f"key {i}", f"i{i}")) for i in range(40)]
    await until(lambda: len(flusher.batches) == 4)
    flusher.gate.set()
    await asyncio.gather(*tasks)
