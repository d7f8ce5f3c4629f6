"""Adyen as a table of plans."""

from __future__ import annotations

from datetime import timedelta

from gateway.domain.provider_account import Capabilities, Idempotency, NotificationAuth
from gateway.providers.adyen.answers import DECLINES
from gateway.providers.adyen.notifications import read_items, read_notification
from gateway.providers.adyen.pages import (
    create_session,
    detach_method,
    list_methods,
    read_session,
)
from gateway.providers.adyen.payments import cancel, capture, charge, refund
from gateway.providers.adyen.requests import units
from gateway.providers.commands import Login
from gateway.providers.plan import Provider

NAME = "adyen"
ENDPOINT = "https://checkout-test.adyen.com"


def capabilities(login: Login) -> Capabilities:
    """What Adyen offers. It cannot be looked at: replays and notifications resolve what is open."""
    return Capabilities(
        off_session=True,
        hosted_setup=True,
        hosted_pay=True,
        manual_capture=True,
        partial_capture=True,
        cancel=True,
        refund=True,
        partial_refund=True,
        async_settlement=True,
        idempotency=Idempotency.KEY,
        key_window=timedelta(days=31),
        refund_idempotency=Idempotency.KEY,
        notification_auth=NotificationAuth.SIGNED_FIELDS,
    )


PROVIDER = Provider(
    name=NAME,
    # A live account's endpoint is https://<prefix>-checkout-live.adyenpayments.com/checkout.
    origins=frozenset({ENDPOINT, "https://*-checkout-live.adyenpayments.com"}),
    endpoint=ENDPOINT,
    capabilities=capabilities,
    units=units,
    charge=charge,
    capture=capture,
    cancel=cancel,
    refund=refund,
    create_session=create_session,
    read_session=read_session,
    list_methods=list_methods,
    detach_method=detach_method,
    read_notification=read_notification,
    read_items=read_items,
    acknowledgement=(200, b"[accepted]"),
    declines=DECLINES,
    numeric_tokens=True,
)
