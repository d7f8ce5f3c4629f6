"""Fixtures of every test: real servers for the run, a clean database for the test."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis.asyncio

# So that `tests.support` is found however pytest was started.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.databases import Databases, FreshDatabase, migrated_services
from tests.support.services import Services
from tests.support.stores import postgres_server, redis_server

MakeDatabase = Callable[..., Awaitable[FreshDatabase]]


@pytest.fixture(scope="session")
def stores() -> Iterator[Path]:
    """Where this run's servers live. Not among pytest's own folders: each run of pytest closes
    those to every other user, and Postgres under root is another user."""
    with tempfile.TemporaryDirectory(prefix="tollgate-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres(stores: Path) -> Iterator[str]:
    """A superuser's DSN of the Postgres that this run of the tests uses."""
    with postgres_server(stores) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def redis_for_the_run(stores: Path) -> Iterator[str]:
    """The URL of the Redis that this run of the tests uses."""
    with redis_server(stores) as url:
        yield url


@pytest.fixture
async def redis_url(redis_for_the_run: str) -> str:
    """The same, emptied for this test."""
    async with redis.asyncio.Redis.from_url(redis_for_the_run) as client:
        await client.flushall()
    return redis_for_the_run


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of the emptied Redis."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(scope="session")
async def databases(postgres: str) -> AsyncIterator[Databases]:
    """Where this run's databases are made."""
    made = Databases(postgres)
    yield made
    await made.close()


@pytest.fixture
async def fresh_database(databases: Databases) -> AsyncIterator[MakeDatabase]:
    """Makes clean databases: `await fresh_database("wallet")`.

    Without names, one with every service. A service's migrations come from
    "<service>.migrations" unless `packages` names another package for it.
    """
    made: list[FreshDatabase] = []

    async def make(*services: str, packages: dict[str, str] | None = None) -> FreshDatabase:
        database = await databases.fresh(services or migrated_services(), packages or {})
        made.append(database)
        return database

    yield make
    for database in made:
        await databases.drop(database)


@pytest.fixture
async def database(fresh_database: MakeDatabase) -> FreshDatabase:
    """A clean database with every service provisioned and migrated."""
    return await fresh_database()


@pytest.fixture
async def services(redis_url: str) -> AsyncIterator[Services]:
    """Runs services in this process: `await services.run("wallet", database)`."""
    async with AsyncExitStack() as stack:
        yield Services(stack, redis_url)
