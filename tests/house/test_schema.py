"""Rules of the schemas, read from a database that every service has migrated."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.databases import FreshDatabase

SERVICES = ("metering", "wallet", "invoicing", "gateway", "identity")
# What belongs to no tenant: the revision of the schema, which code it suits, who relays messages.
WITHOUT_TENANT = {"schema_version", "schema_state", "outbox_relay"}

TABLES = """
SELECT n.nspname AS schema, c.relname AS name, c.oid, c.relrowsecurity AS secured,
       c.relforcerowsecurity AS forced,
       (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY 1, 2
"""

KEYS = """
SELECT n.nspname || '.' || c.relname AS name, i.indisprimary AS is_primary,
       (SELECT attname FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum = i.indkey[0]) AS first
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY($1) AND i.indisunique AND NOT c.relispartition AND c.relkind IN ('r', 'p')
"""

RIGHTS = """
SELECT table_schema || '.' || table_name AS name, privilege_type AS right, grantee
FROM information_schema.role_table_grants
WHERE grantee = ANY($1)
"""


@pytest.fixture
async def schema(database: FreshDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.superuser_dsn)
    yield connection
    await connection.close()


async def test_every_table_is_closed_to_other_tenants(schema: asyncpg.Connection) -> None:
    rows = await schema.fetch(TABLES, list(SERVICES))
    assert {row["schema"] for row in rows} == set(SERVICES)
    open_tables = [
        f"{row['schema']}.{row['name']}"
        for row in rows
        if row["name"] not in WITHOUT_TENANT
        and not (row["secured"] and row["forced"] and row["policies"])
    ]
    assert open_tables == []


async def test_every_key_starts_with_the_tenant(schema: asyncpg.Connection) -> None:
    rows = await schema.fetch(KEYS, list(SERVICES))
    wrong = [
        f"{row['name']} starts with {row['first']}"
        for row in rows
        if row["name"].partition(".")[2] not in WITHOUT_TENANT and row["first"] != "tenant_id"
    ]
    assert wrong == []


async def test_a_service_may_not_touch_anothers_tables(schema: asyncpg.Connection) -> None:
    rows = await schema.fetch(RIGHTS, [f"{service}_app" for service in SERVICES])
    assert rows, "no service has any right at all"
    foreign = [
        f"{row['grantee']} may {row['right']} {row['name']}"
        for row in rows
        if not row["name"].startswith(row["grantee"].removesuffix("_app") + ".")
    ]
    assert foreign == []


async def test_no_running_role_owns_or_bypasses_anything(schema: asyncpg.Connection) -> None:
    roles = await schema.fetch(
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles "
        "WHERE rolname = ANY($1)",
        [f"{service}_app" for service in SERVICES],
    )
    assert len(roles) == len(SERVICES)
    assert [row["rolname"] for row in roles if any(row[1:])] == []
    owned = await schema.fetchval(
        "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner "
        "WHERE r.rolname LIKE '%\\_app'"
    )
    assert owned == 0
