"""Metering, the wallet and invoicing in one process, on a clean database per test."""

from __future__ import annotations

import socket

import pytest

from tests.conftest import MakeDatabase
from tests.metering.world import World, new_tenant
from tests.support.databases import FreshDatabase
from tests.support.services import Services

SERVICES = ("identity", "wallet", "invoicing", "metering")


def free_address() -> str:
    """An address that nobody listens on now: invoicing is told metering's before it starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
async def metering_database(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database(*SERVICES)


@pytest.fixture
async def world(metering_database: FreshDatabase, services: Services) -> World:
    """A new tenant of running services."""
    address = free_address()
    await services.run("identity", metering_database)
    await services.run("wallet", metering_database)
    await services.run("invoicing", metering_database, peers={"metering": address})
    await services.run("metering", metering_database, listen=address)
    channels = [await services.channel(service) for service in ("metering", "wallet", "invoicing")]
    return World(await new_tenant(await services.channel("identity")), *channels)
