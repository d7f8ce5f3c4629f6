"""Clean databases: provisioned and migrated once per set of services, then copied per test."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from chassis.database import Database, PoolMode, dsn_with
from chassis.migrations import migrate, provision

SERVICES = ("identity", "wallet", "metering", "invoicing", "gateway")


@dataclass(frozen=True, slots=True)
class FreshDatabase:
    """One test's database, empty but for the schemas of its services."""

    superuser_dsn: str
    passwords: dict[str, str]

    def dsn(self, service: str) -> str:
        """As the role that runs the service."""
        return self._as(f"{service}_app")

    def migrate_dsn(self, service: str) -> str:
        """As the role that owns the service's schema."""
        return self._as(f"{service}_migrate")

    def open(self, service: str, *, size: int = 10, pool_mode: PoolMode = "direct") -> Database:
        """A pool as the service has it: `async with database.open("wallet") as pool`."""
        return Database(self.dsn(service), size=size, pool_mode=pool_mode)

    def _as(self, role: str) -> str:
        return dsn_with(self.superuser_dsn, user=role, password=self.passwords.get(role))


class Databases:
    """Makes databases on one server and drops them all at the end."""

    def __init__(self, server_dsn: str) -> None:
        self._server_dsn = server_dsn
        self._run = uuid.uuid4().hex[:12]
        self._templates: dict[frozenset[str], str] = {}
        self._made: list[str] = []
        self._building = asyncio.Lock()

    async def fresh(self, services: Iterable[str], packages: dict[str, str]) -> FreshDatabase:
        """A copy of the template for these services."""
        template = await self._template(frozenset(services), packages)
        return await self._create(f"TEMPLATE {template}", frozenset(services))

    async def empty(self) -> FreshDatabase:
        """A database in which nothing was provisioned."""
        return await self._create("", frozenset())

    async def drop(self, database: FreshDatabase) -> None:
        """Drop one database, whoever is still connected to it."""
        name = database.superuser_dsn.partition("?")[0].rpartition("/")[2]
        await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._made.remove(name)

    async def close(self) -> None:
        for name in self._made:
            await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _template(self, services: frozenset[str], packages: dict[str, str]) -> str:
        async with self._building:
            if services not in self._templates:
                made = await self._create("", services)
                await provision(made.superuser_dsn, sorted(services), made.passwords or None)
                for service in sorted(services):
                    package = packages.get(service, f"{service}.migrations")
                    await migrate(service, made.migrate_dsn(service), package)
                self._templates[services] = self._made[-1]
            return self._templates[services]

    async def _create(self, source: str, services: frozenset[str]) -> FreshDatabase:
        name = f"tollgate_test_{self._run}_{len(self._made)}_{uuid.uuid4().hex[:6]}"
        await self._execute(f"CREATE DATABASE {name} {source}")
        self._made.append(name)
        return FreshDatabase(dsn_with(self._server_dsn, database=name), self.passwords(services))

    def passwords(self, services: Iterable[str]) -> dict[str, str]:
        # Roles belong to the whole server: every run against it must give them the same passwords.
        return {
            role: hashlib.sha256(f"{self._server_dsn}:{role}".encode()).hexdigest()
            for service in services
            for role in (f"{service}_migrate", f"{service}_app")
        }

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._server_dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def migrated_services() -> list[str]:
    """The services that have migrations."""
    found = []
    for service in SERVICES:
        spec = importlib.util.find_spec(service)
        places = list(spec.submodule_search_locations or []) if spec is not None else []
        if any(list(Path(place).glob("migrations/versions/[0-9]*.py")) for place in places):
            found.append(service)
    return found
