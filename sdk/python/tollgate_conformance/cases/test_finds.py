"""A look finds what is there, and claims absence only where it saw all there is."""

from __future__ import annotations

import uuid

import pytest

from gateway.domain.outcome import Finding, Witness, as_evidence
from tollgate_conformance.bench import Bench
from tollgate_conformance.rig import Want

MONEY = (Finding.SUCCEEDED, Finding.PENDING, Finding.AUTHORIZED)


def test_a_payment_is_read_by_its_id(bench: Bench) -> None:
    bench.needs("read_by_id")
    command, outcome = bench.paid()
    assert bench.provider.read is not None
    read = bench.play(bench.provider.read(bench.look(command, outcome), bench.login)).result
    assert read.finding in MONEY
    assert read.provider_payment_id == outcome.provider_payment_id
    assert read.stated in (None, command.amount)


def test_a_payment_is_found_by_our_reference(bench: Bench) -> None:
    bench.needs("lookup")
    command, outcome = bench.paid()
    assert bench.provider.find is not None
    look = bench.look(command, notes={})
    found = bench.play(bench.provider.find(look, bench.login)).result
    assert found.finding in MONEY
    assert found.provider_payment_id == outcome.provider_payment_id


def test_a_payment_is_found_among_others_of_the_customer(bench: Bench) -> None:
    bench.needs("lookup")
    bench.paid()
    command, outcome = bench.paid()
    bench.paid()
    assert bench.provider.find is not None
    found = bench.play(bench.provider.find(bench.look(command), bench.login)).result
    assert found.provider_payment_id == outcome.provider_payment_id


def test_what_was_never_sent_is_never_found(bench: Bench) -> None:
    bench.needs("lookup")
    bench.needs("off_session")
    command = bench.charge_command()
    assert bench.provider.find is not None
    found = bench.play(bench.provider.find(bench.look(command), bench.login)).result
    assert found.finding in (Finding.ABSENT, Finding.SILENCE)


def test_absence_is_claimed_where_the_whole_list_was_seen(bench: Bench) -> None:
    bench.needs("lookup")
    command, outcome = bench.paid()
    assert bench.provider.find is not None
    look = bench.look(
        command, outcome, reference=str(uuid.uuid4()), provider_payment_id="", notes={}
    )
    found = bench.play(bench.provider.find(look, bench.login)).result
    assert found.finding is Finding.ABSENT


def test_an_id_that_nobody_knows_is_no_absence(bench: Bench) -> None:
    bench.needs("read_by_id")
    command, outcome = bench.paid()
    look = bench.look(command, outcome, provider_payment_id="pay_0000000000000000")
    assert bench.provider.read is not None
    read = bench.play(bench.provider.read(look, bench.login)).result
    assert as_evidence(read, Witness.READ).finding in (Finding.SILENCE, Finding.REJECTED)
    assert read.finding is not Finding.ABSENT


def test_a_payment_of_another_reference_is_not_taken_for_ours(bench: Bench) -> None:
    bench.needs("read_by_id")
    command, outcome = bench.paid()
    look = bench.look(command, outcome, reference=str(uuid.uuid4()))
    assert bench.provider.read is not None
    read = bench.play(bench.provider.read(look, bench.login)).result
    assert read.finding not in MONEY


def test_a_decline_is_found_as_a_decline(bench: Bench) -> None:
    bench.needs("lookup")
    bench.needs("off_session")
    command = bench.charge_command(Want.SOFT)
    bench.charge(command)
    assert bench.provider.find is not None
    found = bench.play(bench.provider.find(bench.look(command), bench.login)).result
    if found.finding in (Finding.ABSENT, Finding.SILENCE):
        pytest.skip("a declined charge leaves nothing behind here")
    assert found.finding in (Finding.DECLINED, Finding.CANCELED, Finding.PENDING)
