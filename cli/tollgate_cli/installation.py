"""An installation in a folder: its secrets, its servers, its database, its state.

.tollgate/
    state.json            what runs, where it answers; written by the supervisor
    service_secret        shared by the services, 0600 like the files below
    api_key_pepper
    passwords.json        of the database roles
    api_key               of the seeded test tenant
    postgres/ redis/      the embedded servers, where none were named
    logs/
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio
from redis.exceptions import RedisError

from chassis.database import dsn_with
from chassis.embedded import EmbeddedPostgres, EmbeddedRedis
from chassis.migrations import migrate, provision

SERVICES = ("identity", "wallet", "metering", "invoicing", "gateway")
DISK_BYTES_MIN = 64 * 1024 * 1024  # less is full: logs and state would not be written
DATABASE_SECONDS_MAX = 10.0


class SuiteFailed(Exception):
    """The suite cannot be started or reached. The message is one sentence for a person."""


class Installation:
    """The folder, and what lies in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        self.logs = self.folder / "logs"
        self.state_file = self.folder / "state.json"
        self.service_secret_file = self.folder / "service_secret"
        self.pepper_file = self.folder / "api_key_pepper"
        self.api_key_file = self.folder / "api_key"
        self.passwords_file = self.folder / "passwords.json"

    def prepare(self) -> None:
        """Make the folder and the secrets that are not there yet."""
        self.logs.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < DISK_BYTES_MIN:
            raise SuiteFailed(f"the disk is full: {self.folder} has less than 64 MB left")
        _make_secret(self.service_secret_file, secrets.token_urlsafe(48))
        _make_secret(self.pepper_file, f"1:{secrets.token_urlsafe(48)}")
        roles = [f"{name}_{rank}" for name in SERVICES for rank in ("migrate", "app")]
        made = {role: secrets.token_urlsafe(24) for role in roles}
        _make_secret(self.passwords_file, json.dumps(made))

    @property
    def service_secret(self) -> str:
        return self.service_secret_file.read_text().strip()

    @property
    def passwords(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.passwords_file.read_text())
        return found

    def read_state(self) -> dict[str, Any] | None:
        """What the supervisor wrote last, or None where nothing was started here."""
        try:
            state: dict[str, Any] = json.loads(self.state_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the state as a whole, so that a reader never sees half of it."""
        write_private(self.state_file, json.dumps(state, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


def _make_secret(path: Path, text: str) -> None:
    if not path.exists():
        write_private(path, text)


class Stores:
    """The Postgres and the Redis of a suite; the embedded ones can be killed by a test."""

    def __init__(
        self, database_url: str, redis_url: str, postgres: EmbeddedPostgres | None,
        embedded_redis: EmbeddedRedis | None,
    ) -> None:  # fmt: skip
        self.database_url = database_url  # as superuser
        self.redis_url = redis_url
        self.postgres = postgres
        self.redis = embedded_redis


@asynccontextmanager
async def open_stores(
    installation: Installation,
    database_url: str | None = None,
    redis_url: str | None = None,
    *,
    fresh: bool = False,
) -> AsyncIterator[Stores]:
    """The servers named by arguments or by DATABASE_URL and REDIS_URL, else embedded ones.

    What was started here is stopped at the end. With `fresh`, the database is a new one that is
    dropped at the end, and Redis holds nothing of Tollgate's. Raises SuiteFailed, EmbeddedFailed.
    """
    database_url = database_url or os.environ.get("DATABASE_URL")
    redis_url = redis_url or os.environ.get("REDIS_URL")
    postgres = None if database_url else EmbeddedPostgres(installation.folder / "postgres")
    own_redis = None if redis_url else EmbeddedRedis(installation.folder / "redis")
    try:
        if postgres is not None:
            database_url = await asyncio.to_thread(postgres.start)
        if own_redis is not None:
            redis_url = await asyncio.to_thread(own_redis.start)
        assert database_url is not None
        assert redis_url is not None
        await _try_redis(redis_url, empty=fresh)
        async with _database(database_url, fresh=fresh) as dsn:
            yield Stores(dsn, redis_url, postgres, own_redis)
    finally:
        for server in (postgres, own_redis):
            if server is not None:
                await asyncio.to_thread(server.stop)


@asynccontextmanager
async def open_database(installation: Installation) -> AsyncIterator[str]:
    """The database alone, for as long as the block: one that ran already goes on running."""
    named = os.environ.get("DATABASE_URL")
    if named:
        await _execute(named, "SELECT 1")
        yield named
        return
    postgres = EmbeddedPostgres(installation.folder / "postgres")
    ran_already = postgres.pid is not None
    dsn = await asyncio.to_thread(postgres.start)
    try:
        yield dsn
    finally:
        if not ran_already:
            await asyncio.to_thread(postgres.stop)


@asynccontextmanager
async def _database(server: str, *, fresh: bool) -> AsyncIterator[str]:
    await _execute(server, "SELECT 1")
    if not fresh:
        yield server
        return
    name = f"tollgate_{uuid.uuid4().hex[:12]}"
    await _execute(server, f"CREATE DATABASE {name}")
    try:
        yield dsn_with(server, database=name)
    finally:
        with suppress(SuiteFailed):  # a server that is gone has nothing left to be in the way
            await _execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _execute(dsn: str, statement: str) -> None:
    try:
        connection = await asyncpg.connect(dsn, timeout=DATABASE_SECONDS_MAX)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
    except asyncpg.DiskFullError as error:
        raise SuiteFailed(f"the database's disk is full: {error}") from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        why = str(error) or type(error).__name__
        raise SuiteFailed(f"the database {redacted(dsn)} cannot be used: {why}") from error


async def _try_redis(url: str, *, empty: bool) -> None:
    try:
        async with redis.asyncio.Redis.from_url(url) as client:
            await client.ping()
            if empty:
                async for key in client.scan_iter("tollgate:*"):
                    await client.delete(key)
    except (OSError, RedisError) as error:
        raise SuiteFailed(f"the Redis at {redacted(url)} does not answer: {error}") from error


def redacted(url: str) -> str:
    """A DSN or URL without its password."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, login = head.partition("://")
    return f"{scheme}{slashes}{login.partition(':')[0]}{at}{tail}" if at else url


async def provision_and_migrate(
    dsn: str, passwords: dict[str, str], services: Sequence[str]
) -> dict[str, list[str]]:
    """Bring every service's schema up to date; returns what was applied, by service."""
    try:
        await provision(dsn, services, passwords)
        applied = {}
        for service in services:
            role = f"{service}_migrate"
            as_owner = dsn_with(dsn, user=role, password=passwords[role])
            applied[service] = await migrate(service, as_owner, f"{service}.migrations")
    except asyncpg.DiskFullError as error:
        raise SuiteFailed(f"the database's disk is full: {error}") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise SuiteFailed(
            f"{redacted(dsn)} may not create roles and schemas ({error}); name an administrator"
        ) from error
    except (OSError, asyncpg.PostgresConnectionError) as error:
        raise SuiteFailed(f"the database {redacted(dsn)} went away: {error}") from error
    return applied
