"""Documents as files: made once from what was issued, kept with their digest, never made again."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib import resources
from typing import Any, Final, Literal
from uuid import UUID

import facturx
import typst
from lxml import etree

from chassis.database import Connection, Database
from invoicing.credits.store import find_note
from invoicing.documents import store
from invoicing.documents.domain.einvoice import (
    Format,
    NoElectronicInvoice,
    terms_of_invoice,
    terms_of_note,
)
from invoicing.documents.domain.printing import Paper, RenderedDocument, printed, printed_note
from invoicing.invoices.domain.document import Invoice
from invoicing.invoices.store import find_invoice
from invoicing.sellers.domain import Logo, Seller
from invoicing.sellers.store import find_logo
from kernel.errors import NotFound

# PDF/A-2a: kept for years and read aloud; every font is inside the file. PDF/A-3a may hold files.
STANDARD: Final = "a-2a"
STANDARD_WITH_FILES: Final = "a-3a"
LEVEL: Final = "en16931"
XRECHNUNG = "urn:cen.eu:en16931:2017#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0"
BUSINESS_PROCESS = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"
_BASIC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2}"


@dataclass(frozen=True)
class _Issued:
    """An issued document, ready to be made into any kind of file."""

    number: str
    issue_time: datetime
    seller: Seller
    print: Callable[[], dict[str, Any]]
    terms: Callable[[Format], dict[str, Any]]
    language: str
    logo: Logo | None


class Documents:
    """Makes files of invoices and credit notes on demand and keeps what it made."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # One at a time: the compiler takes a core, and there are calls to answer beside it.
        self._turn = asyncio.Lock()

    async def render(
        self,
        tenant_id: UUID,
        paper: Paper,
        document_id: UUID,
        file_format: Format = Format.PDF,
    ) -> tuple[RenderedDocument, str]:
        """The file and the document's number. Raises NotFound, NoElectronicInvoice."""
        async with self._database.transaction(tenant_id) as tx:
            issued = await _find(tx, tenant_id, paper, document_id)
            kept = await _kept(tx, tenant_id, paper, document_id, file_format)
        if kept is not None:
            return kept, issued.number
        async with self._turn:
            made = await asyncio.to_thread(_make, issued, file_format)
        async with self._database.transaction(tenant_id) as tx:
            if file_format is Format.PDF:
                digest = template_digest()
                await store.insert_document(tx, tenant_id, paper, document_id, digest, made)
            else:
                await store.insert_file(tx, tenant_id, paper, document_id, file_format, made)
            kept = await _kept(tx, tenant_id, paper, document_id, file_format)
        assert kept is not None
        return kept, issued.number


async def _kept(
    tx: Connection, tenant_id: UUID, paper: Paper, document_id: UUID, file_format: Format
) -> RenderedDocument | None:
    if file_format is Format.PDF:
        return await store.find_document(tx, tenant_id, paper, document_id)
    return await store.find_file(tx, tenant_id, paper, document_id, file_format)


async def _find(tx: Connection, tenant_id: UUID, paper: Paper, document_id: UUID) -> _Issued:
    """Raises NotFound."""
    if paper is Paper.INVOICE:
        stored = await find_invoice(tx, tenant_id, document_id)
        if stored is None:
            raise NotFound("invoice", document_id)
        invoice = stored.invoice
        return _Issued(
            number=invoice.number,
            issue_time=invoice.issue_time,
            seller=invoice.seller,
            print=lambda: printed(invoice),
            terms=lambda file_format: terms_of_invoice(invoice, file_format),
            language=invoice.draft.customer.language or invoice.seller.language or "en",
            logo=await find_logo(tx, tenant_id, invoice.seller.logo_sha256),
        )
    note = await find_note(tx, tenant_id, document_id)
    if note is None:
        raise NotFound("credit note", document_id)
    of = await find_invoice(tx, tenant_id, note.invoice_id)
    assert of is not None
    return _Issued(
        number=note.number,
        issue_time=note.issue_time,
        seller=note.seller,
        print=lambda: printed_note(note),
        terms=lambda file_format: terms_of_note(note, of.invoice, file_format),
        language=note.customer.language or note.seller.language or "en",
        logo=await find_logo(tx, tenant_id, note.seller.logo_sha256),
    )


def _make(issued: _Issued, file_format: Format) -> RenderedDocument:
    """The file. Raises NoElectronicInvoice."""
    if file_format is Format.PDF:
        return _compile(issued.print(), issued.issue_time, issued.logo)
    xml = electronic(issued.terms(file_format), file_format)
    if file_format is not Format.FACTUR_X:
        return _rendered(xml)
    paper = _compile(issued.print(), issued.issue_time, issued.logo, STANDARD_WITH_FILES)
    pdf = facturx.generate_from_binary(
        paper.content,
        xml,
        flavor="factur-x",
        level=LEVEL,
        check_xsd=False,  # it was made so
        lang=issued.language,
        pdf_metadata={
            "author": issued.seller.name,
            "title": issued.number,
            "subject": f"Factur-X {issued.number}",
            "keywords": "Factur-X, ZUGFeRD, EN 16931",
        },
        afrelationship="alternative",
    )
    return _rendered(pdf)


def electronic(terms: dict[str, Any], file_format: Format) -> bytes:
    """The terms of EN 16931 as CII or UBL, valid by the official schema of the syntax.

    Raises NoElectronicInvoice where the schema does not have it.
    """
    flavor = "factur-x" if file_format in (Format.FACTUR_X, Format.CII) else "ubl-2.1"
    if file_format is Format.XRECHNUNG:
        terms = {**terms, "BT-23": BUSINESS_PROCESS}
    try:
        xml: bytes = facturx.generate_xml(
            terms, flavor=flavor, level=LEVEL, check_xsd=True, check_schematron=False
        )
    except ValueError as error:
        raise NoElectronicInvoice(file_format, str(error)) from None
    return _customized(xml) if file_format is Format.XRECHNUNG else xml


def _customized(xml: bytes) -> bytes:
    """UBL that names the German specification it keeps to."""
    root = etree.fromstring(xml)
    root.find(f"{_BASIC}CustomizationID").text = XRECHNUNG
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))


def compile_pdf(invoice: Invoice, logo: Logo | None = None) -> RenderedDocument:
    """Set an invoice. The same invoice gives the same bytes: its date is that of its issue."""
    return _compile(printed(invoice), invoice.issue_time, logo)


def _compile(
    document: dict[str, Any],
    issue_time: datetime,
    logo: Logo | None = None,
    standard: Literal["a-2a", "a-3a"] = STANDARD,
) -> RenderedDocument:
    inputs = {"invoice": json.dumps(document, ensure_ascii=False)}
    if logo is not None:
        inputs["logo"] = json.dumps(list(logo.content))
    return _rendered(
        typst.compile(
            _template(),
            format="pdf",
            font_paths=_fonts(),
            sys_inputs=inputs,
            pdf_standards=standard,
            timestamp=int(issue_time.timestamp()),
        )
    )


def _rendered(content: bytes) -> RenderedDocument:
    return RenderedDocument(content, hashlib.sha256(content).digest())


@lru_cache(maxsize=1)
def _fonts() -> typst.Fonts:
    """The compiler's own faces, and the one for Japanese."""
    faces = str(resources.files("pylopdf_fonts_jp"))
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=[faces])


@lru_cache(maxsize=1)
def _template() -> bytes:
    return resources.files("invoicing.documents").joinpath("invoice.typ").read_bytes()


@lru_cache(maxsize=1)
def template_digest() -> str:
    """Names the template that a document was set with."""
    return hashlib.sha256(_template()).hexdigest()[:16]
