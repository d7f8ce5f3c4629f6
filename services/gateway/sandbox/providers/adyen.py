"""Adyen's paths over the sandbox's books: what is modified is only ever `received`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway.providers.adyen.notifications import signed_text
from gateway.sandbox.behaviour import Faults, NoSuchMethod
from gateway.sandbox.books import Kept, Payment, Refund
from gateway.sandbox.dialect import Answered, Dialect, Form
from gateway.sandbox.http import Refused
from gateway.sandbox.postman import Told

ROOT = "/v72"
MERCHANT = "Sandbox"
_RESULTS = {
    "succeeded": "Authorised",
    "authorized": "Authorised",
    "processing": "Received",
    "requires_action": "RedirectShopper",
    "declined": "Refused",
    "canceled": "Cancelled",
}
_NOTIFIED = {
    "authorized": ("AUTHORISATION", "true"),
    "declined": ("AUTHORISATION", "false"),
    "canceled": ("CANCELLATION", "true"),
    "reversed": ("CAPTURE_FAILED", "true"),
}
_SESSIONS = {"open": "active", "complete": "completed", "canceled": "canceled"}


class AdyenDialect(Dialect):
    """Payments, modifications, hosted sessions, stored methods and signed notifications.

    The secret is "user:password" and a key in hexadecimal, joined by a blank.
    """

    name = "adyen"
    declines = {  # noqa: RUF012
        "insufficient_funds": "12",
        "do_not_honor": "2",
        "processing_error": "4",
        "expired_card": "6",
        "authentication_failed": "11",
        "card_not_supported": "10",
        "stolen_card": "20",
    }

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{ROOT}/payments", self.pay),
            web.post(f"{ROOT}/payments/{{id}}/captures", self.capture),
            web.post(f"{ROOT}/payments/{{id}}/cancels", self.cancel),
            web.post(f"{ROOT}/payments/{{id}}/refunds", self.send_back),
            web.post(f"{ROOT}/cancels", self.cancel_by_reference),
            web.post(f"{ROOT}/sessions", self.create_session),
            web.get(f"{ROOT}/sessions/{{id}}", self.read_session),
            web.get(f"{ROOT}/storedPaymentMethods", self.list_methods),
            web.delete(f"{ROOT}/storedPaymentMethods/{{id}}", self.forget_method),
        ]

    def error(self, refused: Refused) -> Any:
        return {
            "status": refused.status,
            "errorCode": refused.code,
            "message": str(refused),
            "errorType": "validation",
        }

    def conflict(self, first: Kept | None) -> Answered:
        return 422, {"status": 422, "errorCode": "704", "message": "request already processed"}

    async def pay(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)
        reference, method = form.text("reference"), form.fields.get("paymentMethod") or {}
        token = str(method.get("storedPaymentMethodId", ""))

        def work(faults: Faults) -> Answered:
            later = (form.fields.get("additionalData") or {}).get("manualCapture") == "true"
            try:
                payment = self.charge(
                    reference,
                    amount(form).units("value"),
                    amount(form).text("currency"),
                    token,
                    form.text("shopperReference"),
                    capture=not later,
                    faults=faults,
                )
            except NoSuchMethod:
                raise Refused(422, "800", "Contract not found") from None
            return 200, self.result(payment)

        key = request.headers.get(self.key_header, "")
        return await self.change(
            request, "charge", work, key=key, reference=reference, method=token
        )

    def result(self, payment: Payment) -> dict[str, Any]:
        """A payment's result as the API answers it."""
        shown: dict[str, Any] = {
            "pspReference": payment.id,
            "resultCode": _RESULTS.get(payment.state, "Authorised"),
            "amount": {"value": payment.amount, "currency": payment.currency},
            "merchantReference": payment.reference,
        }
        if payment.state == "declined":
            shown["refusalReason"] = payment.decline_code
            shown["refusalReasonCode"] = self.decline_word(payment.decline_code)
        if payment.state == "requires_action":
            url = f"{self.address}/actions/{payment.id}"
            shown["action"] = {"type": "redirect", "method": "GET", "url": url}
        return shown

    async def _modify(
        self, request: web.Request, on: str, form: Form, work: Any
    ) -> web.StreamResponse:
        key = request.headers.get(self.key_header, "")
        return await self.change(request, on, work, key=key, reference=form.text("reference"))

    async def capture(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            payment = self.payment(request)
            units = amount(form).units("value")
            if payment.state == "authorized" and units > payment.amount:
                raise Refused(422, "167", "Original pspReference required for this operation")
            if payment.state == "authorized":
                self.move(payment, "succeeded", units)
            return 201, self.received(payment, form, "capture")

        return await self._modify(request, "capture", form, work)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            payment = self.payment(request)
            if payment.state in ("authorized", "processing", "requires_action"):
                self.move(payment, "canceled")
            return 201, self.received(payment, form, "cancel")

        return await self._modify(request, "cancel", form, work)

    async def cancel_by_reference(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            for payment in self.books.find(form.text("paymentReference")):
                if payment.state in ("authorized", "processing", "requires_action"):
                    self.move(payment, "canceled")
            psp = "psp" + self.books.derive("cancel", form.text("paymentReference"))
            return 201, {"pspReference": psp, "status": "received"}

        return await self._modify(request, "cancel", form, work)

    async def send_back(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(faults: Faults) -> Answered:
            payment = self.payment(request)
            refund = self.refund(
                payment, form.text("reference"), amount(form).units("value"), faults
            )
            return 201, {**self.received(payment, form, "refund"), "pspReference": refund.id}

        return await self._modify(request, "refund", form, work)

    def payment(self, request: web.Request) -> Payment:
        """Raises Refused, as the API says it."""
        payment = self.books.payments.get(request.match_info["id"])
        if payment is None:
            raise Refused(422, "167", "Original pspReference required for this operation")
        return payment

    def received(self, payment: Payment, form: Form, what: str) -> dict[str, Any]:
        return {
            "pspReference": "psp" + self.books.derive(what, payment.id, form.text("reference")),
            "paymentPspReference": payment.id,
            "reference": form.text("reference"),
            "status": "received",
        }

    # --- pages and methods ------------------------------------------------------------------------

    async def create_session(self, request: web.Request) -> web.StreamResponse:
        form = await self.form(request)

        def work(_: Faults) -> Answered:
            units = int(amount(form).text("value") or 0)
            made = self.open_page(
                mode="PAY" if units else "SETUP",
                reference=form.text("reference"),
                customer=form.text("shopperReference"),
                return_url=form.text("returnUrl"),
                units=units,
                currency=amount(form).text("currency"),
                description="",
                expire=form.text("expiresAt"),
            )
            shown = {"id": made["id"], "url": made["url"], "mode": "hosted"}
            return 201, {**shown, "expiresAt": made["expire"] or None}

        return await self._modify(request, "session", form, work)

    async def read_session(self, request: web.Request) -> web.StreamResponse:
        def work() -> Answered:
            made = self.find_thing("page", request.match_info["id"])
            payment = self.books.payments.get(made.get("payment", ""))
            shown: dict[str, Any] = {"id": made["id"], "status": _SESSIONS[made["state"]]}
            if payment is not None:
                shown["payments"] = [self.result(payment)]
            return 200, shown

        return await self.look(request, "session", work)

    async def list_methods(self, request: web.Request) -> web.StreamResponse:
        shopper = request.query.get("shopperReference", "")
        shown = [
            {
                "id": each["id"],
                "type": "scheme",
                "brand": "visa",
                "lastFour": "0042",
                "expiryMonth": "12",
                "expiryYear": "2034",
                "shopperReference": shopper,
            }
            for each in self.methods_of(shopper)
        ]
        return await self.look(
            request,
            "method",
            lambda: (200, {"shopperReference": shopper, "storedPaymentMethods": shown}),
        )

    async def forget_method(self, request: web.Request) -> web.StreamResponse:
        def work(_: Faults) -> Answered:
            self.forget(request.match_info["id"])
            return 204, None

        return await self.change(request, "detach", work)

    # --- notifications ----------------------------------------------------------------------------

    def tell_payment(self, payment: Payment, secret: str) -> Told | None:
        taken_later = payment.state == "succeeded" and not payment.capture
        kind, success = _NOTIFIED.get(payment.state, ("AUTHORISATION", "true"))
        if payment.state in ("processing", "requires_action"):
            return None
        if taken_later:
            kind = "CAPTURE"
        modifies = kind != "AUTHORISATION"
        psp = "psp" + self.books.derive(kind, payment.id, str(payment.step))
        units = payment.captured if taken_later else payment.amount
        return self._told(
            kind,
            success,
            psp if modifies else payment.id,
            payment.id if modifies else "",
            payment.reference,
            units,
            payment.currency,
            secret,
        )

    def tell_refund(self, refund: Refund, secret: str) -> Told | None:
        kinds = {
            "succeeded": ("REFUND", "true"),
            "declined": ("REFUND", "false"),
            "reversed": ("REFUNDED_REVERSED", "true"),
        }
        if refund.state not in kinds:
            return None
        kind, success = kinds[refund.state]
        return self._told(
            kind,
            success,
            refund.id,
            refund.payment_id,
            refund.reference,
            refund.amount,
            refund.currency,
            secret,
        )

    def _told(
        self,
        kind: str,
        success: str,
        psp: str,
        original: str,
        reference: str,
        units: int,
        currency: str,
        secret: str,
    ) -> Told:
        item: dict[str, Any] = {
            "pspReference": psp,
            **({"originalReference": original} if original else {}),
            "merchantAccountCode": MERCHANT,
            "merchantReference": reference,
            "amount": {"value": units, "currency": currency},
            "eventCode": kind,
            "success": success,
            "eventDate": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return Told(f"{psp}:{kind}:{success}", kind, notification(secret, item))

    def headers(self, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
        login = secret.partition(" ")[0].encode()
        return {"authorization": f"Basic {base64.b64encode(login).decode()}"}


def notification(secret: str, *items: dict[str, Any]) -> bytes:
    """A notification of several items, each signed over its fields."""
    try:
        key = bytes.fromhex(secret.partition(" ")[2])
    except ValueError:
        key = b"not the key"
    wrapped = []
    for item in items:
        digest = hmac.new(key, signed_text(item).encode(), hashlib.sha256).digest()
        extra = {"hmacSignature": base64.b64encode(digest).decode()}
        wrapped.append({"NotificationRequestItem": {**item, "additionalData": extra}})
    return json.dumps({"live": "false", "notificationItems": wrapped}).encode()


def amount(form: Form) -> Form:
    """The amount in a body."""
    return Form(form.fields.get("amount") or {})
