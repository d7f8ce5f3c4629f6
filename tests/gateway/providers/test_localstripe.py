"""Stripe's plans against a peer that others wrote, with Stripe's own client as the second witness.

localstripe is another program under another licence: it runs in an environment of its own, which
`make setup-test` makes of tests/peers/localstripe.lock, and nothing here imports it.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from gateway.domain.outcome import DeclineClass, Finding
from gateway.domain.provider_account import ProviderAccount, ProviderAccountState
from gateway.providers.commands import Detach
from gateway.providers.driver import Driver, Line
from gateway.providers.plan import API_SECRET, Login, Note, Steps
from gateway.providers.registry import origin_of
from gateway.providers.stripe import PROVIDER
from gateway.providers.stripe.pages import detach_method
from gateway.providers.stripe.payments import cancel, capture, charge, read, read_refund, refund
from tests.gateway.providers.support import (
    cancel_command,
    capture_command,
    charge_command,
    look,
    look_refund,
    refund_command,
    usd,
)
from tests.support.waiting import until
from tollgate_conformance.bench import Mailbox

PYTHON = Path(__file__).resolve().parents[3] / ".venv-peers" / "bin" / "python"
PROGRAM = (
    "import sys; from aiohttp import web; from localstripe.server import app;"
    " web.run_app(app, host='127.0.0.1', port=int(sys.argv[1]), print=None)"
)
KEY = "sk_test_of_tollgate"
SECRET = "whsec_of_tollgate"
DECLINED = "4000000000000341"  # the peer's own number for a card that declines when it is charged
T = TypeVar("T")


class Peer:
    """The peer as a process, our line to it, and their client."""

    def __init__(self, address: str, sdk: Any, driver: Driver) -> None:
        self.address = address
        self.client = sdk.StripeClient(KEY, base_addresses={"api": address})
        self._driver = driver
        account_id = uuid.uuid4()
        self.line = Line(
            ProviderAccount(
                account_id,
                "main",
                "stripe",
                address,
                ProviderAccountState.ACTIVE,
                datetime.now(UTC),
            ),
            Login(account_id, address),
            frozenset({origin_of(address)}),
            {API_SECRET: KEY.encode},
        )

    async def play(self, plan: Steps[T]) -> T:
        async def keep(_: Note) -> None:
            return None

        result, _ = await self._driver.run(plan, self.line, keep)
        return result

    async def theirs(self, call: Any, *arguments: Any) -> Any:
        """A call of their client."""
        return await asyncio.to_thread(call, *arguments)

    async def customer(self, number: str = "4242424242424242") -> tuple[str, str]:
        """A customer with a card, made by their client."""
        made = await self.theirs(self.client.v1.customers.create, {"email": "ada@example.com"})
        card = {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "123"}
        method = await self.theirs(
            self.client.v1.payment_methods.create, {"type": "card", "card": card}
        )
        await self.theirs(self.client.v1.payment_methods.attach, method.id, {"customer": made.id})
        return made.id, method.id


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    sdk = pytest.importorskip("stripe", reason="the vendor's client is not installed")
    if not PYTHON.exists():
        pytest.skip("localstripe is not installed: `make setup-test` makes .venv-peers")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(PYTHON),
        "-c",
        PROGRAM,
        str(port),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    driver = Driver()

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                # It keeps what it was told in one file: each test begins with nothing.
                return (await http.delete(f"{address}/_config/data")).status_code == 200
        except httpx.TransportError:
            return False

    try:
        await until(answers, what="the peer answers")
        yield Peer(address, sdk, driver)
    finally:
        await driver.close()
        process.terminate()
        await process.wait()


async def charged(peer: Peer, number: str = "4242424242424242", **changes: Any) -> Any:
    """A charge by our plan: the command, and what it came to."""
    customer, token = await peer.customer(number)
    command = charge_command(
        usd(1_250),
        token,
        provider_customer_id=customer,
        reference=str(uuid.uuid4()),
        key=str(uuid.uuid4()),
        description="",
        **changes,
    )
    return command, await peer.play(charge(command, peer.line.login))


async def test_a_charge_is_what_their_client_reads(peer: Peer) -> None:
    command, outcome = await charged(peer)
    assert outcome.finding is Finding.SUCCEEDED, outcome
    # The peer leaves out what was received; nothing is stated then, rather than what was asked for.
    assert outcome.stated in (None, usd(1_250))
    seen = await peer.theirs(peer.client.v1.payment_intents.retrieve, outcome.provider_payment_id)
    assert (seen.amount, seen.currency, seen.status) == (1_250, "usd", "succeeded")
    assert seen.metadata["tollgate_attempt"] == command.reference
    assert seen.customer == command.provider_customer_id


async def test_a_charge_is_read_again_by_its_id(peer: Peer) -> None:
    command, outcome = await charged(peer)
    wanted = look(
        usd(1_250), reference=command.reference, provider_payment_id=outcome.provider_payment_id
    )
    again = await peer.play(read(wanted, peer.line.login))
    assert (again.finding, again.provider_payment_id) == (
        Finding.SUCCEEDED,
        outcome.provider_payment_id,
    )


async def test_a_declined_card_is_a_decline_and_cannot_be_confirmed_any_more(peer: Peer) -> None:
    _, outcome = await charged(peer, DECLINED)
    assert outcome.finding is Finding.DECLINED, outcome
    assert outcome.decline_class is DeclineClass.SOFT
    intents = await peer.theirs(peer.client.v1.payment_intents.list)
    assert all(each.status != "succeeded" for each in intents.data)


async def test_what_is_reserved_is_taken_or_set_free(peer: Peer) -> None:
    command, reserved = await charged(peer, capture_later=True)
    assert reserved.finding is Finding.AUTHORIZED, reserved
    take = capture_command(usd(1_250), reserved.provider_payment_id, reference=command.reference)
    taken = await peer.play(capture(take, peer.line.login))
    assert taken.finding is Finding.SUCCEEDED, taken
    command, reserved = await charged(peer, capture_later=True)
    release = cancel_command(usd(1_250), reserved.provider_payment_id, reference=command.reference)
    assert (await peer.play(cancel(release, peer.line.login))).finding is Finding.CANCELED
    seen = await peer.theirs(peer.client.v1.payment_intents.retrieve, reserved.provider_payment_id)
    assert seen.status == "canceled"


async def test_a_refund_is_what_their_client_reads(peer: Peer) -> None:
    _, outcome = await charged(peer)
    command = refund_command(
        usd(400), usd(1_250), outcome.provider_payment_id, reference=str(uuid.uuid4())
    )
    sent = await peer.play(refund(command, peer.line.login))
    assert sent.finding is Finding.SUCCEEDED, sent
    seen = await peer.theirs(peer.client.v1.refunds.retrieve, sent.provider_refund_id)
    assert (seen.amount, seen.payment_intent) == (400, outcome.provider_payment_id)
    wanted = replace(
        look_refund(usd(400), outcome.provider_payment_id),
        reference=command.reference,
        provider_refund_id=sent.provider_refund_id,
    )
    assert (await peer.play(read_refund(wanted, peer.line.login))).finding is Finding.SUCCEEDED


async def test_a_method_is_forgotten(peer: Peer) -> None:
    _, token = await peer.customer()
    gone = await peer.play(detach_method(Detach(token, str(uuid.uuid4())), peer.line.login))
    assert gone.finding is Finding.CANCELED
    seen = await peer.theirs(peer.client.v1.payment_methods.retrieve, token)
    assert seen.customer is None


async def test_its_notifications_are_authentic_to_both(peer: Peer) -> None:
    sdk = pytest.importorskip("stripe")
    mailbox = Mailbox()
    await mailbox.open()
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            told = {"url": mailbox.url, "secret": SECRET}
            answer = await http.post(f"{peer.address}/_config/webhooks/w1", json=told)
            assert answer.status_code == 200
        command, outcome = await charged(peer)

        async def arrived() -> bool:
            return any(b"payment_intent.succeeded" in each.body for each in mailbox.letters)

        await until(arrived, what="its notification arrives")
    finally:
        await mailbox.close()
    letter = next(each for each in mailbox.letters if b"payment_intent.succeeded" in each.body)
    signed = replace(letter, secrets=(SECRET.encode(),))
    assert PROVIDER.read_notification is not None
    reading = PROVIDER.read_notification(signed, peer.line.login)
    assert reading.authentic, reading.why
    assert reading.items[0].reference == command.reference
    assert reading.items[0].provider_payment_id == outcome.provider_payment_id
    header = letter.headers["stripe-signature"]
    event = sdk.Webhook.construct_event(letter.body, header, SECRET)
    assert event["id"] == reading.items[0].id
    assert not PROVIDER.read_notification(
        replace(signed, body=letter.body.replace(b"1250", b"9250")), peer.line.login
    ).authentic
