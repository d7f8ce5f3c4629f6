"""Stripe as a table of plans."""

from __future__ import annotations

from datetime import timedelta

from gateway.domain.provider_account import Capabilities, Idempotency, Lookup, NotificationAuth
from gateway.providers.commands import Login
from gateway.providers.plan import Provider
from gateway.providers.stripe.answers import DECLINES, read_items, read_notification
from gateway.providers.stripe.lists import list_changes, list_payout_lines
from gateway.providers.stripe.pages import (
    create_customer,
    create_session,
    detach_method,
    list_methods,
    read_session,
)
from gateway.providers.stripe.payments import (
    cancel,
    capture,
    charge,
    find,
    find_refund,
    read,
    read_refund,
    refund,
)
from gateway.providers.stripe.requests import units

NAME = "stripe"
ENDPOINT = "https://api.stripe.com"


def capabilities(login: Login) -> Capabilities:
    """What Stripe offers."""
    return Capabilities(
        off_session=True,
        customer_object=True,
        hosted_setup=True,
        hosted_pay=True,
        manual_capture=True,
        partial_capture=True,
        cancel=True,
        refund=True,
        partial_refund=True,
        async_settlement=True,
        read_by_id=True,
        idempotency=Idempotency.KEY,
        key_window=timedelta(hours=24),
        lookup=Lookup.SCAN,
        refund_idempotency=Idempotency.KEY,
        refund_read_by_id=True,
        refund_lookup=Lookup.SCAN,
        visibility=timedelta(seconds=60),
        list_changes=True,
        notification_auth=NotificationAuth.SIGNED_WITH_TIME,
        payout_lines=True,
    )


PROVIDER = Provider(
    name=NAME,
    origins=frozenset({ENDPOINT}),
    endpoint=ENDPOINT,
    capabilities=capabilities,
    units=units,
    charge=charge,
    read=read,
    find=find,
    capture=capture,
    cancel=cancel,
    refund=refund,
    read_refund=read_refund,
    find_refund=find_refund,
    create_customer=create_customer,
    create_session=create_session,
    read_session=read_session,
    list_methods=list_methods,
    detach_method=detach_method,
    list_changes=list_changes,
    list_payout_lines=list_payout_lines,
    read_notification=read_notification,
    read_items=read_items,
    declines=DECLINES,
)
