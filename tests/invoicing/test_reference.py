"""What is looked up while billing: customers, the seller, tax rates."""

from __future__ import annotations

import pytest

from tests.invoicing.support import Books, at
from tollgate.invoicing.v1 import customer_pb2, invoice_pb2


async def test_customers_are_kept_under_the_callers_own_ids(books: Books) -> None:
    made = await books.customer(
        "org:42.eu",
        name="Müller",
        address=["Weg 1", "Wien"],
        country="AT",
        time_zone="Europe/Vienna",
    )
    found = await books.call(
        books.customers.GetCustomer, customer_pb2.GetCustomerRequest(customer_id="org:42.eu")
    )
    assert found.customer == made
    assert list(found.customer.address) == ["Weg 1", "Wien"]
    request = customer_pb2.CreateCustomerRequest(customer=made)
    assert (await books.refused(books.customers.CreateCustomer, request)).reason == "ALREADY_EXISTS"
    for number in range(5):
        await books.customer(f"c{number}")
    seen, token = [], ""
    while True:
        page = await books.call(
            books.customers.ListCustomers,
            customer_pb2.ListCustomersRequest(page_size=2, page_token=token),
        )
        seen += [customer.customer_id for customer in page.customers]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["c0", "c1", "c2", "c3", "c4", "org:42.eu"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "customer.name"),
        ({"country": "Austria"}, "customer.country"),
        ({"currency": "BTC"}, "customer.currency"),
        ({"time_zone": "Mars/Olympus"}, "customer.time_zone"),
        ({"address": ["x"] * 7}, "customer.address"),
        ({"customer_id": "a b"}, "customer.customer_id"),
    ],
)
async def test_a_customer_that_cannot_be_billed_is_refused(
    books: Books, fields: dict[str, object], field: str
) -> None:
    given = {"customer_id": "acme", "name": "Acme", "country": "GB", "currency": "USD"} | fields
    refusal = await books.refused(
        books.customers.CreateCustomer,
        customer_pb2.CreateCustomerRequest(customer=customer_pb2.Customer(**given)),
    )
    assert refusal.reason == "INVALID_VALUE"
    assert refusal.facts["field"] == field


async def test_the_seller_is_stated_once_and_again(books: Books) -> None:
    refusal = await books.refused(books.sellers.GetSeller, invoice_pb2.GetSellerRequest())
    assert refusal.reason == "NOT_FOUND"
    for name, days in (("First Ltd", 30), ("Second Ltd", 0)):
        await books.call(
            books.sellers.SetSeller,
            invoice_pb2.SetSellerRequest(seller=invoice_pb2.Seller(name=name, net_terms_days=days)),
        )
    answer = await books.call(books.sellers.GetSeller, invoice_pb2.GetSellerRequest())
    assert (answer.seller.name, answer.seller.net_terms_days) == ("Second Ltd", 0)
    assert answer.seller.number_prefix == "INV"
    refusal = await books.refused(
        books.sellers.SetSeller,
        invoice_pb2.SetSellerRequest(seller=invoice_pb2.Seller(name="X", number_prefix="a b")),
    )
    assert refusal.facts["field"] == "seller.number_prefix"


async def test_tax_rates_are_listed_by_country_category_and_date(books: Books) -> None:
    stated = (
        ("GB", "standard", "0.175", at(2010, 1, 1)),
        ("GB", "standard", "0.2", at(2011, 1, 4)),
        ("GB", "reduced", "0.05", None),
        ("DE", "standard", "0.19", None),
    )
    for country, category, rate, start in stated:
        await books.call(
            books.taxes.SetTaxRate,
            invoice_pb2.SetTaxRateRequest(
                tax_rate=invoice_pb2.TaxRate(
                    country=country, category=category, name="VAT", rate=rate, start_time=start
                )
            ),
        )
    seen, token = [], ""
    while True:
        page = await books.call(
            books.taxes.ListTaxRates,
            invoice_pb2.ListTaxRatesRequest(page_size=3, page_token=token),
        )
        seen += [(rate.country, rate.category, rate.rate) for rate in page.tax_rates]
        token = page.next_page_token
        if not token:
            break
    assert seen == [
        ("DE", "standard", "0.19"),
        ("GB", "reduced", "0.05"),
        ("GB", "standard", "0.175"),
        ("GB", "standard", "0.2"),
    ]
    refusal = await books.refused(
        books.taxes.SetTaxRate,
        invoice_pb2.SetTaxRateRequest(
            tax_rate=invoice_pb2.TaxRate(country="GB", name="VAT", rate="20")
        ),
    )
    assert refusal.facts["field"] == "tax_rate.rate"
