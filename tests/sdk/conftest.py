"""A tenant with a prepaid plan, its services, and a client of the SDK under a key of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import grpc
import pytest

from tests.conftest import MakeDatabase
from tests.metering.world import World, new_tenant, unit_price
from tests.support.databases import FreshDatabase
from tests.support.services import Services, credential
from tollgate.identity.v1 import identity_service_pb2, identity_service_pb2_grpc
from tollgate_sdk import Endpoints, Tollgate

AREAS = ("events", "usage")


class Service:
    """One service at one address, which may be away."""

    def __init__(self, name: str, database: FreshDatabase, redis_url: str) -> None:
        self.name = name
        self.address = free_address()
        self.peers: dict[str, str] = {}
        self._database = database
        self._redis_url = redis_url
        self._stack: AsyncExitStack | None = None

    async def start(self) -> None:
        self._stack = AsyncExitStack()
        services = Services(self._stack, self._redis_url)
        services.addresses.update(self.peers)
        await services.run(self.name, self._database, listen=self.address)

    async def stop(self) -> None:
        if self._stack is not None:
            stack, self._stack = self._stack, None
            await stack.aclose()


@dataclass
class Site:
    """What a test of the SDK stands on."""

    world: World
    endpoints: Endpoints
    key: str
    tollgate: Tollgate
    metering: Service
    wallet: Service
    identity: grpc.aio.Channel


def free_address() -> str:
    """An address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
async def site(fresh_database: MakeDatabase, redis_url: str) -> AsyncIterator[Site]:
    """A running site. Each call of `acme` and `other` costs a token; they have a million."""
    names = ("identity", "wallet", "invoicing", "metering")
    database = await fresh_database(*names)
    services = {name: Service(name, database, redis_url) for name in names}
    async with AsyncExitStack() as stack:
        for service in services.values():
            service.peers = {n: s.address for n, s in services.items() if n != service.name}
            await service.start()
            stack.push_async_callback(service.stop)
        channels = {
            name: await stack.enter_async_context(grpc.aio.insecure_channel(service.address))
            for name, service in services.items()
        }
        tenant_id = await new_tenant(channels["identity"])
        world = World(tenant_id, channels["metering"], channels["wallet"], channels["invoicing"])
        await world.asset("token", 0)
        await world.meter("calls")
        await world.plan("prepaid", {"calls": unit_price("token", "1")}, features=["chat"])
        await world.customer("acme", "prepaid", token="1000000")
        await world.customer("other", "prepaid", token="1000000")
        key = await api_key(channels["identity"], tenant_id)
        addresses = {name: service.address for name, service in services.items()}
        endpoints = Endpoints(gateway=free_address(), **addresses)
        client = await stack.enter_async_context(Tollgate(endpoints, key))
        yield Site(
            world,
            endpoints,
            key,
            client,
            services["metering"],
            services["wallet"],
            channels["identity"],
        )


async def api_key(
    identity: grpc.aio.Channel, tenant_id: UUID, areas: tuple[str, ...] = AREAS
) -> str:
    """A key of the tenant for all of these areas; the usual one reports usage, asks the gate."""
    answer = await identity_service_pb2_grpc.KeyServiceStub(identity).CreateApiKey(
        identity_service_pb2.CreateApiKeyRequest(
            request_id="-".join(areas), name="sdk", scopes=[f"{area}:admin" for area in areas]
        ),
        metadata=credential(tenant_id),
    )
    return str(answer.secret)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A folder for a journal."""
    return tmp_path / "journal"


async def turns(count: int = 20) -> None:
    """Let everything that can run without waiting for anybody run."""
    for _ in range(count):
        await asyncio.sleep(0)


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())
