"""Amounts are exact in every currency, or refused before any call."""

from __future__ import annotations

import pytest

from gateway.domain.currency import AmountNotRepresentable
from gateway.domain.outcome import Finding
from kernel.currency import MINOR_DIGITS
from kernel.money import Amount, Asset
from tollgate_conformance.bench import Bench


@pytest.mark.parametrize("digits", [0, 2, 3])
def test_an_amount_is_taken_exactly(bench: Bench, digits: int) -> None:
    bench.needs("off_session")
    code = bench.rig.currencies.get(digits)
    if code is None:
        pytest.skip(f"the rig has no currency of {digits} decimal places")
    amount = Amount(Asset(code, digits), {0: 1234, 2: 1234, 3: 12340}[digits])
    command, outcome = bench.paid(amount=amount)
    assert outcome.stated in (None, amount)
    assert bench.taken(command.reference) == [amount]


def test_the_smallest_amount_is_not_lost(bench: Bench) -> None:
    bench.needs("off_session")
    code = bench.rig.currencies[2]
    amount = Amount(Asset(code, 2), 100)
    command, _ = bench.paid(amount=amount)
    assert bench.taken(command.reference) == [amount]


def test_a_large_amount_is_not_rounded(bench: Bench) -> None:
    bench.needs("off_session")
    code = bench.rig.currencies[2]
    amount = Amount(Asset(code, 2), 9_999_999)
    command = bench.charge_command(amount=amount)
    outcome = bench.charge(command).result
    if outcome.finding in (Finding.REJECTED, Finding.DECLINED, Finding.NEEDS_ACTION):
        pytest.skip(f"above what the provider takes: {outcome.decline_code}")
    if outcome.finding is Finding.PENDING:
        bench.settled(command, outcome, Finding.SUCCEEDED)
    assert bench.taken(command.reference) == [amount]


def test_every_currency_is_exact_or_refused_before_any_call(bench: Bench) -> None:
    """Whole units fit everywhere; whatever fits comes back as it was."""
    for code, digits in MINOR_DIGITS.items():
        for atoms in (1, 10, 100, 1000, 123_456_000):
            amount = Amount(Asset(code, digits), atoms)
            try:
                units = bench.provider.units(amount)
            except AmountNotRepresentable:
                assert atoms % 10**digits, f"{amount} is whole and was refused"
                continue
            assert units > 0
            double = bench.provider.units(Amount(amount.asset, atoms * 2))
            assert double == 2 * units
