"""Paddle's plans, played with scripted answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.outcome import Basis, DeclineClass, Finding
from gateway.providers.commands import (
    Changes,
    CustomerLink,
    CustomerMethods,
    Detach,
    LookSession,
    Session,
    SessionMode,
    SessionState,
    Since,
)
from gateway.providers.paddle import PROVIDER
from gateway.providers.paddle.answers import DECLINES
from gateway.providers.paddle.customers import (
    create_customer,
    create_session,
    detach_method,
    list_methods,
    read_session,
)
from gateway.providers.paddle.lists import list_changes
from gateway.providers.paddle.payments import cancel, charge, find, read
from gateway.providers.paddle.refunds import find_refund, read_refund, refund
from gateway.providers.plan import Answer, Bearer
from kernel.money import Amount, Asset
from tests.gateway.providers.support import (
    KEY,
    LOST,
    NOTHING_SAID,
    NOW,
    REFERENCE,
    REFUND_REFERENCE,
    UNSENT,
    answer,
    cancel_command,
    charge_command,
    customer_command,
    declared_and_offered_agree,
    login,
    look,
    look_refund,
    outcome_of,
    refund_command,
    says_nothing,
    session_command,
    told,
    usd,
)

LOGIN = login(PROVIDER.endpoint)
SUBSCRIPTION = "sub_01hv8x29kz0t586xy6zn1a62ny"
TRANSACTION = "txn_01hv8wptq8987qeep44cyrewp9"
CUSTOMER = "ctm_01hv6y1jedq4p1n0yqn5ba3ky4"
COMMAND = charge_command(usd(1_250), SUBSCRIPTION, provider_customer_id=CUSTOMER)
LOOK = look(usd(1_250), provider_token=SUBSCRIPTION)
CHARGED = answer(200, {"data": {"id": SUBSCRIPTION, "status": "active"}})
MORE = {"pagination": {"has_more": True, "next": "x", "per_page": 30}}
END = {"pagination": {"has_more": False, "next": "x", "per_page": 30}}


def transaction(status: str = "completed", error: str = "", **changes: Any) -> dict[str, Any]:
    attempt = {"status": "error", "error_code": error, "created_at": "2026-03-01T12:00:01Z"}
    captured = {"status": "captured", "error_code": None, "created_at": "2026-03-01T12:00:01Z"}
    return {
        "id": TRANSACTION,
        "status": status,
        "origin": "subscription_charge",
        "currency_code": "USD",
        "created_at": "2026-03-01T12:00:00.5Z",
        "custom_data": None,
        "items": [{"price": {"custom_data": {"tollgate_attempt": REFERENCE}}, "quantity": 1}],
        "details": {
            "totals": {"subtotal": "1042", "tax": "208", "total": "1250", "grand_total": "1250"},
            "line_items": [{"id": "txnitm_1", "totals": {"total": "1250"}}],
        },
        "payments": [attempt] if error else [captured],
    } | changes


def page(*transactions: dict[str, Any], meta: dict[str, Any] = END) -> Answer:
    return answer(200, {"data": list(transactions), "meta": meta})


def refused(code: str, status: int = 400, detail: str = "no") -> Answer:
    return answer(status, {"error": {"type": "request_error", "code": code, "detail": detail}})


def test_a_charge_is_noted_before_it_leaves_and_a_look_follows_it() -> None:
    run = told(charge(COMMAND, LOGIN), CHARGED, page(transaction()))
    assert run.paths == [f"POST /subscriptions/{SUBSCRIPTION}/charge", "GET /transactions"]
    assert run.noted_at[0] == {"sent": SUBSCRIPTION}
    sent, looked = run.calls
    assert sent.json is not None
    assert sent.json["effective_from"] == "immediately"
    assert sent.json["on_payment_failure"] == "prevent_change"
    (item,) = sent.json["items"]
    assert item["price"]["unit_price"] == {"amount": "1250", "currency_code": "USD"}
    assert item["price"]["custom_data"] == {"tollgate_attempt": REFERENCE}
    assert (sent.key, sent.safe_to_repeat) == ("", False)  # no keys here: the driver never repeats
    assert looked.query["subscription_id"] == SUBSCRIPTION
    assert all(call.headers["paddle-version"] == "1" for call in run.calls)
    assert all(call.auth == Bearer() for call in run.calls)
    assert (run.result.finding, run.result.stated) == (Finding.SUCCEEDED, usd(1_250))
    assert run.notes["transaction_id"] == TRANSACTION


def test_whatever_the_charge_was_answered_a_look_follows_unless_it_had_no_effect() -> None:
    for unclear in NOTHING_SAID:
        if isinstance(unclear, Answer) and unclear.status == 200:
            continue
        run = told(charge(COMMAND, LOGIN), unclear, page(transaction()))
        assert run.result.finding is Finding.SUCCEEDED
    for plain in (UNSENT, Answer(401), Answer(403), Answer(429), refused("entity_archived")):
        run = told(charge(COMMAND, LOGIN), plain)
        assert run.result.finding is Finding.REJECTED


def test_a_list_without_the_charge_right_after_it_proves_nothing() -> None:
    for first in (CHARGED, LOST, Answer(500)):
        for second in (page(), page(transaction(items=[])), *NOTHING_SAID):
            assert says_nothing(told(charge(COMMAND, LOGIN), first, second).result)


def test_a_repeat_never_charges_it_only_looks() -> None:
    again = replace(COMMAND, notes={"sent": SUBSCRIPTION})
    run = told(charge(again, LOGIN), page(transaction()))
    assert run.paths == ["GET /transactions"]
    assert run.result.finding is Finding.SUCCEEDED
    for nothing in (page(), *NOTHING_SAID):
        assert says_nothing(told(charge(again, LOGIN), nothing).result)


def test_each_decline_is_read_from_the_transaction_that_was_declined() -> None:
    declined = refused("subscription_payment_declined")
    for code, meaning in (*DECLINES.items(), ("a code of next year", DeclineClass.SOFT)):
        for first in (declined, CHARGED):
            run = told(charge(COMMAND, LOGIN), first, page(transaction("canceled", code)))
            assert run.result.finding is Finding.DECLINED
            assert (run.result.decline_code, run.result.decline_class) == (code, meaning)


def test_a_decline_whose_reason_is_not_to_be_seen_is_a_soft_one() -> None:
    for nothing in (page(), LOST):
        run = told(charge(COMMAND, LOGIN), refused("subscription_payment_declined"), nothing)
        assert (run.result.finding, run.result.decline_class) == (
            Finding.DECLINED,
            DeclineClass.SOFT,
        )


def test_a_charge_needs_a_subscription_there() -> None:
    run = told(charge(replace(COMMAND, provider_token="paymtd_1"), LOGIN))
    assert (run.result.finding, run.calls) == (Finding.REJECTED, [])
    assert run.result.decline_class is DeclineClass.ACTION_REQUIRED


@pytest.mark.parametrize(
    ("status", "error", "origin", "finding"),
    [
        ("paid", "", "subscription_charge", Finding.SUCCEEDED),
        ("completed", "", "subscription_charge", Finding.SUCCEEDED),
        ("completed", "declined", "web", Finding.SUCCEEDED),
        ("past_due", "declined", "subscription_charge", Finding.PENDING),
        ("canceled", "", "subscription_charge", Finding.CANCELED),
        ("canceled", "fraud", "subscription_charge", Finding.DECLINED),
        ("billed", "", "subscription_charge", Finding.PENDING),
        ("ready", "declined", "subscription_charge", Finding.DECLINED),
        ("ready", "declined", "api", Finding.NEEDS_ACTION),
        ("draft", "", "api", Finding.NEEDS_ACTION),
        ("a state of next year", "", "api", Finding.SILENCE),
    ],
)
def test_each_state_of_a_transaction_is_read(
    status: str, error: str, origin: str, finding: Finding
) -> None:
    asked = replace(LOOK, provider_payment_id=TRANSACTION)
    seen = transaction(status, error, origin=origin)
    run = told(read(asked, LOGIN), answer(200, {"data": seen}))
    assert run.result.finding is finding


def test_the_latest_attempt_decides_whether_a_transaction_failed() -> None:
    attempts = [
        {"status": "captured", "error_code": None, "created_at": "2026-03-01T12:00:09Z"},
        {"status": "error", "error_code": "declined", "created_at": "2026-03-01T12:00:01Z"},
    ]
    seen = transaction("ready", payments=attempts)
    assert told(find(LOOK, LOGIN), page(seen)).result.finding is Finding.PENDING


def test_a_transaction_is_read_by_its_id_and_by_no_other() -> None:
    asked = replace(LOOK, provider_payment_id="txn_other")
    stranger = answer(200, {"data": transaction(items=[])})
    assert says_nothing(told(read(asked, LOGIN), stranger).result)
    assert told(read(asked, LOGIN), Answer(404)).result.basis is Basis.UNEXPLAINED


def test_a_find_compares_page_by_page_and_is_honest_about_absence() -> None:
    other = transaction(id="txn_0", items=[])
    run = told(find(LOOK, LOGIN), page(other, meta=MORE), page(transaction()))
    assert run.calls[1].query["after"] == "txn_0"
    assert run.result.finding is Finding.SUCCEEDED
    assert told(find(LOOK, LOGIN), page(other)).result.finding is Finding.ABSENT
    assert told(find(LOOK, LOGIN), page()).result.finding is Finding.ABSENT
    # Neither a list without an end nor one that does not tell proves anything.
    assert says_nothing(told(find(LOOK, LOGIN), *[page(other, meta=MORE)] * 20).result)
    assert says_nothing(told(find(LOOK, LOGIN), page(other, meta={})).result)
    for nothing in (*NOTHING_SAID, UNSENT, Answer(404), answer(200, {"data": None, "meta": END})):
        assert says_nothing(told(find(LOOK, LOGIN), nothing).result)
    assert says_nothing(told(find(replace(LOOK, provider_token=""), LOGIN)).result)


def test_a_find_stops_where_older_transactions_cannot_be_ours() -> None:
    old = transaction(id="txn_0", items=[], created_at="2026-02-20T00:00:00Z")
    assert told(find(LOOK, LOGIN), page(old, meta=MORE)).result.finding is Finding.ABSENT


@pytest.mark.parametrize("ahead", [timedelta(days=-400), timedelta(days=400)])
def test_an_attempt_on_a_test_clock_is_found_all_the_same(ahead: timedelta) -> None:
    """A time of ours that is sent as a filter would hide the charge, and charge again."""
    shifted = replace(LOOK, time=NOW + ahead)
    run = told(find(shifted, LOGIN), page(transaction(), meta=MORE))
    assert run.result.finding is Finding.SUCCEEDED
    assert not any("created_at" in name for name in run.calls[0].query)


def test_only_an_unpaid_transaction_is_called_off() -> None:
    command = cancel_command(usd(1_250), TRANSACTION)
    done = answer(200, {"data": transaction("canceled", payments=[])})
    run = told(cancel(command, LOGIN), done)
    assert run.paths == [f"PATCH /transactions/{TRANSACTION}"]
    assert run.result.finding is Finding.CANCELED
    paid = answer(200, {"data": transaction()})
    refusal = refused("transaction_immutable")
    assert told(cancel(command, LOGIN), refusal, paid).result.finding is Finding.SUCCEEDED
    ready = answer(200, {"data": transaction("ready", origin="api", payments=[])})
    assert told(cancel(command, LOGIN), refusal, ready).result.finding is Finding.REJECTED
    assert says_nothing(told(cancel(command, LOGIN), LOST).result)


# --- refunds --------------------------------------------------------------------------------------


def adjustment(status: str = "pending_approval", **changes: Any) -> dict[str, Any]:
    return {
        "id": "adj_1",
        "action": "refund",
        "transaction_id": TRANSACTION,
        "reason": f"asked for [{REFUND_REFERENCE}]",
        "currency_code": "USD",
        "status": status,
        "totals": {"total": "500"},
        "items": [{"item_id": "txnitm_1", "type": "partial", "totals": {"total": "500"}}],
    } | changes


REFUND = refund_command(usd(500), usd(1_250), TRANSACTION)
LOOK_REFUND = look_refund(usd(500), TRANSACTION)


def test_a_refund_is_looked_for_before_it_is_sent() -> None:
    run = told(refund(REFUND, LOGIN), page(adjustment("approved")))
    assert run.paths == ["GET /adjustments"]
    assert run.result.finding is Finding.SUCCEEDED
    whole = answer(200, {"data": transaction()})
    made = answer(201, {"data": adjustment()})
    run = told(refund(REFUND, LOGIN), page(), whole, made)
    assert run.paths[-1] == "POST /adjustments"
    assert run.calls[-1].json == {
        "action": "refund",
        "transaction_id": TRANSACTION,
        "reason": f"asked for [{REFUND_REFERENCE}]",
        "type": "partial",
        "items": [{"item_id": "txnitm_1", "type": "partial", "amount": "500"}],
    }
    assert (run.result.finding, run.result.provider_refund_id) == (Finding.PENDING, "adj_1")


def test_a_refund_of_all_needs_no_lines_and_one_of_more_than_is_left_is_refused() -> None:
    whole = replace(REFUND, amount=usd(1_250))
    run = told(refund(whole, LOGIN), page(), answer(201, {"data": adjustment()}))
    assert run.calls[-1].json is not None
    assert run.calls[-1].json["type"] == "full"
    other = adjustment("approved", id="adj_0", reason="another")
    rest = replace(REFUND, amount=usd(800), refunded_before=usd(500))
    run = told(refund(rest, LOGIN), page(other), answer(200, {"data": transaction()}))
    assert (run.result.finding, run.result.decline_code) == (
        Finding.REJECTED,
        "refund_exceeds_lines",
    )
    # What Paddle refused to send back is there to be sent back.
    refusal = adjustment("rejected", id="adj_0", reason="another")
    done = answer(201, {"data": adjustment()})
    run = told(refund(rest, LOGIN), page(refusal), answer(200, {"data": transaction()}), done)
    assert run.calls[-1].json is not None
    assert run.calls[-1].json["items"][0]["amount"] == "800"


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        ("pending_approval", Finding.PENDING),
        ("approved", Finding.SUCCEEDED),
        ("rejected", Finding.DECLINED),
        ("reversed", Finding.REVERSED),
        ("a state of next year", Finding.SILENCE),
    ],
)
def test_each_state_of_a_refund_is_read_and_found(status: str, finding: Finding) -> None:
    known = replace(LOOK_REFUND, provider_refund_id="adj_1")
    assert told(read_refund(known, LOGIN), page(adjustment(status))).result.finding is finding
    others = adjustment("approved", id="adj_0", reason="another [x]")
    found = told(find_refund(LOOK_REFUND, LOGIN), page(others, adjustment(status)))
    assert found.result.finding is finding


def test_silence_about_a_refund_at_each_call_leaves_it_open() -> None:
    whole = answer(200, {"data": transaction()})
    for nothing in NOTHING_SAID:
        assert says_nothing(told(refund(REFUND, LOGIN), nothing).result)
        assert says_nothing(told(refund(REFUND, LOGIN), page(), whole, nothing).result)
        assert says_nothing(told(find_refund(LOOK_REFUND, LOGIN), nothing).result)
    assert told(find_refund(LOOK_REFUND, LOGIN), page()).result.finding is Finding.ABSENT
    # A refusal in answer to a look is about the look, and a list that goes on proves nothing.
    for odd in (refused("not_found", 404), Answer(401), page(meta=MORE)):
        assert says_nothing(told(find_refund(LOOK_REFUND, LOGIN), odd).result)


# --- customers, pages, lists ----------------------------------------------------------------------


def test_a_conflict_names_the_customer_that_is_there() -> None:
    made = told(create_customer(customer_command(), LOGIN), answer(201, {"data": {"id": CUSTOMER}}))
    assert made.result == CustomerLink(CUSTOMER)
    detail = f"customer email conflicts with customer of id {CUSTOMER}"
    conflict = refused("customer_already_exists", 409, detail)
    again = told(create_customer(customer_command(), LOGIN), conflict)
    assert again.result == CustomerLink(CUSTOMER)
    nameless = refused("customer_already_exists", 409)
    refusal = outcome_of(told(create_customer(customer_command(), LOGIN), nameless).result)
    assert refusal.finding is Finding.REJECTED


def test_a_page_is_a_transaction_and_ends_when_it_is_paid() -> None:
    checkout = {"url": "https://pay.example/?_ptxn=1"}
    fresh = transaction("ready", origin="api", payments=[], checkout=checkout)
    command = session_command(SessionMode.PAY, usd(1_250), provider_customer_id=CUSTOMER)
    run = told(create_session(command, LOGIN), answer(201, {"data": fresh}))
    assert isinstance(run.result, Session)
    assert (run.result.state, run.result.url) == (SessionState.OPEN, checkout["url"])
    assert run.notes == {"transaction_id": TRANSACTION}
    again = told(
        create_session(replace(command, notes=run.notes), LOGIN), answer(200, {"data": fresh})
    )
    assert again.paths == [f"GET /transactions/{TRANSACTION}"]
    page_look = LookSession(REFERENCE, SessionMode.PAY, TRANSACTION)
    paid = transaction(origin="api", subscription_id=SUBSCRIPTION, customer_id=CUSTOMER)
    done = told(read_session(page_look, LOGIN), answer(200, {"data": paid}))
    assert isinstance(done.result, Session)
    assert done.result.state is SessionState.COMPLETED
    assert done.result.method is not None
    assert done.result.method.provider_token == SUBSCRIPTION
    boast = replace(page_look, result="status=completed")
    open_still = told(read_session(boast, LOGIN), answer(200, {"data": fresh}))
    assert isinstance(open_still.result, Session)
    assert open_still.result.state is SessionState.OPEN


def test_a_method_is_stored_only_with_a_sale() -> None:
    run = told(create_session(session_command(SessionMode.SETUP, usd(0)), LOGIN))
    assert outcome_of(run.result).finding is Finding.REJECTED
    assert not PROVIDER.capabilities(LOGIN).hosted_setup


def test_subscriptions_are_what_can_be_charged_and_saved_methods_are_not() -> None:
    saved = {"id": "paymtd_1", "type": "card", "card": {"type": "visa", "last4": "4242"}}
    listed = told(
        list_methods(CustomerMethods("ada", CUSTOMER), LOGIN),
        page({"id": SUBSCRIPTION, "status": "active", "collection_mode": "automatic"}),
        page(saved),
    )
    assert isinstance(listed.result, tuple)
    assert [(each.provider_token, each.usable) for each in listed.result] == [
        (SUBSCRIPTION, True),
        ("paymtd_1", False),
    ]
    gone = told(detach_method(Detach("paymtd_1", KEY, "ada", CUSTOMER), LOGIN), Answer(204))
    assert gone.result.finding is Finding.CANCELED
    kept = told(detach_method(Detach(SUBSCRIPTION, KEY, "ada", CUSTOMER), LOGIN))
    assert (kept.result.finding, kept.calls) == (Finding.REJECTED, [])


def test_changes_end_where_they_are_older_than_asked_for() -> None:
    def event(number: int, time: datetime) -> dict[str, Any]:
        return {
            "event_id": f"evt_{number}",
            "event_type": "transaction.completed",
            "occurred_at": time.isoformat(),
            "data": transaction(),
        }

    fresh, older = event(2, NOW), event(1, NOW - timedelta(hours=2))
    asked = Since(NOW - timedelta(hours=1))
    run = told(list_changes(asked, LOGIN), page(fresh, older, meta=MORE))
    assert isinstance(run.result, Changes)
    assert [item.id for item in run.result.items] == ["evt_2"]
    assert run.result.next_page_token == ""
    on = told(list_changes(asked, LOGIN), page(fresh, meta=MORE))
    assert isinstance(on.result, Changes)
    assert on.result.next_page_token == "evt_2"
    for nothing in (*NOTHING_SAID, page({"event_id": "evt_1"})):
        assert says_nothing(outcome_of(told(list_changes(asked, LOGIN), nothing).result))


# --- amounts and doubt ----------------------------------------------------------------------------


def test_amounts_leave_as_text_in_minor_units() -> None:
    yen = charge_command(Amount(Asset("JPY", 0), 1_250), SUBSCRIPTION)
    run = told(charge(yen, LOGIN), UNSENT)
    assert run.calls[0].json is not None
    price = run.calls[0].json["items"][0]["price"]["unit_price"]
    assert price == {"amount": "1250", "currency_code": "JPY"}


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_answer_is_taken_for_success_without_saying_so(body: bytes, status: int) -> None:
    odd = Answer(status, {}, body)
    for outcome in (
        told(charge(COMMAND, LOGIN), CHARGED, odd).result,
        told(read(replace(LOOK, provider_payment_id=TRANSACTION), LOGIN), odd).result,
        told(find(LOOK, LOGIN), odd).result,
        told(refund(REFUND, LOGIN), odd).result,
    ):
        assert outcome.finding in (Finding.SILENCE, Finding.REJECTED)


def test_what_is_declared_is_offered_and_nothing_else() -> None:
    declared_and_offered_agree(PROVIDER)
    assert PROVIDER.capabilities(LOGIN).merchant_of_record
    assert PROVIDER.capture is None
