"""Feeds a usage file through a fresh tenant and reports what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from kernel.money import format_atoms, format_decimal, round_to_atoms
from tollgate.invoicing.v1 import catalog_pb2 as catalog
from tollgate.invoicing.v1 import customer_pb2 as customers
from tollgate.invoicing.v1 import subscription_pb2 as subscriptions
from tollgate.metering.v1 import gate_pb2 as gate
from tollgate.metering.v1 import usage_pb2 as usage
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import wallet_pb2 as wallets
from tollgate.wallet.v1 import wallet_service_pb2 as wallet_calls
from tollgate_cli import setting_up
from tollgate_cli.feed import Feeder, Usage
from tollgate_cli.price_documents import price_message
from tollgate_cli.replay.mapping import PriceSpec, UsageMapping
from tollgate_cli.replay.reader import Record, Survey, read
from tollgate_cli.tally import ByCustomer, Tally, by_customer
from tollgate_cli.tenancy import TenantClock, render_time
from tollgate_cli.verify import Findings, verify
from tollgate_sdk import Tollgate

PLAN = "replay"
COUNTRY = "US"  # decides the tax of an invoice, and a replay draws none
CHUNK_ROWS = 20_000  # bounds memory; the test clock moves on between chunks
PAGE_CUSTOMERS = 500
PACE_SECONDS = 0.25  # at real time × N, usage is released in slices of this


@dataclass
class Outcome:
    """All that a replay reports."""

    tally: Tally
    feed_seconds: float
    usage: ByCustomer
    balances: ByCustomer
    findings: Findings


async def replay(
    client: Tollgate,
    path: Path,
    mapping: UsageMapping,
    surveyed: Survey,
    *,
    speed: Decimal | None = None,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Feed the file for a fresh tenant: as fast as possible, or at real time × `speed`."""
    clock = TenantClock(client)
    await clock.start(surveyed.first)
    await _open(client, mapping, surveyed)
    feeder = Feeder(client, progress=progress)
    records = read(path, mapping)
    reached, started = surveyed.first, time.perf_counter()
    while chunk := list(islice(records, CHUNK_ROWS)):
        latest = max(record.event_time for record in chunk)
        if latest > reached:
            reached = latest
            await clock.advance(reached)
        if speed is None:
            await feeder.feed(_usages(chunk))
        else:
            await _feed_paced(feeder, chunk, surveyed.first, started, speed)
    seconds = time.perf_counter() - started
    return Outcome(
        feeder.tally,
        seconds,
        await _usage(client, surveyed),
        await _balances(client, surveyed),
        await verify(client),
    )


async def _open(client: Tollgate, mapping: UsageMapping, surveyed: Survey) -> None:
    for asset in mapping.assets:
        kind = wallets.AssetKind.Value(f"ASSET_KIND_{asset.kind}")
        await setting_up.create_asset(client, asset.code, asset.scale, kind)
    for spec in mapping.meters:
        await setting_up.create_meter(client, spec.message)
    month = catalog.BillingInterval(count=1, unit=catalog.INTERVAL_UNIT_MONTH)
    plan = catalog.Plan(
        code=PLAN, name="Replay", interval=month, prices=[_plan_price(p) for p in mapping.prices]
    )
    await setting_up.publish_plan(client, plan)
    currency = next((a.code for a in mapping.assets if a.kind == "CURRENCY"), "USD")
    await setting_up.together(
        lambda customer_id: _open_customer(client, mapping, customer_id, surveyed.first, currency),
        surveyed.customers,
    )


def _plan_price(spec: PriceSpec) -> catalog.PlanPrice:
    return catalog.PlanPrice(
        code=spec.code,
        description=spec.code,
        kind=catalog.PRICE_KIND_USAGE,
        meter=spec.meter,
        dimensions=dict(spec.dimensions),
        pricing=price_message(spec.pricing),
        settlement=catalog.Settlement.Value(f"SETTLEMENT_{spec.settlement}"),
    )


async def _open_customer(
    client: Tollgate, mapping: UsageMapping, customer_id: str, start: datetime, currency: str
) -> None:
    await client.call(
        client.customers.CreateCustomer,
        customers.CreateCustomerRequest(
            request_id=f"customer-{customer_id}",
            customer=customers.Customer(
                customer_id=customer_id,
                name=customer_id,
                country=COUNTRY,
                currency=currency,
                time_zone="UTC",
            ),
        ),
    )
    wallet_id = await setting_up.open_wallet(client, customer_id, "main", 50)
    for balance in mapping.opening_balances:
        if not balance.customers or customer_id in balance.customers:
            await setting_up.grant(client, wallet_id, balance.asset, balance.amount)
    await client.call(
        client.subscriptions.CreateSubscription,
        subscriptions.CreateSubscriptionRequest(
            request_id=f"subscription-{customer_id}",
            customer_id=customer_id,
            plan_code=PLAN,
            start_time=render_time(start),
            anchor_mode=subscriptions.ANCHOR_MODE_CALENDAR,
        ),
    )


def _usages(records: list[Record]) -> Iterator[Usage]:
    for record in records:
        estimate = None
        if record.gated:
            event = record.event
            estimate = gate.UsageEstimate(name=event.name, properties=dict(event.properties))
        yield Usage(record.event, estimate)


async def _feed_paced(
    feeder: Feeder, records: list[Record], first: datetime, started: float, speed: Decimal
) -> None:
    """Release each slice of the file when its time, sped up, has come."""
    waiting: list[Record] = []
    slice_end = 0.0
    for record in records:
        due = (record.event_time - first) / timedelta(seconds=1) / float(speed)
        if due > slice_end:
            await feeder.feed(_usages(waiting))
            waiting = []
            slice_end = due + PACE_SECONDS
            await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
        waiting.append(record)
    await feeder.feed(_usages(waiting))


async def _usage(client: Tollgate, surveyed: Survey) -> ByCustomer:
    sums = by_customer()
    for page in _pages_of(surveyed.customers):
        request = usage.QueryUsageRequest(
            customer_ids=page,
            interval=amount_pb2.Interval(
                start_time=render_time(surveyed.first),
                end_time=render_time(surveyed.last + timedelta(microseconds=1)),
            ),
            page_size=1_000,
        )
        while True:
            answer = await client.call(client.usage.QueryUsage, request)
            for row in answer.rows:
                sums[row.customer_id][row.meter] += _rounded(row.quantity)
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    return sums


def _rounded(quantity: str) -> Decimal:
    """A quantity for people: a weighted sum may be a fraction that never ends."""
    return Decimal(format_atoms(round_to_atoms(Fraction(quantity), 18), 18))


async def _balances(client: Tollgate, surveyed: Survey) -> ByCustomer:
    sums = by_customer()
    for page in _pages_of(surveyed.customers):
        answer: Any = await client.call(
            client.wallets.GetBalances, wallet_calls.GetBalancesRequest(customer_ids=page)
        )
        for balance in answer.balances:
            sums[balance.customer_id][balance.asset] += Decimal(balance.available)
    return sums


def _pages_of(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(names), PAGE_CUSTOMERS):
        yield names[start : start + PAGE_CUSTOMERS]


def summarize(outcome: Outcome) -> dict[str, Any]:
    """All figures under their stable keys. Amounts and quantities are decimal strings."""
    tally = outcome.tally
    return {
        "events": tally.events,
        "accepted": tally.accepted,
        "duplicates": tally.duplicates,
        "rejected": tally.rejected,
        "usage": _strings(outcome.usage),
        "charged": _strings(tally.charged),
        "balances": _strings(outcome.balances),
        "denied": dict(sorted(tally.denied.items())),
        "events_per_second": round(tally.events / outcome.feed_seconds, 1),
        "verified": outcome.findings.clean,
        "findings": outcome.findings.wrong,
        "refusals": tally.refusals,
    }


def _strings(sums: ByCustomer) -> dict[str, dict[str, str]]:
    return {
        customer: {name: format_decimal(value) for name, value in sorted(inner.items())}
        for customer, inner in sorted(sums.items())
    }
