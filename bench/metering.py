"""Charged and uncharged ingest by the batch RPC, and unary authorizations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from bench import world
from bench.load import LATENCY_CALLERS, RATE_CALLERS, drive
from bench.processor import Processor
from bench.records import Records
from bench.usage import measure_copy
from kernel.ids import new_id
from tollgate.metering.v1 import event_pb2 as events
from tollgate.metering.v1 import gate_pb2 as gate
from tollgate_cli.supervisor import Suite
from tollgate_cli.tenancy import render_time
from tollgate_sdk import Tollgate

BATCH_EVENTS = 500
INGEST_CALLERS = 8
AUTHORIZATIONS_MAX = 100_000  # more than are asked for in the time: none is a repetition


async def measure_ingest(records: Records, client: Tollgate, suite: Suite, plan: str) -> None:
    """Events a second, durable and (for the charged plan) debited, over 1,000 customers; and what
    each costs all servers together."""
    customers = await world.open_customers(client, plan, world.CUSTOMERS)
    chance = random.Random(7)

    async def ingest(_: int) -> None:
        batch = [_event(chance, customers) for _ in range(BATCH_EVENTS)]
        answer = await client.call(
            client.events.IngestEvents, events.IngestEventsRequest(events=batch), retry=False
        )
        for outcome in answer.outcomes:
            if outcome.state != events.EVENT_STATE_ACCEPTED:
                raise RuntimeError(f"an event was not accepted: {outcome}")

    processor = Processor(suite)
    load = await drive(ingest, callers=INGEST_CALLERS, seconds=8.0)
    events_taken = (load.calls + INGEST_CALLERS) * BATCH_EVENTS  # those of the warm-up too
    name = f"metering.ingest.{plan}"
    add_cost(records, name, processor, events_taken)
    reference = "pg.single_row_commit"
    if plan == "uncharged":
        await measure_copy(records, suite, customers[0])
        reference = "metering.ingest.copy"
    records.add(name, load.rate(BATCH_EVENTS), "events/s", reference)
    records.add_latency(name, load.durations)


async def measure_authorize(records: Records, client: Tollgate, suite: Suite) -> None:
    """Authorizations a second with the server saturated, and their durations at 64 callers and one.

    Requests are made beforehand, as those of the echo are: what is measured is the services.
    """
    customers = await world.open_customers(client, "charged", world.CUSTOMERS)
    chance = random.Random(11)
    requests = iter([_authorization(chance, customers) for _ in range(AUTHORIZATIONS_MAX)])

    async def authorize(_: int) -> None:
        answer = await client.call(client.gate.AuthorizeUsage, next(requests), retry=False)
        if answer.WhichOneof("answer") != "allowed":
            raise RuntimeError(f"an authorization was denied: {answer}")

    processor = Processor(suite)
    full = await drive(authorize, callers=RATE_CALLERS, seconds=6.0, warm_up=4)
    calls = full.calls + RATE_CALLERS * 4
    add_cost(records, "metering.authorize.unary", processor, calls)
    records.add("metering.authorize.unary", full.rate(), "calls/s", "echo.unary")
    load = await drive(authorize, callers=LATENCY_CALLERS, seconds=4.0)
    records.add_latency("metering.authorize.unary", load.durations, "echo.unary")
    single = await drive(authorize, callers=1, seconds=3.0, warm_up=20)
    records.add_latency(
        "metering.authorize.unary.one_caller", single.durations, "echo.unary.one_caller"
    )


def add_cost(records: Records, name: str, processor: Processor, count: int) -> None:
    """Milliseconds of one processor for each of so many, all services and Postgres together."""
    part = "" if processor.has_postgres else ".without_postgres"
    records.add(f"{name}.cpu_ms{part}", processor.milliseconds() / count, "ms")


def _authorization(chance: random.Random, customers: Sequence[str]) -> gate.AuthorizeUsageRequest:
    return gate.AuthorizeUsageRequest(
        request_id=str(new_id(datetime.now(UTC))),
        customer_id=chance.choice(customers),
        estimate=gate.UsageEstimate(
            name="llm_request",
            properties={
                "input_tokens": str(chance.randrange(1, 4_000)),
                "output_tokens": "256",
            },
        ),
    )


def _event(chance: random.Random, customers: Sequence[str]) -> events.Event:
    now = datetime.now(UTC)
    return events.Event(
        event_id=str(new_id(now)),
        name="llm_request",
        customer_id=chance.choice(customers),
        event_time=render_time(now),
        properties={
            "input_tokens": str(chance.randrange(1, 4_000)),
            "output_tokens": str(chance.randrange(1, 1_000)),
        },
    )
