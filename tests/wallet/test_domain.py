"""The ledger's core against a small obvious model, without I/O."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.wallet.machine import LedgerMachine

LedgerMachine.TestCase.settings = settings(
    max_examples=250,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestLedger = LedgerMachine.TestCase
