"""PaymentService: parse, operate, render."""

from __future__ import annotations

from chassis.call import Call
from chassis.paging import next_token, parse_page
from chassis.wire import find_uuid, parse_request_id, parse_uuid
from gateway.methods.wire import parse_customer_id
from gateway.orders.operations import OrderOperations
from gateway.orders.wire import parse_part
from gateway.payments.operations import PaymentOperations
from gateway.payments.wire import parse_new_payment, render_payment
from gateway.wire import refuse_card_data
from tollgate.gateway.v1 import payment_service_pb2 as pb


class PaymentService:
    """Payment intents."""

    def __init__(self, payments: PaymentOperations, orders: OrderOperations) -> None:
        self._payments = payments
        self._orders = orders

    async def CreatePayment(
        self, request: pb.CreatePaymentRequest, call: Call
    ) -> pb.CreatePaymentResponse:
        refuse_card_data(request)
        parse_request_id(request.request_id)
        payment = await self._payments.create(call, request, parse_new_payment(request))
        return pb.CreatePaymentResponse(payment=render_payment(payment))

    async def RetryPayment(
        self, request: pb.RetryPaymentRequest, call: Call
    ) -> pb.RetryPaymentResponse:
        refuse_card_data(request)
        parse_request_id(request.request_id)
        payment_id = parse_uuid(request.payment_id, "payment_id")
        method_id = find_uuid(request.payment_method_id, "payment_method_id")
        payment = await self._payments.retry(call, request, payment_id, method_id)
        return pb.RetryPaymentResponse(payment=render_payment(payment))

    async def CapturePayment(
        self, request: pb.CapturePaymentRequest, call: Call
    ) -> pb.CapturePaymentResponse:
        refuse_card_data(request)
        parse_request_id(request.request_id)
        payment_id = parse_uuid(request.payment_id, "payment_id")
        ordered = await self._orders.capture(call, request, payment_id, parse_part(request))
        return pb.CapturePaymentResponse(
            payment=render_payment(ordered.payment),
            outcome_unknown=ordered.outcome_unknown,
            rejection_code=ordered.rejection,
        )

    async def CancelPayment(
        self, request: pb.CancelPaymentRequest, call: Call
    ) -> pb.CancelPaymentResponse:
        refuse_card_data(request)
        parse_request_id(request.request_id)
        payment_id = parse_uuid(request.payment_id, "payment_id")
        ordered = await self._orders.cancel(call, request, payment_id)
        return pb.CancelPaymentResponse(
            payment=render_payment(ordered.payment),
            outcome_unknown=ordered.outcome_unknown,
            rejection_code=ordered.rejection,
        )

    async def GetPayment(self, request: pb.GetPaymentRequest, call: Call) -> pb.GetPaymentResponse:
        payment_id = parse_uuid(request.payment_id, "payment_id")
        payment = await self._payments.find(call.tenant_id, payment_id)
        return pb.GetPaymentResponse(payment=render_payment(payment))

    async def ListPayments(
        self, request: pb.ListPaymentsRequest, call: Call
    ) -> pb.ListPaymentsResponse:
        refuse_card_data(request)
        customer_id = parse_customer_id(request.customer_id) if request.customer_id else None
        page = parse_page(request.page_size, request.page_token, key_parts=2)
        payments = await self._payments.list(call.tenant_id, customer_id, page)
        token = ""
        if len(payments) == page.size:
            last = payments[-1]
            token = next_token(last.create_time.isoformat(), str(last.payment_id))
        return pb.ListPaymentsResponse(
            payments=[render_payment(each) for each in payments], next_page_token=token
        )
