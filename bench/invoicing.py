"""A billing run of 10,000 customers, and invoices set as PDF."""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from bench.records import Records
from invoicing.customers.domain import Customer
from invoicing.documents.operations import compile_pdf
from invoicing.invoices.domain.document import Invoice, InvoiceKind, compose, issue
from invoicing.invoices.domain.line import Detail, Line, LineKind
from invoicing.sellers.domain import Seller
from invoicing.taxes.domain.assessment import TaxTable
from invoicing.taxes.domain.rates import TaxRate
from kernel.money import Amount, Asset
from kernel.period import Period
from tollgate.invoicing.v1 import catalog_pb2 as catalog
from tollgate.invoicing.v1 import customer_pb2 as customers
from tollgate.invoicing.v1 import invoice_pb2 as invoices
from tollgate.invoicing.v1 import subscription_pb2 as subscriptions
from tollgate.metering.v1 import event_pb2 as events
from tollgate.metering.v1 import meter_pb2 as meters
from tollgate.type.v1 import price_pb2 as prices
from tollgate_cli import setting_up
from tollgate_cli.supervisor import Suite
from tollgate_cli.tenancy import render_time
from tollgate_sdk import Tollgate

CUSTOMERS = 10_000
METERS = tuple(f"bench_{name}" for name in ("input", "output", "cached", "images", "seconds"))
EVENTS_AT_ONCE = 1_000
POLL_SECONDS = 0.2
RUN_SECONDS_MAX = 1_800.0
PDF_TIMES = 40
LANGUAGES = ("en", "de", "fr", "es", "ja")


async def measure_run(
    records: Records, client: Tollgate, suite: Suite, count: int = CUSTOMERS
) -> None:
    """Customers a second from usage to issued invoices of five lines; the process's peak memory."""
    start = datetime.now(UTC) - timedelta(hours=25)
    await _open(client, count, start)
    pid = suite.pids["invoicing"]
    began = time.perf_counter()
    answer = await client.call(
        client.invoices.StartBillingRun,
        invoices.StartBillingRunRequest(request_id="bench-run"),
    )
    run = answer.run
    while run.state != invoices.BILLING_RUN_STATE_DONE:
        if time.perf_counter() - began > RUN_SECONDS_MAX:
            raise TimeoutError(f"{run.customers_done} of {run.customers} customers are billed")
        await asyncio.sleep(POLL_SECONDS)
        found = await client.call(
            client.invoices.GetBillingRun, invoices.GetBillingRunRequest(run_id=run.run_id)
        )
        run = found.run
    seconds = time.perf_counter() - began
    if (run.invoices, len(run.faults)) != (count, 0):
        raise RuntimeError(f"{run.invoices} invoices of {count}, faults: {run.faults[:3]}")
    records.add("invoicing.run.customers", count / seconds, "customers/s")
    records.add("invoicing.run.seconds", seconds, "s")
    records.add("invoicing.run.memory", _peak_mib(pid), "MiB")


def measure_pdf(records: Records) -> None:
    """Milliseconds to set an invoice of one page, at the median over all languages."""
    taken = []
    for language in LANGUAGES:
        compile_pdf(_sample(language, 0))
        for index in range(1, 1 + PDF_TIMES // len(LANGUAGES)):
            # Another one each time: the compiler remembers what it has set before.
            invoice = _sample(language, index)
            began = time.perf_counter()
            compile_pdf(invoice)
            taken.append((time.perf_counter() - began) * 1_000)
    records.add("invoicing.pdf_ms", statistics.median(taken), "ms")


def _sample(language: str, index: int) -> Invoice:
    now = datetime(2026, 4, 1, tzinfo=UTC)
    money = Asset("EUR", 2)
    seller = Seller("Beispiel GmbH", ("Hauptstraße 1",), "DE136695976", country="DE")
    buyer = Customer(
        "acme",
        f"Acme {index}",
        "",
        (f"Rue {index}",),
        "DE",
        "",
        "UTC",
        "EUR",
        False,
        now,
        language=language,
    )
    month = Period(datetime(2026, 3, 1, tzinfo=UTC), now)
    lines = [
        Line(
            kind=LineKind.USAGE,
            description=f"Tokens {line} of {index}",
            service=month,
            quantity="1500",
            cost=Amount(money, 12_500 + index),
            wallet=Amount(money, 0),
            amount=Amount(money, 12_500 + index),
            exact_cost="125",
            tax_category="standard",
            supply_time=month.start,
            details=(
                Detail("first 1,000", "1000", "0.1", "100"),
                Detail("above 1,000", "500", "0.05", "25"),
            ),
        )
        for line in range(5)
    ]
    rates = (TaxRate("DE", "standard", "USt", Decimal("0.19")),)
    draft = compose(InvoiceKind.SUBSCRIPTION, buyer, lines, TaxTable(buyer, seller, rates))
    return issue(draft, UUID(int=1), seller, index + 1, now, Amount(money, 0))


async def _open(client: Tollgate, count: int, start: datetime) -> None:
    """Customers with one closed period, and usage of five meters in it."""
    for meter in METERS:
        await setting_up.create_meter(
            client,
            meters.Meter(
                code=meter,
                event_name="bench_request",
                aggregation=meters.AGGREGATION_SUM,
                value_property=meter,
            ),
        )
    await setting_up.publish_plan(client, _plan())
    await client.call(
        client.taxes.SetTaxRate,
        invoices.SetTaxRateRequest(
            request_id="bench-rate",
            tax_rate=invoices.TaxRate(
                country="US", category="standard", name="Sales tax", rate="0.08"
            ),
        ),
    )
    names = [f"bench-{index:05d}" for index in range(count)]

    async def open_one(name: str) -> None:
        await client.call(
            client.customers.CreateCustomer,
            customers.CreateCustomerRequest(
                request_id=f"customer-{name}",
                customer=customers.Customer(
                    customer_id=name, name=name, country="US", currency="USD", time_zone="UTC"
                ),
            ),
        )
        await client.call(
            client.subscriptions.CreateSubscription,
            subscriptions.CreateSubscriptionRequest(
                request_id=f"subscription-{name}",
                customer_id=name,
                plan_code="bench_daily",
                start_time=render_time(start),
            ),
        )

    await setting_up.together(open_one, names)
    used = render_time(start + timedelta(hours=1))
    for first in range(0, count, EVENTS_AT_ONCE):
        some = names[first : first + EVENTS_AT_ONCE]
        answer = await client.call(
            client.events.IngestEvents,
            events.IngestEventsRequest(
                events=[
                    events.Event(
                        event_id=f"event-{name}",
                        name="bench_request",
                        customer_id=name,
                        event_time=used,
                        properties=dict.fromkeys(METERS, "1500"),
                    )
                    for name in some
                ]
            ),
        )
        states = {outcome.state for outcome in answer.outcomes}
        if states != {events.EVENT_STATE_ACCEPTED}:
            raise RuntimeError(f"events were not all accepted: {states}")


def _plan() -> catalog.Plan:
    tiers = [
        prices.Tier(up_to="1000", unit_price="0.01"),
        prices.Tier(unit_price="0.005"),
    ]
    return catalog.Plan(
        code="bench_daily",
        name="Bench",
        interval=catalog.BillingInterval(count=1, unit=catalog.INTERVAL_UNIT_DAY),
        prices=[
            catalog.PlanPrice(
                code=meter,
                description=meter,
                kind=catalog.PRICE_KIND_USAGE,
                meter=meter,
                settlement=catalog.SETTLEMENT_INVOICE,
                pricing=prices.Price(asset="USD", graduated=prices.GraduatedModel(tiers=tiers)),
            )
            for meter in METERS
        ],
    )


def _peak_mib(pid: int | None) -> float:
    """The most memory that a process had so far, as Linux tells it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1_024
    raise RuntimeError("the system does not tell how much memory a process had")
