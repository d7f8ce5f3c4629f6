"""Corrections: void and reissue, one-off invoices, payments by hand, write-off."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chassis.peers import RemoteRefusal
from invoicing.collection.domain import Outcome
from invoicing.collection.operations import record_outcome
from invoicing.invoices.store import lock_invoice
from kernel.money import Amount, Asset
from tests.invoicing.company import Company
from tests.invoicing.support import Books, at, fixed, moment, payment, usage
from tests.support.databases import FreshDatabase
from tests.support.waiting import until
from tollgate.gateway.v1 import payment_service_pb2
from tollgate.invoicing.v1 import invoice_pb2, received_payment_pb2
from tollgate.metering.v1 import correction_pb2
from tollgate.type.v1 import amount_pb2, price_pb2

EXAMPLES = Path(__file__).resolve().parents[3] / "shared/data/billing_worked_examples.json"
OPEN, PAID = invoice_pb2.INVOICE_STATE_OPEN, invoice_pb2.INVOICE_STATE_PAID
VOID, LOST = invoice_pb2.INVOICE_STATE_VOID, invoice_pb2.INVOICE_STATE_UNCOLLECTIBLE
UNIT = price_pb2.Price(asset="USD", unit=price_pb2.UnitModel(unit_price="2"))


# --- one-off --------------------------------------------------------------------------------------


async def test_a_one_off_invoice_takes_the_way_of_all_others(books: Books) -> None:
    await books.tax("GB", "0.2")
    await books.customer()
    lines = [
        invoice_pb2.OneOffLine(description="Support", quantity="1.5", unit_price="33.333"),
        invoice_pb2.OneOffLine(
            description="Set-up",
            unit_price="100",
            tax_category="exempt",
            service_period=amount_pb2.Interval(start_time=at(2025, 1, 1), end_time=at(2025, 2, 1)),
        ),
    ]
    foreseen = await books.call(
        books.invoices.PreviewInvoice,
        invoice_pb2.PreviewInvoiceRequest(customer_id="acme", lines=lines),
    )
    request = invoice_pb2.CreateInvoiceRequest(customer_id="acme", lines=lines, net_terms_days=60)
    made = (await books.call(books.invoices.CreateInvoice, request)).invoice
    # 49.9995 is rounded once; only the line whose category the table knows is taxed.
    assert [line.amount for line in made.lines] == ["50", "100"]
    assert [(tax.taxable, tax.amount) for tax in made.taxes] == [("50", "10")]
    assert (made.kind, made.total, made.amount_due) == (
        invoice_pb2.INVOICE_KIND_ONE_OFF,
        "160",
        "160",
    )
    assert (moment(made.due_time) - moment(made.issue_time)).days == 60
    assert (foreseen.invoice.total, foreseen.invoice.lines) == (made.total, made.lines)
    assert not foreseen.invoice.number
    again = await books.call(books.invoices.CreateInvoice, request)
    assert again.invoice.number == made.number
    assert len(await books.list_invoices()) == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"description": ""}, "lines[0].description"),
        ({"unit_price": "-1"}, "lines[0].unit_price"),
        ({"unit_price": "1e3"}, "lines[0].unit_price"),
        ({"quantity": "many"}, "lines[0].quantity"),
    ],
)
async def test_a_stated_line_must_make_sense(
    books: Books, fields: dict[str, str], field: str
) -> None:
    await books.customer()
    line = invoice_pb2.OneOffLine(**{"description": "Work", "unit_price": "1"} | fields)
    refusal = await books.refused(
        books.invoices.CreateInvoice,
        invoice_pb2.CreateInvoiceRequest(customer_id="acme", lines=[line]),
    )
    assert (refusal.reason, refusal.facts["field"]) == ("INVALID_VALUE", field)


# --- payments by hand -----------------------------------------------------------------------------


async def test_a_payment_goes_to_named_invoices_then_to_the_oldest_due_then_to_the_balance(
    books: Books,
) -> None:
    await books.customer()
    late = await books.one_off("100", net_terms_days=30)
    early = await books.one_off("50", net_terms_days=5)
    named = await books.one_off("70", net_terms_days=60)
    first = await books.pay("90", {named.invoice_id: "20"})
    assert [(one.invoice_id, one.amount) for one in first.allocations] == [
        (named.invoice_id, "20"),
        (early.invoice_id, "50"),
        (late.invoice_id, "20"),
    ]
    assert first.balance_given == "0"
    found = [await books.invoice(one.invoice_id) for one in (late, early, named)]
    assert [(one.state, one.amount_paid, one.amount_due) for one in found] == [
        (OPEN, "20", "80"),
        (PAID, "50", "0"),
        (OPEN, "20", "50"),
    ]
    last = await books.pay("141.5")
    assert [one.amount for one in last.allocations] == ["80", "50"]
    assert (last.balance_given, await books.balance()) == ("11.5", {"USD": "11.5"})
    # The next invoice takes it from there.
    after = await books.one_off("10")
    assert (after.balance_applied, after.amount_due, after.state) == ("10", "0", PAID)
    answer = await books.call(
        books.received.ListReceivedPayments,
        received_payment_pb2.ListReceivedPaymentsRequest(customer_id="acme"),
    )
    assert list(answer.payments) == [last, first]


async def test_payments_at_once_add_up_and_a_repeat_counts_once(books: Books) -> None:
    await books.customer()
    owed = await books.one_off("100")
    request = payment("30")
    request.request_id = "statement-7"
    await asyncio.gather(
        *(books.call(books.received.RecordPayment, request) for _ in range(3)),
        *(books.pay("30") for _ in range(3)),
    )
    paid = await books.invoice(owed.invoice_id)
    assert (paid.state, paid.amount_paid) == (PAID, "100")
    assert await books.balance() == {"USD": "20"}


async def test_an_invoice_takes_no_more_than_is_due_of_it(books: Books) -> None:
    await books.customer()
    await books.customer("other")
    owed = await books.one_off("100")
    record = books.received.RecordPayment
    refusal = await books.refused(record, payment("150", {owed.invoice_id: "100.01"}))
    assert (refusal.reason, refusal.facts["amount_due"]) == ("ALLOCATION_ABOVE_DUE", "100")
    refusal = await books.refused(record, payment("10", {owed.invoice_id: "11"}))
    assert refusal.facts["field"] == "allocations"
    refusal = await books.refused(
        record, payment("10", {owed.invoice_id: "10"}, customer_id="other")
    )
    assert refusal.reason == "NOT_FOUND"
    refusal = await books.refused(record, payment("10", {owed.invoice_id: "10"}, asset="EUR"))
    assert refusal.facts["field"] == "amount.asset"
    await books.void(owed.invoice_id)
    refusal = await books.refused(record, payment("10", {owed.invoice_id: "10"}))
    assert refusal.reason == "INVOICE_NOT_OPEN"
    refusal = await books.refused(record, payment("0.001"))
    assert refusal.facts["field"] == "amount.value"


async def test_a_provider_that_took_more_than_was_left_gives_the_rest_to_the_balance(
    books: Books, database: FreshDatabase
) -> None:
    await books.customer()
    owed = await books.one_off("100")
    await books.pay("60")
    async with database.open("invoicing") as pool:
        for outcome in (Outcome.PAID, Outcome.REVERSED):
            async with pool.transaction(books.tenant_id) as tx:
                stored = await lock_invoice(tx, books.tenant_id, UUID(owed.invoice_id))
                assert stored is not None
                taken = Amount(Asset("USD", 2), 10_000 if outcome is Outcome.PAID else 4_000)
                await record_outcome(
                    tx,
                    books.tenant_id,
                    stored,
                    outcome,
                    stored.invoice.issue_time,
                    amount=taken,
                )
            invoice = await books.invoice(owed.invoice_id)
            if outcome is Outcome.PAID:
                assert (invoice.state, invoice.amount_paid) == (PAID, "100")
                assert await books.balance() == {"USD": "60"}
    assert (invoice.state, invoice.amount_paid, invoice.amount_due) == (OPEN, "60", "40")


async def test_the_gateway_is_asked_for_what_is_left(company: Company) -> None:
    await company.customer()
    owed = await company.one_off("100")

    async def waits() -> bool:
        one = await company.invoice(owed.invoice_id)
        return one.dunning_state == invoice_pb2.DUNNING_STATE_WAITING_FOR_CUSTOMER

    await until(waits, what="the collector to find no method")
    await company.pay("99.5")
    await company.payment_method()
    await company.call(
        company.invoices.CollectInvoice,
        invoice_pb2.CollectInvoiceRequest(invoice_id=owed.invoice_id),
    )

    async def paid() -> bool:
        return (await company.invoice(owed.invoice_id)).state == PAID

    await until(paid, what="the rest to be paid", seconds_max=60)
    invoice = await company.invoice(owed.invoice_id)
    assert (invoice.amount_paid, await company.balance()) == ("100", {})
    got = await company.call(
        company.payments.GetPayment,
        payment_service_pb2.GetPaymentRequest(payment_id=invoice.payment_id),
    )
    assert got.payment.amount.value == "0.5"


# --- void and reissue -----------------------------------------------------------------------------


async def test_a_void_invoice_keeps_its_number_and_gives_the_balance_back(books: Books) -> None:
    await books.customer()
    await books.pay("10")
    made = await books.one_off("25")
    assert (made.balance_applied, made.amount_due) == ("10", "15")
    answer = await books.void(made.invoice_id)
    gone = answer.invoice
    assert (gone.state, gone.number, gone.amount_due) == (VOID, made.number, "0")
    assert gone.close_reason == "typed wrongly"
    assert not answer.HasField("reissued")
    assert await books.balance() == {"USD": "10"}
    refusal = await books.refused(
        books.invoices.VoidInvoice,
        invoice_pb2.VoidInvoiceRequest(invoice_id=made.invoice_id, reason="again"),
    )
    assert (refusal.reason, refusal.facts["state"]) == ("INVOICE_NOT_VOIDABLE", "VOID")


async def test_the_worked_example_of_a_void_that_returns_the_balance(books: Books) -> None:
    if not EXAMPLES.is_file():
        pytest.skip("../shared/data/billing_worked_examples.json is not beside the repository")
    cases = json.loads(EXAMPLES.read_text(encoding="utf-8"))["cases"]
    (case,) = (one for one in cases if one["id"] == "BURN-08")
    used = case["given"]["balance_used"]
    await books.customer()
    await books.pay(used)
    made = await books.one_off("100")
    assert Decimal(made.balance_applied) == Decimal(used)
    await books.void(made.invoice_id)
    returned = (await books.balance())["USD"]
    assert Decimal(returned) == Decimal(case["expected"]["balance_returned"])


async def test_what_is_partly_paid_is_not_voided(books: Books) -> None:
    await books.customer()
    made = await books.one_off("25")
    await books.pay("5")
    refusal = await books.refused(
        books.invoices.VoidInvoice,
        invoice_pb2.VoidInvoiceRequest(invoice_id=made.invoice_id, reason="x", reissue=True),
    )
    assert refusal.reason == "INVOICE_NOT_VOIDABLE"
    assert "5 USD of it are paid" in refusal.message


async def test_a_reissue_has_a_number_of_its_own_and_rates_of_today(books: Books) -> None:
    await books.tax("GB", "0.2")
    await books.customer()
    made = await books.one_off("100")
    await books.tax("GB", "0.25")
    answer = await books.void(made.invoice_id, reissue=True)
    old, new = answer.invoice, answer.reissued
    assert (old.state, old.total, old.reissued_as) == (VOID, "120", new.invoice_id)
    assert (new.state, new.total, new.reissue_of) == (OPEN, "125", old.invoice_id)
    assert [int(one.number[-6:]) for one in (old, new)] == [1, 2]


async def test_usage_is_billed_again_by_what_takes_a_void_invoices_place(
    company: Company,
) -> None:
    await company.meter()
    await company.customer()
    await company.publish(fixed("10"), usage(UNIT, meter="tokens"))
    subscription = await company.subscribe()
    await company.use(at(2025, 1, 1), tokens="5")
    await company.advance(at(2025, 2, 1))
    await company.bill()
    (first,) = await company.list_invoices()
    assert [line.amount for line in first.lines] == ["10", "10", "10"]
    # What was late for it is on the next one.
    await company.use(at(2025, 1, 31), tokens="7")
    request = invoice_pb2.VoidInvoiceRequest(
        request_id="void-1", invoice_id=first.invoice_id, reason="late usage", reissue=True
    )

    async def voided() -> Any:
        try:
            return await company.call(company.invoices.VoidInvoice, request)
        except RemoteRefusal as refusal:
            if refusal.reason != "USAGE_NOT_SETTLED":
                raise
            return None

    answer = await until(voided, what="late usage to be settled")
    assert [line.amount for line in answer.reissued.lines] == ["24", "10", "10"]
    assert await company.call(company.invoices.VoidInvoice, request) == answer
    # The periods are billed, by the second document; voided alone it is not asked for again.
    assert (await company.bill()).invoices == 0

    async def asked() -> bool:
        # While its payment is asked for it is not voided; nobody has a method on file here.
        present = await company.invoice(answer.reissued.invoice_id)
        return present.dunning_state != invoice_pb2.DUNNING_STATE_NONE

    await until(asked, what="the payment to be decided")
    await company.void(answer.reissued.invoice_id)
    assert (await company.bill()).invoices == 0
    # What nobody was asked for is not given back when the subscription ends.
    await company.cancel(subscription.subscription_id, immediately=True)
    await company.bill()
    assert await company.balance() == {}
    assert len(await company.list_invoices()) == 2


async def test_late_usage_is_on_the_next_invoice_and_names_the_one_it_missed(
    company: Company,
) -> None:
    await company.tax("GB", "0.2")
    await company.meter()
    await company.customer()
    tiers = [price_pb2.Tier(up_to="10", unit_price="2"), price_pb2.Tier(unit_price="1")]
    price = price_pb2.Price(asset="USD", graduated=price_pb2.GraduatedModel(tiers=tiers))
    await company.publish(usage(price, meter="tokens"))
    await company.subscribe()
    await company.use(at(2025, 1, 1), tokens="8")
    await company.advance(at(2025, 2, 1))
    await company.bill(collected=False)
    (first,) = await company.list_invoices()
    assert first.subtotal == "16"
    # The period goes on where it was: two units are left in its first tier.
    await company.use(at(2025, 1, 31), tokens="5")
    await company.use(at(2025, 2, 1), tokens="1")
    await company.advance(at(2025, 3, 1))
    foreseen = await company.preview()
    await company.bill(collected=False)
    second = max(await company.list_invoices(), key=lambda one: one.number)
    assert [(line.kind, line.amount) for line in second.lines] == [
        (invoice_pb2.LINE_KIND_ADJUSTMENT, "7"),
        (invoice_pb2.LINE_KIND_USAGE, "2"),
    ]
    assert first.number in second.lines[0].description
    assert second.lines[0].service_period == first.lines[0].service_period
    assert second.period == second.lines[1].service_period
    assert second.total == "10.8"
    assert foreseen.lines[0] == second.lines[0]
    # It is asked for once.
    await company.use(at(2025, 3, 1), tokens="1")
    await company.advance(at(2025, 4, 1))
    await company.bill(collected=False)
    third = max(await company.list_invoices(), key=lambda one: one.number)
    assert [line.kind for line in third.lines] == [invoice_pb2.LINE_KIND_USAGE]


async def test_an_event_that_is_deprecated_after_it_was_billed_comes_off_the_next_invoice(
    company: Company,
) -> None:
    await company.meter()
    await company.customer()
    price = price_pb2.Price(asset="USD", unit=price_pb2.UnitModel(unit_price="2"))
    await company.publish(usage(price, meter="tokens"))
    await company.subscribe()
    await company.use(at(2025, 1, 1), tokens="8")
    wrong = await company.use(at(2025, 1, 1), tokens="3")
    await company.advance(at(2025, 2, 1))
    await company.bill(collected=False)
    (first,) = await company.list_invoices()
    assert first.subtotal == "22"
    item = correction_pb2.Deprecation(
        request_id="drop", event_id=wrong.event_id, reason="a test run"
    )
    answer = await company.call(
        company.event_corrections.DeprecateEvents,
        correction_pb2.DeprecateEventsRequest(items=[item]),
    )
    assert answer.outcomes[0].state == correction_pb2.CORRECTION_STATE_APPLIED
    await company.use(at(2025, 2, 1), tokens="5")
    await company.advance(at(2025, 3, 1))
    await company.bill(collected=False)

    second = max(await company.list_invoices(), key=lambda one: one.number)

    assert [(line.kind, line.amount) for line in second.lines] == [
        (invoice_pb2.LINE_KIND_ADJUSTMENT, "-6"),
        (invoice_pb2.LINE_KIND_USAGE, "10"),
    ]
    assert first.number in second.lines[0].description


# --- write-off ------------------------------------------------------------------------------------


async def test_who_pays_after_a_write_off_has_paid(books: Books) -> None:
    await books.customer()
    made = await books.one_off("25")
    await books.pay("5")
    answer = await books.call(
        books.invoices.WriteOffInvoice,
        invoice_pb2.WriteOffInvoiceRequest(invoice_id=made.invoice_id, reason="insolvent"),
    )
    lost = answer.invoice
    assert (lost.state, lost.amount_due, lost.close_reason) == (LOST, "20", "insolvent")
    assert not lost.HasField("next_attempt_time")
    # Money without a name goes to what is still asked for; a name reaches what is given up.
    assert (await books.pay("1")).balance_given == "1"
    await books.pay("12", {made.invoice_id: "12"})
    assert (await books.invoice(made.invoice_id)).state == LOST
    await books.pay("8", {made.invoice_id: "8"})
    found = await books.invoice(made.invoice_id)
    assert (found.state, found.amount_paid, found.amount_due) == (PAID, "25", "0")
    refusal = await books.refused(
        books.invoices.WriteOffInvoice,
        invoice_pb2.WriteOffInvoiceRequest(invoice_id=made.invoice_id, reason="x"),
    )
    assert refusal.reason == "INVOICE_NOT_OPEN"
