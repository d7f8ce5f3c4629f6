"""UsageService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
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
            rows = await query(tx, call.tenant_id, meters, question, page.after, page.size + 1)
        shown = rows[: page.size]
        token = next_token(*shown[-1].key) if len(rows) > page.size else ""
        return usage_pb2.QueryUsageResponse(
            rows=render_rows(shown, question), next_page_token=token
        )

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
