"""How the sandbox is met by the conformance kit: in the kit's own process, books open."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import httpx
from aiohttp import web

from gateway.providers.commands import Delivery, Session
from gateway.providers.sandbox import PROVIDER, SIGNATURE_HEADER, notification_body, sign
from gateway.sandbox.books import TAKEN, Books
from gateway.sandbox.server import Sandbox
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount, Asset
from tollgate_conformance import Charged, Refunded, Rig, Want

SEED = 7


def listening() -> tuple[socket.socket, str]:
    """A socket on loopback, and the address that it has."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


class BooksRig(Rig):
    """A provider that keeps the sandbox's books."""

    books: Books
    runner: web.AppRunner

    async def serve(self, application: web.Application, listener: socket.socket) -> None:
        self.runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self.runner.setup()
        await web.SockSite(self.runner, listener).start()

    async def close(self) -> None:
        await self.runner.cleanup()
        self.books.close()

    def digits(self, code: str) -> int:
        """Decimal places of the units in the books."""
        return MINOR_DIGITS[code]

    def money(self, units: int, code: str) -> Amount:
        scale, digits = MINOR_DIGITS[code], self.digits(code)
        atoms = units * 10 ** max(0, scale - digits) // 10 ** max(0, digits - scale)
        return Amount(Asset(code, scale), atoms)

    async def charges(self, reference: str) -> Sequence[Charged]:
        return [
            Charged(self.money(each.captured if each.state == TAKEN else 0, each.currency))
            for each in self.books.find(reference)
        ]

    async def refunds(self, reference: str) -> Sequence[Refunded]:
        gone = ("succeeded", "processing")
        return [
            Refunded(self.money(each.amount if each.state in gone else 0, each.currency))
            for each in self.books.refunds.values()
            if each.reference == reference
        ]


class SandboxRig(BooksRig):
    """The sandbox."""

    provider = PROVIDER
    tokens = {  # noqa: RUF012
        Want.OK: "pm_ok",
        Want.SOFT: "pm_insufficient_funds",
        Want.TECHNICAL: "pm_processing_error",
        Want.ACTION_REQUIRED: "pm_expired",
        Want.HARD: "pm_not_supported",
        Want.FRAUD: "pm_stolen",
        Want.NEEDS_ACTION: "pm_action",
        Want.ASYNC: "pm_ok_async:100ms",
        Want.REFUND_RETURNED: "pm_refund_returned:100ms",
        Want.REFUND_DECLINED: "pm_refund_declined",
    }
    currencies = {0: "JPY", 2: "USD", 3: "KWD"}  # noqa: RUF012
    notification_secrets = (b"the newest secret of the sandbox",)

    async def open(self, mailbox: str) -> None:
        listener, self.endpoint = listening()
        self.books = Books(SEED)
        await self.serve(Sandbox(self.books, self.endpoint).application(), listener)

    async def finish(self, session: Session) -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(session.url, data={"result": "complete"})
        return answer.status_code == 303

    async def stranger(self) -> Delivery:
        now = datetime.now(UTC)
        body = notification_body("ntf_stranger", "weather.changed", {"rain": True}, "weather")
        return self._signed(Delivery({}, body, (), now), self.notification_secrets[0])

    async def signed_with(self, delivery: Delivery, secret: bytes) -> Delivery:
        return self._signed(delivery, secret)

    def _signed(self, delivery: Delivery, secret: bytes) -> Delivery:
        headers = {SIGNATURE_HEADER: sign(delivery.body, secret, delivery.now)}
        return replace(delivery, headers=headers)


class ForgetfulRig(SandboxRig):
    """A sandbox that declares keys and forgets each at once: what the kit is there to find."""

    async def open(self, mailbox: str) -> None:
        await super().open(mailbox)
        self.books.keys = _Forgetful()


class _Forgetful(dict):  # type: ignore[type-arg]
    def __setitem__(self, key: object, value: object) -> None:
        """Nothing is kept."""
