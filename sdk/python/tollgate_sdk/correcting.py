"""Correcting events: amendments and deprecations, each once, settled when they return."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from tollgate.metering.v1 import correction_pb2, event_pb2
from tollgate_sdk.calls import Calls
from tollgate_sdk.events import new_event_id

ITEMS_MAX = 1_000  # metering's limit for one call
PAUSE_SECONDS = 0.1  # before asking again what is still being settled
SETTLED_SECONDS_MAX = 60.0  # then PENDING is the answer

Item = TypeVar("Item", correction_pb2.Amendment, correction_pb2.Deprecation)


def amendments(events: Sequence[event_pb2.Event], reason: str) -> list[correction_pb2.Amendment]:
    """Each event as it should have been, under a key of its own."""
    return [
        correction_pb2.Amendment(request_id=new_event_id(), event=event, reason=reason)
        for event in events
    ]


def deprecations(event_ids: Sequence[str], reason: str) -> list[correction_pb2.Deprecation]:
    """Events that never happened, each under a key of its own."""
    return [
        correction_pb2.Deprecation(request_id=new_event_id(), event_id=event_id, reason=reason)
        for event_id in event_ids
    ]


async def correct(
    calls: Calls, method: Any, make_request: Any, items: Sequence[Item]
) -> list[correction_pb2.CorrectionOutcome]:
    """Outcomes in order; what is PENDING is asked again, under the same key, for a minute."""
    outcomes: list[correction_pb2.CorrectionOutcome] = []
    for start in range(0, len(items), ITEMS_MAX):
        chunk = list(items[start : start + ITEMS_MAX])
        answer = await calls.call(method, make_request(items=chunk))
        outcomes.extend(answer.outcomes)
    give_up = asyncio.get_running_loop().time() + SETTLED_SECONDS_MAX
    while asyncio.get_running_loop().time() < give_up:
        pending = [
            place
            for place, outcome in enumerate(outcomes)
            if outcome.state == correction_pb2.CORRECTION_STATE_PENDING
        ]
        if not pending:
            break
        await asyncio.sleep(PAUSE_SECONDS)
        chunk = [items[place] for place in pending[:ITEMS_MAX]]
        answer = await calls.call(method, make_request(items=chunk))
        for place, outcome in zip(pending, answer.outcomes, strict=False):
            outcomes[place] = outcome
    return outcomes
