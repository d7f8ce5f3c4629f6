"""Sends the sandbox's notifications: signed, with the faults that were asked for, and again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import aiohttp

from gateway.providers.sandbox import notification_body, sign
from gateway.sandbox.behaviour import Faults
from gateway.sandbox.books import Books, Letter, Payment, Refund

SEND_SECONDS = 5.0
SENT_TOGETHER_MAX = 20
TRIES_MAX = 12
PAUSE_SECONDS = 0.2  # before a second try, doubled each time
REORDER_SECONDS = 0.5  # how long a letter is held back where no later one overtakes it
STALE_STATES = {"succeeded": "processing", "reversed": "succeeded", "canceled": "requires_action"}


@dataclass(frozen=True, slots=True)
class Told:
    """What a notification says: unique by id."""

    id: str
    kind: str
    body: bytes


class Voice(Protocol):
    """How a dialect tells what happened, and signs it."""

    def tell_payment(self, payment: Payment, secret: str) -> Told | None: ...

    def tell_refund(self, refund: Refund, secret: str) -> Told | None: ...

    def headers(self, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        """What makes the body authentic, beside what is in it."""


class OwnVoice:
    """The sandbox's own dialect."""

    def __init__(self, books: Books, address: str) -> None:
        self._books = books
        self._address = address

    def tell_payment(self, payment: Payment, secret: str) -> Told:
        identifier = "ntf_" + self._books.derive(payment.id, str(payment.step), payment.state)
        kind = f"payment.{payment.state}"
        body = notification_body(identifier, kind, payment.render(self._address))
        return Told(identifier, kind, body)

    def tell_refund(self, refund: Refund, secret: str) -> Told:
        identifier = "ntf_" + self._books.derive(refund.id, str(refund.step), refund.state)
        kind = f"refund.{refund.state}"
        return Told(
            identifier, kind, notification_body(identifier, kind, refund.render(), "refund")
        )

    def headers(self, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        return {"sandbox-signature": sign(body, secret.encode(), now)}


class Postman:
    """Delivers letters as they fall due. `run` is its loop; `woken` tells it to look again."""

    def __init__(self, books: Books, voice: Voice) -> None:
        self._books = books
        self._voice = voice
        self._woken = asyncio.Event()
        self._under_way: set[str] = set()
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        timeout = aiohttp.ClientTimeout(total=SEND_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def write(self, payment: Payment, faults: Faults) -> list[Letter]:
        """Enter the notification of a payment's present state, as the faults want it."""
        if "notify_never" in faults:
            return []
        told = payment
        if "notify_stale" in faults:
            told = replace(payment, state=STALE_STATES.get(payment.state, payment.state))
        said = self._voice.tell_payment(told, payment.notify_secret)
        return self._post(payment, said, payment.id, faults)

    def write_refund(self, refund: Refund, faults: Faults) -> list[Letter]:
        """Enter the notification of a refund's present state."""
        if "notify_never" in faults:
            return []
        said = self._voice.tell_refund(refund, refund.notify_secret)
        return self._post(refund, said, refund.payment_id, faults)

    def _post(
        self,
        told: Payment | Refund,
        said: Told | None,
        payment_id: str,
        faults: Faults,
    ) -> list[Letter]:
        if said is None or not told.notify_url:
            return []
        delay = faults.seconds("notify_late")
        if "notify_reordered" in faults:
            delay = REORDER_SECONDS
        letter = Letter(
            id=said.id,
            kind=said.kind,
            payment_id=payment_id,
            url=told.notify_url,
            secret=told.notify_secret,
            body=said.body.decode(),
            due=time.time() + delay,
            signature=_signature(faults),
        )
        # The same notification twice has one id: that is what makes it a duplicate.
        letters = [letter]
        if "notify_twice" in faults:
            letters.append(replace(letter, id=f"{letter.id}#2"))
        for each in letters:
            self._books.post(each)
        self._woken.set()
        return letters

    async def run(self) -> None:
        """Move payments and send letters when they fall due, until cancelled."""
        while True:
            now = time.time()
            for payment in self._books.due_payments(now):
                # A decline that comes later was decided when the payment was made.
                code = payment.decline_code if payment.later == "declined" else ""
                self.write(self._books.move(payment.id, payment.later, code), Faults())
            for refund in self._books.due_refunds(now):
                self.write_refund(self._books.move_refund(refund), Faults())
            due = [letter for letter in self._books.letters.values() if letter.due <= now]
            due.sort(key=lambda each: each.due)
            await asyncio.gather(*(self.send(letter) for letter in due[:SENT_TOGETHER_MAX]))
            self._woken.clear()
            next_due = self._books.next_due()
            wait = None if next_due is None else max(0.0, next_due - time.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    def wake(self) -> None:
        """Something may be due earlier than was known."""
        self._woken.set()

    async def send(self, letter: Letter) -> None:
        """Send one letter; enter it again for later where it did not arrive."""
        if letter.id not in self._books.letters or letter.id in self._under_way:
            return
        self._under_way.add(letter.id)
        try:
            await self._send(letter)
        finally:
            self._under_way.discard(letter.id)

    async def _send(self, letter: Letter) -> None:
        if await self._arrives(letter) or letter.tries + 1 >= TRIES_MAX:
            self._books.delivered(letter.id)
            return
        pause = PAUSE_SECONDS * 2.0**letter.tries
        self._books.post(replace(letter, tries=letter.tries + 1, due=time.time() + pause))

    async def _arrives(self, letter: Letter) -> bool:
        assert self._session is not None, "the postman is open"
        body = letter.body.encode()
        headers = {"content-type": "application/json"}
        if letter.signature != "none":
            secret = letter.secret if letter.signature == "good" else "not the secret"
            headers |= self._voice.headers(body, secret, datetime.now(UTC))
        try:
            async with self._session.post(
                letter.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                # What is refused for good is not sent again; what is merely not taken is.
                return response.status < 500 and response.status != 429
        except (aiohttp.ClientError, TimeoutError):
            return False


def _signature(faults: Faults) -> str:
    if "notify_unsigned" in faults:
        return "none"
    return "bad" if "notify_bad_signature" in faults else "good"
