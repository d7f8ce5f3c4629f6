"""The same request twice is one payment, however it comes twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.domain.outcome import Finding
from gateway.domain.provider_account import Idempotency
from tollgate_conformance.bench import Bench, Tried


def test_the_same_key_twice_charges_once(bench: Bench) -> None:
    bench.needs("off_session")
    bench.needs("idempotency")
    command, first = bench.paid()
    again = bench.charge(command).result
    if bench.keyed:
        assert again.provider_payment_id == first.provider_payment_id
    assert again.finding in (first.finding, Finding.PENDING, Finding.AUTHORIZED, Finding.SILENCE)
    assert bench.taken(command.reference) == [command.amount]


def test_the_same_key_at_the_same_time_charges_once(bench: Bench) -> None:
    bench.needs("off_session")
    bench.needs("idempotency")
    if not bench.keyed:
        pytest.skip("requests of one reference are only sent after a look, never together")
    command = bench.charge_command()

    async def together() -> list[Tried]:  # type: ignore[type-arg]
        plans = [bench.provider.charge(command, bench.login) for _ in range(4)]
        return list(await asyncio.gather(*(bench.played(plan) for plan in plans)))

    outcomes = [tried.result for tried in bench.run(together())]
    good = {Finding.SUCCEEDED, Finding.PENDING, Finding.AUTHORIZED}
    assert any(each.finding in good for each in outcomes)
    assert all(each.finding in good | {Finding.SILENCE} for each in outcomes)
    ids = {each.provider_payment_id for each in outcomes if each.provider_payment_id}
    assert len(ids) == 1
    bench.until(lambda: _took(bench, command.reference))
    assert bench.taken(command.reference) == [command.amount]


async def _took(bench: Bench, reference: str) -> bool:
    found = await bench.rig.charges(reference)
    return found is None or any(each.taken.atoms > 0 for each in found)


def test_a_key_with_another_amount_never_charges_again(bench: Bench) -> None:
    bench.needs("off_session")
    bench.needs("idempotency")
    command, _ = bench.paid()
    other = replace(command, amount=bench.amount("99.00"))
    outcome = bench.charge(other).result
    assert outcome.finding is not Finding.REJECTED, "a payment is there under this key"
    assert outcome.stated != other.amount
    assert bench.taken(command.reference) == [command.amount]


def test_another_key_is_another_payment(bench: Bench) -> None:
    bench.needs("off_session")
    if bench.able.idempotency is Idempotency.REFERENCE:
        pytest.skip("references keep payments apart here, not keys")
    first, one = bench.paid()
    second, other = bench.paid()
    assert first.key != second.key
    assert one.provider_payment_id != other.provider_payment_id


def test_the_same_refund_twice_sends_back_once(bench: Bench) -> None:
    bench.needs("off_session")
    bench.needs("refund")
    bench.needs("refund_idempotency")
    charged, outcome = bench.paid()
    command = bench.refund_command(charged, outcome)
    first = bench.refund(command).result
    again = bench.refund(command).result
    assert again.provider_refund_id == first.provider_refund_id
    assert bench.sent_back(command.reference) == [command.amount]


def test_a_refund_key_with_another_amount_never_sends_back_again(bench: Bench) -> None:
    bench.needs("off_session")
    bench.needs("partial_refund")
    bench.needs("refund_idempotency")
    charged, outcome = bench.paid()
    command = bench.refund_command(charged, outcome, amount=bench.amount("2.00"))
    bench.refund(command)
    again = bench.refund(replace(command, amount=bench.amount("3.00"))).result
    assert again.finding is not Finding.REJECTED, "a refund is there under this key"
    assert bench.sent_back(command.reference) == [command.amount]
