"""A service's schema: provisioned once as superuser, migrated forward as the schema's owner.

Three ranks of role keep a mistake in a query from becoming a mistake in the books:

- `<service>_migrate` owns the schema and its tables and is used by migrations alone;
- `<service>_app` runs the service, owns nothing, and sees rows only through row security;
- roles that cannot log in (`<service>_sweeper`, `wallet_ledger`) own the SECURITY DEFINER
  functions that have to look across tenants.

Migrations are files `NNNN_name.py` in a service's `migrations/versions`, each with `revision`,
`down_revision` and `upgrade()`; there is no way back. A migration that makes older programs unfit
says so with `oldest_code = "NNNN"`, the oldest head that still runs on it.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chassis.database import Connection, is_away
from chassis.schema import chassis_tables, grant, own, protect, reveal

__all__ = [
    "MigrationRefused",
    "SchemaUnfit",
    "chassis_tables",
    "check_schema",
    "grant",
    "head_of",
    "migrate",
    "own",
    "protect",
    "provision",
    "reveal",
    "schema_version",
]

LOCK_SECONDS_MAX = 4  # a migration that waits longer holds up everyone who queues behind it
STATEMENT_SECONDS_MAX = 300
TURN_SECONDS_MAX = 300  # waiting for another migrator of the same service to finish
LOCK_ATTEMPTS = 5
LOCK_PAUSE_SECONDS = 2.0

# Roles that own definer functions beside each service's sweeper.
OWNER_ROLES: Mapping[str, Sequence[str]] = {"wallet": ("wallet_ledger",)}

_VERSION_TABLE = "schema_version"
_SERVICE = re.compile(r"[a-z][a-z_]{0,39}")
_REVISION_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.py")


class MigrationRefused(Exception):
    """The tree of migrations, or the state of the database, is not one to migrate from."""


class SchemaUnfit(Exception):
    """The schema is older or newer than this program can work with."""


# --- provisioning ---------------------------------------------------------------------------------


async def provision(
    superuser_dsn: str,
    services: Sequence[str],
    passwords: Mapping[str, str] | None = None,
) -> None:
    """Make roles, schemas and defaults for `services`; doing it again changes nothing.

    `passwords` gives each login role its password by role name; without one a role has none,
    which suits only a server that trusts its own socket. Raises MigrationRefused where a role of
    that name is more powerful than it may be.
    """
    connection = await asyncpg.connect(superuser_dsn)
    try:
        async with connection.transaction():
            # Two provisioners would meet on the same catalog rows.
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _lock_key("provision"))
            database = await connection.fetchval("SELECT current_database()")
            await connection.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
            await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            for service in services:
                await _provision_service(connection, database, service, passwords or {})
    finally:
        await connection.close()


async def _provision_service(
    connection: asyncpg.Connection[asyncpg.Record],
    database: str,
    service: str,
    passwords: Mapping[str, str],
) -> None:
    if not _SERVICE.fullmatch(service):
        raise MigrationRefused(f"{service!r} is not a service's name")
    migrate_role, app = f"{service}_migrate", f"{service}_app"
    owners = [f"{service}_sweeper", *OWNER_ROLES.get(service, ())]
    for role in (migrate_role, app):
        await _make_role(connection, role, "LOGIN", passwords.get(role))
        await connection.execute(f'GRANT CONNECT ON DATABASE "{database}" TO {role}')
    for role in owners:
        await _make_role(connection, role, "NOLOGIN", None)
        # So that a migration can give a function away to its owner.
        await connection.execute(f"GRANT {role} TO {migrate_role}")
    settings = {"search_path": service, "synchronous_commit": "on", "jit": "off", "timezone": "UTC"}
    limits = {
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "60s",
        # A prepared statement is planned once, often while its table is still empty, and reading
        # all of an empty table is the cheapest plan there is. Where there is an index, use it.
        "enable_seqscan": "off",
    }
    for role, wanted in ((migrate_role, settings), (app, settings | limits)):
        for name, value in wanted.items():
            await connection.execute(f"ALTER ROLE {role} SET {name} = '{value}'")
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION {migrate_role}")
    await connection.execute(f"REVOKE ALL ON SCHEMA {service} FROM PUBLIC")
    await connection.execute(f"GRANT USAGE ON SCHEMA {service} TO {app}")
    await connection.execute(f"GRANT USAGE, CREATE ON SCHEMA {service} TO {', '.join(owners)}")
    # A function is anybody's to call unless its maker says otherwise: say it for all makers.
    for maker in (migrate_role, *owners):
        await connection.execute(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {maker} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"
        )


async def _make_role(
    connection: asyncpg.Connection[asyncpg.Record], role: str, login: str, password: str | None
) -> None:
    found = await connection.fetchrow(
        "SELECT rolsuper OR rolbypassrls OR rolcreaterole AS mighty FROM pg_roles"
        " WHERE rolname = $1",
        role,
    )
    if found is None:
        await connection.execute(f"CREATE ROLE {role} {login}")
        superuser = await connection.fetchval(
            "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        )
        if not superuser:  # a cloud's administrator may only set what is granted to it
            await connection.execute(f"GRANT {role} TO CURRENT_USER")
    elif found["mighty"]:
        raise MigrationRefused(f"role {role} is a superuser or passes by row security")
    if password is not None:
        quoted = await connection.fetchval("SELECT quote_literal($1::text)", password)
        await connection.execute(f"ALTER ROLE {role} PASSWORD {quoted}")


# --- migrating ------------------------------------------------------------------------------------


async def migrate(service: str, dsn: str, package: str) -> list[str]:
    """Bring a service's schema to the newest revision; returns what was applied, oldest first.

    `dsn` is a direct connection as `<service>_migrate` (not through a pooler: the lock that keeps
    two migrators apart belongs to the session), `package` the module that holds `versions`, for
    example "wallet.migrations". A lock that cannot be had in four seconds is tried five times.
    """
    script = load_tree(package)
    # SQLAlchemy is told a dialect and nothing else; the DSN is asyncpg's own to read.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(dsn, statement_cache_size=0),
        connect_args={"prepared_statement_cache_size": 0},
        poolclass=NullPool,
    )
    applied: list[str] = []
    try:
        async with engine.connect() as connection:
            for attempt in range(1, LOCK_ATTEMPTS + 1):
                try:
                    await connection.run_sync(_upgrade, service, script, applied)
                    break
                except DBAPIError as error:
                    await connection.rollback()
                    if not _is_lock_timeout(error) or attempt == LOCK_ATTEMPTS:
                        raise
                    await asyncio.sleep(LOCK_PAUSE_SECONDS * attempt)
    finally:
        await engine.dispose()
    return applied


def load_tree(package: str) -> ScriptDirectory:
    """A service's migrations, checked: numbered without gaps, one line, forward only."""
    module = importlib.import_module(package)
    folder = Path(next(iter(module.__path__))).resolve()
    configuration = Config()
    configuration.set_main_option("script_location", str(folder).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(configuration)
    before: str | None = None
    for number, revision in enumerate(_oldest_first(script), start=1):
        file = Path(revision.path).name
        matched = _REVISION_FILE.fullmatch(file)
        expected = f"{number:04d}"
        if matched is None or matched[1] != expected or revision.revision != expected:
            raise MigrationRefused(f"{file}: number {number} of {package} must be {expected}_….py")
        if revision.down_revision != before:
            raise MigrationRefused(f"{file}: down_revision must be {before!r}")
        if hasattr(revision.module, "downgrade"):
            raise MigrationRefused(f"{file}: migrations go forward only; there is no downgrade")
        before = expected
    return script


def _oldest_first(script: ScriptDirectory) -> Iterator[Script]:
    heads = script.get_heads()
    if len(heads) > 1:
        raise MigrationRefused(f"migrations fork: heads {', '.join(sorted(heads))}")
    return reversed(list(script.walk_revisions())) if heads else iter(())


def _upgrade(
    connection: SyncConnection, service: str, script: ScriptDirectory, applied: list[str]
) -> None:
    with _turn(connection, service):
        head = script.get_current_head()

        def steps(revisions: Any, _: MigrationContext) -> Any:
            return script._upgrade_revs(head or "base", revisions)

        def note(*, step: MigrationInfo, **_: object) -> None:
            if str(step.up_revision_id) not in applied:
                applied.append(str(step.up_revision_id))

        environment = EnvironmentContext(Config(), script, fn=steps)
        with _one_at_a_time(), environment:
            environment.configure(
                connection=connection,
                version_table=_VERSION_TABLE,
                version_table_schema=service,
                transaction_per_migration=True,
                on_version_apply=note,  # type: ignore[arg-type]  # called by keyword alone
            )
            with environment.begin_transaction():
                environment.run_migrations()
        _record_state(connection, service, script)


_environment_in_use = threading.Lock()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Alembic's `op` is one per process: of two trees at once, each would run the other's."""
    if not _environment_in_use.acquire(blocking=False):
        raise MigrationRefused("one process migrates one service at a time")
    try:
        yield
    finally:
        _environment_in_use.release()


@contextmanager
def _turn(connection: SyncConnection, service: str) -> Iterator[None]:
    """Hold the service's migration lock: of two migrators, the second waits and finds no work."""
    key = _lock_key(service)
    connection.execute(text(f"SET lock_timeout = '{TURN_SECONDS_MAX}s'"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
    connection.execute(text(f"SET lock_timeout = '{LOCK_SECONDS_MAX}s'"))
    connection.execute(text(f"SET statement_timeout = '{STATEMENT_SECONDS_MAX}s'"))
    connection.execute(text(f"SET search_path = {service}"))
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
        connection.commit()


def _record_state(connection: SyncConnection, service: str, script: ScriptDirectory) -> None:
    head = script.get_current_head()
    if head is None:
        return
    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS schema_state ("
            " service text PRIMARY KEY, version text NOT NULL, oldest_code text NOT NULL,"
            " newest_code text NOT NULL, migrate_time timestamptz NOT NULL DEFAULT now())"
        )
    )
    connection.execute(text(f"GRANT SELECT ON schema_state TO {service}_app"))
    connection.execute(
        text(
            "INSERT INTO schema_state AS s"
            " (service, version, oldest_code, newest_code) VALUES (:service, :head, :oldest, :head)"
            " ON CONFLICT (service) DO UPDATE SET version = excluded.version,"
            " oldest_code = excluded.oldest_code, newest_code = excluded.newest_code,"
            " migrate_time = now() WHERE s.version < excluded.version"
        ),
        {"service": service, "head": head, "oldest": _oldest_code(script)},
    )
    connection.commit()


def _oldest_code(script: ScriptDirectory) -> str:
    stated = [
        str(revision.module.oldest_code)
        for revision in script.walk_revisions()
        if hasattr(revision.module, "oldest_code")
    ]
    return max(stated, default="0001")


async def schema_version(connection: Connection, service: str) -> tuple[str, str] | None:
    """(version, oldest code) of the role's own schema, or None where it was never migrated."""
    try:
        row = await connection.fetchrow(
            "SELECT version, oldest_code FROM schema_state WHERE service = $1", service
        )
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return None
    return (row["version"], row["oldest_code"]) if row else None


def head_of(package: str) -> str | None:
    """The newest revision that a program was shipped with; None where it has no migrations."""
    return load_tree(package).get_current_head()


async def check_schema(
    connection: Connection, service: str, package: str, *, head: str | None = None
) -> None:
    """Raise SchemaUnfit, saying which side must move, unless schema and program fit.

    Who asks again and again gives the `head_of` the package.
    """
    head = head or head_of(package)
    found = await schema_version(connection, service)
    if head is None:
        return
    if found is None:
        raise SchemaUnfit(f"{service}: the schema was never migrated; run the migrations first")
    version, oldest = found
    if head > version:
        raise SchemaUnfit(f"{service}: schema {version} is older than this program's {head}")
    if head < oldest:
        raise SchemaUnfit(
            f"{service}: schema {version} needs a program of {oldest} or later; this is {head}"
        )


def _is_lock_timeout(error: DBAPIError) -> bool:
    cause: BaseException | None = error
    while cause is not None and not is_away(cause):
        if getattr(cause, "sqlstate", None) == "55P03":
            return True
        cause = cause.__cause__
    return False


def _lock_key(name: str) -> int:
    digest = hashlib.sha256(f"tollgate:migrate:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
