"""The client's stream, corrections, explanations and CloudEvents, with and without a loop."""

from __future__ import annotations

import asyncio
import json

from tests.sdk.conftest import Site
from tollgate.metering.v1 import correction_pb2, event_pb2
from tollgate_sdk import make_event
from tollgate_sdk.sync import Tollgate as SyncTollgate

ACCEPTED = event_pb2.EVENT_STATE_ACCEPTED
APPLIED = correction_pb2.CORRECTION_STATE_APPLIED


async def test_a_stream_answers_batches_in_order_and_corrections_are_settled(site: Site) -> None:
    tollgate = site.tollgate
    events = [make_event("call", "acme", {"tokens": number + 1}) for number in range(6)]

    async with tollgate.event_stream() as stream:
        answers = await asyncio.gather(
            *(stream.send(events[start : start + 2]) for start in range(0, 6, 2))
        )
    told = [outcome for outcomes in answers for outcome in outcomes]
    assert [outcome.event_id for outcome in told] == [event.event_id for event in events]
    assert {outcome.state for outcome in told} == {ACCEPTED}

    wrong = events[0]
    wrong.properties["tokens"] = "3"
    (amended,) = await tollgate.amend_events([wrong], "miscounted")
    (gone, unknown) = await tollgate.deprecate_events(
        [events[1].event_id, "never sent"], "a test run"
    )
    assert (amended.state, gone.state) == (APPLIED, APPLIED)
    assert unknown.refusal.reason == "NOT_FOUND"
    explained = await tollgate.explain_charge(event_id=wrong.event_id)
    assert (explained.revision, explained.event.properties["tokens"]) == (1, "3")
    assert await site.world.quantity("acme", "calls") == "5"
    assert await site.world.verify() == 7


async def test_the_same_without_a_loop(site: Site) -> None:
    def use() -> list[int]:
        with SyncTollgate(site.endpoints, site.key) as tollgate:
            event = make_event("call", "acme", {"tokens": 2})
            with tollgate.event_stream() as stream:
                (sent,) = stream.send([event])
            document = {
                "specversion": "1.0",
                "id": "1",
                "source": "/tests",
                "type": "call",
                "subject": "acme",
                "time": event.event_time.ToJsonString(),
                "data": {"tokens": 5},
            }
            (cloud,) = tollgate.ingest_cloud_events(json.dumps(document))
            (gone,) = tollgate.deprecate_events([event.event_id], "a test run")
            told = tollgate.explain_charge(event_id="/tests#1")
            assert told.prices[0].payments[0].amount.value == told.prices[0].charged.value
            return [sent.state, cloud.state, gone.state]

    assert await asyncio.to_thread(use) == [ACCEPTED, ACCEPTED, APPLIED]
    assert await site.world.quantity("acme", "calls") == "1"
