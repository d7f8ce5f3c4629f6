"""Coupons: what they take off, in which order, how often, and no oftener."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import asyncpg
import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.catalog.domain import PlanPrice, PriceKind, Settlement, Timing
from invoicing.coupons.domain import Coupon, Duration, HeldCoupon
from invoicing.customers.domain import Customer
from invoicing.documents.operations import compile_pdf
from invoicing.invoices.domain.charge import Charge
from invoicing.invoices.domain.document import Draft, draft_of, issue
from invoicing.invoices.domain.line import Consumption
from invoicing.sellers.domain import Seller
from invoicing.subscriptions.domain import Item, Subscription
from invoicing.taxes.domain.assessment import TaxTable
from invoicing.taxes.domain.rates import TaxRate
from kernel.money import Amount, Asset
from kernel.period import Every, Period, Unit
from rating.state import State
from tests.invoicing.support import Books, fixed
from tests.support.databases import FreshDatabase
from tests.support.waiting import until
from tollgate.invoicing.v1 import coupon_pb2, invoice_pb2

claims = settings(derandomize=True, deadline=None, database=None, max_examples=150)

START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)
USD = Asset("USD", 2)
BUYER = Customer("acme", "Acme", "", (), "GB", "", "UTC", "USD", False, START)
VAT = TaxTable(BUYER, Seller("S"), (TaxRate("GB", "standard", "VAT", Decimal("0.2")),))
ONCE, FOREVER = coupon_pb2.COUPON_DURATION_ONCE, coupon_pb2.COUPON_DURATION_FOREVER
REPEATING = coupon_pb2.COUPON_DURATION_REPEATING


# --- the rules ------------------------------------------------------------------------------------


def held(code: str, **fields: Any) -> HeldCoupon:
    """A coupon that a customer has and no document had yet."""
    cents = fields.pop("cents", None)
    values: dict[str, Any] = {
        "name": code,
        "rate": None,
        "amount": None if cents is None else Amount(USD, cents),
        "duration": Duration.FOREVER,
        "documents": 0,
        "plan_codes": (),
        "price_codes": (),
        "redemptions_max": None,
        "redemptions": 0,
        "end_time": None,
        "keep_unused": False,
        "archived": False,
        "create_time": START,
    }
    return HeldCoupon(Coupon(code=code, **values | fields), 0, 0, START)


def drawn(
    prices: dict[str, tuple[dict[str, Any], int]], coupons: list[HeldCoupon], plan: str = "pro"
) -> Draft:
    """The document of usage prices, each with its quantity."""
    items = tuple(
        Item(
            UUID(int=number),
            PlanPrice(
                price_id=UUID(int=100 + number),
                code=code,
                description=code,
                kind=PriceKind.USAGE,
                meter="tokens",
                dimensions={},
                document={"asset": "USD", **pricing},
                settlement=Settlement.INVOICE,
                timing=Timing.ARREARS,
                tax_category="standard",
            ),
        )
        for number, (code, (pricing, _)) in enumerate(prices.items(), start=1)
    )
    month = Period(START, END)
    subscription = Subscription(
        subscription_id=UUID(int=9),
        customer_id="acme",
        plan_code=plan,
        plan_version=1,
        items=items,
        start_time=START,
        end_time=None,
        anchor_time=START,
        every=Every(1, Unit.MONTH),
        time_zone="UTC",
        create_time=START,
        bill_from_time=START,
        next_bill_time=END,
    )
    charges = [Charge(subscription, item, month, month) for item in items]
    used = {
        charge.key: Consumption(State(quantity=quantity, event_count=1), Fraction(0), USD)
        for charge, (_, quantity) in zip(charges, prices.values(), strict=True)
    }
    return draft_of(BUYER, charges, used, [], VAT, coupons)


def test_the_worked_example_of_the_order_of_application() -> None:
    """1,000 units at 0.10, 100 free, 10 off, 10 %, minimum 85, 20 off the document, tax 20 %.

    The last 20 come from a coupon here, as they may come from a promotional grant: both are taken
    off the taxable amount.
    """
    price = {
        "unit": {"unit_price": "0.1"},
        "included": {"quantity": "100"},
        "minimum": "85",
    }
    on_price = {"price_codes": ("api",)}
    steps = [
        ([], ["90"], "108"),
        ([held("ten", cents=1_000, **on_price)], ["80", "5"], "102"),
        (
            [held("share", rate=Decimal("0.1"), **on_price), held("ten", cents=1_000, **on_price)],
            ["72", "13"],
            "102",
        ),
    ]
    for coupons, amounts, total in steps:
        draft = drawn({"api": (price, 1_000)}, coupons)
        assert [line.amount.value for line in draft.lines] == amounts
        assert draft.total.value == total
    last = drawn({"api": (price, 1_000)}, [*steps[-1][0], held("off", cents=2_000)])
    assert [line.amount.value for line in last.lines] == ["72", "13"]
    assert (last.subtotal.value, last.discount_total.value) == ("85", "20")
    assert [(tax.taxable.value, tax.amount.value) for tax in last.taxes] == [("65", "13")]
    assert last.total.value == "78"
    assert [source.amount for source in last.sources] == [6_500]
    names = [detail.description for detail in last.lines[0].details]
    assert names[-2:] == ["ten", "share"]


def test_the_pdf_says_what_a_coupon_took_off() -> None:
    price = {"unit": {"unit_price": "100"}}
    draft = drawn({"api": (price, 1)}, [held("SPRING", name="Spring offer", cents=2_000)])
    invoice = issue(draft, UUID(int=7), Seller("S"), 1, END, Amount(USD, 0))
    pages = pypdf.PdfReader(io.BytesIO(compile_pdf(invoice).content)).pages
    text = "\n".join(page.extract_text() for page in pages)
    for words in ("Spring offer", "−20.00", "VAT 20% on 80.00", "96.00 USD"):
        assert words in text, words


def test_each_coupon_takes_from_what_the_ones_before_it_left() -> None:
    price = {"unit": {"unit_price": "200"}}
    shares = [held("ten", rate=Decimal("0.1")), held("thirty", rate=Decimal("0.3"))]
    draft = drawn({"api": (price, 1)}, shares)
    assert [one.amount.value for one in draft.discounts] == ["20", "54"]
    # Of a plan before of the document, amounts before shares, and only for its plan.
    mixed = [
        held("all", rate=Decimal("0.5")),
        held("fixed", cents=1_000),
        held("plan", rate=Decimal("0.1"), plan_codes=("pro",)),
        held("other", cents=5_000, plan_codes=("other",)),
    ]
    draft = drawn({"api": (price, 1)}, mixed)
    assert [(one.code, one.amount.value) for one in draft.discounts] == [
        ("plan", "20"),
        ("fixed", "10"),
        ("all", "85"),
    ]


def test_a_maximum_is_what_is_left_to_pay_after_a_coupon_on_the_price() -> None:
    price = {"unit": {"unit_price": "1"}, "maximum": "50"}
    coupon = held("half", rate=Decimal("0.5"), price_codes=("api",))
    assert drawn({"api": (price, 80)}, [coupon]).subtotal.value == "40"
    assert drawn({"api": (price, 400)}, [coupon]).subtotal.value == "50"


COUPONS = st.lists(
    st.builds(
        lambda number, off, scope: held(
            f"c{number}",
            **({"cents": off} if off > 100 else {"rate": Decimal(off) / 100}),
            **scope,
        ),
        st.integers(1, 1_000),
        st.integers(1, 20_000) | st.integers(1, 100),
        st.sampled_from([{}, {"plan_codes": ("pro",)}, {"price_codes": ("a",)}]),
    ),
    max_size=4,
    unique_by=lambda one: one.coupon.code,
)


@claims
@given(st.lists(st.integers(0, 9_999), min_size=1, max_size=3), COUPONS)
def test_discounts_never_exceed_what_is_due_and_are_accounted_for(
    cents: list[int], coupons: list[HeldCoupon]
) -> None:
    prices = {
        code: ({"unit": {"unit_price": "0.013"}}, quantity)
        for code, quantity in zip("abc", cents, strict=False)
    }
    draft = drawn(prices, coupons)
    assert 0 <= draft.discount_total.atoms <= draft.subtotal.atoms
    assert sum(line.off for line in draft.lines) == draft.discount_total.atoms
    assert all(0 <= line.off <= line.amount.atoms for line in draft.lines)
    assert draft.total == draft.subtotal - draft.discount_total + draft.tax_total
    assert sum(one.amount for one in draft.sources) == sum(line.net.atoms for line in draft.lines)
    assert drawn(prices, list(reversed(coupons))) == draft


# --- through gRPC ---------------------------------------------------------------------------------


async def bill(books: Books) -> None:
    """Bill what is due by now."""
    answer = await books.call(books.invoices.StartBillingRun, invoice_pb2.StartBillingRunRequest())

    async def over() -> bool:
        got = await books.call(
            books.invoices.GetBillingRun,
            invoice_pb2.GetBillingRunRequest(run_id=answer.run.run_id),
        )
        return bool(got.run.state == invoice_pb2.BILLING_RUN_STATE_DONE)

    await until(over, what="the billing run", seconds_max=60)


async def one_more(books: Books, plan: str, customer_id: str = "acme") -> invoice_pb2.Invoice:
    """The invoice of another plan at 100 dollars."""
    await books.publish(fixed("100"), code=plan)
    before = {one.invoice_id for one in await books.list_invoices(customer_id)}
    await books.subscribe(customer_id, plan)
    await bill(books)
    (made,) = (
        one for one in await books.list_invoices(customer_id) if one.invoice_id not in before
    )
    return made


async def redeemed(books: Books) -> dict[str, int]:
    answer = await books.call(books.coupons.ListCoupons, coupon_pb2.ListCouponsRequest())
    return {one.code: one.redemptions for one in answer.coupons}


async def test_a_coupon_is_on_as_many_documents_as_it_says(books: Books) -> None:
    await books.tax("GB", "0.2")
    await books.customer()
    await books.coupon("once", amount="30")
    await books.coupon("twice", rate="0.1", duration=REPEATING, documents=2)
    await books.coupon("pot", amount="110", keep_unused=True)
    for code in ("once", "twice"):
        await books.attach(code)
    first = await one_more(books, "a")
    assert [(one.coupon_code, one.amount) for one in first.discounts] == [
        ("once", "30"),
        ("twice", "7"),
    ]
    assert (first.subtotal, first.discount_total, first.total) == ("100", "37", "75.6")
    assert first.lines[0].discount == "37"
    second = await one_more(books, "b")
    assert [one.coupon_code for one in second.discounts] == ["twice"]
    # What an amount has left is kept where it says so.
    await books.attach("pot")
    third = await one_more(books, "c")
    assert [(one.coupon_code, one.amount) for one in third.discounts] == [("pot", "100")]
    assert (third.total, third.state) == ("0", invoice_pb2.INVOICE_STATE_PAID)
    fourth = await one_more(books, "d")
    assert [(one.coupon_code, one.amount) for one in fourth.discounts] == [("pot", "10")]
    assert await redeemed(books) == {"once": 1, "pot": 2, "twice": 2}
    answer = await books.call(
        books.coupons.ListCustomerCoupons,
        coupon_pb2.ListCustomerCouponsRequest(customer_id="acme"),
    )
    assert [(one.coupon.code, one.used, one.given) for one in answer.customer_coupons] == [
        ("once", 1, "30"),
        ("pot", 2, "110"),
        ("twice", 2, "17"),
    ]


async def test_a_void_document_gives_its_coupons_back(
    books: Books, database: FreshDatabase
) -> None:
    await books.customer()
    await books.coupon("once", rate="0.25", redemptions_max=1)
    await books.attach("once")
    first = await one_more(books, "a")
    assert (first.total, await redeemed(books)) == ("75", {"once": 1})
    # What takes its place has the coupon that it gives back, even the last one there is.
    again = (await books.void(first.invoice_id, reissue=True)).reissued
    assert (again.total, await redeemed(books)) == ("75", {"once": 1})
    await books.void(again.invoice_id)
    assert await redeemed(books) == {"once": 0}
    assert (await one_more(books, "b")).total == "75"
    async with database.open("invoicing") as pool:
        with pytest.raises(asyncpg.CheckViolationError, match="redemptions_stay_within"):
            async with pool.transaction(books.tenant_id) as tx:
                await tx.execute("UPDATE coupon SET redemptions = redemptions + 1")


async def test_a_limit_of_redemptions_holds_when_many_are_billed_at_once(books: Books) -> None:
    await books.coupon("few", rate="0.5", duration=FOREVER, redemptions_max=4)
    await books.publish(fixed("100"))
    for number in range(12):
        await books.customer(f"c{number}")
        await books.attach("few", f"c{number}")
        await books.subscribe(f"c{number}")
    await bill(books)
    totals = sorted(one.total for one in await books.list_invoices())
    assert totals == ["100"] * 8 + ["50"] * 4
    assert await redeemed(books) == {"few": 4}
    await books.customer("late")
    refusal = await books.refused(
        books.coupons.AttachCoupon,
        coupon_pb2.AttachCouponRequest(customer_id="late", code="few"),
    )
    assert refusal.reason == "COUPON_NOT_REDEEMABLE"


async def test_a_credit_note_takes_back_what_was_asked_for_after_discounts(books: Books) -> None:
    await books.tax("GB", "0.2")
    await books.customer()
    await books.coupon("half", rate="0.5")
    await books.attach("half")
    owed = await one_more(books, "a")
    assert owed.total == "60"
    note = await books.credit(owed.invoice_id, {0: "10"})
    assert (note.total, note.amount_offset) == ("12", "12")
    assert (await books.credit(owed.invoice_id)).total == "48"


async def test_who_does_not_get_a_coupon(books: Books) -> None:
    await books.customer()
    create, attach = books.coupons.CreateCoupon, books.coupons.AttachCoupon
    for fields, field in (
        ({"rate": "1.1"}, "coupon.rate"),
        ({"rate": "0"}, "coupon.rate"),
        ({}, "coupon.off"),
        ({"rate": "0.1", "duration": REPEATING}, "coupon.documents"),
        ({"rate": "0.1", "keep_unused": True}, "coupon.keep_unused"),
    ):
        refusal = await books.refused(
            create,
            coupon_pb2.CreateCouponRequest(coupon=coupon_pb2.Coupon(code="x", name="X", **fields)),
        )
        assert refusal.facts["field"] == field
    await books.coupon("old", rate="0.1")
    refusal = await books.refused(
        create,
        coupon_pb2.CreateCouponRequest(coupon=coupon_pb2.Coupon(code="old", name="X", rate="0.1")),
    )
    assert refusal.reason == "ALREADY_EXISTS"
    await books.call(books.coupons.ArchiveCoupon, coupon_pb2.ArchiveCouponRequest(code="old"))
    request = coupon_pb2.AttachCouponRequest(customer_id="acme", code="old")
    refusal = await books.refused(attach, request)
    assert (refusal.reason, refusal.facts["why"]) == ("COUPON_NOT_REDEEMABLE", "it is archived")
    refusal = await books.refused(
        attach, coupon_pb2.AttachCouponRequest(customer_id="acme", code="none")
    )
    assert refusal.reason == "NOT_FOUND"
    await books.customer("berlin", currency="EUR")
    await books.coupon("dollars", amount="5")
    refusal = await books.refused(
        attach, coupon_pb2.AttachCouponRequest(customer_id="berlin", code="dollars")
    )
    assert "it is in USD" in refusal.facts["why"]
    await books.attach("dollars")
    await books.call(
        books.coupons.DetachCoupon,
        coupon_pb2.DetachCouponRequest(customer_id="acme", code="dollars"),
    )
    assert (await one_more(books, "a")).total == "100"
