"""Usage invoiced ahead of its close: by threshold, once, and the close asks for the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.catalog.domain import PlanPrice, PriceKind, Settlement, Timing
from invoicing.customers.domain import Customer
from invoicing.invoices.domain.charge import (
    BilledSource,
    Charge,
    due_charges,
    progress_charges,
)
from invoicing.invoices.domain.document import Draft, InvoiceKind, draft_of
from invoicing.invoices.domain.line import Consumption
from invoicing.sellers.domain import Seller
from invoicing.subscriptions.domain import Item, Subscription
from invoicing.taxes.domain.assessment import TaxTable
from kernel.money import Asset
from kernel.period import Every, Unit
from rating import State
from tests.invoicing.company import Company
from tests.invoicing.support import at, fixed, usage
from tollgate.invoicing.v1 import customer_pb2, invoice_pb2
from tollgate.type.v1 import price_pb2

PROGRESSIVE = invoice_pb2.INVOICE_KIND_PROGRESSIVE
UNIT = price_pb2.Price(asset="USD", unit=price_pb2.UnitModel(unit_price="0.5"))
VOLUME = price_pb2.Price(
    asset="USD",
    volume=price_pb2.VolumeModel(
        tiers=[
            price_pb2.Tier(up_to="10", unit_price="1"),
            price_pb2.Tier(unit_price="0.5"),
        ]
    ),
)


async def test_usage_that_reaches_the_threshold_is_invoiced_and_the_close_asks_for_the_rest(
    company: Company,
) -> None:
    await company.meter()
    await company.customer(billing_threshold="10")
    await company.publish(
        fixed("3"), usage(UNIT, meter="tokens"), usage(VOLUME, meter="tokens", code="volume")
    )
    await company.subscribe()
    assert (await company.bill(collected=False)).invoices == 1
    await company.use(at(2025, 1, 1), tokens="19")
    assert (await company.bill(collected=False)).invoices == 0
    await company.use(at(2025, 1, 1), tokens="1")
    assert (await company.bill(collected=False)).invoices == 1
    assert (await company.bill(collected=False)).invoices == 0
    await company.use(at(2025, 1, 1), tokens="30")
    assert (await company.bill(collected=False)).invoices == 1
    _, first, second = sorted(await company.list_invoices(), key=lambda one: one.number)
    assert [(one.kind, one.total) for one in (first, second)] == [
        (PROGRESSIVE, "10"),
        (PROGRESSIVE, "15"),
    ]
    await company.use(at(2025, 1, 1), tokens="2")
    await company.advance(at(2025, 2, 1))
    await company.bill(collected=False)
    closing = max(await company.list_invoices(), key=lambda one: one.number)
    figures = [(line.kind, line.amount) for line in closing.lines]
    assert (invoice_pb2.LINE_KIND_DEDUCTION, "-25") in figures
    # 52 units at 0.5 each twice, less what was asked for, and the next month's fee.
    assert closing.total == "30"
    assert (await company.bill(collected=False)).invoices == 0


async def test_a_void_progressive_invoice_is_asked_for_at_the_close(company: Company) -> None:
    await company.meter()
    await company.customer(billing_threshold="10")
    await company.publish(usage(UNIT, meter="tokens"))
    await company.subscribe()
    await company.use(at(2025, 1, 1), tokens="40")
    await company.bill()
    (ahead,) = await company.list_invoices()
    assert (ahead.kind, ahead.total) == (PROGRESSIVE, "20")
    await company.void(ahead.invoice_id)
    await company.advance(at(2025, 2, 1))
    await company.bill(collected=False)
    assert max(await company.list_invoices(), key=lambda one: one.number).total == "20"


async def test_a_threshold_is_an_amount_above_zero(company: Company) -> None:
    for threshold in ("0", "-1", "1.001", "x"):
        stated = customer_pb2.Customer(
            customer_id="other",
            name="Other",
            country="GB",
            currency="USD",
            billing_threshold=threshold,
        )
        refusal = await company.refused(
            company.customers.CreateCustomer, customer_pb2.CreateCustomerRequest(customer=stated)
        )
        assert refusal.facts["field"] == "customer.billing_threshold"
    customer = await company.customer(billing_threshold="12.5")
    assert customer.billing_threshold == "12.5"


# --- the rule -------------------------------------------------------------------------------------

START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)
USD = Asset("USD", 2)


def _subscription(unit_price: str) -> Subscription:
    price = PlanPrice(
        price_id=UUID(int=1),
        code="p",
        description="P",
        kind=PriceKind.USAGE,
        meter="m",
        dimensions={},
        document={"asset": "USD", "unit": {"unit_price": unit_price}, "minimum": "0.5"},
        settlement=Settlement.INVOICE,
        timing=Timing.ARREARS,
        tax_category="standard",
    )
    return Subscription(
        subscription_id=UUID(int=2),
        customer_id="acme",
        plan_code="pro",
        plan_version=1,
        items=(Item(UUID(int=3), price, Decimal(1)),),
        start_time=START,
        end_time=None,
        anchor_time=START,
        every=Every(1, Unit.MONTH),
        time_zone="UTC",
        create_time=START,
        bill_from_time=START,
        next_bill_time=END,
    )


def _draft(charges: list[Charge], quantity: int, billed: list[BilledSource]) -> Draft:
    buyer = Customer("acme", "Acme", "", (), "GB", "", "UTC", "USD", False, START)
    used = Consumption(State(quantity=quantity, event_count=1), Fraction(0), USD)
    consumptions = {charge.key: used for charge in charges}
    return draft_of(buyer, charges, consumptions, billed, TaxTable(buyer, Seller("S")))


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(
    st.decimals("0.0001", "9", places=4),
    st.lists(st.integers(0, 500), min_size=1, max_size=6),
)
def test_progressive_and_closing_lines_are_those_of_one_invoice(
    unit_price: Decimal, steps: list[int]
) -> None:
    subscription = _subscription(f"{unit_price:f}")
    billed: list[BilledSource] = []
    asked, quantity = 0, 0
    for step in steps[:-1]:
        quantity += step
        ahead = _draft(progress_charges([subscription], billed, START), quantity, billed)
        assert ahead.kind is InvoiceKind.PROGRESSIVE
        assert all(line.amount.atoms >= 0 for line in ahead.lines)
        billed += ahead.sources
        asked += ahead.subtotal.atoms
    quantity += steps[-1]
    closing = _draft(due_charges([subscription], billed, END), quantity, billed)
    alone = _draft(due_charges([subscription], [], END), quantity, [])
    assert asked + closing.subtotal.atoms == alone.subtotal.atoms
    # What usage that comes later is compared with is the whole cost of the period.
    assert [one.gross for one in closing.sources] == [one.gross for one in alone.sources]
