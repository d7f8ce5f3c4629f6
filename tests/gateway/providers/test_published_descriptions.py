"""Our requests against the published descriptions, and the descriptions' examples read by us."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from gateway.domain.outcome import Finding
from gateway.providers import chargebee, paddle
from gateway.providers.chargebee import customers as chargebee_customers
from gateway.providers.chargebee import pages as chargebee_pages
from gateway.providers.chargebee import payments as chargebee_payments
from gateway.providers.chargebee import refunds as chargebee_refunds
from gateway.providers.chargebee.answers import FINDINGS as CHARGEBEE_FINDINGS
from gateway.providers.chargebee.answers import GATEWAY_DECLINES
from gateway.providers.commands import About, CustomerMethods, SessionMode, Since
from gateway.providers.paddle import customers as paddle_customers
from gateway.providers.paddle import lists as paddle_lists
from gateway.providers.paddle import payments as paddle_payments
from gateway.providers.paddle import refunds as paddle_refunds
from gateway.providers.paddle.answers import DECLINES as PADDLE_DECLINES
from gateway.providers.plan import Call, Provider
from tests.gateway.providers.support import (
    REFERENCE,
    answer,
    cancel_command,
    capture_command,
    charge_command,
    customer_command,
    inr,
    login,
    look,
    refund_command,
    session_command,
    spec,
    told,
    usd,
)

SUBSCRIPTION = "sub_01hv8x29kz0t586xy6zn1a62ny"
TRANSACTION = "txn_01hv8wptq8987qeep44cyrewp9"
LINE = "txnitm_01hv8wptq8987qeep44cyrewp9"
CUSTOMER = "ctm_01hv6y1jedq4p1n0yqn5ba3ky4"
PADDLE = login(paddle.PROVIDER.endpoint)
CHARGEBEE = login("https://acme.chargebee.com")
END = {"pagination": {"has_more": False}}


# --- Paddle ---------------------------------------------------------------------------------------


@cache
def paddle_description() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="the description is YAML")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with spec("paddle-2025-05-27.yaml").open(encoding="utf-8") as file:
        content: dict[str, Any] = yaml.load(file, loader)
    return content


def paddle_calls() -> list[Call]:
    """One call of each kind that the plans make."""
    page = answer(200, {"data": [], "meta": END})
    whole = {
        "id": TRANSACTION,
        "status": "completed",
        "details": {
            "line_items": [{"id": "txnitm_01hv8wptq8987qeep44cyrewp9", "totals": {"total": "1250"}}]
        },
    }
    one = answer(200, {"data": whole})
    lost = answer(500, None)
    command = charge_command(usd(1_250), SUBSCRIPTION)
    pay = session_command(SessionMode.PAY, usd(1_250), provider_customer_id=CUSTOMER)
    part = refund_command(usd(500), usd(1_250), TRANSACTION)
    all_of_it = refund_command(usd(500), usd(500), TRANSACTION)
    calls = [*told(paddle_payments.charge(command, PADDLE), lost, page).calls]
    for plan, script in (
        (paddle_customers.create_session(pay, PADDLE), (lost,)),
        (paddle_customers.create_customer(customer_command(), PADDLE), (lost,)),
        (paddle_payments.cancel(cancel_command(usd(1), TRANSACTION), PADDLE), (lost, lost)),
        (paddle_refunds.refund(part, PADDLE), (page, one, lost)),
        (paddle_refunds.refund(all_of_it, PADDLE), (page, lost)),
        (paddle_customers.list_methods(CustomerMethods("ada", CUSTOMER), PADDLE), (page, lost)),
        (paddle_lists.list_changes(Since(command.time, "evt_1"), PADDLE), (lost,)),
        (paddle_payments.find(look(usd(1), provider_customer_id=CUSTOMER), PADDLE), (lost,)),
    ):
        calls += told(plan, *script).calls
    return calls


def template_of(paths: Mapping[str, Any], path: str) -> str:
    """The path of a description that a call's path is an instance of."""
    given = path.split("/")
    for template in paths:
        parts = template.split("/")
        pairs = zip(parts, given, strict=False)
        if len(parts) == len(given) and all(a == b or a.startswith("{") for a, b in pairs):
            return str(template)
    raise AssertionError(f"{path} is in no description")


def test_paddles_description_has_every_request_of_ours_and_its_body_is_valid() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="bodies are checked against schemas")
    description = paddle_description()
    checked = set()
    for call in paddle_calls():
        template = template_of(description["paths"], call.path)
        operation = description["paths"][template][call.method.lower()]
        known = {named(description, each)["name"] for each in operation.get("parameters", [])}
        asked = {name.partition("[")[0] for name in call.query}
        assert asked <= known, (call.method, template, asked - known)
        if call.json is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            root = {**schema, "components": description["components"]}
            jsonschema.Draft202012Validator(root).validate(dict(call.json))
            checked.add((call.method, template))
    assert checked == {
        ("POST", "/subscriptions/{subscription_id}/charge"),
        ("POST", "/transactions"),
        ("PATCH", "/transactions/{transaction_id}"),
        ("POST", "/customers"),
        ("POST", "/adjustments"),
    }


def test_a_body_that_is_not_as_described_is_noticed() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="bodies are checked against schemas")
    description = paddle_description()
    operation = description["paths"]["/subscriptions/{subscription_id}/charge"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    check = jsonschema.Draft202012Validator({**schema, "components": description["components"]})
    (call, *_) = paddle_calls()
    assert call.json is not None
    for name, value in (("effective_from", "now"), ("items", []), ("unknown", 1)):
        assert not check.is_valid({**call.json, name: value})


def named(description: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference stands for."""
    found: Any = part
    if "$ref" in part:
        found = description
        for name in str(part["$ref"]).removeprefix("#/").split("/"):
            found = found[name]
    return dict(found)


def test_every_error_code_of_paddles_payments_has_a_class_or_is_known_to_have_none() -> None:
    codes = set(paddle_description()["components"]["schemas"]["error_code"]["enum"])
    assert set(PADDLE_DECLINES) <= codes
    # These are read as SOFT, like any code of next year.
    assert codes - set(PADDLE_DECLINES) == {
        "already_canceled",
        "already_refunded",
        "invalid_amount",
        "preferred_network_not_supported",
        "unknown",
    }


def examples(description: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The example bodies of the description's notifications."""
    for kind, path in description["webhooks"].items():
        content = path["post"]["requestBody"]["content"]["application/json"]
        given = content.get("examples", {})
        for example in given.values():
            value = named(description, example).get("value")
            if isinstance(value, dict):
                yield kind, value


def test_paddles_own_examples_of_notifications_are_read() -> None:
    read_items = paddle.PROVIDER.read_items
    assert read_items is not None
    seen: dict[str, Finding] = {}
    number = 0
    for kind, example in examples(paddle_description()):
        body = json.dumps(example, default=lambda time: time.isoformat()).encode()
        (item,) = read_items(body)
        number += 1
        assert item.kind == kind
        if item.about is About.PAYMENT and item.outcome is not None:
            assert item.provider_payment_id.startswith("txn_")
            assert item.outcome.finding is not Finding.SILENCE, kind
            assert item.outcome.stated is not None
            seen[kind] = item.outcome.finding
    assert number >= 20
    assert seen["transaction.paid"] is seen["transaction.completed"] is Finding.SUCCEEDED
    assert seen["transaction.canceled"] is Finding.CANCELED
    assert seen["transaction.past_due"] is Finding.PENDING


# --- Chargebee ------------------------------------------------------------------------------------


def chargebee_calls() -> list[Call]:
    """One call of each kind that the plans make."""
    made = answer(200, {"invoice": {"id": "inv_1", "amount_due": 1_250}})
    payment = answer(200, {"transaction": {"id": "txn_1", "type": "payment"}})
    held = {"id": "txn_1", "type": "authorization", "status": "success", "amount": 1_250}
    hold = answer(200, {"transaction": held | {"currency_code": "USD", "customer_id": "ada"}})
    refusal = {"api_error_code": "payment_method_not_present", "type": "payment"}
    declined, none = answer(400, refusal), answer(200, {"list": []})
    lost = answer(500, None)
    command = charge_command(usd(1_250), "pm_1")
    later = charge_command(usd(1), "pm_1", capture_later=True)
    calls = [
        *told(chargebee_payments.charge(command, CHARGEBEE), made, declined, none, lost).calls,
        *told(chargebee_payments.charge(later, CHARGEBEE), lost).calls,
    ]
    for plan, script in (
        (
            chargebee_payments.capture(capture_command(usd(1_250), "txn_1"), CHARGEBEE),
            (hold, made, lost),
        ),
        (chargebee_payments.cancel(cancel_command(usd(1), "txn_1"), CHARGEBEE), (lost,)),
        (
            chargebee_refunds.refund(refund_command(usd(500), usd(1_250), "txn_1"), CHARGEBEE),
            (payment, lost),
        ),
        (chargebee_customers.create_customer(customer_command(), CHARGEBEE), (lost,)),
        (
            chargebee_pages.create_session(session_command(SessionMode.PAY, usd(1)), CHARGEBEE),
            (lost,),
        ),
        (
            chargebee_pages.create_session(session_command(SessionMode.SETUP, usd(0)), CHARGEBEE),
            (lost,),
        ),
    ):
        calls += told(plan, *script).calls
    return [call for call in calls if call.method == "POST"]


def flat(params: Mapping[str, Any]) -> set[str]:
    """The names of a form's fields without indexes: `charges[amount][0]` → charges, amount."""
    parts = (part for name in params for part in name.replace("]", "").split("["))
    return {part for part in parts if not part.isdigit()}


def test_chargebees_client_knows_every_field_that_we_send() -> None:
    models = pytest.importorskip("chargebee.models", reason="the vendor's client is not installed")
    invoice, transaction = models.Invoice, models.Transaction
    pages, customer = models.HostedPage, models.Customer
    params = {
        "invoices/create_for_charge_items_and_charges": (
            invoice.CreateForChargeItemsAndChargesParams,
            invoice.CreateForChargeItemsAndChargesChargeParams,
        ),
        "collect_payment": (invoice.CollectPaymentParams,),
        "/invoices/inv_1/void": (invoice.VoidInvoiceParams,),
        "create_authorization": (transaction.CreateAuthorizationParams,),
        "/refund": (transaction.RefundParams,),
        "/api/v2/customers": (customer.CreateParams,),
        "checkout_one_time_for_items": (
            pages.CheckoutOneTimeForItemsParams,
            pages.CheckoutOneTimeForItemsCustomerParams,
            pages.CheckoutOneTimeForItemsChargeParams,
            pages.CheckoutOneTimeForItemsInvoiceParams,
        ),
        "manage_payment_sources": (
            pages.ManagePaymentSourcesParams,
            pages.ManagePaymentSourcesCustomerParams,
        ),
        "/transactions/txn_1/void": (),
    }
    checked = set()
    for call in chargebee_calls():
        (ending,) = [each for each in params if call.path.endswith(each)]
        known = {name for each in params[ending] for name in each.__annotations__}
        assert call.form is not None
        assert flat(call.form) <= known, (call.path, flat(call.form) - known)
        checked.add(ending)
    assert checked == set(params)


def test_chargebees_client_would_write_our_forms_the_same_way() -> None:
    util = pytest.importorskip("chargebee.util", reason="the vendor's client is not installed")
    call = told(
        chargebee_payments.charge(charge_command(usd(1_250), "pm_1"), CHARGEBEE),
        answer(500, None),
    ).calls[0]
    nested = {
        "customer_id": "ada",
        "currency_code": "USD",
        "charges": [{"amount": 1250, "description": "March", "taxable": False}],
        "po_number": REFERENCE,
        "auto_collection": "off",
    }
    assert call.form is not None
    theirs = {name: str(value) for name, value in util.serialize(nested).items()}
    assert dict(call.form) == theirs


def test_chargebees_states_and_kinds_are_those_that_its_client_knows() -> None:
    models = pytest.importorskip("chargebee.models", reason="the vendor's client is not installed")
    assert set(CHARGEBEE_FINDINGS) == {each.value for each in models.Transaction.Status}
    assert set(GATEWAY_DECLINES) <= {each.value for each in models.enums.Gateway}
    kinds = {each.value for each in models.enums.EventType}
    read = {"payment_initiated", "payment_succeeded", "payment_failed", "payment_refunded"}
    read |= {"refund_initiated", "authorization_succeeded", "authorization_voided"}
    read |= {f"payment_source_{each}" for each in ("added", "updated", "deleted", "expiring")}
    assert read <= kinds


@cache
def chargebee_description() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(spec("chargebee-v1.json").read_bytes())
    return content


def test_chargebees_older_description_agrees_where_it_has_the_request() -> None:
    """The description is of the first version; what both have must be within its limits."""
    paths = chargebee_description()["paths"]
    ours = {
        "/customers": "/customers",
        "/invoices/{invoice-id}/void": "/invoices/inv_1/void",
    }
    for template, path in ours.items():
        form = paths[template]["post"]["requestBody"]["content"]
        known = form["application/x-www-form-urlencoded"]["schema"]["properties"]
        calls = [each for each in chargebee_calls() if each.path == f"/api/v2{path}"]
        assert calls
        for call in calls:
            assert call.form is not None
            assert set(call.form) <= set(known)
            for name, value in call.form.items():
                assert len(value) <= known[name].get("maxLength", len(value))
                assert value in known[name].get("enum", [value])
    amount = paths["/invoices/{invoice-id}/collect_payment"]["post"]["requestBody"]["content"]
    known = amount["application/x-www-form-urlencoded"]["schema"]["properties"]
    assert known["amount"]["type"] == "integer"
    purchase = paths["/invoices/charge"]["post"]["requestBody"]["content"]
    known = purchase["application/x-www-form-urlencoded"]["schema"]["properties"]
    assert len(REFERENCE) <= known["po_number"]["maxLength"]


def test_amounts_that_leave_are_whole_minor_units_in_every_request() -> None:
    for call in chargebee_calls():
        for name, value in (call.form or {}).items():
            if "amount" in name:
                assert value.isdigit()
    providers: tuple[Provider, ...] = (paddle.PROVIDER, chargebee.PROVIDER)
    assert {each.units(inr(100)) for each in providers} == {100}
