"""Stripe's plans, played with scripted answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.currency import AmountNotRepresentable
from gateway.domain.outcome import Basis, DeclineClass, Finding
from gateway.providers.commands import (
    About,
    Changes,
    CustomerLink,
    CustomerMethods,
    Detach,
    DisputeStage,
    LineKind,
    LookSession,
    PayoutLines,
    Session,
    SessionMode,
    SessionState,
    Since,
)
from gateway.providers.plan import Answer, Bearer
from gateway.providers.stripe import PROVIDER
from gateway.providers.stripe.answers import DECLINES, read_event
from gateway.providers.stripe.lists import list_changes, list_payout_lines
from gateway.providers.stripe.pages import (
    create_customer,
    create_session,
    detach_method,
    list_methods,
    read_session,
)
from gateway.providers.stripe.payments import (
    cancel,
    capture,
    charge,
    find,
    find_refund,
    read,
    read_refund,
    refund,
)
from gateway.providers.stripe.requests import amount_of, units
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
    capture_command,
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

LOGIN = login("https://api.stripe.com")
CHARGE = charge_command(usd(1_250), "pm_1", provider_customer_id="cus_1")
LOOK = look(usd(1_250), provider_payment_id="pi_1", provider_customer_id="cus_1")
REFUND = refund_command(usd(400), usd(1_250), "pi_1")
LOOK_REFUND = look_refund(usd(400), "pi_1", provider_refund_id="re_1")


def intent(status: str = "succeeded", **changes: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 1_250,
        "amount_received": 1_250 if status == "succeeded" else 0,
        "currency": "usd",
        "status": status,
        "last_payment_error": None,
        "metadata": {"tollgate_attempt": REFERENCE},
    } | changes


def refund_object(status: str = "succeeded", **changes: Any) -> dict[str, Any]:
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 400,
        "currency": "usd",
        "payment_intent": "pi_1",
        "status": status,
        "metadata": {"tollgate_refund": REFUND_REFERENCE},
    } | changes


def declined(code: str, **changes: Any) -> Answer:
    error = {
        "type": "card_error",
        "code": "card_declined",
        "decline_code": code,
        "payment_intent": intent("requires_payment_method"),
    }
    return answer(402, {"error": error | changes})


def test_what_is_declared_is_offered_and_nothing_else() -> None:
    declared_and_offered_agree(PROVIDER)


def test_a_charge_is_a_confirmed_intent_off_session_with_its_key_and_reference() -> None:
    played = told(charge(CHARGE, LOGIN), answer(200, intent()))
    (call,) = played.calls
    assert call.form == {
        "amount": "1250",
        "currency": "usd",
        "customer": "cus_1",
        "payment_method": "pm_1",
        "payment_method_types[0]": "card",
        "confirm": "true",
        "off_session": "true",
        "description": "March",
        "metadata[tollgate_attempt]": REFERENCE,
    }
    assert (call.key, call.auth, call.safe_to_repeat) == (KEY, Bearer(), True)
    assert call.headers["stripe-version"]
    assert played.result.finding is Finding.SUCCEEDED
    assert played.result.stated == usd(1_250)
    assert played.notes == {"payment_intent": "pi_1"}


def test_whose_method_it_is_is_asked_once_and_noted_before_money_moves() -> None:
    command = replace(CHARGE, provider_customer_id="")
    owner = answer(200, {"id": "pm_1", "customer": "cus_9"})
    played = told(charge(command, LOGIN), owner, answer(200, intent()))
    assert played.paths == ["GET /v1/payment_methods/pm_1", "POST /v1/payment_intents"]
    assert played.noted_at[1] == {"customer": "cus_9"}
    again = told(charge(replace(command, notes=played.notes), LOGIN), answer(200, intent()))
    assert again.calls[0].form == played.calls[1].form
    gone = answer(404, {"error": {"type": "invalid_request_error", "code": "resource_missing"}})
    missing = outcome_of(told(charge(command, LOGIN), gone).result)
    assert (missing.finding, missing.decline_code) == (Finding.REJECTED, "resource_missing")


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        ("succeeded", Finding.SUCCEEDED),
        ("processing", Finding.PENDING),
        ("requires_capture", Finding.AUTHORIZED),
        ("requires_action", Finding.NEEDS_ACTION),
        ("canceled", Finding.CANCELED),
        ("requires_payment_method", Finding.SILENCE),
        ("requires_confirmation", Finding.SILENCE),
        ("a status of next year", Finding.SILENCE),
    ],
)
def test_each_status_is_read_and_an_unmapped_one_is_no_finding(
    status: str, finding: Finding
) -> None:
    assert told(charge(CHARGE, LOGIN), answer(200, intent(status))).result.finding is finding
    assert told(read(LOOK, LOGIN), answer(200, intent(status))).result.finding is finding


def test_the_page_of_an_action_is_told() -> None:
    action = {"redirect_to_url": {"url": "https://hooks.example/3ds"}}
    outcome = told(
        charge(CHARGE, LOGIN), answer(200, intent("requires_action", next_action=action))
    ).result
    assert outcome.action is not None
    assert outcome.action.url == "https://hooks.example/3ds"


@pytest.mark.parametrize(("code", "meaning"), [*DECLINES.items(), ("new", DeclineClass.SOFT)])
def test_a_declined_intent_is_canceled_so_that_nobody_can_confirm_it(
    code: str, meaning: DeclineClass
) -> None:
    for last in (answer(200, intent("canceled")), LOST, Answer(500)):
        played = told(charge(CHARGE, LOGIN), declined(code), last)
        assert played.paths[1:] == ["POST /v1/payment_intents/pi_1/cancel"]
        assert played.calls[1].key not in ("", KEY)
        found = played.result
        assert (found.finding, found.decline_code, found.decline_class) == (
            Finding.DECLINED,
            code,
            meaning,
        )


def test_a_decline_that_names_no_intent_is_one_all_the_same() -> None:
    error = {"type": "invalid_request_error", "code": "card_declined", "charge": "ch_1"}
    played = told(charge(CHARGE, LOGIN), answer(402, {"error": error}))
    assert (played.result.finding, len(played.calls)) == (Finding.DECLINED, 1)
    assert says_nothing(told(charge(CHARGE, LOGIN), answer(402, {"error": {}})).result)


def test_a_success_states_what_was_received_or_nothing_but_never_what_was_asked_for() -> None:
    bare = intent()
    del bare["amount_received"]
    outcome = told(read(LOOK, LOGIN), answer(200, bare)).result
    assert (outcome.finding, outcome.stated) == (Finding.SUCCEEDED, None)
    for odd in (None, "much", -1, True):
        broken = answer(200, intent(amount_received=odd))
        assert says_nothing(told(read(LOOK, LOGIN), broken).result)


def test_a_canceled_intent_that_was_declined_stays_a_decline() -> None:
    error = {"type": "card_error", "code": "card_declined", "decline_code": "lost_card"}
    for status in ("canceled", "requires_payment_method"):
        seen = intent(status, last_payment_error=error)
        outcome = told(read(LOOK, LOGIN), answer(200, seen)).result
        assert (outcome.finding, outcome.decline_class) == (Finding.DECLINED, DeclineClass.FRAUD)


@pytest.mark.parametrize("reply", NOTHING_SAID)
def test_what_says_nothing_is_silence_everywhere(reply: Any) -> None:
    plans = (
        charge(CHARGE, LOGIN),
        read(LOOK, LOGIN),
        find(LOOK, LOGIN),
        capture(capture_command(usd(1_250), "pi_1"), LOGIN),
        cancel(cancel_command(usd(1_250), "pi_1"), LOGIN),
        refund(REFUND, LOGIN),
        read_refund(LOOK_REFUND, LOGIN),
        find_refund(LOOK_REFUND, LOGIN),
    )
    for plan in plans:
        assert says_nothing(told(plan, reply).result)


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_answer_is_taken_for_success_without_saying_so(body: bytes, status: int) -> None:
    for plan in (charge(CHARGE, LOGIN), read(LOOK, LOGIN), refund(REFUND, LOGIN)):
        assert told(plan, Answer(status, {}, body)).result.finding in (
            Finding.SILENCE,
            Finding.REJECTED,
        )


@pytest.mark.parametrize(
    "error",
    [
        {"type": "idempotency_error"},
        {"type": "invalid_request_error", "code": "payment_intent_unexpected_state"},
    ],
)
def test_where_something_exists_already_it_is_looked_at(error: dict[str, str]) -> None:
    assert says_nothing(told(charge(CHARGE, LOGIN), answer(400, {"error": error})).result)


def test_a_stated_refusal_ends_the_attempt_and_one_of_access_does_not_say_so() -> None:
    error = {"type": "invalid_request_error", "code": "parameter_missing"}
    outcome = told(charge(CHARGE, LOGIN), answer(400, {"error": error})).result
    assert (outcome.finding, outcome.basis) == (Finding.REJECTED, Basis.STATED)
    assert told(charge(CHARGE, LOGIN), Answer(401)).result.basis is Basis.ACCESS
    assert told(charge(CHARGE, LOGIN), UNSENT).result.basis is Basis.NOT_SENT


def test_an_intent_of_another_reference_says_nothing() -> None:
    stranger = intent(metadata={"tollgate_attempt": "another"})
    assert says_nothing(told(read(LOOK, LOGIN), answer(200, stranger)).result)


def test_reserving_capturing_a_part_and_releasing() -> None:
    later = replace(CHARGE, capture_later=True)
    held = told(charge(later, LOGIN), answer(200, intent("requires_capture")))
    assert held.calls[0].form is not None
    assert held.calls[0].form["capture_method"] == "manual"
    assert held.result.finding is Finding.AUTHORIZED
    part = replace(capture_command(usd(1_250), "pi_1"), amount=usd(300))
    took = told(capture(part, LOGIN), answer(200, intent(amount_received=300)))
    assert took.calls[0].form == {"amount_to_capture": "300"}
    assert (took.result.finding, took.result.stated) == (Finding.SUCCEEDED, usd(300))
    off = told(cancel(cancel_command(usd(1_250), "pi_1"), LOGIN), answer(200, intent("canceled")))
    assert off.paths == ["POST /v1/payment_intents/pi_1/cancel"]
    assert off.result.finding is Finding.CANCELED


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        ("succeeded", Finding.SUCCEEDED),
        ("pending", Finding.PENDING),
        ("requires_action", Finding.PENDING),
        ("failed", Finding.DECLINED),
        ("canceled", Finding.CANCELED),
        ("a status of next year", Finding.SILENCE),
    ],
)
def test_refunds_are_made_read_and_found(status: str, finding: Finding) -> None:
    made = told(refund(REFUND, LOGIN), answer(200, refund_object(status)))
    assert made.calls[0].form == {
        "payment_intent": "pi_1",
        "amount": "400",
        "metadata[tollgate_refund]": REFUND_REFERENCE,
    }
    assert (made.result.finding, made.calls[0].key) == (finding, KEY)
    seen = told(read_refund(LOOK_REFUND, LOGIN), answer(200, refund_object(status)))
    assert seen.result.finding is finding
    listed = {"data": [refund_object(status, metadata={}), refund_object(status)]}
    found = told(find_refund(LOOK_REFUND, LOGIN), answer(200, listed | {"has_more": False}))
    assert found.result.finding is finding


def test_a_refund_too_large_is_refused_with_stripes_word() -> None:
    error = {"type": "invalid_request_error", "code": "charge_already_refunded"}
    outcome = told(refund(REFUND, LOGIN), answer(400, {"error": error})).result
    assert (outcome.finding, outcome.decline_code) == (
        Finding.REJECTED,
        "charge_already_refunded",
    )


def test_a_find_compares_references_page_by_page_and_claims_absence_of_a_whole_list_only() -> None:
    other = intent(id="pi_0", metadata={})
    first = answer(200, {"data": [other], "has_more": True})
    played = told(find(LOOK, LOGIN), first, answer(200, {"data": [intent()], "has_more": False}))
    assert played.calls[0].query == {"customer": "cus_1", "limit": "100"}
    assert played.calls[1].query["starting_after"] == "pi_0"
    assert played.result.finding is Finding.SUCCEEDED
    empty = answer(200, {"data": [], "has_more": False})
    assert told(find(LOOK, LOGIN), empty).result.finding is Finding.ABSENT
    endless = told(find(LOOK, LOGIN), *[first] * 10)
    assert says_nothing(endless.result)
    broken: tuple[dict[str, Any], ...] = ({"data": []}, {"has_more": False}, {"data": None})
    for content in broken:
        assert says_nothing(told(find(LOOK, LOGIN), answer(200, content)).result)


def test_without_knowing_whose_payments_to_list_nothing_is_claimed() -> None:
    assert says_nothing(told(find(replace(LOOK, provider_customer_id=""), LOGIN)).result)
    by_method = replace(LOOK, provider_customer_id="", provider_token="pm_1")
    owner = answer(200, {"id": "pm_1", "customer": "cus_1"})
    empty = answer(200, {"data": [], "has_more": False})
    assert told(find(by_method, LOGIN), owner, empty).result.finding is Finding.ABSENT


@pytest.mark.parametrize(
    ("code", "digits", "atoms", "expected"),
    [
        ("USD", 2, 1_250, 1_250),
        ("JPY", 0, 500, 500),
        ("KWD", 3, 1_230, 1_230),
        ("ISK", 0, 500, 50_000),
        ("UGX", 0, 500, 50_000),
        ("MGA", 2, 500, 5),
    ],
)
def test_amounts_leave_in_stripes_own_units(
    code: str, digits: int, atoms: int, expected: int
) -> None:
    amount = Amount(Asset(code, digits), atoms)
    assert units(amount) == expected
    assert amount_of({"amount": expected, "currency": code.lower()}) == amount


@pytest.mark.parametrize(("code", "digits"), [("KWD", 3), ("BHD", 3), ("MGA", 2)])
def test_an_amount_that_stripe_cannot_express_is_refused_before_any_call(
    code: str, digits: int
) -> None:
    with pytest.raises(AmountNotRepresentable):
        units(Amount(Asset(code, digits), 1_234 + 1))


def test_customers_pages_and_methods() -> None:
    made = told(create_customer(customer_command(), LOGIN), answer(200, {"id": "cus_1"}))
    assert made.result == CustomerLink("cus_1")
    assert made.calls[0].form is not None
    assert made.calls[0].form["metadata[tollgate_customer]"] == "ada"
    opened = {"id": "cs_1", "status": "open", "url": "https://checkout.example/cs_1"}
    for mode in SessionMode:
        command = session_command(mode, usd(1_250), provider_customer_id="cus_1")
        session = told(create_session(command, LOGIN), answer(200, opened))
        assert isinstance(session.result, Session)
        assert session.result.url == opened["url"]
        form = session.calls[0].form
        assert form is not None
        paid = form.get("payment_intent_data[metadata][tollgate_attempt]")
        assert paid == (REFERENCE if mode is SessionMode.PAY else None)
    stored = {"id": "pm_7", "type": "card", "customer": "cus_1"}
    card = {"brand": "visa", "last4": "4242", "exp_month": 4, "exp_year": 2030}
    done = {
        "id": "cs_1",
        "status": "complete",
        "payment_intent": intent(payment_method=stored | {"card": card}),
    }
    seen = told(
        read_session(LookSession(REFERENCE, SessionMode.PAY, "cs_1"), LOGIN), answer(200, done)
    ).result
    assert isinstance(seen, Session)
    assert seen.state is SessionState.COMPLETED
    assert seen.payment is not None
    assert seen.payment.finding is Finding.SUCCEEDED
    assert seen.method is not None
    assert (seen.method.provider_token, seen.method.last_four) == ("pm_7", "4242")
    listed = told(
        list_methods(CustomerMethods("ada", "cus_1"), LOGIN), answer(200, {"data": [stored]})
    ).result
    assert isinstance(listed, tuple)
    assert [each.provider_token for each in listed] == ["pm_7"]
    gone = answer(200, stored | {"customer": None})
    assert told(detach_method(Detach("pm_7", KEY), LOGIN), gone).result.finding is Finding.CANCELED


def event(kind: str, thing: dict[str, Any]) -> dict[str, Any]:
    return {"id": "evt_1", "type": kind, "created": 1_772_366_400, "data": {"object": thing}}


@pytest.mark.parametrize(
    ("kind", "status", "finding"),
    [
        ("payment_intent.succeeded", "succeeded", Finding.SUCCEEDED),
        ("payment_intent.amount_capturable_updated", "requires_capture", Finding.AUTHORIZED),
        ("payment_intent.processing", "processing", Finding.PENDING),
        ("payment_intent.requires_action", "requires_action", Finding.NEEDS_ACTION),
        ("payment_intent.canceled", "canceled", Finding.CANCELED),
        ("payment_intent.created", "requires_confirmation", None),
        ("payment_intent.succeeded", "canceled", None),  # what contradicts itself tells nothing
    ],
)
def test_events_of_payments_are_mapped(kind: str, status: str, finding: Finding | None) -> None:
    item = read_event(event(kind, intent(status)))
    assert item is not None
    assert (item.reference, item.provider_payment_id) == (REFERENCE, "pi_1")
    assert (item.outcome.finding if item.outcome else None) is finding


def test_events_of_other_things_say_what_they_are_about() -> None:
    dispute = {
        "id": "dp_1",
        "payment_intent": "pi_1",
        "amount": 1_250,
        "currency": "usd",
        "status": "needs_response",
        "reason": "fraudulent",
        "evidence_details": {"due_by": 1_772_366_400},
    }
    told_dispute = read_event(event("charge.dispute.funds_withdrawn", dispute))
    assert told_dispute is not None
    assert told_dispute.dispute is not None
    assert told_dispute.dispute.stage is DisputeStage.OPENED
    assert (told_dispute.dispute.amount, told_dispute.dispute.funds) == (usd(1_250), "withdrawn")
    back = read_event(event("refund.failed", refund_object("failed")))
    assert back is not None
    assert back.outcome is not None
    assert (back.about, back.object_id, back.outcome.undoes_success) == (
        About.REFUND,
        "re_1",
        True,
    )
    for kind, about in (
        ("checkout.session.completed", About.SESSION),
        ("setup_intent.succeeded", About.SESSION),
        ("payment_method.detached", About.METHOD),
        ("payout.paid", About.PAYOUT),
        ("charge.refunded", About.REFUND),
        ("invoice.created", About.OTHER),
    ):
        item = read_event(event(kind, {"id": "x_1", "type": "card"}))
        assert item is not None
        assert (item.about, item.outcome) == (about, None)


def test_changes_and_payout_lines_are_read_page_by_page() -> None:
    page = {"data": [event("payment_intent.succeeded", intent())], "has_more": True}
    changes = told(list_changes(Since(NOW), LOGIN), answer(200, page)).result
    assert isinstance(changes, Changes)
    assert (len(changes.items), changes.next_page_token) == (1, "evt_1")
    row = {
        "id": "txn_1", "type": "charge", "amount": 1_250, "fee": 66, "net": 1_184,
        "currency": "usd", "created": 1_772_366_400,
        "source": {"id": "ch_1", "payment_intent": "pi_1",
                   "metadata": {"tollgate_attempt": REFERENCE}},
    }  # fmt: skip
    back = row | {"id": "txn_2", "type": "refund", "amount": -400, "fee": 0, "net": -400}
    payout = row | {"id": "txn_3", "type": "payout"}
    listed = answer(200, {"data": [row, back, payout], "has_more": False})
    lines = told(list_payout_lines(Since(NOW, provider_payout_id="po_1"), LOGIN), listed).result
    assert isinstance(lines, PayoutLines)
    assert [(each.kind, each.net) for each in lines.lines] == [
        (LineKind.CHARGE, usd(1_184)),
        (LineKind.REFUND, usd(-400)),
    ]
    assert lines.lines[0].provider_payment_id == "pi_1"
