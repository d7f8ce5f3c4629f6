"""MeterService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from chassis.requests import claim, record
from metering.meters import operations
from metering.meters.wire import parse_code, parse_meter, render_meter
from tollgate.metering.v1 import meter_pb2


class MeterService:
    """Answers the RPCs of tollgate.metering.v1.MeterService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def CreateMeter(
        self, request: meter_pb2.CreateMeterRequest, call: Call
    ) -> meter_pb2.CreateMeterResponse:
        meter = parse_meter(request.meter, call.now)
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return meter_pb2.CreateMeterResponse.FromString(recorded)
            created = await operations.create_meter(tx, call.tenant_id, meter)
            response = meter_pb2.CreateMeterResponse(meter=render_meter(created))
            await record(tx, call.tenant_id, request.request_id, response)
        return response

    async def ArchiveMeter(
        self, request: meter_pb2.ArchiveMeterRequest, call: Call
    ) -> meter_pb2.ArchiveMeterResponse:
        code = parse_code(request.code, "code")
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return meter_pb2.ArchiveMeterResponse.FromString(recorded)
            archived = await operations.archive_meter(tx, call.tenant_id, code)
            response = meter_pb2.ArchiveMeterResponse(meter=render_meter(archived))
            await record(tx, call.tenant_id, request.request_id, response)
        return response

    async def ListMeters(
        self, request: meter_pb2.ListMetersRequest, call: Call
    ) -> meter_pb2.ListMetersResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        async with self._database.transaction(call.tenant_id) as tx:
            meters = await operations.list_meters(tx, call.tenant_id, page)
        shown = meters[: page.size]
        token = next_token(shown[-1].code) if len(meters) > page.size else ""
        return meter_pb2.ListMetersResponse(
            meters=[render_meter(meter) for meter in shown], next_page_token=token
        )
