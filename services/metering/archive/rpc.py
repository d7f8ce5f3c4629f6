"""ArchiveService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from chassis.requests import check_request_id, claim, record
from chassis.wire import parse_count
from metering.archive import store
from metering.archive.domain import KEEP_DAYS, KEEP_DAYS_MAX
from metering.archive.operations import Archive
from metering.archive.wire import parse_day, render_archived, render_day
from tollgate.metering.v1 import archive_pb2


class ArchiveService:
    """Answers the RPCs of tollgate.metering.v1.ArchiveService."""

    def __init__(self, database: Database, archive: Archive) -> None:
        self._database = database
        self._archive = archive

    async def ListArchivedDays(
        self, request: archive_pb2.ListArchivedDaysRequest, call: Call
    ) -> archive_pb2.ListArchivedDaysResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        after = parse_day(page.after[0]) if page.after else date.min
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_archived(tx, call.tenant_id, after, page.size + 1)
        shown = found[: page.size]
        token = next_token(shown[-1].day.isoformat()) if len(found) > page.size else ""
        return archive_pb2.ListArchivedDaysResponse(
            days=[render_day(each) for each in shown], next_page_token=token
        )

    async def ReadArchivedEvents(
        self, request: archive_pb2.ReadArchivedEventsRequest, call: Call
    ) -> AsyncIterator[archive_pb2.ReadArchivedEventsResponse]:
        rows = self._archive.read(call.tenant_id, parse_day(request.day), request.customer_id)
        async for found in rows:
            yield archive_pb2.ReadArchivedEventsResponse(
                events=[render_archived(row, properties) for row, properties in found]
            )

    async def RestoreArchivedDay(
        self, request: archive_pb2.RestoreArchivedDayRequest, call: Call
    ) -> archive_pb2.RestoreArchivedDayResponse:
        day = parse_day(request.day)
        keep_days = parse_count(
            request.keep_days, "keep_days", minimum=1, maximum=KEEP_DAYS_MAX, default=KEEP_DAYS
        )
        check_request_id(request.request_id)
        archived, events = await self._archive.restore(call.tenant_id, day, keep_days)
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return archive_pb2.RestoreArchivedDayResponse.FromString(recorded)
            response = archive_pb2.RestoreArchivedDayResponse(
                day=render_day(archived), events=events
            )
            await record(tx, call.tenant_id, request.request_id, response)
        return response
