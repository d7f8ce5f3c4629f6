"""Razorpay's plans over the answers that its own clients are tested with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.outcome import Finding
from gateway.providers.commands import (
    About,
    Changes,
    CustomerMethods,
    DisputeStage,
    LookSession,
    Session,
    SessionMode,
    SessionState,
    Since,
)
from gateway.providers.razorpay import PROVIDER
from gateway.providers.razorpay.answers import read_items
from gateway.providers.razorpay.customers import list_methods
from gateway.providers.razorpay.lists import list_changes
from gateway.providers.razorpay.pages import create_session, read_session
from gateway.providers.razorpay.payments import charge, find, find_refund, read, refund
from tests.gateway.providers.support import (
    LOST,
    NOW,
    REFUND_REFERENCE,
    answer,
    charge_command,
    inr,
    login,
    look,
    look_refund,
    outcome_of,
    refund_command,
    says_nothing,
    session_command,
    spec,
    told,
    usd,
)

# These are not JSON: trailing commas, objects written as lists, names without quotes.
BROKEN = {
    "edit_customer.json",
    "fake_card.json",
    "fake_customer.json",
    "fake_invoice_edit.json",
    "fake_reference_card.json",
    "fake_token.json",
    "init_customer.json",
    "token_collection.json",
    "token_collection_with_one_token.json",
}
LOGIN = login(PROVIDER.endpoint)
COMMAND = charge_command(inr(500), "token_Ia5ip8Ix07JDRm", provider_customer_id="cust_1")


def raw(name: str) -> bytes:
    return (spec("razorpay-mocks") / f"{name}.json").read_bytes()


def fixture(name: str, **changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(raw(name))
    return content | changes


def test_the_broken_fixtures_are_these_and_no_others() -> None:
    broken = set()
    files = sorted(spec("razorpay-mocks").glob("*.json"))
    for path in files:
        try:
            json.loads(path.read_bytes())
        except ValueError:
            broken.add(path.name)
    assert broken == BROKEN
    assert len(files) > len(BROKEN)


def test_a_charge_goes_through_the_recorded_answers() -> None:
    order, asked = fixture("fake_order"), fixture("fake_create_recurring")
    # The recorded answers are of different payments; the id and the order make them one.
    one = {"id": asked["razorpay_payment_id"], "order_id": order["id"]}
    for name, finding in (
        ("fake_captured_payment", Finding.SUCCEEDED),
        ("fake_payment", Finding.PENDING),
    ):
        seen = answer(200, fixture(name, **one))
        run = told(charge(COMMAND, LOGIN), answer(200, order), answer(200, asked), seen)
        assert run.notes == {"order_id": order["id"], "payment_id": one["id"]}
        assert (run.result.finding, run.result.stated) == (finding, inr(500))
    stranger = answer(200, fixture("fake_captured_payment"))
    run = told(charge(COMMAND, LOGIN), answer(200, order), answer(200, asked), stranger)
    assert says_nothing(run.result)


def test_our_requests_have_no_field_that_the_recorded_ones_lack() -> None:
    order = answer(200, {"id": "order_1"})
    asked = answer(200, {"razorpay_payment_id": "pay_1"})
    run = told(charge(COMMAND, LOGIN), order, asked, answer(500, None))
    made, recurring, _ = run.calls
    assert made.json is not None
    assert recurring.json is not None
    # These are documented for orders, and not in the recorded one.
    known = set(fixture("init_order")) | {"payment_capture", "notes"}
    assert set(made.json) <= known
    recorded = fixture("init_create_recurring")
    assert set(recurring.json) == set(recorded)
    assert {name: type(value) for name, value in recurring.json.items()} == {
        name: type(value) for name, value in recorded.items()
    }
    pay = told(create_session(session_command(SessionMode.PAY, inr(500)), LOGIN), LOST)
    assert pay.calls[0].json is not None
    assert set(pay.calls[0].json) <= set(fixture("init_payment_link"))
    setup = told(create_session(session_command(SessionMode.SETUP, inr(0)), LOGIN), LOST)
    assert setup.calls[0].json is not None
    assert set(setup.calls[0].json) <= set(fixture("init_registration_link"))


def test_a_recorded_refusal_is_a_rejection() -> None:
    run = told(charge(COMMAND, LOGIN), answer(400, fixture("bad_request_error")))
    assert (run.result.finding, run.result.decline_code) == (
        Finding.REJECTED,
        "BAD_REQUEST_ERROR",
    )


def test_recorded_lists_are_read() -> None:
    orders = fixture("order_collection_with_one_order")
    payments = fixture("payment_collection_with_one_payment")
    asked = look(inr(500), reference=orders["items"][0]["receipt"])
    run = told(find(asked, LOGIN), answer(200, orders), answer(200, payments))
    assert run.paths[1] == f"GET /orders/{orders['items'][0]['id']}/payments"
    # The recorded payment names no order: nothing shows that it is ours.
    assert says_nothing(run.result)
    payments["items"][0]["order_id"] = orders["items"][0]["id"]
    run = told(find(asked, LOGIN), answer(200, orders), answer(200, payments))
    assert run.result.finding is Finding.PENDING
    changes = told(list_changes(Since(NOW), LOGIN), answer(200, fixture("payment_collection")))
    assert isinstance(changes.result, Changes)
    assert len(changes.result.items) == len(fixture("payment_collection")["items"])
    known = look(inr(500), provider_payment_id=payments["items"][0]["id"])
    seen = told(read(known, LOGIN), answer(200, payments["items"][0]))
    assert seen.result.finding is Finding.PENDING


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_an_answer_that_is_no_json_says_nothing(name: str) -> None:
    broken = replace(answer(200, None), body=(spec("razorpay-mocks") / name).read_bytes())
    assert says_nothing(told(charge(COMMAND, LOGIN), broken).result)
    listed = told(list_methods(CustomerMethods("ada", "cust_1"), LOGIN), broken)
    assert says_nothing(outcome_of(listed.result))


def test_a_recorded_refund_is_read_where_it_carries_our_reference() -> None:
    recorded = fixture("fake_refund", notes={"tollgate_refund": REFUND_REFERENCE})
    command = refund_command(inr(300_100), inr(300_100), recorded["payment_id"])
    run = told(refund(command, LOGIN), answer(200, recorded))
    assert (run.result.finding, run.result.stated) == (Finding.SUCCEEDED, inr(300_100))
    assert says_nothing(told(refund(command, LOGIN), answer(200, fixture("fake_refund"))).result)
    asked = look_refund(inr(300_100), recorded["payment_id"])
    others = answer(200, fixture("refund_collection"))
    assert told(find_refund(asked, LOGIN), others).result.finding is Finding.ABSENT


def test_the_recorded_notification_is_read_by_what_it_holds_not_by_its_name() -> None:
    """It is called payment.authorized and holds a payment that is captured already."""
    (item,) = read_items(raw("fake_payment_authorized_webhook"))
    assert (item.kind, item.provider_payment_id) == ("payment.authorized", "pay_6koWN7bvxujzxM")
    assert item.outcome is not None
    assert item.outcome.finding is Finding.SUCCEEDED
    assert item.outcome.stated == inr(1_000_000)
    assert item.reference == ""  # not of our making


def test_recorded_disputes_are_told() -> None:
    for name, kind, stage in (
        ("dispute", "under_review", DisputeStage.UNDER_REVIEW),
        ("dispute_accept", "lost", DisputeStage.LOST),
        ("dispute_contest", "created", DisputeStage.OPENED),
    ):
        entity = fixture(name)
        payload = {"dispute": {"entity": entity}}
        content = {"event": f"payment.dispute.{kind}", "created_at": 1, "payload": payload}
        (item,) = read_items(json.dumps(content).encode())
        assert (item.about, item.object_id) == (About.DISPUTE, entity["id"])
        assert item.dispute is not None
        assert (item.dispute.stage, item.dispute.reason) == (stage, entity["reason_code"])
        assert item.dispute.amount == inr(entity["amount"])


def test_recorded_pages_are_read() -> None:
    link = fixture("fake_payment_link")
    asked = LookSession("", SessionMode.PAY, link["id"])
    payment = fixture("fake_captured_payment", id=link["payments"][0]["payment_id"], amount=100)
    run = told(read_session(asked, LOGIN), answer(200, link), answer(200, payment))
    assert isinstance(run.result, Session)
    assert (run.result.state, run.result.url) == (SessionState.COMPLETED, link["short_url"])
    assert run.result.payment is not None
    assert (run.result.payment.finding, run.result.payment.stated) == (Finding.SUCCEEDED, inr(100))
    invoice = fixture("fake_registration_link")
    setup = LookSession("ref", SessionMode.SETUP, invoice["id"])
    opened = told(read_session(setup, LOGIN), answer(200, invoice))
    assert isinstance(opened.result, Session)
    assert (opened.result.state, opened.result.method) == (SessionState.OPEN, None)
    assert opened.result.provider_customer_id == invoice["customer_id"]


def test_a_currency_in_an_answer_is_taken_as_it_is_stated() -> None:
    order, asked = fixture("fake_order"), fixture("fake_create_recurring")
    one = {"id": asked["razorpay_payment_id"], "order_id": order["id"], "currency": "USD"}
    seen = answer(200, fixture("fake_captured_payment", **one))
    run = told(charge(COMMAND, LOGIN), answer(200, order), answer(200, asked), seen)
    assert run.result.stated == usd(500)  # and not the rupees that were asked for
