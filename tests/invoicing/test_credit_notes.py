"""Credit notes: per line, tax with them in proportion, never more than was billed."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import asyncpg
import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.credits.domain import CreditAboveBilled, Credited, credit
from invoicing.customers.domain import Customer
from invoicing.invoices.domain.document import issue
from invoicing.invoices.domain.one_off import StatedLine, one_off
from invoicing.invoices.domain.settlement import offset
from invoicing.sellers.domain import Seller
from invoicing.taxes.domain.assessment import TaxTable
from invoicing.taxes.domain.rates import TaxRate
from kernel.errors import InvalidValue
from kernel.money import Amount, Asset
from tests.invoicing.company import Company
from tests.invoicing.support import Books, at, crediting, fixed
from tests.support.databases import FreshDatabase
from tests.support.waiting import until
from tollgate.gateway.v1 import payment_service_pb2
from tollgate.invoicing.v1 import credit_note_pb2, invoice_pb2

claims = settings(derandomize=True, deadline=None, database=None, max_examples=150)

START = datetime(2025, 1, 1, tzinfo=UTC)
USD = Asset("USD", 2)
OPEN, PAID = invoice_pb2.INVOICE_STATE_OPEN, invoice_pb2.INVOICE_STATE_PAID
BUYER = Customer("acme", "Acme", "", (), "GB", "", "UTC", "USD", False, START)
RATES = TaxTable(
    BUYER,
    Seller("S"),
    (
        TaxRate("GB", "standard", "VAT", Decimal("0.2")),
        TaxRate("GB", "reduced", "VAT", Decimal("0.055")),
    ),
)
LINES = st.lists(
    st.tuples(st.integers(1, 5_000), st.sampled_from(["standard", "reduced", "none"])),
    min_size=1,
    max_size=5,
)


# --- the rules ------------------------------------------------------------------------------------


@claims
@given(LINES, st.data())
def test_crediting_all_lines_in_any_number_of_steps_reverses_everything_exactly(
    lines: list[tuple[int, str]], data: st.DataObject
) -> None:
    stated = [
        StatedLine("Work", Decimal(1), Decimal(cents) / 100, category, None)
        for cents, category in lines
    ]
    draft = one_off(BUYER, stated, RATES, START)
    invoice = issue(draft, uuid4(), Seller("S"), 1, START, Amount(USD, 0))
    credited: Counter[int] = Counter()
    taxes: Counter[int] = Counter()
    total = 0
    left = {position: cents for position, (cents, _) in enumerate(lines)}
    while left:
        asked = {position: data.draw(st.integers(1, cents)) for position, cents in left.items()}
        note = credit(invoice, Credited(credited, taxes, {}), asked)
        assert note.total == note.subtotal + note.tax_total
        invoice, _ = offset(invoice, note.total)
        credited.update(asked)
        taxes.update({one.position: one.tax.amount.atoms for one in note.taxes})
        total += note.total.atoms
        assert total <= invoice.draft.total.atoms
        left = {
            position: cents - credited[position]
            for position, (cents, _) in enumerate(lines)
            if cents > credited[position]
        }
    assert total == invoice.draft.total.atoms == invoice.amount_credited.atoms
    assert [taxes[index] for index in range(len(draft.taxes))] == [
        tax.amount.atoms for tax in draft.taxes
    ]
    assert invoice.amount_due.atoms == 0
    with pytest.raises(InvalidValue, match="nothing is left"):
        credit(invoice, Credited(credited, taxes, {}), {})
    with pytest.raises(CreditAboveBilled):
        credit(invoice, Credited(credited, taxes, {}), {0: 1})


def test_a_line_that_gave_something_back_is_taken_back_with_its_sign() -> None:
    stated = [StatedLine("Work", Decimal(1), Decimal(price), "none", None) for price in (100, 30)]
    draft = one_off(BUYER, stated, RATES, START)
    fee, back = draft.lines
    lines = (fee, replace(back, amount=-back.amount, cost=-back.cost))
    draft = replace(draft, lines=lines, subtotal=Amount(USD, 7_000))
    invoice = issue(draft, uuid4(), Seller("S"), 1, START, Amount(USD, 0))
    none = Credited({}, {}, {})
    assert credit(invoice, none, {}).total == Amount(USD, 7_000)
    with pytest.raises(CreditAboveBilled):
        credit(invoice, none, {1: 3_000})
    with pytest.raises(CreditAboveBilled, match="the document"):
        credit(invoice, none, {0: 7_001})


# --- through gRPC ---------------------------------------------------------------------------------


async def test_value_goes_to_what_is_due_and_then_to_the_balance(books: Books) -> None:
    await books.tax("GB", "0.2")
    await books.customer()
    owed = await books.one_off("100", "50")
    await books.pay("120")
    first = await books.credit(owed.invoice_id, {0: "10"}, memo="an hour down")
    assert (first.subtotal, first.total, first.taxes[0].amount) == ("10", "12", "2")
    assert (first.amount_offset, first.balance_given) == ("12", "0")
    assert (first.invoice_number, first.memo) == (owed.number, "an hour down")
    after = await books.invoice(owed.invoice_id)
    assert (after.state, after.amount_due, after.amount_credited) == (OPEN, "48", "12")
    second = await books.credit(owed.invoice_id, {1: "50"})
    assert (second.amount_offset, second.balance_given) == ("48", "12")
    after = await books.invoice(owed.invoice_id)
    assert (after.state, after.amount_due, after.amount_paid) == (PAID, "0", "120")
    assert (after.amount_credited, after.amount_offset) == ("72", "60")
    assert await books.balance() == {"USD": "12"}
    assert [int(one.number[-6:]) for one in (first, second)] == [1, 2]
    assert first.number.startswith("CN-INV-")
    # Whatever is left, settled by other ways.
    foreseen = await books.call(
        books.notes.PreviewCreditNote,
        credit_note_pb2.PreviewCreditNoteRequest(invoice_id=owed.invoice_id),
    )
    assert foreseen.credit_note.total == "108"
    parts = [
        credit_note_pb2.CreditPart(
            destination=credit_note_pb2.CREDIT_DESTINATION_OUT_OF_BAND, amount="100"
        ),
        credit_note_pb2.CreditPart(
            destination=credit_note_pb2.CREDIT_DESTINATION_CUSTOMER_BALANCE, amount="8"
        ),
    ]
    refusal = await books.refused(
        books.notes.CreateCreditNote, crediting(owed.invoice_id, parts=parts[:1])
    )
    assert refusal.facts["field"] == "parts"
    last = await books.credit(owed.invoice_id, parts=parts)
    assert (last.out_of_band, last.balance_given, last.total) == ("100", "8", "108")
    assert await books.balance() == {"USD": "20"}
    answer = await books.call(
        books.notes.ListCreditNotes,
        credit_note_pb2.ListCreditNotesRequest(invoice_id=owed.invoice_id),
    )
    assert {one.number for one in answer.credit_notes} == {
        one.number for one in (first, second, last)
    }
    got = await books.call(
        books.notes.GetCreditNote,
        credit_note_pb2.GetCreditNoteRequest(credit_note_id=first.credit_note_id),
    )
    assert got.credit_note == first


async def test_notes_at_once_never_credit_more_than_was_billed(books: Books) -> None:
    await books.customer()
    owed = await books.one_off("100")
    results = await asyncio.gather(
        *(books.credit(owed.invoice_id, {0: "30"}) for _ in range(5)), return_exceptions=True
    )
    issued = [one for one in results if isinstance(one, credit_note_pb2.CreditNote)]
    refused = [one for one in results if not isinstance(one, credit_note_pb2.CreditNote)]
    assert len(issued) == 3
    assert {getattr(one, "reason", one) for one in refused} == {"CREDIT_ABOVE_BILLED"}
    assert sorted(int(one.number[-6:]) for one in issued) == [1, 2, 3]
    assert (await books.invoice(owed.invoice_id)).amount_due == "10"


async def test_what_takes_no_credit_note(books: Books, database: FreshDatabase) -> None:
    await books.customer()
    owed = await books.one_off("100")
    create = books.notes.CreateCreditNote
    refusal = await books.refused(create, crediting(owed.invoice_id, {0: "100.01"}))
    assert (refusal.reason, refusal.facts["left"]) == ("CREDIT_ABOVE_BILLED", "100")
    refusal = await books.refused(create, crediting(owed.invoice_id, {0: "-1"}))
    assert refusal.reason == "CREDIT_ABOVE_BILLED"
    refusal = await books.refused(create, crediting(owed.invoice_id, {1: "1"}))
    assert refusal.facts["field"] == "lines"
    refusal = await books.refused(create, crediting(owed.invoice_id, reason=0))
    assert refusal.facts["field"] == "reason"
    refusal = await books.refused(create, crediting(str(uuid4())))
    assert refusal.reason == "NOT_FOUND"
    await books.credit(owed.invoice_id, {0: "1"})
    refusal = await books.refused(
        books.invoices.VoidInvoice,
        invoice_pb2.VoidInvoiceRequest(invoice_id=owed.invoice_id, reason="x"),
    )
    assert (refusal.reason, "credited" in refusal.message) == ("INVOICE_NOT_VOIDABLE", True)
    other = await books.one_off("100")
    await books.void(other.invoice_id)
    refusal = await books.refused(create, crediting(other.invoice_id))
    assert (refusal.reason, refusal.facts["state"]) == ("INVOICE_NOT_CREDITABLE", "VOID")
    async with database.open("invoicing") as pool:
        for change in ("UPDATE credit_note SET total = 1", "DELETE FROM credit_note_line"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with pool.transaction(books.tenant_id) as tx:
                    await tx.execute(change)


async def test_what_is_credited_is_not_given_back_again_at_the_end(company: Company) -> None:
    await company.customer()
    await company.publish(fixed("31"))
    subscription = await company.subscribe()
    await company.bill(collected=False)
    (first,) = await company.list_invoices()
    await company.pay("31")
    note = await company.credit(first.invoice_id, {0: "15.5"})
    assert note.balance_given == "15.5"
    await company.advance(at(2025, 1, 22))
    await company.cancel(subscription.subscription_id, immediately=True)
    await company.bill(collected=False)
    # Ten of 31 days of the 15.50 that are still billed.
    assert await company.balance() == {"USD": "20.5"}
    rest = await company.credit(first.invoice_id)
    assert (rest.total, await company.balance()) == ("10.5", {"USD": "31"})


async def test_money_is_sent_back_at_most_once_and_what_is_not_stays_the_customers(
    company: Company,
) -> None:
    await company.customer()
    await company.payment_method()
    owed = await company.one_off("100")

    async def paid() -> bool:
        return (await company.invoice(owed.invoice_id)).state == PAID

    await until(paid, what="the payment", seconds_max=60)

    async def settled(note: credit_note_pb2.CreditNote) -> credit_note_pb2.CreditNote | None:
        answer = await company.call(
            company.notes.GetCreditNote,
            credit_note_pb2.GetCreditNoteRequest(credit_note_id=note.credit_note_id),
        )
        found: credit_note_pb2.CreditNote = answer.credit_note
        moving = (
            credit_note_pb2.CREDIT_REFUND_STATE_REQUESTED,
            credit_note_pb2.CREDIT_REFUND_STATE_PENDING,
        )
        return None if found.refund_state in moving else found

    def back(amount: str) -> list[credit_note_pb2.CreditPart]:
        destination = credit_note_pb2.CREDIT_DESTINATION_REFUND
        return [credit_note_pb2.CreditPart(destination=destination, amount=amount)]

    note = await company.credit(owed.invoice_id, {0: "30"}, parts=back("30"))
    assert (note.refund_amount, note.balance_given) == ("30", "0")
    sent = await until(lambda: settled(note), what="the refund", seconds_max=60)
    assert sent is not None
    assert sent.refund_state == credit_note_pb2.CREDIT_REFUND_STATE_SUCCEEDED
    got = await company.call(
        company.refunds.GetRefund, payment_service_pb2.GetRefundRequest(refund_id=sent.refund_id)
    )
    assert (got.refund.amount.value, got.refund.payment_id) == (
        "30",
        (await company.invoice(owed.invoice_id)).payment_id,
    )
    # Somebody else sent the rest back: the gateway refuses, and the customer keeps it with us.
    await company.call(
        company.refunds.CreateRefund,
        payment_service_pb2.CreateRefundRequest(payment_id=got.refund.payment_id),
    )
    late = await company.credit(owed.invoice_id, {0: "20"}, parts=back("20"))
    kept = await until(lambda: settled(late), what="the refusal", seconds_max=60)
    assert kept is not None
    assert kept.refund_state == credit_note_pb2.CREDIT_REFUND_STATE_FAILED
    assert await company.balance() == {"USD": "20"}


async def test_no_more_is_sent_back_than_came_through_the_gateway(books: Books) -> None:
    await books.customer()
    owed = await books.one_off("100")
    await books.pay("100")
    parts = [
        credit_note_pb2.CreditPart(
            destination=credit_note_pb2.CREDIT_DESTINATION_REFUND, amount="100"
        )
    ]
    refusal = await books.refused(
        books.notes.CreateCreditNote, crediting(owed.invoice_id, parts=parts)
    )
    assert (refusal.reason, refusal.facts["refundable"]) == ("REFUND_ABOVE_PAID", "0")


async def test_the_pdf_of_a_note_says_what_it_takes_back(books: Books) -> None:
    await books.tax("GB", "0.2")
    await books.customer(name="Müller #[x]")
    owed = await books.one_off("1234.5")
    note = await books.credit(owed.invoice_id, {0: "1000"}, memo="down for a day")
    request = credit_note_pb2.RenderCreditNoteRequest(credit_note_id=note.credit_note_id)
    first = await books.call(books.notes.RenderCreditNote, request)
    again = await books.call(books.notes.RenderCreditNote, request)
    assert (first.pdf, first.sha256) == (again.pdf, again.sha256)
    pages = pypdf.PdfReader(io.BytesIO(first.pdf)).pages
    text = "\n".join(page.extract_text() for page in pages)
    for words in (
        "Credit note",
        note.number,
        owed.number,
        "1,200.00 USD",
        "VAT 20%",
        "Müller #[x]",
        "Service not as promised: down for a day",
    ):
        assert words in text, words
