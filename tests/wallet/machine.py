"""A state machine that drives the ledger's core and the small model, and compares them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.wallet.memory import MemoryLedger, check_journal
from tests.wallet.worlds import (
    CUSTOMER,
    START,
    Shape,
    World,
    operations,
    shapes,
    waits,
    wallet_id_of,
)
from wallet.ledger.domain.books import Balance, Wallet
from wallet.ledger.domain.values import ShortfallMode, WalletState

TENANT = "0190aaaa-0000-7000-8000-000000000001"


class LedgerMachine(RuleBasedStateMachine):
    """Batches, repeats and the passing of time, on one customer's wallets."""

    @initialize(wallets=shapes)
    def open(self, wallets: list[Shape]) -> None:
        self.ledger = MemoryLedger(TENANT)
        for index, (priority, mode, floor, meters) in enumerate(wallets):
            wallet = Wallet(
                TENANT,
                wallet_id_of(TENANT, index),
                CUSTOMER,
                priority,
                (meters, (), ()) if meters else None,
                ShortfallMode[mode],
                False,
                WalletState.ACTIVE,
            )
            if mode == "OVERDRAFT":
                wallet.balances["USD"] = Balance(
                    wallet, "USD", floor=floor, sequence_before=0, change_time=START
                )
            self.ledger.add(wallet)
        self.world = World.of(TENANT, self.ledger, wallets)
        first = [
            ("grant", index, 100, 50, cost, None, None, ())
            for index in range(len(wallets))
            for cost in (1, 0)
        ]
        asyncio.run(self.world.batch(first))

    @rule(chosen=st.lists(operations, min_size=3, max_size=12))
    def batch(self, chosen: list[Any]) -> None:
        asyncio.run(self.world.batch(chosen))

    @rule(position=st.integers(0, 100))
    def repeat(self, position: int) -> None:
        asyncio.run(self.world.repeat(position))

    @rule(seconds=waits)
    def wait(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    @rule(index=st.integers(0, 2))
    def freeze_or_thaw(self, index: int) -> None:
        wallet = self.ledger.wallets.get(wallet_id_of(TENANT, index))
        if wallet is not None:
            purse = self.world.model.wallets[index]
            purse.frozen = not purse.frozen
            wallet.state = WalletState.FROZEN if purse.frozen else WalletState.ACTIVE

    @invariant()
    def everything_is_what_the_journal_says(self) -> None:
        if hasattr(self, "ledger"):
            check_journal(self.ledger)
            self.world.check_grants(
                {
                    grant.grant_id: grant.remaining - grant.held
                    for wallet in self.ledger.wallets.values()
                    for grant in wallet.grants.values()
                }
            )
