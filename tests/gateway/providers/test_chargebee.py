"""Chargebee's plans, played with scripted answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.attempt import State
from gateway.domain.outcome import Basis, DeclineClass, Finding
from gateway.domain.resolution import Asking, Question, questions
from gateway.providers.chargebee import PROVIDER
from gateway.providers.chargebee.answers import GATEWAY_DECLINES
from gateway.providers.chargebee.payments import cancel, capture, charge, find, read
from gateway.providers.plan import Answer, Basic
from kernel.money import Amount, Asset
from tests.gateway.providers.support import (
    KEY,
    LOST,
    NOTHING_SAID,
    NOW,
    REFERENCE,
    UNSENT,
    answer,
    cancel_command,
    capture_command,
    charge_command,
    declared_and_offered_agree,
    login,
    look,
    says_nothing,
    told,
    usd,
)

LOGIN = login("https://acme.chargebee.com")
COMMAND = charge_command(usd(1_250), "pm_1")
LOOK = look(usd(1_250))
NOTED = replace(LOOK, notes={"invoice_id": "inv_1"})
CREATE = "POST /api/v2/invoices/create_for_charge_items_and_charges"
COLLECT = "POST /api/v2/invoices/inv_1/collect_payment"
PAYMENTS = "GET /api/v2/invoices/inv_1/payments"
VOID = "POST /api/v2/invoices/inv_1/void"
VOIDED = answer(200, {"invoice": {"id": "inv_1", "status": "voided"}})


def invoice(status: str = "not_paid", **changes: Any) -> dict[str, Any]:
    return {
        "id": "inv_1",
        "po_number": REFERENCE,
        "status": status,
        "total": 1_250,
        "amount_due": 1_250,
        "updated_at": int(NOW.timestamp()),
    } | changes


def transaction(status: str = "success", **changes: Any) -> dict[str, Any]:
    return {
        "id": "txn_1",
        "type": "payment",
        "status": status,
        "amount": 1_250,
        "currency_code": "USD",
        "customer_id": "ada",
        "gateway": "chargebee",
        "linked_invoices": [{"invoice_id": "inv_1", "applied_amount": 1_250}],
    } | changes


def listed(name: str, *objects: dict[str, Any], **more: Any) -> Answer:
    return answer(200, {"list": [{name: each} for each in objects]} | more)


def refused(code: str, about: str = "invalid_request", status: int = 400) -> Answer:
    return answer(status, {"message": "no", "type": about, "api_error_code": code})


MADE = answer(200, {"invoice": invoice()})
DECLINED = refused("payment_processing_failed", "payment")


def collected(**changes: Any) -> Answer:
    return answer(200, {"invoice": invoice("paid"), "transaction": transaction(**changes)})


def test_a_charge_is_an_invoice_noted_then_one_collection_of_it() -> None:
    run = told(charge(COMMAND, LOGIN), MADE, collected())
    assert run.paths == [CREATE, COLLECT]
    assert run.noted_at == [{}, {"invoice_id": "inv_1"}]
    made, asked = run.calls
    assert made.form is not None
    assert made.form["po_number"] == REFERENCE
    assert made.form["auto_collection"] == "off"  # and with it Chargebee's own dunning
    assert made.form["charges[amount][0]"] == "1250"
    assert made.form["charges[taxable][0]"] == "false"
    assert asked.form == {
        "payment_source_id": "pm_1",
        "payment_initiator": "merchant",
        "amount": "1250",
    }
    assert {call.key_header for call in run.calls} == {"chargebee-idempotency-key"}
    assert made.key != asked.key
    assert all(KEY in call.key and len(call.key) <= 100 for call in run.calls)
    assert all(call.auth == Basic() for call in run.calls)
    assert (run.result.finding, run.result.stated) == (Finding.SUCCEEDED, usd(1_250))
    assert told(charge(COMMAND, LOGIN), MADE, collected()) == run  # word for word the same


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        ("success", Finding.SUCCEEDED),
        ("in_progress", Finding.PENDING),
        ("late_failure", Finding.REVERSED),
        ("timeout", Finding.SILENCE),
        ("needs_attention", Finding.SILENCE),
        ("a state of next year", Finding.SILENCE),
    ],
)
def test_each_state_of_a_transaction_is_read(status: str, finding: Finding) -> None:
    run = told(charge(COMMAND, LOGIN), MADE, collected(status=status))
    assert (run.result.finding, run.result.provider_payment_id) == (finding, "txn_1")
    seen = told(find(NOTED, LOGIN), listed("transaction", transaction(status)))
    assert seen.result.finding is finding


def test_a_decline_takes_its_code_from_the_transaction_and_voids_the_invoice() -> None:
    failed = transaction("failure", error_code="card_declined", gateway="unlisted")
    run = told(charge(COMMAND, LOGIN), MADE, DECLINED, listed("transaction", failed), VOIDED)
    assert run.paths == [CREATE, COLLECT, PAYMENTS, VOID]
    assert (run.result.finding, run.result.decline_code) == (Finding.DECLINED, "card_declined")
    # A void that fails does not turn a decline into anything else.
    lost = told(charge(COMMAND, LOGIN), MADE, DECLINED, listed("transaction", failed), LOST)
    assert lost.result == run.result


def test_codes_are_read_with_the_table_of_the_gateway_named_in_the_payment() -> None:
    for gateway, table in GATEWAY_DECLINES.items():
        for code, meaning in table.items():
            failed = transaction("failure", error_code=code, gateway=gateway)
            seen = told(find(NOTED, LOGIN), listed("transaction", failed)).result
            assert (seen.finding, seen.decline_class) == (Finding.DECLINED, meaning)
    code = next(code for code, each in table.items() if each is DeclineClass.HARD)
    unknown = transaction("failure", error_code=code, gateway="a gateway without a table")
    seen = told(find(NOTED, LOGIN), listed("transaction", unknown)).result
    assert seen.decline_class is DeclineClass.SOFT


def test_a_refusal_by_the_gateway_is_believed_without_a_transaction_only_where_documented() -> None:
    none = listed("transaction")
    run = told(charge(COMMAND, LOGIN), MADE, DECLINED, none, VOIDED)
    assert (run.result.finding, run.result.decline_class) == (Finding.DECLINED, DeclineClass.SOFT)
    missing = refused("payment_method_not_present", "payment")
    run = told(charge(COMMAND, LOGIN), MADE, missing, none, VOIDED)
    assert (run.result.finding, run.result.decline_class) == (Finding.REJECTED, DeclineClass.HARD)
    other = refused("payment_of_next_year", "payment")
    assert says_nothing(told(charge(COMMAND, LOGIN), MADE, other, none).result)
    # The gateway behind was asked and has not answered: the error is no answer either.
    hung = listed("transaction", transaction("timeout"))
    assert says_nothing(told(charge(COMMAND, LOGIN), MADE, DECLINED, hung).result)


def test_an_invoice_of_another_total_is_not_collected_but_voided() -> None:
    taxed = answer(200, {"invoice": invoice(amount_due=1_500)})
    run = told(charge(COMMAND, LOGIN), taxed, VOIDED)
    assert run.paths == [CREATE, VOID]
    assert (run.result.finding, run.result.decline_code) == (
        Finding.REJECTED,
        "invoice_total_differs",
    )


def test_silence_at_each_call_leaves_the_outcome_open() -> None:
    for nothing in NOTHING_SAID:
        first = told(charge(COMMAND, LOGIN), nothing)
        assert says_nothing(first.result)
        assert first.notes == {}
        second = told(charge(COMMAND, LOGIN), MADE, nothing)
        assert says_nothing(second.result)
        assert second.notes == {"invoice_id": "inv_1"}
        third = told(charge(COMMAND, LOGIN), MADE, refused("other", "payment"), nothing)
        assert says_nothing(third.result)
    for script in ((UNSENT,), (MADE, UNSENT, VOIDED)):
        run = told(charge(COMMAND, LOGIN), *script)
        assert (run.result.finding, run.result.basis) == (Finding.REJECTED, Basis.NOT_SENT)
    for status in (401, 403, 429):
        run = told(charge(COMMAND, LOGIN), MADE, Answer(status), VOIDED)
        assert run.result.finding is Finding.REJECTED


def test_a_key_that_is_in_use_or_stands_for_something_else_is_looked_at() -> None:
    for conflict in (refused("idempotency_key_mismatch"), refused("lock", status=409)):
        assert says_nothing(told(charge(COMMAND, LOGIN), conflict).result)
        assert says_nothing(told(charge(COMMAND, LOGIN), MADE, conflict).result)


def test_a_repeat_reads_its_invoice_first_and_collects_with_the_same_key() -> None:
    again = replace(COMMAND, notes={"invoice_id": "inv_1"})
    first = told(charge(COMMAND, LOGIN), MADE, LOST)
    run = told(charge(again, LOGIN), listed("transaction"), collected())
    assert run.paths == [PAYMENTS, COLLECT]
    assert run.calls[1] == first.calls[1]
    for status, finding in (("success", Finding.SUCCEEDED), ("failure", Finding.DECLINED)):
        seen = told(charge(again, LOGIN), listed("transaction", transaction(status)))
        assert (seen.paths, seen.result.finding) == ([PAYMENTS], finding)
    for nothing in NOTHING_SAID:
        assert says_nothing(told(charge(again, LOGIN), nothing).result)


def test_after_twenty_minutes_no_key_is_replayed_and_the_invoice_decides() -> None:
    offers = PROVIDER.capabilities(LOGIN)
    asking = Asking(start_time=NOW, sent_time=NOW, ask_time=NOW)

    def asked(minutes: int) -> tuple[Question, ...]:
        now = NOW + timedelta(minutes=minutes)
        return questions(State.UNKNOWN, offers, asking, has_provider_id=False, wanted=True, now=now)

    assert asked(19) == (Question.REPLAY, Question.FIND)
    assert asked(20) == asked(600) == (Question.FIND,)


# --- looking --------------------------------------------------------------------------------------


def unpaid(age: timedelta, status: str = "not_paid") -> Answer:
    return answer(200, {"invoice": invoice(status)}, time=NOW + age)


def test_a_find_is_honest_about_absence_and_voids_what_no_key_can_pay_any_more() -> None:
    none = listed("transaction")
    young = told(find(NOTED, LOGIN), none, unpaid(timedelta(minutes=20)))
    assert young.paths == [PAYMENTS, "GET /api/v2/invoices/inv_1"]
    assert young.result.finding is Finding.ABSENT
    old = told(find(NOTED, LOGIN), none, unpaid(timedelta(minutes=21)), VOIDED)
    assert old.paths[-1] == VOID
    assert old.result.finding is Finding.ABSENT
    # An invoice that will not be voided may be being paid.
    busy = refused("invalid_state_for_request")
    kept = told(find(NOTED, LOGIN), none, unpaid(timedelta(minutes=21)), busy)
    assert says_nothing(kept.result)
    gone = told(find(NOTED, LOGIN), none, unpaid(timedelta(hours=9), "voided"))
    assert gone.result.finding is Finding.ABSENT
    otherwise = told(find(NOTED, LOGIN), none, unpaid(timedelta(hours=9), "paid"))
    assert says_nothing(otherwise.result)
    for nothing in (*NOTHING_SAID, UNSENT, Answer(401), Answer(404)):
        assert says_nothing(told(find(NOTED, LOGIN), nothing).result)
        assert says_nothing(told(find(NOTED, LOGIN), none, nothing).result)
        assert says_nothing(told(find(LOOK, LOGIN), nothing).result)


def test_an_invoice_whose_note_was_lost_is_found_by_its_number() -> None:
    other = invoice(id="inv_0", po_number="another")
    run = told(
        find(LOOK, LOGIN),
        listed("invoice", other, next_offset='["1","2"]'),
        listed("invoice", invoice()),
        listed("transaction", transaction()),
    )
    assert run.calls[0].query["customer_id[is]"] == "ada"
    assert run.calls[1].query["offset"] == '["1","2"]'
    assert run.result.finding is Finding.SUCCEEDED
    assert run.notes == {"invoice_id": "inv_1"}
    assert told(find(LOOK, LOGIN), listed("invoice", other)).result.finding is Finding.ABSENT
    endless = [listed("invoice", other, next_offset="more")] * 5
    assert says_nothing(told(find(LOOK, LOGIN), *endless).result)


def test_a_transaction_is_read_by_its_id_and_by_no_other() -> None:
    asked = replace(LOOK, provider_payment_id="txn_1")
    good = answer(200, {"transaction": transaction()})
    assert told(read(asked, LOGIN), good).result.finding is Finding.SUCCEEDED
    other = answer(200, {"transaction": transaction(id="txn_2")})
    assert says_nothing(told(read(asked, LOGIN), other).result)
    assert told(read(asked, LOGIN), Answer(404)).result.basis is Basis.UNEXPLAINED


# --- authorizations -------------------------------------------------------------------------------


def authorization(**changes: Any) -> dict[str, Any]:
    return transaction(id="txn_a", type="authorization", linked_invoices=[]) | changes


HELD = answer(200, {"transaction": authorization()})
LATER = replace(COMMAND, capture_later=True)


def test_an_authorization_is_made_with_the_key_and_noted() -> None:
    run = told(charge(LATER, LOGIN), HELD)
    assert run.paths == ["POST /api/v2/transactions/create_authorization"]
    assert run.calls[0].key == KEY
    assert run.result.finding is Finding.AUTHORIZED
    assert run.notes == {"authorization_id": "txn_a"}
    assert told(charge(LATER, LOGIN), DECLINED).result.finding is Finding.DECLINED
    assert says_nothing(told(charge(LATER, LOGIN), LOST).result)


def test_an_authorization_without_its_note_is_never_claimed() -> None:
    asked = replace(LOOK, capture_later=True)
    like_ours = listed("transaction", authorization())
    assert says_nothing(told(find(asked, LOGIN), like_ours).result)
    unlike = listed("transaction", authorization(amount=999))
    assert told(find(asked, LOGIN), unlike).result.finding is Finding.ABSENT
    noted = replace(asked, notes={"authorization_id": "txn_a"})
    assert told(find(noted, LOGIN), HELD).result.finding is Finding.AUTHORIZED


def test_a_capture_collects_an_invoice_from_the_authorization_in_whole_or_in_part() -> None:
    for taken in (1_250, 700):
        command = capture_command(usd(taken), "txn_a", authorized=usd(1_250))
        made = answer(200, {"invoice": invoice(amount_due=taken)})
        run = told(capture(command, LOGIN), HELD, made, collected(amount=taken))
        assert run.calls[-1].form == {
            "authorization_transaction_id": "txn_a",
            "amount": str(taken),
        }
        assert run.result.finding is Finding.SUCCEEDED
        assert (run.result.provider_payment_id, run.result.stated) == ("txn_a", usd(taken))
    part = [{"id": "txn_1", "status": "success", "amount": 700}]
    done = answer(200, {"transaction": authorization(linked_payments=part)})
    command = capture_command(usd(700), "txn_a", authorized=usd(1_250))
    again = told(capture(command, LOGIN), done)
    assert (again.result.finding, again.result.stated) == (Finding.SUCCEEDED, usd(700))
    assert says_nothing(told(capture(command, LOGIN), LOST).result)


def test_an_authorization_is_voided_once() -> None:
    command = cancel_command(usd(1_250), "txn_a")
    voided = answer(200, {"transaction": authorization(status="voided")})
    assert told(cancel(command, LOGIN), voided).result.finding is Finding.CANCELED
    again = told(cancel(command, LOGIN), refused("invalid_state_for_request"), voided)
    assert again.result.finding is Finding.CANCELED
    still = told(cancel(command, LOGIN), refused("invalid_state_for_request"), HELD)
    assert still.result.finding is Finding.REJECTED
    assert says_nothing(told(cancel(command, LOGIN), LOST).result)


# --- amounts and doubt ----------------------------------------------------------------------------


def test_amounts_leave_in_minor_units_and_endpoints_may_state_their_version() -> None:
    assert PROVIDER.units(Amount(Asset("JPY", 0), 295)) == 295
    assert PROVIDER.units(Amount(Asset("KWD", 3), 295_991)) == 295_991
    versioned = login("https://acme.chargebee.com/api/v2")
    run = told(charge(COMMAND, versioned), LOST)
    assert run.calls[0].path == "/invoices/create_for_charge_items_and_charges"


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_answer_is_taken_for_success_without_saying_so(body: bytes, status: int) -> None:
    odd = Answer(status, {}, body)
    for outcome in (
        told(charge(COMMAND, LOGIN), odd).result,
        told(charge(LATER, LOGIN), odd).result,
        told(read(replace(LOOK, provider_payment_id="txn_1"), LOGIN), odd).result,
        told(find(LOOK, LOGIN), odd).result,
        told(find(NOTED, LOGIN), odd).result,
    ):
        assert outcome.finding in (Finding.SILENCE, Finding.REJECTED)


def test_what_is_declared_is_offered_and_nothing_else() -> None:
    declared_and_offered_agree(PROVIDER)
    assert PROVIDER.list_payout_lines is None  # settlement lives at the gateway behind
