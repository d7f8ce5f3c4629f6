"""What is reserved is taken once, in whole or in part, or set free."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import Cancel, Capture, Charge
from kernel.money import Amount
from tollgate_conformance.bench import Bench

TAKEN = (Finding.SUCCEEDED, Finding.PENDING)


def reserve(bench: Bench) -> tuple[Charge, Outcome]:
    bench.needs("manual_capture")
    return bench.paid(capture_later=True)


def capture(bench: Bench, charged: Charge, outcome: Outcome, **changes: Any) -> Outcome:
    assert bench.provider.capture is not None
    command = Capture(
        **{
            "reference": charged.reference,
            "key": str(uuid.uuid4()),
            "amount": charged.amount,
            "authorized": charged.amount,
            "provider_payment_id": outcome.provider_payment_id,
            **changes,
        }
    )
    return bench.play(bench.provider.capture(command, bench.login)).result


def cancel(bench: Bench, charged: Charge, outcome: Outcome) -> Outcome:
    assert bench.provider.cancel is not None
    command = Cancel(
        charged.reference, str(uuid.uuid4()), charged.amount, outcome.provider_payment_id
    )
    return bench.play(bench.provider.cancel(command, bench.login)).result


def taken(bench: Bench, reference: str) -> list[Amount]:
    """What was taken, once something was."""

    async def there() -> bool:
        found = await bench.rig.charges(reference)
        return found is None or any(each.taken.atoms > 0 for each in found)

    bench.until(there)
    return bench.taken(reference)


def test_what_is_reserved_is_not_taken(bench: Bench) -> None:
    charged, outcome = reserve(bench)
    assert outcome.finding is Finding.AUTHORIZED
    assert bench.taken(charged.reference) == []


def test_a_capture_takes_all_of_it(bench: Bench) -> None:
    charged, outcome = reserve(bench)
    assert capture(bench, charged, outcome).finding in TAKEN
    assert taken(bench, charged.reference) == [charged.amount]


def test_a_capture_takes_a_part_of_it(bench: Bench) -> None:
    bench.needs("partial_capture")
    charged, outcome = reserve(bench)
    part = bench.amount("5.00")
    assert capture(bench, charged, outcome, amount=part).finding in TAKEN
    assert taken(bench, charged.reference) == [part]


def test_more_than_was_reserved_is_never_taken(bench: Bench) -> None:
    charged, outcome = reserve(bench)
    told = capture(bench, charged, outcome, amount=bench.amount("13.00"))
    assert told.finding not in (Finding.SUCCEEDED, Finding.PENDING)
    assert bench.taken(charged.reference) == []


def test_a_second_capture_takes_nothing_more(bench: Bench) -> None:
    charged, outcome = reserve(bench)
    capture(bench, charged, outcome)
    assert taken(bench, charged.reference) == [charged.amount]
    capture(bench, charged, outcome)
    assert bench.taken(charged.reference) == [charged.amount]


def test_what_is_canceled_is_set_free(bench: Bench) -> None:
    bench.needs("cancel")
    charged, outcome = reserve(bench)
    told = cancel(bench, charged, outcome)
    assert told.finding in (Finding.CANCELED, Finding.PENDING)
    assert bench.taken(charged.reference) == []


def test_canceling_twice_is_canceling_once(bench: Bench) -> None:
    bench.needs("cancel")
    charged, outcome = reserve(bench)
    cancel(bench, charged, outcome)
    again = cancel(bench, charged, outcome)
    assert again.finding in (Finding.CANCELED, Finding.PENDING, Finding.SILENCE, Finding.REJECTED)
    assert bench.taken(charged.reference) == []


def test_what_is_canceled_is_not_captured(bench: Bench) -> None:
    bench.needs("cancel")
    charged, outcome = reserve(bench)
    cancel(bench, charged, outcome)
    capture(bench, charged, outcome)
    assert bench.taken(charged.reference) == []


def test_what_was_taken_is_not_canceled(bench: Bench) -> None:
    bench.needs("cancel")
    charged, outcome = bench.paid()
    told = cancel(bench, charged, outcome)
    if told.finding is Finding.CANCELED and not bench.taken(charged.reference):
        pytest.skip("a success can still be called off here, and its money goes back")
    assert told.finding is not Finding.CANCELED
    assert bench.taken(charged.reference) == [charged.amount]
