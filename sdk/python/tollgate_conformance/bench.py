"""The bench that a provider is tried on: plays its plans, loses what it is told to lose."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import pytest
from aiohttp import web

from gateway.domain.outcome import Finding, Outcome, Witness, as_evidence
from gateway.domain.provider_account import Capabilities, Idempotency
from gateway.domain.resolution import Question, means_of, refund_means_of
from gateway.providers.commands import Charge, Delivery, Login, Look, LookRefund, Reading, Refund
from gateway.providers.driver import Driver, Limits
from gateway.providers.plan import Answer, Call, Note, Phase, Provider, Reply, Silence, Steps, ask
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount, Asset
from tollgate_conformance.rig import Charged, Refunded, Rig, Want

T = TypeVar("T")
WAIT_SECONDS_MAX = 20.0
ZERO = timedelta(0)
LOST = Silence(Phase.AFTER_SEND, "lost by the kit")


@dataclass(frozen=True, slots=True)
class Loss:
    """What happens to one call of a plan, by its number: sent or not, and what is said of it."""

    number: int
    sent: bool
    reply: Reply = LOST


@dataclass(slots=True)
class Tried(Generic[T]):
    """What a plan came to, with the calls it made, their replies, and the notes it left."""

    result: T
    calls: list[Call] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    lost: bool = False  # whether the plan got as far as the call that was to be lost


class Mailbox:
    """Takes the provider's notifications on loopback, and keeps them."""

    def __init__(self) -> None:
        self.letters: list[Delivery] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        application = web.Application(client_max_size=1024 * 1024)
        application.add_routes([web.post("/{path:.*}", self._receive)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/notifications"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): text for name, text in request.headers.items()}
        self.letters.append(Delivery(headers, await request.read(), (), datetime.now(UTC)))
        return web.Response(status=200)


class Bench:
    """One provider on the bench. Calls are made and waited for one after the other."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.mailbox = Mailbox()
        self._runner = asyncio.Runner()
        self._driver: Driver | None = None

    def open(self) -> None:
        self.run(self._open())

    async def _open(self) -> None:
        await self.mailbox.open()
        await self.rig.open(self.mailbox.url)
        self._driver = Driver(Limits(call_seconds_max=10.0, calls_per_second=1e6, burst=10**6))
        self.line = self.rig.line(self.mailbox.url)

    def close(self) -> None:
        self.run(self._close())
        self._runner.close()

    async def _close(self) -> None:
        if self._driver is not None:
            await self._driver.close()
        await self.rig.close()
        await self.mailbox.close()

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(doing)

    # --- what is on the bench -----------------------------------------------------------------

    @property
    def provider(self) -> Provider:
        return self.rig.provider

    @property
    def login(self) -> Login:
        return self.line.login

    @property
    def able(self) -> Capabilities:
        return self.provider.capabilities(self.login)

    def needs(self, flag: str) -> None:
        """Skip the case unless the capability is declared."""
        value = getattr(self.able, flag)
        if value is False or getattr(value, "value", "") == "NONE":
            pytest.skip(f"{self.provider.name} does not declare {flag}")

    def token(self, want: Want) -> str:
        """A method token that leads there; skips the case where the rig has none."""
        token = self.rig.tokens.get(want)
        if token is None:
            pytest.skip(f"the rig has no method that leads to {want.value}")
        return token

    def amount(self, value: str = "12.50", code: str = "") -> Amount:
        """An amount in the rig's everyday currency, or in another."""
        code = code or self.rig.currencies[2]
        digits = MINOR_DIGITS[code]
        atoms = round(float(value) * 100) * 10 ** max(0, digits - 2)
        return Amount(Asset(code, digits), atoms)

    # --- playing -------------------------------------------------------------------------------

    def play(self, plan: Steps[T], loss: Loss | None = None) -> Tried[T]:
        """Play a plan against the provider; what is to be lost on the way is lost."""
        return self.run(self.played(plan, loss))

    async def played(self, plan: Steps[T], loss: Loss | None = None) -> Tried[T]:
        tried: Tried[Any] = Tried(None)
        send: Reply | None = None
        while True:
            try:
                step = plan.send(send)
            except StopIteration as end:
                tried.result = end.value
                return tried
            send = None
            if isinstance(step, Note):
                tried.notes[step.name] = step.value
                continue
            hit = loss is not None and loss.number == len(tried.calls)
            tried.calls.append(step)
            if loss is not None and hit:
                tried.lost = True
                if loss.sent:
                    await self._send(step)
                send = loss.reply
            else:
                send = await self._send(step)
            tried.replies.append(send)

    async def _send(self, call: Call) -> Reply:
        assert self._driver is not None, "the bench is open"

        async def keep(_: Note) -> None:
            return None

        reply, _ = await self._driver.run(ask(call), self.line, keep)
        return reply

    # --- commands ------------------------------------------------------------------------------

    def charge_command(self, want: Want = Want.OK, **changes: Any) -> Charge:
        command = Charge(
            reference=str(uuid.uuid4()),
            key=str(uuid.uuid4()),
            amount=self.amount(),
            provider_token=self.token(want) if "provider_token" not in changes else "",
            customer_id=self.rig.customer_id,
            description="Conformance",
            time=datetime.now(UTC),
            provider_customer_id=self.rig.provider_customer_id,
            method_kind=self.rig.method_kind,
            contact=self.rig.contact,
        )
        return replace(command, **changes)

    def charge(self, command: Charge, loss: Loss | None = None) -> Tried[Outcome]:
        return self.play(self.provider.charge(command, self.login), loss)

    def paid(self, want: Want = Want.OK, **changes: Any) -> tuple[Charge, Outcome]:
        """A charge that went well, once it is over. What it noted comes with every repeat of it,
        as it does from a gateway."""
        self.needs("off_session")
        command = self.charge_command(want, **changes)
        tried = self.charge(command)
        command, outcome = replace(command, notes=tried.notes), tried.result
        reserved = command.capture_later
        good = Finding.AUTHORIZED if reserved else Finding.SUCCEEDED
        if outcome.finding is not good and not (outcome.takes_itself and not reserved):
            outcome = self.settled(command, outcome, good)
        return command, outcome

    def look(self, command: Charge, outcome: Outcome | None = None, **changes: Any) -> Look:
        look = Look(
            reference=command.reference,
            amount=command.amount,
            provider_payment_id=outcome.provider_payment_id if outcome else "",
            customer_id=command.customer_id,
            time=command.time,
            notes=command.notes,
            capture_later=command.capture_later,
            provider_customer_id=command.provider_customer_id,
            provider_token=command.provider_token,
        )
        return replace(look, **changes)

    def refund_command(self, charged: Charge, outcome: Outcome, **changes: Any) -> Refund:
        command = Refund(
            reference=str(uuid.uuid4()),
            key=str(uuid.uuid4()),
            amount=charged.amount,
            provider_payment_id=outcome.provider_payment_id,
            payment_reference=charged.reference,
            captured=charged.amount,
            refunded_before=Amount(charged.amount.asset, 0),
            reason="Conformance",
            time=datetime.now(UTC),
        )
        return replace(command, **changes)

    def refund(self, command: Refund, loss: Loss | None = None) -> Tried[Outcome]:
        assert self.provider.refund is not None, "refund is declared"
        return self.play(self.provider.refund(command, self.login), loss)

    def look_refund(self, command: Refund, outcome: Outcome | None = None) -> LookRefund:
        return LookRefund(
            reference=command.reference,
            amount=command.amount,
            provider_payment_id=command.provider_payment_id,
            provider_refund_id=outcome.provider_refund_id if outcome else "",
            time=command.time,
            notes=command.notes,
        )

    # --- witnesses -----------------------------------------------------------------------------

    def resolve(
        self, command: Charge, tried: Tried[Outcome], *, questions: Sequence[Question] = ()
    ) -> Outcome:
        """Ask about a charge as a gateway does: replay, read, find; the first clear answer."""
        means, outcome = means_of(self.able), tried.result
        noted = replace(command, notes={**command.notes, **tried.notes})
        look = self.look(noted, outcome, notes=noted.notes)
        if means.replay and (not questions or Question.REPLAY in questions):
            outcome = as_evidence(self.charge(noted).result, Witness.REPLAY)
        if outcome.finding is Finding.SILENCE and means.read and look.provider_payment_id:
            assert self.provider.read is not None, "read_by_id is declared"
            outcome = self.play(self.provider.read(look, self.login)).result
        if outcome.finding is Finding.SILENCE and means.find:
            assert self.provider.find is not None, "lookup is declared"
            outcome = self.play(self.provider.find(look, self.login)).result
        return outcome

    def resolve_refund(self, command: Refund, tried: Tried[Outcome]) -> Outcome:
        means, outcome = refund_means_of(self.able), tried.result
        noted = replace(command, notes={**command.notes, **tried.notes})
        look = self.look_refund(noted, outcome)
        if means.replay:
            outcome = as_evidence(self.refund(noted).result, Witness.REPLAY)
        if outcome.finding is Finding.SILENCE and means.read and look.provider_refund_id:
            assert self.provider.read_refund is not None, "refund_read_by_id is declared"
            outcome = self.play(self.provider.read_refund(look, self.login)).result
        if outcome.finding is Finding.SILENCE and means.find:
            assert self.provider.find_refund is not None, "refund_lookup is declared"
            outcome = self.play(self.provider.find_refund(look, self.login)).result
        return outcome

    def settled(self, command: Charge, outcome: Outcome, finding: Finding) -> Outcome:
        """Wait until a look, or a notification, says that a payment has come to `finding`."""
        latest = [outcome]

        async def there() -> bool:
            latest[0] = await self._latest(command, latest[0])
            if latest[0].takes_itself and not command.capture_later:
                latest[0] = replace(latest[0], finding=Finding.SUCCEEDED)
            return latest[0].finding is finding

        self.until(there, lambda: f"{latest[0]} did not become {finding.value}")
        return latest[0]

    async def _latest(self, command: Charge, known: Outcome) -> Outcome:
        look = self.look(command, known)
        if self.provider.read is not None and look.provider_payment_id:
            return (await self.played(self.provider.read(look, self.login))).result
        if self.provider.find is not None:
            return (await self.played(self.provider.find(look, self.login))).result
        told = known
        for letter in await self._letters(command.reference):
            reading = await self._read(letter)
            for item in reading.items:
                if item.reference == command.reference and item.outcome is not None:
                    told = item.outcome
        return told

    def until(
        self, there: Callable[[], Awaitable[bool]], why: Callable[[], str] | None = None
    ) -> None:
        """Wait for a condition, for a while."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not self.run(_bool(there)):
            if time.monotonic() > deadline:
                raise AssertionError(why() if why else "what was waited for did not come")
            self.run(asyncio.sleep(0.05))

    # --- books and notifications -----------------------------------------------------------------

    def charges(self, reference: str) -> Sequence[Charged]:
        """What the books hold of a reference; skips the case where they cannot be seen."""
        found = self.run(self.rig.charges(reference))
        if found is None:
            pytest.skip("the rig does not show the provider's books")
        return found

    def taken(self, reference: str) -> list[Amount]:
        return [each.taken for each in self.charges(reference) if each.taken.atoms > 0]

    def refunds(self, reference: str) -> Sequence[Refunded]:
        found = self.run(self.rig.refunds(reference))
        if found is None:
            pytest.skip("the rig does not show the provider's books")
        return found

    def sent_back(self, reference: str) -> list[Amount]:
        return [each.sent for each in self.refunds(reference) if each.sent.atoms > 0]

    def letter(self, reference: str) -> Delivery:
        """The first true notification about a reference, with the secrets that may sign it."""
        found: list[Delivery] = []

        async def there() -> bool:
            found[:] = await self._letters(reference)
            return bool(found)

        self.until(there, lambda: "no notification came")
        return found[0]

    async def _letters(self, reference: str) -> list[Delivery]:
        made = await self.rig.deliveries(reference)
        if made is None:
            made = [each for each in self.mailbox.letters if reference.encode() in each.body]
        return [self.with_secrets(each) for each in made]

    def with_secrets(self, letter: Delivery, *secrets: bytes) -> Delivery:
        return replace(letter, secrets=secrets or tuple(self.rig.notification_secrets))

    def read(self, letter: Delivery) -> Reading:
        """What the provider's module, or its process, makes of a notification."""
        return self.run(self._read(letter))

    async def _read(self, letter: Delivery) -> Reading:
        if self.provider.ask_reading is not None:
            read = (await self.played(self.provider.ask_reading(letter, self.login))).result
            assert isinstance(read, Reading), read
            return read
        assert self.provider.read_notification is not None, "notifications are declared"
        return self.provider.read_notification(letter, self.login)

    @property
    def keyed(self) -> bool:
        return self.able.idempotency is Idempotency.KEY


async def _bool(there: Callable[[], Awaitable[bool]]) -> bool:
    return await there()


def answer(status: int, body: bytes = b"") -> Answer:
    return Answer(status, {}, body)
