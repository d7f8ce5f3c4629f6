"""Invoices: what falls due, once; what it costs; what of it wallets paid; taxes and totals."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime

import asyncpg
import pypdf
import pytest

from tests.invoicing.company import Company
from tests.invoicing.support import at, fixed, moment, seat, usage
from tests.support.databases import FreshDatabase
from tollgate.invoicing.v1 import catalog_pb2, invoice_pb2, subscription_pb2
from tollgate.type.v1 import price_pb2
from tollgate.wallet.v1 import wallet_pb2

GRADUATED = price_pb2.Price(
    asset="USD",
    graduated=price_pb2.GraduatedModel(
        tiers=[
            price_pb2.Tier(up_to="1000", unit_price="0.1"),
            price_pb2.Tier(up_to="10000", unit_price="0.05"),
            price_pb2.Tier(unit_price="0.01"),
        ]
    ),
)
WALLET = catalog_pb2.SETTLEMENT_WALLET
SEATS = [subscription_pb2.SubscriptionItem(price_code="seat", quantity="5")]
JANUARY = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC))
FEBRUARY = (datetime(2025, 2, 1, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC))


def period_of(line: invoice_pb2.InvoiceLine) -> tuple[datetime, datetime]:
    return moment(line.service_period.start_time), moment(line.service_period.end_time)


async def test_seats_are_billed_in_advance_and_usage_when_it_is_over(company: Company) -> None:
    await company.meter()
    await company.customer()
    await company.payment_method()
    await company.publish(seat("20"), usage(GRADUATED, meter="tokens"))
    await company.subscribe(items=SEATS)
    first = await company.bill()
    assert (first.customers, first.customers_done, first.invoices) == (1, 1, 1)
    (opening,) = await company.list_invoices()
    assert opening.state == invoice_pb2.INVOICE_STATE_PAID
    assert [line.kind for line in opening.lines] == [invoice_pb2.LINE_KIND_SEAT]
    assert (opening.total, opening.amount_due) == ("100", "0")
    assert opening.number == "INV-2025-000001"

    for day, tokens in ((2, "900"), (10, "200"), (31, "13900")):
        await company.advance(at(2025, 1, day, 12))
        await company.use(at(2025, 1, day, 12), tokens=tokens)
    await company.advance(at(2025, 2, 1))
    await company.bill()
    closing, _ = await company.list_invoices()
    lines = [(line.kind, line.amount, period_of(line)) for line in closing.lines]
    assert lines == [
        (invoice_pb2.LINE_KIND_USAGE, "600", JANUARY),
        (invoice_pb2.LINE_KIND_SEAT, "100", FEBRUARY),
    ]
    assert (moment(closing.period.start_time), moment(closing.period.end_time)) == JANUARY
    assert [(part.description, part.quantity, part.cost) for part in closing.lines[0].details] == [
        ("first 1,000", "1000", "100"),
        ("up to 10,000", "9000", "450"),
        ("above 10,000", "5000", "50"),
    ]
    assert closing.total == "700"
    assert closing.payment_id


async def test_a_period_is_billed_once_however_many_runs_ask(
    company: Company, database: FreshDatabase
) -> None:
    await company.publish(fixed("10"))
    for number in range(12):
        await company.customer(f"c{number}")
        await company.subscribe(f"c{number}")
    runs = await asyncio.gather(*(company.start_run() for _ in range(4)))
    last = await company.bill(collected=False)
    assert last.state == invoice_pb2.BILLING_RUN_STATE_DONE
    invoices = await company.list_invoices()
    assert sorted(one.number for one in invoices) == [
        f"INV-2025-{number:06d}" for number in range(1, 13)
    ]
    assert len({one.customer_id for one in invoices}) == 12
    total = 0
    for run_id in runs:
        total += (await company.run(run_id)).invoices
    assert total + last.invoices == 12
    # Storage would not have it otherwise.
    async with database.open("invoicing") as pool:
        with pytest.raises(asyncpg.UniqueViolationError, match="a_service_period_is_billed_once"):
            async with pool.transaction(company.tenant_id) as tx:
                await tx.execute(
                    "INSERT INTO billed_source SELECT tenant_id, subscription_item_id, kind,"
                    " service_start_time, service_end_time, 1, NULL FROM billed_source"
                )


async def test_prepaid_usage_is_listed_and_asks_for_nothing(company: Company) -> None:
    await company.asset("USD", 9)
    await company.asset("token", 0, wallet_pb2.ASSET_KIND_UNIT)
    await company.meter()
    await company.meter("images")
    await company.customer()
    native = price_pb2.Price(asset="token", unit=price_pb2.UnitModel(unit_price="3"))
    fine = price_pb2.Price(asset="USD", unit=price_pb2.UnitModel(unit_price="0.000123456"))
    await company.publish(
        usage(fine, meter="tokens", settlement=WALLET),
        usage(native, meter="images", code="images", settlement=WALLET),
    )
    await company.wallet("USD", "10")
    await company.wallet("token", "1000")
    await company.subscribe()
    await company.use(at(2025, 1, 1), tokens="10000")
    await company.use(at(2025, 1, 1), tokens="7")
    await company.use(at(2025, 1, 1), images="5")
    await company.advance(at(2025, 2, 1))
    run = await company.bill()
    assert (run.invoices, run.invoices_collected) == (1, 1)
    (statement,) = await company.list_invoices()
    assert statement.state == invoice_pb2.INVOICE_STATE_PAID
    assert (statement.total, statement.amount_due, statement.subtotal) == ("0", "0", "0")
    dollars, tokens = statement.lines
    # 10,007 × 0.000123456 = 1.235424192, debited to the last atom of nine digits.
    assert dollars.exact_cost == "1.235424192"
    assert (dollars.cost, dollars.wallet_amount, dollars.amount) == ("1.24", "1.24", "0")
    assert (tokens.asset, tokens.cost, tokens.wallet_amount) == ("token", "15", "15")
    assert tokens.amount == "0"
    assert await company.available() == {"USD": "8.764575808", "token": "985"}


async def test_tax_is_rounded_once_for_each_rate_of_the_time_of_supply(company: Company) -> None:
    await company.tax("GB", "0.2")
    await company.tax("GB", "0.175", start_time=at(2025, 2, 1))
    await company.customer(country="GB")
    await company.customer("elsewhere", country="US")
    await company.publish(fixed("0.06", code="a"), fixed("0.06", code="b"), fixed("0.06", code="c"))
    await company.subscribe()
    await company.subscribe("elsewhere")
    await company.bill(collected=False)
    (british,) = await company.list_invoices("acme")
    # Each line alone would round to 0.01 and make 0.03; the document's tax is that of 0.18.
    assert [(tax.description, tax.taxable, tax.amount) for tax in british.taxes] == [
        ("VAT 20%", "0.18", "0.04")
    ]
    assert (british.subtotal, british.total) == ("0.18", "0.22")
    (american,) = await company.list_invoices("elsewhere")
    assert (list(american.taxes), american.total) == ([], "0.18")
    await company.advance(at(2025, 2, 1))
    await company.bill(collected=False)
    later = (await company.list_invoices("acme"))[0]
    assert [tax.rate for tax in later.taxes] == ["0.175"]


async def test_a_preview_is_the_invoice_to_the_atom(company: Company) -> None:
    await company.tax("GB", "0.2")
    await company.meter()
    await company.customer()
    minimum = price_pb2.Price(
        asset="USD", unit=price_pb2.UnitModel(unit_price="0.003"), minimum="85"
    )
    await company.publish(fixed("49"), seat("20"), usage(minimum, meter="tokens"))
    await company.subscribe(items=SEATS)
    await company.bill(collected=False)
    await company.use(at(2025, 1, 1), tokens="1234")
    await company.advance(at(2025, 1, 20))
    foreseen = await company.preview()
    assert foreseen.state == invoice_pb2.INVOICE_STATE_DRAFT
    assert not foreseen.number
    await company.advance(at(2025, 2, 1))
    await company.bill(collected=False)
    drawn = (await company.list_invoices())[0]
    for field in ("lines", "taxes"):
        assert list(getattr(foreseen, field)) == list(getattr(drawn, field))
    assert (foreseen.subtotal, foreseen.total) == (drawn.subtotal, drawn.total)
    # 3.702 is 3.70, and the minimum's own line makes the promised 85.00 of it.
    amounts = {line.kind: line.amount for line in drawn.lines}
    assert amounts[invoice_pb2.LINE_KIND_USAGE] == "3.7"
    assert amounts[invoice_pb2.LINE_KIND_MINIMUM] == "81.3"


async def test_a_stub_is_charged_by_its_seconds(company: Company) -> None:
    await company.customer()
    await company.publish(fixed("31"), seat("31"))
    await company.subscribe(
        items=SEATS,
        start_time=at(2025, 1, 1),
        anchor_mode=subscription_pb2.ANCHOR_MODE_CALENDAR,
    )
    await company.customer("later")
    await company.advance(at(2025, 1, 22))
    await company.subscribe("later", items=SEATS, anchor_mode=subscription_pb2.ANCHOR_MODE_CALENDAR)
    await company.bill(collected=False)
    (whole,) = await company.list_invoices("acme")
    assert [line.amount for line in whole.lines] == ["31", "155"]
    (stub,) = await company.list_invoices("later")
    assert [line.amount for line in stub.lines] == ["10", "50"]
    assert period_of(stub.lines[0])[1] == JANUARY[1]


async def test_what_was_paid_ahead_comes_back_when_a_subscription_ends_at_once(
    company: Company,
) -> None:
    await company.tax("GB", "0.2")
    await company.customer()
    await company.payment_method()
    await company.publish(fixed("31"), code="a")
    await company.publish(fixed("6.2"), code="b")
    subscription = await company.subscribe(plan_code="a")
    await company.bill()
    await company.advance(at(2025, 1, 22))
    await company.cancel(subscription.subscription_id, immediately=True)
    await company.bill()
    back = (await company.list_invoices())[0]
    (line,) = back.lines
    assert (line.kind, line.amount) == (invoice_pb2.LINE_KIND_DEDUCTION, "-10")
    assert (back.subtotal, back.total, back.amount_due) == ("-10", "0", "0")
    assert (back.balance_given, back.state) == ("12", invoice_pb2.INVOICE_STATE_PAID)
    # The next document takes it from the balance.
    await company.subscribe(plan_code="b", start_time=at(2025, 1, 22))
    await company.bill()
    # Of one instant, so that the newest is told by its number.
    next_one = max(await company.list_invoices(), key=lambda invoice: invoice.number)
    assert (next_one.total, next_one.balance_applied, next_one.amount_due) == ("7.44", "7.44", "0")
    assert not next_one.payment_id
    assert (await company.bill()).invoices == 0


async def test_a_run_is_for_what_is_past_and_waits_for_what_cannot_be_asked(
    company: Company,
) -> None:
    refusal = await company.refused(
        company.invoices.StartBillingRun,
        invoice_pb2.StartBillingRunRequest(as_of=at(2025, 6, 1)),
    )
    assert refusal.facts["field"] == "as_of"
    refusal = await company.refused(
        company.invoices.GetBillingRun,
        invoice_pb2.GetBillingRunRequest(run_id="00000000-0000-7000-8000-000000000000"),
    )
    assert refusal.reason == "NOT_FOUND"


async def test_nothing_of_an_issued_invoice_can_be_changed(
    company: Company, database: FreshDatabase
) -> None:
    await company.customer()
    await company.publish(fixed("10"))
    await company.subscribe()
    await company.bill(collected=False)
    async with database.open("invoicing") as pool:
        for change in (
            "UPDATE invoice SET total = 1",
            "UPDATE invoice SET number = 'X'",
            "UPDATE invoice_line SET amount = 1",
            "DELETE FROM invoice_line",
            "UPDATE invoice_tax SET amount = 1",
            "DELETE FROM invoice",
            "UPDATE billed_source SET amount = 1",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with pool.transaction(company.tenant_id) as tx:
                    await tx.execute(change)


async def test_the_pdf_says_what_the_invoice_says_in_the_same_bytes_every_time(
    company: Company,
) -> None:
    await company.seller(number_prefix="ACME-EU", net_terms_days=30)
    await company.tax("GB", "0.2")
    await company.customer(name="Müller & Söhne *GmbH* #[x] <b>", address=["1 High Street"])
    await company.publish(fixed("1234.5"), seat("20"))
    await company.subscribe(items=SEATS)
    await company.bill(collected=False)
    (invoice,) = await company.list_invoices()
    assert invoice.number == "ACME-EU-2025-000001"
    request = invoice_pb2.RenderInvoiceRequest(invoice_id=invoice.invoice_id)
    first = await company.call(company.invoices.RenderInvoice, request)
    again = await company.call(company.invoices.RenderInvoice, request)
    assert (first.pdf, first.sha256) == (again.pdf, again.sha256)
    reader = pypdf.PdfReader(io.BytesIO(first.pdf))
    text = "\n".join(page.extract_text() for page in reader.pages)
    for words in (
        invoice.number,
        "1,601.40 USD",
        "VAT 20%",
        "266.90",
        "Example Inference Ltd",
        "Müller & Söhne *GmbH* #[x] <b>",
        "31 January 2025",
        "Page 1 of",
    ):
        assert words in text, words
    assert invoice.total == "1601.4"
    fonts = {
        font.get_object()["/BaseFont"]
        for page in reader.pages
        for font in page["/Resources"]["/Font"].values()
    }
    assert fonts
    assert all("+" in str(font) for font in fonts)  # subsets inside the file


async def test_a_plan_that_names_an_unknown_meter_is_not_published(company: Company) -> None:
    await company.meter()
    draft = await company.draft(
        usage(GRADUATED, meter="tokens"), usage(GRADUATED, meter="missing", code="other")
    )
    refusal = await company.refused(
        company.catalog.PublishPlan,
        catalog_pb2.PublishPlanRequest(code="pro", version=draft.version),
    )
    assert refusal.reason == "INVALID_VALUE"
    assert refusal.facts["field"] == "prices[other].meter"
    assert "missing" in refusal.message


async def test_a_price_by_the_million_is_told_in_single_units(company: Company) -> None:
    await company.meter()
    await company.customer()
    by_million = price_pb2.Price(
        asset="USD",
        divide_by="1000000",
        graduated=price_pb2.GraduatedModel(
            tiers=[
                price_pb2.Tier(up_to="5", unit_price="0.5"),
                price_pb2.Tier(unit_price="0.25"),
            ]
        ),
    )
    await company.publish(usage(by_million, meter="tokens"))
    await company.subscribe()
    await company.use(at(2025, 1, 1), tokens="7000001")
    await company.advance(at(2025, 2, 1))
    await company.bill(collected=False)
    (line,) = (await company.list_invoices())[0].lines
    assert (line.quantity, line.exact_cost, line.amount) == ("7000001", "3.00000025", "3")
    parts = [
        (part.description, part.quantity, part.unit_price, part.quoted_per, part.cost)
        for part in line.details
    ]
    assert parts == [
        ("first 5,000,000", "5000000", "0.0000005", "1000000", "2.5"),
        ("above 5,000,000", "2000001", "0.00000025", "1000000", "0.50000025"),
    ]
