"""A running identity, and stubs on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import grpc
import pytest

from chassis.call import Environment
from chassis.service import Running
from tests.support.databases import FreshDatabase
from tests.support.services import Services, credential
from tollgate.identity.v1 import identity_service_pb2 as pb
from tollgate.identity.v1 import identity_service_pb2_grpc as rpc
from tollgate.identity.v1 import tenant_pb2

MakeDatabase = Callable[..., Awaitable[FreshDatabase]]


@dataclass(frozen=True)
class Identity:
    """Identity as its callers see it."""

    running: Running
    database: FreshDatabase
    tenants: rpc.TenantServiceStub
    keys: rpc.KeyServiceStub
    clocks: rpc.TestClockServiceStub

    async def tenant(self, name: str = "Acme", environment: Environment = Environment.TEST) -> UUID:
        """A new tenant of that name."""
        made = await self.tenants.CreateTenant(
            pb.CreateTenantRequest(
                request_id=f"make {name}",
                name=name,
                environment=tenant_pb2.Environment.Value(f"ENVIRONMENT_{environment.value}"),
            ),
            metadata=credential(None),
        )
        return UUID(made.tenant.tenant_id)

    async def key(
        self,
        tenant_id: UUID,
        *scopes: str,
        name: str = "backend",
        request_id: str = "key",
        expire_time: datetime | None = None,
    ) -> pb.CreateApiKeyResponse:
        """A new key of a tenant."""
        return await self.keys.CreateApiKey(
            pb.CreateApiKeyRequest(
                request_id=request_id,
                name=name,
                scopes=scopes or ("identity:admin",),
                expire_time=expire_time,
            ),
            metadata=credential(tenant_id),
        )


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def identity(fresh_database: MakeDatabase, services: Services) -> Identity:
    database = await fresh_database("identity")
    running = await services.run("identity", database)
    channel: grpc.aio.Channel = await services.channel("identity")
    return Identity(
        running,
        database,
        rpc.TenantServiceStub(channel),
        rpc.KeyServiceStub(channel),
        rpc.TestClockServiceStub(channel),
    )
