"""GoCardless's paths over the sandbox's books: a bank takes its time, here a tenth of a second."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway.sandbox.behaviour import Behaviour, Faults, NoSuchMethod
from gateway.sandbox.books import Kept, Payment, Refund
from gateway.sandbox.dialect import Answered, Dialect, Form
from gateway.sandbox.http import Refused
from gateway.sandbox.postman import Told

SETTLED_AFTER_SECONDS = 0.1
_STATUSES = {
    "succeeded": "confirmed",
    "processing": "pending_submission",
    "requires_action": "pending_customer_approval",
    "declined": "failed",
    "canceled": "cancelled",
    "reversed": "failed",
}
_ACTIONS = {
    "succeeded": "confirmed",
    "processing": "created",
    "declined": "failed",
    "canceled": "cancelled",
    "reversed": "failed",
}
_REFUNDS = {
    "succeeded": "paid",
    "processing": "submitted",
    "declined": "failed",
    "reversed": "funds_returned",
}


class GoCardlessDialect(Dialect):
    """Payments by mandate, refunds, billing requests with their pages, mandates and events."""

    name = "gocardless"
    declines = {  # noqa: RUF012
        "insufficient_funds": "insufficient_funds",
        "do_not_honor": "refer_to_payer",
        "processing_error": "other",
        "expired_card": "mandate_expired",
        "card_not_supported": "bank_account_closed",
        "stolen_card": "authorisation_disputed",
    }

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/payments", self.pay),
            web.get("/payments", self.list_payments),
            web.get("/payments/{id}", self.read_payment),
            web.post("/payments/{id}/actions/cancel", self.cancel),
            web.post("/refunds", self.send_back),
            web.get("/refunds", self.list_refunds),
            web.get("/refunds/{id}", self.read_refund),
            web.post("/billing_requests", self.create_request),
            web.get("/billing_requests/{id}", self.read_request),
            web.post("/billing_request_flows", self.create_flow),
            web.get("/billing_request_flows/{id}", self.read_flow),
            web.get("/mandates", self.list_mandates),
            web.get("/mandates/{id}", self.read_mandate),
            web.post("/mandates/{id}/actions/cancel", self.cancel_mandate),
            web.get("/events", self.list_events),
        ]

    def error(self, refused: Refused) -> Any:
        kind = "invalid_state" if refused.code == "state" else "validation_failed"
        if refused.status >= 500:
            kind = "gocardless"
        return {
            "error": {
                "message": str(refused),
                "type": kind,
                "code": refused.status,
                "errors": [{"reason": refused.code, "message": str(refused)}],
            }
        }

    def conflict(self, first: Kept | None) -> Answered:
        if first is None:
            raise Refused(409, "idempotent_creation_in_progress", "under way")
        return self.repeated(first)

    def repeated(self, first: Kept) -> Answered:
        (made,) = json.loads(first.body).values()
        error = {
            "reason": "idempotent_creation_conflict",
            "message": "A resource has already been created with this idempotency key",
            "links": {"conflicting_resource_id": made["id"]},
        }
        return 409, {"error": {"type": "invalid_state", "code": 409, "errors": [error]}}

    async def _create(
        self, request: web.Request, on: str, resource: str, work: Any
    ) -> web.StreamResponse:
        form = await self.form(request)
        body = Form(form.fields.get(resource) or {})
        metadata = body.fields.get("metadata") or {}
        reference = str(next(iter(metadata.values()), ""))
        links = body.fields.get("links") or {}

        def wrapped(faults: Faults) -> Answered:
            return 201, {resource: work(body, links, reference, faults)}

        return await self.change(
            request,
            on,
            wrapped,
            key=request.headers.get(self.key_header, ""),
            reference=reference,
            method=str(links.get("mandate", "")),
        )

    # --- payments ---------------------------------------------------------------------------------

    async def pay(self, request: web.Request) -> web.StreamResponse:
        def work(
            body: Form, links: Mapping[str, str], reference: str, faults: Faults
        ) -> dict[str, Any]:
            mandate = links.get("mandate", "")
            try:
                payment = self.charge(
                    reference,
                    body.units(),
                    body.text("currency"),
                    mandate,
                    mandate,
                    faults=faults,
                    behaviour=self._in_time(self.behaviour(mandate)),
                )
            except NoSuchMethod:
                raise Refused(422, "mandate_not_found", "Mandate not found") from None
            return self.payment(payment)

        return await self._create(request, "charge", "payments", work)

    def _in_time(self, chosen: Behaviour) -> Behaviour:
        """Whatever it comes to, it comes to it later."""
        if chosen.later or chosen.state == "requires_action":
            return chosen
        return replace(
            chosen, state="processing", later=chosen.state, delay_seconds=SETTLED_AFTER_SECONDS
        )

    def payment(self, payment: Payment) -> dict[str, Any]:
        return {
            "id": payment.id,
            "created_at": payment.time,
            "amount": payment.amount,
            "currency": payment.currency,
            "status": _STATUSES[payment.state],
            "metadata": {"tollgate_attempt": payment.reference},
            "links": {"mandate": payment.customer},
        }

    async def read_payment(self, request: web.Request) -> web.StreamResponse:
        return await self.look(
            request, "read", lambda: (200, {"payments": self.payment(self._payment(request))})
        )

    def _payment(self, request: web.Request) -> Payment:
        return self.find_payment(request.match_info["id"])

    async def list_payments(self, request: web.Request) -> web.StreamResponse:
        mandate = request.query.get("mandate", "")
        shown = [
            self.payment(each) for each in self.books.payments.values() if each.customer == mandate
        ]
        return await self.look(request, "find", lambda: (200, page("payments", shown, request)))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        def work(_: Faults) -> Answered:
            payment = self._payment(request)
            if payment.state not in ("processing", "canceled"):
                raise Refused(422, "cancellation_failed", f"the payment is {payment.state}")
            if payment.state == "processing":
                payment = self.move(payment, "canceled")
            return 200, {"payments": self.payment(payment)}

        return await self.change(request, "cancel", work)

    # --- refunds ----------------------------------------------------------------------------------

    async def send_back(self, request: web.Request) -> web.StreamResponse:
        def work(
            body: Form, links: Mapping[str, str], reference: str, faults: Faults
        ) -> dict[str, Any]:
            payment = self.books.payments.get(links.get("payment", ""))
            if payment is None:
                raise Refused(422, "resource_not_found", "Payment not found")
            total = self.books.refunded(payment.id) + body.units()
            if body.units("total_amount_confirmation") != total:
                raise Refused(422, "total_amount_confirmation_invalid", f"the total is {total}")
            return self.shown_refund(self.refund(payment, reference, body.units(), faults))

        return await self._create(request, "refund", "refunds", work)

    def shown_refund(self, refund: Refund) -> dict[str, Any]:
        return {
            "id": refund.id,
            "amount": refund.amount,
            "currency": refund.currency,
            "status": _REFUNDS[refund.state],
            "metadata": {"tollgate_refund": refund.reference},
            "links": {"payment": refund.payment_id},
        }

    async def read_refund(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            return 200, {"refunds": self.shown_refund(self.find_refund(request.match_info["id"]))}

        return await self.look(request, "read_refund", work)

    async def list_refunds(self, request: web.Request) -> web.StreamResponse:
        payment = request.query.get("payment", "")
        shown = [
            self.shown_refund(each)
            for each in self.books.refunds.values()
            if each.payment_id == payment
        ]
        return await self.look(
            request, "find_refund", lambda: (200, page("refunds", shown, request))
        )

    # --- billing requests -------------------------------------------------------------------------

    async def create_request(self, request: web.Request) -> web.StreamResponse:
        def work(
            body: Form, links: Mapping[str, str], reference: str, faults: Faults
        ) -> dict[str, Any]:
            pays = body.fields.get("payment_request")
            wanted = Form(pays or body.fields.get("mandate_request") or {})
            number = str(len(self.books.all("customer")))
            customer = links.get("customer") or f"CU{self.books.derive('customer', number)}"
            self.books.put("customer", customer, {"id": customer})
            made = self.open_page(
                mode="PAY" if pays else "SETUP",
                reference=reference,
                customer=customer,
                return_url="",
                units=wanted.units() if pays else 0,
                currency=wanted.text("currency"),
                description=wanted.text("description"),
            )
            return self.billing_request(made)

        return await self._create(request, "session", "billing_requests", work)

    def billing_request(self, made: Mapping[str, Any]) -> dict[str, Any]:
        states = {"open": "pending", "complete": "fulfilled", "canceled": "cancelled"}
        links = {"customer": made["customer"]}
        if made.get("payment"):
            links["payment_request_payment"] = made["payment"]
        if made.get("token") and made["mode"] == "SETUP":
            links["mandate_request_mandate"] = made["token"]
        return {"id": made["id"], "status": states[made["state"]], "links": links}

    async def read_request(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            made = self.find_thing("page", request.match_info["id"])
            return 200, {"billing_requests": self.billing_request(made)}

        return await self.look(request, "session", work)

    async def create_flow(self, request: web.Request) -> web.StreamResponse:
        def work(
            body: Form, links: Mapping[str, str], reference: str, faults: Faults
        ) -> dict[str, Any]:
            made = self.find_thing("page", links.get("billing_request", ""))
            self.books.put("page", made["id"], {**made, "return_url": body.text("redirect_uri")})
            return self.books.put(
                "flow",
                f"BRF{made['id']}",
                {"id": f"BRF{made['id']}", "authorisation_url": made["url"]},
            )

        return await self._create(request, "session", "billing_request_flows", work)

    async def read_flow(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            flow = self.find_thing("flow", request.match_info["id"])
            return 200, {"billing_request_flows": flow}

        return await self.look(request, "session", work)

    # --- mandates ---------------------------------------------------------------------------------

    def mandate(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        status = "cancelled" if stored.get("gone") else "active"
        links = {"customer": stored["customer"]}
        return {"id": stored["id"], "scheme": "sepa_core", "status": status, "links": links}

    async def read_mandate(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            stored = self.find_thing("method", request.match_info["id"])
            return 200, {"mandates": self.mandate(stored)}

        return await self.look(request, "method", work)

    async def list_mandates(self, request: web.Request) -> web.StreamResponse:
        customer = request.query.get("customer", "")
        shown = [
            self.mandate(each) for each in self.books.all("method") if each["customer"] == customer
        ]
        return await self.look(request, "method", lambda: (200, page("mandates", shown, request)))

    async def cancel_mandate(self, request: web.Request) -> web.StreamResponse:
        def work(_: Faults) -> Answered:
            return 200, {"mandates": self.mandate(self.forget(request.match_info["id"]))}

        return await self.change(request, "detach", work)

    # --- events -----------------------------------------------------------------------------------

    def tell_payment(self, payment: Payment, secret: str) -> Told | None:
        action = _ACTIONS.get(payment.state)
        if action is None:
            return None
        details: dict[str, Any] = {"origin": "gocardless", "cause": f"payment_{action}"}
        if action == "failed":
            details["cause"] = self.decline_word(payment.decline_code) or "refer_to_payer"
        subject = {
            "resource_type": "payments",
            "action": action,
            "links": {"payment": payment.id},
            "details": details,
        }
        return self._told(subject, payment.id, payment.step)

    def tell_refund(self, refund: Refund, secret: str) -> Told | None:
        links = {"refund": refund.id, "payment": refund.payment_id}
        action = _REFUNDS[refund.state]
        subject = {"resource_type": "refunds", "action": action, "links": links, "details": {}}
        return self._told(subject, refund.id, refund.step)

    def _told(self, subject: dict[str, Any], about: str, number: int) -> Told:
        kind = f"{subject['resource_type']}.{subject['action']}"
        told = self.tell(kind, subject, about, number)
        return Told(told["id"], kind, json.dumps({"events": [_event(told)]}).encode())

    def headers(self, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return {"webhook-signature": digest}

    async def list_events(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        since = query.get("created_at[gte]", "")
        after = datetime.fromisoformat(since).timestamp() if since else 0.0
        shown = [
            _event(each)
            for each in self.books.all("event")
            if each["time"] >= after
            and query.get("action", each["subject"]["action"]) == each["subject"]["action"]
            and query.get("payment", "") in ("", each["subject"]["links"].get("payment"))
        ]
        return await self.look(request, "events", lambda: (200, page("events", shown, request)))


def _event(told: Mapping[str, Any]) -> dict[str, Any]:
    time = datetime.fromtimestamp(told["time"], UTC).isoformat()
    return {"id": told["id"], "created_at": time, **told["subject"]}


def page(resource: str, shown: list[dict[str, Any]], request: web.Request) -> dict[str, Any]:
    """A page of a list, newest first, after the id that the request names."""
    newest, after = shown[::-1], request.query.get("after", "")
    start = next((at + 1 for at, each in enumerate(newest) if each["id"] == after), 0)
    limit = int(request.query.get("limit", "50"))
    part = newest[start : start + limit]
    more = start + limit < len(newest)
    cursors = {"before": None, "after": part[-1]["id"] if more else None}
    return {resource: part, "meta": {"cursors": cursors, "limit": limit}}
