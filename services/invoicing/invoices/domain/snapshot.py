"""Snapshots: what an issued document keeps of things that may change after it (INV-10)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from invoicing.customers.domain import Customer
from invoicing.invoices.domain.line import Detail
from invoicing.sellers.domain import Seller


def detail_document(detail: Detail) -> dict[str, str]:
    """Part of a line, as it is kept."""
    return {
        "description": detail.description,
        "quantity": detail.quantity,
        "unit_price": detail.unit_price,
        "cost": detail.cost,
        "quoted_per": detail.quoted_per,
    }


def seller_snapshot(seller: Seller) -> dict[str, Any]:
    """Who sold, as it is kept with the document."""
    return {
        "name": seller.name,
        "address": list(seller.address),
        "tax_id": seller.tax_id,
        "email": seller.email,
        "number_prefix": seller.number_prefix,
        "net_terms_days": seller.net_terms_days,
    }


def seller_of(document: dict[str, Any]) -> Seller:
    """The seller of a snapshot."""
    return Seller(**{**document, "address": tuple(document["address"])})


def buyer_snapshot(customer: Customer) -> dict[str, Any]:
    """Who bought, as it is kept with the document."""
    return {
        "customer_id": customer.customer_id,
        "name": customer.name,
        "email": customer.email,
        "address": list(customer.address),
        "country": customer.country,
        "tax_id": customer.tax_id,
        "time_zone": customer.time_zone,
        "currency": customer.currency,
        "create_time": customer.create_time.isoformat(),
    }


def customer_of(document: dict[str, Any]) -> Customer:
    """The buyer of a snapshot."""
    created = datetime.fromisoformat(document["create_time"])
    fields = {**document, "address": tuple(document["address"]), "create_time": created}
    return Customer(**fields, suspended=False)
