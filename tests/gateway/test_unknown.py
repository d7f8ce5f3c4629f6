"""Unclear outcomes: never charged twice, never forgotten, resolved by asking."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.gateway.support import (
    Desk,
    SandboxProcess,
    attempt_state,
    decline_class,
    open_desk,
    refusal_of,
    state_of,
)
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tests.support.waiting import until
from tollgate.gateway.v1 import messages_pb2

AFTER_EFFECT = ["hang_after", "reset_before_reply", "http_500_after", "truncated_body"]
BEFORE_EFFECT = ["hang_before", "reset_before", "http_500_before"]


async def evidence(desk: Desk, database: FreshDatabase) -> list[tuple[str, str, str, str]]:
    """(witness, finding, from, to) of everything that was found out, in order."""
    async with database.open("gateway") as pool, pool.transaction(desk.tenant_id) as tx:
        rows = await tx.fetch(
            "SELECT witness, finding, from_state, to_state FROM evidence ORDER BY evidence_id"
        )
    return [tuple(row) for row in rows]


async def messages(desk: Desk, database: FreshDatabase) -> list[str]:
    """Kinds of the messages in the outbox, in order."""
    async with database.open("gateway") as pool, pool.transaction(desk.tenant_id) as tx:
        rows = await tx.fetch("SELECT kind FROM outbox ORDER BY sequence")
    return [row["kind"] for row in rows]


@pytest.mark.parametrize("fault", [*AFTER_EFFECT, *BEFORE_EFFECT])
async def test_silence_is_resolved_by_a_replay_and_charged_exactly_once(
    desk: Desk, gateway_database: FreshDatabase, sandbox: SandboxProcess, fault: str
) -> None:
    await desk.attach("pm_ok")
    await sandbox.script(fault)
    payment = await desk.pay()
    assert state_of(payment) == "SUCCEEDED"
    assert await sandbox.taken() == 1
    assert await evidence(desk, gateway_database) == [
        ("REPLY", "SILENCE", "REQUESTED", "UNKNOWN"),
        ("REPLAY", "SUCCEEDED", "UNKNOWN", "SUCCEEDED"),
    ]
    assert await messages(desk, gateway_database) == ["payment.unknown", "payment.succeeded"]


@pytest.mark.parametrize("fault", ["http_429:3", "http_409_in_flight"])
async def test_a_busy_provider_is_waited_for_with_the_same_key(
    desk: Desk, gateway_database: FreshDatabase, sandbox: SandboxProcess, fault: str
) -> None:
    await desk.attach("pm_ok")
    await sandbox.script(fault)
    payment = await desk.pay()
    assert state_of(payment) == "SUCCEEDED"
    assert [each[0] for each in await evidence(desk, gateway_database)] == ["REPLY"]
    assert await sandbox.taken() == 1


async def test_a_provider_that_stays_silent_leaves_the_outcome_unknown(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    await sandbox.script(*["http_500_after"] * 3)
    payment = await desk.pay()
    assert (state_of(payment), payment.outcome_unknown) == ("PROCESSING", True)
    assert attempt_state(payment.attempts[0]) == "UNKNOWN"
    assert (await refusal_of(desk.retry(payment.payment_id)))[0] == "ATTEMPT_IN_FLIGHT"

    # Nobody asks before it is time, and then the first question resolves it.
    assert await desk.collector.settle_due(datetime.now(UTC)) == 0
    assert await desk.collector.settle_due(datetime.now(UTC) + timedelta(seconds=31)) == 1
    assert await desk.state(payment.payment_id) == "SUCCEEDED"
    assert await sandbox.taken() == 1


async def test_a_lost_charge_is_found_by_reference_where_keys_are_not_kept(
    services: Services,
    gateway_database: FreshDatabase,
    sandbox: SandboxProcess,
) -> None:
    desk = await open_desk(services, gateway_database, sandbox)
    await desk.open_account(f"{sandbox.endpoint}/?without=idempotency")
    await desk.attach("pm_ok")
    await sandbox.script("reset_before_reply")
    payment = await desk.pay()
    assert payment.outcome_unknown
    await desk.collector.settle_due(datetime.now(UTC) + timedelta(seconds=31))
    assert await desk.state(payment.payment_id) == "SUCCEEDED"
    assert await sandbox.taken() == 1
    witnesses = [each[0] for each in await evidence(desk, gateway_database)]
    assert witnesses == ["REPLY", "FIND"]


async def test_two_empty_finds_far_apart_prove_that_it_never_arrived(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(services, gateway_database, sandbox)
    await desk.open_account(f"{sandbox.endpoint}/?without=idempotency")
    await desk.attach("pm_ok")
    await sandbox.script("reset_before")
    payment = await desk.pay()
    assert payment.outcome_unknown
    start = datetime.now(UTC)
    await desk.collector.settle_due(start + timedelta(seconds=31))
    await desk.collector.settle_due(start + timedelta(minutes=10))
    assert (await desk.find(payment.payment_id)).outcome_unknown  # one look is no proof, nor two
    await desk.collector.settle_due(start + timedelta(minutes=20))
    failed = await desk.find(payment.payment_id)
    assert attempt_state(failed.attempts[0]) == "FAILED"
    assert failed.attempts[0].decline_code == "NEVER_REACHED_PROVIDER"
    assert await sandbox.taken() == 0
    assert state_of(await desk.retry(payment.payment_id)) == "SUCCEEDED"
    assert await sandbox.taken() == 1


async def test_with_nothing_to_ask_with_the_outcome_stays_unknown(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(services, gateway_database, sandbox)
    await desk.open_account(f"{sandbox.endpoint}/?without=idempotency,lookup,read")
    await desk.attach("pm_ok")
    await sandbox.script("reset_before_reply")
    payment = await desk.pay()
    for hours in (1, 24, 100):
        await desk.collector.settle_due(datetime.now(UTC) + timedelta(hours=hours))
    assert (await desk.find(payment.payment_id)).outcome_unknown
    assert await sandbox.taken() == 1


async def test_a_forgotten_key_is_looked_up_rather_than_given_up(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    await sandbox.script("forget_key+reset_before_reply")
    payment = await desk.pay()
    assert payment.outcome_unknown
    await desk.collector.settle_due(datetime.now(UTC) + timedelta(seconds=31))
    assert await desk.state(payment.payment_id) == "SUCCEEDED"
    assert await sandbox.taken() == 1


async def test_what_the_provider_states_is_told_where_it_took_another_amount(
    desk: Desk, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    await sandbox.script("wrong_amount")
    await desk.pay("10.00")
    async with gateway_database.open("gateway") as pool, pool.transaction(desk.tenant_id) as tx:
        payload = await tx.fetchval("SELECT payload FROM outbox")
        alerts = await tx.fetchval("SELECT alerts FROM evidence")
    assert messages_pb2.PaymentChanged.FromString(payload).amount.value == "10.01"
    assert alerts == ["AMOUNT_MISMATCH"]


async def test_a_provider_that_is_away_is_no_charge_and_may_be_tried_again(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    await sandbox.kill()
    payment = await desk.pay()
    (failed,) = payment.attempts
    assert (attempt_state(failed), failed.decline_code) == ("FAILED", "NOT_SENT")
    assert decline_class(failed) == "TECHNICAL"
    await sandbox.start()
    assert await sandbox.taken() == 0
    assert state_of(await desk.retry(payment.payment_id)) == "SUCCEEDED"
    assert await sandbox.taken() == 1


async def test_a_provider_that_dies_after_charging_still_charges_once(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    await sandbox.script(*["hang_after"] * 3)
    payment = await desk.pay(timeout=9)
    assert payment.outcome_unknown
    await sandbox.kill()
    await desk.collector.settle_due(datetime.now(UTC) + timedelta(seconds=31))
    assert (await desk.find(payment.payment_id)).outcome_unknown
    await sandbox.start()
    await desk.collector.settle_due(datetime.now(UTC) + timedelta(minutes=5))
    assert await desk.state(payment.payment_id) == "SUCCEEDED"
    assert await sandbox.taken() == 1


async def test_a_payment_under_way_is_asked_about_until_it_ends(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok_async:100ms")
    payment = await desk.pay()
    assert (state_of(payment), payment.outcome_unknown) == ("PROCESSING", False)

    async def settled() -> bool:
        return await sandbox.taken() == 1

    await until(settled, what="the sandbox settles")
    await desk.collector.settle_due(datetime.now(UTC) + timedelta(seconds=31))
    assert await desk.state(payment.payment_id) == "SUCCEEDED"


@pytest.mark.parametrize(
    ("result", "state", "code"),
    [("complete", "SUCCEEDED", ""), ("fail", "DECLINED", "authentication_failed")],
)
async def test_the_payer_decides_where_an_action_is_asked_for(
    desk: Desk, sandbox: SandboxProcess, result: str, state: str, code: str
) -> None:
    await desk.attach("pm_action")
    payment = await desk.pay()
    assert state_of(payment) == "ACTION_REQUIRED"
    await sandbox.act(payment.attempts[0].action_url, result)
    await desk.collector.settle_due(datetime.now(UTC) + timedelta(seconds=31))
    (attempt,) = (await desk.find(payment.payment_id)).attempts
    assert (attempt_state(attempt), attempt.decline_code) == (state, code)
    assert attempt.action_url == ""


async def test_outcomes_are_told_once_however_often_they_are_asked_about(
    desk: Desk, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay()
    assert await desk.collector.settle_due(datetime.now(UTC) + timedelta(days=2)) == 0
    assert await messages(desk, gateway_database) == ["payment.succeeded"]
    assert await desk.state(payment.payment_id) == "SUCCEEDED"


async def test_unknown_outcomes_are_counted_and_aged(
    desk: Desk, sandbox: SandboxProcess, services: Services
) -> None:
    await desk.attach("pm_ok")
    await sandbox.script(*["http_500_before"] * 3)
    await desk.pay()
    await desk.collector.observe_unknown(datetime.now(UTC) + timedelta(minutes=3))
    metrics: Any = desk.collector._metrics
    assert metrics.attempts_unknown.of().read() == 1
    assert 170 < metrics.attempt_unknown_oldest_seconds.of().read() < 200
