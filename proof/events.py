"""Events under faults: whatever is killed in between, each event counts once and pays once."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc

from chassis.database import dsn_with
from chassis.failpoints import CRASH, ERROR, HANG, RESUME
from proof.claims import Layer, Options, tell
from proof.injecting import Injector
from proof.line import Line
from proof.load import CHANNEL_OPTIONS
from proof.stage import HOST, Program, Programs, Stage, open_stage, programs
from tests.metering.world import ACCEPTED, INVALID, PENDING, REJECTED, World, new_tenant, unit_price
from tests.support.databases import FreshDatabase
from tests.support.services import credential
from tollgate.metering.v1 import event_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger

RICH, POOR = 12, 4  # customers: of the poor many events are refused
RICH_FUNDS, POOR_FUNDS = "100000", "20"
EVENTS, EVENTS_LONG = 6_000, 200_000
FAULTS, FAULTS_LONG = 20, 400
CALLERS = 6
BATCH_MAX = 40
CALL_SECONDS_MAX = 8.0
PAUSE_SECONDS = 0.1
CALLS_MAX = 300
PAGE = 5_000
SETTLE_SECONDS_MAX = 60.0
POINTS = (
    "before_events_commit",
    "after_commit_before_charge",
    "after_charge_before_settle",
    "after_settle_before_reply",
)


class PatientWorld(World):
    """A world whose every call is asked again, by its key, until it is answered."""

    async def call(self, method: Callable[..., Any], request: Any) -> Any:
        for _ in range(CALLS_MAX):
            try:
                return await super().call(method, request)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.INTERNAL:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError(f"no answer to {type(request).__name__}")


@dataclass
class Told:
    """One tenant's events, and what each was answered last."""

    events: dict[str, event_pb2.Event] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)  # answers that contradict an earlier one
    failures: Counter[str] = field(default_factory=Counter)

    def note(self, outcome: event_pb2.EventOutcome) -> None:
        before = self.states.get(outcome.event_id, PENDING)
        if before not in (PENDING, outcome.state):
            self.changed.append(f"event {outcome.event_id} was {before} and is {outcome.state}")
        self.states[outcome.event_id] = outcome.state


@dataclass
class Cast:
    """The programs, the lines between them, and a way for callers to each metering process."""

    stage: Stage
    database: FreshDatabase
    started: Programs
    stack: AsyncExitStack
    wallet: Program
    meterings: list[Program]
    lines: list[Line]
    database_line: Line
    channels: dict[str, grpc.aio.Channel]
    ways: list[Any]
    peers: dict[str, str]


async def run(layer: Layer, options: Options, stage: Stage) -> None:
    """The same events twice, without faults and with them; then crash points of a charge."""
    count = min(options.operations or EVENTS_LONG, EVENTS_LONG if options.long else EVENTS)
    faults = min(options.faults or FAULTS_LONG, FAULTS_LONG if options.long else FAULTS)
    async with open_stage(stage.folder / "events") as own, AsyncExitStack() as stack:
        cast = await _set_up(own, stack)
        calm_world, calm = await _play(cast, options.seed, count, lambda: True)
        injector = Injector(
            own,
            options.seed,
            [cast.wallet, *cast.meterings],
            cast.lines,
            cast.database_line,
            without=("halt a backend", "empty redis"),
        )
        asked = asyncio.Event()
        injecting = asyncio.create_task(
            injector.run(lambda: injector.total >= faults and asked.is_set())
        )
        world, told = await _play(cast, options.seed, count, lambda: injector.total >= faults)
        asked.set()
        await injecting
        await _settle(cast, world, told)
        layer.figure("events", len(told.events))
        layer.figure("accepted", _count(told, ACCEPTED))
        layer.figure("rejected", _count(told, REJECTED))
        layer.figure("calls that failed and were asked again", dict(told.failures))
        layer.figure("kills", injector.kills)
        layer.figure("faults", injector.total)
        layer.figure("… by kind", dict(sorted(injector.done.items())))
        layer.claim("an event that was accepted or rejected stays so", told.changed)
        await _check(layer, world, told)
        layer.claim(
            "who never ran dry was counted and charged as in the run without faults",
            await _differences(calm_world, calm, world, told),
        )
        await _crash_points(layer, cast)


async def _set_up(own: Stage, stack: AsyncExitStack) -> Cast:
    database = await own.database("identity", "wallet", "metering", "invoicing")
    started = await stack.enter_async_context(programs(own))
    identity = started.make("identity", database.dsn("identity"))
    await identity.start()
    wallet = started.make("wallet", database.dsn("wallet"), peers={"identity": identity.address})
    await wallet.start()
    to_wallet = await stack.enter_async_context(Line(wallet.address))
    socket = f"{own.postgres.place.sockets}/.s.PGSQL.5432"
    database_line = await stack.enter_async_context(Line(socket, (b"COMMIT",)))
    direct = database.dsn("metering")
    over_line = dsn_with(
        f"postgresql://{database_line.address}/",
        user="metering_app",
        password=database.passwords["metering_app"],
        database=direct.partition("?")[0].rpartition("/")[2],
    )
    peers = {"identity": identity.address, "wallet": to_wallet.address}
    ports = [started.reserve(), started.reserve()]
    invoicing = started.make(
        "invoicing",
        database.dsn("invoicing"),
        command="run",
        peers={
            "identity": identity.address,
            "wallet": wallet.address,
            "metering": f"{HOST}:{ports[0]}",
        },
    )
    peers["invoicing"] = invoicing.address
    meterings = [
        started.make("metering", dsn, command="run", peers=peers, port=port, recovery_seconds="0.5")
        for dsn, port in zip((direct, over_line), ports, strict=True)
    ]
    await asyncio.gather(*[program.start() for program in (invoicing, *meterings)])
    lines = [await stack.enter_async_context(Line(m.address)) for m in meterings]
    channels = {}
    for name, program in (("identity", identity), ("wallet", wallet), ("invoicing", invoicing)):
        channel = grpc.aio.insecure_channel(program.address, options=CHANNEL_OPTIONS)
        channels[name] = await stack.enter_async_context(channel)
    ways = [
        await stack.enter_async_context(
            grpc.aio.insecure_channel(line.address, options=CHANNEL_OPTIONS)
        )
        for line in lines
    ]
    return Cast(
        own, database, started, stack, wallet, meterings, [*lines, to_wallet], database_line,
        channels, ways, peers,
    )  # fmt: skip


async def _new_world(cast: Cast) -> World:
    tenant_id = await new_tenant(cast.channels["identity"])
    world = PatientWorld(
        tenant_id, cast.ways[0], cast.channels["wallet"], cast.channels["invoicing"]
    )
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("prepaid", {"tokens": unit_price("USD", "0.5")})
    return world


async def _play(
    cast: Cast, seed: int, count: int, enough: Callable[[], bool]
) -> tuple[World, Told]:
    """A tenant's events from concurrent callers, each asked until it is answered."""
    world = await _new_world(cast)
    names = [f"rich-{n}" for n in range(RICH)] + [f"poor-{n}" for n in range(POOR)]
    for name in names:
        funds = RICH_FUNDS if name.startswith("rich") else POOR_FUNDS
        await world.customer(name, "prepaid", USD=funds)
    told = Told()
    batches = _batches(world, seed, count, names)

    async def loop(number: int) -> None:
        for batch in batches:
            for event in batch:
                told.events[event.event_id] = event
            await _ask(cast, world, told, batch, number)

    await asyncio.gather(*[loop(number) for number in range(CALLERS)])
    # As long as faults are still to come there is something under way: old events, asked again.
    chance = random.Random(seed)
    while not enough():
        again = chance.sample([*told.events.values()], min(BATCH_MAX, len(told.events)))
        await _ask(cast, world, told, again, chance.randrange(2))
    await _settle(cast, world, told)
    tell(f"{len(told.events):,} events asked")
    return world, told


def _batches(world: World, seed: int, count: int, names: Sequence[str]) -> Any:
    chance = random.Random(seed)
    made = 0
    while made < count:
        size = chance.randint(1, BATCH_MAX)
        batch = []
        for _ in range(min(size, count - made)):
            made += 1
            tokens = f"{chance.randint(1, 3000) / 1000:.3f}"
            name = chance.choice(names)
            batch.append(world.event(name, event_id=f"e{seed:x}-{made}", tokens=tokens))
        yield batch


async def _ask(
    cast: Cast, world: World, told: Told, batch: Sequence[event_pb2.Event], number: int
) -> None:
    request = event_pb2.IngestEventsRequest(events=batch)
    for turn in itertools.count(number):
        way = cast.ways[turn % len(cast.ways)]
        method = way.unary_unary(
            "/tollgate.metering.v1.EventService/IngestEvents",
            event_pb2.IngestEventsRequest.SerializeToString,
            event_pb2.IngestEventsResponse.FromString,
        )
        try:
            answer = await method(
                request, metadata=credential(world.tenant_id), timeout=CALL_SECONDS_MAX
            )
        except grpc.aio.AioRpcError as error:
            told.failures[error.code().name] += 1
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        for outcome in answer.outcomes:
            assert outcome.state != INVALID, outcome
            told.note(outcome)
        return


async def _settle(cast: Cast, world: World, told: Told) -> None:
    """Ask what is pending until nothing is."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_SECONDS_MAX
    while pending := [told.events[e] for e, s in told.states.items() if s == PENDING]:
        assert loop.time() < deadline, f"{len(pending)} events are still pending"
        for start in range(0, len(pending), 500):
            await _ask(cast, world, told, pending[start : start + 500], 0)
        await asyncio.sleep(PAUSE_SECONDS)


async def _check(layer: Layer, world: World, told: Told) -> None:
    charged = await _charges(world)
    debited = await _debits(world)
    wrong: dict[str, list[str]] = {"lost": [], "double": [], "ghost": []}
    for event_id, state in told.states.items():
        debits = debited.get(event_id, [])
        if state == ACCEPTED and not debits:
            wrong["lost"].append(f"event {event_id} is accepted and was not charged")
        if len(debits) > 1:
            wrong["double"].append(f"event {event_id} was charged {len(debits)} times")
        if state == REJECTED and debits:
            wrong["ghost"].append(f"event {event_id} is rejected and was charged")
        if state == ACCEPTED and debits and charged.get(event_id) != debits[0]:
            wrong["double"].append(
                f"event {event_id}: charge {charged.get(event_id)}, debit {debits[0]}"
            )
    wrong["ghost"] += [f"debit for {e}, which nobody sent" for e in debited if e not in told.states]
    layer.claim("every accepted event is charged", wrong["lost"])
    layer.claim("no event is charged twice, or otherwise than it was told", wrong["double"])
    layer.claim("no rejected event is charged, and nothing that nobody sent", wrong["ghost"])
    miscounted = []
    for customer in sorted({event.customer_id for event in told.events.values()}):
        counted = Decimal(await world.quantity(customer, "tokens"))
        sent = _tokens(told, customer)
        if counted != sent:
            miscounted.append(f"{customer}: {counted} counted, {sent} accepted")
    layer.claim("usage is the sum of the accepted events", miscounted)
    layer.claim("the verifier of usage agrees", await _verify(world))


async def _differences(calm_world: World, calm: Told, world: World, told: Told) -> list[str]:
    wrong = []
    for number in range(RICH):
        name = f"rich-{number}"
        quiet = (await calm_world.quantity(name, "tokens"), await calm_world.balances(name))
        stormy = (await world.quantity(name, "tokens"), await world.balances(name))
        if quiet != stormy:
            wrong.append(f"{name}: {quiet} without faults, {stormy} with them")
    return wrong


async def _crash_points(layer: Layer, cast: Cast) -> None:
    """A metering process ends at each place of a charge; another one goes on with it."""
    file = cast.stage.folder / "metering-failpoints"
    file.write_text("")
    victim = cast.started.make(
        "metering", cast.database.dsn("metering"), peers=cast.peers, failpoints=str(file)
    )
    await victim.start()
    channel = grpc.aio.insecure_channel(victim.address, options=CHANNEL_OPTIONS)
    await cast.stack.enter_async_context(channel)
    world = await _new_world(cast)
    wrong: list[str] = []
    cases = [*itertools.product(POINTS, (CRASH, HANG, ERROR))]
    for point, action in cases:
        wrong += await _crash(cast, world, victim, channel, file, point, action)
    layer.figure("crash cases", len(cases))
    layer.claim("whatever ends metering within a charge, the event counts and pays once", wrong)
    layer.claim("the verifier of usage agrees after all crashes", await _verify(world))


async def _crash(
    cast: Cast,
    world: World,
    victim: Program,
    channel: grpc.aio.Channel,
    file: Path,
    point: str,
    action: str,
) -> list[str]:
    customer = f"{point}-{action}"
    await world.customer(customer, "prepaid", USD="10")
    fits = world.event(customer, event_id=f"fits-{customer}", tokens="4")
    dear = world.event(customer, event_id=f"dear-{customer}", tokens="100")
    file.write_text(f"{point} {action}\n")
    world.connect(channel)
    request = event_pb2.IngestEventsRequest(events=[fits, dear])
    try:
        await world.events.IngestEvents(
            request, metadata=credential(world.tenant_id), timeout=2.0 if action == HANG else 10.0
        )
        failed = False
    except grpc.aio.AioRpcError:
        failed = True
    wrong = []
    if file.read_text().strip():
        wrong.append(f"{customer}: never passed")
    if action == HANG:
        file.write_text(f"{point} {RESUME}\n")
    if action == CRASH:
        await victim.ended()
    if not failed and action != ERROR:
        wrong.append(f"{customer}: answered all the same")
    world.connect(cast.ways[0])
    told = Told({fits.event_id: fits, dear.event_id: dear})
    await _ask(cast, world, told, [fits, dear], 0)
    await _settle(cast, world, told)
    states = [told.states[fits.event_id], told.states[dear.event_id]]
    left = (states, await world.quantity(customer, "tokens"), await world.balances(customer))
    if left != ([ACCEPTED, REJECTED], "4", {"USD": "8"}):
        wrong.append(f"{customer}: ended as {left}")
    if action == CRASH:
        await victim.start()
    return wrong


async def _charges(world: World) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    token = ""
    while True:
        answer = await world.call(
            world.events.ListCharges,
            event_pb2.ListChargesRequest(page_size=PAGE, page_token=token),
        )
        for charge in answer.charges:
            found[charge.event_id] = Decimal(charge.amount.value)
        token = answer.next_page_token
        if not token:
            return found


async def _debits(world: World) -> dict[str, list[Decimal]]:
    found: dict[str, list[Decimal]] = {}
    token = ""
    while True:
        answer = await world.call(
            world.ledger.ListDebits, ledger.ListDebitsRequest(page_size=PAGE, page_token=token)
        )
        for debit in answer.debits:
            found.setdefault(debit.reference, []).append(Decimal(debit.amount.value))
        token = answer.next_page_token
        if not token:
            return found


async def _verify(world: World) -> list[str]:
    wrong: list[str] = []
    token = ""
    while True:
        answer = await world.call(
            world.events.VerifyUsage, event_pb2.VerifyUsageRequest(page_token=token)
        )
        wrong += [
            f"{d.customer_id}: {d.figure} is {d.stored}, the events say {d.derived}"
            for d in answer.disagreements
        ]
        token = answer.next_page_token
        if not token:
            return wrong


def _tokens(told: Told, customer: str) -> Decimal:
    return sum(
        (
            Decimal(event.properties["tokens"])
            for event_id, event in told.events.items()
            if event.customer_id == customer and told.states[event_id] == ACCEPTED
        ),
        Decimal(0),
    )


def _count(told: Told, state: int) -> int:
    return sum(found == state for found in told.states.values())
