"""The legal entity that sells, and what it prints on its invoices."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

NUMBER_PREFIX = "INV"
NET_TERMS_DAYS = 14


@dataclass(frozen=True, slots=True)
class Seller:
    """Who sells. Issued invoices keep the seller they were issued with."""

    name: str
    address: tuple[str, ...] = ()
    tax_id: str = ""
    email: str = ""
    number_prefix: str = NUMBER_PREFIX
    net_terms_days: int = NET_TERMS_DAYS
    country: str = ""
    tax_id_type: str = ""
    prices_include_tax: bool = False
    tax_rounding: str = "DOCUMENT"  # a member of taxes.domain.rates.TaxRounding
    city: str = ""
    postal_code: str = ""
    language: str = ""
    brand_color: str = ""  # "#rrggbb"
    logo_sha256: str = ""  # hexadecimal; the picture is kept beside, once
    contact_name: str = ""
    phone: str = ""
    issue_zero_invoices: bool = False
    late_usage: str = "NEXT_INVOICE"  # or CREDIT_NOTE, RECORD_ONLY (MTR-9)
    iban: str = ""
    bic: str = ""


@dataclass(frozen=True, slots=True)
class Logo:
    """A picture that documents carry."""

    media_type: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


# What invoices say until the tenant has stated a seller: the numbering and terms still hold.
UNSTATED = Seller(name="")
