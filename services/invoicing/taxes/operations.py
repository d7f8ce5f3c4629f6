"""What a document needs to know of taxes, read at one instant; and exemptions."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from invoicing.customers.domain import Customer
from invoicing.customers.operations import get_customer
from invoicing.sellers.domain import UNSTATED, Seller
from invoicing.sellers.store import find_seller
from invoicing.taxes import store
from invoicing.taxes.domain.assessment import TaxTable
from invoicing.taxes.domain.rates import Exemption, PrepaidTaxFixed, PrepaidTiming
from kernel.errors import InvalidValue, NotFound


async def load_tax_table(
    tx: Connection, tenant_id: UUID, customer: Customer, seller: Seller | None = None
) -> TaxTable:
    """The built-in answer for one customer."""
    return TaxTable(
        customer=customer,
        seller=seller or await find_seller(tx, tenant_id) or UNSTATED,
        rates=tuple(await store.list_rates_of_country(tx, tenant_id, customer.country)),
        exemptions=tuple(await store.list_exemptions_of(tx, tenant_id, customer.customer_id)),
        redeemed=frozenset(await store.list_redeemed(tx, tenant_id)),
    )


async def create_exemption(tx: Connection, tenant_id: UUID, exemption: Exemption) -> Exemption:
    """Raises NotFound."""
    await get_customer(tx, tenant_id, exemption.customer_id)
    await store.insert_exemption(tx, tenant_id, exemption)
    return exemption


async def end_exemption(
    tx: Connection, tenant_id: UUID, exemption_id: UUID, end_time: datetime
) -> Exemption:
    """Raises NotFound, and InvalidValue where it would end before it started."""
    found = await store.find_exemption(tx, tenant_id, exemption_id)
    if found is None:
        raise NotFound("tax exemption", exemption_id)
    if end_time < found.start_time:
        raise InvalidValue("end_time", f"is before the start, {found.start_time.isoformat()}")
    await store.save_exemption_end(tx, tenant_id, exemption_id, end_time)
    ended = await store.find_exemption(tx, tenant_id, exemption_id)
    assert ended is not None
    return ended


async def set_prepaid_tax(
    tx: Connection, tenant_id: UUID, asset: str, timing: PrepaidTiming
) -> None:
    """Raises PrepaidTaxFixed where it was stated otherwise."""
    held = await store.insert_prepaid_tax(tx, tenant_id, asset, timing)
    if held is not timing:
        raise PrepaidTaxFixed(asset, held)
