"""A page of a provider's where a person pays or stores a method."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from gateway.domain.attempt import State
from kernel.errors import InvalidValue

RETURN_URL_MAX = 500
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?(/[^\s]*)?")
_HTTPS = re.compile(r"https://[A-Za-z0-9.-]+(:\d{1,5})?(/[^\s]*)?")

REQUESTED, OPEN, COMPLETED = "REQUESTED", "OPEN", "COMPLETED"
EXPIRED, CANCELED = "EXPIRED", "CANCELED"

_OF_ATTEMPT = {
    State.REQUESTED: REQUESTED,
    State.UNKNOWN: REQUESTED,
    State.ACTION_REQUIRED: OPEN,
    State.PROCESSING: COMPLETED,
    State.AUTHORIZED: COMPLETED,
    State.SUCCEEDED: COMPLETED,
    State.REVERSED: COMPLETED,
    State.DECLINED: CANCELED,
    State.FAILED: CANCELED,
    State.CANCELED: CANCELED,
}


@dataclass(frozen=True, slots=True)
class HostedPage:
    """One page, as it is written down. `state` is that of a page to store a method on; where a
    person pays, the attempt's state tells."""

    session_id: UUID
    pays: bool
    customer_id: str
    provider_account_id: UUID
    provider_account: str  # its code
    asset: str
    key: str
    return_url: str
    create_time: datetime
    state: str = REQUESTED
    payment_id: UUID | None = None
    attempt_id: UUID | None = None
    provider_session_id: str = ""
    provider_customer_id: str = ""
    url: str = ""
    country: str = ""
    contact: Mapping[str, str] = field(default_factory=dict)  # name, email, phone
    notes: Mapping[str, str] = field(default_factory=dict)
    expire_time: datetime | None = None
    payment_method_id: UUID | None = None


def state_of_attempt(state: State, expire_time: datetime | None, now: datetime) -> str:
    """What the attempt that a page is amounts to."""
    if state is State.CANCELED and expire_time is not None and now >= expire_time:
        return EXPIRED
    return _OF_ATTEMPT[state]


def check_return_url(text: str) -> str:
    """Where a browser is sent back to; raises InvalidValue. Plain HTTP stays on this machine."""
    if not 0 < len(text) <= RETURN_URL_MAX or not (
        _HTTPS.fullmatch(text) or _LOOPBACK.fullmatch(text)
    ):
        raise InvalidValue("return_url", "is no https address of at most 500 characters")
    return text
