"""Paddle's paths over the sandbox's books: transactions, charged subscriptions, adjustments."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway.sandbox.behaviour import Faults, NoSuchMethod
from gateway.sandbox.books import Payment, Refund
from gateway.sandbox.dialect import Answered, Dialect, Form
from gateway.sandbox.http import Refused
from gateway.sandbox.postman import Told

_STATUSES = {
    "succeeded": "completed",
    "authorized": "paid",
    "processing": "billed",
    "requires_action": "ready",
    "declined": "ready",
    "canceled": "canceled",
    "reversed": "past_due",
}
_KINDS = {
    "succeeded": "transaction.completed",
    "declined": "transaction.payment_failed",
    "canceled": "transaction.canceled",
}
_ADJUSTMENTS = {
    "succeeded": "approved",
    "processing": "pending_approval",
    "declined": "rejected",
    "reversed": "reversed",
}
_TAKEN_BACK = ("rejected", "reversed")


class PaddleDialect(Dialect):
    """Customers, transactions with their pages, subscription charges, adjustments, events."""

    name = "paddle"
    declines = {  # noqa: RUF012
        "insufficient_funds": "not_enough_balance",
        "do_not_honor": "declined",
        "processing_error": "psp_error",
        "expired_card": "expired_card",
        "card_not_supported": "declined_not_retryable",
        "stolen_card": "fraud",
    }

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/customers", self.create_customer),
            web.get("/customers/{id}/payment-methods", self.list_methods),
            web.delete("/customers/{customer}/payment-methods/{id}", self.forget_method),
            web.get("/subscriptions", self.list_subscriptions),
            web.post("/subscriptions/{id}/charge", self.pay),
            web.post("/transactions", self.create_transaction),
            web.get("/transactions", self.list_transactions),
            web.get("/transactions/{id}", self.read_transaction),
            web.patch("/transactions/{id}", self.cancel),
            web.post("/adjustments", self.send_back),
            web.get("/adjustments", self.list_adjustments),
            web.get("/events", self.list_events),
        ]

    def error(self, refused: Refused) -> Any:
        kind = "api_error" if refused.status >= 500 else "request_error"
        return {"error": {"type": kind, "code": refused.code, "detail": str(refused)}}

    def magic(self, token: str) -> str:
        return super().magic(token.removeprefix("sub_"))

    # --- transactions -----------------------------------------------------------------------------

    async def pay(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        subscription = request.match_info["id"]
        price = (form.fields.get("items") or [{}])[0].get("price") or {}
        reference = (price.get("custom_data") or {}).get("tollgate_attempt", "")
        unit_price = Form(price.get("unit_price") or {})

        def work(faults: Faults) -> Answered:
            try:
                payment = self.charge(
                    reference,
                    unit_price.units(),
                    unit_price.text("currency_code"),
                    subscription,
                    subscription,
                    faults=faults,
                )
            except NoSuchMethod:
                raise Refused(404, "not_found", "Entity not found") from None
            if payment.state == "declined":
                # The transaction stays: it is where the reason is.
                error = {"type": "request_error", "code": "subscription_payment_declined"}
                return 400, {"error": {**error, "detail": "Payment declined"}}
            return 200, {"data": {"id": subscription, "status": "active"}}

        return await self.change(request, "charge", work, reference=reference, method=subscription)

    def transaction(self, payment: Payment) -> dict[str, Any]:
        """A transaction as the API shows it."""
        total = str(payment.captured if payment.state == "succeeded" else payment.amount)
        attempts = []
        if payment.state == "declined":
            attempts = [
                {
                    "created_at": payment.time,
                    "status": "error",
                    "error_code": self.decline_word(payment.decline_code),
                }
            ]
        subscription = payment.customer if payment.customer.startswith("sub_") else None
        custom = {"tollgate_attempt": payment.reference}
        return {
            "id": payment.id,
            "status": _STATUSES[payment.state],
            "origin": "subscription_charge" if subscription else "api",
            "subscription_id": subscription,
            "customer_id": None if subscription else payment.customer or None,
            "currency_code": payment.currency,
            "custom_data": None if subscription else custom,
            "items": [{"price": {"custom_data": custom}, "quantity": 1}],
            "details": {
                "totals": {"total": total, "grand_total": total},
                "line_items": [{"id": f"txnitm_{payment.id}", "totals": {"total": total}}],
            },
            "payments": attempts,
            "created_at": payment.time,
        }

    def open_transaction(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """A transaction that waits for its payer on a page, or was paid there."""
        payment = self.books.payments.get(made.get("payment", ""))
        if payment is not None:
            return {**self.transaction(payment), "id": made["id"]}
        states = {"open": "ready", "canceled": "canceled", "complete": "completed"}
        total = str(made["units"])
        custom = {"tollgate_attempt": made["reference"]}
        return {
            "id": made["id"],
            "status": states[made["state"]],
            "origin": "api",
            "customer_id": made["customer"] or None,
            "currency_code": made["currency"],
            "custom_data": custom,
            "items": [{"price": {"custom_data": custom}, "quantity": 1}],
            "details": {"totals": {"total": total, "grand_total": total}, "line_items": []},
            "payments": [],
            "checkout": {"url": made["url"]},
            "created_at": made["time"],
        }

    async def create_transaction(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        reference = (form.fields.get("custom_data") or {}).get("tollgate_attempt", "")
        price = (form.fields.get("items") or [{}])[0].get("price") or {}

        def work(_: Faults) -> Answered:
            made = self.open_page(
                mode="PAY",
                reference=reference,
                customer=form.text("customer_id") if form.fields.get("customer_id") else "",
                return_url="",
                units=Form(price.get("unit_price") or {}).units(),
                currency=form.text("currency_code"),
                description=str(price.get("description", "")),
                time=datetime.now(UTC).isoformat(),
            )
            return 201, {"data": self.open_transaction(made)}

        return await self.change(request, "session", work, reference=reference)

    def _shown(self, identifier: str) -> dict[str, Any]:
        made = self.books.get("page", identifier)
        if made is not None:
            return self.open_transaction(made)
        return self.transaction(self.find_payment(identifier))

    async def read_transaction(self, request: web.Request) -> web.StreamResponse:
        return await self.look(
            request, "read", lambda: (200, {"data": self._shown(request.match_info["id"])})
        )

    async def list_transactions(self, request: web.Request) -> web.StreamResponse:
        subscription = request.query.get("subscription_id", "")
        customer = request.query.get("customer_id", "")
        shown = [
            self.transaction(each)
            for each in self.books.payments.values()
            if each.customer == (subscription or customer)
        ]
        if customer:
            pages = [each for each in self.books.all("page") if each["customer"] == customer]
            shown = [self.open_transaction(each) for each in pages]
        return await self.look(request, "find", lambda: (200, page(shown, request)))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        def work(_: Faults) -> Answered:
            identifier = request.match_info["id"]
            made = self.books.get("page", identifier)
            if made is not None and made["state"] == "open":
                self.books.put("page", identifier, {**made, "state": "canceled"})
                return 200, {"data": self._shown(identifier)}
            shown = self._shown(identifier)
            if shown["status"] not in ("ready", "canceled"):
                raise Refused(400, "transaction_immutable", f"it is {shown['status']}")
            return 200, {"data": {**shown, "status": "canceled"}}

        return await self.change(request, "cancel", work)

    # --- adjustments ------------------------------------------------------------------------------

    async def send_back(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        reason = form.text("reason")

        def work(faults: Faults) -> Answered:
            identifier = form.text("transaction_id")
            made = self.books.get("page", identifier)
            payment = self.find_payment(made["payment"] if made else identifier)
            items = form.fields.get("items") or []
            units = sum(int(each["amount"]) for each in items) or payment.captured
            reference = reason.rpartition("[")[2].rstrip("]")
            refund = self.refund(payment, reference, units, faults)
            self.books.put("reason", refund.id, {"reason": reason})
            return 201, {"data": self.adjustment(refund)}

        return await self.change(request, "refund", work, reference=reason)

    def adjustment(self, refund: Refund) -> dict[str, Any]:
        total = str(refund.amount)
        item = {"item_id": f"txnitm_{refund.payment_id}", "amount": total}
        return {
            "id": refund.id,
            "action": "refund",
            "transaction_id": refund.payment_id,
            "reason": (self.books.get("reason", refund.id) or {}).get("reason", ""),
            "status": _ADJUSTMENTS[refund.state],
            "currency_code": refund.currency,
            "totals": {"total": total},
            "items": [{**item, "totals": {"total": total}}],
        }

    async def list_adjustments(self, request: web.Request) -> web.StreamResponse:
        transaction, identifier = request.query.get("transaction_id", ""), request.query.get("id")
        shown = [
            self.adjustment(each)
            for each in self.books.refunds.values()
            if transaction in ("", each.payment_id) and identifier in (None, each.id)
        ]
        on = "find_refund" if transaction else "read_refund"
        return await self.look(request, on, lambda: (200, page(shown, request)))

    # --- customers and methods --------------------------------------------------------------------

    async def create_customer(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            identifier = f"ctm_{self.books.derive('customer', form.text('email'))}00"
            if self.books.get("customer", identifier) is not None:
                text = f"customer email conflicts with customer of id {identifier}"
                raise Refused(409, "customer_already_exists", text)
            made = {"id": identifier, "email": form.text("email")}
            return 201, {"data": self.books.put("customer", identifier, made)}

        return await self.change(request, "customer", work)

    async def list_subscriptions(self, request: web.Request) -> web.StreamResponse:
        return await self.look(request, "method", lambda: (200, page([], request)))

    async def list_methods(self, request: web.Request) -> web.StreamResponse:
        customer = request.match_info["id"]
        shown = [
            {
                "id": f"paymtd_{each['id']}",
                "customer_id": customer,
                "type": "card",
                "card": {"type": "visa", "last4": "0042", "expiry_month": 12, "expiry_year": 2034},
            }
            for each in self.methods_of(customer)
        ]
        return await self.look(request, "method", lambda: (200, page(shown, request)))

    async def forget_method(self, request: web.Request) -> web.StreamResponse:
        def work(_: Faults) -> Answered:
            self.forget(request.match_info["id"].removeprefix("paymtd_"))
            return 204, None

        return await self.change(request, "detach", work)

    # --- events -----------------------------------------------------------------------------------

    def tell_payment(self, payment: Payment, secret: str) -> Told | None:
        kind = _KINDS.get(payment.state)
        if kind is None:
            return None
        return self._told(kind, self.transaction(payment), payment.id, payment.step)

    def tell_refund(self, refund: Refund, secret: str) -> Told | None:
        kind = "adjustment.created" if refund.step == 0 else "adjustment.updated"
        return self._told(kind, self.adjustment(refund), refund.id, refund.step)

    def _told(self, kind: str, subject: Any, about: str, number: int) -> Told:
        told = self.tell(kind, subject, about, number)
        return Told(told["id"], kind, json.dumps(_event(told)).encode())

    def headers(self, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        stamp = str(int(now.timestamp()))
        digest = hmac.new(secret.encode(), stamp.encode() + b":" + body, hashlib.sha256)
        return {"paddle-signature": f"ts={stamp};h1={digest.hexdigest()}"}

    async def list_events(self, request: web.Request) -> web.StreamResponse:
        shown = [_event(each) for each in self.books.all("event")]
        return await self.look(request, "events", lambda: (200, page(shown, request, "event_id")))


def _event(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "event_id": told["id"],
        "event_type": told["kind"],
        "occurred_at": datetime.fromtimestamp(told["time"], UTC).isoformat(),
        "data": told["subject"],
    }


def page(shown: list[dict[str, Any]], request: web.Request, name: str = "id") -> dict[str, Any]:
    """A page of a list, newest first, after the id that the request names."""
    newest, after = shown[::-1], request.query.get("after", "")
    start = next((at + 1 for at, each in enumerate(newest) if each[name] == after), 0)
    limit = int(request.query.get("per_page", "50"))
    part = newest[start : start + limit]
    pagination = {"per_page": limit, "next": "", "has_more": start + limit < len(newest)}
    return {"data": part, "meta": {"pagination": {**pagination, "estimated_total": len(shown)}}}
