"""UsageService."""

from __future__ import annotations

from collections.abc import AsyncIterator

from chassis.call import Call
from chassis.database import Database
from chassis.paging import PAGE_SIZE_MAX, next_token, parse_page
from metering.exports.wire import cut, encoder_of, parse_format
from metering.meters.operations import Meters
from metering.queries.operations import list_period_usage, query
from metering.queries.wire import (
    parse_period_keys,
    parse_question,
    render_period_usage,
    render_rows,
)
from tollgate.metering.v1 import usage_pb2


class UsageService:
    """Answers the RPCs of tollgate.metering.v1.UsageService."""

    def __init__(self, database: Database, meters: Meters) -> None:
        self._database = database
        self._meters = meters

    async def QueryUsage(
        self, request: usage_pb2.QueryUsageRequest, call: Call
    ) -> usage_pb2.QueryUsageResponse:
        question = parse_question(request)
        page = parse_page(request.page_size, request.page_token, key_parts=4)
        async with self._database.transaction(call.tenant_id) as tx:
            meters = await self._meters.current(tx, call.tenant_id)
            rows = await query(
                tx, call.tenant_id, meters, question, page.after, page.size + 1, call.now
            )
        shown = rows[: page.size]
        token = next_token(*shown[-1].key) if len(rows) > page.size else ""
        return usage_pb2.QueryUsageResponse(
            rows=render_rows(shown, question), next_page_token=token
        )

    async def ExportUsage(
        self, request: usage_pb2.ExportUsageRequest, call: Call
    ) -> AsyncIterator[usage_pb2.ExportUsageResponse]:
        question = usage_pb2.QueryUsageRequest()
        question.CopyFrom(request.query)
        question.page_size, question.page_token = PAGE_SIZE_MAX, ""
        encoder = encoder_of(parse_format(request), question.group_by)
        rows, is_last = 0, False
        while not is_last:
            page = await self.QueryUsage(question, call)
            rows += len(page.rows)
            content = encoder.add(page.rows)
            question.page_token = page.next_page_token
            is_last = not page.next_page_token
            if is_last:
                content += encoder.finish()
            for part in cut(content):
                yield usage_pb2.ExportUsageResponse(content=part, rows=rows)

    async def GetPeriodUsage(
        self, request: usage_pb2.GetPeriodUsageRequest, call: Call
    ) -> usage_pb2.GetPeriodUsageResponse:
        keys = parse_period_keys(request)
        async with self._database.transaction(call.tenant_id) as tx:
            meters = await self._meters.current(tx, call.tenant_id)
            usages = await list_period_usage(tx, call.tenant_id, meters, keys)
        return usage_pb2.GetPeriodUsageResponse(
            usages=[render_period_usage(usage) for usage in usages]
        )
