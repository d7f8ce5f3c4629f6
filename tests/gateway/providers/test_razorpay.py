"""Razorpay's plans, played with scripted answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.currency import AmountNotRepresentable
from gateway.domain.outcome import Basis, DeclineClass, Finding
from gateway.providers.plan import Answer, Basic, Phase, Silence
from gateway.providers.razorpay import PROVIDER
from gateway.providers.razorpay.answers import DECLINES
from gateway.providers.razorpay.payments import (
    capture,
    charge,
    find,
    find_refund,
    read,
    read_refund,
    refund,
)
from kernel.money import Amount, Asset
from tests.gateway.providers.razorpay_answers import listed, payment, refused
from tests.gateway.providers.support import (
    KEY,
    LOST,
    NOTHING_SAID,
    REFERENCE,
    REFUND_REFERENCE,
    UNSENT,
    answer,
    capture_command,
    charge_command,
    declared_and_offered_agree,
    inr,
    login,
    look,
    look_refund,
    refund_command,
    says_nothing,
    told,
)

LOGIN = login(PROVIDER.endpoint)
COMMAND = charge_command(inr(10_000), "token_1", provider_customer_id="cust_1")
LOOK = look(inr(10_000))
ORDER = answer(200, {"id": "order_1", "entity": "order", "status": "created"})
ASKED = answer(200, {"razorpay_payment_id": "pay_1", "razorpay_order_id": "order_1"})


def test_a_charge_is_an_order_noted_then_a_payment_then_a_look() -> None:
    run = told(charge(COMMAND, LOGIN), ORDER, ASKED, answer(200, payment()))
    assert run.paths == [
        "POST /orders",
        "POST /payments/create/recurring",
        "GET /payments/pay_1",
    ]
    # The order is committed before the payment is asked for, the payment before it is looked at.
    assert run.noted_at == [
        {},
        {"order_id": "order_1"},
        {"order_id": "order_1", "payment_id": "pay_1"},
    ]
    order, asked, _ = run.calls
    assert order.json is not None
    assert asked.json is not None
    assert order.json["receipt"] == REFERENCE
    assert (order.json["amount"], order.json["currency"]) == (10_000, "INR")
    assert order.json["payment_capture"] is True
    assert asked.json["recurring"] == "1"
    assert (asked.json["token"], asked.json["customer_id"]) == ("token_1", "cust_1")
    assert (asked.json["email"], asked.json["contact"]) == ("ada@example.com", "+919999999999")
    assert not asked.safe_to_repeat
    assert not order.safe_to_repeat
    assert all(call.auth == Basic() for call in run.calls)
    assert run.result.finding is Finding.SUCCEEDED
    assert (run.result.provider_payment_id, run.result.stated) == ("pay_1", inr(10_000))


def test_an_answer_with_a_payments_id_is_no_success_until_the_payment_says_so() -> None:
    for nothing in (*NOTHING_SAID, UNSENT, Answer(401), Answer(404), Answer(429)):
        run = told(charge(COMMAND, LOGIN), ORDER, ASKED, nothing)
        assert says_nothing(run.result), nothing
        if not (isinstance(nothing, Answer) and nothing.status == 200):
            assert run.result.provider_payment_id == "pay_1"
        assert run.notes["payment_id"] == "pay_1"


@pytest.mark.parametrize(
    ("status", "changes", "finding"),
    [
        ("captured", {}, Finding.SUCCEEDED),
        ("authorized", {}, Finding.AUTHORIZED),
        ("created", {}, Finding.PENDING),
        ("created", {"amount": 1_500_000}, Finding.PENDING),
        ("created", {"amount": 1_500_100}, Finding.NEEDS_ACTION),
        ("created", {"amount": 1_500_100, "method": "emandate"}, Finding.PENDING),
        ("failed", {"error_reason": "insufficient_funds"}, Finding.DECLINED),
        ("refunded", {"captured": True}, Finding.SUCCEEDED),
        ("refunded", {"captured": False}, Finding.CANCELED),
        ("refunded", {"captured": None}, Finding.SILENCE),
        ("a state of next year", {}, Finding.SILENCE),
    ],
)
def test_each_state_of_a_payment_is_read(
    status: str, changes: dict[str, Any], finding: Finding
) -> None:
    run = told(charge(COMMAND, LOGIN), ORDER, ASKED, answer(200, payment(status, **changes)))
    assert run.result.finding is finding
    assert run.result.action is None  # an approval comes to the customer without a page of ours


def test_each_reason_of_the_table_is_classified_in_both_places_it_is_told() -> None:
    for reason, meaning in (*DECLINES.items(), ("a reason of next year", DeclineClass.SOFT)):
        told_by_payment = answer(200, payment("failed", error_reason=reason))
        run = told(charge(COMMAND, LOGIN), ORDER, ASKED, told_by_payment)
        assert (run.result.decline_code, run.result.decline_class) == (reason, meaning)
        run = told(charge(COMMAND, LOGIN), ORDER, refused(reason, "pay_1"))
        assert run.result.finding is Finding.DECLINED
        assert (run.result.decline_code, run.result.decline_class) == (reason, meaning)


def test_a_refusal_without_a_payment_is_a_rejection() -> None:
    for script in ((refused("input_validation_failed"),), (ORDER, refused("NA"))):
        run = told(charge(COMMAND, LOGIN), *script)
        assert (run.result.finding, run.result.basis) == (Finding.REJECTED, Basis.STATED)


def test_a_refusal_because_something_exists_already_is_looked_at() -> None:
    paid = refused("NA", description="Order already paid")
    assert says_nothing(told(charge(COMMAND, LOGIN), ORDER, paid).result)


def test_silence_at_each_call_leaves_the_outcome_open() -> None:
    for nothing in NOTHING_SAID:
        first = told(charge(COMMAND, LOGIN), nothing)
        assert says_nothing(first.result)
        assert first.notes == {}
        second = told(charge(COMMAND, LOGIN), ORDER, nothing)
        assert says_nothing(second.result)
        assert second.notes == {"order_id": "order_1"}
    for script in ((UNSENT,), (ORDER, UNSENT)):
        run = told(charge(COMMAND, LOGIN), *script)
        assert (run.result.finding, run.result.basis) == (Finding.REJECTED, Basis.NOT_SENT)


def test_a_repeat_reads_its_order_and_never_asks_for_a_second_payment() -> None:
    again = replace(COMMAND, notes={"order_id": "order_1"})
    run = told(charge(again, LOGIN), listed(payment()))
    assert run.paths == ["GET /orders/order_1/payments"]
    assert run.result.finding is Finding.SUCCEEDED
    for nothing in (listed(), *NOTHING_SAID):
        assert says_nothing(told(charge(again, LOGIN), nothing).result)


def test_authorizing_only_is_told_to_the_order_and_taken_whole_later() -> None:
    later = replace(COMMAND, capture_later=True)
    run = told(charge(later, LOGIN), ORDER, ASKED, answer(200, payment("authorized")))
    assert run.calls[0].json is not None
    assert run.calls[0].json["payment_capture"] is False
    assert run.result.finding is Finding.AUTHORIZED
    assert not run.result.takes_itself
    take = capture_command(inr(10_000), "pay_1")
    taken = told(capture(take, LOGIN), answer(200, payment()))
    assert taken.paths == ["POST /payments/pay_1/capture"]
    assert taken.calls[0].json == {"amount": 10_000, "currency": "INR"}
    assert taken.result.finding is Finding.SUCCEEDED
    done = refused("NA", description="This payment has already been captured")
    again = told(capture(take, LOGIN), done, answer(200, payment()))
    assert again.paths[-1] == "GET /payments/pay_1"
    assert again.result.finding is Finding.SUCCEEDED
    assert says_nothing(told(capture(take, LOGIN), LOST).result)


# --- looking --------------------------------------------------------------------------------------


def test_a_payment_is_read_by_its_id() -> None:
    asked = replace(LOOK, provider_payment_id="pay_1")
    assert told(read(asked, LOGIN), answer(200, payment())).result.finding is Finding.SUCCEEDED
    stranger = payment(id="pay_2", notes=[], order_id="order_2")
    assert says_nothing(told(read(asked, LOGIN), answer(200, stranger)).result)
    missing = told(read(asked, LOGIN), refused("NA")).result
    assert missing.basis is Basis.UNEXPLAINED  # which ends no unclear outcome


def test_a_find_goes_by_receipt_and_then_by_the_payments_of_the_order() -> None:
    order = {"id": "order_1", "receipt": REFERENCE, "status": "paid"}
    run = told(find(LOOK, LOGIN), listed(order), listed(payment("failed"), payment(id="pay_2")))
    assert run.paths == ["GET /orders", "GET /orders/order_1/payments"]
    assert run.calls[0].query["receipt"] == REFERENCE
    assert (run.result.finding, run.result.provider_payment_id) == (Finding.SUCCEEDED, "pay_2")


def test_a_find_is_honest_about_absence() -> None:
    order = {"id": "order_1", "receipt": REFERENCE, "status": "created"}
    noted = replace(LOOK, notes={"order_id": "order_1"})
    assert told(find(LOOK, LOGIN), listed()).result.finding is Finding.ABSENT
    assert told(find(LOOK, LOGIN), listed(order), listed()).result.finding is Finding.ABSENT
    assert told(find(noted, LOGIN), listed()).result.finding is Finding.ABSENT
    # An order of another receipt is not ours, whatever the filter let through.
    other = listed(order | {"receipt": "another"})
    assert told(find(LOOK, LOGIN), other).result.finding is Finding.ABSENT
    # An order that was tried, and shows no payment: the list lags behind.
    tried = listed(order | {"status": "attempted"})
    assert says_nothing(told(find(LOOK, LOGIN), tried, listed()).result)
    for nothing in (*NOTHING_SAID, UNSENT, Answer(404), Answer(401), answer(200, {"items": None})):
        assert says_nothing(told(find(LOOK, LOGIN), nothing).result)
        assert says_nothing(told(find(LOOK, LOGIN), listed(order), nothing).result)
        assert says_nothing(told(find(noted, LOGIN), nothing).result)


def test_a_payment_in_doubt_beside_a_declined_one_stays_in_doubt() -> None:
    noted = replace(LOOK, notes={"order_id": "order_1"})
    odd = payment("a state of next year", id="pay_2")
    assert says_nothing(told(find(noted, LOGIN), listed(payment("failed"), odd)).result)


# --- refunds --------------------------------------------------------------------------------------


def refund_object(status: str = "processed", **changes: Any) -> dict[str, Any]:
    return {
        "id": "rfnd_1",
        "entity": "refund",
        "amount": 4_000,
        "currency": "INR",
        "payment_id": "pay_1",
        "status": status,
        "notes": {"tollgate_refund": REFUND_REFERENCE},
    } | changes


REFUND = refund_command(inr(4_000), inr(10_000), "pay_1")
LOOK_REFUND = look_refund(inr(4_000), "pay_1")


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        ("processed", Finding.SUCCEEDED),
        ("pending", Finding.PENDING),
        ("failed", Finding.DECLINED),
        ("a state of next year", Finding.SILENCE),
    ],
)
def test_a_refund_goes_out_with_its_key_and_each_state_is_read(
    status: str, finding: Finding
) -> None:
    run = told(refund(REFUND, LOGIN), answer(200, refund_object(status)))
    (call,) = run.calls
    assert (call.key, call.key_header) == (KEY, "X-Refund-Idempotency")
    assert call.safe_to_repeat
    assert call.json is not None
    assert call.json["amount"] == 4_000
    assert run.result.finding is finding


def test_a_refunds_key_with_another_body_means_that_something_exists() -> None:
    used = refused("NA", description="Different request body with the same idempotency key")
    assert says_nothing(told(refund(REFUND, LOGIN), used).result)
    too_much = refused("NA", description="The refund amount is greater than the payment")
    assert told(refund(REFUND, LOGIN), too_much).result.finding is Finding.REJECTED


def test_refunds_are_read_and_found_by_what_they_carry() -> None:
    known = replace(LOOK_REFUND, provider_refund_id="rfnd_1")
    seen = told(read_refund(known, LOGIN), answer(200, refund_object())).result
    assert (seen.finding, seen.provider_refund_id) == (Finding.SUCCEEDED, "rfnd_1")
    others = refund_object(id="rfnd_0", notes={})
    found = told(find_refund(LOOK_REFUND, LOGIN), listed(others, refund_object("pending")))
    assert found.result.finding is Finding.PENDING
    assert told(find_refund(LOOK_REFUND, LOGIN), listed(others)).result.finding is Finding.ABSENT
    assert says_nothing(told(find_refund(LOOK_REFUND, LOGIN), listed(*[others] * 100)).result)
    for nothing in (*NOTHING_SAID, Answer(404)):
        assert says_nothing(told(find_refund(LOOK_REFUND, LOGIN), nothing).result)


# --- amounts and doubt ----------------------------------------------------------------------------


def test_amounts_leave_in_minor_units_and_three_decimals_end_in_zero() -> None:
    assert PROVIDER.units(Amount(Asset("JPY", 0), 295)) == 295
    assert PROVIDER.units(inr(29_500)) == 29_500
    assert PROVIDER.units(Amount(Asset("KWD", 3), 295_990)) == 295_990
    with pytest.raises(AmountNotRepresentable):
        PROVIDER.units(Amount(Asset("KWD", 3), 295_991))


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_answer_is_taken_for_success_without_saying_so(body: bytes, status: int) -> None:
    odd = Answer(status, {}, body)
    for outcome in (
        told(charge(COMMAND, LOGIN), odd).result,
        told(charge(COMMAND, LOGIN), ORDER, odd).result,
        told(charge(COMMAND, LOGIN), ORDER, ASKED, odd).result,
        told(read(replace(LOOK, provider_payment_id="pay_1"), LOGIN), odd).result,
        told(find(LOOK, LOGIN), odd).result,
        told(refund(REFUND, LOGIN), odd).result,
    ):
        assert outcome.finding in (Finding.SILENCE, Finding.REJECTED)


def test_what_is_declared_is_offered_and_nothing_else() -> None:
    declared_and_offered_agree(PROVIDER)
    assert PROVIDER.cancel is None  # an authorization lapses
    unsent = Silence(Phase.BEFORE_SEND, "PoolTimeout")
    assert told(refund(REFUND, LOGIN), unsent).result.basis is Basis.NOT_SENT
