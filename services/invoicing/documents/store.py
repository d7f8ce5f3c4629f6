"""SQL of rendered documents."""

from __future__ import annotations

from uuid import UUID

from chassis.database import Connection
from invoicing.documents.domain.einvoice import Format
from invoicing.documents.domain.printing import Paper, RenderedDocument


async def find_document(
    tx: Connection, tenant_id: UUID, paper: Paper, document_id: UUID
) -> RenderedDocument | None:
    row = await tx.fetchrow(
        f"SELECT pdf, sha256 FROM {paper.value}_document"
        f" WHERE tenant_id = $1 AND {paper.value}_id = $2",
        tenant_id,
        document_id,
    )
    return None if row is None else RenderedDocument(row["pdf"], row["sha256"])


async def insert_document(
    tx: Connection,
    tenant_id: UUID,
    paper: Paper,
    document_id: UUID,
    template: str,
    document: RenderedDocument,
) -> None:
    """Keep a document. Where another worker was first, its bytes stand."""
    await tx.execute(
        f"INSERT INTO {paper.value}_document (tenant_id, {paper.value}_id, template, sha256, pdf)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        tenant_id,
        document_id,
        template,
        document.sha256,
        document.content,
    )


async def find_file(
    tx: Connection, tenant_id: UUID, paper: Paper, document_id: UUID, file_format: Format
) -> RenderedDocument | None:
    row = await tx.fetchrow(
        f"SELECT content, sha256 FROM {paper.value}_file"
        f" WHERE tenant_id = $1 AND {paper.value}_id = $2 AND format = $3",
        tenant_id,
        document_id,
        file_format.value,
    )
    return None if row is None else RenderedDocument(row["content"], row["sha256"])


async def insert_file(
    tx: Connection,
    tenant_id: UUID,
    paper: Paper,
    document_id: UUID,
    file_format: Format,
    document: RenderedDocument,
) -> None:
    """Keep a file. Where another worker was first, its bytes stand."""
    await tx.execute(
        f"INSERT INTO {paper.value}_file (tenant_id, {paper.value}_id, format, sha256, content)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        tenant_id,
        document_id,
        file_format.value,
        document.sha256,
        document.content,
    )
