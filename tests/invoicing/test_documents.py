"""What an invoice adds up to, whatever is on it: properties without I/O."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID, uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.catalog.domain import PlanPrice, PriceKind, Settlement, Timing
from invoicing.customers.domain import Customer
from invoicing.documents.domain.printing import printed_period
from invoicing.documents.operations import compile_pdf
from invoicing.invoices.domain.charge import BilledSource, SourceKind, due_charges
from invoicing.invoices.domain.document import Draft, draft_of, issue
from invoicing.invoices.domain.line import Consumption
from invoicing.invoices.rpc import PAGE_BYTES_MAX, _as_many_as_fit
from invoicing.sellers.domain import Seller
from invoicing.subscriptions.domain import (
    AnchorMode,
    Item,
    Subscription,
    billed,
    find_anchor,
)
from invoicing.subscriptions.domain.lifecycle import CancelWhen, cancel
from invoicing.subscriptions.domain.subscription import Ending
from invoicing.taxes.domain.assessment import TaxTable
from invoicing.taxes.domain.rates import TaxRate
from kernel.money import Amount, Asset
from kernel.period import Every, Period, Unit, parse_zone
from rating import State
from tollgate.invoicing.v1 import invoice_pb2

# The same examples in every run of the tests.
claims = settings(derandomize=True, deadline=None, database=None, max_examples=150)

START = datetime(2025, 1, 31, 10, 30, tzinfo=UTC)
USD = Asset("USD", 2)
RATES = (
    TaxRate("GB", "standard", "VAT", Decimal("0.2")),
    TaxRate("GB", "reduced", "VAT", Decimal("0.05")),
)
CUSTOMER = Customer(
    customer_id="acme",
    name="Acme Ltd",
    email="",
    address=("1 High Street",),
    country="GB",
    tax_id="",
    time_zone="Europe/London",
    currency="USD",
    suspended=False,
    create_time=START,
)


def item(kind: PriceKind, pricing: dict[str, object], timing: Timing, quantity: int = 1) -> Item:
    price = PlanPrice(
        price_id=uuid4(),
        code="p",
        description="P",
        kind=kind,
        meter="m" if kind is PriceKind.USAGE else "",
        dimensions={},
        document={"asset": "USD", **pricing},
        settlement=Settlement.INVOICE,
        timing=timing,
        tax_category="standard" if timing is Timing.ADVANCE else "reduced",
    )
    return Item(uuid4(), price, Decimal(quantity))


amounts = st.decimals(0, 10_000, places=4, allow_nan=False)
timings = st.sampled_from(Timing)
fees = st.one_of(
    st.builds(
        lambda amount, timing: item(PriceKind.FIXED, {"flat": {"amount": f"{amount:f}"}}, timing),
        amounts,
        timings,
    ),
    st.builds(
        lambda amount, timing, seats: item(
            PriceKind.SEAT, {"seat": {"unit": {"unit_price": f"{amount:f}"}}}, timing, seats
        ),
        amounts,
        timings,
        st.integers(0, 50),
    ),
)
usages = st.builds(
    lambda amount, minimum: item(
        PriceKind.USAGE,
        {"unit": {"unit_price": f"{amount:f}"}, "minimum": f"{minimum:f}"},
        Timing.ARREARS,
    ),
    amounts,
    amounts,
)
intervals = st.sampled_from(
    [Every(1, Unit.MONTH), Every(3, Unit.MONTH), Every(2, Unit.WEEK), Every(10, Unit.DAY)]
)


def subscribed(items: list[Item], every: Every, mode: AnchorMode) -> Subscription:
    return Subscription(
        subscription_id=UUID(int=1),
        customer_id="acme",
        plan_code="pro",
        plan_version=1,
        items=tuple(items),
        start_time=START,
        end_time=None,
        anchor_time=find_anchor(START, every, mode, parse_zone("Europe/London")),
        every=every,
        time_zone="Europe/London",
        create_time=START,
        bill_from_time=START,
        next_bill_time=START,
    )


subscriptions = st.builds(
    subscribed,
    st.lists(st.one_of(fees, usages), min_size=1, max_size=5),
    intervals,
    st.sampled_from(AnchorMode),
)


def drawn(
    subscription: Subscription, known: list[BilledSource], as_of: datetime, quantity: int = 7
) -> Draft:
    """The document of what is due, with the same usage in every period."""
    charges = due_charges([subscription], known, as_of)
    consumptions = {
        charge.key: Consumption(
            State(quantity=quantity, event_count=1), Fraction(quantity, 3), Asset("USD", 9)
        )
        for charge in charges
        if charge.is_usage and charge.billed is None
    }
    return draft_of(CUSTOMER, charges, consumptions, known, TaxTable(CUSTOMER, Seller("S"), RATES))


@claims
@given(subscriptions, st.integers(0, 400))
def test_totals_are_sums_of_lines_and_wallets_and_dues_make_the_cost(
    subscription: Subscription, days: int
) -> None:
    draft = drawn(subscription, [], START + timedelta(days=days))
    assert draft.subtotal.atoms == sum(line.amount.atoms for line in draft.lines)
    assert draft.tax_total.atoms == sum(tax.amount.atoms for tax in draft.taxes)
    assert draft.total == draft.subtotal + draft.tax_total
    for line in draft.lines:
        assert line.amount.atoms >= 0
        assert line.wallet.atoms + line.amount.atoms == line.cost.atoms
    by_category = {tax.category: tax.taxable.atoms for tax in draft.taxes}
    for category, taxable in by_category.items():
        assert taxable == sum(
            line.amount.atoms for line in draft.lines if line.tax_category == category
        )


@claims
@given(
    subscriptions,
    st.lists(st.integers(0, 400), max_size=6),
    st.integers(0, 400),
    st.booleans(),
)
def test_each_second_is_billed_once_and_what_is_unused_comes_back(
    subscription: Subscription, days: list[int], end: int, immediately: bool
) -> None:
    """Any sequence of runs, a cancellation among them: the charges of an item that are left after
    deductions lie end to end from the subscription's start to its end."""
    sources: list[BilledSource] = []

    def run(day: int) -> None:
        nonlocal subscription
        as_of = START + timedelta(days=day)
        sources.extend(drawn(subscription, sources, as_of).sources)
        subscription = billed(subscription, as_of)

    for day in sorted(one for one in days if one <= end):
        run(day)
    ended = START + timedelta(days=end)
    when = CancelWhen.IMMEDIATE if immediately else CancelWhen.PERIOD_END
    subscription = cancel(subscription, when, None, Ending(), ended)
    assert subscription.end_time is not None
    for day in (end, *(one for one in days if one > end), 900):
        run(day)
    assert subscription.next_bill_time is None
    for one in subscription.items:
        mine = [
            source
            for source in sources
            if source.key.subscription_item_id == one.subscription_item_id
        ]
        assert len({source.key for source in mine}) == len(mine)
        charges = sorted(
            (source for source in mine if source.key.kind is SourceKind.CHARGE),
            key=lambda source: source.key.service_start,
        )
        reached = START
        for source in charges:
            assert source.key.service_start == reached
            reached = source.service_end
        for source in mine:
            if source.key.kind is SourceKind.DEDUCTION:
                assert source.key.service_start >= subscription.end_time or immediately
                assert source.amount <= 0
                reached = min(reached, source.key.service_start)
        assert reached == subscription.end_time
        assert sum(source.amount for source in mine) >= 0


@claims
@given(subscriptions, st.integers(0, 60), st.integers(0, 40))
def test_many_runs_make_the_same_charges_as_one(
    subscription: Subscription, runs: int, step: int
) -> None:
    last = START + timedelta(days=runs * step)
    expected = drawn(subscription, [], last).sources
    sources: list[BilledSource] = []
    for number in range(runs + 1):
        as_of = START + timedelta(days=number * step)
        sources += drawn(subscription, sources, as_of).sources
        subscription = billed(subscription, as_of)
    assert sorted(sources, key=repr) == sorted(expected, key=repr)


@claims
@given(subscriptions, st.integers(0, 100), st.integers(0, 10_000_000))
def test_the_balance_pays_no_more_than_there_is_and_is_due(
    subscription: Subscription, days: int, balance: int
) -> None:
    draft = drawn(subscription, [], START + timedelta(days=days))
    invoice = issue(draft, uuid4(), Seller("S"), 7, START, Amount(USD, balance))
    assert 0 <= invoice.balance_applied.atoms <= min(balance, draft.total.atoms)
    assert invoice.amount_due + invoice.balance_applied == draft.total
    assert invoice.number == "INV-2025-000007"


def test_a_deduction_is_never_more_than_was_billed() -> None:
    fee = item(PriceKind.FIXED, {"flat": {"amount": "10"}}, Timing.ADVANCE)
    subscription = subscribed([fee], Every(1, Unit.MONTH), AnchorMode.ANNIVERSARY)
    known = list(drawn(subscription, [], START).sources)
    halfway = subscription.full_period(START)
    middle = halfway.start + (halfway.end - halfway.start) / 2
    ended = cancel(subscription, CancelWhen.IMMEDIATE, None, Ending(), middle)
    draft = drawn(ended, known, middle)
    assert [line.amount.atoms for line in draft.lines] == [-500]
    assert draft.balance_given == Amount(USD, 600)  # with its tax of 20 %
    # Where other deductions have taken most of it, the rest is all that is left.
    earlier = replace(draft.sources[0], amount=-800)
    again = drawn(
        ended, [*known, replace(earlier, key=replace(earlier.key, service_start=START))], middle
    )
    assert [line.amount.atoms for line in again.lines] == [-200]


def test_periods_are_printed_without_saying_anything_twice() -> None:
    def printed(*days: datetime) -> str:
        return printed_period(Period(*days), "UTC")

    march = datetime(2026, 3, 1, tzinfo=UTC)
    assert printed(march, datetime(2026, 4, 1, tzinfo=UTC)) == "1 – 31 March 2026"
    assert printed(march, datetime(2026, 4, 15, tzinfo=UTC)) == "1 March – 14 April 2026"
    assert printed(march, datetime(2027, 1, 2, tzinfo=UTC)) == "1 March 2026 – 1 January 2027"
    assert printed(march, datetime(2026, 3, 2, tzinfo=UTC)) == "1 March 2026"


def test_the_same_invoice_is_set_in_the_same_bytes() -> None:
    fee = item(PriceKind.FIXED, {"flat": {"amount": "10"}}, Timing.ADVANCE)
    subscription = subscribed([fee], Every(1, Unit.MONTH), AnchorMode.CALENDAR)
    invoice = issue(
        drawn(subscription, [], START), UUID(int=5), Seller("S"), 1, START, Amount(USD, 0)
    )
    assert compile_pdf(invoice) == compile_pdf(invoice)


def test_a_page_of_long_invoices_holds_as_many_as_fit() -> None:
    long = invoice_pb2.Invoice(currency="x" * (PAGE_BYTES_MAX // 2))
    short = invoice_pb2.Invoice(currency="USD")
    endless = invoice_pb2.Invoice(currency="x" * (2 * PAGE_BYTES_MAX))
    assert _as_many_as_fit([short] * 1_000) == [short] * 1_000
    assert _as_many_as_fit([long, long, short]) == [long]
    assert _as_many_as_fit([endless, short]) == [endless]
    assert _as_many_as_fit([]) == []
