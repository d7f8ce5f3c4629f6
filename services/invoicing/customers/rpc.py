"""CustomerService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from invoicing.customers import operations, store
from invoicing.customers.wire import parse_customer, parse_customer_id, render_customer
from invoicing.operations import once
from tollgate.invoicing.v1 import customer_pb2 as pb


class CustomerServicer:
    """Create, change, look at, list and suspend customers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def CreateCustomer(
        self, request: pb.CreateCustomerRequest, call: Call
    ) -> pb.CreateCustomerResponse:
        customer = parse_customer(request.customer, call.now)

        async def change(tx: Connection) -> pb.CreateCustomerResponse:
            created = await operations.create_customer(tx, call.tenant_id, customer)
            return pb.CreateCustomerResponse(customer=render_customer(created))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.CreateCustomerResponse,
            change,
        )

    async def GetCustomer(
        self, request: pb.GetCustomerRequest, call: Call
    ) -> pb.GetCustomerResponse:
        customer_id = parse_customer_id(request.customer_id)
        async with self._database.transaction(call.tenant_id) as tx:
            customer = await operations.get_customer(tx, call.tenant_id, customer_id)
        return pb.GetCustomerResponse(customer=render_customer(customer))

    async def ListCustomers(
        self, request: pb.ListCustomersRequest, call: Call
    ) -> pb.ListCustomersResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        after = page.after[0] if page.after else ""
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_customers(tx, call.tenant_id, after, page.size + 1)
        shown = found[: page.size]
        more = len(found) > page.size
        return pb.ListCustomersResponse(
            customers=[render_customer(customer) for customer in shown],
            next_page_token=next_token(shown[-1].customer_id) if more else "",
        )

    async def UpdateCustomer(
        self, request: pb.UpdateCustomerRequest, call: Call
    ) -> pb.UpdateCustomerResponse:
        customer = parse_customer(request.customer, call.now)

        async def change(tx: Connection) -> pb.UpdateCustomerResponse:
            updated = await operations.update_customer(tx, call.tenant_id, customer)
            return pb.UpdateCustomerResponse(customer=render_customer(updated))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.UpdateCustomerResponse,
            change,
        )

    async def SetCustomerSuspension(
        self, request: pb.SetCustomerSuspensionRequest, call: Call
    ) -> pb.SetCustomerSuspensionResponse:
        customer_id = parse_customer_id(request.customer_id)

        async def change(tx: Connection) -> pb.SetCustomerSuspensionResponse:
            customer = await operations.set_suspension(
                tx, call.tenant_id, customer_id, request.suspended
            )
            return pb.SetCustomerSuspensionResponse(customer=render_customer(customer))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.SetCustomerSuspensionResponse,
            change,
        )
