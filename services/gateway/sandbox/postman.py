"""Sends the sandbox's notifications: signed, with the faults that were asked for, and again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime

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


class Postman:
    """Delivers letters as they fall due. `run` is its loop; `woken` tells it to look again."""

    def __init__(self, books: Books, address: str) -> None:
        self._books = books
        self._address = address
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
        if not payment.notify_url or "notify_never" in faults:
            return []
        told = payment
        if "notify_stale" in faults:
            told = replace(payment, state=STALE_STATES.get(payment.state, payment.state))
        identifier = "ntf_" + self._books.derive(payment.id, str(payment.step), told.state)
        kind = f"payment.{told.state}"
        body = notification_body(identifier, kind, told.render(self._address))
        return self._post(payment, identifier, kind, payment.id, body.decode(), faults)

    def write_refund(self, refund: Refund, faults: Faults) -> list[Letter]:
        """Enter the notification of a refund's present state."""
        if not refund.notify_url or "notify_never" in faults:
            return []
        identifier = "ntf_" + self._books.derive(refund.id, str(refund.step), refund.state)
        kind = f"refund.{refund.state}"
        body = notification_body(identifier, kind, refund.render(), "refund")
        return self._post(refund, identifier, kind, refund.payment_id, body.decode(), faults)

    def _post(
        self,
        told: Payment | Refund,
        identifier: str,
        kind: str,
        payment_id: str,
        body: str,
        faults: Faults,
    ) -> list[Letter]:
        delay = faults.seconds("notify_late")
        if "notify_reordered" in faults:
            delay = REORDER_SECONDS
        letter = Letter(
            id=identifier,
            kind=kind,
            payment_id=payment_id,
            url=told.notify_url,
            secret=told.notify_secret,
            body=body,
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
                self.write(self._books.move(payment.id, payment.later), Faults())
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
            headers["sandbox-signature"] = sign(body, secret.encode(), datetime.now(UTC))
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
