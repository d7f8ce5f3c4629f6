"""What evidence does to refunds, and to attempts whose words depend on what was asked."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.attempt import Attempt, Siblings, State
from gateway.domain.attempt import apply as apply_to_attempt
from gateway.domain.outcome import Finding, Outcome
from gateway.domain.refund import (
    OPEN,
    RESERVING,
    RefundExceedsCaptured,
    RefundState,
    apply,
    new_refund,
    refund_amount,
    refundable,
)
from kernel.money import Amount, Asset

NOW = datetime(2026, 3, 1, tzinfo=UTC)
USD = Asset("USD", 2)
ATTEMPT = Attempt(
    attempt_id=uuid.UUID(int=1),
    payment_id=uuid.UUID(int=2),
    number=1,
    provider_account_id=uuid.UUID(int=3),
    provider_account="main",
    payment_method_id=uuid.UUID(int=4),
    amount=Amount(USD, 1_000),
    state=State.SUCCEEDED,
    create_time=NOW,
    update_time=NOW,
    captured=Amount(USD, 1_000),
)
REFUND = new_refund(ATTEMPT, Amount(USD, 400), "asked for", NOW)


@given(st.lists(st.sampled_from(list(Finding)), max_size=12))
def test_what_a_refund_reserves_follows_from_its_state_alone(findings: list[Finding]) -> None:
    refund, reserved = REFUND, REFUND.amount.atoms
    for finding in findings:
        applied = apply(refund, Outcome(finding), NOW)
        refund, reserved = applied.refund, reserved + applied.reserves
        assert reserved == (REFUND.amount.atoms if refund.state in RESERVING else 0)


@pytest.mark.parametrize("state", list(RefundState))
@pytest.mark.parametrize("finding", [Finding.SILENCE, Finding.ABSENT, Finding.NEEDS_ACTION])
def test_doubt_never_ends_a_refund_but_absence_ends_an_unknown_one(
    state: RefundState, finding: Finding
) -> None:
    after = apply(replace(REFUND, state=state), Outcome(finding), NOW).refund.state
    if (state, finding) == (RefundState.UNKNOWN, Finding.ABSENT):
        assert after is RefundState.FAILED
    elif (state, finding) == (RefundState.REQUESTED, Finding.SILENCE):
        assert after is RefundState.UNKNOWN
    else:
        assert after is state


@pytest.mark.parametrize("state", [each for each in RefundState if each not in OPEN])
def test_only_a_return_or_money_that_left_after_all_moves_an_ended_refund(
    state: RefundState,
) -> None:
    moving = {
        finding
        for finding in Finding
        if apply(replace(REFUND, state=state), Outcome(finding), NOW).changed
    }
    expected = {
        RefundState.SUCCEEDED: {Finding.REVERSED},
        RefundState.REVERSED: set(),
    }
    assert moving == expected.get(state, {Finding.SUCCEEDED, Finding.PENDING})


@given(st.integers(0, 1_000), st.integers(0, 1_000), st.integers(1, 2_000))
def test_no_refund_exceeds_what_was_taken_and_neither_refunded_nor_disputed(
    refunded: int, disputed: int, asked: int
) -> None:
    attempt = replace(ATTEMPT, refunded_atoms=refunded, disputed_atoms=disputed)
    left = refundable(attempt).atoms
    if asked > left:
        with pytest.raises(RefundExceedsCaptured):
            refund_amount(attempt, Amount(USD, asked))
    else:
        assert refund_amount(attempt, Amount(USD, asked)).atoms == asked


def test_an_authorization_that_the_provider_takes_by_itself_is_a_success() -> None:
    told = Outcome(Finding.AUTHORIZED, takes_itself=True, stated=Amount(USD, 1_000))
    fresh = replace(ATTEMPT, state=State.REQUESTED, captured=None)
    applied = apply_to_attempt(fresh, told, Siblings(), NOW)
    assert (applied.attempt.state, applied.attempt.captured) == (State.SUCCEEDED, told.stated)
    waiting = replace(fresh, capture_later=True)
    assert apply_to_attempt(waiting, told, Siblings(), NOW).attempt.state is State.AUTHORIZED


def test_a_failure_that_may_come_late_reverses_a_success_and_declines_before_it() -> None:
    told = Outcome(Finding.DECLINED, undoes_success=True, decline_code="refer_to_payer")
    assert apply_to_attempt(ATTEMPT, told, Siblings(), NOW).attempt.state is State.REVERSED
    pending = replace(ATTEMPT, state=State.PROCESSING, captured=None)
    assert apply_to_attempt(pending, told, Siblings(), NOW).attempt.state is State.DECLINED


def test_a_partial_capture_is_no_mismatch_and_counts_as_what_it_took() -> None:
    held = replace(ATTEMPT, state=State.AUTHORIZED, captured=None, capture_amount=Amount(USD, 300))
    took = Outcome(Finding.SUCCEEDED, stated=Amount(USD, 300))
    applied = apply_to_attempt(held, took, Siblings(), NOW)
    assert (applied.alerts, applied.attempt.captured) == ((), Amount(USD, 300))
