"""The sandbox's plans, played with scripted answers."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.outcome import Basis, DeclineClass, Finding
from gateway.providers.plan import (
    NOTIFICATION_SECRET,
    Answer,
    Call,
    Charge,
    Delivery,
    Login,
    Look,
    Phase,
    Silence,
    play,
    read_failure,
)
from gateway.providers.sandbox import charge, find, read, read_notification, sign
from kernel.money import Amount, Asset

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LOGIN = Login(uuid.UUID(int=1), "http://127.0.0.1:8400", "http://127.0.0.1:9/notifications/1")
COMMAND = Charge(
    reference="attempt-1",
    key="a key",
    amount=Amount(Asset("KWD", 3), 1_234),
    provider_token="pm_ok",
    customer_id="ada",
    description="March",
    time=NOW,
)
LOOK = Look("attempt-1", COMMAND.amount, provider_payment_id="pay_1")


def payment(state: str = "succeeded", **changes: Any) -> dict[str, Any]:
    return {
        "id": "pay_1",
        "reference": "attempt-1",
        "amount": 1_234,
        "currency": "KWD",
        "state": state,
    } | changes


def answer(status: int, content: object) -> Answer:
    return Answer(status, {}, json.dumps(content).encode())


def test_a_charge_is_one_call_with_its_key_and_the_same_body_each_time() -> None:
    first, second = next(charge(COMMAND, LOGIN)), next(charge(COMMAND, LOGIN))
    assert isinstance(first, Call)
    assert first == second
    assert (first.key, first.safe_to_repeat) == ("a key", True)
    assert first.json is not None
    assert (first.json["amount"], first.json["currency"]) == (1_234, "KWD")
    # The secret is a handle, and where notifications go is no part of what the key stands for.
    assert first.secret_headers == {"sandbox-notify-secret": NOTIFICATION_SECRET}
    assert LOGIN.notification_url not in json.dumps(dict(first.json))


@pytest.mark.parametrize(
    ("status", "state", "finding"),
    [
        (201, "succeeded", Finding.SUCCEEDED),
        (201, "processing", Finding.PENDING),
        (201, "requires_action", Finding.NEEDS_ACTION),
        (402, "declined", Finding.DECLINED),
        (201, "canceled", Finding.CANCELED),
        (201, "reversed", Finding.REVERSED),
        (201, "a state of next year", Finding.SILENCE),
    ],
)
def test_each_state_of_a_payment_is_read(status: int, state: str, finding: Finding) -> None:
    outcome = play(charge(COMMAND, LOGIN), answer(status, {"payment": payment(state)}))
    assert outcome.finding is finding


def test_a_decline_is_classified_and_an_unlisted_code_is_soft() -> None:
    for code, meaning in (
        ("stolen_card", DeclineClass.FRAUD),
        ("insufficient_funds", DeclineClass.SOFT),
        ("a code of next year", DeclineClass.SOFT),
    ):
        declined = answer(402, {"payment": payment("declined", decline_code=code)})
        outcome = play(charge(COMMAND, LOGIN), declined)
        assert (outcome.decline_code, outcome.decline_class) == (code, meaning)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "text",
        {},
        {"payment": None},
        {"payment": payment(reference="another attempt")},
        {"payment": payment(amount=None)},
        {"payment": payment(amount="1234")},
        {"payment": payment(amount=True)},
        {"payment": payment(amount=-5)},
        {"payment": payment(currency="XXX")},
        {"payment": payment(id="")},
    ],
)
def test_a_success_that_is_not_as_documented_is_silence(content: object) -> None:
    assert play(charge(COMMAND, LOGIN), answer(201, content)).finding is Finding.SILENCE
    assert play(read(LOOK, LOGIN), answer(200, content)).finding is Finding.SILENCE


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_answer_is_taken_for_success_without_saying_so(body: bytes, status: int) -> None:
    for plan in (charge(COMMAND, LOGIN), read(LOOK, LOGIN), find(LOOK, LOGIN)):
        outcome = play(plan, Answer(status, {}, body))
        assert outcome.finding in (Finding.SILENCE, Finding.REJECTED)


@pytest.mark.parametrize("code", ["key_used_with_other_parameters", "reference_used"])
def test_where_something_exists_already_it_is_looked_at(code: str) -> None:
    refused = answer(400, {"error": {"code": code}})
    assert play(charge(COMMAND, LOGIN), refused).finding is Finding.SILENCE


def test_a_documented_refusal_is_about_the_payment() -> None:
    outcome = play(charge(COMMAND, LOGIN), answer(422, {"error": {"code": "no_such_method"}}))
    assert (outcome.finding, outcome.basis) == (Finding.REJECTED, Basis.STATED)


@pytest.mark.parametrize(
    ("reply", "finding", "basis"),
    [
        (Silence(Phase.BEFORE_SEND, "ConnectError"), Finding.REJECTED, Basis.NOT_SENT),
        (Silence(Phase.AFTER_SEND, "ReadTimeout"), Finding.SILENCE, Basis.STATED),
        (Answer(200), Finding.SILENCE, Basis.STATED),
        (Answer(302), Finding.SILENCE, Basis.STATED),
        (Answer(408), Finding.SILENCE, Basis.STATED),
        (Answer(425), Finding.SILENCE, Basis.STATED),
        (Answer(409), Finding.SILENCE, Basis.STATED),
        (Answer(500), Finding.SILENCE, Basis.STATED),
        (Answer(503), Finding.SILENCE, Basis.STATED),
        (Answer(429), Finding.REJECTED, Basis.THROTTLED),
        (Answer(401), Finding.REJECTED, Basis.ACCESS),
        (Answer(403), Finding.REJECTED, Basis.ACCESS),
        (Answer(400), Finding.REJECTED, Basis.UNEXPLAINED),
        (Answer(404), Finding.REJECTED, Basis.UNEXPLAINED),
        (Answer(422), Finding.REJECTED, Basis.UNEXPLAINED),
    ],
)
def test_what_a_module_has_no_word_for_is_read_with_doubt(
    reply: Answer | Silence, finding: Finding, basis: Basis
) -> None:
    outcome = read_failure(reply)
    assert (outcome.finding, outcome.basis) == (finding, basis)


def test_a_find_tells_absence_only_by_an_empty_list() -> None:
    assert play(find(LOOK, LOGIN), answer(200, {"payments": []})).finding is Finding.ABSENT
    for content in ({}, {"payments": None}, {"payments": "none"}, []):
        assert play(find(LOOK, LOGIN), answer(200, content)).finding is Finding.SILENCE
    assert play(find(LOOK, LOGIN), Answer(404)).finding is not Finding.ABSENT


def test_a_find_prefers_the_payment_that_took_money() -> None:
    both = {"payments": [payment("declined"), payment("succeeded", id="pay_2")]}
    outcome = play(find(LOOK, LOGIN), answer(200, both))
    assert (outcome.finding, outcome.provider_payment_id) == (Finding.SUCCEEDED, "pay_2")


def test_a_script_must_fit_its_plan() -> None:
    with pytest.raises(ValueError, match="no reply"):
        play(charge(COMMAND, LOGIN))
    with pytest.raises(ValueError, match="ended before"):
        play(charge(COMMAND, LOGIN), Answer(500), Answer(500))


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=40), st.integers(0, 7), st.data())
def test_a_signature_holds_for_the_very_bytes_it_was_made_for(
    noise: bytes, secret: bytes, bit: int, data: st.DataObject
) -> None:
    body = json.dumps({"id": "ntf_1", "kind": "ping", "noise": noise.hex()}).encode()
    signature = sign(body, secret, NOW)
    signed = {"sandbox-signature": signature}
    good = read_notification(Delivery(signed, body, [b"old", secret], NOW), LOGIN)
    assert good.authentic
    place = data.draw(st.integers(0, len(body) - 1))
    tampered = bytearray(body)
    tampered[place] ^= 1 << bit
    bad = read_notification(Delivery(signed, bytes(tampered), [secret], NOW), LOGIN)
    assert not bad.authentic
    assert not read_notification(Delivery({}, body, [secret], NOW), LOGIN).authentic
    assert not read_notification(Delivery(signed, body, [], NOW), LOGIN).authentic


@given(st.text(max_size=60))
def test_no_header_whatever_breaks_the_reading_of_a_notification(header: str) -> None:
    delivery = Delivery({"sandbox-signature": header}, b"{}", [b"s"], NOW)
    assert not read_notification(delivery, LOGIN).authentic
