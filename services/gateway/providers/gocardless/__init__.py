"""GoCardless as a table of plans: bank debits by mandate, which take working days to settle."""

from __future__ import annotations

from datetime import timedelta

from gateway.domain.provider_account import Capabilities, Idempotency, Lookup, NotificationAuth
from gateway.providers.commands import Login
from gateway.providers.gocardless.answers import DECLINES, read_items, read_notification
from gateway.providers.gocardless.lists import list_changes, list_payout_lines
from gateway.providers.gocardless.pages import (
    create_session,
    detach_method,
    list_methods,
    read_session,
)
from gateway.providers.gocardless.payments import (
    cancel,
    charge,
    find,
    find_refund,
    read,
    read_refund,
    refund,
)
from gateway.providers.gocardless.requests import units
from gateway.providers.plan import Provider

NAME = "gocardless"
ENDPOINT = "https://api.gocardless.com"


def capabilities(login: Login) -> Capabilities:
    """What GoCardless offers; refunds only where the merchant had them enabled."""
    return Capabilities(
        off_session=True,
        hosted_setup=True,
        hosted_pay=True,
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
        notification_auth=NotificationAuth.SIGNED,
        payout_lines=True,
    )


PROVIDER = Provider(
    name=NAME,
    origins=frozenset({ENDPOINT, "https://api-sandbox.gocardless.com"}),
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
    create_session=create_session,
    read_session=read_session,
    list_methods=list_methods,
    detach_method=detach_method,
    list_changes=list_changes,
    list_payout_lines=list_payout_lines,
    read_notification=read_notification,
    read_items=read_items,
    acknowledgement=(204, b""),
    refusal_status=498,
    declines=DECLINES,
)
