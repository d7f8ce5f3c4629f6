"""What each kind of notification of Razorpay, Paddle and Chargebee is about, and says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.domain.outcome import DeclineClass, Finding
from gateway.providers import chargebee, paddle, razorpay
from gateway.providers.commands import About, DisputeStage, Item
from gateway.providers.plan import Provider
from tests.gateway.providers.support import NOW, REFERENCE, REFUND_REFERENCE, inr, usd

SECONDS = int(NOW.timestamp())


def items(provider: Provider, content: object) -> tuple[Item, ...]:
    assert provider.read_items is not None
    return provider.read_items(json.dumps(content).encode())


def one(provider: Provider, content: object) -> Item:
    (item,) = items(provider, content)
    return item


# --- Razorpay -------------------------------------------------------------------------------------


def event(kind: str, **entities: dict[str, Any]) -> dict[str, Any]:
    payload = {name: {"entity": entity} for name, entity in entities.items()}
    return {"event": kind, "created_at": SECONDS, "payload": payload}


def razorpay_payment(status: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": "pay_1",
        "status": status,
        "amount": 500,
        "currency": "INR",
        "order_id": "order_1",
        "notes": {"tollgate_attempt": REFERENCE},
    } | changes


@pytest.mark.parametrize(
    ("kind", "status", "finding"),
    [
        ("payment.authorized", "authorized", Finding.AUTHORIZED),
        ("payment.captured", "captured", Finding.SUCCEEDED),
        ("order.paid", "captured", Finding.SUCCEEDED),
        ("payment.failed", "failed", Finding.DECLINED),
    ],
)
def test_razorpay_tells_of_payments(kind: str, status: str, finding: Finding) -> None:
    order = {"id": "order_1", "receipt": REFERENCE}
    item = one(razorpay.PROVIDER, event(kind, payment=razorpay_payment(status), order=order))
    assert (item.about, item.reference, item.provider_payment_id) == (
        About.PAYMENT,
        REFERENCE,
        "pay_1",
    )
    assert item.outcome is not None
    assert item.outcome.finding is finding
    assert item.time == NOW


def test_a_paid_order_and_a_captured_payment_are_two_items_about_one_payment() -> None:
    paid = razorpay_payment("captured", notes=[])
    order = {"id": "order_1", "receipt": REFERENCE}
    first = one(razorpay.PROVIDER, event("order.paid", payment=paid, order=order))
    second = one(razorpay.PROVIDER, event("payment.captured", payment=razorpay_payment("captured")))
    assert first.id != second.id
    assert first.reference == second.reference == REFERENCE
    assert first.provider_payment_id == second.provider_payment_id
    assert first.outcome is not None
    assert second.outcome is not None
    assert first.outcome.finding is second.outcome.finding is Finding.SUCCEEDED


@pytest.mark.parametrize(
    ("kind", "status", "finding"),
    [
        ("refund.created", "pending", Finding.PENDING),
        ("refund.processed", "processed", Finding.SUCCEEDED),
        ("refund.failed", "failed", Finding.DECLINED),
    ],
)
def test_razorpay_tells_of_refunds(kind: str, status: str, finding: Finding) -> None:
    refund = {
        "id": "rfnd_1",
        "payment_id": "pay_1",
        "amount": 500,
        "currency": "INR",
        "status": status,
        "notes": {"tollgate_refund": REFUND_REFERENCE},
    }
    item = one(razorpay.PROVIDER, event(kind, refund=refund, payment=razorpay_payment("captured")))
    assert (item.about, item.reference, item.object_id) == (
        About.REFUND,
        REFUND_REFERENCE,
        "rfnd_1",
    )
    assert item.outcome is not None
    assert item.outcome.finding is finding


@pytest.mark.parametrize(
    ("kind", "changes", "stage", "funds"),
    [
        ("created", {}, DisputeStage.OPENED, ""),
        ("created", {"phase": "retrieval"}, DisputeStage.INQUIRY, ""),
        ("created", {"amount_deducted": 500}, DisputeStage.OPENED, "withdrawn"),
        ("action_required", {}, DisputeStage.OPENED, ""),
        ("under_review", {"amount_deducted": 500}, DisputeStage.UNDER_REVIEW, ""),
        ("won", {"amount_deducted": 500}, DisputeStage.WON, "reinstated"),
        ("lost", {"amount_deducted": 500}, DisputeStage.LOST, "withdrawn"),
        ("closed", {}, None, ""),
    ],
)
def test_razorpay_tells_of_disputes(
    kind: str, changes: dict[str, Any], stage: DisputeStage | None, funds: str
) -> None:
    dispute = {
        "id": "disp_1",
        "payment_id": "pay_1",
        "amount": 500,
        "currency": "INR",
        "phase": "chargeback",
        "reason_code": "goods_not_received",
        "respond_by": SECONDS,
    } | changes
    told = event(f"payment.dispute.{kind}", payment=razorpay_payment("captured"), dispute=dispute)
    item = one(razorpay.PROVIDER, told)
    assert (item.about, item.outcome, item.provider_payment_id) == (About.DISPUTE, None, "pay_1")
    assert item.dispute is not None
    assert (item.dispute.stage, item.dispute.funds) == (stage, funds)
    assert (item.dispute.amount, item.dispute.respond_by) == (inr(500), NOW)


@pytest.mark.parametrize(
    ("kind", "usable"),
    [("confirmed", True), ("rejected", False), ("paused", False), ("cancelled", False)],
)
def test_razorpay_tells_of_methods(kind: str, usable: bool) -> None:
    token = {"id": "token_1", "recurring": True, "recurring_details": {"status": kind}}
    item = one(razorpay.PROVIDER, event(f"token.{kind}", token=token))
    assert (item.about, item.object_id) == (About.METHOD, "token_1")
    assert item.method is not None
    assert item.method.usable is usable


def test_razorpay_tells_of_payouts_pages_and_of_what_is_not_kept() -> None:
    for kind, name, about in (
        ("settlement.processed", "settlement", About.PAYOUT),
        ("payment_link.paid", "payment_link", About.SESSION),
        ("invoice.expired", "invoice", About.SESSION),
        ("subscription.charged", "subscription", About.OTHER),
        ("a.kind.of.next.year", "a", About.OTHER),
    ):
        item = one(razorpay.PROVIDER, event(kind, **{name: {"id": "x_1"}}))
        assert (item.about, item.object_id, item.outcome) == (about, "x_1", None)


# --- Paddle ---------------------------------------------------------------------------------------


def paddle_event(kind: str, subject: dict[str, Any]) -> dict[str, Any]:
    return {
        "event_id": "evt_1",
        "notification_id": "ntf_1",
        "event_type": kind,
        "occurred_at": "2026-03-01T12:00:00.000000Z",
        "data": subject,
    }


def paddle_transaction(status: str, *attempts: tuple[str, str]) -> dict[str, Any]:
    payments = [
        {"status": state, "error_code": code or None, "created_at": f"2026-03-01T12:0{n}:00Z"}
        for n, (state, code) in enumerate(attempts)
    ]
    return {
        "id": "txn_1",
        "status": status,
        "origin": "web",
        "currency_code": "USD",
        "custom_data": {"tollgate_attempt": REFERENCE},
        "details": {"totals": {"total": "1250", "grand_total": "1250"}},
        "payments": payments,
    }


@pytest.mark.parametrize(
    ("kind", "status", "attempts", "finding"),
    [
        ("paid", "paid", [("captured", "")], Finding.SUCCEEDED),
        ("completed", "completed", [("captured", "")], Finding.SUCCEEDED),
        ("payment_failed", "ready", [("error", "fraud")], Finding.DECLINED),
        # Paddle tries again by itself, or did so with success: not for us to call it declined.
        ("payment_failed", "past_due", [("error", "fraud")], Finding.PENDING),
        ("payment_failed", "completed", [("error", "fraud"), ("captured", "")], Finding.SUCCEEDED),
        ("past_due", "past_due", [("error", "declined")], Finding.PENDING),
        ("canceled", "canceled", [], Finding.CANCELED),
        ("updated", "ready", [], Finding.NEEDS_ACTION),
        ("of_next_year", "of next year", [], Finding.SILENCE),
    ],
)
def test_paddle_tells_of_transactions(
    kind: str, status: str, attempts: list[tuple[str, str]], finding: Finding
) -> None:
    told = paddle_event(f"transaction.{kind}", paddle_transaction(status, *attempts))
    item = one(paddle.PROVIDER, told)
    # The event's id, which a replay of the notification shares, and not the notification's.
    assert (item.id, item.reference, item.provider_payment_id) == ("evt_1", REFERENCE, "txn_1")
    assert item.outcome is not None
    assert item.outcome.finding is finding
    if finding is Finding.DECLINED:
        assert (item.outcome.decline_code, item.outcome.decline_class) == (
            "fraud",
            DeclineClass.FRAUD,
        )


def paddle_adjustment(action: str, status: str) -> dict[str, Any]:
    return {
        "id": "adj_1",
        "action": action,
        "status": status,
        "transaction_id": "txn_1",
        "reason": f"asked for [{REFUND_REFERENCE}]",
        "currency_code": "USD",
        "totals": {"total": "500"},
    }


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        ("pending_approval", Finding.PENDING),
        ("approved", Finding.SUCCEEDED),
        ("rejected", Finding.DECLINED),
        ("reversed", Finding.REVERSED),
    ],
)
def test_paddle_tells_of_refunds(status: str, finding: Finding) -> None:
    told = paddle_event("adjustment.updated", paddle_adjustment("refund", status))
    item = one(paddle.PROVIDER, told)
    assert (item.about, item.reference, item.object_id) == (About.REFUND, REFUND_REFERENCE, "adj_1")
    assert item.outcome is not None
    assert (item.outcome.finding, item.outcome.stated) == (finding, usd(500))


@pytest.mark.parametrize(
    ("action", "stage", "funds"),
    [
        ("chargeback_warning", DisputeStage.INQUIRY, ""),
        ("chargeback_warning_reverse", DisputeStage.WON, ""),
        ("chargeback", DisputeStage.LOST, "withdrawn"),
        ("chargeback_reverse", DisputeStage.WON, "reinstated"),
    ],
)
def test_paddle_tells_of_disputes(action: str, stage: DisputeStage, funds: str) -> None:
    told = paddle_event("adjustment.created", paddle_adjustment(action, "approved"))
    item = one(paddle.PROVIDER, told)
    assert (item.about, item.outcome) == (About.DISPUTE, None)
    assert item.dispute is not None
    assert (item.dispute.stage, item.dispute.funds) == (stage, funds)


def test_paddle_tells_of_methods_and_of_what_is_not_kept() -> None:
    saved = {"id": "paymtd_1", "customer_id": "ctm_1", "type": "card"}
    for kind in ("payment_method.saved", "payment_method.deleted"):
        item = one(paddle.PROVIDER, paddle_event(kind, saved))
        assert (item.about, item.object_id) == (About.METHOD, "paymtd_1")
    for kind, subject in (
        ("adjustment.created", paddle_adjustment("credit", "approved")),
        ("subscription.updated", {"id": "sub_1"}),
    ):
        item = one(paddle.PROVIDER, paddle_event(kind, subject))
        assert (item.about, item.outcome, item.dispute) == (About.OTHER, None, None)


# --- Chargebee ------------------------------------------------------------------------------------


def chargebee_event(kind: str, **content: dict[str, Any]) -> dict[str, Any]:
    return {"id": "ev_1", "event_type": kind, "occurred_at": SECONDS, "content": content}


def chargebee_transaction(status: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": "txn_1",
        "type": "payment",
        "status": status,
        "amount": 1_250,
        "currency_code": "USD",
    } | changes


@pytest.mark.parametrize(
    ("kind", "status", "about", "finding"),
    [
        ("payment_initiated", "in_progress", "payment", Finding.PENDING),
        ("payment_succeeded", "success", "payment", Finding.SUCCEEDED),
        ("payment_failed", "failure", "payment", Finding.DECLINED),
        ("payment_failed", "late_failure", "payment", Finding.REVERSED),
        ("payment_failed", "timeout", "payment", Finding.SILENCE),
        ("payment_failed", "needs_attention", "payment", Finding.SILENCE),
        ("authorization_succeeded", "success", "authorization", Finding.AUTHORIZED),
        ("authorization_voided", "voided", "authorization", Finding.CANCELED),
    ],
)
def test_chargebee_tells_of_payments(kind: str, status: str, about: str, finding: Finding) -> None:
    told = chargebee_event(
        kind,
        transaction=chargebee_transaction(status, type=about),
        invoice={"id": "inv_1", "po_number": REFERENCE},
    )
    item = one(chargebee.PROVIDER, told)
    assert (item.id, item.reference, item.provider_payment_id) == ("ev_1", REFERENCE, "txn_1")
    assert item.outcome is not None
    assert item.outcome.finding is finding


@pytest.mark.parametrize(
    ("kind", "status", "finding"),
    [
        ("payment_refunded", "success", Finding.SUCCEEDED),
        ("refund_initiated", "in_progress", Finding.PENDING),
    ],
)
def test_chargebee_tells_of_refunds(kind: str, status: str, finding: Finding) -> None:
    refund = chargebee_transaction(status, id="txn_r", type="refund", refunded_txn_id="txn_1")
    item = one(chargebee.PROVIDER, chargebee_event(kind, transaction=refund))
    assert (item.about, item.object_id, item.provider_payment_id) == (
        About.REFUND,
        "txn_r",
        "txn_1",
    )
    assert item.outcome is not None
    assert item.outcome.finding is finding


def test_chargebee_tells_of_a_chargeback_as_a_refund_that_nobody_asked_for() -> None:
    taken = chargebee_transaction(
        "success", id="txn_c", type="refund", payment_method="chargeback", refunded_txn_id="txn_1"
    )
    item = one(chargebee.PROVIDER, chargebee_event("payment_refunded", transaction=taken))
    assert (item.about, item.outcome) == (About.DISPUTE, None)
    assert item.dispute is not None
    assert (item.dispute.stage, item.dispute.funds) == (DisputeStage.LOST, "withdrawn")


def test_chargebee_tells_of_methods_and_of_what_is_not_kept() -> None:
    for kind, status, usable in (
        ("added", "valid", True),
        ("updated", "valid", True),
        ("expiring", "expiring", True),
        ("expired", "expired", False),
        ("deleted", "invalid", False),
    ):
        source = {"id": "pm_1", "customer_id": "ada", "status": status}
        told = chargebee_event(f"payment_source_{kind}", payment_source=source)
        item = one(chargebee.PROVIDER, told)
        assert (item.about, item.object_id) == (About.METHOD, "pm_1")
        assert item.method is not None
        assert item.method.usable is usable
    other = one(chargebee.PROVIDER, chargebee_event("subscription_renewed"))
    assert (other.about, other.outcome) == (About.OTHER, None)


@pytest.mark.parametrize("provider", [razorpay.PROVIDER, paddle.PROVIDER, chargebee.PROVIDER])
@pytest.mark.parametrize(
    "content", [None, [], {}, "text", {"event": "payment.captured"}, {"id": 7}]
)
def test_what_is_not_as_documented_has_no_items(provider: Provider, content: object) -> None:
    assert items(provider, content) == ()
