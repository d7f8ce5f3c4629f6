"""Snapshots: what an issued document keeps of things that may change after it (INV-10)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from invoicing.customers.domain import Customer
from invoicing.invoices.domain.line import Detail
from invoicing.sellers.domain import Seller

# Of a customer, what says nothing of who bought.
_PASSING = {"suspended", "rate_card_version"}


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
    return {**asdict(seller), "address": list(seller.address)}


def seller_of(document: dict[str, Any]) -> Seller:
    """The seller of a snapshot."""
    return Seller(**{**document, "address": tuple(document["address"])})


def buyer_snapshot(customer: Customer) -> dict[str, Any]:
    """Who bought, as it is kept with the document."""
    kept = {name: value for name, value in asdict(customer).items() if name not in _PASSING}
    return {
        **kept,
        "address": list(customer.address),
        "create_time": customer.create_time.isoformat(),
    }


def customer_of(document: dict[str, Any]) -> Customer:
    """The buyer of a snapshot."""
    created = datetime.fromisoformat(document["create_time"])
    fields = {**document, "address": tuple(document["address"]), "create_time": created}
    return Customer(**fields, suspended=False)
