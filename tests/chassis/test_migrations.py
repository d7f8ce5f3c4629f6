"""Provisioning can be repeated; migrations go forward, one migrator at a time."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from chassis.database import Database
from chassis.migrations import (
    MigrationRefused,
    SchemaUnfit,
    check_schema,
    load_tree,
    migrate,
    provision,
    schema_version,
)
from chassis.schema import TENANTLESS_TABLES
from tests.conftest import MakeDatabase
from tests.support.databases import Databases, FreshDatabase
from tests.support.probe import PACKAGES, probe_database

PROBE = PACKAGES["probe"]


@pytest.fixture
async def bare(databases: Databases) -> AsyncIterator[FreshDatabase]:
    """A database in which `probe` may be provisioned and was not."""
    made = await databases.empty()
    made.passwords.update(databases.passwords(["probe", "wallet"]))
    yield made
    await databases.drop(made)


async def test_provisioning_and_migrating_can_be_repeated(bare: FreshDatabase) -> None:
    for _ in range(2):
        await provision(bare.superuser_dsn, ["probe", "wallet"], bare.passwords)
    assert await migrate("probe", bare.migrate_dsn("probe"), PROBE) == ["0001", "0002"]
    await provision(bare.superuser_dsn, ["probe", "wallet"], bare.passwords)
    assert await migrate("probe", bare.migrate_dsn("probe"), PROBE) == []


async def test_of_two_migrators_one_waits_and_finds_nothing_left(bare: FreshDatabase) -> None:
    await provision(bare.superuser_dsn, ["probe"], bare.passwords)
    dsn = bare.migrate_dsn("probe")
    applied = await asyncio.gather(*(migrate("probe", dsn, PROBE) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ["0001", "0002"]]


async def test_roles_are_as_weak_as_they_should_be(bare: FreshDatabase) -> None:
    await provision(bare.superuser_dsn, ["probe", "wallet"], bare.passwords)
    connection = await asyncpg.connect(bare.superuser_dsn)
    try:
        rows = await connection.fetch(
            "SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls OR rolcreaterole"
            " OR rolcreatedb AS mighty FROM pg_roles WHERE rolname = ANY ($1)",
            [
                *("probe_app", "probe_migrate", "probe_sweeper"),
                *("wallet_app", "wallet_migrate", "wallet_sweeper", "wallet_ledger"),
            ],
        )
        owned = await connection.fetchval(
            "SELECT count(*) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid"
            " WHERE d.deptype = 'o' AND r.rolname IN ('probe_app', 'wallet_app')"
        )
    finally:
        await connection.close()
    logins = {row["rolname"] for row in rows if row["rolcanlogin"]}
    assert logins == {"probe_app", "probe_migrate", "wallet_app", "wallet_migrate"}
    assert len(rows) == 7
    assert not any(row["mighty"] for row in rows)
    assert owned == 0


async def test_a_role_that_passes_by_row_security_is_refused(bare: FreshDatabase) -> None:
    connection = await asyncpg.connect(bare.superuser_dsn)
    try:
        await connection.execute("CREATE ROLE mighty_app LOGIN BYPASSRLS")
        with pytest.raises(MigrationRefused, match="passes by row security"):
            await provision(bare.superuser_dsn, ["mighty"])
    finally:
        for role in ("mighty_app", "mighty_migrate"):
            await connection.execute(f"DROP ROLE IF EXISTS {role}")
        await connection.close()


async def test_every_table_with_tenants_is_guarded_and_no_function_is_everybodys(
    fresh_database: MakeDatabase,
) -> None:
    database = await probe_database(fresh_database)
    connection = await asyncpg.connect(database.superuser_dsn)
    try:
        unguarded = await connection.fetch(
            "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'p')"
            " AND c.relnamespace = 'probe'::regnamespace"
            " AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
        )
        open_functions = await connection.fetch(
            "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'probe'::regnamespace"
            " AND has_function_privilege('public', p.oid, 'EXECUTE')"
        )
    finally:
        await connection.close()
    assert {row["relname"] for row in unguarded} == TENANTLESS_TABLES
    assert open_functions == []


async def test_the_app_role_can_neither_create_nor_change_what_was_sent(
    fresh_database: MakeDatabase,
) -> None:
    database = await probe_database(fresh_database)
    async with database.open("probe") as pool:
        for statement in (
            "CREATE TABLE sneaky (x int)",
            "UPDATE outbox SET kind = 'x'",
            "DELETE FROM outbox",
            "DELETE FROM request",
            "UPDATE request SET fingerprint = ''",
            "UPDATE outbox_relay SET holder = NULL",
            "ALTER TABLE note DISABLE ROW LEVEL SECURITY",
            "SET ROLE probe_sweeper",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await execute(pool, statement)


async def execute(pool: Database, statement: str) -> None:
    async with pool.transaction(uuid.UUID(int=1)) as tx:
        await tx.execute(statement)


class Tree:
    """A tree of migrations made by a test."""

    def __init__(self, folder: Path, name: str) -> None:
        self.package = name
        self._versions = folder / name / "versions"
        self._versions.mkdir(parents=True)
        (folder / name / "__init__.py").write_text("")

    def add(self, file: str, body: str) -> None:
        (self._versions / file).write_text(textwrap.dedent(body))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"tree_{uuid.uuid4().hex}"
    yield Tree(tmp_path, name)
    sys.modules.pop(name, None)


GOOD = "revision = '0001'\ndown_revision = None\ndef upgrade(): pass\n"


@pytest.mark.parametrize(
    ("file", "body", "why"),
    [
        ("0002_b.py", "revision = '0002'\ndown_revision = '0001'\ndef upgrade(): pass\n"
         "def downgrade(): pass\n", "forward only"),
        ("0003_b.py", "revision = '0003'\ndown_revision = '0001'\ndef upgrade(): pass\n",
         "must be 0002"),
        ("0002_b.py", "revision = 'abcd'\ndown_revision = '0001'\ndef upgrade(): pass\n",
         "must be 0002"),
        ("b.py", "revision = '0002'\ndown_revision = '0001'\ndef upgrade(): pass\n",
         "must be 0002"),
        ("0002_b.py", "revision = '0002'\ndown_revision = None\ndef upgrade(): pass\n", "fork"),
    ],
)  # fmt: skip
def test_a_tree_that_is_not_one_numbered_line_forward_is_refused(
    tree: Tree, file: str, body: str, why: str
) -> None:
    tree.add("0001_a.py", GOOD)
    tree.add(file, body)
    with pytest.raises(MigrationRefused, match=why):
        load_tree(tree.package)


async def test_a_migration_that_fails_leaves_the_ones_before_it_and_can_be_mended(
    bare: FreshDatabase, tree: Tree
) -> None:
    await provision(bare.superuser_dsn, ["probe"], bare.passwords)
    tree.add(
        "0001_a.py",
        """
        from alembic import op
        revision = "0001"
        down_revision = None
        def upgrade(): op.execute("CREATE TABLE first (x int)")
        """,
    )
    second = """
        from alembic import op
        revision = "0002"
        down_revision = "0001"
        def upgrade():
            op.execute("CREATE TABLE second (x int)")
            op.execute("{statement}")
        """
    tree.add("0002_b.py", second.format(statement="SELECT 1 / 0"))
    dsn = bare.migrate_dsn("probe")
    with pytest.raises(Exception, match="division by zero"):
        await migrate("probe", dsn, tree.package)
    tree.add("0002_b.py", second.format(statement="SELECT 1 + 1"))
    assert await migrate("probe", dsn, tree.package) == ["0002"]


async def test_a_program_older_or_newer_than_the_schema_is_told_so(
    bare: FreshDatabase, tree: Tree
) -> None:
    await provision(bare.superuser_dsn, ["probe"], bare.passwords)
    dsn = bare.migrate_dsn("probe")
    tree.add("0001_a.py", GOOD)
    async with Database(dsn) as pool, pool.unscoped() as connection:
        assert await schema_version(connection, "probe") is None
        with pytest.raises(SchemaUnfit, match="never migrated"):
            await check_schema(connection, "probe", tree.package)
    assert await migrate("probe", dsn, tree.package) == ["0001"]
    newer = "revision = '0002'\ndown_revision = '0001'\ndef upgrade(): pass\n"
    tree.add("0002_b.py", newer)
    async with Database(dsn) as pool, pool.unscoped() as connection:
        with pytest.raises(SchemaUnfit, match="older than this program's 0002"):
            await check_schema(connection, "probe", tree.package)
    tree.add("0002_b.py", f"oldest_code = '0002'\n{newer}")
    assert await migrate("probe", dsn, tree.package) == ["0002"]
    async with Database(dsn) as pool, pool.unscoped() as connection:
        assert await schema_version(connection, "probe") == ("0002", "0002")
        await check_schema(connection, "probe", tree.package)
        (Path(tree._versions) / "0002_b.py").unlink()
        with pytest.raises(SchemaUnfit, match="needs a program of 0002"):
            await check_schema(connection, "probe", tree.package)


async def test_a_migration_of_a_locked_table_waits_four_seconds_at_a_time_and_then_goes_on(
    bare: FreshDatabase, tree: Tree
) -> None:
    await provision(bare.superuser_dsn, ["probe"], bare.passwords)
    dsn = bare.migrate_dsn("probe")
    tree.add(
        "0001_a.py",
        """
        from alembic import op
        revision = "0001"
        down_revision = None
        def upgrade(): op.execute("CREATE TABLE busy (x int)")
        """,
    )
    await migrate("probe", dsn, tree.package)
    tree.add(
        "0002_b.py",
        """
        from alembic import op
        revision = "0002"
        down_revision = "0001"
        def upgrade(): op.execute("ALTER TABLE busy ADD COLUMN y int")
        """,
    )
    reader = await asyncpg.connect(dsn)
    try:
        await reader.execute("BEGIN; SELECT * FROM busy")
        migrating = asyncio.create_task(migrate("probe", dsn, tree.package))
        observer = await asyncpg.connect(bare.superuser_dsn)
        try:
            # The migration gives up its place in the queue, so that others can pass.
            await until_true(
                observer, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted", seconds_max=4
            )
            await until_true(
                observer, "SELECT count(*) = 0 FROM pg_locks WHERE NOT granted", seconds_max=8
            )
        finally:
            await observer.close()
        await reader.execute("COMMIT")
        assert await migrating == ["0002"]
    finally:
        await reader.close()


async def until_true(connection: object, query: str, seconds_max: float) -> None:
    from tests.support.waiting import until

    await until(lambda: connection.fetchval(query), what=query, seconds_max=seconds_max)  # type: ignore[attr-defined]
