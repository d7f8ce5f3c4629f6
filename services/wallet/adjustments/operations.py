"""Giving debits back by the keys they were posted with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from chassis.database import Database
from kernel.errors import NotFound
from wallet.adjustments import store
from wallet.ledger.domain.answers import Reversed
from wallet.ledger.domain.items import ReverseItem
from wallet.ledger.domain.outcomes import Outcome, Posted, Refused
from wallet.ledger.domain.refusals import ReversedAlready
from wallet.ledger.operations import Ledger

Given = dict[tuple[str, int], dict[str, int]]


class DebitReversal(NamedTuple):
    """A debit to be given back, whole or in part."""

    request_id: str
    debit_id: str
    atoms: int
    reason: str
    fingerprint: bytes
    now: datetime | None
    caller: str


class ReversedDebit(NamedTuple):
    """What was given back of a debit."""

    asset: str
    scale: int
    atoms: int
    replayed: bool


class TransferDetail(NamedTuple):
    """One wallet's part of a debit."""

    transfer_id: str
    atoms: int
    split: tuple[tuple[str | None, int], ...]  # grant → atoms; no grant: overdraft
    reversed: int


class DebitDetail(NamedTuple):
    """A posted debit, transfer by transfer."""

    request_id: str
    posted: Posted
    transfers: list[TransferDetail]


class DebitReversals:
    """Turns reversals of debits into reversals of the transfers that the debits made.

    What several wallets paid is several transfers, each given back under a key of its own and for
    itself: a repetition after a crash finds those that were, and goes on with the others.
    """

    def __init__(self, ledger: Ledger, database: Database) -> None:
        self._ledger = ledger
        self._database = database

    async def find(self, tenant_id: UUID, keys: Sequence[str]) -> dict[str, Posted]:
        """The debits of these keys."""
        async with self._database.transaction(tenant_id) as tx:
            return await store.find_posted(tx, tenant_id, keys)

    async def describe(self, tenant_id: UUID, keys: Sequence[str]) -> list[DebitDetail]:
        """What debits took and what of them was given back, in the order of their keys."""
        async with self._database.transaction(tenant_id) as tx:
            debits = await store.find_posted(tx, tenant_id, keys)
            places = {(w, n) for debit in debits.values() for w, _, n in debit.shares}
            given = await store.find_reversed(tx, tenant_id, places)
            found = {key: await store.find_transfer(tx, tenant_id, *key) for key in sorted(places)}
        return [
            DebitDetail(
                key,
                debits[key],
                [
                    TransferDetail(
                        f"{wallet_id}/{number}",
                        atoms,
                        transfer.original.split if transfer is not None else (),
                        sum(given.get((wallet_id, number), {}).values()),
                    )
                    for wallet_id, atoms, number in debits[key].shares
                    for transfer in [found[wallet_id, number]]
                ],
            )
            for key in dict.fromkeys(keys)
            if key in debits
        ]

    async def apply(
        self, tenant_id: UUID, wanted: Sequence[DebitReversal], debits: dict[str, Posted]
    ) -> list[ReversedDebit | Refused]:
        """Outcomes in order."""
        transfers = {
            (wallet_id, sequence)
            for each in wanted
            if each.debit_id in debits
            for wallet_id, _, sequence in debits[each.debit_id].shares
        }
        async with self._database.transaction(tenant_id) as tx:
            given = await store.find_reversed(tx, tenant_id, transfers)
            found = {
                key: await store.find_transfer(tx, tenant_id, *key) for key in sorted(transfers)
            }
        planned = [
            _plan(str(tenant_id), each, debits.get(each.debit_id), given, found) for each in wanted
        ]
        items = [item for plan in planned if isinstance(plan, list) for item in plan]
        wallets = {item.wallet_id for item in items}
        await self._ledger.routes.find_wallets(str(tenant_id), wallets)
        answers = iter(await self._ledger.apply_items(items) if items else [])
        return [
            plan if isinstance(plan, Refused) else _sum([next(answers) for _ in plan])
            for plan in planned
        ]


def _plan(
    tenant_id: str,
    wanted: DebitReversal,
    debit: Posted | None,
    given: Given,
    found: dict[tuple[str, int], store.Found | None],
) -> list[ReverseItem] | Refused:
    """The transfers to give back, the last first, and how much of each."""
    if debit is None:
        return Refused.by(NotFound("debit", wanted.debit_id))
    left = wanted.atoms
    reversible = 0
    items = []
    for wallet_id, atoms, sequence in reversed(debit.shares):
        key = wanted.request_id
        if len(debit.shares) > 1:
            key = f"{key}/{sequence}"
        by_key = given.get((wallet_id, sequence), {})
        own = by_key.get(key)
        free = atoms - sum(by_key.values()) + (own or 0)
        part = own if own is not None else min(left, free)
        reversible += free
        left -= part
        transfer = found[wallet_id, sequence]
        if part and transfer is not None:
            items.append(
                ReverseItem(
                    tenant_id,
                    key,
                    wanted.fingerprint,
                    wanted.now,
                    wallet_id,
                    transfer.asset,
                    transfer.scale,
                    wanted.reason,
                    "",
                    wanted.caller,
                    sequence,
                    transfer.original,
                    part,
                )
            )
    if left:
        return Refused.by(ReversedAlready(wanted.debit_id, reversible, wanted.atoms, debit.scale))
    return items


def _sum(outcomes: Sequence[Outcome]) -> ReversedDebit | Refused:
    refusal = next((one for one in outcomes if isinstance(one, Refused)), None)
    if refusal is not None:
        return refusal
    parts = [one for one in outcomes if isinstance(one, Reversed)]
    return ReversedDebit(
        parts[0].asset,
        parts[0].scale,
        sum(part.atoms for part in parts),
        all(part.replayed for part in parts),
    )
