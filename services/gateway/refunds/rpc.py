"""RefundService: parse, operate, render."""

from __future__ import annotations

from chassis.call import Call
from chassis.paging import next_token, parse_page
from chassis.wire import find_uuid, parse_request_id, parse_uuid
from gateway.payments.wire import parse_after
from gateway.refunds.operations import RefundOperations
from gateway.refunds.wire import parse_new_refund, render_refund
from gateway.wire import refuse_card_data
from tollgate.gateway.v1 import payment_service_pb2 as pb


class RefundService:
    """Money sent back."""

    def __init__(self, refunds: RefundOperations) -> None:
        self._refunds = refunds

    async def CreateRefund(
        self, request: pb.CreateRefundRequest, call: Call
    ) -> pb.CreateRefundResponse:
        refuse_card_data(request)
        parse_request_id(request.request_id)
        refund = await self._refunds.create(call, request, parse_new_refund(request))
        return pb.CreateRefundResponse(refund=render_refund(refund))

    async def GetRefund(self, request: pb.GetRefundRequest, call: Call) -> pb.GetRefundResponse:
        refund_id = parse_uuid(request.refund_id, "refund_id")
        refund = await self._refunds.find(call.tenant_id, refund_id)
        return pb.GetRefundResponse(refund=render_refund(refund))

    async def ListRefunds(
        self, request: pb.ListRefundsRequest, call: Call
    ) -> pb.ListRefundsResponse:
        payment_id = find_uuid(request.payment_id, "payment_id")
        page = parse_page(request.page_size, request.page_token, key_parts=2)
        before = parse_after(page.after)
        refunds = await self._refunds.list(call.tenant_id, payment_id, before, page.size)
        token = ""
        if len(refunds) == page.size:
            last = refunds[-1]
            token = next_token(last.create_time.isoformat(), str(last.refund_id))
        return pb.ListRefundsResponse(
            refunds=[render_refund(each) for each in refunds], next_page_token=token
        )
