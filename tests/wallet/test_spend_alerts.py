"""Alerts on days left, on the burn rate and on expiring grants: once per crossing, then again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.databases import FreshDatabase
from tests.support.refusals import refuses
from tests.wallet.client import WalletClient, key
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from tollgate.wallet.v1 import messages_pb2
from tollgate.wallet.v1 import wallet_service_pb2 as wallets
from wallet.alerts.domain import Sample, burn_rate
from wallet.alerts.operations import look

DAYS_LEFT = wallets.SPEND_ALERT_KIND_DAYS_LEFT
BURN_RATE = wallets.SPEND_ALERT_KIND_BURN_RATE
EXPIRY = wallets.SPEND_ALERT_KIND_GRANT_EXPIRY


async def _set(client: WalletClient, wallet_id: str, **fields: Any) -> wallets.SpendAlert:
    chosen = {"request_id": key(), "asset": "USD", "kind": DAYS_LEFT, "threshold": "5"} | fields
    request = wallets.SetSpendAlertRequest(wallet_id=wallet_id, **chosen)
    answer = await client.call(client.alerts.SetSpendAlert, request)
    assert isinstance(answer.alert, wallets.SpendAlert)
    return answer.alert


async def _look(
    client: WalletClient, database: FreshDatabase, wallet_id: str, ahead: timedelta
) -> int:
    """What a look would find so much later."""
    async with database.open("wallet") as pool:
        return await look(pool, client.tenant_id, wallet_id, datetime.now(UTC) + ahead)


async def _told(database: FreshDatabase, kind: str) -> list[bytes]:
    connection = await asyncpg.connect(database.superuser_dsn)
    try:
        rows = await connection.fetch(
            "SELECT payload FROM wallet.outbox WHERE kind = $1 ORDER BY sequence", kind
        )
    finally:
        await connection.close()
    return [row["payload"] for row in rows]


async def test_days_left_are_told_once_until_they_were_enough_again(
    client: WalletClient, wallet_database: FreshDatabase
) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "100")
    await _set(client, wallet_id)
    await client.debit("10")
    day = timedelta(days=1)
    assert await _look(client, wallet_database, wallet_id, day) == 0, "10 a day, nine days left"
    await client.debit("50")
    assert await _look(client, wallet_database, wallet_id, 2 * day) == 1, "30 a day, 40 left"
    assert await _look(client, wallet_database, wallet_id, 2 * day) == 0
    (payload,) = await _told(wallet_database, "wallet.spend_alert")
    message = messages_pb2.SpendAlertFired.FromString(payload)
    assert (message.kind, message.available.value, message.customer_id) == ("DAYS_LEFT", "40", "c1")
    assert 29 < float(message.burn_rate) <= 30
    assert 1.3 < float(message.days_left) < 1.4
    await client.grant(wallet_id, "1000")
    assert await _look(client, wallet_database, wallet_id, 2 * day) == 0, "armed again"
    await client.debit("1000")
    assert await _look(client, wallet_database, wallet_id, 3 * day) == 1


async def test_a_burn_rate_is_told_when_it_is_reached(
    client: WalletClient, wallet_database: FreshDatabase
) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "1000")
    alert = await _set(client, wallet_id, kind=BURN_RATE, threshold="20.5", window_hours=24)
    assert (alert.threshold, alert.window_hours, alert.armed) == ("20.5", 24, True)
    await client.debit("20")
    assert await _look(client, wallet_database, wallet_id, timedelta(hours=24)) == 0
    await client.debit("40")
    assert await _look(client, wallet_database, wallet_id, timedelta(hours=25)) == 1
    listed = await client.call(client.alerts.ListSpendAlerts, wallets.ListSpendAlertsRequest())
    assert [a.armed for a in listed.alerts] == [False]
    await _look(client, wallet_database, wallet_id, timedelta(hours=60))
    listed = await client.call(client.alerts.ListSpendAlerts, wallets.ListSpendAlertsRequest())
    assert [a.armed for a in listed.alerts] == [True], "nothing was used for a day"


async def test_a_grant_that_expires_soon_is_told_of_once_and_again_after_it_was_moved(
    client: WalletClient, wallet_database: FreshDatabase
) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    end = datetime.now(UTC) + timedelta(days=10)
    stamp = Timestamp()
    stamp.FromDatetime(end)
    grant_id = (await client.grant(wallet_id, "10", expire_time=stamp)).grant_id
    await client.grant(wallet_id, "10")
    await _set(client, wallet_id, kind=EXPIRY, threshold="3")
    assert await _look(client, wallet_database, wallet_id, timedelta(days=6)) == 0
    assert await _look(client, wallet_database, wallet_id, timedelta(days=8)) == 1
    assert await _look(client, wallet_database, wallet_id, timedelta(days=8)) == 0
    (payload,) = await _told(wallet_database, "wallet.grant_expiring")
    message = messages_pb2.GrantExpiring.FromString(payload)
    assert (message.grant_id, message.remaining.value) == (grant_id, "10")
    for moved in (end + timedelta(days=30), end):
        stamp.FromDatetime(moved)
        request = ledger.ChangeGrantExpiryRequest(
            request_id=key(),
            wallet_id=wallet_id,
            grant_id=grant_id,
            expire_time=stamp,
            reason="extended",
        )
        await client.call(client.grants.ChangeGrantExpiry, request)
        told = await _look(client, wallet_database, wallet_id, timedelta(days=8))
        assert told == (1 if moved == end else 0)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"threshold": "0"}, "threshold"),
        ({"threshold": "x"}, "threshold"),
        ({"threshold": "3651"}, "threshold"),
        ({"kind": 0}, "kind"),
        ({"window_hours": 2161}, "window_hours"),
        ({"wallet_id": "w"}, "wallet_id"),
    ],
)
async def test_an_alert_that_cannot_be_names_its_field(
    client: WalletClient, fields: dict[str, Any], field: str
) -> None:
    await client.asset()
    chosen = {"wallet_id": await client.wallet()} | fields
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
        await _set(client, **chosen)
    assert refused.facts["field"] == field


async def test_an_alert_is_removed_and_an_unknown_wallet_has_none(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await _set(client, wallet_id)
    await _set(client, wallet_id, remove=True)
    listed = await client.call(client.alerts.ListSpendAlerts, wallets.ListSpendAlertsRequest())
    assert list(listed.alerts) == []
    with refuses("NOT_FOUND"):
        await _set(client, "00000000-0000-0000-0000-000000000001")


def test_a_rate_is_exact_and_says_nothing_too_early() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    base = Sample(begin, 0, 5)
    assert burn_rate(base, Sample(begin + timedelta(hours=8), 9, 15)) == Fraction(30)
    assert burn_rate(base, Sample(begin + timedelta(minutes=9), 9, 15)) is None
