"""Setting spend alerts, and looking whether they are crossed."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from uuid import UUID

from chassis.call import Call
from chassis.database import Connection, Database
from chassis.messages import append_all
from chassis.requests import claim, record
from kernel.errors import NotFound
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.alerts import store
from wallet.alerts.domain import (
    SAMPLES_OF_A_WINDOW,
    Sample,
    SpendAlert,
    SpendAlertKind,
    burn_rate,
    is_crossed,
)
from wallet.alerts.wire import render_expiring, render_fired, render_spend_alert
from wallet.grants.store import has_wallet

DAY_SECONDS = 86_400


async def set_alert(
    database: Database, call: Call, request: pb.SetSpendAlertRequest, alert: SpendAlert
) -> pb.SetSpendAlertResponse:
    """Set, change or remove an alert. Raises NotFound, IdempotencyConflict."""
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.SetSpendAlertResponse.FromString(recorded)
        if not await has_wallet(tx, call.tenant_id, alert.wallet_id):
            raise NotFound("wallet", alert.wallet_id)
        response = pb.SetSpendAlertResponse()
        if request.remove:
            await store.remove_alert(tx, call.tenant_id, alert)
        else:
            await store.save_alert(tx, call.tenant_id, alert)
            response.alert.CopyFrom(render_spend_alert(alert))
        await record(tx, call.tenant_id, request.request_id, response)
        return response


async def look(database: Database, tenant_id: UUID, wallet_id: str, now: datetime) -> int:
    """Look at the alerts of one wallet; answers how many messages left."""
    async with database.transaction(tenant_id) as tx:
        told = 0
        for alert in await store.lock_alerts(tx, tenant_id, wallet_id):
            funds = await store.find_funds(tx, tenant_id, wallet_id, alert.asset)
            if funds is None:
                continue
            if alert.kind is SpendAlertKind.GRANT_EXPIRY:
                told += await _tell_expiring(tx, tenant_id, alert, funds, now)
            else:
                told += await _tell_crossing(tx, tenant_id, alert, funds, now)
        return told


async def _tell_expiring(
    tx: Connection, tenant_id: UUID, alert: SpendAlert, funds: store.Funds, now: datetime
) -> int:
    ahead = timedelta(seconds=int(alert.threshold * DAY_SECONDS))
    grants = await store.note_expiring(tx, tenant_id, alert.wallet_id, alert.asset, now, ahead)
    await append_all(
        tx, [render_expiring(tenant_id, alert, funds.customer_id, grant) for grant in grants]
    )
    return len(grants)


async def _tell_crossing(
    tx: Connection, tenant_id: UUID, alert: SpendAlert, funds: store.Funds, now: datetime
) -> int:
    rate = await _measure(tx, tenant_id, alert, funds, now)
    if rate is None:
        return 0
    crossed = is_crossed(alert, rate, funds.available)
    if crossed is not alert.armed:
        return 0  # crossed and told before, or well and armed
    await store.save_armed(tx, tenant_id, alert, armed=not crossed)
    if not crossed:
        return 0
    await append_all(tx, [render_fired(tenant_id, alert, funds, rate)])
    return 1


async def _measure(
    tx: Connection, tenant_id: UUID, alert: SpendAlert, funds: store.Funds, now: datetime
) -> Fraction | None:
    """The burn rate over the alert's window. Each move of the journal is read once: the count goes
    on from the last sample."""
    wallet_id, asset, since = alert.wallet_id, alert.asset, now - alert.window
    samples = await store.list_samples(tx, tenant_id, wallet_id, asset)
    if not samples:
        first = await store.find_beginning(tx, tenant_id, wallet_id, asset, since)
        if first is None:
            return None
        await store.keep_sample(tx, tenant_id, wallet_id, asset, first, since)
        samples = [first]
    last = samples[-1]
    used = await store.sum_used(tx, tenant_id, wallet_id, asset, last.sequence, funds.sequence)
    current = Sample(now, funds.sequence, last.used + used)
    if now - last.time >= alert.window / SAMPLES_OF_A_WINDOW:
        await store.keep_sample(tx, tenant_id, wallet_id, asset, current, since)
    base = next((s for s in reversed(samples) if s.time <= since), samples[0])
    return burn_rate(base, current)
