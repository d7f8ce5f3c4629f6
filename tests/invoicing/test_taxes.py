"""Taxes: in prices and beside them, several on a line, exemptions, reverse charge, tax ids."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.credits.domain import Credited, credit
from invoicing.customers.domain import Customer
from invoicing.invoices.domain.document import issue
from invoicing.invoices.domain.one_off import StatedLine, one_off
from invoicing.sellers.domain import Seller
from invoicing.taxes.domain.assessment import Taxable, TaxTable
from invoicing.taxes.domain.figures import spread, tax_parts
from invoicing.taxes.domain.rates import Levy, TaxRate, TaxRounding
from kernel.money import Amount, Asset, round_to_atoms
from tests.invoicing.company import Company
from tests.invoicing.support import Books, at, fixed, usage
from tollgate.invoicing.v1 import catalog_pb2, customer_pb2, invoice_pb2, tax_pb2
from tollgate.type.v1 import price_pb2

claims = settings(derandomize=True, deadline=None, database=None, max_examples=150)

START = datetime(2025, 1, 1, tzinfo=UTC)
USD = Asset("USD", 2)
BUYER = Customer("acme", "Acme", "", (), "CA", "", "UTC", "USD", False, START, region="QC")
SELLER = Seller("S")
STANDARD = tax_pb2.TAX_TREATMENT_STANDARD
EXEMPT = tax_pb2.TAX_TREATMENT_EXEMPT
REVERSE_CHARGE = tax_pb2.TAX_TREATMENT_REVERSE_CHARGE
EXPORT = tax_pb2.TAX_TREATMENT_EXPORT

RATES_OF = st.sampled_from(["0", "0.05", "0.07", "0.09975", "0.19", "0.2", "0.255"]).map(Decimal)


@st.composite
def levies(draw: st.DrawFn) -> tuple[Levy, ...]:
    plain = [Levy(f"T{n}", "standard", draw(RATES_OF)) for n in range(draw(st.integers(0, 2)))]
    if plain and draw(st.booleans()):
        plain.append(Levy("C", "standard", draw(RATES_OF), compound=True))
    return tuple(plain)


@st.composite
def documents(draw: st.DrawFn) -> tuple[list[Taxable], list[tuple[Levy, ...]]]:
    kinds = draw(st.lists(levies(), min_size=1, max_size=3))
    parts, applied = [], []
    for _ in range(draw(st.integers(1, 8))):
        atoms = draw(st.integers(-2_000, 20_000).filter(bool))
        parts.append(Taxable("standard", Amount(USD, atoms), START, draw(st.booleans())))
        applied.append(draw(st.sampled_from(kinds)))
    return parts, applied


# --- the rules ------------------------------------------------------------------------------------


@claims
@given(documents(), st.sampled_from(TaxRounding))
def test_taxes_of_lines_sum_to_the_tax_of_the_document(
    document: tuple[list[Taxable], list[tuple[Levy, ...]]], rounding: TaxRounding
) -> None:
    parts, applied = document
    taxed = tax_parts(USD, parts, applied, rounding)
    for position, tax in enumerate(taxed.taxes):
        shares = [one.atoms for own in taxed.shares for one in own if one.position == position]
        assert sum(shares) == tax.amount.atoms
    for own, applicable in zip(taxed.shares, applied, strict=True):
        assert len(own) == len(applicable)


@claims
@given(documents())
def test_a_printed_tax_is_its_rate_of_the_printed_base(
    document: tuple[list[Taxable], list[tuple[Levy, ...]]],
) -> None:
    for tax in tax_parts(USD, *document).taxes:
        exact = Fraction(tax.taxable.atoms) * Fraction(tax.rate)
        if not tax.included:
            assert tax.amount.atoms == round_to_atoms(exact, 0)
        elif len({len(one) for one in document[1]}) == 1 == len(document[1][0]):
            # A price that holds its tax is cut once: base and tax are each off by less than one.
            assert abs(tax.amount.atoms - exact) < 1


@claims
@given(documents(), st.sampled_from(TaxRounding))
def test_net_and_tax_are_the_gross_price_that_holds_it(
    document: tuple[list[Taxable], list[tuple[Levy, ...]]], rounding: TaxRounding
) -> None:
    parts = [replace(part, included=True) for part in document[0]]
    levy = Levy("VAT", "standard", Decimal("0.19"))
    taxed = tax_parts(USD, parts, [(levy,)] * len(parts), rounding)
    (tax,) = taxed.taxes
    assert (tax.taxable + tax.amount).atoms == sum(part.amount.atoms for part in parts)


@claims
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=6))
def test_rounding_by_line_is_each_line_by_itself(amounts: list[int]) -> None:
    levy = (Levy("VAT", "standard", Decimal("0.19")),)
    parts = [Taxable("standard", Amount(USD, atoms), START) for atoms in amounts]
    together = tax_parts(USD, parts, [levy] * len(parts), TaxRounding.LINE)
    alone = [tax_parts(USD, [part], [levy]).taxes[0].amount.atoms for part in parts]
    assert [own[0].atoms for own in together.shares] == alone
    assert together.taxes[0].amount.atoms == sum(alone)


@claims
@given(st.integers(-500, 500), st.lists(st.integers(-50, 50), min_size=1, max_size=6))
def test_a_spread_sums_to_what_is_spread(atoms: int, by: list[int]) -> None:
    if sum(by) == 0:
        atoms = 0
    assert sum(spread(atoms, by)) == atoms


def test_a_tax_on_taxes_is_on_what_is_printed_of_them() -> None:
    rates = (
        TaxRate("CA", "standard", "GST", Decimal("0.05"), component="a"),
        TaxRate("CA", "standard", "QST", Decimal("0.1"), region="QC", component="b", compound=True),
        TaxRate("CA", "standard", "PST", Decimal("0.07"), region="BC", component="b"),
    )
    draft = one_off(BUYER, [_stated("100")], TaxTable(BUYER, SELLER, rates), START)
    assert [(tax.name, tax.taxable.value, tax.amount.value) for tax in draft.taxes] == [
        ("GST", "100", "5"),
        ("QST", "105", "10.5"),
    ]
    assert draft.taxes[1].jurisdiction == "CA-QC"
    assert draft.total.value == "115.5"
    held = TaxTable(BUYER, replace(SELLER, prices_include_tax=True), rates)
    inside = one_off(BUYER, [_stated("115.5")], held, START)
    assert [(tax.taxable.value, tax.amount.value) for tax in inside.taxes] == [
        ("100", "5"),
        ("105", "10.5"),
    ]
    assert inside.total.value == "115.5"


@claims
@given(
    st.lists(
        st.tuples(st.integers(1, 9_999), st.booleans(), st.sampled_from(["standard", "none"])),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_crediting_by_parts_reverses_every_tax_exactly(
    lines: list[tuple[int, bool, str]], data: st.DataObject
) -> None:
    rates = (
        TaxRate("CA", "standard", "GST", Decimal("0.05"), component="a"),
        TaxRate("CA", "standard", "QST", Decimal("0.09975"), component="b", compound=True),
    )
    stated = [
        StatedLine("Work", Decimal(1), Decimal(cents) / 100, category, None, included)
        for cents, included, category in lines
    ]
    draft = one_off(BUYER, stated, TaxTable(BUYER, SELLER, rates), START)
    invoice = issue(draft, uuid4(), SELLER, 1, START, Amount(USD, 0))
    left = dict(enumerate(cents for cents, _, _ in lines))
    done: dict[int, int] = {}
    taxes: dict[int, int] = {}
    bases: dict[int, int] = {}
    total = 0
    while left:
        asked = {at_: data.draw(st.integers(1, cents)) for at_, cents in left.items()}
        note = credit(invoice, Credited(done, taxes, {}), asked)
        invoice = replace(invoice, amount_credited=invoice.amount_credited + note.total)
        for position, atoms in asked.items():
            done[position] = done.get(position, 0) + atoms
            left[position] -= atoms
        left = {position: cents for position, cents in left.items() if cents}
        for one in note.taxes:
            taxes[one.position] = taxes.get(one.position, 0) + one.tax.amount.atoms
            bases[one.position] = bases.get(one.position, 0) + one.tax.taxable.atoms
        total += note.total.atoms
    assert total == draft.total.atoms
    assert taxes == {index: tax.amount.atoms for index, tax in enumerate(draft.taxes)}
    assert bases == {index: tax.taxable.atoms for index, tax in enumerate(draft.taxes)}


def _stated(price: str) -> StatedLine:
    return StatedLine("Work", Decimal(1), Decimal(price), "standard", None)


# --- through gRPC ---------------------------------------------------------------------------------


async def _seller(books: Books, **fields: Any) -> Any:
    given = {"name": "Beispiel GmbH"} | fields
    answer = await books.call(
        books.sellers.SetSeller, invoice_pb2.SetSellerRequest(seller=invoice_pb2.Seller(**given))
    )
    return answer.seller


async def test_a_price_that_includes_its_tax_is_asked_for_as_it_is(books: Books) -> None:
    seller = await _seller(books, prices_include_tax=True)
    assert seller.prices_include_tax
    await books.tax("DE", "0.19", "USt")
    await books.customer(country="DE")
    invoice = await books.one_off("119", "11.9")
    assert (invoice.subtotal, invoice.total, invoice.amount_due) == ("130.9", "130.9", "130.9")
    (tax,) = invoice.taxes
    assert (tax.taxable, tax.amount, tax.included) == ("110", "20.9", True)
    assert (invoice.tax_total, invoice.tax_included) == ("20.9", "20.9")
    assert [[share.amount for share in line.taxes] for line in invoice.lines] == [["19"], ["1.9"]]
    note = await books.credit(invoice.invoice_id, {0: "59.5"})
    assert (note.subtotal, note.total, note.tax_included) == ("59.5", "59.5", "9.5")
    assert (note.taxes[0].taxable, note.taxes[0].amount) == ("50", "9.5")


async def test_a_line_says_for_itself_whether_its_price_includes_tax(books: Books) -> None:
    await books.tax("DE", "0.19", "USt")
    await books.customer(country="DE")
    answer = await books.call(
        books.invoices.CreateInvoice,
        invoice_pb2.CreateInvoiceRequest(
            customer_id="acme",
            lines=[
                invoice_pb2.OneOffLine(description="a", unit_price="119", tax_included=True),
                invoice_pb2.OneOffLine(description="b", unit_price="100"),
            ],
        ),
    )
    invoice = answer.invoice
    assert (invoice.subtotal, invoice.total) == ("219", "238")
    assert sorted((tax.included, tax.amount) for tax in invoice.taxes) == [
        (False, "19"),
        (True, "19"),
    ]


async def test_regions_have_taxes_of_their_own(books: Books) -> None:
    await books.tax("CA", "0.05", "GST", component="gst")
    await books.tax("CA", "0.09975", "QST", region="QC", component="qst")
    await books.tax("CA", "0.08", "HST", region="ON", component="hst")
    for name, region in (("m", "QC"), ("t", "ON"), ("v", "")):
        await books.customer(name, country="CA", region=region)
    found = {}
    for name in ("m", "t", "v"):
        invoice = await books.one_off("100", customer_id=name)
        found[name] = [(tax.description, tax.jurisdiction, tax.amount) for tax in invoice.taxes]
    assert found == {
        "m": [("GST 5%", "CA", "5"), ("QST 9.975%", "CA-QC", "9.98")],
        "t": [("GST 5%", "CA", "5"), ("HST 8%", "CA-ON", "8")],
        "v": [("GST 5%", "CA", "5")],
    }
    page = await books.call(books.taxes.ListTaxRates, invoice_pb2.ListTaxRatesRequest(page_size=2))
    rest = await books.call(
        books.taxes.ListTaxRates,
        invoice_pb2.ListTaxRatesRequest(page_token=page.next_page_token),
    )
    assert [rate.name for rate in (*page.tax_rates, *rest.tax_rates)] == ["GST", "HST", "QST"]


async def test_an_exempt_product_says_why(books: Books) -> None:
    await books.call(
        books.taxes.SetTaxRate,
        invoice_pb2.SetTaxRateRequest(
            tax_rate=invoice_pb2.TaxRate(
                country="DE",
                category="teaching",
                name="USt",
                rate="0",
                treatment=EXEMPT,
                reason="§ 4 Nr. 21 UStG",
            )
        ),
    )
    await books.customer(country="DE")
    answer = await books.call(
        books.invoices.CreateInvoice,
        invoice_pb2.CreateInvoiceRequest(
            customer_id="acme",
            lines=[
                invoice_pb2.OneOffLine(
                    description="Course", unit_price="100", tax_category="teaching"
                )
            ],
        ),
    )
    (tax,) = answer.invoice.taxes
    assert (tax.amount, tax.taxable, tax.treatment) == ("0", "100", EXEMPT)
    assert tax.reason == "§ 4 Nr. 21 UStG"
    refusal = await books.refused(
        books.taxes.SetTaxRate,
        invoice_pb2.SetTaxRateRequest(
            tax_rate=invoice_pb2.TaxRate(country="DE", name="USt", rate="0.1", treatment=EXEMPT)
        ),
    )
    assert (refusal.reason, refusal.facts["field"]) == ("INVALID_VALUE", "tax_rate.treatment")


async def test_an_exemption_holds_while_its_certificate_does(books: Books) -> None:
    await books.tax("US", "0.08", "Sales tax")
    await books.customer(country="US")
    made = await books.call(
        books.taxes.CreateTaxExemption,
        tax_pb2.CreateTaxExemptionRequest(
            exemption=tax_pb2.TaxExemption(
                customer_id="acme",
                country="US",
                reason="Non-profit organisation",
                certificate="NP-1234",
                start_time=at(2020, 1, 1),
            )
        ),
    )
    invoice = await books.one_off("100")
    (tax,) = invoice.taxes
    assert (invoice.total, tax.treatment) == ("100", EXEMPT)
    assert tax.reason == "Non-profit organisation, certificate NP-1234"
    ended = await books.call(
        books.taxes.EndTaxExemption,
        tax_pb2.EndTaxExemptionRequest(exemption_id=made.exemption.exemption_id),
    )
    assert ended.exemption.HasField("end_time")
    assert (await books.one_off("100")).total == "108"
    listed = await books.call(
        books.taxes.ListTaxExemptions, tax_pb2.ListTaxExemptionsRequest(customer_id="acme")
    )
    assert [one.certificate for one in listed.exemptions] == ["NP-1234"]
    refusal = await books.refused(
        books.taxes.EndTaxExemption,
        tax_pb2.EndTaxExemptionRequest(
            exemption_id=made.exemption.exemption_id, end_time=at(2019, 1, 1)
        ),
    )
    assert (refusal.reason, refusal.facts["field"]) == ("INVALID_VALUE", "end_time")
    unknown = await books.refused(
        books.taxes.CreateTaxExemption,
        tax_pb2.CreateTaxExemptionRequest(
            exemption=tax_pb2.TaxExemption(customer_id="nobody", reason="x")
        ),
    )
    assert unknown.reason == "NOT_FOUND"


@pytest.mark.parametrize(
    ("country", "tax_id", "treatment", "total"),
    [
        ("FR", "FR40303265045", REVERSE_CHARGE, "100"),
        ("FR", "", STANDARD, "120"),
        ("FR", "FR40303265046", STANDARD, "120"),
        ("FR", "DE136695976", STANDARD, "120"),
        ("DE", "DE136695976", STANDARD, "119"),
        ("GR", "EL094259216", REVERSE_CHARGE, "100"),
        ("US", "", EXPORT, "100"),
    ],
)
async def test_between_businesses_of_two_member_states_the_buyer_owes_the_tax(
    books: Books, country: str, tax_id: str, treatment: Any, total: str
) -> None:
    await _seller(books, country="DE", tax_id="DE136695976")
    await books.tax("DE", "0.19", "USt")
    await books.tax("FR", "0.2", "TVA")
    await books.customer(country=country, tax_id=tax_id)
    invoice = await books.one_off("100")
    assert (invoice.total, invoice.taxes[0].treatment) == (total, treatment)
    assert bool(invoice.taxes[0].reason) == (treatment in (REVERSE_CHARGE, EXPORT))


@pytest.mark.parametrize(
    ("kind", "text", "compact"),
    [
        ("EU_VAT", "DE 136.695.976", "DE136695976"),
        ("GB_VAT", "980 7806 84", "GB980780684"),
        ("US_EIN", "04-2103594", "042103594"),
        ("AU_ABN", "51 824 753 556", "51824753556"),
        ("IN_GSTIN", "27AAPFU0939F1ZV", "27AAPFU0939F1ZV"),
        ("CH_VAT", "CHE-107.787.577 IVA", "CHE107787577IVA"),
        ("NO_VAT", "NO 995 525 828 MVA", "995525828MVA"),
    ],
)
async def test_a_tax_id_of_a_stated_kind_is_kept_compact(
    books: Books, kind: str, text: str, compact: str
) -> None:
    number = tax_pb2.TaxIdType.Value(f"TAX_ID_TYPE_{kind}")
    customer = await books.customer(tax_id=text, tax_id_type=number)
    assert (customer.tax_id, customer.tax_id_type) == (compact, number)
    checked = await books.call(
        books.taxes.CheckTaxId, tax_pb2.CheckTaxIdRequest(tax_id=text, tax_id_type=number)
    )
    assert (checked.valid, checked.compact, checked.problem) == (True, compact, "")
    wrong = compact[:-1] + ("0" if compact[-1] != "0" else "1")
    refused = await books.call(
        books.taxes.CheckTaxId, tax_pb2.CheckTaxIdRequest(tax_id=wrong, tax_id_type=number)
    )
    if kind != "US_EIN":  # which has no check digits
        assert (refused.valid, bool(refused.problem)) == (False, True)


async def test_a_wrong_tax_id_is_refused_and_says_why(books: Books) -> None:
    wrong = customer_pb2.Customer(
        customer_id="acme",
        name="Acme",
        country="DE",
        currency="EUR",
        tax_id="DE136695977",
        tax_id_type=tax_pb2.TAX_ID_TYPE_EU_VAT,
    )
    refusal = await books.refused(
        books.customers.CreateCustomer, customer_pb2.CreateCustomerRequest(customer=wrong)
    )
    assert refusal.reason == "TAX_ID_INVALID"
    assert refusal.facts["field"] == "customer.tax_id"
    assert refusal.facts["why"] == "its check digits do not fit"
    assert (
        await books.refused(
            books.customers.GetCustomer, customer_pb2.GetCustomerRequest(customer_id="acme")
        )
    ).reason == "NOT_FOUND"


async def test_a_customer_is_stated_anew_and_issued_documents_stay(books: Books) -> None:
    await books.tax("DE", "0.19", "USt")
    await books.tax("FR", "0.2", "TVA")
    customer = await books.customer(country="DE")
    before = await books.one_off("100")
    customer.country, customer.language = "FR", "fr"
    answer = await books.call(
        books.customers.UpdateCustomer, customer_pb2.UpdateCustomerRequest(customer=customer)
    )
    assert (answer.customer.country, answer.customer.language) == ("FR", "fr")
    assert (await books.one_off("100")).total == "120"
    assert (await books.invoice(before.invoice_id)).total == "119"
    customer.currency = "EUR"
    refusal = await books.refused(
        books.customers.UpdateCustomer, customer_pb2.UpdateCustomerRequest(customer=customer)
    )
    assert refusal.facts["field"] == "customer.currency"


async def test_when_prepaid_value_is_taxed_is_stated_once(books: Books) -> None:
    def stating(timing: Any, asset: str = "USD") -> tax_pb2.SetPrepaidTaxRequest:
        return tax_pb2.SetPrepaidTaxRequest(
            prepaid_tax=tax_pb2.PrepaidTax(asset=asset, timing=timing)
        )

    later = tax_pb2.PREPAID_TAX_TIMING_AT_REDEMPTION
    at_once = tax_pb2.PREPAID_TAX_TIMING_AT_PURCHASE
    for _ in range(2):
        await books.call(books.taxes.SetPrepaidTax, stating(later))
    refusal = await books.refused(books.taxes.SetPrepaidTax, stating(at_once))
    assert (refusal.reason, refusal.facts["timing"]) == ("PREPAID_TAX_FIXED", "AT_REDEMPTION")
    unit = await books.refused(books.taxes.SetPrepaidTax, stating(later, "TOKENS"))
    assert unit.facts["field"] == "prepaid_tax.asset"
    listed = await books.call(books.taxes.ListPrepaidTaxes, tax_pb2.ListPrepaidTaxesRequest())
    assert [(one.asset, one.timing) for one in listed.prepaid_taxes] == [("USD", later)]


async def test_prepaid_value_taxed_in_use_holds_its_tax_on_the_statement(
    company: Company,
) -> None:
    await company.call(
        company.taxes.SetPrepaidTax,
        tax_pb2.SetPrepaidTaxRequest(
            prepaid_tax=tax_pb2.PrepaidTax(
                asset="USD", timing=tax_pb2.PREPAID_TAX_TIMING_AT_REDEMPTION
            )
        ),
    )
    await company.tax("GB", "0.2")
    await company.asset("USD", 9)
    await company.meter()
    await company.customer()
    unit = price_pb2.Price(asset="USD", unit=price_pb2.UnitModel(unit_price="0.5"))
    await company.publish(
        usage(unit, meter="tokens", settlement=catalog_pb2.SETTLEMENT_WALLET), fixed("10")
    )
    await company.wallet("USD", "100")
    await company.subscribe()
    await company.use(at(2025, 1, 1), tokens="48")
    await company.advance(at(2025, 3, 1))
    await company.bill(collected=False)
    (statement,) = await company.list_invoices()
    drawn = [tax for tax in statement.taxes if tax.prepaid]
    assert [(tax.taxable, tax.amount, tax.included) for tax in drawn] == [("20", "4", True)]
    due = [tax for tax in statement.taxes if not tax.prepaid]
    assert sum(Decimal(tax.amount) for tax in due) == Decimal(statement.subtotal) * Decimal("0.2")
    assert Decimal(statement.total) == Decimal(statement.subtotal) * Decimal("1.2")
