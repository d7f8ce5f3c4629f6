"""The seller as a message."""

from __future__ import annotations

from chassis.wire import parse_text
from invoicing.customers.wire import TAX_ID_MAX, parse_address
from invoicing.sellers.domain import NET_TERMS_DAYS, NUMBER_PREFIX, Seller
from kernel.errors import InvalidValue
from tollgate.invoicing.v1 import invoice_pb2 as pb

NUMBER_PREFIX_MAX = 16
NET_TERMS_DAYS_MAX = 365


def parse_seller(message: pb.Seller) -> Seller:
    terms = message.net_terms_days if message.HasField("net_terms_days") else NET_TERMS_DAYS
    return Seller(
        name=parse_text(message.name, "seller.name"),
        address=parse_address(list(message.address), "seller.address"),
        tax_id=parse_text(message.tax_id, "seller.tax_id", minimum=0, maximum=TAX_ID_MAX),
        email=parse_text(message.email, "seller.email", minimum=0),
        number_prefix=parse_text(
            message.number_prefix or NUMBER_PREFIX,
            "seller.number_prefix",
            maximum=NUMBER_PREFIX_MAX,
            pattern="[A-Z0-9-]+",
        ),
        net_terms_days=parse_net_terms(terms, "seller.net_terms_days"),
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
    )
