"""Writing down the next term of subscriptions that renew at other prices (SUB-11)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from uuid import UUID

from chassis.database import Connection
from invoicing.catalog.domain import PlanNotPublished
from invoicing.catalog.operations import get_version
from invoicing.subscriptions.domain.change import Offer, offer_held, uplifted
from invoicing.subscriptions.domain.lifecycle import renew
from invoicing.subscriptions.domain.renewal import RateSource
from invoicing.subscriptions.domain.subscription import CurrencyNotPriced, Subscription
from invoicing.subscriptions.operations import get_subscription, offer_of, save
from invoicing.subscriptions.store import list_renewing
from kernel.ids import new_id


async def renew_due(
    tx: Connection, tenant_id: UUID, payers: Sequence[str], as_of: datetime, now: datetime
) -> None:
    """Write down the next terms, of customers and of those they pay for, that are to be prepared
    by an instant."""
    for subscription_id in await list_renewing(tx, tenant_id, payers, as_of):
        before = await get_subscription(tx, tenant_id, subscription_id, lock=True)
        after = before
        while (at := _renewal_due(after, as_of)) is not None:
            after = renew(after, await _next_offers(tx, tenant_id, after, at), partial(new_id, now))
        if after is not before:
            assert before.renewal.term_end is not None
            after = replace(after, revision=before.revision + 1)
            await save(tx, tenant_id, before, after, "RENEW", before.renewal.term_end, now)


def _renewal_due(subscription: Subscription, as_of: datetime) -> datetime | None:
    """The end of the term whose successor is to be written down; none while it is paused."""
    prepared, at = subscription.renewal.prepare_time, subscription.renewal.term_end
    if prepared is None or prepared > as_of or at is None:
        return None
    over = subscription.end_time is not None and subscription.end_time <= at
    paused = subscription.term_at(at) is None
    return None if over or paused else at


async def _next_offers(
    tx: Connection, tenant_id: UUID, subscription: Subscription, at: datetime
) -> list[Offer]:
    """What the next term costs: the plan as it is held or as it is sold now, uplifted."""
    renewal = subscription.renewal
    offers = []
    for term in subscription.terms:
        if not term.holds(at):
            continue
        offer = offer_held(subscription, term, at)
        if renewal.rate_source is RateSource.CURRENT and not term.is_add_on:
            # What is not sold any more, or not in this currency, goes on as it was.
            with suppress(PlanNotPublished, CurrencyNotPriced):
                plan = await get_version(tx, tenant_id, term.plan_code, 0)
                offer = offer_of(plan, subscription.currency)
        offers.append(uplifted(offer, renewal.uplift_percent))
    return offers
