"""SQL of rendered documents."""

from __future__ import annotations

from uuid import UUID

from chassis.database import Connection
from invoicing.documents.domain import RenderedDocument


async def find_document(
    tx: Connection, tenant_id: UUID, invoice_id: UUID
) -> RenderedDocument | None:
    row = await tx.fetchrow(
        "SELECT pdf, sha256 FROM invoice_document WHERE tenant_id = $1 AND invoice_id = $2",
        tenant_id,
        invoice_id,
    )
    return None if row is None else RenderedDocument(row["pdf"], row["sha256"])


async def insert_document(
    tx: Connection, tenant_id: UUID, invoice_id: UUID, template: str, document: RenderedDocument
) -> None:
    """Keep a document. Where another worker was first, its bytes stand."""
    await tx.execute(
        "INSERT INTO invoice_document (tenant_id, invoice_id, template, sha256, pdf)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        tenant_id,
        invoice_id,
        template,
        document.sha256,
        document.pdf,
    )
