"""ReceivedPaymentService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from chassis.wire import find_time, parse_text, parse_uuid, render_amount
from invoicing.customers.operations import get_customer
from invoicing.customers.wire import parse_customer_id
from invoicing.operations import once
from invoicing.payments import store
from invoicing.payments.operations import record_payment
from invoicing.payments.wire import (
    REFERENCE_MAX,
    parse_allocations,
    parse_money,
    render_payment,
)
from kernel.currency import currency
from kernel.errors import InvalidValue
from kernel.money import Amount
from tollgate.invoicing.v1 import received_payment_pb2 as pb


class ReceivedPaymentServicer:
    """Payments by hand, and balances."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def RecordPayment(
        self, request: pb.RecordPaymentRequest, call: Call
    ) -> pb.RecordPaymentResponse:
        customer_id = parse_customer_id(request.customer_id)
        amount = parse_money(request.amount, "amount")
        reference = parse_text(request.reference, "reference", maximum=REFERENCE_MAX)
        receive_time = find_time(request, "receive_time") or call.now
        if receive_time > call.now:
            raise InvalidValue("receive_time", f"is later than now, {call.now.isoformat()}")
        allocations = parse_allocations(request, amount)

        async def change(tx: Connection) -> pb.RecordPaymentResponse:
            payment = await record_payment(
                tx,
                call.tenant_id,
                customer_id,
                amount,
                reference,
                receive_time,
                allocations,
                call.now,
            )
            return pb.RecordPaymentResponse(payment=render_payment(payment))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.RecordPaymentResponse,
            change,
        )

    async def ListReceivedPayments(
        self, request: pb.ListReceivedPaymentsRequest, call: Call
    ) -> pb.ListReceivedPaymentsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        customer_id = parse_customer_id(request.customer_id) if request.customer_id else ""
        before = parse_uuid(page.after[0], "page_token") if page.after else None
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_payments(
                tx, call.tenant_id, customer_id, before, page.size + 1
            )
        shown = [render_payment(payment) for payment in found[: page.size]]
        more = len(found) > page.size
        return pb.ListReceivedPaymentsResponse(
            payments=shown,
            next_page_token=next_token(shown[-1].received_payment_id) if more else "",
        )

    async def GetCustomerBalance(
        self, request: pb.GetCustomerBalanceRequest, call: Call
    ) -> pb.GetCustomerBalanceResponse:
        customer_id = parse_customer_id(request.customer_id)
        async with self._database.transaction(call.tenant_id) as tx:
            await get_customer(tx, call.tenant_id, customer_id)
            balances = await store.list_balances(tx, call.tenant_id, customer_id)
        return pb.GetCustomerBalanceResponse(
            balances=[
                render_amount(Amount(currency(code), atoms)) for code, atoms in balances.items()
            ]
        )
