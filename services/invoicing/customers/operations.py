"""What can be done with customers. Each takes the transaction it is one with."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from chassis.database import Connection
from chassis.messages import append
from invoicing.customers import store
from invoicing.customers.domain import AlreadyExists, Customer
from kernel.errors import InvalidValue, NotFound
from tollgate.invoicing.v1 import messages_pb2


async def create_customer(tx: Connection, tenant_id: UUID, customer: Customer) -> Customer:
    """Raises AlreadyExists where another request made a customer of that id, and what
    `check_payer` does."""
    await check_payer(tx, tenant_id, customer)
    if not await store.insert_customer(tx, tenant_id, customer):
        raise AlreadyExists("customer", customer.customer_id)
    # Metering may have asked before, and remembers that there was none.
    await tell_rate_card_changed(tx, tenant_id, customer.customer_id, customer.rate_card_version)
    return customer


async def get_customer(tx: Connection, tenant_id: UUID, customer_id: str) -> Customer:
    customer = await store.find_customer(tx, tenant_id, customer_id)
    if customer is None:
        raise NotFound("customer", customer_id)
    return customer


async def lock_customer(tx: Connection, tenant_id: UUID, customer_id: str) -> Customer:
    customer = await store.lock_customer(tx, tenant_id, customer_id)
    if customer is None:
        raise NotFound("customer", customer_id)
    return customer


async def update_customer(tx: Connection, tenant_id: UUID, stated: Customer) -> Customer:
    """State a customer anew. Raises NotFound, and InvalidValue for what never changes."""
    present = await lock_customer(tx, tenant_id, stated.customer_id)
    for name in ("currency", "time_zone"):
        if getattr(stated, name) != getattr(present, name):
            raise InvalidValue(f"customer.{name}", f"stays {getattr(present, name)}")
    await check_payer(tx, tenant_id, stated)
    await store.save_customer(tx, tenant_id, stated)
    return await get_customer(tx, tenant_id, stated.customer_id)


async def check_payer(tx: Connection, tenant_id: UUID, customer: Customer) -> None:
    """Who pays for a customer pays in its currency, and nobody pays for it.

    Raises NotFound, InvalidValue.
    """
    payer_id = customer.payer_customer_id
    if not payer_id:
        return
    field = "customer.payer_customer_id"
    if payer_id == customer.customer_id:
        raise InvalidValue(field, "is the customer itself; it is empty where that pays")
    payer = await store.lock_customer(tx, tenant_id, payer_id)
    if payer is None:
        raise NotFound("customer", payer_id)
    if payer.payer_customer_id:
        raise InvalidValue(field, f"{payer_id} has a payer of its own")
    if payer.currency != customer.currency:
        raise InvalidValue(field, f"{payer_id} pays in {payer.currency}")
    if await store.is_payer(tx, tenant_id, customer.customer_id):
        raise InvalidValue(field, f"{customer.customer_id} pays for others")


async def set_suspension(
    tx: Connection, tenant_id: UUID, customer_id: str, suspended: bool
) -> Customer:
    customer = await lock_customer(tx, tenant_id, customer_id)
    if customer.suspended == suspended:
        return customer
    await store.save_suspension(tx, tenant_id, customer_id, suspended)
    version = await change_rate_card(tx, tenant_id, customer_id)
    return replace(customer, suspended=suspended, rate_card_version=version)


async def change_rate_card(tx: Connection, tenant_id: UUID, customer_id: str) -> int:
    """Give the customer's rate card its next version and tell it; returns the version."""
    version = await store.raise_rate_card_version(tx, tenant_id, customer_id)
    await tell_rate_card_changed(tx, tenant_id, customer_id, version)
    return version


async def tell_rate_card_changed(
    tx: Connection, tenant_id: UUID, customer_id: str, version: int
) -> None:
    payload = messages_pb2.RateCardChanged(customer_id=customer_id, version=version)
    await append(tx, tenant_id, "rate_card.changed", payload)
