"""Chargebee as a table of plans. It stands before other gateways and signs nothing."""

from __future__ import annotations

from datetime import timedelta

from gateway.domain.provider_account import Capabilities, Idempotency, Lookup, NotificationAuth
from gateway.providers.chargebee.answers import read_items, read_notification
from gateway.providers.chargebee.customers import create_customer, detach_method, list_methods
from gateway.providers.chargebee.lists import list_changes
from gateway.providers.chargebee.pages import create_session, read_session
from gateway.providers.chargebee.payments import cancel, capture, charge, find, read
from gateway.providers.chargebee.refunds import find_refund, read_refund, refund
from gateway.providers.chargebee.requests import units
from gateway.providers.commands import Login
from gateway.providers.plan import Provider

NAME = "chargebee"
KEY_WINDOW = timedelta(minutes=30)


def capabilities(login: Login) -> Capabilities:
    """What Chargebee offers. Settlement lives at the gateway behind it."""
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
        key_window=KEY_WINDOW,
        lookup=Lookup.CONSISTENT,
        refund_idempotency=Idempotency.KEY,
        refund_read_by_id=True,
        refund_lookup=Lookup.SCAN,
        visibility=timedelta(seconds=60),
        list_changes=True,
        notification_auth=NotificationAuth.BASIC,
    )


PROVIDER = Provider(
    name=NAME,
    origins=frozenset({"https://*.chargebee.com"}),
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
    read_notification=read_notification,
    read_items=read_items,
)
