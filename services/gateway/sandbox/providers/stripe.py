"""Stripe's paths over the sandbox's books."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from gateway.sandbox.behaviour import Faults, NoSuchMethod
from gateway.sandbox.books import Kept, Payment, Refund
from gateway.sandbox.dialect import Answered, Dialect, Form
from gateway.sandbox.http import Refused
from gateway.sandbox.postman import Told

_STATUSES = {
    "succeeded": "succeeded",
    "authorized": "requires_capture",
    "processing": "processing",
    "requires_action": "requires_action",
    "canceled": "canceled",
    "reversed": "succeeded",
}
_KINDS = {
    "succeeded": "payment_intent.succeeded",
    "authorized": "payment_intent.amount_capturable_updated",
    "processing": "payment_intent.processing",
    "requires_action": "payment_intent.requires_action",
    "declined": "payment_intent.payment_failed",
    "canceled": "payment_intent.canceled",
}
_REFUNDS = {"succeeded": "succeeded", "processing": "pending", "declined": "failed"}


class StripeDialect(Dialect):
    """Payment intents, refunds, customers, Checkout Sessions and events."""

    name = "stripe"
    declines = {"card_not_supported": "card_not_supported"}  # noqa: RUF012

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/payment_intents", self.create_intent),
            web.get("/v1/payment_intents", self.list_intents),
            web.get("/v1/payment_intents/{id}", self.read_intent),
            web.post("/v1/payment_intents/{id}/capture", self.capture_intent),
            web.post("/v1/payment_intents/{id}/cancel", self.cancel_intent),
            web.post("/v1/refunds", self.create_refund),
            web.get("/v1/refunds", self.list_refunds),
            web.get("/v1/refunds/{id}", self.read_refund),
            web.post("/v1/customers", self.create_customer),
            web.get("/v1/payment_methods", self.list_methods),
            web.get("/v1/payment_methods/{id}", self.read_method),
            web.post("/v1/payment_methods/{id}/detach", self.detach_method),
            web.post("/v1/checkout/sessions", self.create_session),
            web.get("/v1/checkout/sessions/{id}", self.read_session),
            web.get("/v1/events", self.list_events),
        ]

    def error(self, refused: Refused) -> Any:
        kind = "api_error" if refused.status >= 500 else "invalid_request_error"
        return {"error": {"type": kind, "code": refused.code, "message": str(refused)}}

    def conflict(self, first: Kept | None) -> Answered:
        if first is None:
            return 409, {"error": {"type": "idempotency_error", "code": "lock_timeout"}}
        return 400, {"error": {"type": "idempotency_error", "message": "other parameters"}}

    # --- payment intents --------------------------------------------------------------------------

    async def create_intent(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        token, reference = form.text("payment_method"), form.text("metadata[tollgate_attempt]")

        def work(faults: Faults) -> Answered:
            try:
                payment = self.charge(
                    reference,
                    form.units(),
                    form.text("currency"),
                    token,
                    form.text("customer"),
                    form.text("description"),
                    capture=form.text("capture_method") != "manual",
                    faults=faults,
                )
            except NoSuchMethod:
                raise Refused(400, "resource_missing", "No such PaymentMethod") from None
            if payment.state != "declined":
                return 200, self.intent(payment)
            shown = self.intent(payment)
            return 402, {"error": {**shown["last_payment_error"], "payment_intent": shown}}

        key = request.headers.get(self.key_header, "")
        return await self.change(
            request, "charge", work, key=key, reference=reference, method=token
        )

    def intent(self, payment: Payment) -> dict[str, Any]:
        """A payment intent as the API shows it."""
        shown: dict[str, Any] = {
            "id": payment.id,
            "object": "payment_intent",
            "amount": payment.amount,
            "amount_received": payment.captured if payment.state == "succeeded" else 0,
            "currency": payment.currency.lower(),
            "customer": payment.customer or None,
            "payment_method": payment.method,
            "metadata": {"tollgate_attempt": payment.reference},
            "status": _STATUSES.get(payment.state, "requires_payment_method"),
            "last_payment_error": None,
            "created": int(datetime.fromisoformat(payment.time).timestamp()),
        }
        closed = self.books.get("closed", payment.id) is not None
        if payment.state == "declined":
            shown["status"] = "canceled" if closed else "requires_payment_method"
            shown["last_payment_error"] = {
                "type": "card_error",
                "code": "card_declined",
                "decline_code": self.decline_word(payment.decline_code),
            }
        if payment.state == "requires_action":
            url = f"{self.address}/actions/{payment.id}"
            shown["next_action"] = {"type": "redirect_to_url", "redirect_to_url": {"url": url}}
        return shown

    async def read_intent(self, request: web.Request) -> web.StreamResponse:
        return await self.look(request, "read", lambda: (200, self.intent(self._payment(request))))

    def _payment(self, request: web.Request) -> Payment:
        return self.find_payment(request.match_info["id"])

    async def list_intents(self, request: web.Request) -> web.StreamResponse:
        customer = request.query.get("customer", "")
        found = [each for each in self.books.payments.values() if each.customer == customer]
        return await self.look(
            request, "find", lambda: (200, page([self.intent(each) for each in found], request))
        )

    async def capture_intent(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            payment = self._payment(request)
            if payment.state != "authorized":
                raise Refused(400, "payment_intent_unexpected_state", payment.state)
            units = form.units("amount_to_capture")
            if units > payment.amount:
                raise Refused(400, "amount_too_large", "more than can be captured")
            return 200, self.intent(self.move(payment, "succeeded", units))

        key = request.headers.get(self.key_header, "")
        return await self.change(request, "capture", work, key=key)

    async def cancel_intent(self, request: web.Request) -> web.StreamResponse:
        def work(_: Faults) -> Answered:
            payment = self._payment(request)
            if payment.state == "declined":
                self.books.put("closed", payment.id, {})
                return 200, self.intent(payment)
            if payment.state not in ("authorized", "requires_action"):
                raise Refused(400, "payment_intent_unexpected_state", payment.state)
            return 200, self.intent(self.move(payment, "canceled"))

        key = request.headers.get(self.key_header, "")
        return await self.change(request, "cancel", work, key=key)

    # --- refunds ----------------------------------------------------------------------------------

    async def create_refund(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        reference = form.text("metadata[tollgate_refund]")

        def work(faults: Faults) -> Answered:
            payment = self.books.payments.get(form.text("payment_intent"))
            if payment is None:
                raise Refused(404, "resource_missing", "No such payment_intent")
            return 200, self.shown_refund(self.refund(payment, reference, form.units(), faults))

        key = request.headers.get(self.key_header, "")
        return await self.change(request, "refund", work, key=key, reference=reference)

    def shown_refund(self, refund: Refund) -> dict[str, Any]:
        status = _REFUNDS.get(refund.state, "failed")
        return {
            "id": refund.id,
            "object": "refund",
            "amount": refund.amount,
            "currency": refund.currency.lower(),
            "payment_intent": refund.payment_id,
            "metadata": {"tollgate_refund": refund.reference},
            "status": status,
            "failure_reason": "declined" if status == "failed" else None,
        }

    async def read_refund(self, request: web.Request) -> web.StreamResponse:
        return await self.look(
            request,
            "read_refund",
            lambda: (200, self.shown_refund(self.find_refund(request.match_info["id"]))),
        )

    async def list_refunds(self, request: web.Request) -> web.StreamResponse:
        intent = request.query.get("payment_intent", "")
        found = [each for each in self.books.refunds.values() if each.payment_id == intent]
        shown = [self.shown_refund(each) for each in found]
        return await self.look(request, "find_refund", lambda: (200, page(shown, request)))

    # --- customers, methods, pages ----------------------------------------------------------------

    async def create_customer(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            number = str(len(self.books.all("customer")))
            identifier = f"cus_{self.books.derive('customer', number)}"
            made = {"id": identifier, "object": "customer", "email": form.text("email")}
            return 200, self.books.put("customer", identifier, made)

        return await self.change(
            request, "customer", work, key=request.headers.get(self.key_header, "")
        )

    def method(self, token: str) -> dict[str, Any]:
        """A payment method; one of the magic tokens belongs to the customer of all tests."""
        stored = self.books.get("method", token)
        if stored is None:
            try:
                self.behaviour(token)
            except NoSuchMethod:
                raise Refused(404, "resource_missing", "No such PaymentMethod") from None
        gone = stored is not None and stored.get("gone", False)
        customer = stored["customer"] if stored else "cus_everybody"
        card = {"brand": "visa", "last4": "0042", "exp_month": 12, "exp_year": 2034}
        return {
            "id": token,
            "object": "payment_method",
            "type": "card",
            "customer": None if gone else customer,
            "card": card,
        }

    async def read_method(self, request: web.Request) -> web.StreamResponse:
        token = request.match_info["id"]
        return await self.look(request, "method", lambda: (200, self.method(token)))

    async def list_methods(self, request: web.Request) -> web.StreamResponse:
        methods = self.methods_of(request.query.get("customer", ""))
        shown = [self.method(each["id"]) for each in methods]
        return await self.look(request, "method", lambda: (200, page(shown, request)))

    async def detach_method(self, request: web.Request) -> web.StreamResponse:
        token = request.match_info["id"]

        def work(_: Faults) -> Answered:
            self.forget(token)
            return 200, self.method(token)

        return await self.change(
            request, "detach", work, key=request.headers.get(self.key_header, "")
        )

    async def create_session(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            pays = form.text("mode") == "payment"
            product = "line_items[0][price_data][product_data][name]"
            made = self.open_page(
                mode="PAY" if pays else "SETUP",
                reference=form.text("client_reference_id"),
                customer=form.text("customer"),
                return_url=form.text("success_url"),
                units=form.units("line_items[0][price_data][unit_amount]") if pays else 0,
                currency=form.text("line_items[0][price_data][currency]").upper(),
                description=form.text(product),
                expire=int(form.text("expires_at") or 0),
            )
            return 200, self.session(made)

        return await self.change(
            request, "session", work, key=request.headers.get(self.key_header, "")
        )

    def session(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """A Checkout Session, with what came of it."""
        states = {"open": "open", "complete": "complete", "canceled": "expired"}
        payment = self.books.payments.get(made.get("payment", ""))
        stored = self.method(made["token"]) if made.get("token") else None
        intent = {**self.intent(payment), "payment_method": stored} if payment else None
        setup = {"id": f"seti_{made['id']}", "payment_method": stored} if stored else None
        return {
            "id": made["id"],
            "object": "checkout.session",
            "status": states[made["state"]],
            "url": made["url"] if made["state"] == "open" else None,
            "customer": made["customer"] or None,
            "client_reference_id": made["reference"],
            "expires_at": made["expire"] or None,
            "payment_intent": intent,
            "setup_intent": setup if made["mode"] == "SETUP" else None,
        }

    async def read_session(self, request: web.Request) -> web.StreamResponse:
        return await self.look(
            request,
            "session",
            lambda: (200, self.session(self.find_thing("page", request.match_info["id"]))),
        )

    # --- events -----------------------------------------------------------------------------------

    def tell_payment(self, payment: Payment, secret: str) -> Told | None:
        kind = _KINDS.get(payment.state)
        if kind is None:
            return None
        return self._told(kind, self.intent(payment), payment.id, payment.step)

    def tell_refund(self, refund: Refund, secret: str) -> Told | None:
        kind = "refund.created" if refund.step == 0 else "refund.updated"
        return self._told(kind, self.shown_refund(refund), refund.id, refund.step)

    def _told(self, kind: str, subject: Any, about: str, number: int) -> Told:
        told = self.tell(kind, subject, about, number)
        return Told(told["id"], kind, json.dumps(_event(told)).encode())

    def headers(self, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        stamp = str(int(now.timestamp()))
        digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
        return {"stripe-signature": f"t={stamp},v1={digest.hexdigest()}"}

    async def list_events(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query.get("created[gte]", 0))
        told = [each for each in self.books.all("event") if each["time"] >= since]
        shown = [_event(each) for each in told]
        return await self.look(request, "events", lambda: (200, page(shown, request)))


def _event(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": told["id"],
        "object": "event",
        "type": told["kind"],
        "created": int(told["time"]),
        "data": {"object": told["subject"]},
    }


def page(shown: list[dict[str, Any]], request: web.Request) -> dict[str, Any]:
    """A page of a list, newest first, after the id that the request names."""
    newest, after = shown[::-1], request.query.get("starting_after", "")
    start = next((at + 1 for at, each in enumerate(newest) if each["id"] == after), 0)
    limit = Form({"limit": request.query.get("limit", "10")}).units("limit")
    part = newest[start : start + limit]
    return {"object": "list", "data": part, "has_more": start + limit < len(newest)}
