"""How an invoice comes about: read outside, compute, then one short transaction (INV-3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.messages import Outgoing, append, append_all
from chassis.peers import Peers
from invoicing.collection.domain import Collection, begin
from invoicing.coupons.domain import CouponNotRedeemable, HeldCoupon
from invoicing.coupons.operations import find_stated
from invoicing.coupons.store import (
    list_held,
    list_holders,
    lock_coupons,
    take_redemptions,
)
from invoicing.customers.domain import Customer
from invoicing.customers.operations import get_customer
from invoicing.customers.store import (
    find_customers,
    list_paid_for,
    lock_customer,
    lock_customers,
)
from invoicing.invoices import store
from invoicing.invoices.domain.charge import (
    LATE,
    BilledSource,
    Charge,
    SourceKey,
    due_charges,
    late_charges,
    next_closing,
    progress_charges,
)
from invoicing.invoices.domain.document import Draft, Invoice, InvoiceKind, draft_of, issue
from invoicing.invoices.domain.line import Consumption
from invoicing.invoices.domain.one_off import StatedLine, one_off
from invoicing.invoices.store import StoredInvoice
from invoicing.invoices.wire import parse_consumption, render_period_key
from invoicing.payments.store import lock_balances, save_balance
from invoicing.sellers.domain import UNSTATED, Seller
from invoicing.sellers.store import find_seller
from invoicing.subscriptions.domain import Subscription, billed, outdated
from invoicing.subscriptions.store import list_of_customers, save_terms
from invoicing.taxes.domain.assessment import TaxTable
from invoicing.taxes.operations import load_tax_table, load_tax_tables
from kernel.currency import currency, is_currency
from kernel.errors import Kind, NotFound, Refusal
from kernel.ids import new_id
from kernel.money import Amount, Asset
from tollgate.invoicing.v1 import messages_pb2
from tollgate.metering.v1 import usage_pb2, usage_pb2_grpc
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import wallet_service_pb2, wallet_service_pb2_grpc

KEYS_MAX = 1_000  # of one question to metering
ASSETS_PAGE = 1_000
USAGE_SECONDS = 20.0  # a period of a customer with many prices


class UsageNotSettled(Refusal):
    """Events of the period are still being charged; an invoice waits for them."""

    reason = "USAGE_NOT_SETTLED"
    kind = Kind.UNAVAILABLE

    def __init__(self, events: int) -> None:
        super().__init__(f"{events} usage events are still being settled", events=events)


class StaleDraft(Exception):
    """What the draft was computed from has changed meanwhile; compute it again."""


@dataclass(frozen=True)
class Basis:
    """All that invoicing itself knows of a customer's next document, read at one instant."""

    customer: Customer
    subscriptions: tuple[Subscription, ...]
    billed: tuple[BilledSource, ...]
    taxes: TaxTable
    coupons: tuple[HeldCoupon, ...] = ()
    paid_for: tuple[Customer, ...] = ()  # whose subscriptions are among them

    @property
    def parties(self) -> list[Customer]:
        """Who is locked while the document is issued."""
        return [self.customer, *self.paid_for]

    @property
    def revisions(self) -> dict[UUID, int]:
        return {one.subscription_id: one.revision for one in self.subscriptions}

    @property
    def positions(self) -> dict[UUID, tuple[object, ...]]:
        """How far subscriptions are: what a draft of them was computed from."""
        return {one.subscription_id: _position(one) for one in self.subscriptions}


class UsageReader:
    """Asks metering what was counted, and the wallet what an asset's atoms are."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        # An asset's scale is fixed at creation, so what is known stays known.
        self._scales: dict[tuple[UUID, str], int] = {}

    async def read(
        self, tenant_id: UUID, charges: Sequence[Charge], call: Call | None, *, settled: bool
    ) -> dict[SourceKey, Consumption]:
        """What was counted for usage charges. Not inside a transaction.

        Raises UsageNotSettled where `settled` is asked for and events are on their way.
        """
        found, pending = await self.read_all(tenant_id, charges, call)
        if settled and pending:
            raise UsageNotSettled(sum(pending.values()))
        return found

    async def read_all(
        self, tenant_id: UUID, charges: Sequence[Charge], call: Call | None
    ) -> tuple[dict[SourceKey, Consumption], dict[str, int]]:
        """The same for charges of many customers, and how many events of each are on their way."""
        asked = [charge for charge in charges if charge.is_usage and charge.billed is None]
        found: dict[SourceKey, Consumption] = {}
        pending: dict[str, int] = {}
        for start in range(0, len(asked), KEYS_MAX):
            some = asked[start : start + KEYS_MAX]
            stub = usage_pb2_grpc.UsageServiceStub(self._peers.channel("metering"))
            answer: usage_pb2.GetPeriodUsageResponse = await self._peers.call(
                stub.GetPeriodUsage,
                usage_pb2.GetPeriodUsageRequest(keys=[render_period_key(one) for one in some]),
                tenant_id=tenant_id,
                timeout=USAGE_SECONDS,
                call=call,
            )
            for charge, usage in zip(some, answer.usages, strict=True):
                asset = await self._asset(tenant_id, charge.item.price.asset)
                found[charge.key] = parse_consumption(usage, charge, asset)
                if usage.events_pending:
                    whose = charge.subscription.customer_id
                    pending[whose] = pending.get(whose, 0) + usage.events_pending
        return found, pending

    async def _asset(self, tenant_id: UUID, code: str) -> Asset:
        if is_currency(code):
            return currency(code)
        if (tenant_id, code) not in self._scales:
            await self._learn_scales(tenant_id)
        if (tenant_id, code) not in self._scales:
            raise NotFound("asset", code)
        return Asset(code, self._scales[tenant_id, code])

    async def _learn_scales(self, tenant_id: UUID) -> None:
        stub = wallet_service_pb2_grpc.AssetServiceStub(self._peers.channel("wallet"))
        token = ""
        while True:
            answer: wallet_service_pb2.ListAssetsResponse = await self._peers.call(
                stub.ListAssets,
                wallet_service_pb2.ListAssetsRequest(page_size=ASSETS_PAGE, page_token=token),
                tenant_id=tenant_id,
            )
            for asset in answer.assets:
                self._scales[tenant_id, asset.code] = asset.scale
            token = answer.next_page_token
            if not token:
                return


async def load_basis(tx: Connection, tenant_id: UUID, customer_id: str) -> Basis:
    """Raises NotFound where there is no such customer."""
    found = await load_bases(tx, tenant_id, [customer_id])
    if customer_id not in found:
        raise NotFound("customer", customer_id)
    return found[customer_id]


async def load_bases(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str]
) -> dict[str, Basis]:
    """What is known of customers' next documents, those they pay for with them (INV-9)."""
    customers = await find_customers(tx, tenant_id, customer_ids)
    paid_for = await list_paid_for(tx, tenant_id, list(customers))
    payers = {one.customer_id: one.payer_customer_id for one in paid_for}
    payers |= {customer_id: customer_id for customer_id in customers}
    subscriptions: dict[str, list[Subscription]] = {one: [] for one in customers}
    for subscription in await list_of_customers(tx, tenant_id, list(payers)):
        subscriptions[payers[subscription.customer_id]].append(subscription)
    owners = {
        item.subscription_item_id: (payer, _late_since(own))
        for payer, own in subscriptions.items()
        for subscription in own
        for item in subscription.items
    }
    sources: dict[str, list[BilledSource]] = {one: [] for one in customers}
    if owners:
        since = min(since for _, since in owners.values())
        for source in await store.list_sources(tx, tenant_id, list(owners), since):
            payer, earliest = owners[source.key.subscription_item_id]
            if source.service_end > earliest:
                sources[payer].append(source)
    taxes = await load_tax_tables(tx, tenant_id, list(customers.values()))
    holders = await list_holders(tx, tenant_id, [one for one, own in subscriptions.items() if own])
    coupons = {one: tuple(await list_held(tx, tenant_id, one)) for one in holders}
    return {
        customer_id: Basis(
            customer,
            tuple(subscriptions[customer_id]),
            tuple(sources[customer_id]),
            taxes[customer_id],
            coupons=coupons.get(customer_id, ()),
            paid_for=tuple(one for one in paid_for if one.payer_customer_id == customer_id),
        )
        for customer_id, customer in customers.items()
    }


def _late_since(subscriptions: Sequence[Subscription]) -> datetime:
    return min(one.bill_from_time for one in subscriptions) - LATE


def list_due(basis: Basis, as_of: datetime) -> list[Charge]:
    """What falls due by an instant and is not billed."""
    return due_charges(basis.subscriptions, basis.billed, as_of)


def list_charges(basis: Basis, as_of: datetime, now: datetime) -> list[Charge]:
    """What a document asks for: what usage changed that came late by now, then what is due by an
    instant."""
    late: list[Charge] = []
    if basis.taxes.seller.late_usage != "RECORD_ONLY":
        late = late_charges(basis.subscriptions, basis.billed, now)
    return [*late, *list_due(basis, as_of)]


def _position(one: Subscription) -> tuple[object, ...]:
    return one.revision, one.bill_from_time, one.next_bill_time


def list_progress(basis: Basis, as_of: datetime) -> list[Charge]:
    """What a document ahead of the close would ask for; nothing of customers without threshold."""
    if basis.customer.billing_threshold is None:
        return []
    return progress_charges(basis.subscriptions, basis.billed, as_of)


def make_progressive(
    basis: Basis, charges: Sequence[Charge], consumptions: Mapping[SourceKey, Consumption]
) -> Draft | None:
    """The document of what has accrued; None below the customer's threshold (INV-8).

    Coupons wait for the close, which has them on all usage of the period.
    """
    threshold = basis.customer.billing_threshold
    draft = draft_of(basis.customer, charges, consumptions, basis.billed, basis.taxes)
    if threshold is None or draft.subtotal.atoms < threshold:
        return None
    return draft


def make_draft(
    basis: Basis, charges: Sequence[Charge], consumptions: Mapping[SourceKey, Consumption]
) -> Draft:
    """The document of what is due; the same code for a preview and for the invoice itself."""
    return draft_of(
        basis.customer,
        charges,
        consumptions,
        basis.billed,
        basis.taxes,
        basis.coupons,
        at_zero=basis.taxes.seller.issue_zero_invoices,
        crediting=basis.taxes.seller.late_usage == "CREDIT_NOTE",
    )


async def preview(
    database: Database, reader: UsageReader, tenant_id: UUID, customer_id: str, call: Call
) -> Draft:
    """The customer's next invoice, from what was used until now. Writes nothing (INV-7)."""
    async with database.transaction(tenant_id) as tx:
        basis = await load_basis(tx, tenant_id, customer_id)
    charges = list_charges(basis, next_closing(basis.subscriptions, call.now), call.now)
    consumptions = await reader.read(tenant_id, charges, call, settled=False)
    return make_draft(basis, charges, consumptions)


async def preview_one_off(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    lines: Sequence[StatedLine],
    now: datetime,
    coupon_codes: Sequence[str] = (),
) -> Draft:
    """What stated lines would make. Raises NotFound, CouponNotRedeemable."""
    customer = await get_customer(tx, tenant_id, customer_id)
    taxes = await load_tax_table(tx, tenant_id, customer)
    coupons = await find_stated(tx, tenant_id, customer, coupon_codes, now)
    return one_off(customer, lines, taxes, now, coupons)


async def create_one_off(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    lines: Sequence[StatedLine],
    net_terms_days: int | None,
    now: datetime,
    coupon_codes: Sequence[str] = (),
) -> Invoice:
    """Issue an invoice of stated lines (INV-7). Raises NotFound, CouponNotRedeemable."""
    if await lock_customer(tx, tenant_id, customer_id) is None:
        raise NotFound("customer", customer_id)
    draft = await preview_one_off(tx, tenant_id, customer_id, lines, now, coupon_codes)
    seller = await find_seller(tx, tenant_id) or UNSTATED
    invoice_id = new_id(now)
    await redeem_stated(tx, tenant_id, draft, invoice_id)
    return await issue_draft(
        tx, tenant_id, draft, invoice_id, seller, now, net_terms_days=net_terms_days
    )


async def finalize(
    tx: Connection,
    tenant_id: UUID,
    work: Sequence[tuple[Basis, Draft]],
    as_of: datetime,
    issue_time: datetime,
    run_id: UUID,
) -> list[Invoice]:
    """Issue what was computed, mark it as billed, and move the subscriptions on: all or nothing.

    A draft that says nothing makes no document. Raises StaleDraft where anything changed since a
    basis was read: a draft is never finalized stale.
    """
    await _check_present(tx, tenant_id, [basis for basis, _ in work])
    found = [(draft, new_id(issue_time) if draft.says_something else None) for _, draft in work]
    await lock_coupons(tx, tenant_id, [one.code for draft, _ in found for one in draft.discounts])
    for (basis, _), (draft, invoice_id) in zip(work, found, strict=True):
        await redeem(tx, tenant_id, draft, invoice_id, basis.coupons)
    sources = [(source, invoice_id) for draft, invoice_id in found for source in draft.sources]
    if not await store.insert_sources(tx, tenant_id, sources):
        raise StaleDraft("another run billed one of them")
    for basis, draft in work:
        for subscription in basis.subscriptions:
            # A document ahead of the close moves nothing, and outdates what was computed of it.
            ahead = draft.kind is InvoiceKind.PROGRESSIVE
            moved = outdated(subscription) if ahead else billed(subscription, as_of)
            if moved != subscription:
                await save_terms(tx, tenant_id, moved)
    issued = [(draft, invoice_id) for draft, invoice_id in found if invoice_id is not None]
    seller = await find_seller(tx, tenant_id) or UNSTATED
    return await issue_drafts(tx, tenant_id, issued, seller, issue_time, run_id=run_id)


async def _check_present(tx: Connection, tenant_id: UUID, bases: Sequence[Basis]) -> None:
    """Lock all parties; what they have must be what was read of them. Raises StaleDraft."""
    expected = {one.customer_id: one for basis in bases for one in basis.parties}
    locked = await lock_customers(tx, tenant_id, list(expected))
    if locked != expected:
        raise StaleDraft("a customer changed")
    # Somebody who is paid for from now on is locked by nobody yet.
    paid_for = await list_paid_for(tx, tenant_id, [basis.customer.customer_id for basis in bases])
    if {one.customer_id for one in paid_for} != {
        one.customer_id for basis in bases for one in basis.paid_for
    }:
        raise StaleDraft("who pays for whom changed")
    present = await list_of_customers(tx, tenant_id, list(expected), lock=True)
    positions = {key: value for basis in bases for key, value in basis.positions.items()}
    if {one.subscription_id: _position(one) for one in present} != positions:
        raise StaleDraft("a subscription changed")


async def redeem(
    tx: Connection,
    tenant_id: UUID,
    draft: Draft,
    invoice_id: UUID | None,
    coupons: Sequence[HeldCoupon],
) -> None:
    """Count the coupons that are on a document (DIS-4). The customer is locked by the caller.

    Raises StaleDraft where the customer's coupons changed, or one reached its limit meanwhile.
    """
    customer_id = draft.customer.customer_id
    if not coupons and not draft.discounts:
        return
    present = await list_held(tx, tenant_id, customer_id)
    if [one.state for one in present] != [one.state for one in coupons]:
        raise StaleDraft(customer_id)
    if invoice_id is not None and not await take_redemptions(
        tx, tenant_id, customer_id, invoice_id, draft.discounts
    ):
        raise StaleDraft(customer_id)


async def redeem_stated(tx: Connection, tenant_id: UUID, draft: Draft, invoice_id: UUID) -> None:
    """Count coupons that somebody stated for a document. Raises CouponNotRedeemable where another
    document took the last redemption meanwhile."""
    customer_id = draft.customer.customer_id
    if not await take_redemptions(tx, tenant_id, customer_id, invoice_id, draft.discounts):
        codes = ", ".join(one.code for one in draft.discounts)
        raise CouponNotRedeemable(codes, "it was redeemed as often as it may be")


async def issue_draft(
    tx: Connection,
    tenant_id: UUID,
    draft: Draft,
    invoice_id: UUID,
    seller: Seller,
    issue_time: datetime,
    **terms: Any,
) -> Invoice:
    """Give a draft its number and write it down; `terms` as for `issue_drafts`."""
    (invoice,) = await issue_drafts(
        tx, tenant_id, [(draft, invoice_id)], seller, issue_time, **terms
    )
    return invoice


async def issue_drafts(
    tx: Connection,
    tenant_id: UUID,
    drafts: Sequence[tuple[Draft, UUID]],
    seller: Seller,
    issue_time: datetime,
    *,
    run_id: UUID | None = None,
    recharge_id: UUID | None = None,
    reissue_of: UUID | None = None,
    payment_method_id: str = "",
    net_terms_days: int | None = None,
) -> list[Invoice]:
    """Give drafts their numbers, in order, and write them down. Their customers are locked by the
    caller."""
    if not drafts:
        return []
    balances = await lock_balances(
        tx, tenant_id, [(draft.customer.customer_id, draft.total.asset) for draft, _ in drafts]
    )
    first, issued = await store.take_number(
        tx, tenant_id, seller.number_prefix, issue_time, len(drafts)
    )
    documents: list[StoredInvoice] = []
    for number, (draft, invoice_id) in enumerate(drafts, start=first):
        whose = (draft.customer.customer_id, draft.total.asset)
        # Bought value is paid for, not moved from pocket to pocket.
        usable = balances[whose] if recharge_id is None else Amount(draft.total.asset, 0)
        invoice = replace(
            issue(draft, invoice_id, seller, number, issued, usable, net_terms_days),
            run_id=run_id,
            recharge_id=recharge_id,
            reissue_of=reissue_of,
        )
        change = draft.balance_given - invoice.balance_applied
        if change.atoms:
            balances[whose] = balances[whose] + change
            await save_balance(tx, tenant_id, whose[0], balances[whose])
        due = bool(invoice.amount_due.atoms)
        collection = replace(
            begin(issued) if due else Collection(), payment_method_id=payment_method_id
        )
        documents.append(StoredInvoice(invoice, collection))
    await store.insert_invoices(tx, tenant_id, documents)
    await append_all(tx, list(_told(tenant_id, [one.invoice for one in documents])))
    return [one.invoice for one in documents]


def _told(tenant_id: UUID, invoices: Sequence[Invoice]) -> Iterator[Outgoing]:
    for invoice in invoices:
        yield Outgoing(tenant_id, "invoice.finalized", _changed(invoice))
        if not invoice.amount_due.atoms:
            yield Outgoing(tenant_id, "invoice.paid", _changed(invoice))


async def tell(tx: Connection, tenant_id: UUID, kind: str, invoice: Invoice) -> None:
    """Send an InvoiceChanged message of a kind."""
    await append(tx, tenant_id, kind, _changed(invoice))


def _changed(invoice: Invoice) -> messages_pb2.InvoiceChanged:
    return messages_pb2.InvoiceChanged(
        invoice_id=str(invoice.invoice_id),
        number=invoice.number,
        customer_id=invoice.draft.customer.customer_id,
        amount_due=amount_pb2.Amount(
            asset=invoice.amount_due.asset.code, value=invoice.amount_due.value
        ),
    )
