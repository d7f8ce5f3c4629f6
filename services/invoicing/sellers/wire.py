"""The seller as a message."""

from __future__ import annotations

from types import ModuleType

from stdnum import bic, iban
from stdnum.exceptions import ValidationError

from chassis.wire import parse_text
from invoicing.customers.wire import (
    POSTAL_CODE_MAX,
    TAX_ID_TYPES,
    parse_address,
    parse_checked_tax_id,
    parse_country,
    parse_language,
)
from invoicing.sellers.domain import NET_TERMS_DAYS, NUMBER_PREFIX, Logo, Seller
from kernel.errors import InvalidValue
from tollgate.invoicing.v1 import invoice_pb2 as pb
from tollgate.invoicing.v1 import tax_pb2

NUMBER_PREFIX_MAX = 16
NET_TERMS_DAYS_MAX = 365
LATE_USAGES = {
    pb.LATE_USAGE_NEXT_INVOICE: "NEXT_INVOICE",
    pb.LATE_USAGE_CREDIT_NOTE: "CREDIT_NOTE",
    pb.LATE_USAGE_RECORD_ONLY: "RECORD_ONLY",
}
PHONE_MAX = 50
BANK_ID_MAX = 50
LOGO_BYTES_MAX = 100 * 1024  # set into every document
LOGO_BEGINNINGS: dict[str, bytes | tuple[bytes, ...]] = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/svg+xml": (b"<svg", b"<?xml"),
}


def parse_logo(message: pb.Seller) -> Logo | None:
    """The picture of a seller. Raises InvalidValue where it is none that documents can carry."""
    content = message.logo
    if not content:
        return None
    if len(content) > LOGO_BYTES_MAX:
        raise InvalidValue("seller.logo", f"takes at most {LOGO_BYTES_MAX} bytes")
    for media_type, begins in LOGO_BEGINNINGS.items():
        if content.lstrip().startswith(begins):
            return Logo(media_type, content)
    raise InvalidValue("seller.logo", "is no picture in PNG, JPEG or SVG")


def _parse_bank_id(text: str, field: str, kind: ModuleType) -> str:
    plain = parse_text(text, field, minimum=0, maximum=BANK_ID_MAX)
    if not plain:
        return ""
    try:
        found: str = kind.validate(plain)
    except ValidationError:
        raise InvalidValue(field, f"{text!r} is none") from None
    return found


def parse_seller(message: pb.Seller, logo: Logo | None = None) -> Seller:
    terms = message.net_terms_days if message.HasField("net_terms_days") else NET_TERMS_DAYS
    tax_id, tax_id_type = parse_checked_tax_id(message.tax_id, message.tax_id_type, "seller.tax_id")
    country = message.country
    return Seller(
        name=parse_text(message.name, "seller.name"),
        address=parse_address(list(message.address), "seller.address"),
        tax_id=tax_id,
        email=parse_text(message.email, "seller.email", minimum=0),
        number_prefix=parse_text(
            message.number_prefix or NUMBER_PREFIX,
            "seller.number_prefix",
            maximum=NUMBER_PREFIX_MAX,
            pattern="[A-Z0-9-]+",
        ),
        net_terms_days=parse_net_terms(terms, "seller.net_terms_days"),
        country=parse_country(country, "seller.country") if country else "",
        tax_id_type=tax_id_type,
        prices_include_tax=message.prices_include_tax,
        tax_rounding="LINE" if message.tax_rounding == tax_pb2.TAX_ROUNDING_LINE else "DOCUMENT",
        city=parse_text(message.city, "seller.city", minimum=0),
        postal_code=parse_text(
            message.postal_code, "seller.postal_code", minimum=0, maximum=POSTAL_CODE_MAX
        ),
        language=parse_language(message.language, "seller.language"),
        brand_color=parse_text(
            message.brand_color,
            "seller.brand_color",
            minimum=0,
            maximum=7,
            pattern="(#[0-9A-Fa-f]{6})?",
        ),
        logo_sha256=logo.sha256 if logo else "",
        contact_name=parse_text(message.contact_name, "seller.contact_name", minimum=0),
        phone=parse_text(message.phone, "seller.phone", minimum=0, maximum=PHONE_MAX),
        issue_zero_invoices=message.issue_zero_invoices,
        late_usage=LATE_USAGES.get(message.late_usage, "NEXT_INVOICE"),
        iban=_parse_bank_id(message.iban, "seller.iban", iban),
        bic=_parse_bank_id(message.bic, "seller.bic", bic),
    )


def parse_net_terms(days: int, field: str) -> int:
    """Days from issue to due date."""
    if not 0 <= days <= NET_TERMS_DAYS_MAX:
        raise InvalidValue(field, f"{days} is not between 0 and {NET_TERMS_DAYS_MAX}")
    return days


def render_seller(seller: Seller) -> pb.Seller:
    return pb.Seller(
        name=seller.name,
        address=seller.address,
        tax_id=seller.tax_id,
        email=seller.email,
        number_prefix=seller.number_prefix,
        net_terms_days=seller.net_terms_days,
        country=seller.country,
        tax_id_type=TAX_ID_TYPES.get(seller.tax_id_type, tax_pb2.TAX_ID_TYPE_UNSPECIFIED),
        prices_include_tax=seller.prices_include_tax,
        tax_rounding=tax_pb2.TaxRounding.Value(f"TAX_ROUNDING_{seller.tax_rounding}"),
        city=seller.city,
        postal_code=seller.postal_code,
        language=seller.language,
        brand_color=seller.brand_color,
        logo_sha256=seller.logo_sha256,
        contact_name=seller.contact_name,
        phone=seller.phone,
        issue_zero_invoices=seller.issue_zero_invoices,
        late_usage=pb.LateUsage.Value(f"LATE_USAGE_{seller.late_usage}"),
        iban=seller.iban,
        bic=seller.bic,
    )
