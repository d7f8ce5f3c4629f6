"""Days of the journal that are archived: everything still adds up, and nothing is counted twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.settings import SettingsError
from tests.support.databases import FreshDatabase
from tests.support.refusals import refuses
from tests.wallet.client import WalletClient
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from wallet.config import Config
from wallet.ledger.jobs import archive_days

KEEP_DAYS = 35
AGO = timedelta(days=40)


@pytest.fixture
async def superuser(
    wallet_database: FreshDatabase,
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(wallet_database.superuser_dsn)
    yield connection
    await connection.close()


async def _age(connection: asyncpg.Connection[asyncpg.Record]) -> str:
    """Let all that was posted be of forty days ago; answers the day's partition."""
    day = (datetime.now(UTC) - AGO).date()
    name = f"transfers_{day:%Y%m%d}"
    for number in range(2):  # what was posted around midnight is of two days
        each = day + timedelta(days=number)
        partition = f"wallet.transfers_{each:%Y%m%d}"
        await connection.execute(
            f"CREATE TABLE {partition} PARTITION OF wallet.transfers"
            f" FOR VALUES FROM ('{each}T00:00Z') TO ('{each + timedelta(days=1)}T00:00Z')"
        )
        await connection.execute(f"ALTER TABLE {partition} OWNER TO wallet_migrate")
        await connection.execute(f"SELECT wallet.guard_partition('{partition}')")
    # With triggers off: what no role of ours can do.
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        "UPDATE wallet.transfers SET record_time = record_time - interval '40 days',"
        " create_time = create_time - interval '40 days'"
    )
    await connection.execute("SET session_replication_role = origin")
    return name


async def _history(client: WalletClient) -> tuple[str, str]:
    await client.asset()
    wallet_id = await client.overdraft_wallet("50")
    given = await client.grant(wallet_id, "100", priority=10)
    await client.grant(wallet_id, "60")
    await client.debit("30")
    hold_id = (await client.hold("145")).hold.hold_id
    await client.capture(hold_id, "5")
    await client.void(hold_id)
    await client.hold("135")
    return wallet_id, given.grant_id


async def _totals(client: WalletClient) -> list[tuple[str, str, str]]:
    request = ledger.GetTrialBalanceRequest()
    answer = await client.call(client.ledger.GetTrialBalance, request)
    return [(total.account, total.debits, total.credits) for total in answer.totals]


async def _debits(client: WalletClient) -> dict[str, str]:
    answer = await client.call(client.ledger.ListDebits, ledger.ListDebitsRequest())
    return {debit.request_id: debit.amount.value for debit in answer.debits}


async def test_an_archived_day_is_gone_from_the_lists_and_counts_in_every_sum(
    client: WalletClient,
    wallet_database: FreshDatabase,
    superuser: asyncpg.Connection[asyncpg.Record],
) -> None:
    wallet_id, given = await _history(client)
    before = await _totals(client), await _debits(client), await client.balances()
    count = len(await client.transfers(wallet_id))
    partition = await _age(superuser)
    async with wallet_database.open("wallet") as database:
        archived = await archive_days(database, KEEP_DAYS)
        assert f"archived_{partition}" in archived
        assert await archive_days(database, KEEP_DAYS) == []
    assert await client.transfers(wallet_id) == []
    assert (await _totals(client), await _debits(client), await client.balances()) == before
    assert await client.verify() == []
    # Life goes on: numbers rise on, grants that were used before are voided and replayed.
    await client.debit("1")
    assert (await client.transfers(wallet_id))[0].sequence == count + 1
    with refuses("GRANT_HELD"):
        await client.void_grant(given, wallet_id)
    assert await client.verify() == []
    kept = sum(
        [await superuser.fetchval(f"SELECT count(*) FROM wallet.{table}") for table in archived]
    )
    assert kept == count, "the rows are kept, apart"
    full = f"wallet.archived_{partition}"
    if await superuser.fetchval(f"SELECT count(*) FROM {full}"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await superuser.execute(f"DELETE FROM {full}")


async def test_a_statement_that_begins_among_archived_days_is_refused(
    client: WalletClient,
    wallet_database: FreshDatabase,
    superuser: asyncpg.Connection[asyncpg.Record],
) -> None:
    wallet_id, _ = await _history(client)
    await _age(superuser)
    async with wallet_database.open("wallet") as database:
        await archive_days(database, KEEP_DAYS)
    start = Timestamp()
    start.FromDatetime(datetime.now(UTC) - timedelta(days=60))
    request = ledger.GetStatementRequest(wallet_id=wallet_id, start_time=start)
    with refuses("INVALID_VALUE") as refused:
        await client.call(client.ledger.GetStatement, request)
    assert refused.facts["field"] == "start_time"
    request.start_time.FromDatetime(datetime.now(UTC) - timedelta(days=30))
    page = await client.call(client.ledger.GetStatement, request)
    (balance,) = page.balances
    assert (balance.opening, balance.closing, balance.opening_held) == ("125", "125", "135")


async def test_a_corrupted_checkpoint_is_named_by_the_verifier(
    client: WalletClient,
    wallet_database: FreshDatabase,
    superuser: asyncpg.Connection[asyncpg.Record],
) -> None:
    await _history(client)
    await _age(superuser)
    async with wallet_database.open("wallet") as database:
        await archive_days(database, KEEP_DAYS)
    await superuser.execute("UPDATE wallet.journal_checkpoints SET atoms = atoms + 1")
    figures = {found.figure.split(" ")[0] for found in await client.verify()}
    assert {"balance.credited", "balance.debited", "balance.held"} <= figures


async def test_days_that_are_young_stay(
    client: WalletClient, wallet_database: FreshDatabase
) -> None:
    await _history(client)
    async with wallet_database.open("wallet") as database:
        assert await archive_days(database, KEEP_DAYS) == []
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await archive_days(database, 34)


def test_the_journal_is_kept_for_ever_unless_the_operator_says_otherwise() -> None:
    assert Config.load({}).journal_retention_days == 0
    assert Config.load({"TOLLGATE_JOURNAL_RETENTION_DAYS": "90"}).journal_retention_days == 90
    with pytest.raises(SettingsError):
        Config.load({"TOLLGATE_JOURNAL_RETENTION_DAYS": "7"})
