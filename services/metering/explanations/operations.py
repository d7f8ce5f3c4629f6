"""Tracing an event: received, counted, priced, and charged or billed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.peers import Peers
from kernel.errors import NotFound
from metering.charging.domain import batch_of, charge_of, receipt_of_charge
from metering.corrections import store as revisions
from metering.corrections.domain.revision import History
from metering.corrections.operations import load_histories
from metering.events import store as events
from metering.events.domain.event import EventState, Outcome, StoredEvent
from metering.events.domain.rendering import outcome_of_stored
from metering.explanations import store
from metering.explanations.domain import (
    BilledLine,
    Counted,
    Payment,
    PricedLine,
    tiers_between,
)
from metering.explanations.wire import read_debits, read_lines
from metering.meters.operations import Meters
from metering.ratecards.domain import pricing_of_document
from metering.usage import store as usage
from metering.usage.operations import hours_of
from rating import rate
from rating.exact import parse_number
from tollgate.invoicing.v1 import invoice_pb2, invoice_pb2_grpc
from tollgate.wallet.v1 import adjustment_service_pb2, adjustment_service_pb2_grpc

INVOICES_LOOKED_AT = 100  # the newest of a customer; older ones bill no period that may change


class Explanation(NamedTuple):
    """An event with all that is known of its cost."""

    history: History
    outcome: Outcome
    counted: list[Counted]
    lines: list[PricedLine]


class Explanations:
    """Answers why an event cost what it cost."""

    def __init__(self, database: Database, meters: Meters, peers: Peers) -> None:
        self._database = database
        self._meters = meters
        self._peers = peers
        self._wallet = adjustment_service_pb2_grpc.AdjustmentServiceStub(peers.channel("wallet"))
        self._invoices: invoice_pb2_grpc.InvoiceServiceStub | None = None

    async def find_event_id(self, charge_id: str, call: Call) -> str:
        """The event behind a charge. Raises NotFound."""
        receipt = receipt_of_charge(charge_id)
        async with self._database.transaction(call.tenant_id) as tx:
            found = await events.list_events(tx, call.tenant_id, [receipt])
            if not found:
                gone = await revisions.list_by_receipt(tx, call.tenant_id, [receipt])
                origins = [one.origin_id for one in gone]
                found = await events.list_events(tx, call.tenant_id, origins)
        if not found:
            raise NotFound("charge", charge_id)
        return found[0].event.event_id

    async def explain(self, event_id: str, call: Call) -> Explanation:
        """Raises NotFound, and what the wallet or invoicing answers where they are away."""
        tenant_id = call.tenant_id
        async with self._database.transaction(tenant_id) as tx:
            histories = await load_histories(tx, tenant_id, [event_id])
            if event_id not in histories:
                raise NotFound("event", event_id)
            history = histories[event_id]
            outcome = await self._outcome(tx, tenant_id, history)
            meters = await self._meters.current(tx, tenant_id)
            counted, lines = [], []
            if outcome.state in (EventState.ACCEPTED, EventState.PENDING):
                last = history.last
                counted = [
                    Counted(meters.meters[code], hour, values)
                    for (_, code, hour, values), _, _ in hours_of(last, meters)
                ]
                lines = await self._lines(tx, tenant_id, history, last)
        payments = await self._payments(history, call)
        explained = []
        for line in lines:
            number = line.running.number
            paid = [each for each in payments if each.charge_id in _charges(history, number)]
            billed: list[BilledLine] = []
            if not line.running.from_wallet or any(
                one.shortfall for row in history.rows.values() for one in row.lines
            ):
                billed = await self._billed(line, history.last.event.event_time, call)
            explained.append(line._replace(payments=paid, billed=billed))
        return Explanation(history, outcome, counted, explained)

    async def _outcome(self, tx: Connection, tenant_id: UUID, history: History) -> Outcome:
        last = history.last
        numbers = [(last.event.customer_id, line.number) for line in last.lines]
        usages = await usage.find_named(tx, tenant_id, numbers)
        batches = {batch_of(key) for key in history.receipts}
        pending = await events.list_pending(tx, tenant_id, batches)
        outcome = outcome_of_stored(last, usages, bool(pending))
        if history.is_deprecated:
            return outcome._replace(state=EventState.DEPRECATED, charges=[])
        return outcome

    async def _lines(
        self, tx: Connection, tenant_id: UUID, history: History, last: StoredEvent
    ) -> list[PricedLine]:
        meters = await self._meters.current(tx, tenant_id)
        customer_id = last.event.customer_id
        numbers = {(customer_id, line.number) for line in last.lines}
        rows = {row["number"]: row for row in await usage.list_numbered(tx, tenant_id, numbers)}
        paid = history.paid()
        lines = []
        for line in last.lines:
            row = rows[line.number]
            pricing = pricing_of_document(row["document"], row["pricing_id"])
            running = usage.running_of(row, pricing, meters)
            asked = paid[line.number].asked if line.number in paid else 0
            quantity = parse_number(line.quantity, "quantity", signed=True)
            if not (running.is_plain and running.is_additive):
                parts = list(rate(pricing.price, running.state()).components)
                lines.append(PricedLine(running, line.quantity, None, parts, asked, [], []))
                continue
            period = running.stretch.period
            before = await store.sum_before(
                tx, tenant_id, customer_id, line.number, period, last.sequence
            )
            parts = tiers_between(running, before, quantity)
            lines.append(PricedLine(running, line.quantity, before, parts, asked, [], []))
        return lines

    async def _payments(self, history: History, call: Call) -> list[Payment]:
        keys = sorted(
            {
                charge_of(row.receipt_id, place)
                for row in history.rows.values()
                for place, line in enumerate(row.lines, 1)
                if line.atoms
            }
        )
        if not keys:
            return []
        answer: adjustment_service_pb2.GetDebitsResponse = await self._peers.call(
            self._wallet.GetDebits,
            adjustment_service_pb2.GetDebitsRequest(request_ids=keys),
            tenant_id=call.tenant_id,
            call=call,
        )
        return read_debits(answer.debits)

    async def _billed(self, line: PricedLine, instant: datetime, call: Call) -> list[BilledLine]:
        if self._invoices is None:
            self._invoices = invoice_pb2_grpc.InvoiceServiceStub(self._peers.channel("invoicing"))
        answer: invoice_pb2.ListInvoicesResponse = await self._peers.call(
            self._invoices.ListInvoices,
            invoice_pb2.ListInvoicesRequest(
                customer_id=line.running.customer_id, page_size=INVOICES_LOOKED_AT
            ),
            tenant_id=call.tenant_id,
            call=call,
        )
        return read_lines(answer.invoices, line.running.subscription_item_id, instant)


def _charges(history: History, number: int) -> Sequence[str]:
    """Keys of what the event's forms asked for one usage."""
    return [
        charge_of(row.receipt_id, place)
        for row in history.rows.values()
        for place, line in enumerate(row.lines, 1)
        if line.number == number
    ]
