"""What a running service stands on, opened together and closed in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import redis.asyncio

from chassis.clocks import TenantClocks
from chassis.database import Database
from chassis.failpoints import arming
from chassis.metrics import Metrics
from chassis.peers import IdentityClock, Peers
from chassis.settings import Settings
from chassis.telemetry import Telemetry


@dataclass(slots=True)
class Platform:
    """The resources of one program. Whoever is given it may use them, and closes none."""

    service: str
    settings: Settings
    database: Database
    redis: redis.asyncio.Redis
    peers: Peers
    clocks: TenantClocks
    metrics: Metrics
    telemetry: Telemetry


@asynccontextmanager
async def open_platform(settings: Settings) -> AsyncIterator[Platform]:
    """Open everything a service needs. Nothing is connected to yet, so nothing can be away."""
    async with AsyncExitStack() as stack:
        stack.enter_context(arming(settings.failpoints))
        metrics = Metrics()
        telemetry = Telemetry(settings.service, settings.otlp_endpoint, metrics)
        # In a thread: the last export may wait for a collector, and calls are still ending.
        stack.push_async_callback(asyncio.to_thread, telemetry.close)
        database = await stack.enter_async_context(
            Database(
                settings.database_url.reveal(),
                pool_mode=settings.pool_mode,
                size=settings.pool_size,
            )
        )
        client = redis.asyncio.Redis.from_url(settings.redis_url)
        stack.push_async_callback(client.aclose)
        peers = Peers(settings)
        stack.push_async_callback(peers.close)
        yield Platform(
            service=settings.service,
            settings=settings,
            database=database,
            redis=client,
            peers=peers,
            clocks=TenantClocks(IdentityClock(peers)),
            metrics=metrics,
            telemetry=telemetry,
        )
