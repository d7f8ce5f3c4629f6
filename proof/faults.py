"""Faults: load on real processes while they are killed, halted and cut off; then the checker."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from uuid import UUID

import grpc

from chassis.database import dsn_with
from proof.checking import KINDS, Checker, Verdict
from proof.claims import Layer, Options, tell
from proof.injecting import Injector
from proof.line import Line
from proof.load import CHANNEL_OPTIONS, Load, Way
from proof.operations import ASSET, Customer
from proof.stage import Program, Stage, open_stage, programs
from tests.metering.world import new_tenant
from tests.support.databases import FreshDatabase
from tests.wallet.client import WalletClient
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import wallet_pb2

WALLETS = 3  # processes: two reach Postgres by its socket, one over a line of ours
CALLERS = 10
SIZE_MAX = 60
CUSTOMERS = 40
# The short form, and what a round of the long one consists of.
KILLS_MIN = 22
FAULTS_MIN = 60
OPERATIONS_MIN = 30_000
LONG_OPERATIONS, LONG_FAULTS = 10_000_000, 500
LONG_ROUND_OPERATIONS = 100_000
LONG_SIZE_MAX = 500
REPEATED_OF_LONG = 20_000  # keys that are asked again after a round; the short form asks all

# What a statement that moves money holds: the end of a transaction, or keys of the load.
MONEY = (b"COMMIT", b"\x1fdebit-", b"\x1fplace-", b"\x1fcapture-", b"\x1fvoid-", b"\x1fgrant-")

SAYS = {
    "lost": "no acknowledged operation is lost",
    "double": "no operation is done twice",
    "ghost": "nothing moved that nobody asked, or that was refused",
    "divergent": "every reply ever given is the first one, and what the model says",
    "gaps": "the numbers of every wallet rise without gaps",
    "order": "what was answered before another was asked has the lower number",
    "conservation": "balances, trial balance and verifier agree with the replay",
}


@dataclass
class Tally:
    """What all rounds together did and found."""

    verdict: Verdict = field(default_factory=Verdict)
    operations: int = 0
    replies: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    faulty: list[str] = field(default_factory=list)
    rounds: int = 0


async def run(layer: Layer, options: Options, stage: Stage) -> None:
    """One round in the short form; rounds on fresh customers until it is enough in the long."""
    operations = options.operations or (LONG_OPERATIONS if options.long else OPERATIONS_MIN)
    faults = options.faults or (LONG_FAULTS if options.long else FAULTS_MIN)
    tally = Tally()
    started = time.monotonic()
    # A server of its own: it is killed again and again.
    async with open_stage(stage.folder / "faults") as own, AsyncExitStack() as stack:
        field_ = await _Field.open(own, stack)
        while not _enough(tally, operations, faults, options, started):
            seed = options.seed + tally.rounds
            until = started + 60 * options.minutes if options.minutes else None
            await _round(field_, seed, options, tally, operations, faults, until)
    _report(layer, tally)


def _enough(tally: Tally, operations: int, faults: int, options: Options, started: float) -> bool:
    if not tally.rounds:
        return False
    if options.minutes and time.monotonic() - started > 60 * options.minutes:
        return True
    if any(getattr(tally.verdict, kind) for kind in KINDS):
        return True  # what went wrong is at hand now, and only now
    return tally.operations >= operations and sum(tally.faults.values()) >= faults


@dataclass
class _Field:
    """The processes, the lines to them, and a tenant."""

    stage: Stage
    database: FreshDatabase
    wallets: list[Program]
    lines: list[Line]
    database_line: Line
    ways: list[Way]
    tenant_id: UUID
    client: WalletClient

    @classmethod
    async def open(cls, stage: Stage, stack: AsyncExitStack) -> _Field:
        database = await stage.database("identity", "wallet")
        started = await stack.enter_async_context(programs(stage))
        identity = started.make("identity", database.dsn("identity"))
        await identity.start()
        socket = f"{stage.postgres.place.sockets}/.s.PGSQL.5432"
        database_line = await stack.enter_async_context(Line(socket, MONEY))
        direct = database.dsn("wallet")
        over_line = dsn_with(
            f"postgresql://{database_line.address}/",
            user="wallet_app",
            password=database.passwords["wallet_app"],
            database=direct.partition("?")[0].rpartition("/")[2],
        )
        wallets = [
            started.make(
                "wallet",
                over_line if number == 0 else direct,
                # Of several, one works: it sweeps what time has overtaken.
                command="run" if number == 1 else "serve",
                peers={"identity": identity.address},
            )
            for number in range(WALLETS)
        ]
        await asyncio.gather(*[wallet.start() for wallet in wallets])
        lines = [await stack.enter_async_context(Line(w.address)) for w in wallets]
        ways = []
        for line in lines:
            channel = grpc.aio.insecure_channel(line.address, options=CHANNEL_OPTIONS)
            ways.append(Way(await stack.enter_async_context(channel)))
        to_identity = await stack.enter_async_context(grpc.aio.insecure_channel(identity.address))
        tenant_id = await new_tenant(to_identity)
        straight = grpc.aio.insecure_channel(wallets[2].address, options=CHANNEL_OPTIONS)
        client = WalletClient(await stack.enter_async_context(straight), tenant_id)
        await client.asset(ASSET, 0)
        return cls(stage, database, wallets, lines, database_line, ways, tenant_id, client)

    async def customers(self, label: str, seed: int) -> list[Customer]:
        """Fresh customers: most with one wallet, some with two, some with an overdraft."""
        chance = random.Random(seed)

        async def make(number: int) -> Customer:
            name = f"{label}-{number}"
            floor = 500 if number % 4 == 1 else 0
            first = await self._wallet(name, 10, floor)
            found = [first]
            if number % 5 == 4:
                found.append(await self._wallet(name, 20, 0))
            return Customer(name, found, floor)

        made = [await make(number) for number in range(CUSTOMERS)]
        chance.shuffle(made)
        return made

    async def _wallet(self, customer: str, priority: int, floor: int) -> str:
        fields: dict[str, object] = {"priority": priority}
        if floor:
            fields["shortfall_policy"] = wallet_pb2.ShortfallPolicy(
                mode=wallet_pb2.SHORTFALL_MODE_OVERDRAFT,
                overdraft_limits=[Amount(asset=ASSET, value=str(floor))],
            )
        return await self.client.wallet(customer, **fields)


async def _round(
    field_: _Field,
    seed: int,
    options: Options,
    tally: Tally,
    operations: int,
    faults: int,
    until: float | None,
) -> None:
    customers = await field_.customers(f"c{tally.rounds}", seed)
    load = Load(field_.tenant_id, field_.ways, customers, seed)
    injector = Injector(field_.stage, seed, field_.wallets, field_.lines, field_.database_line)
    short = not options.long and not options.minutes
    wanted = operations if short else min(operations, LONG_ROUND_OPERATIONS)
    share = faults if short else max(1, faults * wanted // operations)

    kills_min = KILLS_MIN if short and not options.faults else 0

    def enough() -> bool:
        if until is not None and time.monotonic() > until:
            return True
        kills = injector.kills >= kills_min
        return len(load.operations) >= wanted and injector.total >= share and kills

    injecting = asyncio.create_task(injector.run(enough))
    size = SIZE_MAX if short else LONG_SIZE_MAX
    try:
        await load.run(CALLERS, size, lambda: enough() or injecting.done())
    finally:
        await injecting
    tell(f"round {tally.rounds}: {len(load.operations):,} operations, {injector.total} faults")
    chosen = [*load.operations.values()]
    if not short and len(chosen) > REPEATED_OF_LONG:
        chosen = random.Random(seed).sample(chosen, REPEATED_OF_LONG)
    await load.repeat(chosen, CALLERS)
    tell(f"round {tally.rounds}: {len(chosen):,} keys asked again")
    verdict = await Checker(field_.client, customers, load.operations).run()
    verdict.divergent += load.divergent
    tally.verdict.add(verdict)
    tally.operations += len(load.operations)
    tally.replies += load.replies
    tally.faults += injector.done
    tally.kills += injector.kills
    tally.failures += load.failures
    tally.faulty += [f"{words}: {_cause(field_.wallets, words)}" for words in load.faulty]
    tally.rounds += 1


def _cause(wallets: list[Program], words: str) -> str:
    """What a wallet's log says of an incident."""
    incident = words.rpartition(" ")[2]
    for wallet in wallets:
        for line in wallet.log_text().splitlines():
            if incident in line:
                return line[-700:]
    return "nothing is logged of it"


def _report(layer: Layer, tally: Tally) -> None:
    layer.figure("wallet processes", WALLETS)
    layer.figure("rounds", tally.rounds)
    layer.figure("operations", tally.operations)
    layer.figure("replies compared", tally.replies)
    layer.figure("moves replayed", tally.verdict.moves)
    layer.figure("answers that moved nothing, each checked", tally.verdict.denials)
    layer.figure("calls that failed and were asked again", sum(tally.failures.values()))
    layer.figure("… by status", dict(tally.failures))
    layer.figure("kills", tally.kills)
    layer.figure("faults", sum(tally.faults.values()))
    layer.figure("… by kind", dict(sorted(tally.faults.items())))
    for kind, says in SAYS.items():
        layer.claim(says, getattr(tally.verdict, kind))
    layer.claim("no fault is answered as a fault of ours", tally.faulty)
