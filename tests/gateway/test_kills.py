"""The gateway killed with -9 between intent and outcome: the sweeper finds what became of it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.gateway.support import SandboxProcess, attempt_state, program_environment
from tests.support.databases import FreshDatabase
from tests.support.services import SERVICE_SECRET, credential
from tests.support.waiting import until
from tollgate.gateway.v1 import payment_pb2
from tollgate.gateway.v1 import payment_service_pb2 as pb
from tollgate.gateway.v1 import payment_service_pb2_grpc as rpc

# Long enough to kill the process while it waits for an answer, short enough to wait for.
LEASE_SECONDS = "4"


class GatewayProcess:
    """`python -m gateway run`, which serves and works."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self.address = ""

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            "run",
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while not self.address:
                line = json.loads(await self._process.stdout.readline())
                self.address = line.get("listening", "")

    async def end(self, number: int = signal.SIGKILL) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self.address = ""
        process.send_signal(number)
        await process.communicate()


@pytest.fixture
async def gateway(
    gateway_database: FreshDatabase, sandbox: SandboxProcess, redis_url: str
) -> AsyncIterator[GatewayProcess]:
    process = GatewayProcess(
        program_environment(
            database_url=gateway_database.dsn("gateway"),
            redis_url=redis_url,
            service_secret=SERVICE_SECRET,
            sandbox_endpoint=sandbox.endpoint,
            lease_seconds=LEASE_SECONDS,
            settle_pause_seconds="0.1",
            log_level="error",
        )
    )
    await process.start()
    yield process
    await process.end(signal.SIGTERM)


class Caller:
    """One tenant's calls to a gateway that comes and goes."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.tenant_id = uuid.uuid4()

    async def call(self, stub: Any, method: str, request: Any) -> Any:
        async with grpc.aio.insecure_channel(self.gateway.address) as channel:
            return await getattr(stub(channel), method)(
                request, metadata=credential(self.tenant_id), timeout=20
            )

    async def prepare(self) -> None:
        await self.call(
            rpc.ProviderAccountServiceStub,
            "CreateProviderAccount",
            pb.CreateProviderAccountRequest(request_id="a", code="main", provider="sandbox"),
        )
        await self.call(
            rpc.PaymentMethodServiceStub,
            "AttachPaymentMethod",
            pb.AttachPaymentMethodRequest(
                request_id="m",
                customer_id="ada",
                provider_account="main",
                provider_token="pm_ok",
            ),
        )

    async def pay(self) -> payment_pb2.Payment:
        request = pb.CreatePaymentRequest(request_id="pay once", customer_id="ada")
        request.amount.asset, request.amount.value = "USD", "20"
        request.source.kind, request.source.id = "invoice", "INV-1"
        answer = await self.call(rpc.PaymentServiceStub, "CreatePayment", request)
        payment: payment_pb2.Payment = answer.payment
        return payment

    async def payments(self) -> list[payment_pb2.Payment]:
        answer = await self.call(
            rpc.PaymentServiceStub, "ListPayments", pb.ListPaymentsRequest(customer_id="ada")
        )
        return list(answer.payments)


@pytest.mark.parametrize(("fault", "charged_at_kill"), [("hang_after", 1), ("hang_before", 0)])
async def test_a_gateway_killed_while_it_waits_charges_exactly_once(
    gateway: GatewayProcess, sandbox: SandboxProcess, fault: str, charged_at_kill: int
) -> None:
    caller = Caller(gateway)
    await caller.prepare()
    await sandbox.script(fault)
    paying = asyncio.create_task(caller.pay())

    async def intent_is_there() -> bool:
        return bool(await caller.payments()) and await sandbox.taken() == charged_at_kill

    await until(intent_is_there, what="the intent is written down and the provider was asked")
    await gateway.end()
    with pytest.raises(grpc.aio.AioRpcError):
        await paying

    await gateway.start()
    (payment,) = await caller.payments()
    assert attempt_state(payment.attempts[0]) == "REQUESTED"

    async def succeeded() -> bool:
        (found,) = await caller.payments()
        return attempt_state(found.attempts[0]) == "SUCCEEDED"

    await until(succeeded, what="the sweeper resolves the attempt")
    again = await caller.pay()
    assert again.payment_id == payment.payment_id
    assert len(await caller.payments()) == 1
    assert await sandbox.taken() == 1
    assert len((await sandbox.books())["payments"]) == 1
