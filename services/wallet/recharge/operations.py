"""Setting rules and alerts, and saying how recharges ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from chassis.call import Call
from chassis.database import Database
from chassis.paging import Page
from chassis.requests import claim, record
from kernel.errors import NotFound
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.recharge import store
from wallet.recharge.domain import RechargeEnded, RechargeState
from wallet.recharge.store import Recharge, StoredAlert, StoredRule
from wallet.recharge.wire import render_alert, render_rule

FIRST_ID = "00000000-0000-0000-0000-000000000000"
LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
# After a recharge that failed, so that a declining card is not tried by every debit. Longer pauses
# are for whoever collects: the recharge stays in flight while it retries.
PAUSE_AFTER_FAILURE = timedelta(minutes=1)


async def set_rule(
    database: Database, call: Call, request: pb.SetRechargeRuleRequest, rule: StoredRule
) -> pb.SetRechargeRuleResponse:
    """Set, change or switch off a rule. Raises NotFound, IdempotencyConflict."""
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.SetRechargeRuleResponse.FromString(recorded)
        if not await store.lock_wallet(tx, call.tenant_id, rule.wallet_id):
            raise NotFound("wallet", rule.wallet_id)
        await store.save_rule(tx, call.tenant_id, rule)
        response = pb.SetRechargeRuleResponse(rule=render_rule(rule))
        await record(tx, call.tenant_id, request.request_id, response)
        return response


async def end_recharge(
    database: Database,
    call: Call,
    recharge_id: str,
    state: RechargeState,
    *,
    switch_off: bool,
    cause: str,
) -> Recharge:
    """Decide a recharge once; saying the same again is the same answer. Raises NotFound,
    RechargeEnded."""
    tenant_id = call.tenant_id
    async with database.transaction(tenant_id) as tx:
        recharge = await store.find_recharge(tx, tenant_id, recharge_id)
        if recharge is None:
            raise NotFound("recharge", recharge_id)
        await store.lock_wallet(tx, tenant_id, recharge.wallet_id)
        # A new statement, so that it sees what the lock waited for.
        recharge = await store.find_recharge(tx, tenant_id, recharge_id) or recharge
        if recharge.state is state:
            return recharge
        if recharge.state is not RechargeState.IN_FLIGHT:
            raise RechargeEnded(recharge_id, recharge.state)
        ended = replace(recharge, state=state, end_time=call.now)
        pause = call.now + PAUSE_AFTER_FAILURE if state is RechargeState.FAILED else None
        await store.release_rule(tx, tenant_id, ended, pause_until=pause, switch_off=switch_off)
        await store.save_end(tx, tenant_id, ended, cause)
        return ended


async def set_alert(
    database: Database, call: Call, request: pb.SetBalanceAlertRequest, alert: StoredAlert
) -> pb.SetBalanceAlertResponse:
    """Set, change or remove a threshold. Raises NotFound, IdempotencyConflict."""
    async with database.transaction(call.tenant_id) as tx:
        recorded = await claim(tx, call.tenant_id, request.request_id, request)
        if recorded is not None:
            return pb.SetBalanceAlertResponse.FromString(recorded)
        if not await store.lock_wallet(tx, call.tenant_id, alert.wallet_id):
            raise NotFound("wallet", alert.wallet_id)
        response = pb.SetBalanceAlertResponse()
        if request.remove:
            await store.remove_alert(tx, call.tenant_id, alert.wallet_id, alert.asset)
        else:
            await store.save_alert(tx, call.tenant_id, alert)
            response.alert.CopyFrom(render_alert(alert))
        await record(tx, call.tenant_id, request.request_id, response)
        return response


async def list_rules(
    database: Database, tenant_id: UUID, customer_id: str, page: Page
) -> list[StoredRule]:
    """One rule more than the page holds, where there are more."""
    async with database.transaction(tenant_id) as tx:
        return await store.list_rules(tx, tenant_id, customer_id, _after(page), page.size + 1)


async def list_alerts(
    database: Database, tenant_id: UUID, customer_id: str, page: Page
) -> list[StoredAlert]:
    """One alert more than the page holds, where there are more."""
    async with database.transaction(tenant_id) as tx:
        return await store.list_alerts(tx, tenant_id, customer_id, _after(page), page.size + 1)


async def list_recharges(
    database: Database, tenant_id: UUID, customer_id: str, page: Page
) -> list[Recharge]:
    """One recharge more than the page holds, where there are more; newest first."""
    before = page.after[0] if page.after else LAST_ID
    async with database.transaction(tenant_id) as tx:
        return await store.list_recharges(tx, tenant_id, customer_id, before, page.size + 1)


def _after(page: Page) -> tuple[str, str]:
    return (page.after[0], page.after[1]) if page.after else (FIRST_ID, "")
