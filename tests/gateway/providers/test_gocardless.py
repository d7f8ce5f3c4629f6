"""GoCardless's plans, played with scripted answers and with what its own clients are tested on."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.outcome import Basis, DeclineClass, Finding
from gateway.providers.commands import (
    About,
    Changes,
    CustomerMethods,
    Detach,
    DisputeStage,
    LineKind,
    LookSession,
    PayoutLine,
    PayoutLines,
    Session,
    SessionMode,
    SessionState,
    Since,
)
from gateway.providers.gocardless import PROVIDER
from gateway.providers.gocardless.answers import DECLINES, read_event, read_items
from gateway.providers.gocardless.lists import list_changes, list_payout_lines
from gateway.providers.gocardless.pages import (
    create_session,
    detach_method,
    list_methods,
    read_session,
)
from gateway.providers.gocardless.payments import (
    cancel,
    charge,
    find,
    find_refund,
    read,
    read_refund,
    refund,
)
from gateway.providers.plan import Answer
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
    declared_and_offered_agree,
    login,
    look,
    look_refund,
    refund_command,
    says_nothing,
    session_command,
    spec,
    told,
)

LOGIN = login("https://api.gocardless.com")


def eur(cents: int) -> Amount:
    return Amount(Asset("EUR", 2), cents)


def tenths(count: int) -> Amount:
    """Tenths of a cent, which is how finely lines of payouts are told."""
    return Amount(Asset("EUR", 3), count)


CHARGE = charge_command(eur(1_000), "MD123")
LOOK = look(eur(1_000), provider_payment_id="PM123", provider_token="MD123")
REFUND = replace(refund_command(eur(150), eur(1_000), "PM123"), refunded_before=eur(100))
LOOK_REFUND = look_refund(eur(150), "PM123", provider_refund_id="RF123")


def fixture(resource: str, route: str) -> dict[str, Any]:
    """The body that GoCardless's own clients are tested on."""
    content = json.loads(spec(f"gocardless-fixtures/{resource}.json").read_text(encoding="utf-8"))
    body: dict[str, Any] = content[route]["body"]
    return body


def payment(status: str = "submitted", **changes: Any) -> dict[str, Any]:
    return {
        "id": "PM123",
        "amount": 1_000,
        "currency": "EUR",
        "status": status,
        "metadata": {"tollgate_attempt": REFERENCE},
    } | changes


def refund_object(status: str = "submitted", **changes: Any) -> dict[str, Any]:
    return {
        "id": "RF123",
        "amount": 150,
        "currency": "EUR",
        "status": status,
        "links": {"payment": "PM123"},
        "metadata": {"tollgate_refund": REFUND_REFERENCE},
    } | changes


def page(resource: str, *listed: dict[str, Any], after: str | None = None) -> Answer:
    return answer(200, {resource: listed, "meta": {"cursors": {"before": None, "after": after}}})


def failure(status: int, kind: str, reason: str = "", **links: str) -> Answer:
    error = {"type": kind, "errors": [{"reason": reason, "links": links}] if reason else []}
    return answer(status, {"error": error})


CONFLICT = failure(
    409, "invalid_state", "idempotent_creation_conflict", conflicting_resource_id="PM999"
)


def test_what_is_declared_is_offered_and_nothing_else() -> None:
    declared_and_offered_agree(PROVIDER)


def test_a_charge_is_one_payment_of_a_mandate_that_nobody_but_us_tries_again() -> None:
    played = told(charge(CHARGE, LOGIN), answer(201, {"payments": payment()}))
    (call,) = played.calls
    assert call.json == {
        "payments": {
            "amount": 1_000,
            "currency": "EUR",
            "links": {"mandate": "MD123"},
            "retry_if_possible": False,
            "metadata": {"tollgate_attempt": REFERENCE},
            "description": "March",
        }
    }
    assert (call.key, call.headers["gocardless-version"]) == (KEY, "2015-07-06")
    assert (played.result.finding, played.result.provider_payment_id) == (
        Finding.PENDING,
        "PM123",
    )


def test_a_key_that_was_used_names_the_payment_which_is_then_read() -> None:
    found = answer(200, {"payments": payment("confirmed", id="PM999")})
    played = told(charge(CHARGE, LOGIN), CONFLICT, found)
    assert played.paths == ["POST /payments", "GET /payments/PM999"]
    assert (played.result.finding, played.result.provider_payment_id) == (
        Finding.SUCCEEDED,
        "PM999",
    )
    assert says_nothing(told(charge(CHARGE, LOGIN), CONFLICT, LOST).result)
    stranger = answer(200, {"payments": payment(metadata={})})
    assert says_nothing(told(charge(CHARGE, LOGIN), CONFLICT, stranger).result)
    published = spec("gocardless-fixtures/idempotent_creation_conflict_error.json").read_bytes()
    played = told(charge(CHARGE, LOGIN), Answer(409, {}, published), found)
    assert played.paths[1] == "GET /payments/PM00001078ZJJN"


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        ("pending_customer_approval", Finding.PENDING),
        ("pending_submission", Finding.PENDING),
        ("submitted", Finding.PENDING),
        ("confirmed", Finding.SUCCEEDED),
        ("paid_out", Finding.SUCCEEDED),
        ("cancelled", Finding.CANCELED),
        ("customer_approval_denied", Finding.CANCELED),
        ("charged_back", Finding.SILENCE),
        ("a status of next year", Finding.SILENCE),
    ],
)
def test_each_status_is_read_and_an_unmapped_one_is_no_finding(
    status: str, finding: Finding
) -> None:
    seen = answer(200, {"payments": payment(status)})
    assert told(charge(CHARGE, LOGIN), seen).result.finding is finding
    assert told(read(LOOK, LOGIN), seen).result.finding is finding
    assert told(find(LOOK, LOGIN), page("payments", payment(status))).result.finding is finding


@pytest.mark.parametrize(("cause", "meaning"), [*DECLINES.items(), ("new", DeclineClass.SOFT)])
def test_a_failure_is_told_with_the_cause_of_its_event_and_takes_a_success_back(
    cause: str, meaning: DeclineClass
) -> None:
    failed = answer(200, {"payments": payment("failed")})
    why = page("events", {"id": "EV1", "action": "failed", "details": {"cause": cause}})
    played = told(read(LOOK, LOGIN), failed, why)
    assert played.calls[1].query == {"payment": "PM123", "action": "failed"}
    outcome = played.result
    assert (outcome.finding, outcome.decline_code, outcome.decline_class) == (
        Finding.DECLINED,
        cause,
        meaning,
    )
    assert outcome.undoes_success
    for nothing in NOTHING_SAID:
        without = told(read(LOOK, LOGIN), failed, nothing).result
        assert (without.finding, without.decline_code) == (Finding.DECLINED, "failed")


@pytest.mark.parametrize("reply", NOTHING_SAID)
def test_what_says_nothing_is_silence_everywhere(reply: Any) -> None:
    for plan in (
        charge(CHARGE, LOGIN),
        read(LOOK, LOGIN),
        find(LOOK, LOGIN),
        cancel(cancel_command(eur(1_000), "PM123"), LOGIN),
        refund(REFUND, LOGIN),
        read_refund(LOOK_REFUND, LOGIN),
        find_refund(LOOK_REFUND, LOGIN),
    ):
        assert says_nothing(told(plan, reply).result)


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_answer_is_taken_for_success_without_saying_so(body: bytes, status: int) -> None:
    for plan in (charge(CHARGE, LOGIN), read(LOOK, LOGIN), refund(REFUND, LOGIN)):
        assert told(plan, Answer(status, {}, body)).result.finding in (
            Finding.SILENCE,
            Finding.REJECTED,
        )


def test_published_errors_are_read_for_what_they_are() -> None:
    def after(name: str, status: int) -> tuple[Finding, Basis, str]:
        body = spec(f"gocardless-fixtures/{name}.json").read_bytes()
        outcome = told(charge(CHARGE, LOGIN), Answer(status, {}, body)).result
        return outcome.finding, outcome.basis, outcome.decline_code

    rejected = Finding.REJECTED
    assert after("validation_failed_error", 422) == (rejected, Basis.STATED, "validation_failed")
    assert after("invalid_state_error", 422) == (rejected, Basis.STATED, "mandate_not_inactive")
    assert after("unauthorized_error", 401)[:2] == (rejected, Basis.ACCESS)
    assert after("rate_limit_exceeded", 429)[:2] == (rejected, Basis.THROTTLED)
    assert after("gocardless_error", 500)[0] is Finding.SILENCE
    assert told(charge(CHARGE, LOGIN), UNSENT).result.basis is Basis.NOT_SENT


def test_a_mandate_that_ended_is_hard() -> None:
    dead = failure(422, "invalid_state", "mandate_is_inactive")
    assert told(charge(CHARGE, LOGIN), dead).result.decline_class is DeclineClass.HARD


def test_a_payment_is_called_off_only_before_it_is_submitted() -> None:
    command = cancel_command(eur(1_000), "PM123")
    off = told(cancel(command, LOGIN), answer(200, {"payments": payment("cancelled")}))
    assert off.paths == ["POST /payments/PM123/actions/cancel"]
    assert (off.result.finding, off.calls[0].key) == (Finding.CANCELED, "")
    late = told(cancel(command, LOGIN), failure(422, "invalid_state", "cancellation_failed"))
    assert (late.result.finding, late.result.decline_code) == (
        Finding.REJECTED,
        "cancellation_failed",
    )


def test_refunds_state_their_total_and_are_read_and_found() -> None:
    made = told(refund(REFUND, LOGIN), answer(201, {"refunds": refund_object()}))
    assert made.calls[0].json == {
        "refunds": {
            "amount": 150,
            "total_amount_confirmation": 250,
            "links": {"payment": "PM123"},
            "metadata": {"tollgate_refund": REFUND_REFERENCE},
        }
    }
    assert (made.result.finding, made.result.provider_refund_id) == (Finding.PENDING, "RF123")
    for status, finding in (
        ("paid", Finding.SUCCEEDED),
        ("cancelled", Finding.CANCELED),
        ("bounced", Finding.DECLINED),
        ("funds_returned", Finding.REVERSED),
        ("a status of next year", Finding.SILENCE),
    ):
        seen = answer(200, {"refunds": refund_object(status)})
        assert told(read_refund(LOOK_REFUND, LOGIN), seen).result.finding is finding
        listed = page("refunds", refund_object("paid", metadata={}), refund_object(status))
        assert told(find_refund(LOOK_REFUND, LOGIN), listed).result.finding is finding
    assert told(find_refund(LOOK_REFUND, LOGIN), page("refunds")).result.finding is Finding.ABSENT


def test_a_find_goes_through_the_mandates_payments_to_the_last_page() -> None:
    other = payment(id="PM0", metadata={})
    played = told(
        find(LOOK, LOGIN),
        page("payments", other, after="PM0"),
        page("payments", payment("confirmed")),
    )
    assert played.calls[0].query == {"mandate": "MD123", "limit": "500"}
    assert played.calls[1].query["after"] == "PM0"
    assert played.result.finding is Finding.SUCCEEDED
    assert told(find(LOOK, LOGIN), page("payments", other)).result.finding is Finding.ABSENT
    endless = told(find(LOOK, LOGIN), *[page("payments", other, after="PM0")] * 10)
    assert says_nothing(endless.result)
    unfinished: tuple[dict[str, Any], ...] = ({"payments": []}, {"payments": [], "meta": {}})
    for broken in unfinished:
        assert says_nothing(told(find(LOOK, LOGIN), answer(200, broken)).result)
    assert says_nothing(told(find(replace(LOOK, provider_token=""), LOGIN)).result)


def test_published_bodies_pass_through_every_plan_that_reads_them() -> None:
    stranger = answer(200, fixture("payments", "get"))
    assert says_nothing(told(read(LOOK, LOGIN), stranger).result)  # it is not ours
    ours = fixture("payments", "get")
    ours["payments"]["metadata"] = {"tollgate_attempt": REFERENCE}
    ours["payments"]["status"] = "confirmed"
    seen = told(read(LOOK, LOGIN), answer(200, ours)).result
    assert (seen.finding, seen.stated) == (Finding.SUCCEEDED, eur(1_000))
    listed = fixture("payments", "list")
    listed["payments"][0]["metadata"] = {"tollgate_attempt": REFERENCE}
    listed["payments"][0]["status"] = "submitted"
    assert told(find(LOOK, LOGIN), answer(200, listed)).result.finding is Finding.PENDING
    back = fixture("refunds", "get")
    back["refunds"]["metadata"] = {"tollgate_refund": REFUND_REFERENCE}
    assert told(read_refund(LOOK_REFUND, LOGIN), answer(200, back)).result.finding is (
        Finding.PENDING
    )
    methods = told(
        list_methods(CustomerMethods("ada", "CU123"), LOGIN),
        answer(200, fixture("mandates", "list")),
    ).result
    assert isinstance(methods, tuple)
    assert {each.provider_token for each in methods} == {"MD123"}
    changes = told(list_changes(Since(NOW), LOGIN), answer(200, fixture("events", "list"))).result
    assert isinstance(changes, Changes)
    assert len(changes.items) == 2
    items = read_items(spec("gocardless-fixtures/webhook_body.json").read_bytes())
    assert [each.kind for each in items] == ["subscriptions.created", "mandates.created"]
    lines = told(
        list_payout_lines(Since(NOW, provider_payout_id="PO123"), LOGIN),
        answer(200, fixture("payouts", "get")),
        answer(200, fixture("payout_items", "list") | {"meta": {"cursors": {"after": None}}}),
    ).result
    assert isinstance(lines, PayoutLines)
    assert [(each.kind, each.net) for each in lines.lines] == [(LineKind.CHARGE, tenths(450))] * 2


def test_a_page_is_a_billing_request_noted_before_its_flow() -> None:
    request = answer(201, fixture("billing_requests", "create"))
    flow = answer(201, fixture("billing_request_flows", "create"))
    for mode in SessionMode:
        command = session_command(mode, eur(1_000))
        played = told(create_session(command, LOGIN), request, flow)
        assert played.paths == ["POST /billing_requests", "POST /billing_request_flows"]
        assert played.noted_at[1] == {"billing_request": "BRQ123"}
        assert played.calls[0].key != played.calls[1].key
        assert isinstance(played.result, Session)
        assert played.result.provider_session_id == "BRQ123"
        assert played.result.url == "https://monzo.com/abc-123-things"
        again = told(create_session(replace(command, notes=played.notes), LOGIN), flow)
        assert again.paths == ["POST /billing_request_flows"]


def test_what_came_of_a_page_is_read_from_its_links() -> None:
    done = {
        "id": "BRQ1",
        "status": "fulfilled",
        "links": {
            "customer": "CU1",
            "mandate_request_mandate": "MD7",
            "payment_request_payment": "PM123",
        },
    }
    seen = answer(200, {"billing_requests": done})
    mandate = answer(200, {"mandates": {"id": "MD7", "scheme": "sepa_core", "status": "active"}})
    setup = told(
        read_session(LookSession(REFERENCE, SessionMode.SETUP, "BRQ1"), LOGIN), seen, mandate
    ).result
    assert isinstance(setup, Session)
    assert setup.state is SessionState.COMPLETED
    assert setup.method is not None
    assert (setup.method.provider_token, setup.method.usable) == ("MD7", True)
    paid = told(
        read_session(LookSession(REFERENCE, SessionMode.PAY, "BRQ1"), LOGIN),
        seen,
        answer(200, {"payments": payment("confirmed")}),
    ).result
    assert isinstance(paid, Session)
    assert paid.payment is not None
    assert paid.payment.finding is Finding.SUCCEEDED
    ended = answer(200, {"mandates": {"id": "MD7", "status": "cancelled"}})
    assert told(detach_method(Detach("MD7", KEY), LOGIN), ended).result.finding is Finding.CANCELED


def event(resource: str, action: str, links: dict[str, str], **details: Any) -> dict[str, Any]:
    return {
        "id": "EV1",
        "created_at": "2026-03-01T12:00:00.000Z",
        "resource_type": resource,
        "action": action,
        "links": links,
        "details": details,
    }


@pytest.mark.parametrize(
    ("action", "details", "finding"),
    [
        ("created", {}, Finding.PENDING),
        ("submitted", {}, Finding.PENDING),
        ("resubmission_requested", {}, Finding.PENDING),
        ("confirmed", {}, Finding.SUCCEEDED),
        ("failed", {"cause": "refer_to_payer"}, Finding.DECLINED),
        ("failed", {"will_attempt_retry": True}, Finding.PENDING),
        ("cancelled", {}, Finding.CANCELED),
        ("customer_approval_denied", {}, Finding.CANCELED),
        ("paid_out", {}, None),
        ("late_failure_settled", {}, None),
        ("an action of next year", {}, None),
    ],
)
def test_events_of_payments_are_mapped(
    action: str, details: dict[str, Any], finding: Finding | None
) -> None:
    item = read_event(event("payments", action, {"payment": "PM123"}, **details))
    assert item is not None
    assert (item.about, item.provider_payment_id) == (About.PAYMENT, "PM123")
    assert (item.outcome.finding if item.outcome else None) is finding


def test_events_of_other_things_say_what_they_are_about() -> None:
    lost = read_event(event("payments", "charged_back", {"payment": "PM1"}, cause="disputed"))
    assert lost is not None
    assert lost.dispute is not None
    assert (lost.about, lost.dispute.stage, lost.dispute.funds) == (
        About.DISPUTE,
        DisputeStage.LOST,
        "withdrawn",
    )
    moved = read_event(
        event("mandates", "replaced", {"mandate": "MD1", "new_mandate": "MD2"}, scheme="bacs")
    )
    assert moved is not None
    assert moved.method is not None
    assert (moved.method.usable, moved.method.replaced_by) == (False, "MD2")
    back = read_event(event("refunds", "refund_returned", {"refund": "RF1", "payment": "PM1"}))
    assert back is not None
    assert back.outcome is not None
    assert (back.about, back.object_id, back.outcome.finding) == (
        About.REFUND,
        "RF1",
        Finding.REVERSED,
    )
    done = read_event(event("billing_requests", "fulfilled", {"billing_request": "BRQ1"}))
    assert done is not None
    assert (done.about, done.object_id) == (About.SESSION, "BRQ1")


@pytest.mark.parametrize(
    ("stated", "expected"),
    [("45.0", 450), ("-45.5", -455), ("-0.5", -5), ("1000", 10_000), ("12.30", 123)],
)
def test_lines_of_payouts_are_exact_to_a_tenth_of_a_cent(stated: str, expected: int) -> None:
    assert [each.net for each in lines_of(stated)] == [tenths(expected), tenths(-450)]


@pytest.mark.parametrize("stated", ["45.55", "1e3", "", "--4", "NaN", "٤", "1,5"])
def test_a_line_that_is_no_amount_is_left_out_and_keeps_its_place(stated: str) -> None:
    (line,) = lines_of(stated)
    assert (line.id, line.net) == ("PO1:1", tenths(-450))


def lines_of(stated: str) -> tuple[PayoutLine, ...]:
    payout = answer(200, {"payouts": {"id": "PO1", "currency": "EUR"}})
    good = {"amount": "-45.0", "type": "payment_refunded", "links": {"payment": "PM1"}}
    listed = page("payout_items", {"amount": stated, "type": "app_fee"}, good)
    lines = told(
        list_payout_lines(Since(NOW, provider_payout_id="PO1"), LOGIN), payout, listed
    ).result
    assert isinstance(lines, PayoutLines)
    return lines.lines
