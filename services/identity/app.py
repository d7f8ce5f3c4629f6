"""Wires identity: the one service that asks nobody whose a credential is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.platform import Platform
from chassis.program import App, Job, ServiceDefinition
from chassis.relay import Relay
from chassis.server import bind
from identity.clocks.operations import ClockOperations
from identity.clocks.rpc import TestClockService
from identity.config import Config
from identity.keys.operations import KeyOperations
from identity.keys.rpc import KeyService
from identity.tenants.operations import TenantOperations
from identity.tenants.rpc import TenantService
from kernel.clock import SystemClock
from tollgate.identity.v1.identity_service_pb2 import DESCRIPTOR

SERVICES = DESCRIPTOR.services_by_name


@asynccontextmanager
async def open_app(platform: Platform) -> AsyncIterator[App]:
    """Make identity's servicers. Tenants, keys and clocks themselves live in real time."""
    if not isinstance(platform.settings, Config):
        raise TypeError("identity is opened with its own Config")
    clock = SystemClock()
    tenants = TenantOperations(platform.database, clock)
    keys = KeyOperations(platform.database, clock, platform.settings.peppers())
    clocks = ClockOperations(platform.database, clock)
    yield App(
        bindings=[
            bind(TenantService(tenants), SERVICES["TenantService"]),
            bind(KeyService(keys), SERVICES["KeyService"]),
            bind(TestClockService(clocks), SERVICES["TestClockService"]),
        ],
        # It sends no messages yet; the relay also sweeps request keys that nobody repeats any more.
        jobs=[Job("relay", Relay(platform.database, platform.redis, platform.service).run)],
        resolver=keys,
        clock_source=clocks,
    )


SERVICE = ServiceDefinition(
    name="identity", config=Config, open=open_app, migrations="identity.migrations"
)
