"""The state table of attempts: properties that no sequence of findings can break."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.attempt import LIVE, TABLE, Alert, Attempt, Siblings, State, apply, step
from gateway.domain.outcome import Basis, DeclineClass, Finding, Outcome, Witness, as_evidence
from gateway.domain.payment import PaymentState, project
from kernel.money import Amount, Asset

NOW = datetime(2026, 3, 1, tzinfo=UTC)
USD = Asset("USD", 2)
ENDED = {State.DECLINED, State.FAILED, State.CANCELED}

# The table as it is written in the specification, a letter per column, for a second reading of it.
COLUMNS = (
    Finding.AUTHORIZED,
    Finding.SUCCEEDED,
    Finding.PENDING,
    Finding.NEEDS_ACTION,
    Finding.DECLINED,
    Finding.REJECTED,
    Finding.CANCELED,
    Finding.SILENCE,
    Finding.ABSENT,
    Finding.REVERSED,
)
SHORT = {
    "A": State.AUTHORIZED,
    "S": State.SUCCEEDED,
    "P": State.PROCESSING,
    "N": State.ACTION_REQUIRED,
    "D": State.DECLINED,
    "F": State.FAILED,
    "C": State.CANCELED,
    "U": State.UNKNOWN,
    "R": State.REVERSED,
}
WRITTEN = {
    State.REQUESTED: "ASPNDFCU..",
    State.UNKNOWN: "ASPNDFC.FR",
    State.ACTION_REQUIRED: "ASP.DFC...",
    State.PROCESSING: "AS.NDFC..R",
    State.AUTHORIZED: ".S..D.C...",
    State.SUCCEEDED: ".........R",
    State.DECLINED: "ASP.......",
    State.CANCELED: "ASP.......",
    State.FAILED: "ASP.......",
    State.REVERSED: ".SP.......",
}


def attempt(state: State = State.REQUESTED) -> Attempt:
    return Attempt(
        attempt_id=uuid.uuid4(),
        payment_id=uuid.uuid4(),
        number=1,
        provider_account_id=uuid.uuid4(),
        provider_account="main",
        payment_method_id=uuid.uuid4(),
        amount=Amount(USD, 1_250),
        state=state,
        create_time=NOW,
        update_time=NOW,
    )


@pytest.mark.parametrize("state", list(State))
def test_the_table_is_the_specified_one(state: State) -> None:
    for finding, letter in zip(COLUMNS, WRITTEN[state], strict=True):
        found = step(state, finding)
        assert (found.to if found else None) == SHORT.get(letter), (state, finding)


def test_nothing_leaves_succeeded_but_a_reversal() -> None:
    assert {finding for finding in Finding if step(State.SUCCEEDED, finding)} == {Finding.REVERSED}


def test_nothing_returns_to_requested_and_only_a_request_becomes_unknown() -> None:
    targets = {(start, each.to) for start, row in TABLE.items() for each in row.values()}
    assert State.REQUESTED not in {to for _, to in targets}
    assert {start for start, to in targets if to is State.UNKNOWN} == {State.REQUESTED}


def test_silence_never_ends_anything() -> None:
    ends = [step(state, Finding.SILENCE) for state in State]
    assert {found.to for found in ends if found} == {State.UNKNOWN}


def test_absence_fails_only_what_is_unknown() -> None:
    assert [state for state in State if step(state, Finding.ABSENT)] == [State.UNKNOWN]


def test_what_comes_to_life_again_is_late() -> None:
    for state in ENDED:
        assert all(found.late for found in TABLE[state].values())
    for state in set(State) - ENDED:
        assert not any(found.late for found in TABLE[state].values())


outcomes = st.builds(
    Outcome,
    finding=st.sampled_from(Finding),
    provider_payment_id=st.sampled_from(["", "pay_1", "pay_2"]),
    stated=st.sampled_from([None, Amount(USD, 1_250), Amount(USD, 1_251)]),
    decline_code=st.sampled_from(["", "insufficient_funds"]),
    decline_class=st.sampled_from([None, *DeclineClass]),
)


@given(st.lists(st.tuples(outcomes, st.booleans(), st.booleans()), max_size=30))
def test_success_is_told_once_until_it_is_reversed(
    story: list[tuple[Outcome, bool, bool]],
) -> None:
    current, standing = attempt(), False
    for minute, (outcome, alive, paid) in enumerate(story):
        applied = apply(current, outcome, Siblings(alive, paid), NOW + timedelta(minutes=minute))
        if applied.attempt.state is State.SUCCEEDED and applied.tell:
            assert not standing
            standing = True
        if applied.attempt.state is State.REVERSED and applied.tell:
            standing = False
        current = applied.attempt


@given(st.sampled_from(State), outcomes)
def test_the_second_witness_of_one_fact_changes_nothing(state: State, outcome: Outcome) -> None:
    first = apply(attempt(state), outcome, Siblings(), NOW)
    second = apply(first.attempt, outcome, Siblings(), NOW + timedelta(hours=1))
    if outcome.finding is not Finding.SILENCE:
        assert not second.changed or second.attempt.state is not first.attempt.state
        assert not (second.tell and second.attempt.state is first.attempt.state)


@given(outcomes, st.sampled_from(sorted(ENDED, key=lambda state: state.value)))
def test_a_late_attempt_does_not_come_alive_beside_another(outcome: Outcome, state: State) -> None:
    applied = apply(attempt(state), outcome, Siblings(alive=True), NOW)
    assert applied.attempt.state not in LIVE
    if (found := step(state, outcome.finding)) and found.to in LIVE:
        assert applied.alerts == (Alert.TWO_ALIVE,)


@given(st.sampled_from(State), st.sampled_from(State), outcomes)
def test_what_was_asked_before_an_attempt_ended_cannot_bring_it_back(
    asked_in: State, state: State, outcome: Outcome
) -> None:
    applied = apply(attempt(state), outcome, Siblings(), NOW, asked_in)
    if state not in LIVE and asked_in is not state:
        assert not applied.changed
        assert applied.ask_again == (step(state, outcome.finding) is not None)
    else:
        fresh = apply(attempt(state), outcome, Siblings(), NOW)
        assert (applied.changed, applied.alerts) == (fresh.changed, fresh.alerts)


def test_the_first_provider_id_stands() -> None:
    named = apply(attempt(), Outcome(Finding.PENDING, "pay_1"), Siblings(), NOW).attempt
    renamed = apply(named, Outcome(Finding.SUCCEEDED, "pay_2"), Siblings(), NOW).attempt
    assert renamed.provider_payment_id == "pay_1"


@pytest.mark.parametrize(
    ("state", "finding", "siblings", "alert"),
    [
        (State.SUCCEEDED, Finding.REVERSED, Siblings(), Alert.REVERSED_AFTER_SUCCESS),
        (State.DECLINED, Finding.SUCCEEDED, Siblings(), Alert.LATE_SUCCESS),
        (State.CANCELED, Finding.SUCCEEDED, Siblings(paid=True), Alert.PAID_TWICE),
        (State.FAILED, Finding.PENDING, Siblings(), Alert.LATE_AFTER_FAILURE),
    ],
)
def test_people_are_told_of_what_should_not_happen(
    state: State, finding: Finding, siblings: Siblings, alert: Alert
) -> None:
    assert apply(attempt(state), Outcome(finding), siblings, NOW).alerts == (alert,)


def test_another_amount_than_asked_for_is_kept_as_stated_and_alerted() -> None:
    outcome = Outcome(Finding.SUCCEEDED, stated=Amount(USD, 1_251))
    applied = apply(attempt(), outcome, Siblings(), NOW)
    assert applied.attempt.stated == Amount(USD, 1_251)
    assert applied.alerts == (Alert.AMOUNT_MISMATCH,)


@pytest.mark.parametrize("basis", [each for each in Basis if each is not Basis.STATED])
def test_words_about_a_question_are_no_words_about_the_payment(basis: Basis) -> None:
    refused = Outcome(Finding.REJECTED, basis=basis)
    assert as_evidence(refused, Witness.REPLY).finding is Finding.REJECTED
    for witness in (Witness.REPLAY, Witness.READ, Witness.FIND, Witness.NOTIFICATION):
        assert as_evidence(refused, witness).finding is Finding.SILENCE


def test_only_a_find_reports_absence() -> None:
    absent = Outcome(Finding.ABSENT)
    for witness in Witness:
        expected = Finding.ABSENT if witness is Witness.FIND else Finding.SILENCE
        assert as_evidence(absent, witness).finding is expected


@given(st.lists(st.sampled_from(State), min_size=1, max_size=6))
def test_an_intent_is_what_its_attempts_amount_to(states: list[State]) -> None:
    state, unknown = project(states)
    assert (state is PaymentState.SUCCEEDED) == (State.SUCCEEDED in states)
    if State.SUCCEEDED not in states:
        alive = [each for each in states if each in LIVE]
        assert unknown == (bool(alive) and alive[0] is State.UNKNOWN)
        assert (state in (PaymentState.OPEN, PaymentState.REVERSED)) == (not alive)
