"""Invoices as PDF: set once from the issued document, kept with their digest, never set again."""

from __future__ import annotations

import asyncio
import hashlib
import json
from functools import lru_cache
from importlib import resources
from typing import Final
from uuid import UUID

import typst

from chassis.database import Database
from invoicing.documents import store
from invoicing.documents.domain import RenderedDocument, printed
from invoicing.invoices.domain.document import Invoice
from invoicing.invoices.store import find_invoice
from kernel.errors import NotFound

# PDF/A-2a: kept for years and read aloud; every font is inside the file.
STANDARD: Final = "a-2a"


class Documents:
    """Renders invoices on demand and keeps what it rendered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # One at a time: the compiler takes a core, and there are calls to answer beside it.
        self._turn = asyncio.Lock()

    async def render(self, tenant_id: UUID, invoice_id: UUID) -> RenderedDocument:
        """The invoice's PDF, the same bytes every time. Raises NotFound."""
        async with self._database.transaction(tenant_id) as tx:
            kept = await store.find_document(tx, tenant_id, invoice_id)
            stored = None if kept else await find_invoice(tx, tenant_id, invoice_id)
        if kept is not None:
            return kept
        if stored is None:
            raise NotFound("invoice", invoice_id)
        async with self._turn:
            made = await asyncio.to_thread(compile_pdf, stored.invoice)
        async with self._database.transaction(tenant_id) as tx:
            await store.insert_document(tx, tenant_id, invoice_id, template_digest(), made)
            kept = await store.find_document(tx, tenant_id, invoice_id)
        assert kept is not None
        return kept


def compile_pdf(invoice: Invoice) -> RenderedDocument:
    """Set an invoice. The same invoice gives the same bytes: its date is that of its issue."""
    data = json.dumps(printed(invoice), ensure_ascii=False)
    pdf = typst.compile(
        _template(),
        format="pdf",
        ignore_system_fonts=True,
        sys_inputs={"invoice": data},
        pdf_standards=STANDARD,
        timestamp=int(invoice.issue_time.timestamp()),
    )
    return RenderedDocument(pdf, hashlib.sha256(pdf).digest())


@lru_cache(maxsize=1)
def _template() -> bytes:
    return resources.files("invoicing.documents").joinpath("invoice.typ").read_bytes()


@lru_cache(maxsize=1)
def template_digest() -> str:
    """Names the template that a document was set with."""
    return hashlib.sha256(_template()).hexdigest()[:16]
