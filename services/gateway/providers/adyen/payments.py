"""Charging, capturing, canceling and refunding at Adyen, which offers no look at any of it."""

from __future__ import annotations

import re

from gateway.domain.outcome import DeclineClass, Finding, Outcome
from gateway.providers.adyen.answers import PARTIALLY, read_payment_answer, read_received
from gateway.providers.adyen.requests import amount_body, post, shopper_reference
from gateway.providers.commands import Cancel, Capture, Charge, Login, Refund
from gateway.providers.parsing import content_of, identifier, text
from gateway.providers.plan import CHARGE_SECONDS, Answer, Plan, ask, keep

# The API asks for one even where nobody is there to return. It is always the same: what a key
# stands for must not change.
NOWHERE = "https://nobody.invalid/"
STATEMENT_MAX = 22  # characters that banks print
_NOT_ON_STATEMENTS = re.compile(r"[^A-Za-z0-9 .,'_?+*/-]")


def charge(command: Charge, login: Login) -> Plan:
    """Charge a stored method. A part of an amount is not what was asked for: it is released."""
    statement = _NOT_ON_STATEMENTS.sub("", command.description)[:STATEMENT_MAX].strip()
    body = {
        "amount": amount_body(command.amount),
        "reference": command.reference,
        "shopperReference": shopper_reference(command.customer_id),
        "shopperInteraction": "ContAuth",
        "recurringProcessingModel": "UnscheduledCardOnFile",
        "paymentMethod": {
            "type": command.method_kind or "scheme",
            "storedPaymentMethodId": command.provider_token,
        },
        "returnUrl": NOWHERE,
        **({"shopperStatement": statement} if statement else {}),
        # Said either way, so that the account's own setting never decides.
        **(
            {"additionalData": {"manualCapture": "true"}}
            if command.capture_later
            else {"captureDelayHours": 0}
        ),
    }
    reply = yield from ask(post(login, "/payments", body, command.key, CHARGE_SECONDS))
    content = content_of(reply)
    psp = identifier(content, "pspReference")
    if isinstance(reply, Answer) and reply.status == 200 and psp:
        yield from keep("psp_reference", psp)
        if text(content, "resultCode") == PARTIALLY:
            release = yield from ask(
                post(
                    login,
                    f"/payments/{psp}/cancels",
                    {"reference": command.reference},
                    f"{command.key}-part",
                )
            )
            if read_received(release).finding is not Finding.PENDING:
                return Outcome(
                    Finding.SILENCE, provider_payment_id=psp, detail="a part is reserved"
                )
            return Outcome(
                Finding.DECLINED,
                provider_payment_id=psp,
                decline_code="partially_authorised",
                decline_class=DeclineClass.SOFT,
            )
    return read_payment_answer(reply, command.reference, capture_later=command.capture_later)


def capture(command: Capture, login: Login) -> Plan:
    """Ask for what was reserved, or a part of it."""
    body = {"amount": amount_body(command.amount), "reference": command.reference}
    path = f"/payments/{command.provider_payment_id}/captures"
    reply = yield from ask(post(login, path, body, command.key))
    return read_received(reply)


def cancel(command: Cancel, login: Login) -> Plan:
    """Ask for the release of what was reserved: by reference while Adyen's id is not known."""
    if command.provider_payment_id:
        path = f"/payments/{command.provider_payment_id}/cancels"
        body = {"reference": command.reference}
    else:
        path = "/cancels"
        body = {"paymentReference": command.reference, "reference": command.reference}
    reply = yield from ask(post(login, path, body, command.key))
    return read_received(reply)


def refund(command: Refund, login: Login) -> Plan:
    """Ask for money to be sent back."""
    body = {"amount": amount_body(command.amount), "reference": command.reference}
    path = f"/payments/{command.provider_payment_id}/refunds"
    reply = yield from ask(post(login, path, body, command.key))
    return read_received(reply, refund=True)
