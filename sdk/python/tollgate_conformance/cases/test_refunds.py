"""Money goes back in whole or in parts, never more than was taken, and is found again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import Charge
from kernel.money import Amount
from tollgate_conformance.bench import Bench
from tollgate_conformance.rig import Want

SENT = (Finding.SUCCEEDED, Finding.PENDING)


def paid(bench: Bench, want: Want = Want.OK) -> tuple[Charge, Outcome]:
    bench.needs("refund")
    return bench.paid(want)


def test_all_of_it_goes_back(bench: Bench) -> None:
    charged, outcome = paid(bench)
    command = bench.refund_command(charged, outcome)
    told = bench.refund(command).result
    assert told.finding in SENT
    assert told.provider_refund_id
    assert told.stated in (None, charged.amount)
    assert bench.sent_back(command.reference) == [charged.amount]


def test_a_part_goes_back(bench: Bench) -> None:
    bench.needs("partial_refund")
    charged, outcome = paid(bench)
    part = bench.amount("4.00")
    command = bench.refund_command(charged, outcome, amount=part)
    assert bench.refund(command).result.finding in SENT
    assert bench.sent_back(command.reference) == [part]


def test_parts_go_back_one_after_another(bench: Bench) -> None:
    bench.needs("partial_refund")
    charged, outcome = paid(bench)
    part, before = bench.amount("4.00"), Amount(charged.amount.asset, 0)
    for _ in range(2):
        command = bench.refund_command(charged, outcome, amount=part, refunded_before=before)
        assert bench.refund(command).result.finding in SENT
        assert bench.sent_back(command.reference) == [part]
        before = before + part


def test_more_than_was_taken_never_goes_back(bench: Bench) -> None:
    bench.needs("partial_refund")
    charged, outcome = paid(bench)
    command = bench.refund_command(charged, outcome, amount=bench.amount("13.00"))
    told = bench.refund(command).result
    assert told.finding not in SENT
    assert bench.sent_back(command.reference) == []


def test_more_than_is_left_never_goes_back(bench: Bench) -> None:
    bench.needs("partial_refund")
    charged, outcome = paid(bench)
    first = bench.refund_command(charged, outcome, amount=bench.amount("10.00"))
    bench.refund(first)
    second = bench.refund_command(
        charged, outcome, amount=bench.amount("5.00"), refunded_before=first.amount
    )
    assert bench.refund(second).result.finding not in SENT
    assert bench.sent_back(second.reference) == []


def test_a_refund_of_nothing_known_is_refused(bench: Bench) -> None:
    charged, outcome = paid(bench)
    command = bench.refund_command(charged, outcome, provider_payment_id="pay_0000000000000000")
    assert bench.refund(command).result.finding in (Finding.REJECTED, Finding.SILENCE)
    assert bench.sent_back(command.reference) == []


def test_a_refund_is_read_by_its_id(bench: Bench) -> None:
    bench.needs("refund_read_by_id")
    charged, outcome = paid(bench)
    command = bench.refund_command(charged, outcome)
    told = bench.refund(command).result
    assert bench.provider.read_refund is not None
    look = bench.look_refund(command, told)
    read = bench.play(bench.provider.read_refund(look, bench.login)).result
    assert read.finding in SENT
    assert read.provider_refund_id == told.provider_refund_id


def test_a_refund_is_found_by_our_reference(bench: Bench) -> None:
    bench.needs("refund_lookup")
    charged, outcome = paid(bench)
    command = bench.refund_command(charged, outcome)
    tried = bench.refund(command)
    command, told = replace(command, notes=tried.notes), tried.result
    assert bench.provider.find_refund is not None
    found = bench.play(bench.provider.find_refund(bench.look_refund(command), bench.login)).result
    assert found.finding in SENT
    assert found.provider_refund_id == told.provider_refund_id


def test_a_refund_that_was_never_sent_is_never_found(bench: Bench) -> None:
    bench.needs("refund_lookup")
    charged, outcome = paid(bench)
    command = bench.refund_command(charged, outcome)
    assert bench.provider.find_refund is not None
    found = bench.play(bench.provider.find_refund(bench.look_refund(command), bench.login)).result
    assert found.finding in (Finding.ABSENT, Finding.SILENCE)


def test_a_refund_that_comes_back_is_told(bench: Bench) -> None:
    plan = bench.provider.read_refund or bench.provider.find_refund
    if plan is None:
        pytest.skip("a refund cannot be looked at: notifications tell")
    charged, outcome = paid(bench, Want.REFUND_RETURNED)
    command = bench.refund_command(charged, outcome)
    told = bench.refund(command).result
    look = bench.look_refund(command, told)
    back = (Finding.REVERSED, Finding.DECLINED, Finding.CANCELED)

    async def returned() -> bool:
        return (await bench.played(plan(look, bench.login))).result.finding in back

    bench.until(returned, lambda: "the refund did not come back")
    assert bench.sent_back(command.reference) == []


def test_a_refund_that_is_declined_says_so(bench: Bench) -> None:
    charged, outcome = paid(bench, Want.REFUND_DECLINED)
    command = bench.refund_command(charged, outcome)
    told = bench.refund(command).result
    assert told.finding in (Finding.DECLINED, Finding.REJECTED, Finding.PENDING)
    assert bench.sent_back(command.reference) == []
