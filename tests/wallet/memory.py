"""The ledger's core over a world that is kept in memory: the same rules, no database."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from kernel.ids import new_id
from wallet.ledger.domain.batch import Bundle, decide
from wallet.ledger.domain.books import Books, Grant, Hold, NeedsAllGrants, Row, Wallet
from wallet.ledger.domain.outcomes import Outcome, encode
from wallet.ledger.domain.values import NEVER

MAKES_GRANTS = (1, 11, 12, 13)  # kinds of moves that put a new grant into a wallet
LISTED = 2  # grants listed at first: fewer than in service, so that lists run out often


@dataclass
class MemoryLedger:
    """Applies batches one after another, each to a fresh copy of what the last one left."""

    tenant_id: str
    wallets: dict[str, Wallet] = field(default_factory=dict)
    holds: dict[tuple[str, str], Hold] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[bytes, str | Outcome]] = field(default_factory=dict)
    journal: list[Row] = field(default_factory=list)
    reversed: dict[tuple[str, str, int], int] = field(default_factory=dict)
    asked_again: int = 0
    _number: int = 0

    def add(self, wallet: Wallet) -> None:
        wallet.terms_known = True
        self.wallets[wallet.wallet_id] = wallet

    async def apply(self, bundles: Sequence[Bundle]) -> list[list[Outcome]]:
        now = bundles[0][0].now
        assert now is not None
        whole: set[tuple[str, str]] = set()
        first = self._number
        while True:
            books = self._books(now, whole)
            try:
                outcomes = decide(books, bundles, self._new_id)
            except NeedsAllGrants as need:
                self.asked_again += 1
                self._number = first  # what was made is forgotten
                whole.add((need.balance.wallet_id, need.balance.asset))
                continue
            self._keep(books)
            return outcomes

    def _books(self, now: datetime, whole: set[tuple[str, str]]) -> Books:
        wallets, holds = copy.deepcopy((self.wallets, self.holds))
        books = Books(clock=now, holds=holds, answers=dict(self.answers))
        books.details.reversed = dict(self.reversed)
        for wallet in sorted(wallets.values(), key=lambda w: (w.priority, w.wallet_id)):
            books.wallets[self.tenant_id, wallet.wallet_id] = wallet
            key = (self.tenant_id, wallet.customer_id)
            books.customers.setdefault(key, []).append(wallet)
            for asset, balance in wallet.balances.items():
                every = balance.restricted_grants or balance.next_change <= now
                if not every and (wallet.wallet_id, asset) not in whole:
                    balance.truncated = len(balance.grants) >= LISTED
                    balance.grants = balance.grants[:LISTED]
        return books

    def _keep(self, books: Books) -> None:
        self.journal += books.transfers
        self.wallets = {wallet.wallet_id: wallet for wallet in books.wallets.values()}
        self.holds = books.holds
        self.reversed = books.details.reversed
        for hold in self.holds.values():
            hold.is_new = False
        for wallet in self.wallets.values():
            for asset, balance in wallet.balances.items():
                balance.truncated = False
                balance.dirty = False
                of_asset = self._of_asset(wallet, asset)
                balance.grants = sorted(of_asset, key=Grant.rank)
            for grant in wallet.grants.values():
                grant.is_new = False
        for tenant_id, request_id, _, _, _, fingerprint, outcome, _ in books.operations:
            assert (tenant_id, request_id) not in self.answers
            self.answers[tenant_id, request_id] = (fingerprint, encode(outcome))

    def _of_asset(self, wallet: Wallet, asset: str) -> list[Grant]:
        granted = {
            row[9].strip("{}")
            for row in self.journal
            if row[3] in MAKES_GRANTS and row[7] == 1 and row[4] == asset
        }
        return [
            grant
            for grant in wallet.grants.values()
            if grant.remaining > 0 and grant.grant_id in granted
        ]

    def _new_id(self, instant: datetime) -> UUID:
        self._number += 1
        return new_id(instant, self._number)


def check_journal(ledger: MemoryLedger) -> None:
    """Everything stored is what the journal says, and the invariants hold."""
    for wallet in ledger.wallets.values():
        rows = [row for row in ledger.journal if row[1] == wallet.wallet_id]
        assert [row[2] for row in rows] == list(range(1, len(rows) + 1)), "numbers have gaps"
        for asset, balance in wallet.balances.items():
            moves = [row for row in rows if row[4] == asset]
            assert all(int(row[5]) > 0 and row[6] != row[7] for row in moves)
            assert balance.credited == _sum(moves, lambda row: row[6] >= 10)
            assert balance.debited == _sum(moves, lambda row: row[7] >= 10)
            held = _sum(moves, lambda r: r[7] == 2) - _sum(moves, lambda r: r[6] == 2)
            lent = _sum(moves, lambda r: r[6] == 3) - _sum(moves, lambda r: r[7] == 3)
            assert (balance.held, balance.overdrawn) == (held, lent)
            remaining = sum(grant.remaining for grant in balance.grants)
            pinned = sum(grant.held for grant in balance.grants)
            backed = balance.held - balance.held_unbacked
            assert pinned == backed
            assert remaining == (
                balance.credited - balance.debited + balance.overdrawn - balance.held_unbacked
            )
            assert balance.debited + balance.held <= (
                balance.credited + balance.floor + balance.forced
            )
            assert balance.dormant == sum(g.remaining for g in balance.grants if g.dormant)
            assert balance.restricted_grants == sum(
                1 for grant in balance.grants if grant.restrictions is not None
            )
            assert (
                min(balance.held_unbacked, balance.forced, balance.dormant, balance.overdrawn) >= 0
            )
        _check_grants(wallet, rows)


def _check_grants(wallet: Wallet, rows: list[Row]) -> None:
    remaining: dict[str, int] = {}
    held: dict[str, int] = {}
    for row in rows:
        debit, credit = row[6], row[7]
        ids, parts = row[9].strip("{}").split(","), row[10].strip("{}").split(",")
        assert sum(int(part) for part in parts) == int(row[5])
        for grant_id, part in zip(ids, parts, strict=True):
            atoms = int(part)
            if credit == 1 and debit != 2:
                remaining[grant_id] = remaining.get(grant_id, 0) + atoms
            elif (debit == 1 and credit != 2) or (debit == 2 and credit != 1):
                remaining[grant_id] = remaining.get(grant_id, 0) - atoms
            if credit == 2:
                held[grant_id] = held.get(grant_id, 0) + atoms
            elif debit == 2:
                held[grant_id] = held.get(grant_id, 0) - atoms
    for grant in wallet.grants.values():
        assert grant.remaining == remaining.get(grant.grant_id, 0)
        assert grant.held == held.get(grant.grant_id, 0)
        assert 0 <= grant.held <= grant.remaining <= grant.amount
        assert grant.expire_time <= NEVER


def _sum(rows: list[Row], chosen: object) -> int:
    assert callable(chosen)
    return sum(int(row[5]) for row in rows if chosen(row))
