"""MeterService."""

from __future__ import annotations

from dataclasses import replace

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from chassis.requests import claim, record
from chassis.wire import find_time
from metering.events.wire import check_properties
from metering.expressions.domain.values import Type, Unusable
from metering.meters import operations
from metering.meters.wire import (
    TYPES_OUT,
    parse_code,
    parse_expression,
    parse_meter,
    parse_types,
    render_meter,
)
from metering.previews.operations import preview
from metering.previews.wire import parse_preview, render_preview
from rating.exact import number_text
from tollgate.metering.v1 import meter_pb2


class MeterService:
    """Answers the RPCs of tollgate.metering.v1.MeterService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def CreateMeter(
        self, request: meter_pb2.CreateMeterRequest, call: Call
    ) -> meter_pb2.CreateMeterResponse:
        meter = parse_meter(request.meter, call.now)
        first = find_time(request.meter, "effective_time")
        meter = replace(meter, effective_time=first)
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return meter_pb2.CreateMeterResponse.FromString(recorded)
            changed = await operations.create_meter(tx, call.tenant_id, meter)
            response = meter_pb2.CreateMeterResponse(meter=render_meter(changed))
            await record(tx, call.tenant_id, request.request_id, response)
        return response

    async def CreateMeterDraft(
        self, request: meter_pb2.CreateMeterDraftRequest, call: Call
    ) -> meter_pb2.CreateMeterDraftResponse:
        meter = parse_meter(request.meter, call.now)
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return meter_pb2.CreateMeterDraftResponse.FromString(recorded)
            changed = await operations.draft_meter(tx, call.tenant_id, meter)
            response = meter_pb2.CreateMeterDraftResponse(meter=render_meter(changed))
            await record(tx, call.tenant_id, request.request_id, response)
        return response

    async def PublishMeter(
        self, request: meter_pb2.PublishMeterRequest, call: Call
    ) -> meter_pb2.PublishMeterResponse:
        code = parse_code(request.code, "code")
        effective_time = find_time(request, "effective_time")
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return meter_pb2.PublishMeterResponse.FromString(recorded)
            changed = await operations.publish_meter(
                tx, call.tenant_id, code, effective_time, call.now
            )
            response = meter_pb2.PublishMeterResponse(meter=render_meter(changed))
            await record(tx, call.tenant_id, request.request_id, response)
        return response

    async def CancelMeterDraft(
        self, request: meter_pb2.CancelMeterDraftRequest, call: Call
    ) -> meter_pb2.CancelMeterDraftResponse:
        code = parse_code(request.code, "code")
        async with self._database.transaction(call.tenant_id) as tx:
            recorded = await claim(tx, call.tenant_id, request.request_id, request)
            if recorded is not None:
                return meter_pb2.CancelMeterDraftResponse.FromString(recorded)
            changed = await operations.cancel_draft(tx, call.tenant_id, code)
            response = meter_pb2.CancelMeterDraftResponse(meter=render_meter(changed))
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
            changed = await operations.archive_meter(tx, call.tenant_id, code)
            response = meter_pb2.ArchiveMeterResponse(meter=render_meter(changed))
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

    async def ListMeterVersions(
        self, request: meter_pb2.ListMeterVersionsRequest, call: Call
    ) -> meter_pb2.ListMeterVersionsResponse:
        code = parse_code(request.code, "code")
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        async with self._database.transaction(call.tenant_id) as tx:
            versions = await operations.list_versions(tx, call.tenant_id, code, page)
        shown = versions[: page.size]
        token = next_token(str(shown[-1].version)) if len(versions) > page.size else ""
        return meter_pb2.ListMeterVersionsResponse(
            meters=[render_meter(meter) for meter in shown], next_page_token=token
        )

    async def PreviewMeter(
        self, request: meter_pb2.PreviewMeterRequest, call: Call
    ) -> meter_pb2.PreviewMeterResponse:
        question = parse_preview(request)
        if request.code:
            code = parse_code(request.code, "code")
            async with self._database.transaction(call.tenant_id) as tx:
                found = await operations.find_newest(tx, call.tenant_id, code)
            # It is asked what it would have counted, not from when on it counts.
            meter = replace(found, effective_time=None)
        else:
            meter = parse_meter(request.meter, call.now, code=False)
        return render_preview(await preview(self._database, call.tenant_id, meter, question))

    async def EvaluateExpression(
        self, request: meter_pb2.EvaluateExpressionRequest, call: Call
    ) -> meter_pb2.EvaluateExpressionResponse:
        types = parse_types(request.property_types, "property_types")
        found = parse_expression(request.expression, types, "expression")
        properties = dict(request.properties)
        check_properties(properties, "properties")
        response = meter_pb2.EvaluateExpressionResponse(type=TYPES_OUT[found.gives])
        try:
            if found.gives is Type.NUMBER:
                response.value = number_text(found.number(properties))
            else:
                response.value = found.text(properties)
        except Unusable as fault:
            response.unusable = f"{fault.name}: {fault.why}" if fault.name else fault.why
        return response
