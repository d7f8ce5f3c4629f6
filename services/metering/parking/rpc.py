"""ParkingService."""

from __future__ import annotations

from uuid import UUID

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from chassis.requests import claim, record
from chassis.wire import parse_text, parse_uuid
from metering.events.wire import render_outcome
from metering.parking import store
from metering.parking.operations import REPLAYED_MAX, Parking
from metering.parking.wire import parse_event_ids, parse_policy, render_parked, render_policy
from tollgate.metering.v1 import parking_pb2

REASON_MAX = 500
BEGINNING = UUID(int=0)


class ParkingService:
    """Answers the RPCs of tollgate.metering.v1.ParkingService."""

    def __init__(self, database: Database, parking: Parking) -> None:
        self._database = database
        self._parking = parking

    async def GetIngestPolicy(
        self, request: parking_pb2.GetIngestPolicyRequest, call: Call
    ) -> parking_pb2.GetIngestPolicyResponse:
        async with self._database.transaction(call.tenant_id) as tx:
            policy = await store.find_policy(tx, call.tenant_id)
        return parking_pb2.GetIngestPolicyResponse(policy=render_policy(policy))

    async def SetIngestPolicy(
        self, request: parking_pb2.SetIngestPolicyRequest, call: Call
    ) -> parking_pb2.SetIngestPolicyResponse:
        policy = parse_policy(request.policy)
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return parking_pb2.SetIngestPolicyResponse.FromString(recorded)
            await store.save_policy(tx, call.tenant_id, policy)
            response = parking_pb2.SetIngestPolicyResponse(policy=render_policy(policy))
            await record(tx, call.tenant_id, request.request_id, response)
        return response

    async def ListParkedEvents(
        self, request: parking_pb2.ListParkedEventsRequest, call: Call
    ) -> parking_pb2.ListParkedEventsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        after = parse_uuid(page.after[0], "page_token") if page.after else BEGINNING
        reason = parse_text(request.reason, "reason", minimum=0, maximum=64)
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_page(tx, call.tenant_id, reason, after, page.size + 1)
        shown = found[: page.size]
        token = next_token(str(shown[-1].receipt_id)) if len(found) > page.size else ""
        return parking_pb2.ListParkedEventsResponse(
            events=[render_parked(each) for each in shown], next_page_token=token
        )

    async def ReplayParkedEvents(
        self, request: parking_pb2.ReplayParkedEventsRequest, call: Call
    ) -> parking_pb2.ReplayParkedEventsResponse:
        event_ids = parse_event_ids(request.event_ids, required=False)
        async with self._database.transaction(call.tenant_id) as tx:
            if event_ids:
                parked = await store.list_by_event(tx, call.tenant_id, event_ids)
            else:
                parked = await store.list_page(tx, call.tenant_id, "", BEGINNING, REPLAYED_MAX)
        outcomes = await self._parking.replay(parked, call)
        return parking_pb2.ReplayParkedEventsResponse(
            outcomes=[render_outcome(outcome) for outcome in outcomes]
        )

    async def DiscardParkedEvents(
        self, request: parking_pb2.DiscardParkedEventsRequest, call: Call
    ) -> parking_pb2.DiscardParkedEventsResponse:
        event_ids = parse_event_ids(request.event_ids, required=True)
        reason = parse_text(request.reason, "reason", maximum=REASON_MAX)
        async with self._database.transaction(call.tenant_id) as tx:
            parked = await store.list_by_event(tx, call.tenant_id, event_ids)
            receipts = [each.receipt_id for each in parked if each.event.event_id in event_ids]
            gone = await store.discard(tx, call.tenant_id, receipts, reason, call.now)
        return parking_pb2.DiscardParkedEventsResponse(event_ids=gone)
