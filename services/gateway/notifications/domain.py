"""A notification as it is kept, and when it is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from uuid import UUID

REFUSED_AN_HOUR_MAX = 1_000  # kept of one provider account; the rest are counted only
TRIES_MAX = 10
_RETRY_AFTER = (
    timedelta(minutes=1),
    timedelta(minutes=2),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=4),
    timedelta(hours=12),
    timedelta(hours=24),
)


class NotificationState(Enum):
    RECEIVED = "RECEIVED"
    APPLIED = "APPLIED"
    IGNORED = "IGNORED"  # authentic, and says nothing about a payment of ours
    DEAD = "DEAD"  # could not be applied; people look
    REFUSED = "REFUSED"  # failed authentication; changed nothing


@dataclass(frozen=True, slots=True)
class Kept:
    """One item of a notification, kept before it is believed."""

    notification_id: UUID
    provider_account_id: UUID
    provider_item_id: str
    kind: str
    body: bytes
    tries: int


def retry_after(tries: int) -> timedelta:
    """How long until a notification that could not be applied is tried again."""
    return _RETRY_AFTER[min(max(tries, 1), len(_RETRY_AFTER)) - 1]
