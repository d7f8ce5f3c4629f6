"""What can be done with features and entitlements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection
from chassis.peers import Peers
from chassis.wire import render_time
from invoicing.customers.domain import Customer
from invoicing.customers.operations import change_rate_card, lock_customer
from invoicing.customers.store import find_customers
from invoicing.entitlements import store
from invoicing.entitlements.domain.resolve import (
    EffectiveLimit,
    Entitlement,
    Grant,
    Holdings,
    Override,
    resolve,
)
from invoicing.entitlements.domain.value import (
    Enforcement,
    Feature,
    PlanEntitlement,
    Value,
    change,
    check_value,
)
from kernel.errors import InvalidValue, NotFound
from kernel.period import Period
from tollgate.metering.v1 import usage_pb2, usage_pb2_grpc
from tollgate.type.v1 import amount_pb2

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # no usage is older
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class CustomerEntitlements:
    """All that one customer may do, as of an instant."""

    customer_id: str
    customer: Customer | None
    entitlements: tuple[Entitlement, ...] = ()
    valid_until: datetime | None = None

    def of(self, code: str) -> Entitlement | None:
        return next((one for one in self.entitlements if one.feature.code == code), None)


@dataclass(frozen=True, slots=True)
class LimitUse:
    """What is used of a limit in its running window. None: the gate alone knows."""

    window: Period | None
    used: Decimal | None


async def set_feature(tx: Connection, tenant_id: UUID, wanted: Feature) -> Feature:
    """Create a feature, or change what may change of it. Raises FeatureFixed."""
    if await store.insert_feature(tx, tenant_id, wanted):
        return wanted
    present = await store.lock_feature(tx, tenant_id, wanted.code)
    assert present is not None
    changed = change(present, wanted)
    if changed != present:
        await store.save_feature(tx, tenant_id, changed)
    return changed


async def check_entitlements(
    tx: Connection, tenant_id: UUID, entitlements: Sequence[PlanEntitlement], field: str
) -> None:
    """Raises InvalidValue where a plan grants what is no feature, or what it cannot hold."""
    features = await store.find_features(tx, tenant_id, [one.feature_code for one in entitlements])
    for index, one in enumerate(entitlements):
        feature = features.get(one.feature_code)
        here = f"{field}[{index}]"
        if feature is None:
            raise InvalidValue(f"{here}.feature_code", f"there is no feature {one.feature_code!r}")
        check_value(feature, one.value, f"{here}.value")


async def get_entitlements(
    tx: Connection,
    tenant_id: UUID,
    customer_ids: Sequence[str],
    now: datetime,
    customers: Mapping[str, Customer] | None = None,
) -> list[CustomerEntitlements]:
    """One per customer, in order. Customers, and with them versions, are read first: an answer
    may be newer than the version it is told with, and is then asked for again; never older."""
    if customers is None:
        customers = await find_customers(tx, tenant_id, customer_ids)
    known = list(customers)
    provisions = await store.list_provisions(tx, tenant_id, known, now)
    overrides = await store.list_overrides_of(tx, tenant_id, known, now)
    grants = await store.list_grants_of(tx, tenant_id, known, now)
    codes = {value.feature_code for some in provisions.values() for p in some for value in p.values}
    codes |= {one.feature_code for some in overrides.values() for one in some}
    codes |= {one.feature_code for some in grants.values() for one in some}
    features = await store.find_features(tx, tenant_id, codes)
    found = []
    for customer_id in customer_ids:
        customer = customers.get(customer_id)
        if customer is None:
            found.append(CustomerEntitlements(customer_id, None))
            continue
        held = Holdings(
            time_zone=customer.time_zone,
            create_time=customer.create_time,
            provisions=tuple(provisions.get(customer_id, ())),
            overrides=tuple(overrides.get(customer_id, ())),
            grants=tuple(grants.get(customer_id, ())),
        )
        found.append(CustomerEntitlements(customer_id, customer, *resolve(features, held, now)))
    return found


async def set_override(tx: Connection, tenant_id: UUID, override: Override) -> Override:
    """Raises NotFound, InvalidValue."""
    await lock_customer(tx, tenant_id, override.customer_id)
    await _check_feature(tx, tenant_id, override.feature_code, override.value, "override.value")
    if override.subscription_id is not None and not await store.has_subscription(
        tx, tenant_id, override.customer_id, override.subscription_id
    ):
        raise NotFound("subscription", override.subscription_id)
    await store.save_override(tx, tenant_id, override)
    await change_rate_card(tx, tenant_id, override.customer_id)
    return override


async def clear_override(
    tx: Connection,
    tenant_id: UUID,
    customer_id: str,
    subscription_id: UUID | None,
    feature_code: str,
) -> None:
    """Raises NotFound."""
    await lock_customer(tx, tenant_id, customer_id)
    if not await store.delete_override(tx, tenant_id, customer_id, subscription_id, feature_code):
        raise NotFound("entitlement override", feature_code)
    await change_rate_card(tx, tenant_id, customer_id)


async def create_grant(tx: Connection, tenant_id: UUID, grant: Grant) -> Grant:
    """Raises NotFound, InvalidValue."""
    await lock_customer(tx, tenant_id, grant.customer_id)
    await _check_feature(tx, tenant_id, grant.feature_code, grant.value, "grant.value")
    await store.insert_grant(tx, tenant_id, grant)
    await change_rate_card(tx, tenant_id, grant.customer_id)
    return grant


async def revoke_grant(tx: Connection, tenant_id: UUID, grant_id: UUID, now: datetime) -> Grant:
    """End a grant now; one that is over stays as it is. Raises NotFound."""
    grant = await store.lock_grant(tx, tenant_id, grant_id)
    if grant is None:
        raise NotFound("entitlement grant", grant_id)
    if grant.end is not None and grant.end <= now:
        return grant
    ended = replace(grant, end=max(now, grant.start))
    await store.save_grant(tx, tenant_id, ended)
    await change_rate_card(tx, tenant_id, grant.customer_id)
    return ended


async def _check_feature(
    tx: Connection, tenant_id: UUID, code: str, value: Value, field: str
) -> None:
    feature = (await store.find_features(tx, tenant_id, [code])).get(code)
    if feature is None:
        raise NotFound("feature", code)
    check_value(feature, value, field)


async def read_uses(
    peers: Peers, call: Call, customer_id: str, entitlement: Entitlement
) -> list[LimitUse]:
    """What was used of each limit, asked of metering. Not inside a transaction."""
    uses = []
    for limit in entitlement.limits:
        window = limit.window(call.now)
        rolling = bool(limit.rolling_seconds)
        used = None
        if not rolling:
            used = await _used(peers, call, customer_id, entitlement.feature.meter, window)
        uses.append(LimitUse(window, used))
    return uses


async def _used(
    peers: Peers, call: Call, customer_id: str, meter: str, window: Period | None
) -> Decimal:
    stub = usage_pb2_grpc.UsageServiceStub(peers.channel("metering"))
    start = window.start if window else BEGINNING
    # What events of this very instant used counts already.
    end = window.end if window else call.now + INSTANT
    answer: usage_pb2.QueryUsageResponse = await peers.call(
        stub.QueryUsage,
        usage_pb2.QueryUsageRequest(
            customer_ids=[customer_id],
            meters=[meter],
            interval=amount_pb2.Interval(start_time=render_time(start), end_time=render_time(end)),
        ),
        tenant_id=call.tenant_id,
        call=call,
    )
    return sum((Decimal(row.quantity) for row in answer.rows), Decimal(0))


def reasons_against(
    held: CustomerEntitlements,
    entitlement: Entitlement | None,
    uses: Sequence[LimitUse],
    wanted: Decimal,
) -> list[str]:
    """Why the gate would say no, in its words; empty where it would say yes."""
    reasons = []
    if held.customer is not None and held.customer.suspended:
        reasons.append("CUSTOMER_SUSPENDED")
    if entitlement is None or not entitlement.enabled:
        return [*reasons, "NOT_ENTITLED"]
    if any(
        _is_beyond(limit, use, wanted) for limit, use in zip(entitlement.limits, uses, strict=True)
    ):
        reasons.append("LIMIT_REACHED")
    return reasons


def _is_beyond(limit: EffectiveLimit, use: LimitUse, wanted: Decimal) -> bool:
    used = use.used or Decimal(0)
    return limit.enforcement is Enforcement.HARD and used + wanted > limit.quantity
