"""What leaves for Razorpay and Chargebee, beside what their own clients send for the same."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.domain.provider_account import ProviderAccount, ProviderAccountState
from gateway.providers.chargebee import payments as chargebee_payments
from gateway.providers.driver import Driver, Limits, Line
from gateway.providers.plan import API_SECRET, Login, Note, Plan
from gateway.providers.razorpay import payments as razorpay_payments
from gateway.providers.registry import origin_of
from tests.gateway.providers.support import (
    KEY,
    NOW,
    REFERENCE,
    REFUND_REFERENCE,
    charge_command,
    inr,
    refund_command,
    usd,
)


@dataclass(frozen=True)
class Seen:
    """A request as a server sees it."""

    method: str
    path: str
    query: dict[str, list[str]]
    authorization: str
    key: str
    body: Any


class Recorder(ThreadingHTTPServer):
    """Answers whatever it is told to, on loopback, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Recording)
        self.seen: list[Seen] = []
        self.answers: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Recording(BaseHTTPRequestHandler):
    server: Recorder

    def answer(self) -> None:
        parts = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        is_json = "json" in self.headers.get("content-type", "")
        body = json.loads(raw) if is_json and raw else parse_qs(raw, keep_blank_values=True)
        self.server.seen.append(
            Seen(
                self.command,
                parts.path,
                parse_qs(parts.query),
                self.headers.get("authorization", ""),
                self.headers.get("x-refund-idempotency", "")
                or self.headers.get("chargebee-idempotency-key", ""),
                body,
            )
        )
        endings = (each for each in self.server.answers if parts.path.endswith(each))
        content = json.dumps(self.server.answers.get(next(endings, ""), {})).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def peer() -> Iterator[Recorder]:
    server = Recorder()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def sent(peer: Recorder, plan: Plan, secret: bytes) -> list[Seen]:
    """What the driver sends for a plan."""
    account_id = uuid.uuid4()
    account = ProviderAccount(
        account_id, "main", "any", peer.address, ProviderAccountState.ACTIVE, NOW
    )
    line = Line(
        account,
        Login(account_id, peer.address),
        frozenset({origin_of(peer.address)}),
        {API_SECRET: lambda: secret},
    )

    async def keep(_: Note) -> None:
        return None

    driver = Driver(Limits(call_seconds_max=5.0))
    peer.seen.clear()
    try:
        await driver.play(plan, line, keep)
    finally:
        await driver.close()
    return list(peer.seen)


async def vendors(peer: Recorder, call: Callable[[], object]) -> list[Seen]:
    """What a vendor's client sends for a call; what it makes of the answer is its own affair."""
    peer.seen.clear()
    await asyncio.to_thread(call)
    return list(peer.seen)


async def test_razorpays_client_sends_the_same_charge(peer: Recorder) -> None:
    sdk = pytest.importorskip("razorpay", reason="the vendor's client is not installed")
    peer.answers = {
        "/orders": {"id": "order_1"},
        "/recurring": {"razorpay_payment_id": "pay_1"},
        "/pay_1": {"id": "pay_1"},
    }
    command = charge_command(inr(500), "token_1", provider_customer_id="cust_1")
    plan = razorpay_payments.charge(command, Login(uuid.uuid4(), peer.address))
    ours = await sent(peer, plan, b"key_id:key_secret")

    def theirs() -> None:
        client = sdk.Client(auth=("key_id", "key_secret"), base_url=peer.address)
        with closing(client.session):
            note = {"tollgate_attempt": REFERENCE}
            money = {"amount": 500, "currency": "INR"}
            client.order.create(
                {**money, "receipt": REFERENCE, "payment_capture": True, "notes": note}
            )
            payment = {
                "email": "ada@example.com",
                "contact": "+919999999999",
                "order_id": "order_1",
                "customer_id": "cust_1",
                "token": "token_1",
                "recurring": "1",
                "description": "March",
                "notes": note,
            }
            client.payment.createRecurring({**money, **payment})
            client.payment.fetch("pay_1")

    assert [_unversioned(each) for each in await vendors(peer, theirs)] == ours
    assert [each.path for each in ours] == [
        "/orders",
        "/payments/create/recurring",
        "/payments/pay_1",
    ]


async def test_razorpays_client_sends_the_same_refund(peer: Recorder) -> None:
    sdk = pytest.importorskip("razorpay", reason="the vendor's client is not installed")
    command = refund_command(inr(300), inr(500), "pay_1")
    plan = razorpay_payments.refund(command, Login(uuid.uuid4(), peer.address))
    (ours,) = await sent(peer, plan, b"key_id:key_secret")

    def theirs() -> None:
        client = sdk.Client(auth=("key_id", "key_secret"), base_url=peer.address)
        with closing(client.session):
            body = {
                "amount": 300,
                "speed": "normal",
                "receipt": REFUND_REFERENCE,
                "notes": {"tollgate_refund": REFUND_REFERENCE},
            }
            headers = {"X-Refund-Idempotency": KEY, "content-type": "application/json"}
            client.payment.refund("pay_1", body, headers=headers)

    (other,) = await vendors(peer, theirs)
    assert _unversioned(other) == ours
    assert ours.key == KEY


def _unversioned(seen: Seen) -> Seen:
    """The vendor's client puts the version into the path; ours has it in the endpoint."""
    path = seen.path.removeprefix("/v1")
    return Seen(seen.method, path, seen.query, seen.authorization, seen.key, seen.body)


async def test_chargebees_client_sends_the_same_charge(peer: Recorder) -> None:
    sdk = pytest.importorskip("chargebee", reason="the vendor's client is not installed")
    invoice = {"id": "inv_1", "amount_due": 500}
    peer.answers = {
        "/create_for_charge_items_and_charges": {"invoice": invoice},
        "/collect_payment": {"invoice": invoice, "transaction": {"id": "txn_1"}},
    }
    command = charge_command(usd(500), "pm_1")
    plan = chargebee_payments.charge(command, Login(uuid.uuid4(), peer.address))
    ours = await sent(peer, plan, b"api_key")

    def theirs() -> None:
        client = sdk.Chargebee(api_key="api_key", site="acme")
        client.env.protocol = "http"
        client.env.api_endpoint = f"{peer.address}/api/v2"
        headers = {"chargebee-idempotency-key": f"{KEY}-invoice"}
        charges = [{"amount": 500, "description": "March", "taxable": False}]
        params: dict[str, Any] = {
            "customer_id": "ada",
            "currency_code": "USD",
            "charges": charges,
            "po_number": REFERENCE,
            "auto_collection": "off",
        }
        client.Invoice.create_for_charge_items_and_charges(params, headers)
        params = {"payment_source_id": "pm_1", "payment_initiator": "merchant", "amount": 500}
        headers = {"chargebee-idempotency-key": f"{KEY}-collect"}
        client.Invoice.collect_payment("inv_1", params, headers)

    checks, sdk.Chargebee.verify_ca_certs = sdk.Chargebee.verify_ca_certs, False
    try:
        assert await vendors(peer, theirs) == ours
    finally:
        sdk.Chargebee.verify_ca_certs = checks
    assert [each.path for each in ours] == [
        "/api/v2/invoices/create_for_charge_items_and_charges",
        "/api/v2/invoices/inv_1/collect_payment",
    ]
