"""Adyen's plans, played with scripted answers; its notifications, also as Adyen publishes them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.outcome import Basis, DeclineClass, Finding
from gateway.providers.adyen import PROVIDER
from gateway.providers.adyen.answers import DECLINES
from gateway.providers.adyen.notifications import read_items
from gateway.providers.adyen.pages import (
    create_session,
    detach_method,
    list_methods,
    read_session,
)
from gateway.providers.adyen.payments import cancel, capture, charge, refund
from gateway.providers.adyen.requests import shopper_reference, units
from gateway.providers.commands import (
    About,
    CustomerMethods,
    Detach,
    Item,
    LookSession,
    Session,
    SessionMode,
    SessionState,
)
from gateway.providers.plan import API_SECRET, Answer, Call
from gateway.providers.registry import allowed_origins, check_endpoint
from kernel.errors import InvalidValue
from kernel.money import Amount, Asset
from tests.gateway.providers.support import (
    KEY,
    LOST,
    NOTHING_SAID,
    REFERENCE,
    REFUND_REFERENCE,
    UNSENT,
    answer,
    cancel_command,
    capture_command,
    charge_command,
    declared_and_offered_agree,
    login,
    refund_command,
    says_nothing,
    session_command,
    spec,
    told,
    usd,
)

LOGIN = replace(login("https://checkout-test.adyen.com"), merchant="AcmeECOM")
CHARGE = charge_command(usd(1_250), "8415718415172204")
RECEIVED = {"pspReference": "993617894906488A", "status": "received"}


def result(code: str, **changes: Any) -> Answer:
    content = {"pspReference": "993617895204576J", "resultCode": code}
    return answer(200, content | {"merchantReference": REFERENCE} | changes)


def test_what_is_declared_is_offered_and_nothing_else() -> None:
    declared_and_offered_agree(PROVIDER)


def test_a_charge_states_account_shopper_token_and_when_to_capture() -> None:
    played = told(charge(CHARGE, LOGIN), result("Authorised"))
    (call,) = played.calls
    assert call.json == {
        "merchantAccount": "AcmeECOM",
        "amount": {"value": 1_250, "currency": "USD"},
        "reference": REFERENCE,
        "shopperReference": "ada",
        "shopperInteraction": "ContAuth",
        "recurringProcessingModel": "UnscheduledCardOnFile",
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "8415718415172204"},
        "returnUrl": "https://nobody.invalid/",
        "shopperStatement": "March",
        "captureDelayHours": 0,
    }
    assert (call.path, call.key, call.secret_headers) == (
        "/v72/payments",
        KEY,
        {"x-api-key": API_SECRET},
    )
    assert played.result.finding is Finding.SUCCEEDED
    assert played.notes == {"psp_reference": "993617895204576J"}
    held = told(charge(replace(CHARGE, capture_later=True), LOGIN), result("Authorised"))
    assert held.result.finding is Finding.AUTHORIZED
    assert held.calls[0].json is not None
    assert held.calls[0].json["additionalData"] == {"manualCapture": "true"}
    assert "captureDelayHours" not in held.calls[0].json


@pytest.mark.parametrize(
    ("description", "statement"),
    [("Rent <März> #3; 2026, flat 12", "Rent Mrz 3 2026, flat"), ("", None), ("№§", None)],
)
def test_what_the_payer_sees_is_what_banks_can_print(
    description: str, statement: str | None
) -> None:
    call = next(charge(replace(CHARGE, description=description), LOGIN))
    assert isinstance(call, Call)
    assert call.json is not None
    assert call.json.get("shopperStatement") == statement


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("Refused", Finding.DECLINED),
        ("Error", Finding.DECLINED),
        ("Cancelled", Finding.CANCELED),
        ("Received", Finding.PENDING),
        ("Pending", Finding.PENDING),
        ("RedirectShopper", Finding.NEEDS_ACTION),
        ("IdentifyShopper", Finding.NEEDS_ACTION),
        ("ChallengeShopper", Finding.NEEDS_ACTION),
        ("PresentToShopper", Finding.NEEDS_ACTION),
        ("AuthenticationFinished", Finding.SILENCE),
        ("a result of next year", Finding.SILENCE),
    ],
)
def test_each_result_is_read_and_an_unmapped_one_is_no_finding(code: str, finding: Finding) -> None:
    assert told(charge(CHARGE, LOGIN), result(code)).result.finding is finding


@pytest.mark.parametrize(("code", "meaning"), [*DECLINES.items(), ("99", DeclineClass.SOFT)])
def test_a_refusal_is_classified_by_its_code(code: str, meaning: DeclineClass) -> None:
    outcome = told(charge(CHARGE, LOGIN), result("Refused", refusalReasonCode=code)).result
    assert (outcome.decline_code, outcome.decline_class) == (code, meaning)
    stumbled = told(charge(CHARGE, LOGIN), result("Error")).result
    assert stumbled.decline_class is DeclineClass.TECHNICAL


def test_a_part_of_an_amount_is_released_before_it_counts_as_declined() -> None:
    partly = result("PartiallyAuthorised")
    played = told(charge(CHARGE, LOGIN), partly, answer(201, RECEIVED))
    assert played.paths[1:] == ["POST /v72/payments/993617895204576J/cancels"]
    assert played.result.finding is Finding.DECLINED
    for lost in (LOST, Answer(500), answer(422, {"errorCode": "704"})):
        assert says_nothing(told(charge(CHARGE, LOGIN), partly, lost).result)


@pytest.mark.parametrize("reply", NOTHING_SAID)
def test_what_says_nothing_is_silence_everywhere(reply: Any) -> None:
    for plan in (
        charge(CHARGE, LOGIN),
        capture(capture_command(usd(1_250), "psp"), LOGIN),
        cancel(cancel_command(usd(1_250), "psp"), LOGIN),
        refund(refund_command(usd(1), usd(1_250), "psp"), LOGIN),
    ):
        assert says_nothing(told(plan, reply).result)


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_answer_is_taken_for_success_without_saying_so(body: bytes, status: int) -> None:
    outcome = told(charge(CHARGE, LOGIN), Answer(status, {}, body)).result
    assert outcome.finding in (Finding.SILENCE, Finding.REJECTED)


def test_a_request_in_flight_and_a_passing_error_are_asked_again_later() -> None:
    in_flight = answer(422, {"errorCode": "704", "message": "request already processed"})
    assert says_nothing(told(charge(CHARGE, LOGIN), in_flight).result)
    passing = Answer(422, {"transient-error": "true"}, b'{"errorCode": "905"}')
    assert says_nothing(told(charge(CHARGE, LOGIN), passing).result)
    stated = told(charge(CHARGE, LOGIN), answer(422, {"errorCode": "803"})).result
    assert (stated.finding, stated.decline_code) == (Finding.REJECTED, "803")
    assert told(charge(CHARGE, LOGIN), answer(401, {"errorCode": "000"})).result.basis is (
        Basis.ACCESS
    )
    assert told(charge(CHARGE, LOGIN), UNSENT).result.basis is Basis.NOT_SENT
    other = result("Authorised", merchantReference="another")
    assert says_nothing(told(charge(CHARGE, LOGIN), other).result)


def test_captures_cancellations_and_refunds_are_taken_on_and_finish_later() -> None:
    took = told(capture(capture_command(usd(300), "psp"), LOGIN), answer(201, RECEIVED))
    assert took.paths == ["POST /v72/payments/psp/captures"]
    assert took.result.finding is Finding.PENDING
    off = told(cancel(cancel_command(usd(300), "psp"), LOGIN), answer(201, RECEIVED))
    assert (off.paths, off.result.finding) == (
        ["POST /v72/payments/psp/cancels"],
        Finding.PENDING,
    )
    unnamed = told(cancel(cancel_command(usd(300), ""), LOGIN), answer(201, RECEIVED))
    assert unnamed.paths == ["POST /v72/cancels"]
    assert unnamed.calls[0].json is not None
    assert unnamed.calls[0].json["paymentReference"] == REFERENCE
    back = told(refund(refund_command(usd(300), usd(900), "psp"), LOGIN), answer(201, RECEIVED))
    assert back.calls[0].json == {
        "merchantAccount": "AcmeECOM",
        "amount": {"value": 300, "currency": "USD"},
        "reference": REFUND_REFERENCE,
    }
    assert (back.result.finding, back.result.provider_refund_id) == (
        Finding.PENDING,
        "993617894906488A",
    )


@pytest.mark.parametrize(
    ("code", "digits", "atoms", "expected"),
    [
        ("USD", 2, 1_250, 1_250),
        ("JPY", 0, 500, 500),
        ("KWD", 3, 1_234, 1_234),
        ("CLP", 0, 500, 50_000),
        ("ISK", 0, 500, 50_000),
        ("CVE", 2, 500, 5),
        ("IDR", 2, 500, 5),
    ],
)
def test_amounts_leave_in_adyens_own_units(
    code: str, digits: int, atoms: int, expected: int
) -> None:
    assert units(Amount(Asset(code, digits), atoms)) == expected


def test_pages_and_stored_methods() -> None:
    opened = {
        "id": "CS1",
        "url": "https://checkout.example/CS1",
        "expiresAt": "2026-03-01T13:00:00Z",
    }
    for mode in SessionMode:
        played = told(create_session(session_command(mode, usd(0)), LOGIN), answer(201, opened))
        assert isinstance(played.result, Session)
        assert played.result.url == opened["url"]
        assert played.calls[0].json is not None
        assert played.calls[0].json["storePaymentMethodMode"] == "enabled"
    done = {
        "id": "CS1",
        "status": "completed",
        "payments": [{"pspReference": "psp", "resultCode": "Authorised"}],
    }
    command = LookSession(REFERENCE, SessionMode.PAY, "CS1", result="Ab02b4c0")
    seen = told(read_session(command, LOGIN), answer(200, done))
    assert seen.calls[0].query == {"sessionResult": "Ab02b4c0"}
    assert isinstance(seen.result, Session)
    assert seen.result.state is SessionState.COMPLETED
    assert seen.result.payment is not None
    assert seen.result.payment.finding is Finding.SUCCEEDED
    stored = {
        "id": "M5N7TQ4TG5PFWR50", "type": "scheme", "brand": "visa", "lastFour": "1111",
        "expiryMonth": "10", "expiryYear": "30", "shopperReference": "ada",
    }  # fmt: skip
    listed = told(
        list_methods(CustomerMethods("ada"), LOGIN), answer(200, {"storedPaymentMethods": [stored]})
    ).result
    assert isinstance(listed, tuple)
    (method,) = listed
    assert (method.provider_token, method.expire_year, method.last_four) == (
        "M5N7TQ4TG5PFWR50",
        2030,
        "1111",
    )
    for gone in (Answer(204), Answer(404)):
        played_off = told(detach_method(Detach("M5N7", KEY, "ada"), LOGIN), gone)
        assert played_off.result.finding is Finding.CANCELED
        assert played_off.paths == ["DELETE /v72/storedPaymentMethods/M5N7"]


@given(st.text(st.characters(codec="ascii"), min_size=1, max_size=20))
def test_every_customer_has_a_shopper_reference_that_is_long_enough(customer: str) -> None:
    assert len(shopper_reference(customer)) >= 3


def test_a_live_account_calls_its_own_host_and_no_other() -> None:
    live = "https://1797a841fbb37ca7-AcmeECOM-checkout-live.adyenpayments.com/checkout".lower()
    check_endpoint(PROVIDER, "", live)
    assert len(allowed_origins(PROVIDER, "", live)) == 2
    for elsewhere in (
        "https://evil.example/a-checkout-live.adyenpayments.com",
        "https://a.b-checkout-live.adyenpayments.com",
        "https://x-checkout-live.adyenpayments.com.evil.example",
        "http://x-checkout-live.adyenpayments.com",
        "https://x-checkout-live.adyenpayments.com:8443",
    ):
        with pytest.raises(InvalidValue):
            check_endpoint(PROVIDER, "", elsewhere)


def test_bodies_have_what_the_published_description_requires_and_nothing_it_does_not_know() -> None:
    content = json.loads(spec("adyen-checkout-v72.json").read_text(encoding="utf-8"))
    plans = (
        charge(CHARGE, LOGIN),
        charge(replace(CHARGE, capture_later=True), LOGIN),
        capture(capture_command(usd(1), "psp"), LOGIN),
        cancel(cancel_command(usd(1), "psp"), LOGIN),
        cancel(cancel_command(usd(1), ""), LOGIN),
        refund(refund_command(usd(1), usd(2), "psp"), LOGIN),
        *(create_session(session_command(mode, usd(100)), LOGIN) for mode in SessionMode),
    )
    for plan in plans:
        call = next(plan)
        assert isinstance(call, Call)
        assert call.json is not None
        path = call.path.removeprefix("/v72").replace("/psp/", "/{paymentPspReference}/")
        body = content["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        name = body["schema"]["$ref"].rpartition("/")[2]
        schema = content["components"]["schemas"][name]
        assert set(schema.get("required", [])) <= set(call.json), path
        assert set(call.json) <= set(schema["properties"]), path


# --- notifications as Adyen publishes them --------------------------------------------------------


def published() -> dict[str, dict[str, Any]]:
    content = json.loads(spec("adyen-webhooks-v1.json").read_text(encoding="utf-8"))
    examples: dict[str, Any] = content["components"]["examples"]
    return {name: each["value"] for name, each in examples.items()}


def item_of(name: str, **changes: Any) -> Item:
    content = published()[name]
    content["notificationItems"][0]["NotificationRequestItem"].update(changes)
    (item,) = read_items(json.dumps(content).encode())
    return item


def test_every_published_notification_is_read() -> None:
    read = {name: read_items(json.dumps(body).encode()) for name, body in published().items()}
    unread = {name for name, items in read.items() if not items}
    assert unread == set()
    assert len(read) >= 40


@pytest.mark.parametrize(
    ("name", "success", "finding"),
    [
        ("post-AUTHORISATION-authorisation", "true", Finding.AUTHORIZED),
        ("post-AUTHORISATION-authorisation", "false", Finding.DECLINED),
        ("post-CAPTURE-capture", "true", Finding.SUCCEEDED),
        ("post-CAPTURE-capture", "false", Finding.DECLINED),
        ("post-CAPTURE_FAILED-capture_failed", "true", Finding.DECLINED),
        ("post-CANCELLATION-cancellation", "true", Finding.CANCELED),
        ("post-CANCELLATION-cancellation", "false", None),
        ("post-TECHNICAL_CANCEL-technical_cancel", "true", Finding.CANCELED),
        ("post-EXPIRE-expire", "true", Finding.CANCELED),
        ("post-OFFER_CLOSED-offer_closed", "true", Finding.CANCELED),
        ("post-REFUND-refund", "true", Finding.SUCCEEDED),
        ("post-REFUND-refund", "false", Finding.DECLINED),
        ("post-REFUND_FAILED-refund_failed", "true", Finding.DECLINED),
        ("post-REFUNDED_REVERSED-refunded_reversed", "true", Finding.REVERSED),
        ("post-ORDER_OPENED-order_opened", "true", None),
    ],
)
def test_published_notifications_are_mapped(
    name: str, success: str, finding: Finding | None
) -> None:
    item = item_of(name, success=success)
    assert (item.outcome.finding if item.outcome else None) is finding
    assert item.id.endswith(f":{item.kind}:{success}")


def test_what_undoes_a_success_says_so_and_a_modification_names_its_payment() -> None:
    failed = item_of("post-CAPTURE_FAILED-capture_failed")
    assert failed.outcome is not None
    assert failed.outcome.undoes_success
    assert failed.provider_payment_id == "9913140798220028"
    authorised = item_of("post-AUTHORISATION-authorisation")
    assert authorised.outcome is not None
    assert authorised.outcome.takes_itself
    refused = item_of("post-AUTHORISATION-authorisation", success="false")
    assert refused.outcome is not None
    assert not refused.outcome.undoes_success
    assert item_of("post-CHARGEBACK-chargeback").about is About.DISPUTE
    assert item_of("post-REPORT_AVAILABLE-report_available").about is About.PAYOUT


def test_a_success_that_is_no_documented_word_makes_the_whole_body_unreadable() -> None:
    content = published()["post-AUTHORISATION-authorisation"]
    good = content["notificationItems"][0]
    for odd in (True, "True", "yes", None):
        bad = {"NotificationRequestItem": good["NotificationRequestItem"] | {"success": odd}}
        body = json.dumps(content | {"notificationItems": [good, bad]}).encode()
        assert read_items(body) == ()
