"""Trying the short way: what comes back undone is decided in the full one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import asyncpg

from chassis.database import Database
from wallet.ledger.domain.batch import Bundle, NewId
from wallet.ledger.domain.items import HoldItem, Item
from wallet.ledger.domain.outcomes import Held, Outcome, Posted
from wallet.ledger.domain.values import HoldState
from wallet.plain import store
from wallet.plain.domain import Plain, Plan, part
from wallet.plain.store import Done


async def apply_plain(
    database: Database,
    bundles: Sequence[Bundle],
    customer_of: Callable[[Item], str],
    new_id: NewId,
) -> dict[int, list[Outcome]]:
    """Do what is plain of a batch; answers the outcomes of the bundles that were done, by position.

    All others are untouched. Raises DatabaseUnavailable, OutcomeUnknown.
    """
    spending, capturing = part(bundles, customer_of)
    answers: dict[int, list[Outcome]] = {}
    try:
        if spending.items:
            done, ids = await store.spend(database, spending, new_id, datetime.now(UTC))
            _collect(answers, spending, bundles, done, ids)
        if capturing.items:
            done = await store.capture(database, capturing)
            _collect(answers, capturing, bundles, done, {})
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.TransactionRollbackError):
        # A key was answered before, or another batch came between: the full way sees what it was.
        pass
    return answers


def _collect(
    answers: dict[int, list[Outcome]],
    plan: Plan,
    bundles: Sequence[Bundle],
    done: dict[int, Done],
    hold_ids: dict[int, str],
) -> None:
    place = 0
    for position in plan.bundles:
        end = place + len(bundles[position])
        if place in done:
            answers[position] = [
                _outcome(plan.items[at][0], done[at], hold_ids.get(at, ""))
                for at in range(place, end)
            ]
        place = end


def _outcome(item: Plain, done: Done, hold_id: str) -> Outcome:
    assert item.scale is not None
    shares = [(done.wallet_id, item.atoms, done.number)]
    if isinstance(item, HoldItem):
        return Held(
            hold_id,
            item.customer_id,
            item.asset,
            item.scale,
            item.atoms,
            0,
            HoldState.OPEN,
            item.reference,
            done.instant,
            done.instant + item.time_to_live,
            done.left,
            shares,
        )
    return Posted(item.asset, item.scale, item.atoms, 0, done.left, False, shares)
