"""Files of documents as messages."""

from __future__ import annotations

from uuid import UUID

from chassis.wire import parse_uuid
from invoicing.documents.domain.einvoice import Format
from invoicing.documents.domain.printing import Paper, RenderedDocument
from kernel.errors import InvalidValue
from tollgate.invoicing.v1 import invoice_pb2 as pb

FORMATS = {
    pb.DOCUMENT_FORMAT_PDF: Format.PDF,
    pb.DOCUMENT_FORMAT_FACTUR_X: Format.FACTUR_X,
    pb.DOCUMENT_FORMAT_CII: Format.CII,
    pb.DOCUMENT_FORMAT_UBL: Format.UBL,
    pb.DOCUMENT_FORMAT_XRECHNUNG: Format.XRECHNUNG,
}
PDFS = (Format.PDF, Format.FACTUR_X)


def parse_document_request(
    request: pb.GetInvoiceDocumentRequest,
) -> tuple[Paper, UUID, Format]:
    """Which document, and as which kind of file."""
    file_format = FORMATS.get(request.format)
    if file_format is None:
        raise InvalidValue("format", "is PDF, Factur-X, CII, UBL or XRechnung")
    if bool(request.invoice_id) == bool(request.credit_note_id):
        raise InvalidValue("invoice_id", "either an invoice or a credit note is named")
    if request.invoice_id:
        return Paper.INVOICE, parse_uuid(request.invoice_id, "invoice_id"), file_format
    return Paper.CREDIT_NOTE, parse_uuid(request.credit_note_id, "credit_note_id"), file_format


def render_document(
    document: RenderedDocument, number: str, file_format: Format
) -> pb.GetInvoiceDocumentResponse:
    is_pdf = file_format in PDFS
    return pb.GetInvoiceDocumentResponse(
        content=document.content,
        sha256=document.sha256.hex(),
        media_type="application/pdf" if is_pdf else "application/xml",
        file_name=f"{number}.{'pdf' if is_pdf else 'xml'}",
    )
