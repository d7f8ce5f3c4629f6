"""The sandbox over HTTP: payments, look-ups, the page where a payer acts, faults, and the books."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.sandbox.behaviour import (
    Faults,
    NoSuchFault,
    NoSuchMethod,
    Script,
    behaviour_of,
    parse_faults,
)
from gateway.sandbox.books import Books, Kept, Payment
from gateway.sandbox.postman import Postman

BODY_BYTES_MAX = 64 * 1024
HANG_SECONDS = 120.0  # longer than any caller waits
REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,40}")
AMOUNT_MAX = 10**12


class Refused(Exception):
    """A request that the sandbox does not take."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Sandbox:
    """The request handlers, over one set of books."""

    def __init__(self, books: Books, address: str) -> None:
        self.books = books
        self.address = address
        self.script = Script()
        self.postman = Postman(books, address)
        self._in_flight: set[str] = set()

    def application(self) -> web.Application:
        """The aiohttp application; its postman runs while it does."""
        application = web.Application(
            client_max_size=BODY_BYTES_MAX, middlewares=[_answer_refusals]
        )
        application.add_routes(
            [
                web.post("/v1/payments", self.charge),
                web.get("/v1/payments", self.find),
                web.get("/v1/payments/{id}", self.read),
                web.get("/actions/{id}", self.show_action),
                web.post("/actions/{id}", self.act),
                web.get("/books", self.show_books),
                web.post("/faults", self.add_faults),
                web.delete("/faults", self.clear_faults),
                web.get("/health", self.show_health),
            ]
        )
        application.cleanup_ctx.append(self._post)
        return application

    async def _post(self, _: web.Application) -> AsyncIterator[None]:
        await self.postman.open()
        task = asyncio.create_task(self.postman.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.postman.close()

    # --- payments ---------------------------------------------------------------------------------

    async def charge(self, request: web.Request) -> web.StreamResponse:
        wanted = _read_charge(await _json(request), request.headers)
        key = request.headers.get("Idempotency-Key", "")
        if "idempotency" in _switched_off(request):
            key = ""
        elif not key:
            raise Refused(400, "key_missing", "a charge needs an Idempotency-Key")
        if key in self._in_flight:
            raise Refused(409, "key_in_use", "a request with this key is under way")
        faults = self._faults(request, "charge", wanted.reference, wanted.method)
        await _fail_before(request, faults)
        if key:
            self._in_flight.add(key)
        try:
            kept, headers = await self._charge(request, wanted, faults, key)
        finally:
            self._in_flight.discard(key)
        return await _reply(request, kept.status, kept.body.encode(), faults, headers)

    async def _charge(
        self, request: web.Request, wanted: Payment, faults: Faults, key: str
    ) -> tuple[Kept, dict[str, str]]:
        """The answer to a charge, and the headers that go with it."""
        await asyncio.sleep(faults.seconds("slow"))
        fingerprint = hashlib.sha256(await request.read()).hexdigest()
        first = self.books.keys.get(key) if key else None
        if first is not None:
            if first.fingerprint != fingerprint:
                raise Refused(
                    400, "key_used_with_other_parameters", "this key belongs to another request"
                )
            return first, {"Idempotent-Replayed": "true"}
        if key and any(each.key_forgotten for each in self.books.find(wanted.reference)):
            raise Refused(400, "reference_used", "a payment of this reference exists")
        try:
            behaviour = behaviour_of(wanted.method)
        except NoSuchMethod as error:
            raise Refused(422, "no_such_method", f"no such method: {error}") from None
        wanted = replace(
            wanted,
            amount=wanted.amount + ("wrong_amount" in faults),
            key_forgotten="forget_key" in faults,
        )

        def answer(payment: Payment) -> Kept:
            status = 402 if payment.state == "declined" else 201
            body = json.dumps({"payment": payment.render(self.address)})
            return Kept(fingerprint, status, body)

        payment, kept = self.books.charge(wanted, behaviour, time.time(), answer, key)
        letters = self.postman.write(payment, faults)
        if "notify_first" in faults:
            for letter in letters:
                await self.postman.send(letter)
        self.postman.wake()
        return kept, {}

    async def read(self, request: web.Request) -> web.StreamResponse:
        payment = self.books.payments.get(request.match_info["id"])
        faults = self._faults(request, "read", payment.reference if payment else "")
        await _fail_before(request, faults)
        if payment is None or "read" in _switched_off(request):
            raise Refused(404, "no_such_payment", "no payment of this id")
        body = json.dumps({"payment": payment.render(self.address)}).encode()
        return await _reply(request, 200, body, faults)

    async def find(self, request: web.Request) -> web.StreamResponse:
        reference = request.query.get("reference", "")
        faults = self._faults(request, "find", reference)
        await _fail_before(request, faults)
        if "lookup" in _switched_off(request):
            raise Refused(404, "no_such_operation", "payments cannot be listed here")
        found = [payment.render(self.address) for payment in self.books.find(reference)]
        return await _reply(request, 200, json.dumps({"payments": found}).encode(), faults)

    # --- the payer's page -------------------------------------------------------------------------

    async def show_action(self, request: web.Request) -> web.Response:
        payment = self._awaiting(request)
        page = (
            "<!doctype html><html lang=en><meta charset=utf-8><title>Sandbox bank</title>"
            f"<h1>Sandbox bank</h1><p>Confirm {payment.amount} minor units of"
            f" {html.escape(payment.currency)} for {html.escape(payment.description)}?</p>"
            "<form method=post><button name=result value=complete>Confirm</button>"
            " <button name=result value=fail>Refuse</button></form></html>"
        )
        return web.Response(text=page, content_type="text/html")

    async def act(self, request: web.Request) -> web.Response:
        payment = self._awaiting(request)
        form = await request.post()
        match form.get("result"):
            case "complete":
                moved = self.books.move(payment.id, "succeeded")
            case "fail":
                moved = self.books.move(payment.id, "declined", "authentication_failed")
            case _:
                raise Refused(422, "no_such_result", "result is complete or fail")
        self.postman.write(moved, Faults())
        return web.json_response({"payment": moved.render(self.address)})

    def _awaiting(self, request: web.Request) -> Payment:
        payment = self.books.payments.get(request.match_info["id"])
        if payment is None or payment.state != "requires_action":
            raise Refused(404, "nothing_to_do", "no payment of this id waits for its payer")
        return payment

    # --- for tests --------------------------------------------------------------------------------

    async def show_books(self, _: web.Request) -> web.Response:
        return web.json_response(self.books.report())

    async def show_health(self, _: web.Request) -> web.Response:
        return web.json_response({"state": "serving"})

    async def add_faults(self, request: web.Request) -> web.Response:
        wanted = await _json(request)
        faults = wanted.get("faults")
        if not isinstance(faults, list):
            raise Refused(422, "no_such_fault", "faults is a list of names")
        try:
            self.script.add(
                str(wanted.get("on", "charge")),
                str(wanted.get("reference", "")),
                str(wanted.get("method", "")),
                [str(fault) for fault in faults],
            )
        except NoSuchFault as error:
            raise Refused(422, "no_such_fault", str(error)) from None
        return web.json_response({"faults": len(faults)})

    async def clear_faults(self, _: web.Request) -> web.Response:
        self.script.clear()
        return web.json_response({"faults": 0})

    def _faults(self, request: web.Request, on: str, reference: str, method: str = "") -> Faults:
        """A request's own faults, by header, come before the script's."""
        stated = request.headers.get("Sandbox-Fault", "")
        if not stated:
            return self.script.take(on, reference, method)
        try:
            return parse_faults(stated)
        except NoSuchFault as error:
            raise Refused(422, "no_such_fault", str(error)) from None


async def _fail_before(request: web.Request, faults: Faults) -> None:
    if "http_429" in faults:
        raise Refused(429, "too_many_requests", "slow down")
    if "http_409_in_flight" in faults:
        raise Refused(409, "key_in_use", "a request with this key is under way")
    if "http_500_before" in faults:
        raise Refused(500, "internal", "an error of the sandbox")
    if "reset_before" in faults:
        _cut(request)
    if "hang_before" in faults:
        await _hang(request)


async def _reply(
    request: web.Request,
    status: int,
    body: bytes,
    faults: Faults,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    if "http_500_after" in faults:
        raise Refused(500, "internal", "an error of the sandbox, after the fact")
    if "hang_after" in faults:
        await _hang(request)
    if "reset_before_reply" in faults:
        _cut(request)
    if "truncated_body" in faults:
        body = body[: len(body) // 2]
    return web.Response(
        status=status, body=body, content_type="application/json", headers=dict(headers or {})
    )


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
    raise Refused(500, "cut", "the connection is cut")


async def _hang(request: web.Request) -> None:
    """Keep the caller waiting until it goes away."""
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        if request.transport is None or request.transport.is_closing():
            break
        await asyncio.sleep(0.05)
    raise Refused(500, "hung", "nobody waits any more")


@web.middleware
async def _answer_refusals(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except Refused as refused:
        fault = {"error": {"code": refused.code, "message": str(refused)}}
        # Nobody is made to wait: a sandbox's limits are there to be met in tests.
        headers = {"Retry-After": "0"} if refused.status in (409, 429) else {}
        return web.json_response(fault, status=refused.status, headers=headers)
    return response


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        content = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise Refused(400, "malformed", "the body is not JSON") from None
    if not isinstance(content, dict):
        raise Refused(400, "malformed", "the body is not an object")
    return content


def _read_charge(content: Mapping[str, Any], headers: Mapping[str, str]) -> Payment:
    amount, reference = content.get("amount"), content.get("reference")
    if not isinstance(amount, int) or isinstance(amount, bool) or not 0 < amount <= AMOUNT_MAX:
        raise Refused(422, "amount_invalid", "amount is a whole number of minor units above zero")
    if not isinstance(reference, str) or REFERENCE.fullmatch(reference) is None:
        raise Refused(422, "reference_invalid", "reference is 1 to 40 of [A-Za-z0-9_-]")
    texts = {name: content.get(name, "") for name in ("currency", "method", "customer", "time")}
    texts["description"] = content.get("description", "")
    if not all(isinstance(text, str) and len(text) <= 255 for text in texts.values()):
        raise Refused(422, "field_invalid", "a field is not text of at most 255 characters")
    if re.fullmatch(r"[A-Z]{3}", texts["currency"]) is None:
        raise Refused(422, "currency_invalid", "currency is three capital letters")
    return Payment(
        id="",
        reference=reference,
        amount=amount,
        state="",
        notify_url=headers.get("Sandbox-Notify-Url", ""),
        notify_secret=headers.get("Sandbox-Notify-Secret", ""),
        **texts,
    )


def _switched_off(request: web.Request) -> set[str]:
    return set(request.query.get("without", "").split(","))
