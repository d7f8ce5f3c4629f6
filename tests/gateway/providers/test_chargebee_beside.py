"""Chargebee's refunds, customers, pages and lists, played with scripted answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.outcome import Finding
from gateway.providers.chargebee.customers import create_customer, detach_method, list_methods
from gateway.providers.chargebee.lists import list_changes
from gateway.providers.chargebee.pages import create_session, read_session
from gateway.providers.chargebee.payments import find
from gateway.providers.chargebee.refunds import find_refund, read_refund, refund
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
from gateway.providers.plan import Answer
from tests.gateway.providers.support import (
    KEY,
    LOST,
    NOTHING_SAID,
    NOW,
    REFERENCE,
    answer,
    customer_command,
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

LOGIN = login("https://acme.chargebee.com")
REFUND = refund_command(usd(500), usd(1_250), "txn_1")
LOOK_REFUND = look_refund(usd(500), "txn_1")


def payment(*refunds: tuple[str, int, str], **changes: Any) -> Answer:
    linked = [{"txn_id": i, "txn_amount": amount, "txn_status": s} for i, amount, s in refunds]
    content = {
        "id": "txn_1",
        "type": "payment",
        "status": "success",
        "amount": 1_250,
        "currency_code": "USD",
        "linked_refunds": linked,
    }
    return answer(200, {"transaction": content | changes})


def sent_back(status: str = "success", identity: str = "txn_r") -> Answer:
    content = {
        "id": identity,
        "type": "refund",
        "status": status,
        "amount": 500,
        "currency_code": "USD",
    }
    return answer(200, {"transaction": content})


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        ("success", Finding.SUCCEEDED),
        ("in_progress", Finding.PENDING),
        ("failure", Finding.DECLINED),
        ("late_failure", Finding.REVERSED),
        ("timeout", Finding.SILENCE),
        ("needs_attention", Finding.SILENCE),
    ],
)
def test_a_refund_notes_what_was_there_before_it_goes_out(status: str, finding: Finding) -> None:
    run = told(refund(REFUND, LOGIN), payment(("txn_0", 500, "success")), sent_back(status))
    assert run.paths[-1] == "POST /api/v2/transactions/txn_1/refund"
    assert run.noted_at[-1] == {"refunds_before": "txn_0"}
    assert run.calls[-1].key == KEY
    assert (run.result.finding, run.result.provider_refund_id) == (
        finding,
        "txn_r" if finding is not Finding.SILENCE else run.result.provider_refund_id,
    )


def test_a_refund_of_what_was_authorized_goes_to_the_payment_that_took_it() -> None:
    taken = [{"id": "txn_9", "status": "success", "amount": 1_250}]
    held = payment(type="authorization", id="txn_a", linked_payments=taken)
    run = told(refund(REFUND, LOGIN), held, payment(id="txn_9"), sent_back())
    assert run.paths == [
        "GET /api/v2/transactions/txn_1",
        "GET /api/v2/transactions/txn_9",
        "POST /api/v2/transactions/txn_9/refund",
    ]
    untaken = payment(type="authorization", id="txn_a", linked_payments=[])
    assert told(refund(REFUND, LOGIN), untaken).result.finding is Finding.REJECTED


def test_a_lost_refund_is_the_one_that_was_not_there_before() -> None:
    noted = replace(LOOK_REFUND, notes={"refunds_before": "txn_0"})
    ours, other = ("txn_r", 500, "success"), ("txn_0", 500, "success")
    run = told(find_refund(noted, LOGIN), payment(other, ours), sent_back())
    assert (run.result.finding, run.result.provider_refund_id) == (Finding.SUCCEEDED, "txn_r")
    assert told(find_refund(noted, LOGIN), payment(other)).result.finding is Finding.ABSENT
    # Two that may be ours, or one without a note of what was there: neither is claimed.
    twice = payment(ours, ("txn_s", 500, "success"))
    assert says_nothing(told(find_refund(noted, LOGIN), twice).result)
    assert says_nothing(told(find_refund(LOOK_REFUND, LOGIN), payment(ours)).result)
    none_before = replace(LOOK_REFUND, notes={"refunds_before": "none"})
    run = told(find_refund(none_before, LOGIN), payment(ours), sent_back())
    assert run.result.finding is Finding.SUCCEEDED


def test_silence_about_a_refund_leaves_it_open() -> None:
    known = replace(LOOK_REFUND, provider_refund_id="txn_r")
    assert told(read_refund(known, LOGIN), sent_back()).result.finding is Finding.SUCCEEDED
    assert says_nothing(told(read_refund(known, LOGIN), sent_back(identity="txn_x")).result)
    for nothing in NOTHING_SAID:
        assert says_nothing(told(refund(REFUND, LOGIN), payment(), nothing).result)
        assert says_nothing(told(find_refund(LOOK_REFUND, LOGIN), nothing).result)
        assert says_nothing(told(read_refund(known, LOGIN), nothing).result)


def test_a_customer_has_our_id_and_one_that_is_there_is_the_same() -> None:
    made = answer(200, {"customer": {"id": "ada"}})
    run = told(create_customer(customer_command(), LOGIN), made)
    assert run.result == CustomerLink("ada")
    assert run.calls[0].form is not None
    assert (run.calls[0].form["id"], run.calls[0].form["auto_collection"]) == ("ada", "off")
    there = {"type": "invalid_request", "api_error_code": "duplicate_entry", "param": "id"}
    again = told(create_customer(customer_command(), LOGIN), answer(400, there))
    assert again.result == CustomerLink("ada")
    other = told(
        create_customer(customer_command(), LOGIN), answer(400, there | {"param": "email"})
    )
    assert outcome_of(other.result).finding is Finding.REJECTED
    long = told(create_customer(customer_command(customer_id="a" * 51), LOGIN))
    assert outcome_of(long.result).finding is Finding.REJECTED


def page(state: str, **content: Any) -> Answer:
    return answer(
        200,
        {
            "hosted_page": {
                "id": "hp_1",
                "url": "https://acme.chargebee.com/pages/v3/hp_1/",
                "state": state,
                "expires_at": int((NOW + timedelta(hours=1)).timestamp()),
                "content": content,
            }
        },
        time=NOW,
    )


PAID = {
    "id": "txn_1",
    "type": "payment",
    "status": "success",
    "amount": 1_250,
    "currency_code": "USD",
    "linked_invoices": [{"invoice_id": "inv_1"}],
}


def test_a_page_is_opened_with_our_reference_and_its_payment_is_read_anew() -> None:
    command = session_command(SessionMode.PAY, usd(1_250))
    run = told(create_session(command, LOGIN), page("created"))
    assert run.calls[0].form is not None
    assert run.calls[0].form["invoice[po_number]"] == REFERENCE
    assert isinstance(run.result, Session)
    assert run.result.state is SessionState.OPEN
    asked = LookSession(REFERENCE, SessionMode.PAY, "hp_1", result="state=succeeded&id=hp_1")
    # What the page itself says was paid is not believed: only the invoice's payments are.
    boast = page("succeeded", invoice={"id": "inv_1"}, transaction=PAID)
    done = told(read_session(asked, LOGIN), boast, answer(200, {"list": [{"transaction": PAID}]}))
    assert isinstance(done.result, Session)
    assert done.result.payment is not None
    assert done.result.payment.finding is Finding.SUCCEEDED
    for nothing in (answer(200, {"list": []}), LOST):
        unsure = told(read_session(asked, LOGIN), boast, nothing)
        assert isinstance(unsure.result, Session)
        assert unsure.result.payment is not None
        assert says_nothing(unsure.result.payment)


def test_a_page_expires_by_the_providers_own_clock() -> None:
    asked = LookSession(REFERENCE, SessionMode.PAY, "hp_1")
    late = replace(page("requested"), headers={"date": "Sun, 01 Mar 2026 13:00:00 GMT"})
    run = told(read_session(asked, LOGIN), late)
    assert isinstance(run.result, Session)
    assert run.result.state is SessionState.EXPIRED


def test_an_attempt_on_a_page_is_not_absent_while_the_page_is_open() -> None:
    noted = replace(look(usd(1_250)), notes={"hosted_page_id": "hp_1"})
    assert told(find(noted, LOGIN), page("requested")).result.finding is Finding.NEEDS_ACTION
    assert told(find(noted, LOGIN), page("cancelled")).result.finding is Finding.CANCELED


def test_a_setup_ends_with_a_payment_source() -> None:
    source = {"id": "pm_1", "type": "card", "status": "valid", "card": {"last4": "4242"}}
    asked = LookSession(REFERENCE, SessionMode.SETUP, "hp_1")
    run = told(read_session(asked, LOGIN), page("succeeded", payment_source=source))
    assert isinstance(run.result, Session)
    assert run.result.method is not None
    assert (run.result.method.provider_token, run.result.method.last_four) == ("pm_1", "4242")


def test_only_valid_sources_are_usable_and_a_lost_one_is_gone() -> None:
    states = ("valid", "expiring", "expired", "invalid", "pending_verification")
    sources = [{"payment_source": {"id": f"pm_{each}", "status": each}} for each in states]
    reply = answer(200, {"list": sources})
    run = told(list_methods(CustomerMethods("ada"), LOGIN), reply)
    assert isinstance(run.result, tuple)
    assert [each.provider_token for each in run.result if each.usable] == [
        "pm_valid",
        "pm_expiring",
    ]
    forget = Detach("pm_1", KEY, "ada")
    assert told(detach_method(forget, LOGIN), Answer(404)).result.finding is Finding.CANCELED
    assert says_nothing(told(detach_method(forget, LOGIN), LOST).result)


def test_changes_come_oldest_first_with_the_ids_that_notifications_have() -> None:
    event = {
        "id": "ev_1",
        "event_type": "payment_succeeded",
        "occurred_at": int(NOW.timestamp()),
        "content": {"transaction": PAID, "invoice": {"id": "inv_1", "po_number": REFERENCE}},
    }
    reply = answer(200, {"list": [{"event": event}], "next_offset": "more"})
    run = told(list_changes(Since(NOW), LOGIN), reply)
    assert isinstance(run.result, Changes)
    assert (run.result.items[0].id, run.result.items[0].reference) == ("ev_1", REFERENCE)
    assert run.result.next_page_token == "more"
    assert run.calls[0].query["sort_by[asc]"] == "occurred_at"
    for nothing in (*NOTHING_SAID, answer(200, {"list": [{"event": {}}]})):
        assert says_nothing(outcome_of(told(list_changes(Since(NOW), LOGIN), nothing).result))
