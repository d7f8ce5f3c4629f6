"""What can be done with customers. Each takes the transaction it is one with."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from chassis.database import Connection
from chassis.messages import append
from invoicing.customers import store
from invoicing.customers.domain import AlreadyExists, Customer
from kernel.errors import NotFound
from tollgate.invoicing.v1 import messages_pb2


async def create_customer(tx: Connection, tenant_id: UUID, customer: Customer) -> Customer:
    """Raises AlreadyExists where another request made a customer of that id."""
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
