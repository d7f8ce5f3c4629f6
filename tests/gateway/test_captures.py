"""Captures and cancellations: what is reserved is taken once, in whole or in part, or released."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.gateway.support import (
    Desk,
    SandboxProcess,
    attempt_state,
    open_desk,
    refund_state,
    refusal_of,
    state_of,
    told_kinds,
)
from tests.support.databases import FreshDatabase
from tests.support.services import Services


async def taken_units(sandbox: SandboxProcess) -> int:
    return sum(each["amount"] for each in (await sandbox.books())["taken"].values())


async def test_what_is_reserved_is_taken_when_it_is_captured(
    desk: Desk, sandbox: SandboxProcess, gateway_database: FreshDatabase
) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay("12.50", capture_later=True)
    assert (state_of(payment), payment.capture_later) == ("AUTHORIZED", True)
    assert await sandbox.taken() == 0
    answer = await desk.capture(payment.payment_id)
    assert (state_of(answer.payment), answer.outcome_unknown) == ("SUCCEEDED", False)
    assert await taken_units(sandbox) == 1250
    kinds = await told_kinds(gateway_database, desk.tenant_id)
    assert kinds == ["payment.authorized", "payment.succeeded"]


async def test_a_part_is_taken_and_no_more_than_that_part_is_refunded(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay("12.50", capture_later=True)
    answer = await desk.capture(payment.payment_id, "7.25")
    assert answer.payment.attempts[0].captured.value == "7.25"
    assert await taken_units(sandbox) == 725
    reason, facts = await refusal_of(desk.refund(payment.payment_id, "7.26"))
    assert (reason, facts["refundable"]) == ("REFUND_EXCEEDS_CAPTURED", "7.25")
    assert refund_state(await desk.refund(payment.payment_id)) == "SUCCEEDED"


async def test_more_than_is_reserved_and_what_is_not_reserved_is_not_captured(desk: Desk) -> None:
    await desk.attach("pm_ok")
    held = await desk.pay("12.50", capture_later=True)
    for value, asset in (("12.51", "USD"), ("1.00", "EUR")):
        reason, _ = await refusal_of(desk.capture(held.payment_id, value, asset=asset))
        assert reason == "INVALID_VALUE"
    paid = await desk.pay("12.50")
    reason, facts = await refusal_of(desk.capture(paid.payment_id))
    assert (reason, facts["state"]) == ("STATE_NOT_ALLOWED", "SUCCEEDED")


async def test_captures_that_race_take_the_money_once(desk: Desk, sandbox: SandboxProcess) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay("12.50", capture_later=True)
    await sandbox.script("slow:100", on="capture")
    same = await asyncio.gather(
        *(desk.capture(payment.payment_id, "5.00", request_id="c") for _ in range(3)),
        desk.capture(payment.payment_id, "6.00"),
        return_exceptions=True,
    )
    done = [each for each in same if not isinstance(each, BaseException)]
    assert len(done) >= 1
    assert await taken_units(sandbox) in (500, 600)
    assert state_of(await desk.find(payment.payment_id)) == "SUCCEEDED"


@pytest.mark.parametrize("fault", ["http_500_after", "reset_before_reply", "hang_after"])
@pytest.mark.parametrize("order", ["capture", "cancel"])
async def test_an_order_whose_answer_is_lost_is_carried_out_once(
    desk: Desk, sandbox: SandboxProcess, fault: str, order: str
) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay("10.00", capture_later=True)
    await sandbox.script(fault, on=order)
    if order == "capture":
        await desk.capture(payment.payment_id, "4.00")
        assert await desk.state(payment.payment_id) == "SUCCEEDED"
        assert await taken_units(sandbox) == 400
    else:
        await desk.cancel(payment.payment_id)
        assert await desk.state(payment.payment_id) == "CANCELED"
        assert await taken_units(sandbox) == 0


async def test_a_capture_without_an_answer_is_unknown_blocks_others_and_is_resolved_by_a_look(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(services, gateway_database, sandbox)
    await desk.open_account(endpoint=f"{sandbox.endpoint}/?without=idempotency")
    await desk.attach("pm_ok")
    payment = await desk.pay("10.00", capture_later=True)
    await sandbox.script("reset_before_reply", on="capture")
    answer = await desk.capture(payment.payment_id)
    assert answer.outcome_unknown
    assert state_of(answer.payment) == "AUTHORIZED"
    assert (await refusal_of(desk.capture(payment.payment_id)))[0] == "OUTCOME_UNKNOWN"
    assert (await refusal_of(desk.cancel(payment.payment_id)))[0] == "OUTCOME_UNKNOWN"
    await desk.collector.settle_due(datetime.now(UTC) + timedelta(seconds=31))
    assert await desk.state(payment.payment_id) == "SUCCEEDED"
    assert await taken_units(sandbox) == 1000


async def test_a_capture_that_never_arrived_is_proved_so_and_can_be_made_again(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(services, gateway_database, sandbox)
    await desk.open_account(endpoint=f"{sandbox.endpoint}/?without=idempotency")
    await desk.attach("pm_ok")
    payment = await desk.pay("10.00", capture_later=True)
    await sandbox.script("reset_before", on="capture")
    assert (await desk.capture(payment.payment_id, request_id="c")).outcome_unknown
    now = datetime.now(UTC)
    for minutes in (1, 10, 30):
        await desk.collector.settle_due(now + timedelta(minutes=minutes))
    again = await desk.capture(payment.payment_id, request_id="c")
    assert (again.outcome_unknown, again.rejection_code) == (False, "NEVER_REACHED_PROVIDER")
    assert state_of(again.payment) == "AUTHORIZED"
    assert state_of((await desk.capture(payment.payment_id)).payment) == "SUCCEEDED"
    assert await taken_units(sandbox) == 1000


async def test_a_canceled_payment_releases_what_was_reserved(
    desk: Desk, sandbox: SandboxProcess, gateway_database: FreshDatabase
) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay("10.00", capture_later=True)
    answer = await desk.cancel(payment.payment_id, request_id="x")
    assert (state_of(answer.payment), answer.payment.cancel_requested) == ("CANCELED", True)
    (at_provider,) = (await sandbox.books())["payments"]
    assert at_provider["state"] == "canceled"
    assert state_of((await desk.cancel(payment.payment_id, request_id="x")).payment) == "CANCELED"
    reason, facts = await refusal_of(desk.capture(payment.payment_id))
    assert (reason, facts["state"]) == ("STATE_NOT_ALLOWED", "CANCELED")
    assert (await refusal_of(desk.retry(payment.payment_id)))[0] == "RETRY_NOT_ALLOWED"
    kinds = await told_kinds(gateway_database, desk.tenant_id)
    assert kinds == ["payment.authorized", "payment.canceled"]


async def test_a_payment_that_nobody_can_pay_is_canceled_without_asking_anyone(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_insufficient_funds")
    payment = await desk.pay()
    answer = await desk.cancel(payment.payment_id)
    assert state_of(answer.payment) == "CANCELED"
    paid_by = await desk.attach("pm_ok", "bob")
    assert paid_by.is_default
    paid = await desk.pay(customer_id="bob")
    assert (await refusal_of(desk.cancel(paid.payment_id)))[0] == "STATE_NOT_ALLOWED"


async def test_what_nobody_wants_any_more_is_never_charged_for_the_first_time(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    await sandbox.script("reset_before", "reset_before", "reset_before")
    payment = await desk.pay()
    assert payment.outcome_unknown
    answer = await desk.cancel(payment.payment_id)
    assert answer.payment.cancel_requested
    now = datetime.now(UTC)
    for minutes in (1, 10, 30, 60):
        await desk.collector.settle_due(now + timedelta(minutes=minutes))
    found = await desk.find(payment.payment_id)
    assert (state_of(found), attempt_state(found.attempts[0])) == ("CANCELED", "FAILED")
    assert await sandbox.taken() == 0
