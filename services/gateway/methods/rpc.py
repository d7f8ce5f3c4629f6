"""PaymentMethodService: parse, operate, render."""

from __future__ import annotations

from chassis.call import Call
from chassis.paging import next_token, parse_page
from chassis.wire import parse_request_id, parse_uuid
from gateway.methods.operations import MethodOperations
from gateway.methods.wire import parse_customer_id, parse_new_method, render_method
from gateway.wire import refuse_card_data
from tollgate.gateway.v1 import payment_service_pb2 as pb


class PaymentMethodService:
    """Stored ways to pay."""

    def __init__(self, methods: MethodOperations) -> None:
        self._methods = methods

    async def AttachPaymentMethod(
        self, request: pb.AttachPaymentMethodRequest, call: Call
    ) -> pb.AttachPaymentMethodResponse:
        # Of the token, its provider knows better whether it can be a card's number.
        refuse_card_data(request, but=frozenset({"provider_token"}))
        parse_request_id(request.request_id)
        return await self._methods.attach(
            call.tenant_id, request, parse_new_method(request), call.now
        )

    async def DetachPaymentMethod(
        self, request: pb.DetachPaymentMethodRequest, call: Call
    ) -> pb.DetachPaymentMethodResponse:
        refuse_card_data(request)
        parse_request_id(request.request_id)
        customer_id = parse_customer_id(request.customer_id)
        method_id = parse_uuid(request.payment_method_id, "payment_method_id")
        return await self._methods.detach(call.tenant_id, request, customer_id, method_id, call.now)

    async def ListPaymentMethods(
        self, request: pb.ListPaymentMethodsRequest, call: Call
    ) -> pb.ListPaymentMethodsResponse:
        refuse_card_data(request)
        customer_id = parse_customer_id(request.customer_id)
        page = parse_page(request.page_size, request.page_token, key_parts=2)
        methods = await self._methods.list(call.tenant_id, customer_id, page)
        token = ""
        if len(methods) == page.size:
            last = methods[-1]
            token = next_token(
                "default" if last.is_default else "other", str(last.payment_method_id)
            )
        return pb.ListPaymentMethodsResponse(
            payment_methods=[render_method(each) for each in methods], next_page_token=token
        )
