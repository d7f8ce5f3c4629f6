"""Crash points by enumeration: every money RPC, at every named place, crashed, hung and failed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc

from chassis.database import dsn_with
from chassis.failpoints import CRASH, ERROR, HANG, RESUME
from proof.claims import Layer, Options
from proof.line import Cut, Line
from proof.load import CHANNEL_OPTIONS
from proof.stage import Program, Programs, Stage, programs
from tests.support.databases import FreshDatabase
from tests.support.refusals import _info
from tests.wallet.client import WalletClient, debit_item, grant_item, hold_item, key
from tollgate.wallet.v1 import ledger_service_pb2 as ledger

VICTIMS = 3  # processes that are crashed side by side
HANG_SECONDS = 1.0  # a caller's patience where the callee never answers
CALL_SECONDS = 10.0
README = Path(__file__).resolve().parents[1] / "services" / "wallet" / "README.md"

# The failure table of the wallet's README: a row's first words, and whether the change stands.
TABLE = {
    "before_begin": ("before the batch, items queued in a lane", False),
    "after_lock": ("after the lock, before `record_batch`", False),
    "before_commit": ("after `record_batch`, before COMMIT", False),
    "after_commit_before_reply": ("after COMMIT, before the answer", True),
}
ACTIONS = (CRASH, HANG, ERROR)


@dataclass(frozen=True)
class Rpc:
    """A way for money to move, and what a customer of it looks like before and after."""

    name: str
    prepare: Callable[[WalletClient, str], Awaitable[str]]  # a hold, where it needs one
    item: Callable[[str, str, str], Any]  # customer or wallet, hold, key
    ask: Callable[[WalletClient, Any], tuple[Any, Any]]
    before: tuple[str, str]  # available and held
    after: tuple[str, str]


async def _funds(client: WalletClient, customer: str) -> str:
    await client.grant(await client.wallet(customer), "100")
    return ""


async def _hold(client: WalletClient, customer: str) -> str:
    await _funds(client, customer)
    return str((await client.hold("40", customer)).hold.hold_id)


async def _wallet(client: WalletClient, customer: str) -> str:
    """A wallet with some funds; its id stands for the hold's."""
    wallet_id = await client.wallet(customer)
    await client.grant(wallet_id, "100")
    return wallet_id


RPCS = (
    Rpc(
        "CreateGrants",
        _wallet,
        lambda customer, wallet, request_id: grant_item(wallet, "25", request_id=request_id),
        lambda c, item: (c.grants.CreateGrants, ledger.CreateGrantsRequest(items=[item])),
        ("100", "0"),
        ("125", "0"),
    ),
    Rpc(
        "PostDebits",
        _funds,
        lambda customer, _, request_id: debit_item("7", customer, request_id=request_id),
        lambda c, item: (c.debits.PostDebits, ledger.PostDebitsRequest(items=[item])),
        ("100", "0"),
        ("93", "0"),
    ),
    Rpc(
        "PostDebits from a hold",
        _hold,
        lambda customer, hold, request_id: debit_item(
            "15", customer, request_id=request_id, hold_id=hold, final=True
        ),
        lambda c, item: (c.debits.PostDebits, ledger.PostDebitsRequest(items=[item])),
        ("60", "40"),
        ("85", "0"),
    ),
    Rpc(
        "PlaceHolds",
        _funds,
        lambda customer, _, request_id: hold_item("30", customer, request_id=request_id),
        lambda c, item: (c.holds.PlaceHolds, ledger.PlaceHoldsRequest(items=[item])),
        ("100", "0"),
        ("70", "30"),
    ),
    Rpc(
        "IncreaseHolds",
        _hold,
        lambda _, hold, request_id: ledger.IncreaseItem(
            request_id=request_id, hold_id=hold, value="5"
        ),
        lambda c, item: (c.holds.IncreaseHolds, ledger.IncreaseHoldsRequest(items=[item])),
        ("60", "40"),
        ("55", "45"),
    ),
    Rpc(
        "CaptureHolds",
        _hold,
        lambda _, hold, request_id: ledger.CaptureItem(
            request_id=request_id, hold_id=hold, value="10"
        ),
        lambda c, item: (c.holds.CaptureHolds, ledger.CaptureHoldsRequest(items=[item])),
        ("60", "40"),
        ("60", "30"),
    ),
    Rpc(
        "VoidHolds",
        _hold,
        lambda _, hold, request_id: ledger.VoidItem(request_id=request_id, hold_id=hold),
        lambda c, item: (c.holds.VoidHolds, ledger.VoidHoldsRequest(items=[item])),
        ("60", "40"),
        ("100", "0"),
    ),
)


@dataclass
class Victim:
    """A wallet process that dies on demand."""

    program: Program
    file: Path
    client: WalletClient


async def run(layer: Layer, options: Options, stage: Stage) -> None:
    """Every case, on a customer of its own; a witness in another process looks at what is left."""
    database = await stage.database("wallet")
    async with programs(stage) as started, AsyncExitStack() as stack:
        tenant_id = uuid4()
        witness_program = started.make("wallet", database.dsn("wallet"))
        await witness_program.start()
        witness = await _client(stack, witness_program.address, tenant_id)
        await witness.asset()
        cases = [
            case
            for case in itertools.product(RPCS, TABLE, ACTIONS)
            if options.only in ("", case[0].name)
        ]
        victims = [
            await _victim(started, stack, stage, database.dsn("wallet"), tenant_id, number)
            for number in range(VICTIMS)
        ]
        queue, wrong = iter(cases), []
        passed: set[tuple[str, str]] = set()

        async def work(victim: Victim) -> None:
            for rpc, point, action in queue:
                wrong.extend(await _try(victim, witness, rpc, point, action, passed))

        await asyncio.gather(*[work(victim) for victim in victims])
        layer.figure("cases", len(cases))
        layer.figure("places passed", len(passed))
        layer.figure("processes started", sum(victim.program.starts for victim in victims))
        layer.claim("what a crash, a hang or a fault leaves is what the failure table says", wrong)
        layer.claim(
            "every RPC comes by every place that its way has",
            [
                f"{rpc.name} passes no {point}"
                for rpc in RPCS
                for point in ("before_commit", "after_commit_before_reply")
                if (rpc.name, point) not in passed and not options.only
            ],
        )
        await _lose_commits(layer, stage, started, stack, database, witness, tenant_id)
        layer.claim("every place is a row of the wallet's failure table", _missing_rows())
        with layer.claiming("the verifier agrees with every balance after all cases"):
            assert await witness.verify() == []


async def _try(
    victim: Victim,
    witness: WalletClient,
    rpc: Rpc,
    point: str,
    action: str,
    passed: set[tuple[str, str]],
) -> list[str]:
    """One case; answers what was not as it must be."""
    name = f"{rpc.name} {point} {action}"
    customer = f"{name}-{key()}".replace(" ", "-")
    hold = await rpc.prepare(witness, customer)
    item = rpc.item(customer, hold, key())
    victim.file.write_text(f"{point} {action}\n")
    method, request = rpc.ask(victim.client, item)
    failed = await _fails(victim.client, method, request, action)
    if victim.file.read_text().strip():
        # The short way has no such place: it locks, decides and commits in one trip.
        victim.file.write_text("")
        return [] if point == "after_lock" and failed is None else [f"{name}: never passed"]
    passed.add((rpc.name, point))
    wrong = []
    if failed is None and action != ERROR:
        wrong.append(f"{name}: answered all the same")
    stands = TABLE[point][1]
    left = await _standing(witness, customer)
    # A batch that failed is halved and tried again, so a fault may end well at once.
    if failed is not None and left != (rpc.after if stands else rpc.before):
        wrong.append(f"{name}: left {left}, the table says {rpc.after if stands else rpc.before}")
    if action == HANG:
        # It goes on although nobody waits any more; a repeat comes before it, with it or after it.
        victim.file.write_text(f"{point} {RESUME}\n")
    if action == CRASH:
        await victim.program.ended()
    method, request = rpc.ask(witness, item)
    (again,) = (await witness.call(method, request)).outcomes
    known = again.replayed if action == HANG else stands or failed is None
    if again.WhichOneof("outcome") == "refusal" or again.replayed is not known:
        wrong.append(f"{name}: repeated, it answers {again}")
    if await _standing(witness, customer) != rpc.after:
        wrong.append(f"{name}: repeated, it leaves {await _standing(witness, customer)}")
    if action == CRASH:
        await victim.program.start()
    method, request = rpc.ask(victim.client, item)
    (third,) = (await _ask_until_answered(victim.client, method, request)).outcomes
    if not third.replayed or _told(third) != _told(again):
        wrong.append(f"{name}: a third time it answers {third}")
    if await _standing(witness, customer) != rpc.after:
        wrong.append(f"{name}: a third time it leaves {await _standing(witness, customer)}")
    return wrong


async def _fails(
    client: WalletClient, method: Any, request: Any, action: str
) -> grpc.aio.AioRpcError | None:
    seconds = HANG_SECONDS if action == HANG else CALL_SECONDS
    try:
        await method(request, metadata=client._metadata["operator"], timeout=seconds)
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def _ask_until_answered(client: WalletClient, method: Any, request: Any) -> Any:
    """A channel takes a moment to find a process that was started again."""
    for attempt in itertools.count():
        try:
            return await client.call(method, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or attempt > 100:
                raise
            await asyncio.sleep(0.05)
    raise AssertionError("unreachable")


async def _lose_commits(
    layer: Layer,
    stage: Stage,
    started: Programs,
    stack: AsyncExitStack,
    database: FreshDatabase,
    witness: WalletClient,
    tenant_id: UUID,
) -> None:
    """The connection to Postgres is lost on the way of a change, and on the way of its answer."""
    socket = f"{stage.postgres.place.sockets}/.s.PGSQL.5432"
    marker = b"lost-on-the-way"
    line = await stack.enter_async_context(Line(socket, (b"COMMIT", marker)))
    direct = database.dsn("wallet")
    over_line = dsn_with(
        f"postgresql://{line.address}/",
        user="wallet_app",
        password=database.passwords["wallet_app"],
        database=direct.partition("?")[0].rpartition("/")[2],
    )
    program = started.make("wallet", over_line, lanes="1")
    await program.start()
    client = await _client(stack, program.address, tenant_id)
    wrong: list[str] = []
    unknown = 0
    for number, (rpc, how) in enumerate(itertools.product(RPCS, Cut)):
        name = f"{rpc.name}: {how.value}"
        customer = f"lost-{number}"
        hold = await rpc.prepare(witness, customer)
        item = rpc.item(customer, hold, f"{marker.decode()}-{number}")
        method, request = rpc.ask(client, item)
        line.cut(how)
        failed = await _fails(client, method, request, CRASH)
        line.heal()
        left = await _standing(witness, customer)
        if left not in (rpc.before, rpc.after):
            wrong.append(f"{name}: half done, {left}")
        reason = _reason(failed)
        unknown += reason == "OUTCOME_UNKNOWN"
        if failed is None and left != rpc.after:
            wrong.append(f"{name}: acknowledged and not there")
        if failed is not None and reason not in ("OUTCOME_UNKNOWN", "DATABASE_UNAVAILABLE"):
            wrong.append(f"{name}: told as {reason or failed.code()}")
        if reason == "DATABASE_UNAVAILABLE" and left != rpc.before:
            wrong.append(f"{name}: told as not done, and done")
        (again,) = (await _ask_until_answered(client, method, request)).outcomes
        # What was under way when the connection went may have ended after we looked.
        if left == rpc.after and not again.replayed:
            wrong.append(f"{name}: repeated, it answers {again}")
        if await _standing(witness, customer) != rpc.after:
            wrong.append(f"{name}: repeated, it leaves {await _standing(witness, customer)}")
    layer.figure("connections to Postgres lost", line.cuts)
    layer.figure("outcomes told as unknown", unknown)
    layer.claim("a change whose answer is lost is told as unknown, and a repeat tells which", wrong)


def _reason(error: grpc.aio.AioRpcError | None) -> str:
    info = _info(error) if error is not None else None
    return info.reason if info is not None else ""


def _told(outcome: Any) -> bytes:
    """An answer without its mark of being a repeat."""
    other = type(outcome)()
    other.CopyFrom(outcome)
    other.replayed = False
    return bytes(other.SerializeToString(deterministic=True))


async def _standing(client: WalletClient, customer: str) -> tuple[str, str]:
    (balance,) = await client.balances(customer)
    return balance.available, balance.held


async def _client(stack: AsyncExitStack, address: str, tenant_id: UUID) -> WalletClient:
    channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return WalletClient(await stack.enter_async_context(channel), tenant_id)


async def _victim(
    started: Programs,
    stack: AsyncExitStack,
    stage: Stage,
    database_url: str,
    tenant_id: UUID,
    number: int,
) -> Victim:
    file = stage.folder / f"failpoints-{number}"
    file.write_text("")
    program = started.make("wallet", database_url, failpoints=str(file))
    await program.start()
    return Victim(program, file, await _client(stack, program.address, tenant_id))


def _missing_rows() -> list[str]:
    table = README.read_text()
    return [f"{words} is no row" for words, _ in TABLE.values() if f"| {words}" not in table]
