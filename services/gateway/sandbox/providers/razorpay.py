"""Razorpay's paths over the sandbox's books: an order for each attempt, payments inside it."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
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
    "succeeded": "captured",
    "authorized": "authorized",
    "processing": "created",
    "requires_action": "created",
    "declined": "failed",
    "canceled": "refunded",
    "reversed": "failed",
}
_KINDS = {
    "succeeded": "payment.captured",
    "authorized": "payment.authorized",
    "declined": "payment.failed",
}
_REFUNDS = {"succeeded": "processed", "processing": "pending"}


class RazorpayDialect(Dialect):
    """Orders, recurring payments, captures, refunds, customers, links, tokens."""

    name = "razorpay"
    key_header = "x-refund-idempotency"
    declines = {  # noqa: RUF012
        "insufficient_funds": "insufficient_funds",
        "do_not_honor": "card_declined",
        "processing_error": "gateway_technical_error",
        "expired_card": "card_expired",
        "authentication_failed": "authentication_failed",
        "card_not_supported": "card_number_invalid",
        "stolen_card": "payment_risk_check_failed",
    }

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/orders", self.create_order),
            web.get("/orders", self.list_orders),
            web.get("/orders/{id}/payments", self.list_of_order),
            web.post("/payments/create/recurring", self.pay),
            web.get("/payments", self.list_payments),
            web.get("/payments/{id}", self.read_payment),
            web.post("/payments/{id}/capture", self.capture),
            web.post("/payments/{id}/refund", self.send_back),
            web.get("/payments/{id}/refunds", self.list_refunds),
            web.get("/refunds/{id}", self.read_refund),
            web.post("/customers", self.create_customer),
            web.get("/customers/{customer}/tokens", self.list_tokens),
            web.get("/customers/{customer}/tokens/{id}", self.read_token),
            web.delete("/customers/{customer}/tokens/{id}", self.forget_token),
            web.post("/payment_links", self.create_link),
            web.get("/payment_links", self.list_links),
            web.get("/payment_links/{id}", self.read_link),
            web.post("/subscription_registration/auth_links", self.create_setup),
            web.get("/invoices/{id}", self.read_setup),
        ]

    def error(self, refused: Refused) -> Any:
        return bad_request(str(refused), refused.code)

    def conflict(self, first: Kept | None) -> Answered:
        if first is None:
            return 409, bad_request("Request with this idempotency key is in progress", "NA")
        text = "Different request body sent for the same Idempotency Header"
        return 400, bad_request(text, "NA")

    # --- orders and payments ----------------------------------------------------------------------

    async def create_order(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            number = str(len(self.books.all("order")))
            order: dict[str, Any] = {
                "id": f"order_{self.books.derive('order', number)}",
                "entity": "order",
                "amount": form.units(),
                "currency": form.text("currency"),
                "receipt": form.text("receipt"),
                "status": "created",
                "captures": bool(form.fields.get("payment_capture", True)),
            }
            return 200, self.books.put("order", order["id"], order)

        return await self.change(request, "order", work, reference=form.text("receipt"))

    async def list_orders(self, request: web.Request) -> web.StreamResponse:
        receipt = request.query.get("receipt", "")
        found = [each for each in self.books.all("order") if each["receipt"] == receipt]
        return await self.look(request, "find", lambda: (200, listed(found)))

    async def pay(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        token, order_id = form.text("token"), form.text("order_id")

        def work(faults: Faults) -> Answered:
            order = self.find_thing("order", order_id)
            if order["status"] == "paid":
                raise Refused(400, "order_already_paid", "Order is already paid")
            try:
                payment = self.charge(
                    order["receipt"],
                    form.units(),
                    form.text("currency"),
                    token,
                    form.text("customer_id"),
                    capture=order["captures"],
                    faults=faults,
                )
            except NoSuchMethod:
                raise Refused(400, "token_not_found", "The id provided does not exist") from None
            self.books.put("of_order", payment.id, {"order": order_id, "token": token})
            good = payment.state in ("succeeded", "authorized", "processing")
            self.books.put("order", order_id, {**order, "status": "paid" if good else "attempted"})
            if payment.state == "declined":
                shown = bad_request("Payment failed", self.decline_word(payment.decline_code))
                shown["error"]["metadata"] = {"payment_id": payment.id, "order_id": order_id}
                return 400, shown
            return 200, {"razorpay_payment_id": payment.id, "razorpay_order_id": order_id}

        reference = (self.books.get("order", order_id) or {}).get("receipt", "")
        return await self.change(request, "charge", work, reference=reference, method=token)

    def payment(self, payment: Payment) -> dict[str, Any]:
        within = self.books.get("of_order", payment.id) or {}
        shown: dict[str, Any] = {
            "id": payment.id,
            "entity": "payment",
            "amount": payment.amount,
            "currency": payment.currency,
            "status": _STATUSES[payment.state],
            "method": "card",
            "order_id": within.get("order"),
            "captured": payment.state == "succeeded",
            "customer_id": payment.customer,
            "token_id": within.get("token"),
            "notes": {"tollgate_attempt": payment.reference},
            "created_at": int(datetime.fromisoformat(payment.time).timestamp()),
        }
        if payment.state in ("declined", "reversed"):
            shown["error_code"] = "BAD_REQUEST_ERROR"
            shown["error_reason"] = self.decline_word(payment.decline_code)
        return shown

    async def read_payment(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            return 200, self.payment(self._payment(request))

        return await self.look(request, "read", work)

    def _payment(self, request: web.Request) -> Payment:
        payment = self.books.payments.get(request.match_info["id"])
        if payment is None:
            raise Refused(400, "input_validation_failed", "The id provided does not exist")
        return payment

    async def list_of_order(self, request: web.Request) -> web.StreamResponse:
        order = request.match_info["id"]
        found = [
            self.payment(self.books.payments[payment])
            for payment, within in self.books.things.get("of_order", {}).items()
            if within["order"] == order
        ]
        return await self.look(request, "find", lambda: (200, listed(found)))

    async def list_payments(self, request: web.Request) -> web.StreamResponse:
        since, skip = int(request.query.get("from", 0)), int(request.query.get("skip", 0))
        count = int(request.query.get("count", 10))
        shown = [self.payment(each) for each in self.books.payments.values()][::-1]
        part = [each for each in shown if each["created_at"] >= since][skip : skip + count]
        return await self.look(request, "events", lambda: (200, listed(part)))

    async def capture(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            payment = self._payment(request)
            if payment.state == "succeeded":
                raise Refused(400, "NA", "This payment has already been captured")
            if payment.state != "authorized":
                raise Refused(400, "NA", f"The payment is {payment.state}")
            if form.units() != payment.amount:
                raise Refused(400, "NA", "Capture amount must be equal to the amount authorized")
            return 200, self.payment(self.move(payment, "succeeded", payment.amount))

        return await self.change(request, "capture", work)

    # --- refunds ----------------------------------------------------------------------------------

    async def send_back(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        reference = form.text("receipt")

        def work(faults: Faults) -> Answered:
            refund = self.refund(self._payment(request), reference, form.units(), faults)
            return 200, self.shown_refund(refund)

        key = request.headers.get(self.key_header, "")
        return await self.change(request, "refund", work, key=key, reference=reference)

    def shown_refund(self, refund: Refund) -> dict[str, Any]:
        return {
            "id": refund.id,
            "entity": "refund",
            "amount": refund.amount,
            "currency": refund.currency,
            "payment_id": refund.payment_id,
            "receipt": refund.reference,
            "notes": {"tollgate_refund": refund.reference},
            "status": _REFUNDS.get(refund.state, "failed"),
        }

    async def read_refund(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            return 200, self.shown_refund(self.find_refund(request.match_info["id"]))

        return await self.look(request, "read_refund", work)

    async def list_refunds(self, request: web.Request) -> web.StreamResponse:
        payment = request.match_info["id"]
        found = [
            self.shown_refund(each)
            for each in self.books.refunds.values()
            if each.payment_id == payment
        ]
        return await self.look(request, "find_refund", lambda: (200, listed(found)))

    # --- customers, tokens, links -----------------------------------------------------------------

    async def create_customer(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            who = form.text("email") + form.text("contact")
            identifier = f"cust_{self.books.derive('customer', who)}"
            made = {"id": identifier, "entity": "customer", "email": form.text("email")}
            return 200, self.books.put("customer", identifier, made)

        return await self.change(request, "customer", work)

    def token(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": stored["id"],
            "entity": "token",
            "method": "card",
            "recurring": True,
            "recurring_details": {"status": "confirmed"},
            "card": {"network": "Visa", "last4": "0042", "expiry_month": 12, "expiry_year": 2034},
            "customer_id": stored["customer"],
        }

    async def list_tokens(self, request: web.Request) -> web.StreamResponse:
        found = [self.token(each) for each in self.methods_of(request.match_info["customer"])]
        return await self.look(request, "method", lambda: (200, listed(found)))

    async def read_token(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            return 200, self.token(self.find_thing("method", request.match_info["id"]))

        return await self.look(request, "method", work)

    async def forget_token(self, request: web.Request) -> web.StreamResponse:
        def work(_: Faults) -> Answered:
            self.forget(request.match_info["id"])
            return 200, {"deleted": True}

        return await self.change(request, "detach", work)

    async def create_link(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            return 200, self.link(self._page(form, "PAY", form.text("reference_id")))

        return await self.change(request, "session", work)

    async def create_setup(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            return 200, self.link(self._page(form, "SETUP", form.text("receipt")))

        return await self.change(request, "session", work)

    def _page(self, form: Form, mode: str, reference: str) -> dict[str, Any]:
        number = str(len(self.books.all("page")))
        customer = f"cust_{self.books.derive('page customer', number)}"
        return self.open_page(
            mode=mode,
            reference=reference,
            customer=customer,
            return_url=form.text("callback_url"),
            units=form.units(),
            currency=form.text("currency"),
            description=form.text("description"),
        )

    def link(self, made: Mapping[str, Any]) -> dict[str, Any]:
        states = {"open": "created", "complete": "paid", "canceled": "cancelled"}
        payment = made.get("payment", "")
        return {
            "id": made["id"],
            "status": states[made["state"]],
            "short_url": made["url"],
            "reference_id": made["reference"],
            "customer_id": made["customer"],
            "payments": [{"payment_id": payment}] if payment else None,
            "payment_id": made.get("setup_payment") or payment or None,
        }

    def page_done(self, session: dict[str, Any], payment: Payment | None) -> None:
        if session["state"] != "complete" or session["mode"] != "SETUP":
            return
        # A stored card begins with a small payment.
        made = self.charge(
            session["reference"],
            session["units"],
            session["currency"],
            "pm_ok",
            session["customer"],
        )
        self.books.put("of_order", made.id, {"order": "", "token": session["token"]})
        self.books.put("page", session["id"], {**session, "setup_payment": made.id})

    async def read_link(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            return 200, self.link(self.find_thing("page", request.match_info["id"]))

        return await self.look(request, "session", work)

    read_setup = read_link

    async def list_links(self, request: web.Request) -> web.StreamResponse:
        reference = request.query.get("reference_id", "")
        found = [
            self.link(each) for each in self.books.all("page") if each["reference"] == reference
        ]
        return await self.look(request, "session", lambda: (200, {"payment_links": found}))

    # --- notifications ----------------------------------------------------------------------------

    def tell_payment(self, payment: Payment, secret: str) -> Told | None:
        kind = _KINDS.get(payment.state)
        if kind is None:
            return None
        return self._told(kind, "payment", self.payment(payment), payment.id, payment.step)

    def tell_refund(self, refund: Refund, secret: str) -> Told | None:
        status = _REFUNDS.get(refund.state, "failed")
        kind = f"refund.{'created' if status == 'pending' else status}"
        return self._told(kind, "refund", self.shown_refund(refund), refund.id, refund.step)

    def _told(self, kind: str, name: str, subject: Any, about: str, number: int) -> Told:
        told = self.tell(kind, subject, about, number)
        content = {
            "entity": "event",
            "event": kind,
            "contains": [name],
            "payload": {name: {"entity": subject}},
            "created_at": int(time.time()),
        }
        return Told(told["id"], kind, json.dumps(content).encode())

    def headers(self, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return {"x-razorpay-signature": digest}


def bad_request(description: str, reason: str) -> dict[str, Any]:
    """An error's body."""
    return {"error": {"code": "BAD_REQUEST_ERROR", "description": description, "reason": reason}}


def listed(found: list[dict[str, Any]]) -> dict[str, Any]:
    """A collection's body."""
    return {"entity": "collection", "count": len(found), "items": found}
