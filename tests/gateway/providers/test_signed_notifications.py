"""Notifications of Razorpay, Paddle and Chargebee: who is believed, and that the vendors agree."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.outcome import Finding
from gateway.domain.provider_account import Lookup, NotificationAuth
from gateway.providers import chargebee, paddle, razorpay
from gateway.providers.commands import Reading
from gateway.providers.plan import Delivery, Provider
from tests.gateway.providers.support import NOW, REFERENCE, delivery, login

LOGIN = login("https://acme.example")
STAMP = str(int(NOW.timestamp()))
SECRETS = st.text(st.characters(codec="ascii", exclude_characters=" \r\n\t"), min_size=1)
TEXTS = st.text(max_size=60)


def digest(secret: bytes, message: bytes) -> str:
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def razorpay_body(noise: str = "") -> bytes:
    entity = {
        "id": "pay_1", "status": "captured", "amount": 500, "currency": "INR",
        "notes": {"tollgate_attempt": REFERENCE, "noise": noise},
    }  # fmt: skip
    content = {
        "event": "payment.captured",
        "created_at": int(STAMP),
        "payload": {"payment": {"entity": entity}},
    }
    return json.dumps(content, ensure_ascii=False).encode()


def paddle_body(noise: str = "") -> bytes:
    content = {
        "event_id": "evt_1",
        "event_type": "transaction.completed",
        "occurred_at": NOW.isoformat(),
        "data": {"id": "txn_1", "custom_data": {"tollgate_attempt": REFERENCE, "noise": noise}},
    }
    return json.dumps(content, ensure_ascii=False).encode()


def chargebee_body(noise: str = "") -> bytes:
    content = {"id": "ev_1", "event_type": "payment_succeeded", "content": {"noise": noise}}
    return json.dumps(content, ensure_ascii=False).encode()


def razorpay_headers(body: bytes, secret: bytes) -> dict[str, str]:
    return {"x-razorpay-signature": digest(secret, body), "x-razorpay-event-id": "evt_1"}


def paddle_headers(body: bytes, secret: bytes, stamp: str = STAMP) -> dict[str, str]:
    signed = digest(secret, stamp.encode() + b":" + body)
    return {"paddle-signature": f"ts={stamp};h1={signed}"}


def chargebee_headers(body: bytes, secret: bytes) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(secret).decode()}


CASES = {
    "razorpay": (razorpay.PROVIDER, razorpay_body, razorpay_headers, b"secret"),
    "paddle": (paddle.PROVIDER, paddle_body, paddle_headers, b"pdl_ntfset_secret"),
    "chargebee": (chargebee.PROVIDER, chargebee_body, chargebee_headers, b"hook:secret"),
}
EACH = pytest.mark.parametrize(
    ("provider", "body_of", "headers_of", "secret"), CASES.values(), ids=CASES
)


def read(provider: Provider, told: Delivery) -> Reading:
    assert provider.read_notification is not None
    reading = provider.read_notification(told, LOGIN)
    assert reading.authentic is bool(reading.items)
    assert reading.authentic is not bool(reading.why)
    return reading


@EACH
def test_a_notification_is_believed_with_any_active_secret_and_with_no_other(
    provider: Provider, body_of: Any, headers_of: Any, secret: bytes
) -> None:
    body = body_of()
    headers = headers_of(body, secret)
    assert read(provider, delivery(headers, body, secret)).authentic
    assert read(provider, delivery(headers, body, b"new:one", secret)).authentic  # rotation
    assert not read(provider, delivery(headers, body, b"other:one")).authentic
    assert not read(provider, delivery(headers, body)).authentic
    assert not read(provider, delivery({}, body, secret)).authentic
    assert not read(provider, delivery(dict.fromkeys(headers, ""), body, secret)).authentic


@EACH
@given(header=TEXTS)
def test_no_header_whatever_passes_or_breaks_the_check(
    provider: Provider, body_of: Any, headers_of: Any, secret: bytes, header: str
) -> None:
    body = body_of()
    for name, good in headers_of(body, secret).items():
        if name == "x-razorpay-event-id":
            continue
        assert not read(provider, delivery({name: header}, body, secret)).authentic
        for odd in (good + header, header + good):
            read(provider, delivery({name: odd}, body, secret))  # believed or not, never an error


@EACH
@given(junk=st.binary(max_size=80))
def test_a_signed_body_that_is_no_notification_is_refused(
    provider: Provider, body_of: Any, headers_of: Any, secret: bytes, junk: bytes
) -> None:
    assert not read(provider, delivery(headers_of(junk, secret), junk, secret)).authentic


@EACH
def test_a_stored_body_is_read_again_as_the_same_items(
    provider: Provider, body_of: Any, headers_of: Any, secret: bytes
) -> None:
    assert provider.read_items is not None
    body = body_of()
    reading = read(provider, delivery(headers_of(body, secret), body, secret))
    assert provider.read_items(body) == reading.items


@pytest.mark.parametrize("name", ["razorpay", "paddle"])
@given(noise=TEXTS, bit=st.integers(0, 7), data=st.data())
def test_a_signature_holds_for_the_very_bytes_it_was_made_for(
    name: str, noise: str, bit: int, data: st.DataObject
) -> None:
    provider, body_of, headers_of, secret = CASES[name]
    body = body_of(noise)
    headers = headers_of(body, secret)
    assert read(provider, delivery(headers, body, secret)).authentic
    place = data.draw(st.integers(0, len(body) - 1))
    tampered = bytearray(body)
    tampered[place] ^= 1 << bit
    assert not read(provider, delivery(headers, bytes(tampered), secret)).authentic
    # Not what it means but how it is written is signed.
    again = json.dumps(json.loads(body), indent=1).encode()
    assert not read(provider, delivery(headers, again, secret)).authentic


# --- Razorpay -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def razorpay_sdk() -> Any:
    return pytest.importorskip("razorpay", reason="the vendor's client is not installed")


@given(noise=TEXTS, secret=SECRETS, other=SECRETS)
def test_razorpays_own_check_agrees_on_any_payload(
    razorpay_sdk: Any, noise: str, secret: str, other: str
) -> None:
    check = razorpay_sdk.Utility().verify_webhook_signature
    body = razorpay_body(noise)
    for key in (secret, other):
        signature = digest(key.encode(), body)
        told = delivery({"x-razorpay-signature": signature}, body, secret.encode())
        try:
            theirs = check(body.decode(), signature, secret)
        except razorpay_sdk.errors.SignatureVerificationError:
            theirs = False
        assert read(razorpay.PROVIDER, told).authentic is theirs is (key == secret)


def test_what_a_browser_brings_back_is_no_notification() -> None:
    """Call-backs are signed with the API secret over ids, and prove nothing here."""
    body = razorpay_body()
    for signed in (b"order_1|pay_1", b"plink_1|ref|paid|pay_1", b"pay_1|sub_1"):
        for secret in (b"the API secret", b"the webhook secret"):
            headers = {"x-razorpay-signature": digest(secret, signed)}
            assert not read(
                razorpay.PROVIDER, delivery(headers, body, b"the webhook secret")
            ).authentic


def test_an_old_notification_under_a_new_event_id_is_the_same_one() -> None:
    body = razorpay_body()
    headers = razorpay_headers(body, b"secret")
    first = read(razorpay.PROVIDER, delivery(headers, body, b"secret"))
    headers["x-razorpay-event-id"] = "another"
    assert read(razorpay.PROVIDER, delivery(headers, body, b"secret")) == first


# --- Paddle ---------------------------------------------------------------------------------------


class Request:
    """What the vendor's check reads of a request."""

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers = {"Paddle-Signature": headers["paddle-signature"]}
        self.body = body


@pytest.fixture(scope="module")
def vendor() -> Any:
    """The vendor's own check, and its secrets."""
    return pytest.importorskip(
        "paddle_billing.Notifications", reason="the vendor's client is not installed"
    )


def paddles_own(vendor: Any, headers: dict[str, str], body: bytes, *secrets: str) -> bool:
    """The vendor's answer, without its clock: it would look at this machine's."""
    keys = [vendor.Secret(each) for each in secrets]
    request = Request(headers, body)
    try:
        return bool(vendor.Verifier().verify(request, keys, verify_time_drift=False))
    except ConnectionRefusedError:
        return False


@given(noise=TEXTS, secret=SECRETS, other=SECRETS)
def test_paddles_own_check_agrees_on_any_payload(
    vendor: Any, noise: str, secret: str, other: str
) -> None:
    body = paddle_body(noise)
    for key in (secret, other):
        headers = paddle_headers(body, key.encode())
        ours = read(paddle.PROVIDER, delivery(headers, body, secret.encode())).authentic
        assert ours is paddles_own(vendor, headers, body, secret) is (key == secret)
    rotated = paddle_headers(body, other.encode())["paddle-signature"]
    two = {"paddle-signature": f"{rotated};h1={digest(secret.encode(), b'x')}"}
    told = delivery(two, body, secret.encode(), other.encode())
    assert (
        read(paddle.PROVIDER, told).authentic
        is paddles_own(vendor, two, body, secret, other)
        is True
    )


@pytest.mark.parametrize(("seconds", "believed"), [(0, True), (300, True), (301, False)])
def test_the_time_that_is_signed_is_near(seconds: int, believed: bool) -> None:
    body = paddle_body()
    told = delivery(paddle_headers(body, b"s"), body, b"s")
    for sign in (-1, 1):
        shifted = replace(told, now=NOW + timedelta(seconds=sign * seconds))
        assert read(paddle.PROVIDER, shifted).authentic is believed


def test_a_stray_setting_never_drops_the_time_check(
    vendor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vendor's check believes a notification of any age where TEST_MODE is 1."""
    body = paddle_body()
    headers = paddle_headers(body, b"secret")
    old = replace(delivery(headers, body, b"secret"), now=NOW + timedelta(days=1))
    monkeypatch.setenv("TEST_MODE", "1")
    assert not read(paddle.PROVIDER, old).authentic
    # The clock is this machine's, years from the signed time: here the vendor believes.
    request, secret = Request(headers, body), vendor.Secret("secret")
    assert vendor.Verifier().verify(request, secret) is True
    monkeypatch.delenv("TEST_MODE")
    assert vendor.Verifier().verify(request, secret) is False


@pytest.mark.parametrize(
    "header",
    [
        "h1={good}",
        "ts={stamp}",
        "ts=;h1={good}",
        "ts=-1;h1={good}",
        "ts={stamp};ts={stamp};h1={good}",
        "ts={stamp};h2={good}",
        "ts={stamp}, h1={good}",
        "ts={stamp};h1={good}0",
        "ts=99999999999;h1={good}",
        "ts={stamp};" + ";".join(["h1={good}"] * 11),
    ],
)
def test_a_signature_that_is_not_as_documented_is_refused(header: str) -> None:
    body = paddle_body()
    good = digest(b"secret", STAMP.encode() + b":" + body)
    headers = {"paddle-signature": header.format(good=good, stamp=STAMP)}
    assert not read(paddle.PROVIDER, delivery(headers, body, b"secret")).authentic


# --- Chargebee ------------------------------------------------------------------------------------


def test_chargebee_signs_nothing_so_its_objects_are_read_before_they_are_believed() -> None:
    offers = chargebee.PROVIDER.capabilities(LOGIN)
    assert offers.notification_auth is NotificationAuth.BASIC
    # The two ways in which whoever applies a notification looks at the payment itself.
    assert offers.read_by_id
    assert offers.lookup is Lookup.CONSISTENT
    body, other = chargebee_body(), chargebee_body("anything at all")
    headers = chargebee_headers(body, b"hook:secret")
    assert read(chargebee.PROVIDER, delivery(headers, other, b"hook:secret")).authentic


def test_a_secret_without_a_user_or_a_password_lets_nobody_in() -> None:
    body = chargebee_body()
    for weak in (b"hook", b":", b"hook:", b":secret", b""):
        headers = chargebee_headers(body, weak)
        assert not read(chargebee.PROVIDER, delivery(headers, body, weak)).authentic


@pytest.mark.parametrize("scheme", ["Bearer", "Digest", "", "Basic Basic"])
def test_only_basic_credentials_are_credentials(scheme: str) -> None:
    body = chargebee_body()
    encoded = base64.b64encode(b"hook:secret").decode()
    headers = {"authorization": f"{scheme} {encoded}"}
    assert not read(chargebee.PROVIDER, delivery(headers, body, b"hook:secret")).authentic
    good = {"authorization": f"basic {encoded}"}
    assert read(chargebee.PROVIDER, delivery(good, body, b"hook:secret")).authentic


def test_a_success_that_a_notification_states_without_a_payment_states_nothing() -> None:
    told = delivery(chargebee_headers(b"", b"hook:secret"), chargebee_body(), b"hook:secret")
    (item,) = read(chargebee.PROVIDER, told).items
    assert item.outcome is not None
    assert item.outcome.finding is Finding.SILENCE
