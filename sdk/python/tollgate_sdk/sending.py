"""Sending events until they are answered: the same events, so the same keys, after a pause."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import grpc
import tenacity

from tollgate.metering.v1 import event_pb2
from tollgate.type.v1 import refusal_pb2
from tollgate_sdk.calls import Calls
from tollgate_sdk.errors import TollgateError
from tollgate_sdk.events import AUTHORIZATION_EXPIRED, late_form

ANSWER_SECONDS = 20.0  # a batch that is not answered by then is sent again
BACKOFF_SECONDS = 0.05  # the first pause is random up to this, the next up to twice as much

# The request can never succeed as it is. Anything else may pass: the service comes back, the
# credential is renewed, the queue empties.
HOPELESS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
    }
)
# Refusals of single events that say nothing about the event.
PASSING_REASONS = frozenset({"UNAVAILABLE", "QUEUE_FULL", "OUTCOME_UNKNOWN", "DRAINING"})

log = logging.getLogger("tollgate_sdk.producer")


def is_final(outcome: event_pb2.EventOutcome) -> bool:
    """Whether asking again would answer the same."""
    if outcome.state == event_pb2.EVENT_STATE_INVALID:
        return outcome.refusal.reason not in PASSING_REASONS
    return outcome.state != event_pb2.EVENT_STATE_PENDING


def second_form(
    event: event_pb2.Event, outcome: event_pb2.EventOutcome, *, resumed: bool
) -> event_pb2.Event | None:
    """What to report in place of an event whose authorization's time was over, else None.

    Usage that ran is not forgotten because its report was late: without the authorization, and
    marked, it is charged like any other. An event from an earlier life whose second form was sent
    then, its answer lost, is told by the conflict that its first form meets now.
    """
    if not event.authorization_id or outcome.state != event_pb2.EVENT_STATE_INVALID:
        return None
    refusal = outcome.refusal
    expired = refusal.reason == "AUTHORIZATION_ENDED" and refusal.facts["state"] == "EXPIRED"
    if expired or (resumed and refusal.reason == "EVENT_CONFLICT"):
        return late_form(event, AUTHORIZATION_EXPIRED)
    return None


class Sender:
    """Sends batches and answers their outcomes, however long that takes.

    `trouble` is what the last attempt failed with, None while all is well.
    """

    def __init__(self, calls: Calls, *, backoff_seconds_max: float) -> None:
        self._calls = calls
        self._backoff_seconds_max = backoff_seconds_max
        self.trouble: TollgateError | None = None

    async def ask(self, events: Sequence[event_pb2.Event]) -> list[event_pb2.EventOutcome]:
        """One outcome per event, in order. Returns when there is one, and raises nothing."""
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_may_pass),
            wait=self.pauses(),
            before_sleep=self._note,
            reraise=True,
        )
        try:
            outcomes: list[event_pb2.EventOutcome] = await attempts(self._once, events)
        except TollgateError as error:
            return await self._divide(events, error)
        if self.trouble is not None:
            log.info("events are taken again after %s", self.trouble)
            self.trouble = None
        return outcomes

    def pauses(self) -> tenacity.wait.wait_base:
        """Jittered pauses that double: producers that failed together do not return together."""
        return tenacity.wait_random_exponential(
            multiplier=BACKOFF_SECONDS, max=self._backoff_seconds_max
        )

    async def _once(self, events: Sequence[event_pb2.Event]) -> list[event_pb2.EventOutcome]:
        answer = await self._calls.call(
            self._calls.events.IngestEvents,
            event_pb2.IngestEventsRequest(events=events),
            seconds=ANSWER_SECONDS,
            retry=False,
        )
        if len(answer.outcomes) != len(events):
            message = f"{len(answer.outcomes)} outcomes for {len(events)} events"
            raise TollgateError(grpc.StatusCode.UNKNOWN, "", message, {})
        return list(answer.outcomes)

    async def _divide(
        self, events: Sequence[event_pb2.Event], error: TollgateError
    ) -> list[event_pb2.EventOutcome]:
        """Find the event that a batch was refused for, so that it fails alone."""
        if len(events) > 1:
            middle = len(events) // 2
            return [*await self.ask(events[:middle]), *await self.ask(events[middle:])]
        return [
            event_pb2.EventOutcome(
                event_id=events[0].event_id,
                state=event_pb2.EVENT_STATE_INVALID,
                refusal=refusal_pb2.Refusal(
                    reason=error.reason or error.code.name,
                    message=error.message,
                    facts=error.facts,
                ),
            )
        ]

    def _note(self, attempt: tenacity.RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        if isinstance(error, TollgateError):
            if self.trouble is None:
                log.warning("events wait, and are sent again: %s: %s", error.code.name, error)
            self.trouble = error


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, TollgateError) and error.code not in HOPELESS
