"""Razorpay's customers, pages and lists, played with scripted answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gateway.domain.outcome import Finding
from gateway.providers.commands import (
    Changes,
    CustomerLink,
    CustomerMethods,
    Detach,
    LineKind,
    LookSession,
    PayoutLines,
    Session,
    SessionMode,
    SessionState,
    Since,
)
from gateway.providers.plan import Answer
from gateway.providers.razorpay import PROVIDER
from gateway.providers.razorpay.customers import create_customer, detach_method, list_methods
from gateway.providers.razorpay.lists import list_changes, list_payout_lines
from gateway.providers.razorpay.pages import create_session, read_session
from gateway.providers.razorpay.payments import (
    find,
)
from tests.gateway.providers.razorpay_answers import listed, payment, refused
from tests.gateway.providers.support import (
    KEY,
    LOST,
    NOW,
    REFERENCE,
    answer,
    charge_command,
    customer_command,
    inr,
    login,
    look,
    outcome_of,
    says_nothing,
    session_command,
    told,
)

LOGIN = login(PROVIDER.endpoint)
COMMAND = charge_command(inr(10_000), "token_1", provider_customer_id="cust_1")
LOOK = look(inr(10_000))
ORDER = answer(200, {"id": "order_1", "entity": "order", "status": "created"})
ASKED = answer(200, {"razorpay_payment_id": "pay_1", "razorpay_order_id": "order_1"})


def test_a_customer_is_made_or_the_existing_one_given_back() -> None:
    run = told(create_customer(customer_command(), LOGIN), answer(200, {"id": "cust_1"}))
    assert run.result == CustomerLink("cust_1")
    assert run.calls[0].json is not None
    assert run.calls[0].json["fail_existing"] == "0"
    assert says_nothing(outcome_of(told(create_customer(customer_command(), LOGIN), LOST).result))


def link(status: str, *payments: str) -> dict[str, Any]:
    made = [{"payment_id": each, "status": "captured", "amount": 10_000} for each in payments]
    return {
        "id": "plink_1",
        "reference_id": REFERENCE,
        "short_url": "https://rzp.io/i/x",
        "status": status,
        "payments": made,
        "expire_by": 0,
    }


def test_what_a_browser_brings_back_proves_nothing() -> None:
    page = LookSession(REFERENCE, SessionMode.PAY, "plink_1")
    boast = "razorpay_payment_id=pay_1&razorpay_payment_link_status=paid&razorpay_signature=ab"
    plain = told(read_session(page, LOGIN), answer(200, link("created")))
    boasted = told(read_session(replace(page, result=boast), LOGIN), answer(200, link("created")))
    assert plain == boasted
    assert isinstance(plain.result, Session)
    assert (plain.result.state, plain.result.payment) == (SessionState.OPEN, None)


def test_a_page_ends_with_what_its_payment_says_not_with_what_the_link_says() -> None:
    page = LookSession(REFERENCE, SessionMode.PAY, "plink_1")
    paid = answer(200, link("paid", "pay_1"))
    run = told(read_session(page, LOGIN), paid, answer(200, payment(notes=[], order_id="o_9")))
    assert isinstance(run.result, Session)
    assert run.result.payment is not None
    assert run.result.payment.finding is Finding.SUCCEEDED
    run = told(read_session(page, LOGIN), paid, LOST)
    assert isinstance(run.result, Session)
    assert run.result.payment is not None
    assert says_nothing(run.result.payment)


def test_a_payment_link_is_opened_once_for_a_reference() -> None:
    command = session_command(SessionMode.PAY, inr(10_000))
    run = told(create_session(command, LOGIN), answer(200, link("created")))
    assert isinstance(run.result, Session)
    assert run.result.url == "https://rzp.io/i/x"
    assert run.notes == {"link_id": "plink_1"}
    exists = refused("NA", description="payment link with this reference_id already exists")
    found = answer(200, {"payment_links": [link("created")]})
    again = told(create_session(command, LOGIN), exists, found)
    assert isinstance(again.result, Session)
    assert again.result.provider_session_id == "plink_1"
    assert again.calls[1].query == {"reference_id": REFERENCE}


def test_an_attempt_on_a_page_is_not_absent_while_the_page_is_there() -> None:
    noted = replace(LOOK, notes={"link_id": "plink_1"})
    opened = told(find(noted, LOGIN), answer(200, link("created")))
    assert opened.result.finding is Finding.NEEDS_ACTION
    expired = told(find(noted, LOGIN), answer(200, link("expired")))
    assert expired.result.finding is Finding.CANCELED


def test_a_setup_ends_with_the_token_of_its_first_payment() -> None:
    command = session_command(SessionMode.SETUP, inr(0))
    made = {"id": "inv_1", "status": "issued", "short_url": "https://rzp.io/i/y"}
    opened = told(create_session(command, LOGIN), answer(200, made))
    assert opened.paths == ["POST /subscription_registration/auth_links"]
    token = {
        "id": "token_1",
        "method": "card",
        "recurring": True,
        "recurring_details": {"status": "confirmed"},
        "card": {"last4": "1111", "network": "Visa", "expiry_month": "2", "expiry_year": "2031"},
    }
    run = told(
        read_session(LookSession(REFERENCE, SessionMode.SETUP, "inv_1"), LOGIN),
        answer(200, made | {"status": "paid", "payment_id": "pay_1", "customer_id": "cust_1"}),
        answer(200, payment(customer_id="cust_1", token_id="token_1")),
        answer(200, token),
    )
    assert isinstance(run.result, Session)
    assert run.result.method is not None
    method = run.result.method
    assert run.result.state is SessionState.COMPLETED
    assert (method.provider_token, method.usable, method.last_four) == ("token_1", True, "1111")
    assert (method.expire_year, method.expire_month) == (2031, 2)


def test_only_confirmed_tokens_are_usable_and_a_lost_token_is_gone() -> None:
    states = ("confirmed", "initiated", "rejected", "paused", "cancelled")
    tokens = [
        {"id": f"token_{each}", "recurring": True, "recurring_details": {"status": each}}
        for each in states
    ]
    run = told(list_methods(CustomerMethods("ada", "cust_1"), LOGIN), listed(*tokens))
    assert isinstance(run.result, tuple)
    assert [each.provider_token for each in run.result if each.usable] == ["token_confirmed"]
    forget = Detach("token_1", KEY, "ada", "cust_1")
    for reply in (answer(200, {"deleted": True}), Answer(404)):
        assert told(detach_method(forget, LOGIN), reply).result.finding is Finding.CANCELED
    assert says_nothing(told(detach_method(forget, LOGIN), LOST).result)


def test_changes_are_payments_page_by_page() -> None:
    full = [payment(id=f"pay_{number}") for number in range(100)]
    run = told(list_changes(Since(NOW), LOGIN), listed(*full))
    assert isinstance(run.result, Changes)
    assert (len(run.result.items), run.result.next_page_token) == (100, "100")
    assert run.calls[0].query["from"] == str(int(NOW.timestamp()))
    last = told(list_changes(Since(NOW, "100"), LOGIN), listed(payment("failed")))
    assert isinstance(last.result, Changes)
    assert last.result.next_page_token == ""
    assert last.calls[0].query["skip"] == "100"
    assert last.result.items[0].reference == REFERENCE


def test_payout_lines_add_up_and_go_on_until_today() -> None:
    lines = [
        {
            "entity_id": "pay_1", "type": "payment", "debit": 0, "credit": 97_100,
            "amount": 100_000, "currency": "INR", "fee": 2_900, "settlement_id": "setl_1",
            "settled_at": 1_568_176_960, "order_receipt": REFERENCE,
        },
        {
            "entity_id": "rfnd_1", "type": "refund", "debit": 24_250, "credit": 0,
            "amount": 24_250, "currency": "INR", "fee": 0, "settlement_id": "setl_1",
            "payment_id": "pay_0",
        },
        {
            "entity_id": "adj_1", "type": "adjustment", "debit": 1_000, "credit": 0,
            "amount": 1_000, "currency": "INR", "settlement_id": "setl_1", "dispute_id": "disp_1",
        },
    ]  # fmt: skip
    today = datetime(2026, 3, 2, tzinfo=UTC)
    reply = answer(200, {"items": lines}, time=today)
    run = told(list_payout_lines(Since(NOW), LOGIN), reply)
    assert isinstance(run.result, PayoutLines)
    charged, returned, disputed = run.result.lines
    assert (charged.kind, charged.gross, charged.fee, charged.net) == (
        LineKind.CHARGE, inr(100_000), inr(2_900), inr(97_100),
    )  # fmt: skip
    assert (charged.reference, charged.provider_payment_id) == (REFERENCE, "pay_1")
    assert (returned.kind, returned.net) == (LineKind.REFUND, inr(-24_250))
    assert (returned.provider_refund_id, returned.provider_payment_id) == ("rfnd_1", "pay_0")
    assert disputed.kind is LineKind.DISPUTE
    for line in run.result.lines:
        assert line.gross - line.fee == line.net
    assert run.result.next_page_token == "2026-03-02:0"
    end = told(list_payout_lines(Since(NOW, "2026-03-02:0"), LOGIN), reply)
    assert isinstance(end.result, PayoutLines)
    assert end.result.next_page_token == ""
