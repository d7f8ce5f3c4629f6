"""Services run inside the test's own process, on port 0, closed with the test."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from uuid import UUID

import grpc

from chassis.auth import AUTHORIZATION, BEARER, mint
from chassis.call import Environment
from chassis.service import Running, ServiceDefinition, running
from tests.support.databases import FreshDatabase

SERVICE_SECRET = "a secret that only the tests of this repository share"
PEPPER = "1:a pepper that only the tests of this repository share"


class Services:
    """Starts services one after another; each learns the addresses of those before it."""

    def __init__(self, stack: AsyncExitStack, redis_url: str) -> None:
        self._stack = stack
        self._redis_url = redis_url
        self.addresses: dict[str, str] = {}

    async def run(
        self,
        service: str | ServiceDefinition,
        database: FreshDatabase,
        *,
        peers: Mapping[str, str] | None = None,
        work: bool = True,
        **settings: object,
    ) -> Running:
        """Run a service by name ("wallet") or definition; more settings by keyword."""
        definition = _definition(service) if isinstance(service, str) else service
        name = definition.name
        chosen: dict[str, object] = {
            "service": name,
            "database_url": database.dsn(name),
            "migrate_database_url": database.migrate_dsn(name),
            "redis_url": self._redis_url,
            "listen": "127.0.0.1:0",
            "peers": {**self.addresses, **(peers or {})},
            "service_secret": SERVICE_SECRET,
            "drain_seconds": 2,
        }
        if name == "identity":
            chosen["api_key_pepper"] = PEPPER
        loaded = definition.config.load({}, **(chosen | settings))
        started = await self._stack.enter_async_context(running(definition, loaded, work=work))
        self.addresses[name] = started.address
        return started

    async def channel(self, service: str | Running) -> grpc.aio.Channel:
        """A channel to a running service, closed with the test."""
        address = self.addresses[service] if isinstance(service, str) else service.address
        return await self._stack.enter_async_context(grpc.aio.insecure_channel(address))


def credential(
    tenant_id: UUID | None,
    *,
    service: str = "operator",
    environment: Environment | None = Environment.LIVE,
) -> tuple[tuple[str, str], ...]:
    """Metadata of a call by one of our own programs for a tenant: `metadata=credential(tenant)`.

    A live tenant has no test clock, so identity need not run to answer such a call.
    """
    token = mint(SERVICE_SECRET, service, tenant_id, datetime.now(UTC), environment)
    return ((AUTHORIZATION, BEARER + token),)


def _definition(service: str) -> ServiceDefinition:
    definition = importlib.import_module(f"{service}.app").SERVICE
    assert isinstance(definition, ServiceDefinition)
    return definition
