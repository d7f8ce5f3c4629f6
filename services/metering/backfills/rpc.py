"""BackfillService."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from chassis.requests import claim, record
from chassis.wire import parse_uuid
from kernel.errors import InvalidValue, Refusal
from kernel.ids import new_id
from metering.backfills import store
from metering.backfills.domain import (
    CLOSING,
    EVENTS_MAX,
    REVERTING,
    Backfill,
    BackfillState,
    FedState,
    State,
    check_event,
)
from metering.backfills.operations import Backfills, get
from metering.backfills.wire import (
    parse_backfill,
    render_backfill,
    render_effect,
    render_fault,
    render_fed,
)
from metering.charging.domain import Refused, refused
from metering.events.domain.event import BatchTooLarge, Event, EventConflict
from metering.events.wire import check_batch, parse_event
from metering.rehearsals.operations import Rehearsals
from tollgate.metering.v1 import backfill_pb2, event_pb2

PREVIEW_DEFAULT, PREVIEW_MAX = 10, 20  # customers, each a transaction of its own


class BackfillService:
    """Answers the RPCs of tollgate.metering.v1.BackfillService."""

    def __init__(self, database: Database, backfills: Backfills, rehearsals: Rehearsals) -> None:
        self._database = database
        self._backfills = backfills
        self._rehearsals = rehearsals

    async def CreateBackfill(
        self, request: backfill_pb2.CreateBackfillRequest, call: Call
    ) -> backfill_pb2.CreateBackfillResponse:
        backfill = parse_backfill(request, new_id(call.now), call.caller, call.now)
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return backfill_pb2.CreateBackfillResponse.FromString(recorded)
            await store.insert(tx, call.tenant_id, backfill)
            response = backfill_pb2.CreateBackfillResponse(backfill=render_backfill(backfill, {}))
            await record(tx, call.tenant_id, request.request_id, response)
        return response

    async def FeedBackfill(
        self, request: backfill_pb2.FeedBackfillRequest, call: Call
    ) -> backfill_pb2.FeedBackfillResponse:
        check_batch(len(request.events))
        async with self._database.transaction(call.tenant_id) as tx:
            backfill = await self._get_open(tx, request.backfill_id, call)
            counts = await store.count_by_state(tx, call.tenant_id, backfill.backfill_id)
            if sum(counts.values()) + len(request.events) > EVENTS_MAX:
                raise BatchTooLarge("events", EVENTS_MAX, sum(counts.values()))
            refusals = await self._feed(tx, backfill, request.events, call)
        return backfill_pb2.FeedBackfillResponse(
            outcomes=[
                render_fed(message.event_id, refusals.get(index))
                for index, message in enumerate(request.events)
            ]
        )

    async def _feed(
        self,
        tx: Connection,
        backfill: Backfill,
        messages: Sequence[event_pb2.Event],
        call: Call,
    ) -> dict[int, Refused]:
        refusals: dict[int, Refused] = {}
        events: dict[int, Event] = {}
        for index, message in enumerate(messages):
            field = f"events[{index}]"
            try:
                event = parse_event(message, field, call.now, bounded=False)
                check_event(backfill, event, field, call.now)
                events[index] = event
            except Refusal as refusal:
                refusals[index] = refused(refusal)
        if events:
            await store.feed(tx, call.tenant_id, backfill.backfill_id, list(events.values()))
            names = [event.event_id for event in events.values()]
            fed = await store.find_fed(tx, call.tenant_id, backfill.backfill_id, names)
            for index, event in events.items():
                kept = fed.get(event.event_id)
                if kept is None or kept.event != event:
                    field = f"events[{index}].event_id"
                    refusals[index] = refused(EventConflict(field, event.event_id))
        return refusals

    async def PreviewBackfill(
        self, request: backfill_pb2.PreviewBackfillRequest, call: Call
    ) -> backfill_pb2.PreviewBackfillResponse:
        page = parse_page(
            request.page_size, request.page_token, PREVIEW_DEFAULT, PREVIEW_MAX, key_parts=1
        )
        async with self._database.transaction(call.tenant_id) as tx:
            backfill = await self._get_open(tx, request.backfill_id, call)
        after = page.after[0] if page.after else ""
        left = [customer for customer in backfill.customer_ids if customer > after]
        shown = left[: page.size]
        effects = await self._rehearsals.preview(backfill, shown, call)
        return backfill_pb2.PreviewBackfillResponse(
            effects=[render_effect(effect) for effect in effects],
            next_page_token=next_token(shown[-1]) if len(left) > page.size else "",
        )

    async def CloseBackfill(
        self, request: backfill_pb2.CloseBackfillRequest, call: Call
    ) -> backfill_pb2.CloseBackfillResponse:
        backfill_id = parse_uuid(request.backfill_id, "backfill_id")
        await self._backfills.move(call.tenant_id, backfill_id, CLOSING)
        return backfill_pb2.CloseBackfillResponse(
            backfill=await self._tell(request.backfill_id, call)
        )

    async def RevertBackfill(
        self, request: backfill_pb2.RevertBackfillRequest, call: Call
    ) -> backfill_pb2.RevertBackfillResponse:
        backfill_id = parse_uuid(request.backfill_id, "backfill_id")
        await self._backfills.move(call.tenant_id, backfill_id, REVERTING)
        return backfill_pb2.RevertBackfillResponse(
            backfill=await self._tell(request.backfill_id, call)
        )

    async def GetBackfill(
        self, request: backfill_pb2.GetBackfillRequest, call: Call
    ) -> backfill_pb2.GetBackfillResponse:
        return backfill_pb2.GetBackfillResponse(
            backfill=await self._tell(request.backfill_id, call)
        )

    async def ListBackfillFaults(
        self, request: backfill_pb2.ListBackfillFaultsRequest, call: Call
    ) -> backfill_pb2.ListBackfillFaultsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        after = page.after[0] if page.after else "0"
        if not after.isdecimal():
            raise InvalidValue("page_token", "is not from this list")
        backfill_id = parse_uuid(request.backfill_id, "backfill_id")
        async with self._database.transaction(call.tenant_id) as tx:
            await get(tx, call.tenant_id, backfill_id)
            found = await store.list_fed(
                tx,
                call.tenant_id,
                backfill_id,
                [FedState.REFUSED],
                page.size + 1,
                after=int(after),
            )
        shown = found[: page.size]
        token = next_token(str(shown[-1].position)) if len(found) > page.size else ""
        return backfill_pb2.ListBackfillFaultsResponse(
            faults=[render_fault(fed) for fed in shown], next_page_token=token
        )

    async def _get_open(self, tx: Connection, backfill_id: str, call: Call) -> Backfill:
        found = await get(tx, call.tenant_id, parse_uuid(backfill_id, "backfill_id"), lock=True)
        if found.state is not State.OPEN:
            raise BackfillState(found.backfill_id, found.state)
        return found

    async def _tell(self, backfill_id: str, call: Call) -> backfill_pb2.Backfill:
        async with self._database.transaction(call.tenant_id) as tx:
            found = await get(tx, call.tenant_id, parse_uuid(backfill_id, "backfill_id"))
            counts = await store.count_by_state(tx, call.tenant_id, found.backfill_id)
        return render_backfill(found, counts)
