"""A customer and what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kernel.errors import Kind, Refusal


class AlreadyExists(Refusal):
    """Something of that code exists already."""

    reason = "ALREADY_EXISTS"
    kind = Kind.CONFLICT

    def __init__(self, what: str, name: object) -> None:
        super().__init__(f"{what} {str(name)!r} exists already", what=what, name=name)


@dataclass(frozen=True, slots=True)
class Customer:
    """Who is billed. `currency` is a code of ISO 4217, `country` of ISO 3166-1."""

    customer_id: str
    name: str
    email: str
    address: tuple[str, ...]
    country: str
    tax_id: str
    time_zone: str
    currency: str
    suspended: bool
    create_time: datetime
    rate_card_version: int = 1
    region: str = ""
    tax_id_type: str = ""  # a member of taxes.domain.tax_ids.TaxIdKind; empty: any text
    language: str = ""
    city: str = ""
    postal_code: str = ""
    buyer_reference: str = ""
    payer_customer_id: str = ""
    billing_threshold: int | None = None  # minor units of its currency
