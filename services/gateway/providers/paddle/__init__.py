"""Paddle as a table of plans. It is the merchant of record: the seller, and who draws the tax."""

from __future__ import annotations

from datetime import timedelta

from gateway.domain.provider_account import Capabilities, Idempotency, Lookup, NotificationAuth
from gateway.providers.commands import Login
from gateway.providers.paddle.answers import DECLINES, read_items, read_notification
from gateway.providers.paddle.customers import (
    create_customer,
    create_session,
    detach_method,
    list_methods,
    read_session,
)
from gateway.providers.paddle.lists import list_changes
from gateway.providers.paddle.payments import cancel, charge, find, read
from gateway.providers.paddle.refunds import find_refund, read_refund, refund
from gateway.providers.paddle.requests import units
from gateway.providers.plan import Provider

NAME = "paddle"
ENDPOINT = "https://api.paddle.com"
SANDBOX_ENDPOINT = "https://sandbox-api.paddle.com"


def capabilities(login: Login) -> Capabilities:
    """What Paddle offers. It charges away from pages only what is on a subscription there."""
    return Capabilities(
        off_session=True,
        customer_object=True,
        hosted_pay=True,
        cancel=True,
        refund=True,
        partial_refund=True,
        read_by_id=True,
        idempotency=Idempotency.NONE,
        lookup=Lookup.SCAN,
        refund_idempotency=Idempotency.NONE,
        refund_read_by_id=True,
        refund_lookup=Lookup.SCAN,
        visibility=timedelta(seconds=120),
        list_changes=True,
        notification_auth=NotificationAuth.SIGNED_WITH_TIME,
        merchant_of_record=True,
    )


PROVIDER = Provider(
    name=NAME,
    origins=frozenset({ENDPOINT, SANDBOX_ENDPOINT}),
    endpoint=ENDPOINT,
    capabilities=capabilities,
    units=units,
    charge=charge,
    read=read,
    find=find,
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
    declines=DECLINES,
)
