"""Razorpay's requests: paths, bodies and the notes that they leave."""

from __future__ import annotations

from typing import Any

from gateway.providers.commands import (
    Charge,
    Contact,
    NewSession,
)
from gateway.providers.plan import (
    Answer,
    Basic,
    Call,
    Reply,
)
from gateway.providers.razorpay.answers import (
    ATTEMPT_NOTE,
    units,
)

ORDER, PAYMENT, LINK = "order_id", "payment_id", "link_id"  # names of notes
PAGE = 100  # the most that one list answers
DESCRIPTION_CHARACTERS_MAX = 255


def order_body(command: Charge) -> dict[str, Any]:
    return {
        "amount": units(command.amount),
        "currency": command.amount.asset.code,
        "receipt": command.reference,
        "payment_capture": not command.capture_later,
        "notes": {ATTEMPT_NOTE: command.reference},
    }


def recurring_body(command: Charge, order_id: str) -> dict[str, Any]:
    return {
        "email": command.contact.email,
        "contact": command.contact.phone,
        "amount": units(command.amount),
        "currency": command.amount.asset.code,
        "order_id": order_id,
        "customer_id": command.provider_customer_id,
        "token": command.provider_token,
        "recurring": "1",
        "description": command.description[:DESCRIPTION_CHARACTERS_MAX],
        "notes": {ATTEMPT_NOTE: command.reference},
    }


def link_body(command: NewSession) -> dict[str, Any]:
    body: dict[str, Any] = {
        "amount": units(command.amount),
        "currency": command.amount.asset.code,
        "accept_partial": False,
        "reference_id": command.reference,
        "description": command.description[:DESCRIPTION_CHARACTERS_MAX],
        "customer": contact_fields(command.contact),
        "notify": {"sms": False, "email": False},
        "reminder_enable": False,
        "notes": {ATTEMPT_NOTE: command.reference},
        "callback_url": command.return_url,
        "callback_method": "get",
    }
    if command.expire_time is not None:
        body["expire_by"] = int(command.expire_time.timestamp())
    return body


def contact_fields(contact: Contact) -> dict[str, str]:
    stated = {"name": contact.name, "email": contact.email, "contact": contact.phone}
    return {name: value for name, value in stated.items() if value}


def post(path: str, body: dict[str, Any], **options: Any) -> Call:
    return Call("POST", path, json=body, auth=Basic(), **options)


def get(path: str, query: dict[str, str] | None = None) -> Call:
    return Call("GET", path, query=query or {}, auth=Basic(), safe_to_repeat=True)


def is_good(reply: Reply) -> bool:
    return isinstance(reply, Answer) and reply.status == 200
