"""CreditNoteService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.paging import next_token, parse_page
from chassis.wire import find_uuid, parse_member, parse_text, parse_uuid
from invoicing.credits import store
from invoicing.credits.operations import create_note, get_note, preview_note
from invoicing.credits.wire import (
    MEMO_MAX,
    REASONS,
    parse_lines,
    parse_parts,
    render_draft,
    render_note,
)
from invoicing.customers.wire import parse_customer_id
from invoicing.documents.domain.printing import Paper
from invoicing.documents.operations import Documents
from invoicing.operations import once
from invoicing.refunds.store import list_refunds
from tollgate.invoicing.v1 import credit_note_pb2 as pb


class CreditNoteServicer:
    """Credit notes: previewed, issued, listed, rendered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._documents = Documents(database)

    async def CreateCreditNote(
        self, request: pb.CreateCreditNoteRequest, call: Call
    ) -> pb.CreateCreditNoteResponse:
        invoice_id = parse_uuid(request.invoice_id, "invoice_id")
        reason = parse_member(request.reason, REASONS, "reason")
        memo = parse_text(request.memo, "memo", minimum=0, maximum=MEMO_MAX)

        async def change(tx: Connection) -> pb.CreateCreditNoteResponse:
            note = await create_note(
                tx,
                call.tenant_id,
                invoice_id,
                lambda money: parse_lines(request.lines, money),
                lambda money: parse_parts(request.parts, money),
                reason,
                memo,
                call.now,
            )
            refunds = await list_refunds(tx, call.tenant_id, [note.credit_note_id])
            rendered = render_note(note, refunds.get(note.credit_note_id))
            return pb.CreateCreditNoteResponse(credit_note=rendered)

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.CreateCreditNoteResponse,
            change,
        )

    async def PreviewCreditNote(
        self, request: pb.PreviewCreditNoteRequest, call: Call
    ) -> pb.PreviewCreditNoteResponse:
        invoice_id = parse_uuid(request.invoice_id, "invoice_id")
        async with self._database.transaction(call.tenant_id) as tx:
            invoice, draft = await preview_note(
                tx, call.tenant_id, invoice_id, lambda money: parse_lines(request.lines, money)
            )
        return pb.PreviewCreditNoteResponse(credit_note=render_draft(invoice, draft))

    async def GetCreditNote(
        self, request: pb.GetCreditNoteRequest, call: Call
    ) -> pb.GetCreditNoteResponse:
        credit_note_id = parse_uuid(request.credit_note_id, "credit_note_id")
        async with self._database.transaction(call.tenant_id) as tx:
            note = await get_note(tx, call.tenant_id, credit_note_id)
            refunds = await list_refunds(tx, call.tenant_id, [credit_note_id])
        return pb.GetCreditNoteResponse(credit_note=render_note(note, refunds.get(credit_note_id)))

    async def ListCreditNotes(
        self, request: pb.ListCreditNotesRequest, call: Call
    ) -> pb.ListCreditNotesResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        customer_id = parse_customer_id(request.customer_id) if request.customer_id else ""
        invoice_id = find_uuid(request.invoice_id, "invoice_id")
        before = parse_uuid(page.after[0], "page_token") if page.after else None
        async with self._database.transaction(call.tenant_id) as tx:
            found = await store.list_notes(
                tx, call.tenant_id, customer_id, invoice_id, before, page.size + 1
            )
            ids = [note.credit_note_id for note in found]
            refunds = await list_refunds(tx, call.tenant_id, ids)
        shown = [render_note(note, refunds.get(note.credit_note_id)) for note in found[: page.size]]
        more = len(found) > page.size
        return pb.ListCreditNotesResponse(
            credit_notes=shown,
            next_page_token=next_token(shown[-1].credit_note_id) if more else "",
        )

    async def RenderCreditNote(
        self, request: pb.RenderCreditNoteRequest, call: Call
    ) -> pb.RenderCreditNoteResponse:
        credit_note_id = parse_uuid(request.credit_note_id, "credit_note_id")
        document, _ = await self._documents.render(
            call.tenant_id, Paper.CREDIT_NOTE, credit_note_id
        )
        return pb.RenderCreditNoteResponse(pdf=document.content, sha256=document.sha256.hex())
