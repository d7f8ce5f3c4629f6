"""A merchant login at a provider, and the flags that say what the provider can do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from kernel.errors import InvalidValue, Refusal

CODE_PATTERN = r"[A-Za-z0-9_-]{1,64}"
SECRET_REFERENCE = re.compile(r"file:[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class ProviderAccountState(Enum):
    ACTIVE = "ACTIVE"
    DEGRADED = "DEGRADED"  # the provider refuses its credentials; in use, with an alert
    DISABLED = "DISABLED"


class Idempotency(Enum):
    """What a provider does with a request that comes twice."""

    NONE = "NONE"
    KEY = "KEY"  # answers the same key with the first answer, for `key_window`
    REFERENCE = "REFERENCE"  # refuses a second object with the same reference


class Lookup(Enum):
    """How a payment is found by our reference."""

    NONE = "NONE"
    SCAN = "SCAN"  # recent objects are listed and compared here
    CONSISTENT = "CONSISTENT"  # the provider answers by reference, and truly


class NotificationAuth(Enum):
    NONE = "NONE"
    SIGNED = "SIGNED"  # the whole body
    SIGNED_WITH_TIME = "SIGNED_WITH_TIME"
    SIGNED_FIELDS = "SIGNED_FIELDS"
    BASIC = "BASIC"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider offers. Code branches on these and never on a provider's name."""

    off_session: bool = False
    customer_object: bool = False
    hosted_setup: bool = False
    hosted_pay: bool = False
    manual_capture: bool = False
    partial_capture: bool = False
    cancel: bool = False
    refund: bool = False
    partial_refund: bool = False
    async_settlement: bool = False
    read_by_id: bool = False
    idempotency: Idempotency = Idempotency.NONE
    key_window: timedelta = timedelta(0)
    lookup: Lookup = Lookup.NONE
    refund_idempotency: Idempotency = Idempotency.NONE  # by the same `key_window`
    refund_read_by_id: bool = False
    refund_lookup: Lookup = Lookup.NONE
    visibility: timedelta = timedelta(0)  # how long a new object may stay unseen by a look-up
    list_changes: bool = False
    notification_auth: NotificationAuth = NotificationAuth.NONE
    merchant_of_record: bool = False
    payout_lines: bool = False


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """One merchant login. Secrets are references, never text."""

    provider_account_id: UUID
    code: str
    provider: str
    endpoint: str  # where its API answers; empty: the provider's own address
    state: ProviderAccountState
    create_time: datetime
    merchant: str = ""  # the merchant's own name there, where calls must state it
    secret_reference: str = field(default="", repr=False)
    notification_secret_reference: str = field(default="", repr=False)


class ProviderAccountDisabled(Refusal):
    """The provider account takes no new payments."""

    reason = "PROVIDER_ACCOUNT_DISABLED"

    def __init__(self, code: str) -> None:
        super().__init__(f"provider account {code!r} is disabled", provider_account=code)


class CapabilityMissing(Refusal):
    """The provider does not offer this operation; it is never asked."""

    reason = "CAPABILITY_MISSING"

    def __init__(self, capability: str, code: str) -> None:
        super().__init__(
            f"the provider of account {code!r} does not offer {capability}",
            capability=capability,
            provider_account=code,
        )


def parse_secret_reference(text: str, field_name: str) -> str:
    """Read "file:<name>" or nothing. A secret sent in its place is refused and not repeated."""
    if text and not SECRET_REFERENCE.fullmatch(text):
        raise InvalidValue(field_name, "is not of the form file:<name>")
    return text


def check_takes_payments(
    account: ProviderAccount, capabilities: Capabilities, *, capture_later: bool = False
) -> None:
    """Raise ProviderAccountDisabled or CapabilityMissing where no off-session charge may start."""
    if account.state is ProviderAccountState.DISABLED:
        raise ProviderAccountDisabled(account.code)
    if not capabilities.off_session:
        raise CapabilityMissing("off_session", account.code)
    if capture_later and not capabilities.manual_capture:
        raise CapabilityMissing("manual_capture", account.code)
