"""The legal entity that sells, and what it prints on its invoices."""

from __future__ import annotations

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


# What invoices say until the tenant has stated a seller: the numbering and terms still hold.
UNSTATED = Seller(name="")
