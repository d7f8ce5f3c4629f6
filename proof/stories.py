"""Short stories on the service that each hold one promise to account; mutants must fail them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import asyncpg
import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.database import dsn_with
from chassis.embedded import EmbeddedPostgres
from chassis.migrations import migrate, provision
from proof.line import Cut, Line
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tests.wallet.client import WalletClient, debit_item, key, reasons
from tollgate.wallet.v1 import ledger_service_pb2 as ledger

POWER_CUTS = 3


@dataclass
class Scene:
    """Two wallet services in this process, on one database, and a caller of each."""

    database: FreshDatabase
    services: Services
    stack: AsyncExitStack
    folder: Path
    first: WalletClient
    second: WalletClient

    async def superuser(self) -> asyncpg.Connection[asyncpg.Record]:
        connection = await asyncpg.connect(self.database.superuser_dsn)
        self.stack.push_async_callback(connection.close)
        return connection


Story: TypeAlias = Callable[[Scene], Awaitable[None]]


async def play(story: Story, database: FreshDatabase, redis_url: str, folder: Path) -> None:
    """Set the scene and play a story on it."""
    async with AsyncExitStack() as stack:
        services = Services(stack, redis_url)
        callers = []
        for _ in range(2):
            running = await services.run("wallet", database, work=False, drain_seconds=0)
            channel = await services.channel(running)
            tenant_id = callers[0].tenant_id if callers else None
            callers.append(WalletClient(channel, tenant_id))
        await callers[0].asset()
        await story(Scene(database, services, stack, folder, *callers))


async def races(scene: Scene) -> None:
    """Of 120 debits of 1 on 40 exactly 40 pass; of 20 holds of 75 on 500 exactly six."""
    callers = (scene.first, scene.second)
    for number in range(3):
        customer = f"race-{number}"
        wallet_id = await scene.first.wallet(customer)
        await scene.first.grant(wallet_id, "40")
        debits = await asyncio.gather(*[callers[n % 2].debit("1", customer) for n in range(120)])
        assert Counter(reasons(debits)) == {"OK": 40, "INSUFFICIENT_FUNDS": 80}
        await scene.first.grant(wallet_id, "500")
        holds = await asyncio.gather(*[callers[n % 2].hold("75", customer) for n in range(20)])
        assert Counter(reasons(holds)) == {"OK": 6, "INSUFFICIENT_FUNDS": 14}
    assert await scene.first.verify() == []


async def a_lost_commit_is_not_acknowledged(scene: Scene) -> None:
    """Where COMMIT never arrives, nobody is told that it did."""
    dsn = scene.database.dsn("wallet")
    socket = dsn.partition("host=")[2].partition("&")[0]
    line = await scene.stack.enter_async_context(Line(f"{socket}/.s.PGSQL.5432", (b"COMMIT",)))
    over_line = dsn_with(
        f"postgresql://{line.address}/",
        user="wallet_app",
        password=scene.database.passwords["wallet_app"],
        database=dsn.partition("?")[0].rpartition("/")[2],
    )
    running = await scene.services.run(
        "wallet", scene.database, work=False, drain_seconds=0, database_url=over_line
    )
    client = WalletClient(await scene.services.channel(running), scene.first.tenant_id)
    wallet_id = await scene.first.wallet("lost")
    for how in (Cut.BEFORE_REQUEST, Cut.BEFORE_REPLY):
        line.cut(how)
        try:
            await client.grant(wallet_id, "5")
        except grpc.aio.AioRpcError as error:
            assert error.code() in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE)  # noqa: PT017
            continue
        raise AssertionError("a lost commit was acknowledged")


async def what_is_acknowledged_survives_a_power_cut(scene: Scene) -> None:
    """A server that is killed right after an answer still has what was answered."""
    folder = scene.folder / f"power-{key()}"
    server = EmbeddedPostgres(folder)
    await asyncio.to_thread(server.start)
    scene.stack.push_async_callback(asyncio.to_thread, server.kill)
    name = scene.database.superuser_dsn.partition("?")[0].rpartition("/")[2]
    copied = await _copy(scene, server, name)
    running = await scene.services.run("wallet", copied, work=False, drain_seconds=0)
    client = WalletClient(await scene.services.channel(running), scene.first.tenant_id)
    await client.asset()
    wallet_id = await client.wallet("cut")
    await client.grant(wallet_id, "1000")
    for number in range(POWER_CUTS):
        item = debit_item("1", "cut", request_id=f"cut-{number}")
        await _until_answered(client, item)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        again = await _until_answered(client, item)
        assert again.replayed, "an acknowledged debit was lost"


async def _copy(scene: Scene, server: EmbeddedPostgres, name: str) -> FreshDatabase:
    """The scene's database, schema and functions included, on another server."""
    passwords = scene.database.passwords
    await provision(server.dsn, ["wallet"], passwords)
    made = FreshDatabase(server.dsn, passwords)
    await migrate("wallet", made.migrate_dsn("wallet"), "wallet.migrations")
    source = await scene.superuser()
    target = await asyncpg.connect(server.dsn)
    try:
        functions = await source.fetch(
            "SELECT pg_get_functiondef(p.oid) AS text FROM pg_proc AS p"
            " JOIN pg_roles AS r ON r.oid = p.proowner"
            " WHERE p.pronamespace = 'wallet'::regnamespace AND r.rolname = 'wallet_ledger'"
        )
        for function in functions:
            await target.execute(function["text"])
        off = await source.fetchval(
            "SELECT 'synchronous_commit=off' = ANY (s.setconfig) FROM pg_db_role_setting AS s"
            " JOIN pg_database AS d ON d.oid = s.setdatabase WHERE d.datname = $1",
            name,
        )
        if off:
            await target.execute(
                "ALTER ROLE wallet_app IN DATABASE postgres SET synchronous_commit = off"
            )
            await target.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
            await target.execute("SELECT pg_reload_conf()")
    finally:
        await target.close()
    return made


async def _until_answered(client: WalletClient, item: ledger.DebitItem) -> ledger.DebitOutcome:
    for _ in range(200):
        try:
            (outcome,) = await client.post([item])
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)
            continue
        return outcome
    raise AssertionError("no answer")


async def a_repeat_writes_a_record_of_its_own(scene: Scene) -> None:
    """A repeat is answered only after what it repeats is durable, so it writes and waits."""
    superuser = await scene.superuser()
    item = debit_item("1", customer="nobody")
    await scene.first.post([item])
    before = await superuser.fetchval("SELECT pg_current_wal_insert_lsn()")
    (again,) = await scene.first.post([item])
    assert again.replayed
    written = await superuser.fetchval(
        "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), $1)", before
    )
    assert written > 0, "a repeat waited for nothing"


async def a_hold_that_ends_while_its_capture_waits_is_over(scene: Scene) -> None:
    """The clock is read after the lock: what waited past its hold's time comes too late."""
    superuser = await scene.superuser()
    wallet_id = await scene.first.wallet("late")
    await scene.first.grant(wallet_id, "100")
    item = ledger.HoldItem(request_id=key(), customer_id="late")
    item.amount.asset, item.amount.value = "USD", "10"
    item.time_to_live.seconds = 1
    (placed,) = await scene.first.place([item])
    transaction = superuser.transaction()
    await transaction.start()
    await superuser.execute(
        "SELECT 1 FROM wallet.wallets WHERE wallet_id = $1 FOR UPDATE", wallet_id
    )
    capture = asyncio.create_task(scene.first.capture(placed.hold.hold_id, "10", final=True))
    expire = placed.hold.expire_time.ToMicroseconds()
    # The server's own clock decides, so the server waits.
    await superuser.execute(
        "SELECT pg_sleep_until(to_timestamp(($1::bigint + 50000) / 1000000.0))", expire
    )
    await transaction.rollback()
    assert reasons([await capture]) == ["HOLD_ENDED"]


async def what_a_hold_pinned_of_an_expired_grant_does_not_return(scene: Scene) -> None:
    """A grant that expires while a hold pins it is gone when the hold lets go."""
    superuser = await scene.superuser()
    wallet_id = await scene.first.wallet("expired")
    expire = await superuser.fetchval("SELECT clock_timestamp() + interval '1.5 seconds'")
    stamp = Timestamp()
    stamp.FromDatetime(expire)
    await scene.first.grant(wallet_id, "100", expire_time=stamp)
    hold_id = (await scene.first.hold("40", "expired")).hold.hold_id
    over = "SELECT pg_sleep_until($1::timestamptz + interval '20 milliseconds')"
    await superuser.execute(over, expire)
    assert (await scene.first.void(hold_id)).available == "0"
    assert reasons([await scene.first.debit("1", "expired")]) == ["INSUFFICIENT_FUNDS"]


async def the_schema_refuses_what_the_core_never_asks(scene: Scene) -> None:
    """Constraints and triggers stand behind the code."""
    superuser = await scene.superuser()
    wallet_id = await scene.first.wallet("schema")
    await scene.first.grant(wallet_id, "10")
    await scene.first.hold("4", "schema")
    await scene.first.debit("1", "schema")
    for statement in (
        "UPDATE wallet.balances SET debited = credited + 1, overdrawn = overdrawn + credited + 1",
        "UPDATE wallet.balances SET debited = -1",
        "UPDATE wallet.grants SET held = remaining + 1",
        "UPDATE wallet.grants SET remaining = amount + 1",
        "UPDATE wallet.holds SET state = 2",
        "UPDATE wallet.transfers SET atoms = atoms + 1",
        "DELETE FROM wallet.transfers",
        "TRUNCATE wallet.transfers",
        "UPDATE wallet.operations SET outcome = ''",
        "DELETE FROM wallet.operations",
        "INSERT INTO wallet.transfers (tenant_id, wallet_id, sequence, kind, asset, atoms,"
        " debit_account, credit_account, request_id, grant_ids, grant_atoms, create_time)"
        " SELECT tenant_id, wallet_id, sequence + 100, kind, asset, atoms, 1, 1, '', '{}', '{}',"
        " create_time FROM wallet.transfers LIMIT 1",
    ):
        try:
            await superuser.execute(statement)
        except asyncpg.IntegrityConstraintViolationError:
            continue
        raise AssertionError(f"the schema took: {statement}")


async def the_verifier_finds_what_was_changed(scene: Scene) -> None:
    """One atom less in one balance is found, and where nothing was changed nothing is."""
    superuser = await scene.superuser()
    wallet_id = await scene.first.wallet("verified")
    await scene.first.grant(wallet_id, "10")
    await scene.first.debit("1", "verified")
    assert await scene.first.verify() == []
    await superuser.execute("UPDATE wallet.balances SET debited = debited - 1")
    found = await scene.first.verify()
    assert any(d.wallet_id == wallet_id for d in found), "a changed balance was not found"
