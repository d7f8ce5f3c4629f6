"""Recharges and alerts: started in the debit's transaction, one at a time, within the cap."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import pytest
import redis.asyncio

from chassis.outbox import stream_name
from tests.support.databases import FreshDatabase
from tests.support.refusals import refuses
from tests.support.services import Services
from tests.support.waiting import until
from tests.wallet.client import WalletClient, debit_item, key, reasons
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import messages_pb2
from tollgate.wallet.v1 import wallet_service_pb2 as wallets


async def _rule(client: WalletClient, wallet_id: str, **fields: Any) -> wallets.RechargeRule:
    chosen: dict[str, Any] = {
        "threshold": Amount(asset="USD", value="20"),
        "mode": wallets.RECHARGE_MODE_FIXED,
        "value": "50",
        "monthly_cap": "120",
        "enabled": True,
    }
    rule = wallets.RechargeRule(wallet_id=wallet_id, **(chosen | fields))
    request = wallets.SetRechargeRuleRequest(request_id=key(), rule=rule)
    answer = await client.call(client.recharges.SetRechargeRule, request)
    assert isinstance(answer.rule, wallets.RechargeRule)
    return answer.rule


async def _recharges(client: WalletClient) -> list[wallets.Recharge]:
    answer = await client.call(client.recharges.ListRecharges, wallets.ListRechargesRequest())
    return list(answer.recharges)


async def _end(client: WalletClient, recharge_id: str, state: Any, **fields: Any) -> Any:
    request = wallets.EndRechargeRequest(recharge_id=recharge_id, state=state, **fields)
    return await client.call(client.recharges.EndRecharge, request, by="invoicing")


async def _funded(client: WalletClient, value: str = "100") -> str:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, value)
    return wallet_id


async def _outbox(database: FreshDatabase, kind: str) -> list[bytes]:
    connection = await asyncpg.connect(database.superuser_dsn)
    try:
        rows = await connection.fetch(
            "SELECT payload FROM wallet.outbox WHERE kind = $1 ORDER BY sequence", kind
        )
    finally:
        await connection.close()
    return [row["payload"] for row in rows]


async def test_the_message_leaves_with_the_debit_that_crosses_the_threshold(
    services: Services, wallet_database: FreshDatabase, redis_client: redis.asyncio.Redis
) -> None:
    await services.run("wallet", wallet_database)
    client = WalletClient(await services.channel("wallet"))
    wallet_id = await _funded(client)
    await _rule(client, wallet_id, payment_method_id="pm-1")
    await client.debit("79.99")
    assert await _recharges(client) == []
    await client.debit("0.01")
    (recharge,) = await _recharges(client)
    assert recharge.state == wallets.RECHARGE_STATE_IN_FLIGHT

    async def arrived() -> Any:
        return await redis_client.xrange(stream_name("wallet"))

    ((_, fields),) = await until(arrived, what="the message")
    assert fields[b"kind"] == b"wallet.recharge_due"
    assert UUID(bytes=fields[b"tenant"]) == client.tenant_id
    due = messages_pb2.RechargeDue.FromString(fields[b"payload"])
    assert due.recharge_id == recharge.recharge_id
    assert due.amount == due.price == Amount(asset="USD", value="50")
    assert (due.customer_id, due.payment_method_id) == ("c1", "pm-1")


async def test_one_recharge_is_in_flight_however_many_debits_cross(
    client: WalletClient, wallet_database: FreshDatabase
) -> None:
    wallet_id = await _funded(client, "25")
    await _rule(client, wallet_id)
    outcomes = await asyncio.gather(*[client.debit("1") for _ in range(30)])
    assert sorted(reasons(outcomes)) == ["INSUFFICIENT_FUNDS"] * 5 + ["OK"] * 25
    assert len(await _recharges(client)) == 1
    assert len(await _outbox(wallet_database, "wallet.recharge_due")) == 1


async def test_the_next_starts_when_the_last_was_granted_until_the_cap(
    client: WalletClient,
) -> None:
    wallet_id = await _funded(client, "20")
    await _rule(client, wallet_id)
    for started in (1, 2):
        await client.debit("1")
        newest = (await _recharges(client))[0]
        await client.grant(wallet_id, "50", request_id=f"payment-{started}")
        await _end(client, newest.recharge_id, wallets.RECHARGE_STATE_GRANTED)
        await client.debit("49")
    assert len(await _recharges(client)) == 2, "a third would be above 120 a month"


async def test_a_failed_recharge_is_not_counted_and_pauses_the_rule(client: WalletClient) -> None:
    wallet_id = await _funded(client, "20")
    await _rule(client, wallet_id, monthly_cap="50")
    await client.debit("1")
    (recharge,) = await _recharges(client)
    ended = await _end(client, recharge.recharge_id, wallets.RECHARGE_STATE_FAILED)
    assert ended.recharge.HasField("end_time")
    await client.debit("1")
    assert len(await _recharges(client)) == 1, "paused"
    await _rule(client, wallet_id, monthly_cap="50")
    await client.debit("1")
    assert len(await _recharges(client)) == 2, "setting the rule again lifts the pause"


async def test_a_recharge_is_decided_once(client: WalletClient) -> None:
    wallet_id = await _funded(client, "20")
    await _rule(client, wallet_id)
    await client.debit("1")
    (recharge,) = await _recharges(client)
    first = await _end(client, recharge.recharge_id, wallets.RECHARGE_STATE_GRANTED)
    again = await _end(client, recharge.recharge_id, wallets.RECHARGE_STATE_GRANTED)
    assert first == again
    with refuses("RECHARGE_ENDED", grpc.StatusCode.FAILED_PRECONDITION):
        await _end(client, recharge.recharge_id, wallets.RECHARGE_STATE_FAILED)
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await _end(client, wallet_id, wallets.RECHARGE_STATE_GRANTED)


async def test_a_hard_decline_switches_the_rule_off(client: WalletClient) -> None:
    wallet_id = await _funded(client, "20")
    await _rule(client, wallet_id)
    await client.debit("1")
    (recharge,) = await _recharges(client)
    await _end(client, recharge.recharge_id, wallets.RECHARGE_STATE_FAILED, disable_rule=True)
    answer = await client.call(
        client.recharges.ListRechargeRules, wallets.ListRechargeRulesRequest(customer_id="c1")
    )
    assert [rule.enabled for rule in answer.rules] == [False]


async def test_a_hold_crosses_too_and_a_denied_debit_starts_what_would_let_it_pass(
    client: WalletClient,
) -> None:
    wallet_id = await _funded(client)
    await _rule(client, wallet_id)
    await client.hold("80")
    assert len(await _recharges(client)) == 1
    empty = await client.wallet("c2")
    await _rule(client, empty)
    assert (await client.debit("1", "c2")).refusal.reason == "INSUFFICIENT_FUNDS"
    group = [debit_item("1", "c2", group="g"), debit_item("1", "c2", group="g")]
    await client.post(group)
    assert [r.customer_id for r in await _recharges(client)] == ["c2", "c1"]


async def test_a_recharge_to_a_target_buys_what_is_missing_at_its_price(
    client: WalletClient, wallet_database: FreshDatabase
) -> None:
    await client.asset()
    await client.asset("token", 0)
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "1000", "token")
    await _rule(
        client,
        wallet_id,
        threshold=Amount(asset="token", value="200"),
        mode=wallets.RECHARGE_MODE_TO_TARGET,
        value="5000",
        unit_price="0.002",
        price_asset="USD",
        monthly_cap="100000",
    )
    await client.debit("900", asset="token")
    (payload,) = await _outbox(wallet_database, "wallet.recharge_due")
    due = messages_pb2.RechargeDue.FromString(payload)
    assert due.amount == Amount(asset="token", value="4900")
    assert due.price == Amount(asset="USD", value="9.8")


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("rule.value", {"value": "0"}),
        ("rule.value", {"mode": wallets.RECHARGE_MODE_TO_TARGET, "value": "20"}),
        ("rule.mode", {"mode": wallets.RECHARGE_MODE_UNSPECIFIED}),
        ("rule.monthly_cap", {"monthly_cap": ""}),
        ("rule.unit_price", {"unit_price": "0"}),
        ("rule.threshold.value", {"threshold": Amount(asset="USD", value="0.001")}),
    ],
)
async def test_a_rule_that_cannot_be_is_refused(
    client: WalletClient, field: str, fields: dict[str, Any]
) -> None:
    wallet_id = await _funded(client)
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
        await _rule(client, wallet_id, **fields)
    assert refused.facts["field"] == field


async def test_an_alert_fires_once_per_crossing(
    client: WalletClient, wallet_database: FreshDatabase
) -> None:
    wallet_id = await _funded(client)
    threshold = Amount(asset="USD", value="30")
    request = wallets.SetBalanceAlertRequest(
        request_id=key(), wallet_id=wallet_id, threshold=threshold
    )
    await client.call(client.alerts.SetBalanceAlert, request)
    for value in ("69", "1", "5", "5"):
        await client.debit(value)
    assert len(await _outbox(wallet_database, "wallet.balance_low")) == 1
    await client.grant(wallet_id, "100")
    await client.debit("95")
    low = [
        messages_pb2.BalanceLow.FromString(payload)
        for payload in await _outbox(wallet_database, "wallet.balance_low")
    ]
    assert [message.available.value for message in low] == ["30", "25"]
    assert all(message.threshold == threshold for message in low)
    answer = await client.call(client.alerts.ListBalanceAlerts, wallets.ListBalanceAlertsRequest())
    assert [alert.armed for alert in answer.alerts] == [False]
    remove = wallets.SetBalanceAlertRequest(
        request_id=key(), wallet_id=wallet_id, threshold=threshold, remove=True
    )
    await client.call(client.alerts.SetBalanceAlert, remove)
    answer = await client.call(client.alerts.ListBalanceAlerts, wallets.ListBalanceAlertsRequest())
    assert not answer.alerts
