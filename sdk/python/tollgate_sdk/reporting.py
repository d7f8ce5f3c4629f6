"""Reporting one event without a producer, until its outcome is final."""

from __future__ import annotations

import asyncio

from tollgate.metering.v1 import event_pb2
from tollgate_sdk.calls import Calls
from tollgate_sdk.sending import is_final, second_form

SETTLE_SECONDS = 10.0  # a charge that is not settled by then is settled by metering itself
PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 1.0


async def report_directly(calls: Calls, event: event_pb2.Event) -> event_pb2.EventOutcome:
    """Send one event and answer its outcome; PENDING where it is not settled after ten seconds.

    Raises TollgateError where it could not be sent. The event is then not known to be stored, and
    may be sent again as it is.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + SETTLE_SECONDS
    pause = PAUSE_SECONDS
    sent, is_second = event, False
    while True:
        answer = await calls.call(
            calls.events.IngestEvents, event_pb2.IngestEventsRequest(events=[sent])
        )
        outcome: event_pb2.EventOutcome = answer.outcomes[0]
        second = None if is_second else second_form(sent, outcome, resumed=False)
        if second is not None:
            sent, is_second = second, True
            continue
        if is_final(outcome) or loop.time() > give_up:
            return outcome
        await asyncio.sleep(pause)
        pause = min(pause * 2, PAUSE_SECONDS_MAX)
