"""The demo from the first minute of the month to the collected invoices."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from kernel.money import format_decimal
from tollgate.invoicing.v1 import invoice_pb2 as invoices
from tollgate.invoicing.v1 import subscription_pb2 as subscriptions
from tollgate.wallet.v1 import wallet_service_pb2 as wallet_calls
from tollgate_cli import setting_up
from tollgate_cli.demo import opening, traffic, world
from tollgate_cli.feed import Feeder
from tollgate_cli.tally import Tally
from tollgate_cli.tenancy import TenantClock, render_time
from tollgate_cli.verify import Findings, verify
from tollgate_sdk import Tollgate

GRACE = timedelta(hours=2)  # late events may still come in before the books close
WAIT_SECONDS_MAX = 180.0
POLL_SECONDS = 0.1


class Stage(Protocol):
    """Tells a person how far one stage of the story is."""

    def __call__(self, title: str, total: int) -> Callable[[int], None]: ...


@dataclass(frozen=True, slots=True)
class DayPoint:
    """What stood in the wallets and what was used at the end of one day."""

    end: datetime
    usd_available: Decimal
    tokens_available: Decimal
    accepted: int


@dataclass
class Outcome:
    """All that the summary reports."""

    tally: Tally
    feed_seconds: float = 0.0
    recharges: int = 0
    mrr: str = "0"
    invoices: list[invoices.Invoice] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    days: list[DayPoint] = field(default_factory=list)
    pdf: bytes = b""
    pdf_number: str = ""


async def tell(client: Tollgate, sandbox_endpoint: str, count: int, stage: Stage) -> Outcome:
    """Run the month for one fresh tenant and answer what came of it."""
    people = world.people()
    clock = TenantClock(client)
    await clock.start(world.MONTH_START)
    opened = stage("Opening 100 accounts", 1)
    await opening.open_world(client, people, count, sandbox_endpoint)
    opened(1)
    await _bill(client, "first", world.MONTH_START, stage)

    fed = stage(f"A month of usage: {count:,} events", count)
    feeder = Feeder(client, progress=fed)
    outcome = Outcome(feeder.tally)
    for day in traffic.month(people, count):
        await clock.advance(day.end)
        started = time.perf_counter()
        await feeder.feed(day.usages)
        outcome.feed_seconds += time.perf_counter() - started
        await _await_recharges(client)
        outcome.days.append(await _look(client, people, day.end, feeder.tally.accepted))

    closing = world.MONTH_END + GRACE
    await clock.advance(closing)
    outcome.mrr = await _recurring_revenue(client)
    await opening.attach_method(client, world.DECLINED, "pm_insufficient_funds")
    await _bill(client, "closing", closing, stage)
    outcome.recharges = await _count_recharges(client)
    outcome.invoices = await _all_invoices(client)
    await _fetch_pdf(client, outcome)
    checked = stage("Verifying every balance and every charge", 1)
    outcome.findings = await verify(client)
    checked(1)
    return outcome


async def _bill(client: Tollgate, name: str, as_of: datetime, stage: Stage) -> None:
    """Bill all that is due, and wait until every payment of it is decided."""
    answer = await client.call(
        client.invoices.StartBillingRun,
        invoices.StartBillingRunRequest(request_id=f"run-{name}", as_of=render_time(as_of)),
    )
    told = stage(f"Invoices of {as_of:%-d %B}", world.CUSTOMERS)
    seen = 0

    async def over() -> bool:
        nonlocal seen
        run = await client.call(
            client.invoices.GetBillingRun,
            invoices.GetBillingRunRequest(run_id=answer.run.run_id),
        )
        told(run.run.customers_done - seen)
        seen = run.run.customers_done
        return bool(
            run.run.state == invoices.BILLING_RUN_STATE_DONE
            and run.run.invoices_collected == run.run.invoices
        )

    await _await(over, "the billing run")


async def _await_recharges(client: Tollgate) -> None:
    """Wait until no recharge is in flight, so that the next day starts from settled balances."""

    async def settled() -> bool:
        recharges = await _list_recharges(client)
        return all(r.state != wallet_calls.RECHARGE_STATE_IN_FLIGHT for r in recharges)

    await _await(settled, "a recharge")


async def _list_recharges(client: Tollgate) -> list[wallet_calls.Recharge]:
    request = wallet_calls.ListRechargesRequest(page_size=1_000)
    found = []
    while True:
        page = await client.call(client.recharges.ListRecharges, request)
        found.extend(page.recharges)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def _count_recharges(client: Tollgate) -> int:
    states = Counter(recharge.state for recharge in await _list_recharges(client))
    return states[wallet_calls.RECHARGE_STATE_GRANTED]


async def _look(
    client: Tollgate, people: list[world.Person], end: datetime, accepted: int
) -> DayPoint:
    answer = await client.call(
        client.wallets.GetBalances,
        wallet_calls.GetBalancesRequest(customer_ids=[p.customer_id for p in people]),
    )
    sums: dict[str, Decimal] = {}
    for balance in answer.balances:
        sums[balance.asset] = sums.get(balance.asset, Decimal(0)) + Decimal(balance.available)
    zero = Decimal(0)
    return DayPoint(end, sums.get("USD", zero), sums.get("token", zero), accepted)


async def _recurring_revenue(client: Tollgate) -> str:
    answer = await client.call(
        client.subscriptions.GetRecurringRevenue, subscriptions.GetRecurringRevenueRequest()
    )
    monthly = {amount.asset: Decimal(amount.value) for amount in answer.monthly}
    return format_decimal(monthly.get("USD", Decimal(0)))


async def _all_invoices(client: Tollgate) -> list[invoices.Invoice]:
    request = invoices.ListInvoicesRequest(page_size=1_000)
    found = []
    while True:
        page = await client.call(client.invoices.ListInvoices, request)
        found.extend(page.invoices)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def _fetch_pdf(client: Tollgate, outcome: Outcome) -> None:
    """Fetch every PDF once, as a customer's accounts department would, and keep the fullest."""
    issued = [i for i in outcome.invoices if i.number]
    rendered = await setting_up.together(
        lambda invoice: client.call(
            client.invoices.RenderInvoice,
            invoices.RenderInvoiceRequest(invoice_id=invoice.invoice_id),
        ),
        issued,
    )
    fullest = max(range(len(issued)), key=lambda i: (len(issued[i].lines), issued[i].number))
    outcome.pdf = rendered[fullest].pdf
    outcome.pdf_number = issued[fullest].number


async def _await(over: Callable[[], Any], what: str) -> None:
    give_up = time.monotonic() + WAIT_SECONDS_MAX
    while not await over():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{what} is not over after {WAIT_SECONDS_MAX:.0f} s")
        await asyncio.sleep(POLL_SECONDS)
