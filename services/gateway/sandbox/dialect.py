"""What all dialects have in common: one set of books, keys, faults, hosted pages, and a voice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from aiohttp import web

from gateway.sandbox.behaviour import (
    Behaviour,
    Faults,
    Script,
    behaviour_of,
    parse_faults,
    refund_behaviour_of,
)
from gateway.sandbox.books import TAKEN, Books, Kept, Payment, Refund
from gateway.sandbox.http import Refused, fail_before, read_json, reply
from gateway.sandbox.page import render_page
from gateway.sandbox.postman import Postman, Told

BODY_BYTES_MAX = 256 * 1024
TOGETHER = "__"  # what follows it in a token only makes tokens differ

Answered = tuple[int, Any]
Work = Callable[[Faults], Answered]


@dataclass(frozen=True, slots=True)
class Form:
    """A request's fields, whether they came as JSON or as a form."""

    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        value = self.fields.get(name, "")
        return value if isinstance(value, str) else str(value)

    def units(self, name: str = "amount") -> int:
        """A whole number above zero; raises Refused."""
        text = self.text(name)
        if not (text.isascii() and text.isdigit()) or int(text) <= 0:
            raise Refused(400, "amount_invalid", f"{name} is no whole number above zero")
        return int(text)


class Dialect:
    """A provider's paths over the books. A subclass adds routes, words and signatures."""

    name: ClassVar[str] = ""
    # The books' words for a decline → the provider's.
    declines: ClassVar[Mapping[str, str]] = {}
    key_header: ClassVar[str] = "idempotency-key"

    def __init__(
        self, books: Books, address: str, notify_url: str = "", notify_secret: str = ""
    ) -> None:
        self.books = books
        self.address = address
        self.notify_url = notify_url
        self.notify_secret = notify_secret
        self.script = Script()
        self.postman = Postman(books, self)
        self._in_flight: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """The provider's paths."""
        raise TypeError("a dialect has paths of its own")

    def application(self) -> web.Application:
        """The aiohttp application; its postman runs while it does."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.add_routes(
            [
                *self.routes(),
                web.get("/pages/{id}", self.show_page),
                web.post("/pages/{id}", self.act),
                web.get("/books", self._show_books),
                web.post("/faults", self._add_faults),
                web.delete("/faults", self._clear_faults),
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

    # --- words of the provider, for subclasses ----------------------------------------------------

    def error(self, refused: Refused) -> Any:
        """The body of a refusal."""
        return {"error": {"code": refused.code, "message": str(refused)}}

    def conflict(self, first: Kept | None) -> Answered:
        """What a key is answered that stands for another request; None: it is under way."""
        return 409, {"error": {"code": "key_in_use"}}

    def repeated(self, first: Kept) -> Answered:
        """What a key is answered that was answered before."""
        return first.status, json.loads(first.body)

    def tell_payment(self, payment: Payment, secret: str) -> Told | None:
        return None

    def tell_refund(self, refund: Refund, secret: str) -> Told | None:
        return None

    def headers(self, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        return {}

    def page_done(self, session: dict[str, Any], payment: Payment | None) -> None:
        """A person did on a page what it is for; the session holds what came of it."""

    # --- requests ---------------------------------------------------------------------------------

    async def change(
        self,
        request: web.Request,
        on: str,
        work: Work,
        *,
        key: str = "",
        reference: str = "",
        method: str = "",
    ) -> web.StreamResponse:
        """Answer a request with effect: once for each key, with the faults that it is to meet."""
        faults = self._faults(request, on, reference, method)
        try:
            await fail_before(request, faults)
            if key in self._in_flight:
                return await self._answer(request, self.conflict(None), faults)
            if key:
                self._in_flight.add(key)
            await asyncio.sleep(faults.seconds("slow"))
            asked = request.path.encode() + b"\n" + await request.read()
            fingerprint = hashlib.sha256(asked).hexdigest()
            first = self.books.keys.get(key) if key else None
            if first is not None:
                same = first.fingerprint == fingerprint
                answered = self.repeated(first) if same else self.conflict(first)
                return await self._answer(request, answered, faults)
            with self.books.together():
                status, content = work(faults)
                if key:
                    self.books.remember(key, Kept(fingerprint, status, json.dumps(content)))
            self.postman.wake()
            return await self._answer(request, (status, content), faults)
        except Refused as refused:
            return self._refuse(refused)
        finally:
            self._in_flight.discard(key)

    async def look(
        self, request: web.Request, on: str, work: Callable[[], Answered], reference: str = ""
    ) -> web.StreamResponse:
        """Answer a request without effect."""
        faults = self._faults(request, on, reference, "")
        try:
            await fail_before(request, faults)
            return await self._answer(request, work(), faults)
        except Refused as refused:
            return self._refuse(refused)

    async def _answer(
        self, request: web.Request, answered: Answered, faults: Faults
    ) -> web.StreamResponse:
        status, content = answered
        body = b"" if content is None else json.dumps(content).encode()
        return await reply(request, status, body, faults)

    def _refuse(self, refused: Refused) -> web.StreamResponse:
        headers = {"Retry-After": "0"} if refused.status in (409, 429) else {}
        return web.json_response(self.error(refused), status=refused.status, headers=headers)

    def _faults(self, request: web.Request, on: str, reference: str, method: str) -> Faults:
        stated = request.headers.get("Sandbox-Fault", "")
        return parse_faults(stated) if stated else self.script.take(on, reference, method)

    async def form(self, request: web.Request) -> Form:
        """The fields of a request, form or JSON."""
        if "json" in request.headers.get("content-type", ""):
            return Form(await read_json(request))
        return Form({name: str(value) for name, value in (await request.post()).items()})

    # --- the books --------------------------------------------------------------------------------

    def behaviour(self, token: str) -> Behaviour:
        """What a method leads to; raises NoSuchMethod. "pm_ok_async-200ms" is the magic
        "pm_ok_async:200ms": many providers' ids have no colon."""
        return behaviour_of(self.magic(token))

    def magic(self, token: str) -> str:
        """The sandbox's own token for the provider's."""
        return token.partition(TOGETHER)[0].replace("-", ":", 1)

    def charge(
        self,
        reference: str,
        units: int,
        currency: str,
        token: str,
        customer: str,
        description: str = "",
        *,
        capture: bool = True,
        faults: Faults | None = None,
        behaviour: Behaviour | None = None,
    ) -> Payment:
        """Enter a payment, and tell of it; raises NoSuchMethod."""
        chosen = behaviour or self.behaviour(token)
        wanted = Payment(
            id="",
            reference=reference,
            amount=units + bool(faults and "wrong_amount" in faults),
            currency=currency.upper(),
            method=self.magic(token),
            customer=customer,
            description=description,
            time=datetime.now(UTC).isoformat(),
            state="",
            capture=capture,
            notify_url=self.notify_url,
            notify_secret=self.notify_secret,
        )
        payment, _ = self.books.charge(wanted, chosen, time.time(), _no_key)
        self.postman.write(payment, faults or Faults())
        return payment

    def move(self, payment: Payment, state: str, captured: int = -1) -> Payment:
        """A payment's next state, told."""
        moved = payment.moved(state)
        if captured >= 0:
            moved = replace(moved, captured=captured)
        self.books.enter(moved)
        self.postman.write(moved, Faults())
        return moved

    def refund(self, payment: Payment, reference: str, units: int, faults: Faults) -> Refund:
        """Send money back, told; raises Refused where it is more than is left."""
        left = payment.captured - self.books.refunded(payment.id) if payment.state == TAKEN else 0
        if units > left:
            raise Refused(400, "refund_exceeds", f"{left} units are left")
        behaviour = refund_behaviour_of(payment.method)
        refund, _ = self.books.send_back(payment, reference, units, behaviour, time.time(), _no_key)
        self.postman.write_refund(refund, faults)
        return refund

    def find_payment(self, payment_id: str) -> Payment:
        """Raises Refused."""
        payment = self.books.payments.get(payment_id)
        if payment is None:
            raise Refused(404, "not_found", "no payment of this id")
        return payment

    def find_refund(self, refund_id: str) -> Refund:
        """Raises Refused."""
        refund = self.books.refunds.get(refund_id)
        if refund is None:
            raise Refused(404, "not_found", "no refund of this id")
        return refund

    def find_thing(self, kind: str, identifier: str) -> dict[str, Any]:
        """Raises Refused."""
        thing = self.books.get(kind, identifier)
        if thing is None:
            raise Refused(404, "not_found", f"no {kind} of this id")
        return thing

    def tell(self, kind: str, subject: Any, about: str, number: int) -> dict[str, Any]:
        """Enter what happened, for whoever lists it; its id follows from what it is."""
        identifier = "evt_" + self.books.derive(about, str(number), kind)
        happened = {"id": identifier, "kind": kind, "time": time.time(), "subject": subject}
        return self.books.put("event", identifier, happened)

    def decline_word(self, code: str) -> str:
        """The provider's word for a decline."""
        return self.declines.get(code, code)

    # --- hosted pages -----------------------------------------------------------------------------

    def open_page(self, **content: Any) -> dict[str, Any]:
        """A page where a person pays or stores a method."""
        identifier = f"page_{self.books.derive('page', str(len(self.books.all('page'))))}"
        page = {"id": identifier, "state": "open", "url": f"{self.address}/pages/{identifier}"}
        return self.books.put("page", identifier, {**page, **content})

    async def show_page(self, request: web.Request) -> web.Response:
        page = self.books.get("page", request.match_info["id"])
        if page is None:
            return web.Response(status=404)
        return web.Response(text=render_page(page, {"complete": "pm_ok"}), content_type="text/html")

    async def act(self, request: web.Request) -> web.Response:
        page = self.books.get("page", request.match_info["id"])
        if page is None or page["state"] != "open":
            return web.Response(status=404)
        done = (await request.post()).get("result") == "complete"
        with self.books.together():
            payment = None
            if done and page["mode"] == "PAY":
                payment = self.charge(
                    page["reference"], page["units"], page["currency"], "pm_ok", page["customer"]
                )
            token = f"pm_ok{TOGETHER}{self.books.derive('method', page['id'])}" if done else ""
            if done:
                self.books.put("method", token, {"id": token, "customer": page["customer"]})
            state = "complete" if done else "canceled"
            changed = {**page, "state": state, "token": token}
            changed["payment"] = payment.id if payment else ""
            page = self.books.put("page", page["id"], changed)
            self.page_done(page, payment)
        self.postman.wake()
        back = page["return_url"]
        return web.Response(status=303, headers={"location": back}) if back else web.Response()

    def methods_of(self, customer: str) -> list[dict[str, Any]]:
        return [
            each
            for each in self.books.all("method")
            if each["customer"] == customer and not each.get("gone")
        ]

    def forget(self, token: str) -> dict[str, Any]:
        """Raises Refused."""
        method = self.find_thing("method", token)
        return self.books.put("method", token, {**method, "gone": True})

    # --- for tests --------------------------------------------------------------------------------

    async def _show_books(self, _: web.Request) -> web.Response:
        return web.json_response(self.books.report())

    async def _add_faults(self, request: web.Request) -> web.Response:
        wanted = await read_json(request)
        self.script.add(
            str(wanted.get("on", "charge")),
            str(wanted.get("reference", "")),
            str(wanted.get("method", "")),
            [str(fault) for fault in wanted.get("faults", [])],
        )
        return web.json_response({"faults": len(wanted.get("faults", []))})

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self.script.clear()
        return web.json_response({"faults": 0})


def _no_key(_: object) -> Kept:
    return Kept("", 200, "")
