"""Payers of others, documents at zero, parts written off, coupons on stated documents."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.peers import RemoteRefusal
from invoicing.customers.domain import Customer
from invoicing.invoices.domain.document import issue
from invoicing.invoices.domain.one_off import StatedLine, one_off
from invoicing.invoices.domain.settlement import PAYABLE, offset, pay, write_off
from invoicing.sellers.domain import Seller
from invoicing.taxes.domain.assessment import TaxTable
from kernel.money import Amount, Asset
from tests.invoicing.company import Company
from tests.invoicing.support import Books, at, fixed, usage
from tollgate.invoicing.v1 import coupon_pb2, credit_note_pb2, customer_pb2, invoice_pb2
from tollgate.metering.v1 import correction_pb2, correction_pb2_grpc
from tollgate.type.v1 import price_pb2

claims = settings(derandomize=True, deadline=None, database=None, max_examples=150)

UNIT = price_pb2.Price(asset="USD", unit=price_pb2.UnitModel(unit_price="0.5"))
OPEN, PAID = invoice_pb2.INVOICE_STATE_OPEN, invoice_pb2.INVOICE_STATE_PAID


# --- who pays for whom ----------------------------------------------------------------------------


async def test_a_parent_pays_for_its_children_on_one_document(company: Company) -> None:
    await company.meter()
    await company.tax("GB", "0.2")
    await company.customer("parent")
    for name in ("child-a", "child-b"):
        await company.customer(name, payer_customer_id="parent", country="FR")
    await company.customer("alone")
    await company.publish(fixed("10"), usage(UNIT, meter="tokens"))
    for name in ("parent", "child-a", "child-b", "alone"):
        await company.subscribe(name)
    await company.use(at(2025, 1, 1), "child-a", tokens="6")
    await company.advance(at(2025, 2, 1))
    run = await company.bill(collected=False)
    assert (run.customers, run.invoices) == (2, 2)
    by_customer = {one.customer_id: one for one in await company.list_invoices()}
    assert set(by_customer) == {"parent", "alone"}
    together = by_customer["parent"]
    whose = sorted((line.customer_id, line.amount) for line in together.lines)
    assert whose == sorted(
        [("", "10"), ("", "10"), ("child-a", "3")]
        + [(child, "10") for child in ("child-a", "child-b") for _ in range(2)]
    )
    # The parent's tax is on all of it.
    assert together.total == str(Decimal(together.subtotal) * Decimal("1.2")).rstrip("0").rstrip(
        "."
    )
    # What is billed with the parent is not asked for again, by whomever.
    assert (await company.bill(collected=False)).invoices == 0


async def test_who_pays_for_itself_again_is_billed_by_itself(company: Company) -> None:
    await company.customer("parent")
    child = await company.customer("child", payer_customer_id="parent")
    await company.publish(fixed("10"))
    await company.subscribe("child")
    await company.bill(collected=False)
    assert [one.customer_id for one in await company.list_invoices()] == ["parent"]
    child.payer_customer_id = ""
    await company.call(
        company.customers.UpdateCustomer, customer_pb2.UpdateCustomerRequest(customer=child)
    )
    await company.advance(at(2025, 2, 1))
    await company.bill(collected=False)
    billed = sorted(await company.list_invoices(), key=lambda one: one.number)
    assert [one.customer_id for one in billed] == ["parent", "child"]


async def test_a_payer_pays_in_the_same_currency_and_for_itself(books: Books) -> None:
    await books.customer("parent")
    await books.customer("euro", currency="EUR")
    await books.customer("child", payer_customer_id="parent")
    for customer_id, payer in (
        ("other", "child"),  # has a payer
        ("other", "euro"),
        ("other", "other"),
        ("other", "nobody"),
    ):
        stated = customer_pb2.Customer(
            customer_id=customer_id,
            name="Other",
            country="GB",
            currency="USD",
            payer_customer_id=payer,
        )
        refusal = await books.refused(
            books.customers.CreateCustomer, customer_pb2.CreateCustomerRequest(customer=stated)
        )
        assert refusal.reason == ("NOT_FOUND" if payer == "nobody" else "INVALID_VALUE")
    parent = customer_pb2.Customer(
        customer_id="parent",
        name="Parent",
        country="GB",
        currency="USD",
        payer_customer_id="child",
    )
    refusal = await books.refused(
        books.customers.UpdateCustomer, customer_pb2.UpdateCustomerRequest(customer=parent)
    )
    assert refusal.facts["field"] == "customer.payer_customer_id"


# --- documents at zero ----------------------------------------------------------------------------


async def test_documents_at_zero_are_made_where_the_seller_wants_them(company: Company) -> None:
    await company.meter()
    await company.customer()
    await company.publish(usage(UNIT, meter="tokens"))
    await company.subscribe()
    await company.advance(at(2025, 2, 1))
    assert (await company.bill()).invoices == 0
    await company.seller(issue_zero_invoices=True, tax_id="")
    await company.advance(at(2025, 3, 1))
    assert (await company.bill()).invoices == 1
    (zero,) = await company.list_invoices()
    assert (zero.total, zero.state, zero.number) == ("0", PAID, "INV-2025-000001")
    assert [line.quantity for line in zero.lines] == ["0"]


# --- parts written off ----------------------------------------------------------------------------


def giving_up(invoice_id: str, amount: str = "") -> invoice_pb2.WriteOffInvoiceRequest:
    return invoice_pb2.WriteOffInvoiceRequest(invoice_id=invoice_id, reason="poor", amount=amount)


async def test_a_part_is_given_up_and_the_rest_stays_due(books: Books) -> None:
    await books.customer()
    invoice = await books.one_off("100")
    answer = await books.call(books.invoices.WriteOffInvoice, giving_up(invoice.invoice_id, "30"))
    part = answer.invoice
    assert (part.state, part.amount_due, part.amount_written_off) == (OPEN, "70", "30")
    for amount, reason in (("70.01", "WRITE_OFF_ABOVE_DUE"), ("0", "INVALID_VALUE")):
        refusal = await books.refused(
            books.invoices.WriteOffInvoice, giving_up(invoice.invoice_id, amount)
        )
        assert refusal.reason == reason
    await books.pay("70", {invoice.invoice_id: "70"})
    paid = await books.invoice(invoice.invoice_id)
    assert (paid.state, paid.amount_due, paid.amount_paid) == (PAID, "0", "70")
    # What nobody paid is not given back with a credit note.
    note = await books.credit(invoice.invoice_id, {0: "100"})
    assert (note.amount_offset, note.balance_given) == ("30", "70")
    assert (await books.invoice(invoice.invoice_id)).amount_written_off == "0"


# --- coupons on stated documents ------------------------------------------------------------------


def stating(*prices: str, codes: tuple[str, ...], **fields: Any) -> Any:
    lines = [invoice_pb2.OneOffLine(description="Work", unit_price=price) for price in prices]
    return invoice_pb2.CreateInvoiceRequest(
        customer_id="acme", lines=lines, coupon_codes=codes, **fields
    )


async def test_coupons_come_off_stated_lines_before_tax(books: Books) -> None:
    await books.tax("GB", "0.2")
    await books.customer()
    once = coupon_pb2.COUPON_DURATION_ONCE
    await books.coupon("TEN", rate="0.1", duration=once)
    await books.coupon("FIVE", amount="5", duration=once)
    request = stating("60", "40", codes=("TEN", "FIVE"))
    preview = await books.call(
        books.invoices.PreviewInvoice,
        invoice_pb2.PreviewInvoiceRequest(
            customer_id="acme", lines=request.lines, coupon_codes=request.coupon_codes
        ),
    )
    answer = await books.call(books.invoices.CreateInvoice, request)
    invoice = answer.invoice
    assert (invoice.subtotal, invoice.discount_total, invoice.total) == ("100", "14.5", "102.6")
    assert preview.invoice.total == invoice.total
    assert [one.coupon_code for one in invoice.discounts] == ["FIVE", "TEN"]
    # Voided and issued anew, the document keeps them, and they are counted once.
    anew = await books.void(invoice.invoice_id, reissue=True)
    assert (anew.reissued.discount_total, anew.reissued.total) == ("14.5", "102.6")
    listed = await books.call(books.coupons.ListCoupons, coupon_pb2.ListCouponsRequest())
    assert [one.redemptions for one in listed.coupons] == [1, 1]


async def test_a_coupon_past_its_limit_makes_no_document(books: Books) -> None:
    await books.customer()
    await books.coupon(
        "ONE", rate="0.5", duration=coupon_pb2.COUPON_DURATION_FOREVER, redemptions_max=1
    )
    await books.coupon(
        "PLAN",
        rate="0.5",
        duration=coupon_pb2.COUPON_DURATION_FOREVER,
        plan_codes=["pro"],
    )

    async def ask() -> str:
        try:
            await books.call(books.invoices.CreateInvoice, stating("10", codes=("ONE",)))
        except RemoteRefusal as refusal:
            return refusal.reason
        return "issued"

    outcomes = await asyncio.gather(*(ask() for _ in range(8)))
    assert sorted(outcomes) == ["COUPON_NOT_REDEEMABLE"] * 7 + ["issued"]
    (only,) = await books.list_invoices()
    assert (only.total, only.number[-6:]) == ("5", "000001")
    for code, reason in (("PLAN", "COUPON_NOT_REDEEMABLE"), ("NONE", "NOT_FOUND")):
        refusal = await books.refused(books.invoices.CreateInvoice, stating("10", codes=(code,)))
        assert refusal.reason == reason
    refusal = await books.refused(books.invoices.CreateInvoice, stating("10", codes=("ONE", "ONE")))
    assert refusal.facts["field"] == "coupon_codes"


@claims
@given(st.integers(1, 1_000), st.data())
def test_parts_of_an_invoice_are_never_more_than_it(total: int, data: st.DataObject) -> None:
    """Whatever is paid, written off and credited, in any order: what is due is the rest."""
    start, usd = datetime(2025, 1, 1, tzinfo=UTC), Asset("USD", 2)
    buyer = Customer("acme", "Acme", "", (), "GB", "", "UTC", "USD", False, start)
    seller = Seller("S")
    line = StatedLine("Work", Decimal(1), Decimal(total) / 100, "standard", None)
    draft = one_off(buyer, [line], TaxTable(buyer, seller), start)
    invoice = issue(draft, uuid4(), seller, 1, start, usd.zero())
    for _ in range(data.draw(st.integers(1, 6))):
        atoms = data.draw(st.integers(1, total))
        match data.draw(st.sampled_from(["pay", "write off", "credit"])):
            case "pay" if invoice.state in PAYABLE:
                invoice, _ = pay(invoice, Amount(usd, atoms))
            case "write off" if 0 < atoms < invoice.amount_due.atoms:
                invoice = write_off(invoice, "poor", atoms)
            case "credit" if atoms <= total - invoice.amount_credited.atoms:
                invoice, _ = offset(invoice, Amount(usd, atoms))
        parts = invoice.amount_paid + invoice.amount_offset + invoice.amount_due
        assert parts.atoms + invoice.amount_written_off == total
        assert invoice.amount_due.atoms >= 0
        assert invoice.amount_offset.atoms <= invoice.amount_credited.atoms


# --- usage that came late -------------------------------------------------------------------------


async def _billed_late(company: Company, policy: Any, late: str) -> list[Any]:
    """January billed with ten units at 0.5, usage of it that comes after or, without, is taken
    back, and February's close."""
    await company.seller(late_usage=policy, tax_id="")
    await company.meter()
    await company.tax("GB", "0.2")
    await company.customer()
    await company.publish(usage(UNIT, meter="tokens"))
    await company.subscribe()
    await company.use(at(2025, 1, 1), tokens="6")
    wrong = await company.use(at(2025, 1, 1), tokens="4")
    await company.advance(at(2025, 2, 1))
    await company.bill(collected=False)
    if late:
        await company.use(at(2025, 1, 31), tokens=late)
    else:
        corrections = correction_pb2_grpc.CorrectionServiceStub(
            await company.services.channel("metering")
        )
        deprecation = correction_pb2.Deprecation(
            request_id=uuid4().hex, event_id=wrong.event_id, reason="sent by mistake"
        )
        await company.call(
            corrections.DeprecateEvents, correction_pb2.DeprecateEventsRequest(items=[deprecation])
        )
    await company.use(at(2025, 2, 1), tokens="2")
    await company.advance(at(2025, 3, 1))
    for _ in range(2):
        await company.bill(collected=False)
    return sorted(await company.list_invoices(), key=lambda one: one.number)


async def _notes(company: Company) -> list[Any]:
    answer = await company.call(
        company.notes.ListCreditNotes, credit_note_pb2.ListCreditNotesRequest()
    )
    return list(answer.credit_notes)


async def test_usage_that_became_less_is_credited_where_it_was_asked_for(company: Company) -> None:
    january, february = await _billed_late(company, invoice_pb2.LATE_USAGE_CREDIT_NOTE, "")
    (note,) = await _notes(company)
    assert (note.invoice_id, note.subtotal, note.total) == (january.invoice_id, "2", "2.4")
    assert note.reason == credit_note_pb2.CREDIT_REASON_BILLING_ERROR
    assert (january.total, january.amount_credited, february.total) == ("6", "2.4", "1.2")


async def test_usage_that_became_more_is_on_the_next_invoice(company: Company) -> None:
    _, february = await _billed_late(company, invoice_pb2.LATE_USAGE_CREDIT_NOTE, "4")
    assert await _notes(company) == []
    assert february.subtotal == "3"


async def test_late_usage_may_be_recorded_and_no_more(company: Company) -> None:
    _, february = await _billed_late(company, invoice_pb2.LATE_USAGE_RECORD_ONLY, "4")
    assert february.subtotal == "1"
