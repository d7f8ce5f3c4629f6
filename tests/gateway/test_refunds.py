"""Refunds: never more than was taken, never twice, and known for what became of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
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
from tests.support.waiting import until
from tollgate.gateway.v1 import payment_service_pb2 as pb


async def refunded_units(sandbox: SandboxProcess) -> list[int]:
    refunds = (await sandbox.books())["refunds"]
    return [each["amount"] for each in refunds if each["state"] in ("succeeded", "processing")]


async def test_a_payment_is_refunded_in_parts_until_nothing_is_left(
    desk: Desk, sandbox: SandboxProcess, gateway_database: FreshDatabase
) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay("12.50")
    first = await desk.refund(payment.payment_id, "5.00")
    assert (refund_state(first), first.amount.value) == ("SUCCEEDED", "5")
    reason, facts = await refusal_of(desk.refund(payment.payment_id, "7.51"))
    assert (reason, facts["refundable"]) == ("REFUND_EXCEEDS_CAPTURED", "7.5")
    rest = await desk.refund(payment.payment_id)
    assert (refund_state(rest), rest.amount.value) == ("SUCCEEDED", "7.5")
    reason, _ = await refusal_of(desk.refund(payment.payment_id))
    assert reason == "REFUND_EXCEEDS_CAPTURED"
    found = await desk.find(payment.payment_id)
    assert state_of(found) == "SUCCEEDED"
    assert found.attempts[0].refunded.value == found.attempts[0].captured.value == "12.5"
    assert await refunded_units(sandbox) == [500, 750]
    kinds = await told_kinds(gateway_database, desk.tenant_id)
    assert kinds == ["payment.succeeded", "refund.succeeded", "refund.succeeded"]


async def test_the_same_request_refunds_once_and_racing_requests_never_too_much(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay("10.00")
    same = await asyncio.gather(
        *(desk.refund(payment.payment_id, "1.00", request_id="r") for _ in range(4))
    )
    assert len({each.refund_id for each in same}) == 1
    results = await asyncio.gather(
        *(desk.refund(payment.payment_id, "4.00") for _ in range(5)), return_exceptions=True
    )
    assert sum(not isinstance(each, BaseException) for each in results) == 2
    assert sum(await refunded_units(sandbox)) == 900


async def test_the_schema_itself_refuses_more_than_was_taken(
    desk: Desk, gateway_database: FreshDatabase
) -> None:
    await desk.attach("pm_ok")
    await desk.pay("10.00")
    async with gateway_database.open("gateway") as pool:
        with pytest.raises(asyncpg.CheckViolationError, match="refundable_never_goes_below_zero"):
            async with pool.transaction(desk.tenant_id) as tx:
                await tx.execute("UPDATE attempt SET refunded_atoms = 1001")


async def test_only_what_was_taken_is_refunded_and_in_its_own_currency(desk: Desk) -> None:
    await desk.attach("pm_insufficient_funds")
    payment = await desk.pay()
    reason, facts = await refusal_of(desk.refund(payment.payment_id))
    assert (reason, facts["state"]) == ("STATE_NOT_ALLOWED", "OPEN")
    await desk.attach("pm_ok", "bob")
    paid = await desk.pay(customer_id="bob")
    reason, _ = await refusal_of(desk.refund(paid.payment_id, "1.00", asset="EUR"))
    assert reason == "INVALID_VALUE"
    reason, _ = await refusal_of(desk.refund("0190163d-8694-739b-aea5-966c26f8ad90"))
    assert reason == "NOT_FOUND"


@pytest.mark.parametrize(
    "fault", ["http_500_after", "reset_before_reply", "truncated_body", "hang_after"]
)
async def test_a_refund_whose_answer_is_lost_is_sent_once(
    desk: Desk, sandbox: SandboxProcess, fault: str
) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay("10.00")
    await sandbox.script(fault, on="refund")
    refund = await desk.refund(payment.payment_id, "4.00")
    assert refund_state(refund) == "SUCCEEDED"
    assert await refunded_units(sandbox) == [400]


async def test_a_refund_that_stays_unanswered_is_unknown_reserves_its_amount_and_is_resolved(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(services, gateway_database, sandbox)
    await desk.open_account(endpoint=f"{sandbox.endpoint}/?without=idempotency")
    await desk.attach("pm_ok")
    payment = await desk.pay("10.00")
    await sandbox.script("reset_before_reply", on="refund")
    refund = await desk.refund(payment.payment_id, "4.00")
    assert refund_state(refund) == "UNKNOWN"
    reason, facts = await refusal_of(desk.refund(payment.payment_id, "7.00"))
    assert (reason, facts["refundable"]) == ("REFUND_EXCEEDS_CAPTURED", "6")
    await desk.collector.settle_due(datetime.now(UTC) + timedelta(seconds=31))
    assert refund_state(await desk.find_refund(refund.refund_id)) == "SUCCEEDED"
    assert await refunded_units(sandbox) == [400]
    assert await told_kinds(gateway_database, desk.tenant_id) == [
        "payment.succeeded",
        "refund.succeeded",
    ]


async def test_a_refund_that_never_arrived_is_proved_absent_and_gives_its_amount_back(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(services, gateway_database, sandbox)
    await desk.open_account(endpoint=f"{sandbox.endpoint}/?without=idempotency")
    await desk.attach("pm_ok")
    payment = await desk.pay("10.00")
    await sandbox.script("reset_before", on="refund")
    refund = await desk.refund(payment.payment_id, "4.00")
    assert refund_state(refund) == "UNKNOWN"
    now = datetime.now(UTC)
    for minutes in (1, 10):
        await desk.collector.settle_due(now + timedelta(minutes=minutes))
        assert refund_state(await desk.find_refund(refund.refund_id)) == "UNKNOWN"
    await desk.collector.settle_due(now + timedelta(minutes=30))
    found = await desk.find_refund(refund.refund_id)
    assert (refund_state(found), found.failure_code) == ("FAILED", "NEVER_REACHED_PROVIDER")
    assert refund_state(await desk.refund(payment.payment_id)) == "SUCCEEDED"
    assert await refunded_units(sandbox) == [1000]


async def test_a_declined_refund_gives_its_amount_back(
    desk: Desk, gateway_database: FreshDatabase
) -> None:
    await desk.attach("pm_refund_declined")
    payment = await desk.pay()
    refund = await desk.refund(payment.payment_id)
    assert (refund_state(refund), refund.failure_code) == ("DECLINED", "refund_not_possible")
    assert not (await desk.find(payment.payment_id)).attempts[0].HasField("refunded")
    kinds = await told_kinds(gateway_database, desk.tenant_id)
    assert kinds == ["payment.succeeded", "refund.failed"]


async def test_a_refund_is_settled_and_reversed_by_notifications(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(
        services, gateway_database, sandbox, notifications_listen="127.0.0.1:0", work=True
    )
    await desk.open_account()
    await desk.attach("pm_refund_async:50ms")
    await desk.attach("pm_refund_returned:50ms", "bob")
    later = await desk.refund((await desk.pay()).payment_id)
    assert refund_state(later) == "PROCESSING"
    returned = await desk.refund((await desk.pay(customer_id="bob")).payment_id)
    assert refund_state(returned) == "SUCCEEDED"

    async def is_in(refund_id: str, state: str) -> bool:
        return refund_state(await desk.find_refund(refund_id)) == state

    await until(lambda: is_in(later.refund_id, "SUCCEEDED"), what="the refund settled")
    await until(lambda: is_in(returned.refund_id, "REVERSED"), what="the refund came back")
    assert "refund.reversed" in await told_kinds(gateway_database, desk.tenant_id)


async def test_a_provider_without_refunds_or_parts_of_them_is_never_asked(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(services, gateway_database, sandbox)
    await desk.open_account(endpoint=f"{sandbox.endpoint}/?without=partial_refund")
    await desk.attach("pm_ok")
    payment = await desk.pay("10.00")
    reason, facts = await refusal_of(desk.refund(payment.payment_id, "1.00"))
    assert (reason, facts["capability"]) == ("CAPABILITY_MISSING", "partial_refund")
    assert refund_state(await desk.refund(payment.payment_id)) == "SUCCEEDED"


async def test_refunds_are_listed_newest_first_page_by_page(desk: Desk) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay("10.00")
    made = [(await desk.refund(payment.payment_id, "1.00")).refund_id for _ in range(3)]
    seen, token = [], ""
    while True:
        page = await desk.refunds.ListRefunds(
            pb.ListRefundsRequest(payment_id=payment.payment_id, page_size=2, page_token=token),
            metadata=desk.metadata,
        )
        seen += [each.refund_id for each in page.refunds]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]


async def test_money_that_arrives_after_a_cancellation_goes_back_by_itself(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(
        services, gateway_database, sandbox, notifications_listen="127.0.0.1:0", work=True
    )
    await desk.open_account()
    await desk.attach("pm_late_success:400ms")
    payment = await desk.pay("10.00")
    assert state_of(payment) == "OPEN"
    assert state_of((await desk.cancel(payment.payment_id)).payment) == "CANCELED"

    async def gone_back() -> bool:
        return await refunded_units(sandbox) == [1000]

    await until(gone_back, what="the money sent back")
    attempt = (await desk.find(payment.payment_id)).attempts[0]
    assert (attempt_state(attempt), attempt.refunded.value) == ("SUCCEEDED", "10")

    async def told() -> bool:
        return "refund.succeeded" in await told_kinds(gateway_database, desk.tenant_id)

    await until(told, what="the refund told")
    (taken,) = (await sandbox.books())["taken"].values()
    assert taken == {"count": 1, "amount": 1000}
