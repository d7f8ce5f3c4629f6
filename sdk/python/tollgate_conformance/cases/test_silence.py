"""Whatever is lost on the way, at each call of a plan: found out, and charged exactly once."""

from __future__ import annotations

import pytest

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import Capture
from tollgate_conformance.bench import LOST, Bench, Loss, Tried, answer
from tollgate_conformance.rig import Want

CALLS = [0, 1, 2]  # of a charge; no provider takes more to move money
GOOD = (Finding.SUCCEEDED, Finding.PENDING, Finding.AUTHORIZED)


def lose(bench: Bench, loss: Loss, want: Want = Want.OK) -> tuple[str, Tried[Outcome], Outcome]:
    """A charge of which one call is lost; how it was answered, and what asking found."""
    bench.needs("off_session")
    command = bench.charge_command(want)
    tried = bench.charge(command, loss)
    if not tried.lost:
        pytest.skip(f"a charge takes fewer than {loss.number + 1} calls")
    resolved = tried.result
    if tried.result.finding is Finding.SILENCE:
        resolved = bench.resolve(command, tried)
    return command.reference, tried, resolved


@pytest.mark.parametrize("number", CALLS)
def test_an_answer_lost_after_the_effect_is_found_out(bench: Bench, number: int) -> None:
    reference, tried, resolved = lose(bench, Loss(number, sent=True))
    assert len(bench.taken(reference)) <= 1
    if resolved.finding in GOOD:
        bench.until(lambda: _took_once(bench, reference))
    else:
        no_word_against_it(bench, reference, tried, resolved)


@pytest.mark.parametrize("number", CALLS)
def test_a_request_lost_before_the_effect_is_found_out(bench: Bench, number: int) -> None:
    reference, tried, resolved = lose(bench, Loss(number, sent=False))
    assert len(bench.taken(reference)) <= 1
    if resolved.finding in GOOD:
        bench.until(lambda: _took_once(bench, reference))
    else:
        no_word_against_it(bench, reference, tried, resolved)


@pytest.mark.parametrize("number", CALLS)
def test_an_error_after_the_effect_is_found_out(bench: Bench, number: int) -> None:
    reference, tried, resolved = lose(bench, Loss(number, sent=True, reply=answer(500)))
    assert len(bench.taken(reference)) <= 1
    if resolved.finding in GOOD:
        bench.until(lambda: _took_once(bench, reference))
    else:
        no_word_against_it(bench, reference, tried, resolved)


def no_word_against_it(
    bench: Bench, reference: str, tried: Tried[Outcome], resolved: Outcome
) -> None:
    """No clear word, or one that nothing was taken, which must then be true."""
    if bench.taken(reference):
        # Money was taken and it is not known yet: then nobody may have said that it was not.
        assert tried.result.finding is Finding.SILENCE
        assert resolved.finding is Finding.SILENCE


async def _took_once(bench: Bench, reference: str) -> bool:
    found = await bench.rig.charges(reference)
    return found is None or len([each for each in found if each.taken.atoms > 0]) == 1


@pytest.mark.parametrize("number", CALLS)
def test_a_lost_decline_is_never_taken_for_a_success(bench: Bench, number: int) -> None:
    reference, _, resolved = lose(bench, Loss(number, sent=True), Want.HARD)
    # Pending is no success: a bank may take days to say no.
    assert resolved.finding not in (Finding.SUCCEEDED, Finding.AUTHORIZED)
    assert bench.taken(reference) == []


def test_what_was_charged_can_be_found_out_in_time(bench: Bench) -> None:
    """A provider that offers a key or a look-up answers for a charge whose answer was lost."""
    bench.needs("off_session")
    if not bench.keyed and bench.able.lookup.value == "NONE":
        pytest.skip("neither a key nor a look-up is declared: notifications tell")
    command = bench.charge_command()
    number = len(bench.charge(bench.charge_command()).calls) - 1
    found: list[Outcome] = []
    for position in range(number + 1):
        command = bench.charge_command()
        tried = bench.charge(command, Loss(position, sent=True))
        if bench.charges(command.reference):
            found.append(bench.resolve(command, tried))
    assert found, "no call of a charge has an effect"
    assert all(each.finding in GOOD for each in found), found


@pytest.mark.parametrize("sent", [True, False], ids=["after", "before"])
def test_a_refund_whose_answer_is_lost_is_found_out(bench: Bench, sent: bool) -> None:
    bench.needs("off_session")
    bench.needs("refund")
    charged, outcome = bench.paid()
    command = bench.refund_command(charged, outcome)
    tried = bench.refund(command, Loss(0, sent=sent))
    resolved = tried.result
    if resolved.finding is Finding.SILENCE:
        resolved = bench.resolve_refund(command, tried)
    sent_back = bench.sent_back(command.reference)
    assert len(sent_back) <= 1
    if sent_back:
        assert resolved.finding in (*GOOD, Finding.SILENCE)
    elif resolved.finding in (Finding.SUCCEEDED, Finding.PENDING):
        raise AssertionError("a refund was told that is in no books")


def test_a_capture_whose_answer_is_lost_takes_once(bench: Bench) -> None:
    bench.needs("off_session")
    bench.needs("manual_capture")
    charged, outcome = bench.paid(capture_later=True)
    assert bench.provider.capture is not None
    command = Capture(
        reference=charged.reference,
        key=charged.key[:-4] + "c0de",
        amount=charged.amount,
        authorized=charged.amount,
        provider_payment_id=outcome.provider_payment_id,
    )
    tried = bench.play(bench.provider.capture(command, bench.login), Loss(0, sent=True))
    assert tried.result.finding is Finding.SILENCE
    if bench.keyed:
        bench.play(bench.provider.capture(command, bench.login))
    bench.until(lambda: _took_once(bench, charged.reference))
    assert bench.taken(charged.reference) == [charged.amount]


def test_a_look_that_is_not_answered_says_nothing(bench: Bench) -> None:
    command, outcome = bench.paid()
    look = bench.look(command, outcome)
    for plan in (bench.provider.read, bench.provider.find):
        if plan is None:
            continue
        for reply in (LOST, answer(500), answer(200, b"[]"), answer(200, b"{}")):
            told = bench.play(plan(look, bench.login), Loss(0, sent=False, reply=reply)).result
            assert told.finding is Finding.SILENCE, (reply, told)
