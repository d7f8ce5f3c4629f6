"""A charge takes exactly what was asked for, or says clearly why not."""

from __future__ import annotations

import pytest

from gateway.domain.outcome import Basis, DeclineClass, Finding
from gateway.providers.plan import Phase, Silence
from tollgate_conformance.bench import Bench, Loss, answer
from tollgate_conformance.rig import Want


@pytest.fixture(autouse=True)
def _charges(bench: Bench) -> None:
    bench.needs("off_session")


def test_a_good_charge_takes_what_was_asked_for_once(bench: Bench) -> None:
    command, outcome = bench.paid()
    assert outcome.provider_payment_id
    assert outcome.stated in (None, command.amount)
    assert bench.taken(command.reference) == [command.amount]


def test_a_good_charge_names_itself_at_once(bench: Bench) -> None:
    """Without an id there is nothing to look at when the next answer is lost."""
    outcome = bench.charge(bench.charge_command()).result
    if not bench.able.read_by_id:
        pytest.skip(f"{bench.provider.name} does not declare read_by_id")
    assert outcome.provider_payment_id


@pytest.mark.parametrize(
    "want", [Want.SOFT, Want.TECHNICAL, Want.ACTION_REQUIRED, Want.HARD, Want.FRAUD]
)
def test_a_decline_says_what_it_means_and_takes_nothing(bench: Bench, want: Want) -> None:
    command = bench.charge_command(want)
    outcome = bench.charge(command).result
    if outcome.finding is Finding.PENDING:
        outcome = bench.settled(command, outcome, Finding.DECLINED)
    assert outcome.finding is Finding.DECLINED
    assert outcome.decline_class is DeclineClass[want.value]
    assert outcome.decline_code
    assert bench.taken(command.reference) == []


def test_a_charge_that_waits_for_its_payer_says_where(bench: Bench) -> None:
    command = bench.charge_command(Want.NEEDS_ACTION)
    outcome = bench.charge(command).result
    assert outcome.finding is Finding.NEEDS_ACTION
    assert outcome.action is None or outcome.action.url.startswith(("https://", "http://"))
    assert bench.taken(command.reference) == []


def test_a_charge_that_settles_later_is_pending_until_it_does(bench: Bench) -> None:
    bench.needs("async_settlement")
    command = bench.charge_command(Want.ASYNC)
    outcome = bench.charge(command).result
    assert outcome.finding is Finding.PENDING
    assert bench.settled(command, outcome, Finding.SUCCEEDED).stated in (None, command.amount)
    assert bench.taken(command.reference) == [command.amount]


def test_a_method_that_nobody_knows_takes_nothing(bench: Bench) -> None:
    command = bench.charge_command(provider_token="no_such_method_0001")
    outcome = bench.charge(command).result
    assert outcome.finding in (Finding.REJECTED, Finding.DECLINED, Finding.SILENCE)
    assert bench.taken(command.reference) == []


def test_two_charges_are_two_payments(bench: Bench) -> None:
    first, one = bench.paid()
    second, other = bench.paid()
    assert one.provider_payment_id != other.provider_payment_id
    assert bench.taken(first.reference) == bench.taken(second.reference) == [first.amount]


def test_what_never_left_is_told_as_that(bench: Bench) -> None:
    unsent = Silence(Phase.BEFORE_SEND, "ConnectError")
    command = bench.charge_command()
    tried = bench.charge(command, Loss(0, sent=False, reply=unsent))
    assert tried.result.finding is Finding.REJECTED
    assert tried.result.basis is Basis.NOT_SENT
    assert tried.result.retryable
    assert bench.taken(command.reference) == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_is_no_word_about_the_payment(bench: Bench, status: int) -> None:
    outcome = bench.charge(bench.charge_command(), Loss(0, sent=False, reply=answer(status))).result
    assert outcome.basis is Basis.ACCESS or outcome.finding is Finding.SILENCE


@pytest.mark.parametrize("status", [408, 500, 502, 503])
def test_an_error_of_the_provider_is_silence(bench: Bench, status: int) -> None:
    outcome = bench.charge(bench.charge_command(), Loss(0, sent=False, reply=answer(status))).result
    assert outcome.finding is Finding.SILENCE


@pytest.mark.parametrize("body", [b"", b"[]", b'{"truncat', b"<html>", b"\xff\xfe\x00garbage"])
def test_an_answer_that_is_not_as_documented_is_silence(bench: Bench, body: bytes) -> None:
    reply = answer(200, body)
    outcome = bench.charge(bench.charge_command(), Loss(0, sent=False, reply=reply)).result
    assert outcome.finding is Finding.SILENCE
