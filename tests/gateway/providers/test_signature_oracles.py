"""Notifications of Stripe, Adyen and GoCardless: who is believed, and that the vendors agree."""

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

from gateway.domain.card_data import SCRUBBED, scrub
from gateway.providers import adyen, gocardless, stripe
from gateway.providers.adyen.notifications import signed_text
from gateway.providers.commands import Reading
from gateway.providers.plan import Delivery, Provider
from tests.gateway.providers.support import NOW, REFERENCE, delivery, login

STAMP = str(int(NOW.timestamp()))
NOISE = st.text(st.characters(codec="utf-8"), max_size=40)
SECRETS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)
HEX_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
BASIC = b"hook:password"
ADYEN_LOGIN = replace(login("https://checkout-test.adyen.com"), merchant="AcmeECOM")
ADYEN_LIVE = replace(login("https://x-checkout-live.adyenpayments.com"), merchant="AcmeECOM")
OTHER_LOGIN = login("https://api.example")


def read(provider: Provider, arrived: Delivery) -> Reading:
    assert provider.read_notification is not None
    reading = provider.read_notification(
        arrived, ADYEN_LOGIN if provider is adyen.PROVIDER else OTHER_LOGIN
    )
    assert reading.authentic is bool(reading.items)
    assert reading.authentic is not bool(reading.why)
    return reading


def digest(secret: bytes, message: bytes) -> str:
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


# --- Stripe ---------------------------------------------------------------------------------------


def stripe_body(noise: str = "") -> bytes:
    thing = {"id": "pi_1", "metadata": {"tollgate_attempt": REFERENCE, "noise": noise}}
    content = {"id": "evt_1", "type": "payment_intent.created", "data": {"object": thing}}
    return json.dumps(content | {"object": "event"}, ensure_ascii=False).encode()


def stripe_headers(body: bytes, secret: str, stamp: str = STAMP) -> dict[str, str]:
    signed = digest(secret.encode(), stamp.encode() + b"." + body)
    return {"stripe-signature": f"t={stamp},v1={signed},v0={signed}"}


@pytest.fixture(scope="module")
def stripe_sdk() -> Any:
    return pytest.importorskip("stripe", reason="the vendor's client is not installed")


@given(noise=NOISE, secret=SECRETS, other=SECRETS)
def test_stripes_own_check_agrees_on_any_payload(
    stripe_sdk: Any, noise: str, secret: str, other: str
) -> None:
    body = stripe_body(noise)
    for key in (secret, other, f"whsec_{secret}"):
        headers = stripe_headers(body, key)
        try:
            # Without its clock: it would look at this machine's.
            theirs = stripe_sdk.WebhookSignature.verify_header(
                body.decode(), headers["stripe-signature"], secret
            )
        except stripe_sdk.SignatureVerificationError:
            theirs = False
        ours = read(stripe.PROVIDER, delivery(headers, body, secret.encode())).authentic
        assert ours is theirs is (key == secret)


def test_stripes_parser_reads_what_our_plans_read(stripe_sdk: Any) -> None:
    body = stripe_body()
    theirs = stripe_sdk.Event.construct_from(json.loads(body), "key")
    (item,) = read(
        stripe.PROVIDER, delivery(stripe_headers(body, "whsec_s"), body, b"whsec_s")
    ).items
    assert (item.id, item.kind) == (theirs.id, theirs.type)
    assert item.provider_payment_id == theirs.data.object.id


@pytest.mark.parametrize(("seconds", "believed"), [(0, True), (300, True), (301, False)])
def test_the_time_that_is_signed_is_near(seconds: int, believed: bool) -> None:
    body = stripe_body()
    arrived = delivery(stripe_headers(body, "s"), body, b"s")
    for sign in (-1, 1):
        shifted = replace(arrived, now=NOW + timedelta(seconds=sign * seconds))
        assert read(stripe.PROVIDER, shifted).authentic is believed


@pytest.mark.parametrize(
    "header",
    [
        "",
        "v1={good}",
        "t={stamp}",
        "t=,v1={good}",
        "t=-1,v1={good}",
        "t={stamp},t={stamp},v1={good}",
        "t={stamp},v0={good}",
        "t={stamp},v1=",
        "t={stamp},v1={good}0",
        "t=99999999999,v1={good}",
    ],
)
def test_a_signature_that_is_not_as_documented_is_refused(header: str) -> None:
    body = stripe_body()
    good = digest(b"s", STAMP.encode() + b"." + body)
    headers = {"stripe-signature": header.format(good=good, stamp=STAMP)}
    assert not read(stripe.PROVIDER, delivery(headers, body, b"s")).authentic


def test_any_of_several_signatures_and_any_active_secret_will_do() -> None:
    body = stripe_body()
    good = digest(b"new", STAMP.encode() + b"." + body)
    headers = {"stripe-signature": f"t={STAMP},v1={'0' * 64},v1={good}"}
    assert read(stripe.PROVIDER, delivery(headers, body, b"old", b"new")).authentic
    assert not read(stripe.PROVIDER, delivery(headers, body, b"old")).authentic


# --- GoCardless -----------------------------------------------------------------------------------


def gocardless_body(noise: str = "") -> bytes:
    event = {"id": "EV1", "resource_type": "payments", "action": "paid_out", "noise": noise}
    content = {"events": [event | {"links": {"payment": "PM1"}}]}
    return json.dumps(content, ensure_ascii=False).encode()


@given(noise=NOISE, secret=SECRETS, other=SECRETS)
def test_gocardless_own_check_agrees_on_any_payload(noise: str, secret: str, other: str) -> None:
    webhooks = pytest.importorskip(
        "gocardless_pro.webhooks", reason="the vendor's client is not installed"
    )
    errors = pytest.importorskip("gocardless_pro.errors")
    body = gocardless_body(noise)
    for key in (secret, other):
        signature = digest(key.encode(), body)
        arrived = delivery({"webhook-signature": signature}, body, secret.encode())
        try:
            theirs = [each.id for each in webhooks.parse(body.decode(), secret, signature)]
        except errors.InvalidSignatureError:
            theirs = []
        assert [each.id for each in read(gocardless.PROVIDER, arrived).items] == theirs
        assert bool(theirs) is (key == secret)


def test_a_body_of_many_items_is_split_and_a_bad_signature_has_its_own_answer() -> None:
    events = [
        {"id": f"EV{number}", "resource_type": "mandates", "action": "active", "links": {}}
        for number in range(250)
    ]
    body = json.dumps({"events": events}).encode()
    arrived = delivery({"webhook-signature": digest(b"s", body)}, body, b"s")
    assert len({each.id for each in read(gocardless.PROVIDER, arrived).items}) == 250
    assert gocardless.PROVIDER.refusal_status == 498
    assert gocardless.PROVIDER.acknowledgement == (204, b"")


# --- Adyen ----------------------------------------------------------------------------------------


def adyen_item(**changes: Any) -> dict[str, Any]:
    return {
        "pspReference": "QFQTPCQ8HXSKGK82",
        "merchantAccountCode": "AcmeECOM",
        "merchantReference": REFERENCE,
        "amount": {"currency": "EUR", "value": 1_000},
        "eventCode": "AUTHORISATION",
        "success": "true",
        "reason": "",
    } | changes


def signed(item: dict[str, Any], key: str = HEX_KEY) -> dict[str, Any]:
    made = hmac.new(bytes.fromhex(key), signed_text(item).encode(), hashlib.sha256).digest()
    return item | {"additionalData": {"hmacSignature": base64.b64encode(made).decode()}}


def adyen_delivery(*items: dict[str, Any], live: str = "false", basic: bytes = BASIC) -> Delivery:
    wrapped = [{"NotificationRequestItem": each} for each in items]
    body = json.dumps({"live": live, "notificationItems": wrapped}).encode()
    headers = {"authorization": "Basic " + base64.b64encode(basic).decode()}
    return delivery(headers, body, HEX_KEY.encode(), BASIC)


@pytest.fixture(scope="module")
def adyen_sdk() -> Any:
    return pytest.importorskip("Adyen.util", reason="the vendor's client is not installed")


@given(
    reference=NOISE,
    original=NOISE,
    value=st.integers(0, 10**12),
    success=st.sampled_from(["true", "false"]),
    key=st.binary(min_size=1, max_size=32).map(bytes.hex),
)
def test_adyens_own_check_agrees_on_any_item(
    adyen_sdk: Any, reference: str, original: str, value: int, success: str, key: str
) -> None:
    item = adyen_item(
        merchantReference=reference,
        originalReference=original,
        amount={"currency": "EUR", "value": value},
        success=success,
    )
    for made_with in (key, HEX_KEY):
        told = signed(item, made_with)
        content = {"notificationItems": [{"NotificationRequestItem": told}]}
        theirs = adyen_sdk.is_valid_hmac_notification(content, HEX_KEY)
        assert read(adyen.PROVIDER, adyen_delivery(told)).authentic is theirs
    assert theirs is True


def test_where_the_vendors_check_looks_away_ours_refuses(adyen_sdk: Any) -> None:
    good = signed(adyen_item())
    forged = adyen_item(pspReference="FORGED", amount={"currency": "EUR", "value": 1})
    second = {"notificationItems": [{"NotificationRequestItem": each} for each in (good, forged)]}
    assert adyen_sdk.is_valid_hmac_notification(second, HEX_KEY) is True
    assert not read(adyen.PROVIDER, adyen_delivery(good, forged)).authentic
    unsigned = {"notificationItems": [{"NotificationRequestItem": forged}]}
    assert adyen_sdk.is_valid_hmac_notification(unsigned, HEX_KEY) is None
    assert not read(adyen.PROVIDER, adyen_delivery(forged)).authentic


def test_every_signed_field_counts_and_what_is_not_signed_never_decides() -> None:
    good = signed(adyen_item(originalReference="ORIGINAL"))
    assert read(adyen.PROVIDER, adyen_delivery(good)).authentic
    for change in (
        {"pspReference": "X"},
        {"originalReference": "X"},
        {"merchantAccountCode": "X"},
        {"merchantReference": "X"},
        {"amount": {"currency": "EUR", "value": 1_001}},
        {"amount": {"currency": "USD", "value": 1_000}},
        {"eventCode": "CAPTURE"},
        {"success": "false"},
    ):
        assert not read(adyen.PROVIDER, adyen_delivery(good | change)).authentic
    (item,) = read(adyen.PROVIDER, adyen_delivery(good)).items
    decorated = good | {"reason": "approved", "paymentMethod": "visa", "operations": ["REFUND"]}
    (same,) = read(adyen.PROVIDER, adyen_delivery(decorated)).items
    assert item == same


def test_another_environment_another_merchant_and_other_credentials_are_refused() -> None:
    good = signed(adyen_item())
    assert not read(adyen.PROVIDER, adyen_delivery(good, live="true")).authentic
    assert not read(adyen.PROVIDER, adyen_delivery(good, basic=b"hook:guess")).authentic
    stranger = signed(adyen_item(merchantAccountCode="OtherECOM"))
    assert not read(adyen.PROVIDER, adyen_delivery(stranger)).authentic
    assert adyen.PROVIDER.read_notification is not None
    arrived = adyen_delivery(good, live="true")
    assert adyen.PROVIDER.read_notification(arrived, ADYEN_LIVE).authentic
    without_login = replace(arrived, secrets=[HEX_KEY.encode()])
    assert not adyen.PROVIDER.read_notification(without_login, ADYEN_LIVE).authentic
    assert adyen.PROVIDER.acknowledgement == (200, b"[accepted]")


def test_tokens_are_told_in_bodies_signed_as_a_whole(adyen_sdk: Any) -> None:
    content = {
        "createdAt": "2026-03-01T12:00:00Z",
        "environment": "test",
        "eventId": "QBQQ9DLNRHHKGK38",
        "type": "recurring.token.disabled",
        "data": {
            "merchantAccount": "AcmeECOM",
            "shopperReference": "ada",
            "storedPaymentMethodId": "M5N7TQ4TG5PFWR50",
            "type": "visastandarddebit",
        },
    }
    body = json.dumps(content).encode()
    made = hmac.new(bytes.fromhex(HEX_KEY), body, hashlib.sha256).digest()
    signature = base64.b64encode(made).decode()
    assert adyen_sdk.is_valid_hmac_payload(signature, HEX_KEY, body)
    headers = {"authorization": "Basic " + base64.b64encode(BASIC).decode()}
    arrived = delivery(headers | {"hmacsignature": signature}, body, HEX_KEY.encode(), BASIC)
    (item,) = read(adyen.PROVIDER, arrived).items
    assert item.method is not None
    assert (item.method.provider_token, item.method.usable, item.method.customer_id) == (
        "M5N7TQ4TG5PFWR50",
        False,
        "ada",
    )
    assert not read(adyen.PROVIDER, replace(arrived, headers=headers)).authentic
    assert not read(adyen.PROVIDER, replace(arrived, body=body + b" ")).authentic


@given(body=st.binary(max_size=120), header=NOISE)
def test_nothing_whatever_breaks_the_reading_of_a_notification(body: bytes, header: str) -> None:
    names = ("stripe-signature", "webhook-signature", "hmacsignature")
    for provider in (stripe.PROVIDER, adyen.PROVIDER, gocardless.PROVIDER):
        headers = {**dict.fromkeys(names, header), "authorization": header}
        assert not read(provider, delivery(headers, body, b"s", HEX_KEY.encode(), BASIC)).authentic
    lone = adyen_delivery(adyen_item(merchantReference="\ud800", additionalData={}))
    assert not read(adyen.PROVIDER, lone).authentic


def test_an_id_that_reads_as_a_card_number_outlives_scrubbing_and_a_card_does_not() -> None:
    card, identifier = "4242424242424242", "9913140798220001"
    text = f'{{"pspReference": "{identifier}", "note": "{card}"}}'
    assert scrub(text).count(SCRUBBED) == 2
    assert scrub(text, frozenset({identifier})).count(SCRUBBED) == 1
    assert identifier in scrub(text, frozenset({identifier}))
