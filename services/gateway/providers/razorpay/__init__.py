"""Razorpay as a table of plans."""

from __future__ import annotations

from datetime import timedelta

from gateway.domain.provider_account import Capabilities, Idempotency, Lookup, NotificationAuth
from gateway.providers.commands import Login
from gateway.providers.plan import Provider
from gateway.providers.razorpay.answers import DECLINES, read_items, read_notification, units
from gateway.providers.razorpay.customers import create_customer, detach_method, list_methods
from gateway.providers.razorpay.lists import list_changes, list_payout_lines
from gateway.providers.razorpay.pages import create_session, read_session
from gateway.providers.razorpay.payments import (
    capture,
    charge,
    find,
    find_refund,
    read,
    read_refund,
    refund,
)

NAME = "razorpay"
ENDPOINT = "https://api.razorpay.com/v1"


def capabilities(login: Login) -> Capabilities:
    """What Razorpay offers. An authorization cannot be canceled: it lapses."""
    return Capabilities(
        off_session=True,
        customer_object=True,
        hosted_setup=True,
        hosted_pay=True,
        manual_capture=True,
        refund=True,
        partial_refund=True,
        async_settlement=True,
        read_by_id=True,
        idempotency=Idempotency.REFERENCE,
        key_window=timedelta(hours=24),  # of refunds: payments have no keys
        lookup=Lookup.CONSISTENT,
        refund_idempotency=Idempotency.KEY,
        refund_read_by_id=True,
        refund_lookup=Lookup.SCAN,
        visibility=timedelta(seconds=60),
        list_changes=True,
        notification_auth=NotificationAuth.SIGNED,
        payout_lines=True,
    )


PROVIDER = Provider(
    name=NAME,
    origins=frozenset({"https://api.razorpay.com"}),
    endpoint=ENDPOINT,
    capabilities=capabilities,
    units=units,
    charge=charge,
    read=read,
    find=find,
    capture=capture,
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
