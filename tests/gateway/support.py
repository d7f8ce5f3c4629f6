"""The sandbox as a process, and a gateway beside it, as tests meet them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import httpx
import pytest

from chassis.refusals import from_rpc_error
from gateway.app import GatewayApp
from gateway.collection.operations import Collector
from gateway.notifications.operations import NotificationOperations
from tests.support.services import Services, credential
from tollgate.gateway.v1 import payment_pb2, refund_pb2, session_pb2_grpc
from tollgate.gateway.v1 import payment_service_pb2 as pb
from tollgate.gateway.v1 import payment_service_pb2_grpc as rpc

START_SECONDS_MAX = 30.0


class SandboxProcess:
    """`python -m gateway.sandbox`, started, killed and started again on the same journal."""

    def __init__(self, journal: Path, seed: int = 7) -> None:
        self.journal = journal
        self.seed = seed
        self.endpoint = ""
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.sandbox",
            "--port",
            str(self._port),
            "--seed",
            str(self.seed),
            "--journal",
            str(self.journal),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS_MAX):
            line = json.loads(await self._process.stdout.readline())
        self.endpoint = line["endpoint"]
        # The address outlives a restart, as a provider's does.
        self._port = int(line["listening"].rpartition(":")[2])

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        await process.wait()
        # The pipe's transport is closed with its process, on the loop's next turn.
        transport = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()

    async def books(self) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.endpoint}/books")
        found: dict[str, Any] = answer.json()
        return found

    async def payments_of(self, reference: str) -> list[dict[str, Any]]:
        return [each for each in (await self.books())["payments"] if each["reference"] == reference]

    async def taken(self) -> int:
        """How many payments took money, of any currency."""
        return sum(total["count"] for total in (await self.books())["taken"].values())

    async def script(self, *faults: str, on: str = "charge", method: str = "") -> None:
        """The next requests of that sort meet these faults, one each."""
        wanted = {"on": on, "method": method, "faults": list(faults)}
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{self.endpoint}/faults", json=wanted)
        assert answer.status_code == 200, answer.text

    async def act(self, url: str, result: str) -> None:
        """What the payer does on the page it was sent to."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(url, data={"result": result})
        assert answer.status_code == 200, answer.text


class Desk:
    """A gateway in this process, and one tenant's calls to it."""

    def __init__(self, channel: grpc.aio.Channel, app: GatewayApp, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.app = app
        self.accounts = rpc.ProviderAccountServiceStub(channel)
        self.methods = rpc.PaymentMethodServiceStub(channel)
        self.payments = rpc.PaymentServiceStub(channel)
        self.refunds = rpc.RefundServiceStub(channel)
        self.sessions = session_pb2_grpc.SessionServiceStub(channel)

    @property
    def collector(self) -> Collector:
        assert self.app.collector is not None
        return self.app.collector

    @property
    def notifications(self) -> NotificationOperations:
        assert self.app.notifications is not None
        return self.app.notifications

    @property
    def metadata(self) -> Sequence[tuple[str, str]]:
        return credential(self.tenant_id)

    async def open_account(
        self, endpoint: str = "", code: str = "main"
    ) -> payment_pb2.ProviderAccount:
        answer = await self.accounts.CreateProviderAccount(
            pb.CreateProviderAccountRequest(
                request_id=f"account-{code}", code=code, provider="sandbox", endpoint=endpoint
            ),
            metadata=self.metadata,
        )
        return answer.provider_account

    async def attach(
        self, token: str, customer_id: str = "ada", *, make_default: bool = False
    ) -> payment_pb2.PaymentMethod:
        answer = await self.methods.AttachPaymentMethod(
            pb.AttachPaymentMethodRequest(
                request_id=f"method-{uuid.uuid4()}",
                customer_id=customer_id,
                provider_account="main",
                provider_token=token,
                make_default=make_default,
            ),
            metadata=self.metadata,
        )
        return answer.payment_method

    async def pay(
        self,
        value: str = "12.50",
        asset: str = "USD",
        *,
        customer_id: str = "ada",
        request_id: str = "",
        timeout: float = 10.0,
        capture_later: bool = False,
    ) -> payment_pb2.Payment:
        request = pb.CreatePaymentRequest(
            request_id=request_id or str(uuid.uuid4()),
            customer_id=customer_id,
            source=payment_pb2.SourceDocument(kind="invoice", id="INV-1"),
            description="March",
            capture_later=capture_later,
        )
        request.amount.asset, request.amount.value = asset, value
        answer = await self.payments.CreatePayment(request, metadata=self.metadata, timeout=timeout)
        return answer.payment

    async def retry(self, payment_id: str, method_id: str = "") -> payment_pb2.Payment:
        answer = await self.payments.RetryPayment(
            pb.RetryPaymentRequest(
                request_id=str(uuid.uuid4()), payment_id=payment_id, payment_method_id=method_id
            ),
            metadata=self.metadata,
        )
        return answer.payment

    async def capture(
        self, payment_id: str, value: str = "", *, request_id: str = "", asset: str = "USD"
    ) -> pb.CapturePaymentResponse:
        request = pb.CapturePaymentRequest(
            request_id=request_id or str(uuid.uuid4()), payment_id=payment_id
        )
        if value:
            request.amount.asset, request.amount.value = asset, value
        return await self.payments.CapturePayment(request, metadata=self.metadata, timeout=10.0)

    async def cancel(self, payment_id: str, *, request_id: str = "") -> pb.CancelPaymentResponse:
        request = pb.CancelPaymentRequest(
            request_id=request_id or str(uuid.uuid4()), payment_id=payment_id
        )
        return await self.payments.CancelPayment(request, metadata=self.metadata, timeout=10.0)

    async def refund(
        self,
        payment_id: str,
        value: str = "",
        *,
        request_id: str = "",
        asset: str = "USD",
        timeout: float = 10.0,
    ) -> refund_pb2.Refund:
        request = pb.CreateRefundRequest(
            request_id=request_id or str(uuid.uuid4()), payment_id=payment_id, reason="asked for"
        )
        if value:
            request.amount.asset, request.amount.value = asset, value
        answer = await self.refunds.CreateRefund(request, metadata=self.metadata, timeout=timeout)
        return answer.refund

    async def find_refund(self, refund_id: str) -> refund_pb2.Refund:
        answer = await self.refunds.GetRefund(
            pb.GetRefundRequest(refund_id=refund_id), metadata=self.metadata
        )
        return answer.refund

    async def find(self, payment_id: str) -> payment_pb2.Payment:
        answer = await self.payments.GetPayment(
            pb.GetPaymentRequest(payment_id=payment_id), metadata=self.metadata
        )
        return answer.payment

    async def state(self, payment_id: str) -> str:
        return state_of(await self.find(payment_id))


async def open_desk(
    services: Services, database: Any, sandbox: SandboxProcess, **settings: Any
) -> Desk:
    """A gateway whose sandbox is that process, its jobs not running unless `work` says so."""
    chosen: dict[str, Any] = {
        "sandbox_endpoint": sandbox.endpoint,
        "provider_call_seconds_max": 1.0,
        "settle_pause_seconds": 0.05,
        "notification_pause_seconds": 0.05,
        "work": False,
    }
    running = await services.run("gateway", database, **(chosen | settings))
    assert isinstance(running.app, GatewayApp)
    return Desk(await services.channel(running), running.app, uuid.uuid4())


async def refusal_of(call: Awaitable[object]) -> tuple[str, dict[str, str]]:
    """The reason and facts that a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    refusal = from_rpc_error(caught.value)
    return refusal.reason, refusal.facts


def state_of(payment: payment_pb2.Payment) -> str:
    return payment_pb2.PaymentState.Name(payment.state).removeprefix("PAYMENT_STATE_")


def attempt_state(attempt: payment_pb2.Attempt) -> str:
    return payment_pb2.AttemptState.Name(attempt.state).removeprefix("ATTEMPT_STATE_")


def refund_state(refund: refund_pb2.Refund) -> str:
    return refund_pb2.RefundState.Name(refund.state).removeprefix("REFUND_STATE_")


async def told_kinds(database: Any, tenant_id: UUID) -> list[str]:
    """The kinds of what the outbox tells, in order."""
    async with database.open("gateway") as pool, pool.transaction(tenant_id) as tx:
        return [row["kind"] for row in await tx.fetch("SELECT kind FROM outbox ORDER BY sequence")]


def decline_class(attempt: payment_pb2.Attempt) -> str:
    return payment_pb2.DeclineClass.Name(attempt.decline_class).removeprefix("DECLINE_CLASS_")


def program_environment(**settings: str) -> dict[str, str]:
    """A program's environment: this one's, with nothing of Tollgate's but `settings`."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TOLLGATE_")}
    return kept | {f"TOLLGATE_{name.upper()}": text for name, text in settings.items()}
