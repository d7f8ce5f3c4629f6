"""Wiring: what invoicing serves and what it works on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.platform import Platform
from chassis.relay import Relay
from chassis.server import bind
from chassis.service import App, Job, ServiceDefinition
from invoicing.catalog.rpc import CatalogServicer
from invoicing.config import Config
from invoicing.customers.rpc import CustomerServicer
from invoicing.subscriptions.rpc import SubscriptionServicer
from tollgate.invoicing.v1 import catalog_pb2, customer_pb2, subscription_pb2


@asynccontextmanager
async def open_app(platform: Platform) -> AsyncIterator[App]:
    database, peers = platform.database, platform.peers
    served = (
        (CustomerServicer(database), customer_pb2, "CustomerService"),
        (CatalogServicer(database, peers), catalog_pb2, "CatalogService"),
        (SubscriptionServicer(database), subscription_pb2, "SubscriptionService"),
    )
    yield App(
        bindings=[
            bind(servicer, module.DESCRIPTOR.services_by_name[name])
            for servicer, module, name in served
        ],
        jobs=[Job("relay", Relay(database, platform.redis, "invoicing").run)],
    )


SERVICE = ServiceDefinition(
    name="invoicing", config=Config, open=open_app, migrations="invoicing.migrations"
)
