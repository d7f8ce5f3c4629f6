"""The closed sets of the ledger, with the numbers they have in storage and on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TypeAlias

NEVER = datetime.max.replace(tzinfo=UTC)  # written to Postgres as infinity
HOLD_TIME_DEFAULT = timedelta(minutes=15)
HOLD_TIME_MIN = timedelta(seconds=1)
HOLD_TIME_MAX = timedelta(days=7)
PRIORITY_DEFAULT = 50

# What a debit or hold is for: meter, feature, product; empty where it does not say.
Purpose: TypeAlias = tuple[str, str, str]
NO_PURPOSE: Purpose = ("", "", "")

# What a wallet or grant may pay for, in the same order; an empty list restricts nothing.
Restrictions: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


class WalletState(IntEnum):
    ACTIVE = 1
    FROZEN = 2
    CLOSED = 3


class ShortfallMode(IntEnum):
    BLOCK = 1
    OVERDRAFT = 2
    ALLOW = 3


class GrantKind(IntEnum):
    PAID = 1
    PROMOTIONAL = 2
    INCLUDED = 3
    REFUND = 4
    COMMITMENT = 5
    CORRECTION = 6
    CONVERSION = 7


class HoldState(IntEnum):
    OPEN = 1
    CAPTURED = 2
    VOIDED = 3
    EXPIRED = 4


class OverCapture(IntEnum):
    UNSTATED = 0  # the wallet's policy
    REJECT = 1
    CLAMP = 2
    USE_AVAILABLE = 3
    FORCE = 4


class TransferKind(IntEnum):
    GRANT = 1
    DEBIT = 2
    HOLD = 3
    CAPTURE = 4
    RELEASE = 5
    EXPIRE = 6
    SETTLE = 7
    HOLD_INCREASE = 8
    VOID = 9
    REVERSAL = 10
    CORRECTION = 11
    CONVERSION = 12
    ROLLOVER = 13


class Account(IntEnum):
    """Ledger accounts: three of each wallet and asset, then the house's of each asset."""

    WALLET = 1  # funds that may be spent
    HELD = 2  # set aside by open holds
    DEBT = 3  # lent to the wallet beyond its funds
    REVENUE = 10
    CONTRACT_LIABILITY = 11
    PROMOTIONAL_EXPENSE = 12
    BREAKAGE = 13
    PROVIDER_CLEARING = 14
    RECEIVABLE = 15
    TAX = 16
    ROUNDING = 17
    CONVERSION = 18
    CORRECTION = 19


class OperationKind(IntEnum):
    GRANT = 1
    DEBIT = 2
    HOLD = 3
    CAPTURE = 4
    VOID = 5
    INCREASE = 6
    VOID_GRANT = 7
    CHANGE_EXPIRY = 8
    REVERSE = 9
    CORRECT = 10
    CONVERT = 11


# Where the value of a grant comes from.
GRANT_SOURCES = {
    GrantKind.PAID: Account.PROVIDER_CLEARING,
    GrantKind.PROMOTIONAL: Account.PROMOTIONAL_EXPENSE,
    GrantKind.INCLUDED: Account.CONTRACT_LIABILITY,
    GrantKind.REFUND: Account.REVENUE,
    GrantKind.COMMITMENT: Account.RECEIVABLE,
    GrantKind.CORRECTION: Account.CORRECTION,
    GrantKind.CONVERSION: Account.CONVERSION,
}


def admits(restrictions: Restrictions, purpose: Purpose) -> bool:
    """Whether every list that is not empty contains the purpose's member."""
    meters, features, products = restrictions
    return (
        (not meters or purpose[0] in meters)
        and (not features or purpose[1] in features)
        and (not products or purpose[2] in products)
    )


def breadth_of(restrictions: Restrictions | None) -> int:
    """3 for no restriction, less one for each list that restricts: narrower burns first."""
    return 3 if restrictions is None else 3 - sum(1 for codes in restrictions if codes)
