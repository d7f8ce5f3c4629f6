"""Invoicing killed with -9 in the middle of a run: every customer has one invoice, no number is
missing."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from uuid import UUID

import grpc
import pytest

from tests.gateway.support import program_environment
from tests.invoicing.company import free_address
from tests.invoicing.support import Books, at, fixed
from tests.support.databases import FreshDatabase
from tests.support.services import SERVICE_SECRET, Services
from tests.support.waiting import until
from tollgate.invoicing.v1 import invoice_pb2

CUSTOMERS = 60
START_SECONDS_MAX = 60.0
RUN_SECONDS_MAX = 90.0  # what a killed worker had taken is left alone for a lease


class InvoicingProcess:
    """`python -m invoicing run`, or another command of it."""

    def __init__(self, environment: dict[str, str], command: str = "run") -> None:
        self._environment = environment
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "invoicing",
            self._command,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS_MAX):
            while "listening" not in json.loads(await self._process.stdout.readline()):
                continue

    async def end(self, number: int = signal.SIGKILL) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            await process.communicate()


@pytest.fixture
async def environment(
    database: FreshDatabase, redis_url: str, services: Services
) -> dict[str, str]:
    identity = await services.run("identity", database)
    return program_environment(
        database_url=database.dsn("invoicing"),
        redis_url=redis_url,
        service_secret=SERVICE_SECRET,
        peers=f"identity={identity.address}",
        billing_parallelism="2",
        log_level="error",
    )


@pytest.fixture
async def served(environment: dict[str, str]) -> AsyncIterator[tuple[InvoicingProcess, str]]:
    address = free_address()
    process = InvoicingProcess(environment | {"TOLLGATE_LISTEN": address})
    await process.start()
    yield process, address
    await process.end(signal.SIGTERM)


async def test_a_run_survives_the_death_of_its_workers(
    served: tuple[InvoicingProcess, str], environment: dict[str, str], tenant_id: UUID
) -> None:
    process, address = served
    helper = InvoicingProcess(environment, "work")
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_reconnect_backoff_ms", 200)]
    ) as channel:
        books = Books(channel, tenant_id)
        await books.publish(fixed("10"))
        await asyncio.gather(*(_sign_up(books, number) for number in range(CUSTOMERS)))
        answer = await books.call(
            books.invoices.StartBillingRun, invoice_pb2.StartBillingRunRequest()
        )
        assert answer.run.customers == CUSTOMERS

        async def progress() -> invoice_pb2.BillingRun:
            found = await books.call(
                books.invoices.GetBillingRun,
                invoice_pb2.GetBillingRunRequest(run_id=answer.run.run_id),
            )
            run: invoice_pb2.BillingRun = found.run
            return run

        async def begun() -> bool:
            return (await progress()).customers_done >= 3

        await until(begun, what="the run to begin")
        await process.end()
        await process.start()
        await helper.start()
        await helper.end()
        await channel.channel_ready()

        async def over() -> bool:
            return (await progress()).state == invoice_pb2.BILLING_RUN_STATE_DONE

        await until(over, what="the run", seconds_max=RUN_SECONDS_MAX)
        run = await progress()
        assert (run.customers_done, run.invoices) == (CUSTOMERS, CUSTOMERS)
        invoices = await books.list_invoices()
        assert len({one.customer_id for one in invoices}) == CUSTOMERS
        numbers = sorted(int(one.number.rpartition("-")[2]) for one in invoices)
        assert numbers == list(range(1, CUSTOMERS + 1))


async def _sign_up(books: Books, number: int) -> None:
    await books.customer(f"c{number:03d}")
    await books.subscribe(f"c{number:03d}", start_time=at(2025, 1, 1))
