"""Payments through real gRPC, on a real Postgres, against the sandbox as a process."""

from __future__ import annotations

import asyncio
import uuid
from uuid import UUID

import grpc
import pytest

from chassis.refusals import from_rpc_error
from tests.gateway.support import (
    Desk,
    SandboxProcess,
    attempt_state,
    decline_class,
    refusal_of,
    state_of,
)
from tests.support.services import credential
from tollgate.gateway.v1 import payment_service_pb2 as pb


async def test_a_good_method_is_charged_and_the_answer_says_so(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay("12.50")
    assert state_of(payment) == "SUCCEEDED"
    attempt = payment.attempts[0]
    assert attempt_state(attempt) == "SUCCEEDED"
    (charged,) = await sandbox.payments_of(attempt.attempt_id)
    assert charged["id"] == attempt.provider_payment_id
    assert (charged["amount"], charged["currency"], charged["taken"]) == (1250, "USD", 1250)


@pytest.mark.parametrize(
    ("token", "code", "meaning"),
    [
        ("pm_insufficient_funds", "insufficient_funds", "SOFT"),
        ("pm_do_not_honor", "do_not_honor", "SOFT"),
        ("pm_processing_error", "processing_error", "TECHNICAL"),
        ("pm_expired", "expired_card", "ACTION_REQUIRED"),
        ("pm_not_supported", "card_not_supported", "HARD"),
        ("pm_stolen", "stolen_card", "FRAUD"),
    ],
)
async def test_a_decline_carries_its_code_and_what_it_means_for_a_retry(
    desk: Desk, sandbox: SandboxProcess, token: str, code: str, meaning: str
) -> None:
    await desk.attach(token)
    payment = await desk.pay()
    assert state_of(payment) == "OPEN"
    attempt = payment.attempts[0]
    assert (attempt_state(attempt), attempt.decline_code) == ("DECLINED", code)
    assert decline_class(attempt) == meaning
    assert await sandbox.taken() == 0


async def test_a_method_the_provider_does_not_know_fails_without_a_charge(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_of_somebody_else")
    payment = await desk.pay()
    assert state_of(payment) == "OPEN"
    assert attempt_state(payment.attempts[0]) == "FAILED"
    assert payment.attempts[0].decline_code == "no_such_method"
    assert (await refusal_of(desk.retry(payment.payment_id)))[0] == "RETRY_NOT_ALLOWED"
    assert await sandbox.taken() == 0


@pytest.mark.parametrize(
    ("asset", "value", "units"),
    [("JPY", "1250", 1250), ("KWD", "1.234", 1234), ("CLF", "0.0001", 1)],
)
async def test_amounts_leave_in_whole_minor_units_of_their_currency(
    desk: Desk, sandbox: SandboxProcess, asset: str, value: str, units: int
) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay(value, asset)
    assert state_of(payment) == "SUCCEEDED"
    (charged,) = await sandbox.payments_of(payment.attempts[0].attempt_id)
    assert (charged["amount"], charged["currency"]) == (units, asset)


async def test_an_amount_finer_than_the_smallest_coin_is_refused_before_anything_is_asked(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    reason, facts = await refusal_of(desk.pay("0.5", "JPY"))
    assert reason == "AMOUNT_NOT_REPRESENTABLE"
    assert facts == {"asset": "JPY", "minor_digits": "0"}
    assert (await refusal_of(desk.pay("1.2345", "KWD")))[0] == "AMOUNT_NOT_REPRESENTABLE"
    assert (await refusal_of(desk.pay("5", "token")))[0] == "INVALID_VALUE"
    assert (await refusal_of(desk.pay("0", "USD")))[0] == "INVALID_VALUE"
    assert (await sandbox.books())["payments"] == []


async def test_the_same_request_twice_charges_once(desk: Desk, sandbox: SandboxProcess) -> None:
    await desk.attach("pm_ok")
    first = await desk.pay(request_id="one")
    second = await desk.pay(request_id="one")
    assert first == second
    assert await sandbox.taken() == 1


async def test_the_same_request_many_times_at_once_charges_once(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    await sandbox.script("slow:200")
    answers = await asyncio.gather(*(desk.pay(request_id="one") for _ in range(12)))
    assert {payment.payment_id for payment in answers} == {answers[0].payment_id}
    assert {state_of(payment) for payment in answers} == {"SUCCEEDED"}
    assert await sandbox.taken() == 1


async def test_the_same_request_id_with_other_content_is_a_conflict(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    await desk.pay("10", request_id="one")
    reason, facts = await refusal_of(desk.pay("11", request_id="one"))
    assert (reason, facts) == ("IDEMPOTENCY_CONFLICT", {"key": "one"})
    assert await sandbox.taken() == 1


async def test_a_customer_without_a_method_cannot_be_charged(desk: Desk) -> None:
    reason, facts = await refusal_of(desk.pay(customer_id="nobody"))
    assert (reason, facts) == ("METHOD_NOT_USABLE", {"customer_id": "nobody"})


async def test_a_provider_that_is_slower_than_the_caller_is_still_under_way(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    await sandbox.script("slow:900")
    payment = await desk.pay(timeout=0.7)
    assert state_of(payment) == "PROCESSING"
    await desk.collector.wait(UUID(payment.attempts[-1].attempt_id), 10)
    assert await desk.state(payment.payment_id) == "SUCCEEDED"
    assert await sandbox.taken() == 1


async def test_a_soft_decline_may_be_tried_again_with_another_method(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_insufficient_funds")
    payment = await desk.pay()
    other = await desk.attach("pm_ok")
    retried = await desk.retry(payment.payment_id, other.payment_method_id)
    assert state_of(retried) == "SUCCEEDED"
    assert [attempt_state(each) for each in retried.attempts] == ["DECLINED", "SUCCEEDED"]
    assert await sandbox.taken() == 1
    reason, facts = await refusal_of(desk.retry(payment.payment_id, other.payment_method_id))
    assert (reason, facts) == ("RETRY_NOT_ALLOWED", {"state": "SUCCEEDED"})


@pytest.mark.parametrize("token", ["pm_stolen", "pm_not_supported", "pm_expired"])
async def test_a_method_that_is_refused_for_good_is_not_tried_again(desk: Desk, token: str) -> None:
    await desk.attach(token)
    payment = await desk.pay()
    reason, facts = await refusal_of(desk.retry(payment.payment_id))
    assert reason == "RETRY_NOT_ALLOWED"
    assert facts["decline_class"] == decline_class(payment.attempts[0])


async def test_fifteen_declines_in_thirty_days_are_enough(desk: Desk) -> None:
    await desk.attach("pm_insufficient_funds")
    payment = await desk.pay()
    for _ in range(14):
        payment = await desk.retry(payment.payment_id)
    assert len(payment.attempts) == 15
    reason, facts = await refusal_of(desk.retry(payment.payment_id))
    assert reason == "RETRY_NOT_ALLOWED"
    assert facts["decline_class"] == "SOFT"
    assert "retry_after" in facts


async def test_no_second_attempt_starts_while_one_lives(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_action")
    payment = await desk.pay()
    assert state_of(payment) == "ACTION_REQUIRED"
    reason, facts = await refusal_of(desk.retry(payment.payment_id))
    assert (reason, facts) == ("ATTEMPT_IN_FLIGHT", {"payment_id": payment.payment_id})


@pytest.mark.parametrize("field", ["customer_id", "description", "request_id"])
async def test_a_card_number_in_any_field_is_refused_and_never_repeated(
    desk: Desk, sandbox: SandboxProcess, field: str, capfd: pytest.CaptureFixture[str]
) -> None:
    request = pb.CreatePaymentRequest(request_id="r", customer_id="ada", description="d")
    request.amount.asset, request.amount.value = "USD", "1"
    request.source.kind, request.source.id = "invoice", "1"
    setattr(request, field, "card 4242 4242 4242 4242")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.payments.CreatePayment(request, metadata=desk.metadata)
    refusal = from_rpc_error(caught.value)
    assert (refusal.reason, refusal.facts) == ("CARD_DATA_REFUSED", {"field": field})
    assert "4242" not in str(caught.value.details())
    printed = capfd.readouterr()
    assert "4242 4242" not in printed.out + printed.err
    assert (await sandbox.books())["payments"] == []


async def test_payments_are_listed_newest_first_and_paged(desk: Desk) -> None:
    await desk.attach("pm_ok")
    made = [(await desk.pay()).payment_id for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page = await desk.payments.ListPayments(
            pb.ListPaymentsRequest(customer_id="ada", page_size=2, page_token=token),
            metadata=desk.metadata,
        )
        seen += [payment.payment_id for payment in page.payments]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]


async def test_another_tenant_sees_nothing_of_it(desk: Desk) -> None:
    await desk.attach("pm_ok")
    payment = await desk.pay()
    stranger = credential(uuid.uuid4())
    reason, _ = await refusal_of(
        desk.payments.GetPayment(
            pb.GetPaymentRequest(payment_id=payment.payment_id), metadata=stranger
        )
    )
    assert reason == "NOT_FOUND"
    listed = await desk.payments.ListPayments(pb.ListPaymentsRequest(), metadata=stranger)
    assert list(listed.payments) == []
