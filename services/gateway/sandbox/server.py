"""The sandbox over HTTP: payments, look-ups, the page where a payer acts, faults, and the books."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from aiohttp import web

from gateway.sandbox.behaviour import (
    Faults,
    NoSuchFault,
    NoSuchMethod,
    Script,
    behaviour_of,
    parse_faults,
    refund_behaviour_of,
)
from gateway.sandbox.books import TAKEN, Books, Kept, Letter, Payment, Refund
from gateway.sandbox.http import (
    Refused,
    answer_refusals,
    fail_before,
    read_json,
    reply,
    switched_off,
)
from gateway.sandbox.page import render_page
from gateway.sandbox.pages import CHOICES, Pages, kept_session, no_method
from gateway.sandbox.postman import OwnVoice, Postman

BODY_BYTES_MAX = 64 * 1024
REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,40}")
AMOUNT_MAX = 10**12


@dataclass(frozen=True, slots=True)
class Change:
    """A request with effect: its key, what the key stands for, and the faults it meets."""

    key: str
    fingerprint: str
    faults: Faults


class Sandbox:
    """The request handlers, over one set of books."""

    def __init__(self, books: Books, address: str) -> None:
        self.books = books
        self.address = address
        self.script = Script()
        self.postman = Postman(books, OwnVoice(books, address))
        self._in_flight: set[str] = set()
        self.pages = Pages(books, address)

    def application(self) -> web.Application:
        """The aiohttp application; its postman runs while it does."""
        application = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[answer_refusals])
        application.add_routes(
            [
                web.post("/v1/payments", self.charge),
                web.get("/v1/payments", self.find),
                web.get("/v1/payments/{id}", self.read),
                web.post("/v1/payments/{id}/capture", self.capture),
                web.post("/v1/payments/{id}/cancel", self.cancel),
                web.post("/v1/refunds", self.refund),
                web.get("/v1/refunds", self.find_refunds),
                web.get("/v1/refunds/{id}", self.read_refund),
                web.post("/v1/sessions", self.open_session),
                web.get("/v1/sessions/{id}", self.read_session),
                web.get("/v1/methods", self.list_methods),
                web.delete("/v1/methods/{id}", self.forget_method),
                web.get("/pages/{id}", self.show_page),
                web.post("/pages/{id}", self.act_on_page),
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
        wanted = _read_charge(await read_json(request), request.headers)

        def enter(change: Change) -> tuple[Kept, list[Letter]]:
            forgotten = any(each.key_forgotten for each in self.books.find(wanted.reference))
            if change.key and forgotten:
                raise Refused(400, "reference_used", "a payment of this reference exists")
            try:
                no_method(wanted.method, self.pages)
                behaviour = behaviour_of(wanted.method)
            except NoSuchMethod as error:
                raise Refused(422, "no_such_method", f"no such method: {error}") from None
            chosen = replace(
                wanted,
                amount=wanted.amount + ("wrong_amount" in change.faults),
                key_forgotten="forget_key" in change.faults,
            )

            def answer(payment: Payment) -> Kept:
                status = 402 if payment.state == "declined" else 201
                return self._payment_kept(change, payment, status)

            payment, kept = self.books.charge(chosen, behaviour, time.time(), answer, change.key)
            return kept, self.postman.write(payment, change.faults)

        return await self._change(request, "charge", wanted.reference, wanted.method, enter)

    async def capture(self, request: web.Request) -> web.StreamResponse:
        payment = self._payment(request)
        amount = (await read_json(request)).get("amount")

        def enter(change: Change) -> tuple[Kept, list[Letter]]:
            present = self.books.payments[payment.id]
            if present.state != "authorized":
                raise Refused(422, "state_conflict", f"the payment is {present.state}")
            if not _is_units(amount) or amount > present.amount:
                raise Refused(422, "amount_invalid", "more than is authorized, or no amount")
            moved = replace(present.moved("succeeded"), captured=amount)
            return self._moved(change, moved)

        return await self._change(request, "capture", payment.reference, payment.method, enter)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        payment = self._payment(request)

        def enter(change: Change) -> tuple[Kept, list[Letter]]:
            present = self.books.payments[payment.id]
            if present.state not in ("authorized", "requires_action", "processing"):
                raise Refused(422, "state_conflict", f"the payment is {present.state}")
            return self._moved(change, present.moved("canceled"))

        return await self._change(request, "cancel", payment.reference, payment.method, enter)

    def _moved(self, change: Change, moved: Payment) -> tuple[Kept, list[Letter]]:
        kept = self._payment_kept(change, moved, 200)
        self.books.enter(moved, change.key, kept)
        return kept, self.postman.write(moved, change.faults)

    def _payment_kept(self, change: Change, payment: Payment, status: int) -> Kept:
        body = json.dumps({"payment": payment.render(self.address)})
        return Kept(change.fingerprint, status, body)

    def _payment(self, request: web.Request) -> Payment:
        payment = self.books.payments.get(request.match_info["id"])
        if payment is None:
            raise Refused(404, "no_such_payment", "no payment of this id")
        return payment

    async def _change(
        self,
        request: web.Request,
        on: str,
        reference: str,
        method: str,
        enter: Callable[[Change], tuple[Kept, list[Letter]]],
    ) -> web.StreamResponse:
        """Answer a request with effect: once for each key, with the faults that it is to meet."""
        key = request.headers.get("Idempotency-Key", "")
        if "idempotency" in switched_off(request):
            key = ""
        elif not key:
            raise Refused(400, "key_missing", "what has an effect needs an Idempotency-Key")
        if key in self._in_flight:
            raise Refused(409, "key_in_use", "a request with this key is under way")
        faults = self._faults(request, on, reference, method)
        await fail_before(request, faults)
        if key:
            self._in_flight.add(key)
        try:
            await asyncio.sleep(faults.seconds("slow"))
            asked = request.path.encode() + b"\n" + await request.read()
            fingerprint = hashlib.sha256(asked).hexdigest()
            first = self.books.keys.get(key) if key else None
            if first is not None and first.fingerprint != fingerprint:
                raise Refused(
                    400, "key_used_with_other_parameters", "this key belongs to another request"
                )
            if first is not None:
                kept, headers = first, {"Idempotent-Replayed": "true"}
            else:
                kept, letters = enter(Change(key, fingerprint, faults))
                headers = {}
                if "notify_first" in faults:
                    for letter in letters:
                        await self.postman.send(letter)
                self.postman.wake()
        finally:
            self._in_flight.discard(key)
        return await reply(request, kept.status, kept.body.encode(), faults, headers)

    async def read(self, request: web.Request) -> web.StreamResponse:
        payment = self.books.payments.get(request.match_info["id"])
        faults = self._faults(request, "read", payment.reference if payment else "")
        await fail_before(request, faults)
        if payment is None or "read" in switched_off(request):
            raise Refused(404, "no_such_payment", "no payment of this id")
        body = json.dumps({"payment": payment.render(self.address)}).encode()
        return await reply(request, 200, body, faults)

    async def find(self, request: web.Request) -> web.StreamResponse:
        reference = request.query.get("reference", "")
        faults = self._faults(request, "find", reference)
        await fail_before(request, faults)
        if "lookup" in switched_off(request):
            raise Refused(404, "no_such_operation", "payments cannot be listed here")
        found = [payment.render(self.address) for payment in self.books.find(reference)]
        return await reply(request, 200, json.dumps({"payments": found}).encode(), faults)

    # --- refunds ----------------------------------------------------------------------------------

    async def refund(self, request: web.Request) -> web.StreamResponse:
        content = await read_json(request)
        payment = self.books.payments.get(str(content.get("payment", "")))
        amount, reference = content.get("amount"), content.get("reference")
        if payment is None:
            raise Refused(422, "no_such_payment", "no payment of this id")
        if not isinstance(reference, str) or REFERENCE.fullmatch(reference) is None:
            raise Refused(422, "reference_invalid", "reference is 1 to 40 of [A-Za-z0-9_-]")

        def enter(change: Change) -> tuple[Kept, list[Letter]]:
            present = self.books.payments[payment.id]
            if present.state != TAKEN:
                raise Refused(422, "state_conflict", f"the payment is {present.state}")
            left = present.captured - self.books.refunded(present.id)
            if not _is_units(amount) or amount > left:
                raise Refused(422, "refund_exceeds_captured", f"{left} units are left")

            def answer(refund: Refund) -> Kept:
                return Kept(change.fingerprint, 201, json.dumps({"refund": refund.render()}))

            refund, kept = self.books.send_back(
                present,
                reference,
                amount,
                refund_behaviour_of(present.method),
                time.time(),
                answer,
                change.key,
            )
            return kept, self.postman.write_refund(refund, change.faults)

        return await self._change(request, "refund", reference, payment.method, enter)

    async def read_refund(self, request: web.Request) -> web.StreamResponse:
        refund = self.books.refunds.get(request.match_info["id"])
        faults = self._faults(request, "read_refund", refund.reference if refund else "")
        await fail_before(request, faults)
        if refund is None or "read" in switched_off(request):
            raise Refused(404, "no_such_refund", "no refund of this id")
        body = json.dumps({"refund": refund.render()}).encode()
        return await reply(request, 200, body, faults)

    async def find_refunds(self, request: web.Request) -> web.StreamResponse:
        reference = request.query.get("reference", "")
        faults = self._faults(request, "find_refund", reference)
        await fail_before(request, faults)
        if "lookup" in switched_off(request):
            raise Refused(404, "no_such_operation", "refunds cannot be listed here")
        found = [
            each.render() for each in self.books.refunds.values() if each.reference == reference
        ]
        return await reply(request, 200, json.dumps({"refunds": found}).encode(), faults)

    # --- pages and methods -----------------------------------------------------------------------

    async def open_session(self, request: web.Request) -> web.StreamResponse:
        content = await read_json(request)

        def enter(change: Change) -> tuple[Kept, list[Letter]]:
            url = request.headers.get("Sandbox-Notify-Url", "")
            secret = request.headers.get("Sandbox-Notify-Secret", "")
            with self.books.together():
                page = self.pages.open(content, url, secret)
                kept = kept_session(change.fingerprint, self.pages.render(page))
                if change.key:
                    self.books.remember(change.key, kept)
            return kept, []

        reference = str(content.get("reference", ""))
        return await self._change(request, "session", reference, "", enter)

    async def read_session(self, request: web.Request) -> web.StreamResponse:
        page = self.pages.find(request.match_info["id"])
        faults = self._faults(request, "read_session", page["reference"])
        await fail_before(request, faults)
        body = json.dumps({"session": self.pages.render(page)}).encode()
        return await reply(request, 200, body, faults)

    async def list_methods(self, request: web.Request) -> web.StreamResponse:
        found = self.pages.methods_of(request.query.get("customer", ""))
        return web.json_response({"methods": found})

    async def forget_method(self, request: web.Request) -> web.StreamResponse:
        self.pages.forget(request.match_info["id"])
        return web.json_response({"state": "gone"})

    async def show_page(self, request: web.Request) -> web.Response:
        page = self.pages.find(request.match_info["id"])
        return web.Response(text=render_page(page, CHOICES), content_type="text/html")

    async def act_on_page(self, request: web.Request) -> web.Response:
        page = self.pages.find(request.match_info["id"])
        result = str((await request.post()).get("result", ""))
        page, payment = self.pages.act(page, result)
        if payment is not None:
            self.postman.write(payment, Faults())
        self.pages.letter(page)
        self.postman.wake()
        back = page["return_url"] if page["state"] != "open" else page["url"]
        return web.Response(status=303, headers={"location": back})

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
                moved = self.books.move(payment.id, payment.settled)
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
        wanted = await read_json(request)
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


def _is_units(amount: object) -> TypeGuard[int]:
    """Whether it is a whole number of minor units above zero."""
    return isinstance(amount, int) and not isinstance(amount, bool) and 0 < amount <= AMOUNT_MAX


def _read_charge(content: Mapping[str, Any], headers: Mapping[str, str]) -> Payment:
    amount, reference = content.get("amount"), content.get("reference")
    capture = content.get("capture", True)
    if not isinstance(capture, bool):
        raise Refused(422, "field_invalid", "capture is true or false")
    if not _is_units(amount):
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
        capture=capture,
        state="",
        notify_url=headers.get("Sandbox-Notify-Url", ""),
        notify_secret=headers.get("Sandbox-Notify-Secret", ""),
        **texts,
    )
