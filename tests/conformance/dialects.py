"""How the six are met by the conformance kit: by the sandbox that speaks their dialect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

import httpx

from gateway.providers.adyen.requests import digits_of as adyen_digits
from gateway.providers.commands import Delivery, Session
from gateway.providers.stripe.requests import digits_of as stripe_digits
from gateway.sandbox.books import TAKEN, Books
from gateway.sandbox.dialect import Dialect
from gateway.sandbox.providers import DIALECTS
from gateway.sandbox.providers.adyen import MERCHANT, notification
from tests.conformance.rigs import SEED, BooksRig, listening
from tollgate_conformance import Charged, Want

TOKENS = {
    Want.OK: "pm_ok",
    Want.SOFT: "pm_insufficient_funds",
    Want.TECHNICAL: "pm_processing_error",
    Want.ACTION_REQUIRED: "pm_expired",
    Want.HARD: "pm_not_supported",
    Want.FRAUD: "pm_stolen",
    Want.NEEDS_ACTION: "pm_action",
    Want.ASYNC: "pm_ok_async-100ms",
    Want.REFUND_RETURNED: "pm_refund_returned-100ms",
    Want.REFUND_DECLINED: "pm_refund_declined",
}


# What was asked for by an id that we were given is ours: a payment made on a page, or the
# transaction of an invoice, carries no reference.
BY_ID = {
    "test_a_payment_of_another_reference_is_not_taken_for_ours": (
        "what is asked for by a noted id is ours: not everything carries a reference here"
    )
}


def without(*wants: Want) -> dict[Want, str]:
    return {want: token for want, token in TOKENS.items() if want not in wants}


class DialectRig(BooksRig):
    """The sandbox in one provider's words."""

    dialect_name = ""
    dialect: Dialect
    tokens = TOKENS
    secret = "whsec_0123456789abcdef"  # as the dialect takes it
    notification_secrets: Sequence[bytes] = (b"whsec_0123456789abcdef",)

    async def open(self, mailbox: str) -> None:
        listener, self.endpoint = listening()
        self.books = Books(SEED)
        kind = DIALECTS[self.dialect_name]
        self.dialect = kind(self.books, self.endpoint, mailbox, self.secret)
        await self.serve(self.dialect.application(), listener)

    async def finish(self, session: Session) -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(session.url, data={"result": "complete"})
        return answer.status_code in (200, 303)

    def signed(self, delivery: Delivery, secret: str) -> Delivery:
        headers = self.dialect.headers(delivery.body, secret, delivery.now)
        return replace(delivery, headers=headers)

    def strange(self) -> bytes:
        """A body of a kind that means nothing."""
        return b""

    async def stranger(self) -> Delivery | None:
        body = self.strange()
        if not body:
            return None
        return self.signed(Delivery({}, body, (), datetime.now(UTC)), self.secret)


class StripeRig(DialectRig):
    dialect_name = "stripe"
    provider_customer_id = "cus_everybody"
    currencies: ClassVar = {0: "JPY", 2: "USD", 3: "KWD"}

    def digits(self, code: str) -> int:
        return stripe_digits(code)

    def strange(self) -> bytes:
        return b'{"id": "evt_1", "type": "weather.changed", "data": {"object": {}}}'


class AdyenRig(DialectRig):
    dialect_name = "adyen"
    merchant = MERCHANT
    # Methods are listed by shopper, and a page names none that was stored.
    excused: ClassVar = {
        "test_a_person_stores_a_method_on_the_page": "a stored method is notified, not shown",
        "test_a_stored_method_is_listed_and_forgotten": "a stored method is notified, not shown",
    }
    currencies: ClassVar = {0: "JPY", 2: "EUR", 3: "KWD"}
    secret = "user:password 00112233445566778899aabbccddeeff"
    notification_secrets = (b"00112233445566778899aabbccddeeff", b"user:password")

    def digits(self, code: str) -> int:
        return adyen_digits(code)

    async def several(self, references: Sequence[str]) -> Delivery:
        items: list[dict[str, Any]] = [
            {
                "pspReference": payment.id,
                "merchantAccountCode": MERCHANT,
                "merchantReference": reference,
                "amount": {"value": payment.amount, "currency": payment.currency},
                "eventCode": "AUTHORISATION",
                "success": "true",
            }
            for reference in references
            for payment in self.books.find(reference)
        ]
        body = notification(self.secret, *items)
        return self.signed(Delivery({}, body, (), datetime.now(UTC)), self.secret)

    def strange(self) -> bytes:
        item = {
            "pspReference": "psp1",
            "merchantAccountCode": MERCHANT,
            "merchantReference": "",
            "amount": {"value": 0, "currency": "EUR"},
            "eventCode": "WEATHER",
            "success": "true",
        }
        return notification(self.secret, item)


class GoCardlessRig(DialectRig):
    dialect_name = "gocardless"
    # A bank says no, or yes, but never that somebody stumbled, or that it smells of fraud.
    tokens = without(Want.TECHNICAL, Want.FRAUD, Want.NEEDS_ACTION, Want.REFUND_DECLINED)
    currencies: ClassVar = {2: "EUR"}

    async def deliveries(self, reference: str) -> list[Delivery] | None:
        """Notifications name the payment, not our reference."""
        self_named = {payment.id for payment in self.books.find(reference)}
        told = [
            event
            for event in self.books.all("event")
            if event["subject"]["links"].get("payment") in self_named
        ]
        return [self._events(event["subject"] | {"id": event["id"]}) for event in told]

    def _events(self, *events: dict[str, Any]) -> Delivery:
        body = json.dumps({"events": events}).encode()
        return self.signed(Delivery({}, body, (), datetime.now(UTC)), self.secret)

    async def several(self, references: Sequence[str]) -> Delivery:
        events = [
            {
                "id": f"EV{number}",
                "resource_type": "payments",
                "action": "confirmed",
                "links": {"payment": self.books.find(reference)[0].id},
            }
            for number, reference in enumerate(references)
        ]
        return self._events(*events)

    def strange(self) -> bytes:
        return (
            b'{"events": [{"id": "EV1", "resource_type": "weather", "action": "changed",'
            b' "links": {}}]}'
        )


class RazorpayRig(DialectRig):
    excused = BY_ID
    dialect_name = "razorpay"
    provider_customer_id = "cust_everybody"
    tokens = without(Want.NEEDS_ACTION)
    currencies: ClassVar = {2: "INR", 0: "JPY", 3: "KWD"}
    api_secret = b"key_id:key_secret"

    def strange(self) -> bytes:
        return b'{"event": "weather.changed", "payload": {"weather": {"entity": {}}}}'


class PaddleRig(DialectRig):
    excused = BY_ID
    dialect_name = "paddle"
    tokens: ClassVar = {
        want: f"sub_{token}" for want, token in without(Want.NEEDS_ACTION, Want.ASYNC).items()
    }
    currencies: ClassVar = {2: "USD", 0: "JPY"}

    def strange(self) -> bytes:
        return (
            b'{"event_id": "evt_1", "event_type": "weather.changed",'
            b' "occurred_at": "2026-01-01T00:00:00Z", "data": {}}'
        )


class ChargebeeRig(DialectRig):
    excused = BY_ID
    dialect_name = "chargebee"
    tokens = without(Want.NEEDS_ACTION)
    secret = "user:password"
    notification_secrets = (b"user:password",)
    currencies: ClassVar = {2: "USD", 0: "JPY", 3: "KWD"}

    async def charges(self, reference: str) -> list[Charged]:
        """Of a payment that was reserved first, the books know no more than its key."""
        found = list(await super().charges(reference))
        for payment, of in self.books.things.get("of_invoice", {}).items():
            invoice = self.books.things["invoice"][of["invoice"]]
            if of.get("held") and invoice["po_number"] == reference:
                made = self.books.payments[payment]
                units = made.captured if made.state == TAKEN else 0
                found.append(Charged(self.money(units, made.currency)))
        return found

    def strange(self) -> bytes:
        return b'{"id": "ev_1", "event_type": "weather_changed", "occurred_at": 1, "content": {}}'
