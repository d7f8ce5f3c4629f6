"""InvoiceService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from chassis.wire import find_time, parse_uuid
from invoicing.collection.operations import collect_now
from invoicing.customers.wire import parse_customer_id
from invoicing.documents.operations import Documents
from invoicing.invoices import store
from invoicing.invoices.operations import UsageReader, preview
from invoicing.invoices.wire import render_draft, render_invoice
from invoicing.operations import once
from invoicing.runs.operations import get_progress, start_run
from invoicing.runs.wire import render_progress, render_run
from kernel.errors import NotFound
from tollgate.invoicing.v1 import invoice_pb2 as pb

PAGE_BYTES_MAX = 3 * 1024 * 1024  # of an answer that may have four


class InvoiceServicer:
    """Invoices: previewed, listed, rendered, collected, and the runs that issue them."""

    def __init__(self, database: Database, reader: UsageReader) -> None:
        self._database = database
        self._reader = reader
        self._documents = Documents(database)

    async def PreviewInvoice(
        self, request: pb.PreviewInvoiceRequest, call: Call
    ) -> pb.PreviewInvoiceResponse:
        customer_id = parse_customer_id(request.customer_id)
        draft = await preview(self._database, self._reader, call.tenant_id, customer_id, call)
        return pb.PreviewInvoiceResponse(invoice=render_draft(draft))

    async def GetInvoice(self, request: pb.GetInvoiceRequest, call: Call) -> pb.GetInvoiceResponse:
        invoice_id = parse_uuid(request.invoice_id, "invoice_id")
        async with self._database.transaction(call.tenant_id) as tx:
            stored = await store.find_invoice(tx, call.tenant_id, invoice_id)
        if stored is None:
            raise NotFound("invoice", invoice_id)
        return pb.GetInvoiceResponse(invoice=render_invoice(stored))

    async def ListInvoices(
        self, request: pb.ListInvoicesRequest, call: Call
    ) -> pb.ListInvoicesResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        customer_id = parse_customer_id(request.customer_id) if request.customer_id else ""
        before = parse_uuid(page.after[0], "page_token") if page.after else None
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_invoices(
                tx, call.tenant_id, customer_id, before, page.size + 1
            )
        shown = _as_many_as_fit([render_invoice(stored) for stored in found[: page.size]])
        more = len(found) > len(shown)
        return pb.ListInvoicesResponse(
            invoices=shown, next_page_token=next_token(shown[-1].invoice_id) if more else ""
        )

    async def RenderInvoice(
        self, request: pb.RenderInvoiceRequest, call: Call
    ) -> pb.RenderInvoiceResponse:
        invoice_id = parse_uuid(request.invoice_id, "invoice_id")
        document = await self._documents.render(call.tenant_id, invoice_id)
        return pb.RenderInvoiceResponse(pdf=document.pdf, sha256=document.sha256.hex())

    async def CollectInvoice(
        self, request: pb.CollectInvoiceRequest, call: Call
    ) -> pb.CollectInvoiceResponse:
        invoice_id = parse_uuid(request.invoice_id, "invoice_id")

        async def change(tx: Connection) -> pb.CollectInvoiceResponse:
            stored = await collect_now(tx, call.tenant_id, invoice_id, call.now)
            return pb.CollectInvoiceResponse(invoice=render_invoice(stored))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.CollectInvoiceResponse,
            change,
        )

    async def StartBillingRun(
        self, request: pb.StartBillingRunRequest, call: Call
    ) -> pb.StartBillingRunResponse:
        as_of = find_time(request, "as_of")

        async def change(tx: Connection) -> pb.StartBillingRunResponse:
            run = await start_run(tx, call.tenant_id, as_of, call.now)
            return pb.StartBillingRunResponse(run=render_run(run))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.StartBillingRunResponse,
            change,
        )

    async def GetBillingRun(
        self, request: pb.GetBillingRunRequest, call: Call
    ) -> pb.GetBillingRunResponse:
        run_id = parse_uuid(request.run_id, "run_id")
        async with self._database.transaction(call.tenant_id) as tx:
            progress = await get_progress(tx, call.tenant_id, run_id)
        return pb.GetBillingRunResponse(run=render_progress(progress))


def _as_many_as_fit(invoices: list[pb.Invoice]) -> list[pb.Invoice]:
    """The first of them that one answer can carry; always one, where there is any."""
    room, shown = PAGE_BYTES_MAX, 0
    for invoice in invoices:
        room -= invoice.ByteSize()
        if room < 0 and shown:
            break
        shown += 1
    return invoices[:shown]
