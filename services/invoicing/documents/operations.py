"""Documents as PDF: set once from what was issued, kept with their digest, never set again."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import datetime
from functools import lru_cache
from importlib import resources
from typing import Any, Final
from uuid import UUID

import typst

from chassis.database import Database
from invoicing.credits.store import find_note
from invoicing.documents import store
from invoicing.documents.domain import Paper, RenderedDocument, printed, printed_note
from invoicing.invoices.domain.document import Invoice
from invoicing.invoices.store import find_invoice
from kernel.errors import NotFound

# PDF/A-2a: kept for years and read aloud; every font is inside the file.
STANDARD: Final = "a-2a"


class Documents:
    """Renders invoices and credit notes on demand and keeps what it rendered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # One at a time: the compiler takes a core, and there are calls to answer beside it.
        self._turn = asyncio.Lock()

    async def render(self, tenant_id: UUID, invoice_id: UUID) -> RenderedDocument:
        """The invoice's PDF, the same bytes every time. Raises NotFound."""
        async with self._database.transaction(tenant_id) as tx:
            kept = await store.find_document(tx, tenant_id, Paper.INVOICE, invoice_id)
            stored = None if kept else await find_invoice(tx, tenant_id, invoice_id)
        if kept is not None:
            return kept
        if stored is None:
            raise NotFound("invoice", invoice_id)
        async with self._turn:
            made = await asyncio.to_thread(compile_pdf, stored.invoice)
        return await self._keep(tenant_id, Paper.INVOICE, invoice_id, made)

    async def render_note(self, tenant_id: UUID, credit_note_id: UUID) -> RenderedDocument:
        """The credit note's PDF, the same bytes every time. Raises NotFound."""
        async with self._database.transaction(tenant_id) as tx:
            kept = await store.find_document(tx, tenant_id, Paper.CREDIT_NOTE, credit_note_id)
            note = None if kept else await find_note(tx, tenant_id, credit_note_id)
        if kept is not None:
            return kept
        if note is None:
            raise NotFound("credit note", credit_note_id)
        async with self._turn:
            made = await asyncio.to_thread(_compile, printed_note(note), note.issue_time)
        return await self._keep(tenant_id, Paper.CREDIT_NOTE, credit_note_id, made)

    async def _keep(
        self, tenant_id: UUID, paper: Paper, document_id: UUID, made: RenderedDocument
    ) -> RenderedDocument:
        async with self._database.transaction(tenant_id) as tx:
            await store.insert_document(tx, tenant_id, paper, document_id, template_digest(), made)
            kept = await store.find_document(tx, tenant_id, paper, document_id)
        assert kept is not None
        return kept


def compile_pdf(invoice: Invoice) -> RenderedDocument:
    """Set an invoice. The same invoice gives the same bytes: its date is that of its issue."""
    return _compile(printed(invoice), invoice.issue_time)


def _compile(document: dict[str, Any], issue_time: datetime) -> RenderedDocument:
    data = json.dumps(document, ensure_ascii=False)
    pdf = typst.compile(
        _template(),
        format="pdf",
        ignore_system_fonts=True,
        sys_inputs={"invoice": data},
        pdf_standards=STANDARD,
        timestamp=int(issue_time.timestamp()),
    )
    return RenderedDocument(pdf, hashlib.sha256(pdf).digest())


@lru_cache(maxsize=1)
def _template() -> bytes:
    return resources.files("invoicing.documents").joinpath("invoice.typ").read_bytes()


@lru_cache(maxsize=1)
def template_digest() -> str:
    """Names the template that a document was set with."""
    return hashlib.sha256(_template()).hexdigest()[:16]
