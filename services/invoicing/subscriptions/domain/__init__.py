"""Subscriptions: one customer's use of plans over time, and the grids its periods are cut on."""

from __future__ import annotations

from invoicing.subscriptions.domain.proration import Basis
from invoicing.subscriptions.domain.subscription import (
    AnchorMode,
    CurrencyNotPriced,
    Item,
    Subscription,
    SubscriptionEnded,
    SubscriptionState,
    Term,
    billed,
    fee,
    find_anchor,
    months_of,
    outdated,
)

__all__ = [
    "AnchorMode",
    "Basis",
    "CurrencyNotPriced",
    "Item",
    "Subscription",
    "SubscriptionEnded",
    "SubscriptionState",
    "Term",
    "billed",
    "fee",
    "find_anchor",
    "months_of",
    "outdated",
]
