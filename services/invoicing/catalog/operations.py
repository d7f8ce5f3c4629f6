"""What can be done with plans, and the prices in force for customers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection
from chassis.peers import Peers
from invoicing.catalog import store
from invoicing.catalog.domain import (
    CardEntry,
    PlanNotPublished,
    PlanVersion,
    RateCard,
    VersionState,
    archive,
    order_entries,
    publish,
)
from invoicing.customers.store import find_customers
from invoicing.entitlements.operations import check_entitlements, get_entitlements
from kernel.errors import InvalidValue, NotFound
from tollgate.metering.v1 import meter_pb2, meter_pb2_grpc

# An ended subscription still prices late events: longer than any tenant's window for those.
ENDED_CARDS_DAYS = 100
METERS_PAGE = 1_000


async def create_draft(tx: Connection, tenant_id: UUID, draft: PlanVersion) -> PlanVersion:
    """A new plan, or the next draft version of one that exists.

    Raises InvalidValue where a plan would become an add-on, or the reverse.
    """
    kind = await store.find_kind(tx, tenant_id, draft.code)
    if kind is not None and kind is not draft.kind:
        raise InvalidValue("plan.kind", f"{draft.code!r} is a {kind.value} for ever")
    plan = replace(draft, version=await store.take_version(tx, tenant_id, draft.code))
    await store.insert_version(tx, tenant_id, plan)
    return plan


async def publish_version(
    tx: Connection,
    tenant_id: UUID,
    code: str,
    version: int,
    meters: Collection[str],
    now: datetime,
) -> PlanVersion:
    """Raises NotFound, PlanNotDraft, InvalidValue naming the price or entitlement at fault."""
    plan = await store.find_version(tx, tenant_id, code, version, lock=True)
    if plan is None:
        raise NotFound("plan version", f"{code} {version}")
    await check_entitlements(tx, tenant_id, plan.entitlements, "entitlements")
    published = publish(plan, meters, now)
    await store.save_published(tx, tenant_id, published)
    return published


async def archive_version(tx: Connection, tenant_id: UUID, code: str, version: int) -> PlanVersion:
    """Raises NotFound, PlanNotPublished."""
    plan = await store.find_version(tx, tenant_id, code, version, lock=True)
    if plan is None:
        raise NotFound("plan version", f"{code} {version}")
    archived = archive(plan)
    if archived != plan:
        await store.save_archived(tx, tenant_id, archived)
    return archived


async def get_version(tx: Connection, tenant_id: UUID, code: str, version: int) -> PlanVersion:
    """A version; 0 is the one that new subscriptions take. Raises NotFound, PlanNotPublished."""
    if version == 0:
        default = await store.find_default_version(tx, tenant_id, code)
        if default is None:
            raise NotFound("plan", code)
        if default == 0:
            raise PlanNotPublished(code, 0, None)
        version = default
    plan = await store.find_version(tx, tenant_id, code, version)
    if plan is None:
        raise NotFound("plan version", f"{code} {version}")
    return plan


async def get_published(tx: Connection, tenant_id: UUID, code: str, version: int) -> PlanVersion:
    """A version that takes subscriptions. Raises NotFound, PlanNotPublished."""
    plan = await get_version(tx, tenant_id, code, version)
    if plan.state is not VersionState.PUBLISHED:
        raise PlanNotPublished(plan.code, plan.version, plan.state)
    return plan


async def get_rate_cards(
    tx: Connection, tenant_id: UUID, customer_ids: Sequence[str], now: datetime
) -> list[RateCard]:
    """One per customer, in order. Versions are read before entries: entries that are newer than
    the version they are told with are asked again, older ones never would be."""
    customers = await find_customers(tx, tenant_id, customer_ids)
    ended_after = now - timedelta(days=ENDED_CARDS_DAYS)
    entries = await store.list_card_entries(tx, tenant_id, list(customers), ended_after)
    granted = await get_entitlements(tx, tenant_id, customer_ids, now, customers)
    cards = []
    for customer_id, held in zip(customer_ids, granted, strict=True):
        customer = customers.get(customer_id)
        if customer is None:
            cards.append(RateCard(customer_id, known=False))
            continue
        cards.append(
            RateCard(
                customer_id=customer_id,
                known=True,
                version=customer.rate_card_version,
                suspended=customer.suspended,
                time_zone=customer.time_zone,
                entries=order_entries(entries.get(customer_id, [])),
                entitlements=held.entitlements,
                valid_until=_valid_until(entries.get(customer_id, []), held.valid_until, now),
            )
        )
    return cards


def _valid_until(
    entries: Collection[CardEntry], granted_until: datetime | None, now: datetime
) -> datetime | None:
    """When prices or entitlements change by themselves next."""
    instants = [granted_until, *(e.start_time for e in entries), *(e.end_time for e in entries)]
    return min((one for one in instants if one is not None and one > now), default=None)


async def list_meters(peers: Peers, call: Call) -> set[str]:
    """Codes of the tenant's meters that count, asked of metering. Not inside a transaction."""
    stub = meter_pb2_grpc.MeterServiceStub(peers.channel("metering"))
    codes: set[str] = set()
    token = ""
    while True:
        answer: meter_pb2.ListMetersResponse = await peers.call(
            stub.ListMeters,
            meter_pb2.ListMetersRequest(page_size=METERS_PAGE, page_token=token),
            tenant_id=call.tenant_id,
            call=call,
        )
        codes.update(meter.code for meter in answer.meters if not meter.archived)
        token = answer.next_page_token
        if not token:
            return codes
