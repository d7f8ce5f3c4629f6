"""EventService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from chassis.call import Call
from chassis.clocks import TenantClocks
from chassis.database import Database
from chassis.lanes import LaneFull
from chassis.metrics import Metrics
from chassis.paging import next_token, parse_page
from chassis.streams import answer_in_turn
from chassis.wire import parse_uuid
from kernel.errors import InvalidValue, NotFound, Refusal
from metering.archive import store as archive
from metering.archive.domain import first_key_kept
from metering.charging.domain import batch_of
from metering.corrections.operations import load_histories
from metering.events import store
from metering.events.domain.event import EventState, Outcome, invalid
from metering.events.domain.inflow import Arrival
from metering.events.domain.rendering import outcome_of_stored
from metering.events.operations import Ingest
from metering.events.wire import (
    check_batch,
    parse_event,
    read_cloud_events,
    render_outcome,
    render_stored,
)
from metering.explanations.operations import Explanations
from metering.explanations.wire import render_explanation
from metering.meters.operations import Meters
from metering.parking import store as parking
from metering.parking.wire import render_parked_event
from metering.usage import store as usage
from metering.verification.operations import list_charges, verify_page
from metering.verification.wire import render_charges, render_verification
from tollgate.metering.v1 import event_pb2

CHARGES_PER_PAGE_DEFAULT, CHARGES_PER_PAGE_MAX = 1_000, 5_000
CUSTOMERS_PER_PAGE_DEFAULT, CUSTOMERS_PER_PAGE_MAX = 100, 1_000


STREAMED_MAX = 4  # batches of one stream on their way at once
FULL_PAUSE_SECONDS = 0.05  # until a stream tries full lanes again


class EventService:
    """Answers the RPCs of tollgate.metering.v1.EventService."""

    def __init__(
        self,
        database: Database,
        ingest: Ingest,
        meters: Meters,
        clocks: TenantClocks,
        metrics: Metrics,
        explanations: Explanations,
    ) -> None:
        self._explanations = explanations
        self._database = database
        self._metrics = metrics
        self._accepted = metrics.events_accepted_total.of()
        self._repeated = metrics.events_duplicate_total.of()
        self._ingest = ingest
        self._meters = meters
        self._clocks = clocks

    async def IngestEvents(
        self, request: event_pb2.IngestEventsRequest, call: Call
    ) -> event_pb2.IngestEventsResponse:
        outcomes = await self._take(request.events, call)
        return event_pb2.IngestEventsResponse(outcomes=[render_outcome(o) for o in outcomes])

    async def StreamEvents(
        self, requests: AsyncIterator[event_pb2.StreamEventsRequest], call: Call
    ) -> AsyncIterator[event_pb2.StreamEventsResponse]:
        async def answer(
            request: event_pb2.StreamEventsRequest,
        ) -> event_pb2.StreamEventsResponse:
            outcomes = await self._take_patiently(request, await self._clocks.present(call))
            return event_pb2.StreamEventsResponse(
                outcomes=[render_outcome(outcome) for outcome in outcomes]
            )

        async for response in answer_in_turn(requests, answer, STREAMED_MAX):
            yield response

    async def _take_patiently(
        self, request: event_pb2.StreamEventsRequest, call: Call
    ) -> list[Outcome]:
        """A stream waits where the lanes are full; what of it was taken is answered by its ids."""
        while True:
            try:
                return await self._take(request.events, call)
            except LaneFull:
                await asyncio.sleep(FULL_PAUSE_SECONDS)

    async def IngestCloudEvents(
        self, request: event_pb2.IngestCloudEventsRequest, call: Call
    ) -> event_pb2.IngestCloudEventsResponse:
        mapped = read_cloud_events(request)
        check_batch(len(mapped))
        messages: list[event_pb2.Event] = []
        faults: dict[int, Outcome] = {}
        for index, parse in enumerate(mapped):
            try:
                messages.append(parse())
            except Refusal as refusal:
                faults[index] = invalid("", refusal)
        outcomes = iter(await self._take(messages, call) if messages else [])
        answered = [
            faults[index] if index in faults else next(outcomes) for index in range(len(mapped))
        ]
        return event_pb2.IngestCloudEventsResponse(outcomes=[render_outcome(o) for o in answered])

    async def _take(self, messages: Sequence[event_pb2.Event], call: Call) -> list[Outcome]:
        check_batch(len(messages))
        arrivals: list[Arrival] = []
        faults: dict[int, Outcome] = {}
        for index, message in enumerate(messages):
            field = f"events[{index}]"
            try:
                arrivals.append(Arrival(parse_event(message, field, call.now), field, call))
            except Refusal as refusal:
                faults[index] = invalid(message.event_id, refusal)
        outcomes = await self._ingest.take(arrivals)
        if faults:
            answered = iter(outcomes)
            outcomes = [
                faults[index] if index in faults else next(answered)
                for index in range(len(messages))
            ]
        self._count(outcomes)
        return outcomes

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        accepted = repeated = 0
        for outcome in outcomes:
            if outcome.duplicate:
                repeated += 1
            elif outcome.refusal is None or outcome.state is EventState.PARKED:
                accepted += 1
            else:
                self._metrics.events_rejected_total.of(outcome.refusal.reason).add()
        self._accepted.add(accepted)
        self._repeated.add(repeated)

    async def GetEvent(
        self, request: event_pb2.GetEventRequest, call: Call
    ) -> event_pb2.GetEventResponse:
        tenant_id = call.tenant_id
        async with self._database.transaction(tenant_id) as tx:
            histories = await load_histories(tx, tenant_id, [request.event_id])
            if request.event_id not in histories:
                waiting = await parking.list_by_event(tx, tenant_id, [request.event_id])
                if not waiting or waiting[0].event.event_id != request.event_id:
                    raise NotFound("event", request.event_id)
                return render_parked_event(waiting[0])
            history = histories[request.event_id]
            last = history.last
            numbers = [(last.event.customer_id, line.number) for line in last.lines]
            usages = await usage.find_named(tx, tenant_id, numbers)
            pending = await store.list_pending(
                tx, tenant_id, {batch_of(key) for key in history.receipts}
            )
        outcome = outcome_of_stored(last, usages, bool(pending))
        if history.is_deprecated:
            outcome = outcome._replace(state=EventState.DEPRECATED, charges=[])
        return render_stored(history, outcome)

    async def ExplainCharge(
        self, request: event_pb2.ExplainChargeRequest, call: Call
    ) -> event_pb2.ExplainChargeResponse:
        if bool(request.event_id) is bool(request.charge_id):
            raise InvalidValue("event_id", "name an event or a charge, and not both")
        event_id = request.event_id
        if request.charge_id:
            parse_uuid(request.charge_id, "charge_id")
            event_id = await self._explanations.find_event_id(request.charge_id, call)
        return render_explanation(*await self._explanations.explain(event_id, call))

    async def ListCharges(
        self, request: event_pb2.ListChargesRequest, call: Call
    ) -> event_pb2.ListChargesResponse:
        page = parse_page(
            request.page_size,
            request.page_token,
            CHARGES_PER_PAGE_DEFAULT,
            CHARGES_PER_PAGE_MAX,
            key_parts=1,
        )
        async with self._database.transaction(call.tenant_id) as tx:
            charges, after = await list_charges(tx, call.tenant_id, page)
            edge = first_key_kept(await archive.find_last_day(tx, call.tenant_id))
        return event_pb2.ListChargesResponse(
            charges=render_charges(charge for charge in charges if charge.charge_id >= edge),
            next_page_token=next_token(after) if after else "",
            archived_before=edge,
        )

    async def VerifyUsage(
        self, request: event_pb2.VerifyUsageRequest, call: Call
    ) -> event_pb2.VerifyUsageResponse:
        page = parse_page(
            request.page_size,
            request.page_token,
            CUSTOMERS_PER_PAGE_DEFAULT,
            CUSTOMERS_PER_PAGE_MAX,
            key_parts=1,
        )
        found = await verify_page(self._database, self._meters, call.tenant_id, page)
        return render_verification(found)
