"""The sandbox's own pages: where a person pays or stores a method, and what is stored there."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.providers.sandbox import notification_body
from gateway.sandbox.behaviour import NoSuchMethod, behaviour_of
from gateway.sandbox.books import Books, Kept, Letter, Payment
from gateway.sandbox.http import Refused

LASTS_SECONDS = 24 * 3600.0
# What a person may choose on a page of the sandbox: an outcome, as a method token.
CHOICES = {
    "complete": "pm_ok",
    "decline": "pm_insufficient_funds",
    "later": "pm_ok_async:1s",
}


class Pages:
    """Pages over the books; each is a thing of kind "page"."""

    def __init__(self, books: Books, address: str) -> None:
        self._books = books
        self._address = address

    def open(
        self, content: Mapping[str, Any], notify_url: str, notify_secret: str
    ) -> dict[str, Any]:
        """Enter a page; raises Refused."""
        texts = {name: content.get(name, "") for name in _FIELDS}
        if not all(isinstance(each, str) and len(each) <= 500 for each in texts.values()):
            raise Refused(422, "field_invalid", "a field is not text of at most 500 characters")
        pays, units = texts["mode"] == "PAY", content.get("amount", 0)
        if texts["mode"] not in ("PAY", "SETUP") or not isinstance(units, int):
            raise Refused(422, "field_invalid", "mode is PAY or SETUP, amount a whole number")
        if pays and units <= 0:
            raise Refused(422, "amount_invalid", "amount is a whole number of minor units")
        number = str(len(self._books.all("page")))
        identifier = f"page_{self._books.derive('page', texts['reference'], number)}"
        return self._books.put(
            "page",
            identifier,
            {
                "id": identifier,
                "state": "open",
                "url": f"{self._address}/pages/{identifier}",
                "units": units if pays else 0,
                "expire": time.time() + LASTS_SECONDS,
                "notify_url": notify_url,
                "notify_secret": notify_secret,
                "payment": "",
                "method": "",
                **texts,
            },
        )

    def find(self, identifier: str) -> dict[str, Any]:
        """A page as it is now; raises Refused."""
        page = self._books.get("page", identifier)
        if page is None:
            raise Refused(404, "no_such_session", "no session of this id")
        if page["state"] == "open" and time.time() >= page["expire"]:
            return self._books.put("page", identifier, {**page, "state": "expired"})
        return page

    def render(self, page: Mapping[str, Any]) -> dict[str, Any]:
        """The session as the API answers it."""
        shown: dict[str, Any] = {
            "id": page["id"],
            "mode": page["mode"],
            "reference": page["reference"],
            "state": page["state"],
            "url": page["url"],
            "expire_time": int(page["expire"]),
        }
        payment = self._books.payments.get(page["payment"])
        if payment is not None:
            shown["payment"] = payment.render(self._address)
        if page["method"]:
            shown["method"] = self._books.get("method", page["method"])
        return shown

    def act(self, page: dict[str, Any], result: str) -> tuple[dict[str, Any], Payment | None]:
        """What a person does on a page; raises Refused."""
        if page["state"] != "open":
            raise Refused(409, "page_is_over", f"the page is {page['state']}")
        if result == "cancel":
            return self._books.put("page", page["id"], {**page, "state": "canceled"}), None
        token = CHOICES.get(result)
        if token is None:
            raise Refused(422, "no_such_result", "result is complete, decline, later or cancel")
        payment: Payment | None = None
        with self._books.together():
            if page["mode"] == "PAY":
                payment = self._pay(page, token)
            changed = dict(page)
            if payment is None or payment.state != "declined":
                stored = f"{token}@{self._books.derive('method', page['id'])}"
                self._books.put("method", stored, _method(stored, page["customer"]))
                changed |= {"state": "complete", "method": stored}
            if payment is not None:
                changed["payment"] = payment.id
            changed = self._books.put("page", page["id"], changed)
        return changed, payment

    def _pay(self, page: Mapping[str, Any], token: str) -> Payment:
        wanted = Payment(
            id="",
            reference=page["reference"],
            amount=page["units"],
            currency=page["currency"],
            method=token,
            customer=page["customer"],
            description=page["description"],
            time=datetime.now(UTC).isoformat(),
            state="",
            notify_url=page["notify_url"],
            notify_secret=page["notify_secret"],
        )
        payment, _ = self._books.charge(
            wanted, behaviour_of(token), time.time(), lambda _: Kept("", 200, "")
        )
        return payment

    def letter(self, page: Mapping[str, Any]) -> Letter | None:
        """The notification that a page is over."""
        if not page["notify_url"] or page["state"] == "open":
            return None
        kind = f"session.{page['state']}"
        identifier = "ntf_" + self._books.derive(page["id"], kind)
        told = {"id": page["id"], "reference": page["reference"], "state": page["state"]}
        body = notification_body(identifier, kind, told, "session").decode()
        letter = Letter(
            id=identifier,
            kind=kind,
            payment_id=page["payment"],
            url=page["notify_url"],
            secret=page["notify_secret"],
            body=body,
            due=time.time(),
        )
        self._books.post(letter)
        return letter

    # --- stored methods ---------------------------------------------------------------------------

    def methods_of(self, customer: str) -> list[dict[str, Any]]:
        return [
            each
            for each in self._books.all("method")
            if each["customer"] == customer and not each.get("gone")
        ]

    def forget(self, token: str) -> None:
        """Raises Refused."""
        method = self._books.get("method", token)
        if method is None or method.get("gone"):
            raise Refused(404, "no_such_method", "no stored method of this id")
        self._books.put("method", token, {**method, "gone": True})

    def is_forgotten(self, token: str) -> bool:
        return bool((self._books.get("method", token) or {}).get("gone"))


_FIELDS = ("mode", "reference", "currency", "customer", "description", "return_url")


def _method(token: str, customer: str) -> dict[str, Any]:
    return {
        "id": token,
        "customer": customer,
        "brand": "visa",
        "last_four": "4242",
        "expire_year": 2034,
        "expire_month": 12,
    }


def kept_session(fingerprint: str, shown: Mapping[str, Any]) -> Kept:
    """The answer that a key is given ever after."""
    return Kept(fingerprint, 201, json.dumps({"session": dict(shown)}))


def no_method(token: str, pages: Pages) -> None:
    """Raise NoSuchMethod where a method was forgotten."""
    if pages.is_forgotten(token):
        raise NoSuchMethod(token)
