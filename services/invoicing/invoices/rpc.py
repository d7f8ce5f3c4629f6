"""InvoiceService."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from chassis.wire import find_time, parse_text, parse_uuid
from invoicing.collection.operations import collect_now
from invoicing.corrections.operations import (
    Successor,
    compute_successor,
    reissue,
    void_invoice,
    write_off_invoice,
)
from invoicing.customers.wire import parse_customer_id
from invoicing.documents.domain.printing import Paper
from invoicing.documents.operations import Documents
from invoicing.documents.wire import parse_document_request, render_document
from invoicing.invoices import store
from invoicing.invoices.domain.settlement import InvoiceNotVoidable
from invoicing.invoices.operations import (
    StaleDraft,
    UsageReader,
    create_one_off,
    preview,
    preview_one_off,
)
from invoicing.invoices.wire import (
    parse_coupon_codes,
    parse_stated_lines,
    render_draft,
    render_invoice,
)
from invoicing.operations import once
from invoicing.runs.operations import STALE_MAX, get_progress, start_run
from invoicing.runs.wire import render_progress, render_run
from invoicing.sellers.wire import parse_net_terms
from kernel.errors import NotFound
from tollgate.invoicing.v1 import invoice_pb2 as pb

PAGE_BYTES_MAX = 3 * 1024 * 1024  # of an answer that may have four


class InvoiceServicer:
    """Invoices: previewed, listed, rendered, collected, and the runs that issue them."""

    def __init__(
        self,
        database: Database,
        reader: UsageReader,
        issued: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._reader = reader
        self._issued = issued  # called after every invoice, so that its collection starts at once
        self._documents = Documents(database)

    async def PreviewInvoice(
        self, request: pb.PreviewInvoiceRequest, call: Call
    ) -> pb.PreviewInvoiceResponse:
        customer_id = parse_customer_id(request.customer_id)
        if request.lines:
            lines = parse_stated_lines(request.lines)
            codes = parse_coupon_codes(request.coupon_codes)
            async with self._database.transaction(call.tenant_id) as tx:
                stated = await preview_one_off(
                    tx, call.tenant_id, customer_id, lines, call.now, codes
                )
            return pb.PreviewInvoiceResponse(invoice=render_draft(stated))
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
        number = parse_text(request.number, "number", minimum=0)
        before = parse_uuid(page.after[0], "page_token") if page.after else None
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_invoices(
                tx, call.tenant_id, customer_id, before, page.size + 1, number
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
        document, _ = await self._documents.render(call.tenant_id, Paper.INVOICE, invoice_id)
        return pb.RenderInvoiceResponse(pdf=document.content, sha256=document.sha256.hex())

    async def GetInvoiceDocument(
        self, request: pb.GetInvoiceDocumentRequest, call: Call
    ) -> pb.GetInvoiceDocumentResponse:
        paper, document_id, file_format = parse_document_request(request)
        document, number = await self._documents.render(
            call.tenant_id, paper, document_id, file_format
        )
        return render_document(document, number, file_format)

    async def CreateInvoice(
        self, request: pb.CreateInvoiceRequest, call: Call
    ) -> pb.CreateInvoiceResponse:
        customer_id = parse_customer_id(request.customer_id)
        lines = parse_stated_lines(request.lines)
        codes = parse_coupon_codes(request.coupon_codes)
        terms = None
        if request.HasField("net_terms_days"):
            terms = parse_net_terms(request.net_terms_days, "net_terms_days")

        async def change(tx: Connection) -> pb.CreateInvoiceResponse:
            invoice = await create_one_off(
                tx, call.tenant_id, customer_id, lines, terms, call.now, codes
            )
            stored = await store.find_invoice(tx, call.tenant_id, invoice.invoice_id)
            assert stored is not None
            return pb.CreateInvoiceResponse(invoice=render_invoice(stored))

        answer = await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.CreateInvoiceResponse,
            change,
        )
        self._issued()
        return answer

    async def VoidInvoice(
        self, request: pb.VoidInvoiceRequest, call: Call
    ) -> pb.VoidInvoiceResponse:
        invoice_id = parse_uuid(request.invoice_id, "invoice_id")
        reason = parse_text(request.reason, "reason")
        for _ in range(STALE_MAX):
            successor = None
            if request.reissue:
                successor = await compute_successor(
                    self._database, self._reader, call.tenant_id, invoice_id, call
                )
            with suppress(StaleDraft):
                answer = await self._void(request, invoice_id, reason, successor, call)
                self._issued()
                return answer
        async with self._database.transaction(call.tenant_id) as tx:
            stored = await store.find_invoice(tx, call.tenant_id, invoice_id)
        assert stored is not None
        raise InvoiceNotVoidable(stored.invoice, "its charges change faster than they are computed")

    async def _void(
        self,
        request: pb.VoidInvoiceRequest,
        invoice_id: UUID,
        reason: str,
        successor: Successor | None,
        call: Call,
    ) -> pb.VoidInvoiceResponse:
        tenant_id = call.tenant_id

        async def change(tx: Connection) -> pb.VoidInvoiceResponse:
            cancelled = await void_invoice(tx, tenant_id, invoice_id, reason, call.now)
            response = pb.VoidInvoiceResponse()
            if successor is not None:
                made = await reissue(tx, tenant_id, cancelled, successor, call.now)
                if made is not None:
                    response.reissued.CopyFrom(render_invoice(made))
            present = await store.find_invoice(tx, tenant_id, invoice_id)
            assert present is not None
            response.invoice.CopyFrom(render_invoice(present))
            return response

        return await once(
            self._database,
            tenant_id,
            request,
            request.request_id,
            pb.VoidInvoiceResponse,
            change,
        )

    async def WriteOffInvoice(
        self, request: pb.WriteOffInvoiceRequest, call: Call
    ) -> pb.WriteOffInvoiceResponse:
        invoice_id = parse_uuid(request.invoice_id, "invoice_id")
        reason = parse_text(request.reason, "reason")

        async def change(tx: Connection) -> pb.WriteOffInvoiceResponse:
            stored = await write_off_invoice(tx, call.tenant_id, invoice_id, reason, request.amount)
            return pb.WriteOffInvoiceResponse(invoice=render_invoice(stored))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.WriteOffInvoiceResponse,
            change,
        )

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
