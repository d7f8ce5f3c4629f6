"""What a document needs to know of taxes, read at one instant; and exemptions."""

from __future__ import annotations

from collections.abc import Sequence
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


async def load_tax_tables(
    tx: Connection, tenant_id: UUID, customers: Sequence[Customer], seller: Seller | None = None
) -> dict[str, TaxTable]:
    """The built-in answers for customers, by their ids."""
    sells = seller or await find_seller(tx, tenant_id) or UNSTATED
    countries = sorted({customer.country for customer in customers})
    rates = await store.list_rates_of_countries(tx, tenant_id, countries)
    redeemed = frozenset(await store.list_redeemed(tx, tenant_id))
    exemptions: dict[str, list[Exemption]] = {one.customer_id: [] for one in customers}
    for exemption in await store.list_exemptions_of(tx, tenant_id, list(exemptions)):
        exemptions[exemption.customer_id].append(exemption)
    return {
        customer.customer_id: TaxTable(
            customer=customer,
            seller=sells,
            rates=tuple(rates[customer.country]),
            exemptions=tuple(exemptions[customer.customer_id]),
            redeemed=redeemed,
        )
        for customer in customers
    }


async def load_tax_table(
    tx: Connection, tenant_id: UUID, customer: Customer, seller: Seller | None = None
) -> TaxTable:
    """The same for one customer."""
    found = await load_tax_tables(tx, tenant_id, [customer], seller)
    return found[customer.customer_id]


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
