"""A service as the chassis sees it, and how one is run: opened, served, worked, drained, closed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from functools import cache, partial

import structlog

from chassis.auth import Authenticator, KeyResolver
from chassis.chain import Chain
from chassis.clocks import ClockSource, TenantClocks
from chassis.exposition import exposing
from chassis.health import Health
from chassis.migrations import SchemaUnfit, check_schema, head_of
from chassis.peers import IdentityResolver
from chassis.platform import Platform, open_platform
from chassis.server import Binding, Server, serving_health
from chassis.settings import Settings
from kernel.errors import Refusal

HEALTH_SECONDS = 1.0  # between two looks at the database: readiness follows within ten
JOB_PAUSE_SECONDS = 1.0  # before a job that failed is started again, doubled each time
JOB_PAUSE_SECONDS_MAX = 30.0
CANCEL_SECONDS = 1.0  # until a job that has not ended is cancelled again: it may be tidying up
JOB_STEADY_SECONDS = 60.0  # after running this long, the next failure is a first one again

# Objects made before the youngest are searched for cycles. A batch makes tens of thousands, all
# alive until it is answered and none in a cycle; searching at every 700th costs a sixth of what a
# wallet can debit in a second.
GARBAGE_THRESHOLDS = (50_000, 20, 100)

Head = Callable[[], str | None]  # the newest revision the program was shipped with

log = structlog.get_logger("chassis.service")


@dataclass(frozen=True, slots=True)
class Job:
    """Work without a caller: runs until it is cancelled, is started again when it fails."""

    name: str
    run: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class App:
    """What a service consists of once it is wired.

    Identity alone brings `resolver` and `clock_source`; the others ask identity.
    """

    bindings: list[Binding]
    jobs: list[Job] = field(default_factory=list)
    resolver: KeyResolver | None = None
    clock_source: ClockSource | None = None
    # Ways in other than gRPC, open while the process serves. They raise PortInUse as gRPC does.
    doors: list[Callable[[], AbstractAsyncContextManager[object]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ServiceDefinition:
    """A service's name, settings, wiring and migrations; `SERVICE` in its app.py."""

    name: str
    config: type[Settings]
    open: Callable[[Platform], AbstractAsyncContextManager[App]]
    migrations: str  # the package that holds `versions`, for example "wallet.migrations"


@dataclass(frozen=True, slots=True)
class Running:
    """A service that runs in this process."""

    platform: Platform
    app: App
    health: Health
    address: str  # "host:port" of gRPC, empty where it only works
    health_address: str
    metrics_address: str
    server: Server | None  # None where it only works


@asynccontextmanager
async def running(
    definition: ServiceDefinition,
    settings: Settings,
    *,
    serve: bool = True,
    work: bool = True,
    shared_port: bool = False,
) -> AsyncIterator[Running]:
    """Run a service while in the block, then drain and close it.

    The order of the end: no new calls, calls under way finish, jobs are cancelled, the app closes
    (its lanes flush), connections close. Raises PortInUse.
    """
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(open_platform(settings))
        app = await stack.enter_async_context(definition.open(platform))
        stack.enter_context(_patient_collector())
        health = Health()
        metrics_address = await stack.enter_async_context(
            exposing(platform.metrics, settings.metrics_listen)
        )
        if work:
            await stack.enter_async_context(_working(app.jobs))
        # Read once: what a program was shipped with does not change while it runs.
        head = cache(partial(head_of, definition.migrations))
        await _look(definition, platform, health, head)
        await stack.enter_async_context(
            _working([Job("health", lambda: _watch(definition, platform, health, head))])
        )
        server = None
        health_address = ""
        if serve:
            for door in app.doors:
                await stack.enter_async_context(door())
            server = _make_server(definition, settings, platform, app, health)
            await server.start(shared=shared_port)
            stack.push_async_callback(server.drain, settings.drain_seconds)
            health_address = server.health_address
        elif settings.health_listen:
            health_address = await stack.enter_async_context(
                serving_health(health, settings.health_listen)
            )
        health.set("start", None)
        yield Running(
            platform,
            app,
            health,
            server.address if server else "",
            health_address,
            metrics_address,
            server,
        )


def _make_server(
    definition: ServiceDefinition,
    settings: Settings,
    platform: Platform,
    app: App,
    health: Health,
) -> Server:
    resolver = app.resolver or IdentityResolver(platform.peers)
    clocks = TenantClocks(app.clock_source) if app.clock_source else platform.clocks
    authenticator = Authenticator(settings.service_secret.reveal(), resolver)
    chain = Chain(definition.name, authenticator, clocks, platform.metrics, platform.telemetry)
    return Server(app.bindings, chain, health, settings.listen, settings.health_listen)


async def _watch(
    definition: ServiceDefinition, platform: Platform, health: Health, head: Head
) -> None:
    logged: str | None = None
    while True:
        await asyncio.sleep(HEALTH_SECONDS)
        why_not = await _look(definition, platform, health, head)
        if why_not != logged:
            log.warning("not_serving", why=why_not) if why_not else log.info("serving_again")
            logged = why_not


async def _look(
    definition: ServiceDefinition, platform: Platform, health: Health, head: Head
) -> str | None:
    """One look at what the service cannot do without, its database and its schema; what is wrong.

    It logs nothing: the first line that a program prints is where it listens.
    """
    why_not: str | None = None
    try:
        async with platform.database.unscoped() as connection:
            await check_schema(connection, definition.name, definition.migrations, head=head())
    except (Refusal, SchemaUnfit) as error:
        why_not = str(error)
    health.set("database", why_not)
    return why_not


@contextmanager
def _patient_collector() -> Iterator[None]:
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what the program consists of is never garbage
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@asynccontextmanager
async def _working(jobs: list[Job]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(_keep_running(job), name=job.name) for job in jobs]
    try:
        yield
    finally:
        await _end(set(tasks))


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel until all have ended.

    Once is not enough: below Python 3.12 `asyncio.wait_for`, through which the Redis client sends,
    loses a cancellation that arrives in the moment its inner call is done.
    """
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=CANCEL_SECONDS)


async def _keep_running(job: Job) -> None:
    loop = asyncio.get_running_loop()
    pause = JOB_PAUSE_SECONDS
    while True:
        started = loop.time()
        try:
            await job.run()
            return
        except Exception as error:
            if loop.time() - started > JOB_STEADY_SECONDS:
                pause = JOB_PAUSE_SECONDS
            log.error("job_failed", job=job.name, pause_seconds=pause, exc_info=error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, JOB_PAUSE_SECONDS_MAX)
