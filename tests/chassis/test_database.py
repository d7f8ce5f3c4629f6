"""Transactions: tenants do not meet, and every ending is told truly."""

from __future__ import annotations

import asyncio
import uuid

import asyncpg
import pytest

from chassis.database import (
    CommitSwallowed,
    Database,
    DatabaseUnavailable,
    NotDurable,
    OutcomeUnknown,
    dsn_with,
)
from tests.conftest import MakeDatabase
from tests.support.databases import FreshDatabase
from tests.support.probe import probe_database
from tests.support.proxy import CuttingProxy
from tests.support.waiting import until

OURS = uuid.UUID(int=1)
THEIRS = uuid.UUID(int=2)


@pytest.fixture
async def database(fresh_database: MakeDatabase) -> FreshDatabase:
    return await probe_database(fresh_database)


async def add_note(pool: Database, tenant_id: uuid.UUID, note_id: str) -> None:
    async with pool.transaction(tenant_id) as tx:
        await tx.execute("INSERT INTO note VALUES ($1, $2)", tenant_id, note_id)


async def read_notes(pool: Database, tenant_id: uuid.UUID) -> list[str]:
    async with pool.transaction(tenant_id) as tx:
        rows = await tx.fetch("SELECT note_id FROM note ORDER BY note_id")
    return [row["note_id"] for row in rows]


async def test_a_tenant_sees_its_own_rows_and_nobody_elses(database: FreshDatabase) -> None:
    async with database.open("probe") as pool:
        await add_note(pool, OURS, "ours")
        await add_note(pool, THEIRS, "theirs")
        assert await read_notes(pool, OURS) == ["ours"]
        async with pool.transaction(OURS) as tx:
            assert await tx.execute("DELETE FROM note WHERE note_id = 'theirs'") == "DELETE 0"
        assert await read_notes(pool, THEIRS) == ["theirs"]


async def test_a_row_cannot_be_written_into_another_tenant(database: FreshDatabase) -> None:
    async with database.open("probe") as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with pool.transaction(OURS) as tx:
                await tx.execute("INSERT INTO note VALUES ($1, 'x')", THEIRS)


async def test_a_transaction_without_a_tenant_is_an_error_and_not_an_empty_answer(
    database: FreshDatabase,
) -> None:
    async with database.open("probe", size=1) as pool:
        async with pool.unscoped() as connection:
            with pytest.raises(asyncpg.UndefinedObjectError):
                await connection.fetch("SELECT * FROM note")
        await add_note(pool, OURS, "ours")
        # The same connection, which an earlier transaction left with an empty setting.
        async with pool.unscoped() as connection:
            with pytest.raises(asyncpg.InvalidTextRepresentationError):
                await connection.fetch("SELECT * FROM note")


async def test_a_definer_function_finds_work_of_all_tenants_without_naming_one(
    database: FreshDatabase,
) -> None:
    async with database.open("probe") as pool:
        await add_note(pool, OURS, "ours")
        await add_note(pool, THEIRS, "theirs")
        async with pool.unscoped() as connection:
            rows = await connection.fetch("SELECT * FROM due_notes(10)")
        assert {row["tenant_id"] for row in rows} == {OURS, THEIRS}


async def test_an_exception_rolls_back(database: FreshDatabase) -> None:
    async with database.open("probe") as pool:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it is the block's end that raises
            async with pool.transaction(OURS) as tx:
                await tx.execute("INSERT INTO note VALUES ($1, 'x')", OURS)
                raise ZeroDivisionError
        assert await read_notes(pool, OURS) == []


async def test_a_swallowed_error_does_not_pass_for_a_commit(database: FreshDatabase) -> None:
    async with database.open("probe") as pool:
        with pytest.raises(CommitSwallowed):  # noqa: PT012 - it is the block's end that raises
            async with pool.transaction(OURS) as tx:
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await tx.execute("SELECT 1 / 0")


async def test_a_caller_that_gives_up_leaves_a_usable_connection(database: FreshDatabase) -> None:
    async with database.open("probe", size=1) as pool:
        entered = asyncio.Event()

        async def wait_for_ever() -> None:
            async with pool.transaction(OURS) as tx:
                await tx.execute("INSERT INTO note VALUES ($1, 'x')", OURS)
                entered.set()
                await tx.execute("SELECT pg_sleep(60)")

        task = asyncio.create_task(wait_for_ever())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read_notes(pool, OURS) == []


async def test_a_money_transaction_is_refused_tables_that_belong_to_tenants(
    database: FreshDatabase,
) -> None:
    async with database.open("probe", size=1) as pool:
        await add_note(pool, OURS, "ours")
        with pytest.raises(asyncpg.PostgresError):
            async with pool.money_transaction() as tx:
                await tx.fetch("SELECT * FROM note")
        async with pool.money_transaction() as tx:
            assert len(await tx.fetch("SELECT * FROM due_notes(10)")) == 1


async def test_a_role_that_acknowledges_before_it_writes_is_refused(
    database: FreshDatabase,
) -> None:
    dsn = dsn_with(database.dsn("probe"))
    joint = "&" if "?" in dsn else "?"
    async with Database(f"{dsn}{joint}synchronous_commit=off") as pool:
        with pytest.raises(NotDurable):
            async with pool.money_transaction():
                raise AssertionError("the transaction began")


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: object) -> None:
    async with Database(f"postgresql://nobody@/x?host={tmp_path}") as pool:
        assert not await pool.is_reachable()
        with pytest.raises(DatabaseUnavailable):
            async with pool.transaction(OURS):
                raise AssertionError("the transaction began")


async def test_a_connection_that_dies_before_commit_is_unavailable_and_nothing_was_done(
    database: FreshDatabase,
) -> None:
    async with database.open("probe") as pool:
        with pytest.raises(DatabaseUnavailable):  # noqa: PT012 - so does this block's end
            async with pool.transaction(OURS) as tx:
                await tx.execute("INSERT INTO note VALUES ($1, 'x')", OURS)
                await kill_backend(database, await tx.fetchval("SELECT pg_backend_pid()"))
                await tx.execute("SELECT 1")
        assert await read_notes(pool, OURS) == []


async def test_a_connection_that_dies_during_commit_is_an_unknown_outcome(
    database: FreshDatabase,
) -> None:
    async with CuttingProxy(database.dsn("probe")) as proxy:
        async with Database(proxy.dsn) as pool:
            with pytest.raises(OutcomeUnknown):  # noqa: PT012 - it is the block's end that raises
                async with pool.transaction(OURS) as tx:
                    await tx.execute("INSERT INTO note VALUES ($1, 'x')", OURS)
                    proxy.cut_before_reply_to(b"COMMIT")
            # It was done, as it happens; the caller repeats by its key and learns so.
            async with database.open("probe") as direct:
                assert await until(lambda: read_notes(direct, OURS)) == ["x"]
            # And the pool goes on with another connection.
            assert await read_notes(pool, OURS) == ["x"]


async def kill_backend(database: FreshDatabase, pid: int) -> None:
    connection = await asyncpg.connect(database.superuser_dsn)
    try:
        await connection.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    finally:
        await connection.close()


def test_a_dsn_is_the_same_server_under_another_role() -> None:
    dsn = "postgresql://postgres:old@db.example:5433/main?sslmode=require"
    changed = dsn_with(dsn, user="wallet_app", password="p@:/ß", database="other")
    assert changed == (
        "postgresql://wallet_app:p%40%3A%2F%C3%9F@db.example:5433/other?sslmode=require"
    )
    assert dsn_with(dsn, database="other") == dsn.replace("/main", "/other")
    socket = "postgresql://postgres@/postgres?host=/a/b&port=5432"
    assert dsn_with(socket, user="x") == "postgresql://x@/postgres?host=/a/b&port=5432"
