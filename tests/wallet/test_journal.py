"""The journal: append-only, gap-free, balanced; and the verifier that proves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import asyncpg
import pytest

from tests.support.databases import FreshDatabase
from tests.wallet.client import WalletClient, debit_item
from tollgate.wallet.v1 import ledger_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger

MONEY_TABLES = ("balances", "grants", "holds", "transfers", "operations", "budget_entries")
DEFINER_FUNCTIONS = {
    "open_batch",
    "list_open_grants",
    "record_batch",
    "record_signals",
    "grow_holds",
    "list_alerted_wallets",
    "fold_day",
    "set_overdrafts",
    "list_policies",
    "list_grant_details",
    "list_rollovers",
    "list_reversed",
    "list_rates",
    "list_closed_periods",
    "record_details",
    "open_overdrafts",
    "list_tenants",
    "list_due_balances",
    "list_due_holds",
    "open_budgets",
    "record_budgets",
    "weigh_plain",
    "spend_plain",
    "capture_plain",
}


@pytest.fixture
async def superuser(
    wallet_database: FreshDatabase,
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(wallet_database.superuser_dsn)
    yield connection
    await connection.close()


async def _some_history(client: WalletClient) -> str:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "100")
    await client.post([debit_item("1.5") for _ in range(10)])
    hold_id = (await client.hold("20")).hold.hold_id
    await client.capture(hold_id, "5")
    await client.hold("7")
    return wallet_id


async def test_numbers_of_a_wallet_have_no_gaps_and_name_every_move(client: WalletClient) -> None:
    wallet_id = await _some_history(client)
    transfers = await client.transfers(wallet_id)
    assert [t.sequence for t in transfers] == list(range(1, len(transfers) + 1))
    kinds = [ledger_pb2.TransferKind.Name(t.kind).removeprefix("TRANSFER_KIND_") for t in transfers]
    assert kinds == ["GRANT", *["DEBIT"] * 10, "HOLD", "CAPTURE", "HOLD"]
    grant = transfers[0]
    assert grant.debit_account == "house:provider_clearing"
    assert grant.credit_account == f"wallet:{wallet_id}"
    capture = transfers[-2]
    assert capture.debit_account == f"held:{wallet_id}"
    assert capture.credit_account == "house:revenue"


async def test_debits_equal_credits_in_the_trial_balance(client: WalletClient) -> None:
    await _some_history(client)
    await client.asset("token", 0)
    await client.grant(await client.wallet("c2"), "1000", "token")
    await client.debit("7", "c2", asset="token")
    answer = await client.call(client.ledger.GetTrialBalance, ledger.GetTrialBalanceRequest())
    for asset in ("USD", "token"):
        totals = [total for total in answer.totals if total.asset == asset]
        debits = sum(Decimal(total.debits) for total in totals)
        assert debits == sum(Decimal(total.credits) for total in totals)
        assert debits > 0
    revenue = {t.asset: t.credits for t in answer.totals if t.account == "house:revenue"}
    assert revenue == {"USD": "20", "token": "7"}


@pytest.mark.parametrize(
    ("corruption", "figure"),
    [
        ("UPDATE wallet.balances SET debited = debited - 100", "balance.debited USD"),
        ("UPDATE wallet.balances SET credited = credited + 1", "balance.credited USD"),
        ("UPDATE wallet.balances SET held = held + 1", "balance.held USD"),
        ("UPDATE wallet.grants SET remaining = remaining - 1", "grant.remaining"),
        ("UPDATE wallet.grants SET amount = amount + 1", "grant.amount"),
        ("UPDATE wallet.balances SET sequence = sequence + 1", "balance.sequence USD"),
        (
            "UPDATE wallet.holds SET pin_atoms = ARRAY[1]::numeric[] WHERE state = 1",
            "grant.pinned_by_holds",
        ),
        ("DELETE FROM wallet.transfers WHERE sequence = 3", "wallet.sequence"),
    ],
)
async def test_the_verifier_names_what_was_corrupted(
    client: WalletClient,
    superuser: asyncpg.Connection[asyncpg.Record],
    corruption: str,
    figure: str,
) -> None:
    wallet_id = await _some_history(client)
    assert await client.verify() == []
    # A superuser with triggers off: what no role of ours can do.
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute(corruption)
    found = await client.verify()
    assert any(d.figure.startswith(figure) and d.wallet_id == wallet_id for d in found), found


async def test_the_verifier_goes_through_all_pages(client: WalletClient) -> None:
    await client.asset()
    for number in range(5):
        await client.grant(await client.wallet(f"c{number}"), "1")
    checked, pages, token = 0, 0, ""
    while True:
        answer = await client.call(
            client.ledger.VerifyLedger, ledger.VerifyLedgerRequest(page_size=2, page_token=token)
        )
        checked += answer.wallets_checked
        pages += 1
        token = answer.next_page_token
        if not token:
            break
    assert (checked, pages) == (5, 3)


@pytest.mark.parametrize("table", ["transfers", "operations"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET request_id = 'x'", "DELETE FROM {}"])
async def test_the_journal_is_append_only_even_for_its_owner(
    client: WalletClient,
    superuser: asyncpg.Connection[asyncpg.Record],
    table: str,
    statement: str,
) -> None:
    await _some_history(client)
    with pytest.raises(asyncpg.RestrictViolationError):
        await superuser.execute(statement.format(f"wallet.{table}"))
    with pytest.raises(asyncpg.RestrictViolationError):
        await superuser.execute(f"TRUNCATE wallet.{table}")


async def test_every_partition_of_the_journal_is_guarded(
    superuser: asyncpg.Connection[asyncpg.Record],
) -> None:
    rows = await superuser.fetch(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS guarded,"
        " (SELECT count(*) FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal"
        "   OR t.tgrelid = c.oid AND t.tgparentid <> 0) AS triggers,"
        " has_table_privilege('wallet_app', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')"
        " AS open"
        " FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'wallet.transfers'::regclass"
    )
    assert len(rows) >= 10, "yesterday, today, a week ahead and the default"
    for row in rows:
        assert row["guarded"], row["relname"]
        assert row["triggers"] == 2, row["relname"]
        assert not row["open"], row["relname"]


async def test_the_services_role_may_look_at_money_and_touch_none_of_it(
    superuser: asyncpg.Connection[asyncpg.Record],
) -> None:
    rows = await superuser.fetch(
        "SELECT table_name, string_agg(privilege_type, ',' ORDER BY privilege_type) AS may"
        " FROM information_schema.role_table_grants"
        " WHERE grantee = 'wallet_app' AND table_schema = 'wallet' GROUP BY table_name"
    )
    may = {row["table_name"]: row["may"] for row in rows}
    assert {table: may[table] for table in MONEY_TABLES} == dict.fromkeys(MONEY_TABLES, "SELECT")
    columns = await superuser.fetch(
        "SELECT table_name, column_name FROM information_schema.column_privileges"
        " WHERE grantee = 'wallet_app' AND privilege_type <> 'SELECT' AND table_name = ANY ($1)",
        list(MONEY_TABLES),
    )
    assert columns == []
    assert await superuser.fetchval(
        "SELECT NOT rolsuper AND NOT rolbypassrls AND NOT rolcreaterole FROM pg_roles"
        " WHERE rolname = 'wallet_app'"
    )


async def test_money_moves_through_definer_functions_with_a_pinned_path(
    superuser: asyncpg.Connection[asyncpg.Record],
) -> None:
    rows = await superuser.fetch(
        "SELECT p.proname, r.rolname, p.prosecdef, p.proconfig,"
        " has_function_privilege('public', p.oid, 'EXECUTE') AS open"
        " FROM pg_proc AS p JOIN pg_roles AS r ON r.oid = p.proowner"
        " WHERE p.pronamespace = 'wallet'::regnamespace AND r.rolname = 'wallet_ledger'"
    )
    assert {row["proname"] for row in rows} == DEFINER_FUNCTIONS
    for row in rows:
        assert row["prosecdef"], row["proname"]
        assert "search_path=wallet, pg_temp" in row["proconfig"], row["proname"]
        assert not row["open"], row["proname"]
    assert not await superuser.fetchval(
        "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'wallet_ledger'"
    )


async def test_every_table_of_the_schema_is_guarded_by_tenant(
    superuser: asyncpg.Connection[asyncpg.Record],
) -> None:
    rows = await superuser.fetch(
        "SELECT c.relname FROM pg_class AS c"
        " WHERE c.relnamespace = 'wallet'::regnamespace AND c.relkind IN ('r', 'p')"
        " AND NOT (c.relrowsecurity AND c.relforcerowsecurity"
        "   AND EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid))"
    )
    unguarded = {row["relname"] for row in rows}
    assert unguarded == {"schema_version", "schema_state", "outbox_relay"}


async def test_money_does_not_move_while_commits_are_not_durable(
    wallet_database: FreshDatabase,
) -> None:
    connection = await asyncpg.connect(wallet_database.dsn("wallet"))
    try:
        await connection.execute("SET synchronous_commit = off")
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
            await connection.fetch("SELECT * FROM open_batch('', '', '', '', '{}', '{}', '{}', 4)")
    finally:
        await connection.close()


async def test_a_batch_that_only_repeats_answers_writes_a_record_of_its_own(
    client: WalletClient, superuser: asyncpg.Connection[asyncpg.Record]
) -> None:
    await _some_history(client)
    item = debit_item("1", customer="nobody")
    (refused,) = await client.post([item])
    before = await superuser.fetchval("SELECT pg_current_wal_insert_lsn()")
    (again,) = await client.post([item])
    assert again.replayed
    assert again.refusal == refused.refusal
    written = await superuser.fetchval(
        "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), $1)", before
    )
    assert written > 0
