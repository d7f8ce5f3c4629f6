"""Answers that are almost as documented: one part of each is something else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.outcome import MONEY_FINDINGS, Finding, Outcome
from gateway.providers import chargebee, paddle, razorpay
from gateway.providers.chargebee import payments as chargebee_payments
from gateway.providers.paddle import payments as paddle_payments
from gateway.providers.plan import Answer, Call, Plan, Provider, Reply
from gateway.providers.razorpay import payments as razorpay_payments
from tests.gateway.providers.support import (
    LOST,
    NOW,
    REFERENCE,
    charge_command,
    inr,
    login,
    look,
    usd,
)

ACME = login("https://acme.chargebee.com")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ODD = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)

RAZORPAY_PAYMENT = {
    "id": "pay_1", "amount": 500, "currency": "INR", "status": "captured", "captured": True,
    "order_id": "order_1", "method": "card", "notes": {"tollgate_attempt": REFERENCE},
    "error_reason": None, "created_at": int(NOW.timestamp()),
}  # fmt: skip
PADDLE_TRANSACTION = {
    "id": "txn_1", "status": "completed", "origin": "subscription_charge", "currency_code": "USD",
    "created_at": NOW.isoformat(), "custom_data": None,
    "items": [{"price": {"custom_data": {"tollgate_attempt": REFERENCE}}}],
    "details": {"totals": {"total": "500", "grand_total": "500"}},
    "payments": [{"status": "captured", "error_code": None, "created_at": NOW.isoformat()}],
    "checkout": {"url": "https://pay.example/1"},
}  # fmt: skip
CHARGEBEE_TRANSACTION = {
    "id": "txn_1", "type": "payment", "status": "success", "amount": 500, "currency_code": "USD",
    "gateway": "chargebee", "error_code": None, "linked_invoices": [{"invoice_id": "inv_1"}],
}  # fmt: skip
CHARGEBEE_INVOICE = {"id": "inv_1", "amount_due": 500, "po_number": REFERENCE, "status": "not_paid"}

Script = tuple[Callable[[], Plan], list[Any]]
SCRIPTS: dict[str, Script] = {
    "razorpay charge": (
        lambda: razorpay_payments.charge(charge_command(inr(500), "token_1"), ACME),
        [{"id": "order_1"}, {"razorpay_payment_id": "pay_1"}, RAZORPAY_PAYMENT],
    ),
    "razorpay charge above the limit": (
        lambda: razorpay_payments.charge(charge_command(inr(1_500_100), "token_1"), ACME),
        [
            {"id": "order_1"},
            {"razorpay_payment_id": "pay_1"},
            RAZORPAY_PAYMENT | {"status": "created", "amount": 1_500_100},
        ],
    ),
    "razorpay find": (
        lambda: razorpay_payments.find(look(inr(500)), ACME),
        [
            {"items": [{"id": "order_1", "receipt": REFERENCE, "status": "paid"}]},
            {"items": [RAZORPAY_PAYMENT]},
        ],
    ),
    "paddle charge": (
        lambda: paddle_payments.charge(charge_command(usd(500), "sub_1"), ACME),
        [
            {"data": {"id": "sub_1"}},
            {"data": [PADDLE_TRANSACTION], "meta": {"pagination": {"has_more": False}}},
        ],
    ),
    "chargebee charge": (
        lambda: chargebee_payments.charge(charge_command(usd(500), "pm_1"), ACME),
        [{"invoice": CHARGEBEE_INVOICE}, {"transaction": CHARGEBEE_TRANSACTION}],
    ),
    "chargebee find": (
        lambda: chargebee_payments.find(look(usd(500)), ACME),
        [
            {"list": [{"invoice": CHARGEBEE_INVOICE}]},
            {"list": [{"transaction": CHARGEBEE_TRANSACTION}]},
        ],
    ),
}
EVENTS: dict[str, tuple[Provider, dict[str, Any]]] = {
    "razorpay": (
        razorpay.PROVIDER,
        {
            "event": "payment.captured",
            "created_at": int(NOW.timestamp()),
            "payload": {"payment": {"entity": RAZORPAY_PAYMENT}},
        },
    ),
    "paddle": (
        paddle.PROVIDER,
        {
            "event_id": "evt_1",
            "event_type": "transaction.completed",
            "occurred_at": NOW.isoformat(),
            "data": PADDLE_TRANSACTION,
        },
    ),
    "chargebee": (
        chargebee.PROVIDER,
        {
            "id": "ev_1",
            "event_type": "payment_succeeded",
            "occurred_at": int(NOW.timestamp()),
            "content": {"transaction": CHARGEBEE_TRANSACTION, "invoice": CHARGEBEE_INVOICE},
        },
    ),
}


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    if isinstance(content, dict):
        for name, inner in content.items():
            yield from places(inner, (*path, name))
    elif isinstance(content, list):
        for number, inner in enumerate(content):
            yield from places(inner, (*path, number))


def changed(content: Any, path: tuple[Any, ...], value: object) -> Any:
    """The value with something else in one place."""
    if not path:
        return value
    copy = deepcopy(content)
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return copy


def run(plan: Plan, replies: list[Reply]) -> Outcome:
    """Play a plan; whatever it asks beyond the script is met with silence."""
    send: Reply | None = None
    while True:
        try:
            step = plan.send(send)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        send = (replies.pop(0) if replies else LOST) if isinstance(step, Call) else None


def encoded(content: object) -> Answer:
    return Answer(200, {}, json.dumps(content).encode())


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_are_good_as_they_stand(name: str) -> None:
    plan, contents = SCRIPTS[name]
    expected = Finding.NEEDS_ACTION if "above the limit" in name else Finding.SUCCEEDED
    assert run(plan(), [encoded(each) for each in contents]).finding is expected


@pytest.mark.parametrize("name", SCRIPTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data(), value=ODD)
def test_an_odd_part_of_an_answer_breaks_no_plan_and_invents_no_money(
    name: str, data: st.DataObject, value: object
) -> None:
    plan, contents = SCRIPTS[name]
    number = data.draw(st.integers(0, len(contents) - 1))
    path = data.draw(st.sampled_from(list(places(contents[number]))))
    odd = list(contents)
    odd[number] = changed(contents[number], path, value)
    outcome = run(plan(), [encoded(each) for each in odd])
    if outcome.finding in MONEY_FINDINGS:
        assert outcome.provider_payment_id
        assert outcome.stated is not None
        assert outcome.stated.atoms >= 0


@pytest.mark.parametrize("name", EVENTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data(), value=ODD)
def test_an_odd_part_of_a_notification_breaks_nothing_and_invents_no_money(
    name: str, data: st.DataObject, value: object
) -> None:
    provider, content = EVENTS[name]
    path = data.draw(st.sampled_from(list(places(content))))
    assert provider.read_items is not None
    for item in provider.read_items(json.dumps(changed(content, path, value)).encode()):
        assert item.id
        assert item.kind
        if item.outcome is not None and item.outcome.finding in MONEY_FINDINGS:
            assert item.outcome.stated is not None
