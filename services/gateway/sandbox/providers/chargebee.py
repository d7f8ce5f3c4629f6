"""Chargebee's paths over the sandbox's books: invoices that are collected, transactions, pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from gateway.sandbox.behaviour import Faults, NoSuchMethod
from gateway.sandbox.books import Kept, Payment, Refund
from gateway.sandbox.dialect import Answered, Dialect
from gateway.sandbox.http import Refused
from gateway.sandbox.postman import Told

ROOT = "/api/v2"
_STATUSES = {
    "succeeded": "success",
    "authorized": "success",
    "processing": "in_progress",
    "requires_action": "needs_attention",
    "declined": "failure",
    "canceled": "voided",
    "reversed": "late_failure",
}
_KINDS = {
    "succeeded": "payment_succeeded",
    "authorized": "authorization_succeeded",
    "processing": "payment_initiated",
    "declined": "payment_failed",
    "canceled": "authorization_voided",
}
_REFUNDS = {
    "succeeded": "success",
    "processing": "in_progress",
    "declined": "failure",
    "reversed": "late_failure",
}


class ChargebeeDialect(Dialect):
    """Customers, sources, invoices, transactions, hosted pages and events."""

    name = "chargebee"
    key_header = "chargebee-idempotency-key"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{ROOT}/customers", self.create_customer),
            web.get(f"{ROOT}/payment_sources", self.list_sources),
            web.post(f"{ROOT}/payment_sources/{{id}}/delete", self.forget_source),
            web.post(f"{ROOT}/invoices/create_for_charge_items_and_charges", self.create_invoice),
            web.get(f"{ROOT}/invoices", self.list_invoices),
            web.get(f"{ROOT}/invoices/{{id}}", self.read_invoice),
            web.get(f"{ROOT}/invoices/{{id}}/payments", self.list_payments),
            web.post(f"{ROOT}/invoices/{{id}}/collect_payment", self.collect),
            web.post(f"{ROOT}/invoices/{{id}}/void", self.void_invoice),
            web.post(f"{ROOT}/transactions/create_authorization", self.authorize),
            web.get(f"{ROOT}/transactions", self.list_transactions),
            web.get(f"{ROOT}/transactions/{{id}}", self.read_transaction),
            web.post(f"{ROOT}/transactions/{{id}}/void", self.void),
            web.post(f"{ROOT}/transactions/{{id}}/refund", self.send_back),
            web.post(f"{ROOT}/hosted_pages/manage_payment_sources", self.create_setup),
            web.post(f"{ROOT}/hosted_pages/checkout_one_time_for_items", self.create_checkout),
            web.get(f"{ROOT}/hosted_pages/{{id}}", self.read_page),
            web.get(f"{ROOT}/events", self.list_events),
        ]

    def error(self, refused: Refused) -> Any:
        kind = "operation_failed" if refused.status >= 500 else "invalid_request"
        return {
            "message": str(refused),
            "type": "payment" if refused.code == "payment_processing_failed" else kind,
            "api_error_code": refused.code,
            "http_status_code": refused.status,
        }

    def conflict(self, first: Kept | None) -> Answered:
        code = "idempotency_key_in_use" if first is None else "idempotency_key_mismatch"
        status = 409 if first is None else 400
        return status, {"type": "invalid_request", "api_error_code": code, "message": code}

    def _key(self, request: web.Request) -> str:
        return request.headers.get(self.key_header, "")

    # --- invoices ---------------------------------------------------------------------------------

    async def create_invoice(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            number = str(len(self.books.all("invoice")) + 1)
            invoice: dict[str, Any] = {
                "id": f"inv_{self.books.derive('invoice', number)}",
                "customer_id": form.text("customer_id"),
                "currency_code": form.text("currency_code"),
                "total": form.units("charges[amount][0]"),
                "po_number": form.text("po_number"),
                "status": "payment_due",
                "date": int(datetime.now().timestamp()),
            }
            self.books.put("invoice", invoice["id"], invoice)
            return 200, {"invoice": self.invoice(invoice["id"])}

        return await self.change(
            request, "invoice", work, key=self._key(request), reference=form.text("po_number")
        )

    def invoice(self, identifier: str) -> dict[str, Any]:
        """An invoice as the API shows it; raises Refused."""
        invoice = self.find_thing("invoice", identifier)
        paid = sum(each.captured for each in self._paid(identifier) if each.state == "succeeded")
        shown = {**invoice, "amount_due": invoice["total"] - paid, "updated_at": invoice["date"]}
        if paid >= invoice["total"]:
            shown["status"] = "paid"
        return shown

    def _paid(self, invoice: str) -> list[Payment]:
        """The payments of an invoice."""
        linked = self.books.things.get("of_invoice", {})
        return [self.books.payments[p] for p, of in linked.items() if of["invoice"] == invoice]

    async def list_invoices(self, request: web.Request) -> web.StreamResponse:
        customer = request.query.get("customer_id[is]", "")
        shown = [
            {"invoice": self.invoice(each["id"])}
            for each in self.books.all("invoice")
            if each["customer_id"] == customer
        ]
        return await self.look(request, "find", lambda: (200, page(shown, request)))

    async def read_invoice(self, request: web.Request) -> web.StreamResponse:
        return await self.look(
            request, "find", lambda: (200, {"invoice": self.invoice(request.match_info["id"])})
        )

    async def list_payments(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            invoice = self.invoice(request.match_info["id"])
            shown = [{"transaction": self.payment(each)} for each in self._paid(invoice["id"])]
            return 200, page(shown, request)

        return await self.look(request, "find", work)

    async def collect(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        token = form.text("payment_source_id")

        def work(faults: Faults) -> Answered:
            invoice = self.invoice(request.match_info["id"])
            if invoice["status"] in ("paid", "voided"):
                raise Refused(400, "invalid_state_for_request", f"it is {invoice['status']}")
            units = form.units()
            held = form.text("authorization_transaction_id")
            if held:
                payment = self._taken_of(held, invoice, units)
            else:
                try:
                    payment = self.charge(
                        invoice["po_number"],
                        units,
                        invoice["currency_code"],
                        token,
                        invoice["customer_id"],
                        faults=faults,
                    )
                except NoSuchMethod:
                    raise Refused(404, "resource_not_found", "no such source") from None
                self.books.put("of_invoice", payment.id, {"invoice": invoice["id"]})
            if payment.state == "declined":
                shown = self.error(Refused(400, "payment_processing_failed", "declined"))
                return 400, shown
            shown = {**self.payment(payment), "linked_invoices": [{"invoice_id": invoice["id"]}]}
            return 200, {"invoice": self.invoice(invoice["id"]), "transaction": shown}

        return await self.change(
            request,
            "charge",
            work,
            key=self._key(request),
            reference=(self.books.get("invoice", request.match_info["id"]) or {}).get(
                "po_number", ""
            ),
            method=token,
        )

    def _taken_of(self, held: str, invoice: Mapping[str, Any], units: int) -> Payment:
        """What an invoice takes of an authorization: in the books it is the same payment."""
        payment = self.find_payment(held)
        if payment.state != "authorized" or units > payment.amount:
            raise Refused(400, "invalid_state_for_request", f"{payment.state}, {payment.amount}")
        self.books.put("of_invoice", payment.id, {"invoice": invoice["id"], "held": True})
        return self.move(payment, "succeeded", units)

    async def void_invoice(self, request: web.Request) -> web.StreamResponse:
        def work(_: Faults) -> Answered:
            invoice = self.find_thing("invoice", request.match_info["id"])
            if self.invoice(invoice["id"])["status"] == "paid":
                raise Refused(400, "invalid_state_for_request", "it is paid")
            self.books.put("invoice", invoice["id"], {**invoice, "status": "voided"})
            return 200, {"invoice": self.invoice(invoice["id"])}

        return await self.change(request, "void", work, key=self._key(request))

    # --- transactions -----------------------------------------------------------------------------

    def payment(self, payment: Payment) -> dict[str, Any]:
        """A payment as a transaction; of an authorization, the payment that took it."""
        of = self.books.get("of_invoice", payment.id) or {}
        refunds = [each for each in self.books.refunds.values() if each.payment_id == payment.id]
        shown: dict[str, Any] = {
            "id": f"txn_{payment.id}" if of.get("held") else payment.id,
            "customer_id": payment.customer,
            "type": "payment",
            "status": _STATUSES[payment.state],
            "gateway": "stripe",
            "amount": payment.captured or payment.amount,
            "currency_code": payment.currency,
            "linked_invoices": [{"invoice_id": of["invoice"]}] if of else [],
            "linked_refunds": [
                {
                    "txn_id": each.id,
                    "txn_amount": each.amount,
                    "txn_status": _REFUNDS[each.state],
                }
                for each in refunds
            ],
        }
        if payment.state == "declined":
            shown["error_code"] = self.decline_word(payment.decline_code)
        return shown

    def transaction(self, payment: Payment) -> dict[str, Any]:
        """What the id of a payment in the books names: itself, or its authorization."""
        if payment.capture:
            return self.payment(payment)
        taken = payment.state == "succeeded"
        linked = {"id": f"txn_{payment.id}", "status": "success", "amount": payment.captured}
        return {
            "id": payment.id,
            "customer_id": payment.customer,
            "type": "authorization",
            "status": _STATUSES[payment.state],
            "gateway": "stripe",
            "amount": payment.amount,
            "currency_code": payment.currency,
            "error_code": self.decline_word(payment.decline_code),
            "linked_payments": [linked] if taken else [],
        }

    def shown_refund(self, refund: Refund) -> dict[str, Any]:
        return {
            "id": refund.id,
            "type": "refund",
            "status": _REFUNDS[refund.state],
            "amount": refund.amount,
            "currency_code": refund.currency,
            "refunded_txn_id": refund.payment_id,
        }

    async def read_transaction(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            identifier = request.match_info["id"]
            if identifier in self.books.refunds:
                return 200, {"transaction": self.shown_refund(self.books.refunds[identifier])}
            if identifier.startswith("txn_"):
                taken = self.find_payment(identifier.removeprefix("txn_"))
                return 200, {"transaction": self.payment(taken)}
            return 200, {"transaction": self.transaction(self.find_payment(identifier))}

        return await self.look(request, "read", work)

    async def list_transactions(self, request: web.Request) -> web.StreamResponse:
        customer, kind = request.query.get("customer_id[is]"), request.query.get("type[is]")
        found = [self.transaction(each) for each in self.books.payments.values()]
        shown = [
            {"transaction": each}
            for each in found
            if each["customer_id"] == customer and kind in (None, each["type"])
        ]
        return await self.look(request, "find", lambda: (200, page(shown, request)))

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        token = form.text("payment_source_id")

        def work(faults: Faults) -> Answered:
            # An authorization carries no reference here; the key is what it is found by.
            try:
                payment = self.charge(
                    self._key(request),
                    form.units(),
                    form.text("currency_code"),
                    token,
                    form.text("customer_id"),
                    capture=False,
                    faults=faults,
                )
            except NoSuchMethod:
                raise Refused(404, "resource_not_found", "no such source") from None
            if payment.state == "declined":
                return 400, self.error(Refused(400, "payment_processing_failed", "declined"))
            return 200, {"transaction": self.transaction(payment)}

        return await self.change(request, "charge", work, key=self._key(request), method=token)

    async def void(self, request: web.Request) -> web.StreamResponse:
        def work(_: Faults) -> Answered:
            payment = self.find_payment(request.match_info["id"])
            if payment.state != "authorized":
                raise Refused(400, "invalid_state_for_request", f"it is {payment.state}")
            return 200, {"transaction": self.transaction(self.move(payment, "canceled"))}

        return await self.change(request, "cancel", work, key=self._key(request))

    async def send_back(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        reference = form.text("comment").rpartition("[")[2].rstrip("]")

        def work(faults: Faults) -> Answered:
            payment = self.find_payment(request.match_info["id"].removeprefix("txn_"))
            refund = self.refund(payment, reference, form.units(), faults)
            return 200, {"transaction": self.shown_refund(refund)}

        return await self.change(
            request, "refund", work, key=self._key(request), reference=reference
        )

    # --- customers, sources, pages ----------------------------------------------------------------

    async def create_customer(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            identifier = form.text("id")
            if self.books.get("customer", identifier) is not None:
                shown = self.error(Refused(400, "duplicate_entry", "it is taken"))
                return 400, {**shown, "param": "id"}
            made = {"id": identifier, "email": form.text("email")}
            return 200, {"customer": self.books.put("customer", identifier, made)}

        return await self.change(request, "customer", work, key=self._key(request))

    def source(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        card = {"brand": "visa", "last4": "0042", "expiry_month": 12, "expiry_year": 2034}
        shown = {"id": stored["id"], "type": "card", "status": "valid", "card": card}
        return {**shown, "customer_id": stored["customer"]}

    async def list_sources(self, request: web.Request) -> web.StreamResponse:
        customer = request.query.get("customer_id[is]", "")
        shown = [{"payment_source": self.source(each)} for each in self.methods_of(customer)]
        return await self.look(request, "method", lambda: (200, page(shown, request)))

    async def forget_source(self, request: web.Request) -> web.StreamResponse:
        def work(_: Faults) -> Answered:
            return 200, {"payment_source": self.source(self.forget(request.match_info["id"]))}

        return await self.change(request, "detach", work, key=self._key(request))

    async def create_setup(self, request: web.Request) -> web.StreamResponse:
        return await self._create_page(request, "SETUP")

    async def create_checkout(self, request: web.Request) -> web.StreamResponse:
        return await self._create_page(request, "PAY")

    async def _create_page(self, request: web.Request, mode: str) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            made = self.open_page(
                mode=mode,
                reference=form.text("invoice[po_number]"),
                customer=form.text("customer[id]"),
                return_url=form.text("redirect_url"),
                units=form.units("charges[amount][0]") if mode == "PAY" else 0,
                currency=form.text("currency_code"),
                description=form.text("charges[description][0]"),
            )
            return 200, {"hosted_page": self.hosted_page(made)}

        return await self.change(request, "session", work, key=self._key(request))

    def page_done(self, session: dict[str, Any], payment: Payment | None) -> None:
        if payment is None:
            return
        invoice = {
            "id": f"inv_{session['id']}",
            "customer_id": session["customer"],
            "currency_code": session["currency"],
            "total": session["units"],
            "po_number": session["reference"],
            "status": "payment_due",
            "date": int(datetime.now().timestamp()),
        }
        self.books.put("invoice", invoice["id"], invoice)
        self.books.put("of_invoice", payment.id, {"invoice": invoice["id"]})

    def hosted_page(self, made: Mapping[str, Any]) -> dict[str, Any]:
        states = {"open": "requested", "complete": "succeeded", "canceled": "cancelled"}
        content: dict[str, Any] = {}
        if made.get("payment"):
            content["invoice"] = {"id": f"inv_{made['id']}"}
        elif made.get("token"):
            content["payment_source"] = self.source(self.find_thing("method", made["token"]))
        state = states[made["state"]]
        return {"id": made["id"], "url": made["url"], "state": state, "content": content}

    async def read_page(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            made = self.find_thing("page", request.match_info["id"])
            return 200, {"hosted_page": self.hosted_page(made)}

        return await self.look(request, "session", work)

    # --- events -----------------------------------------------------------------------------------

    def tell_payment(self, payment: Payment, secret: str) -> Told | None:
        kind = _KINDS.get(payment.state)
        if kind is None:
            return None
        content: dict[str, Any] = {"transaction": self.transaction(payment)}
        if payment.capture:
            content["invoice"] = {"po_number": payment.reference}
        return self._told(kind, content, payment.id, payment.step)

    def tell_refund(self, refund: Refund, secret: str) -> Told | None:
        kind = "payment_refunded" if refund.state == "succeeded" else "refund_initiated"
        return self._told(kind, {"transaction": self.shown_refund(refund)}, refund.id, refund.step)

    def _told(self, kind: str, content: Any, about: str, number: int) -> Told:
        told = self.tell(kind, content, about, number)
        return Told(told["id"], kind, json.dumps(_event(told)).encode())

    def headers(self, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        return {"authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}

    async def list_events(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query.get("occurred_at[after]", 0))
        shown = [
            {"event": _event(each)} for each in self.books.all("event") if each["time"] > since
        ]
        return await self.look(request, "events", lambda: (200, page(shown, request)))


def _event(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": told["id"],
        "event_type": told["kind"],
        "occurred_at": int(told["time"]),
        "content": told["subject"],
    }


def page(shown: list[dict[str, Any]], request: web.Request) -> dict[str, Any]:
    """A page of a list; its offset is how many were seen."""
    offset = request.query.get("offset", "0")
    start = int(offset) if offset.isdigit() else 0
    ordered = shown[::-1] if "sort_by[desc]" in request.query else shown
    limit = int(request.query.get("limit", "10"))
    answered: dict[str, Any] = {"list": ordered[start : start + limit]}
    if start + limit < len(ordered):
        answered["next_offset"] = str(start + limit)
    return answered
