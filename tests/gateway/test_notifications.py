"""Notifications: kept before they are believed, believed only when signed, applied once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from gateway.accounts.store import find_provider_account
from gateway.providers.sandbox import notification_body, sign
from tests.gateway.support import Desk, SandboxProcess, attempt_state, open_desk, state_of
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tests.support.waiting import until


class Door:
    """A gateway that listens for notifications, and one account's address there."""

    def __init__(self, desk: Desk, database: FreshDatabase, account_id: str) -> None:
        self.desk = desk
        self.account_id = account_id
        self._database = database
        lines = desk.app.lines
        assert lines is not None
        self.address = f"{lines.notifications_url}/notifications/{account_id}"

    async def secret(self) -> bytes:
        async with self._database.open("gateway") as pool:
            async with pool.transaction(self.desk.tenant_id) as tx:
                account = await find_provider_account(
                    tx, self.desk.tenant_id, UUID(self.account_id)
                )
        assert account is not None
        assert self.desk.app.lines is not None
        return self.desk.app.lines.notification_secrets(account)[0]

    async def post(self, body: bytes, signature: str | None) -> int:
        headers = {"sandbox-signature": signature} if signature is not None else {}
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.post(self.address, content=body, headers=headers)).status_code

    async def rows(self) -> list[dict[str, Any]]:
        async with self._database.open("gateway") as pool:
            async with pool.transaction(self.desk.tenant_id) as tx:
                rows = await tx.fetch(
                    "SELECT provider_item_id, kind, state, error, body FROM notification"
                    " ORDER BY notification_id"
                )
        return [dict(row) for row in rows]

    async def kept(self, count: int) -> list[dict[str, Any]]:
        """Wait until that many notifications are kept."""

        async def enough() -> list[dict[str, Any]]:
            rows = await self.rows()
            return rows if len(rows) >= count else []

        return await until(enough, what=f"{count} notifications")


@pytest.fixture
async def door(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> Door:
    desk = await open_desk(services, gateway_database, sandbox, notifications_listen="127.0.0.1:0")
    account = await desk.open_account()
    return Door(desk, gateway_database, account.provider_account_id)


async def apply_all(door: Door) -> None:
    """Apply what was kept, and what is put off by its own schedule."""
    await door.desk.notifications.apply_due(datetime.now(UTC))


async def test_an_asynchronous_payment_is_settled_by_its_notification(
    door: Door, sandbox: SandboxProcess
) -> None:
    desk = door.desk
    await desk.attach("pm_ok_async:50ms")
    payment = await desk.pay()
    assert state_of(payment) == "PROCESSING"
    await door.kept(2)
    await apply_all(door)
    assert await desk.state(payment.payment_id) == "SUCCEEDED"
    assert {row["state"] for row in await door.rows()} == {"APPLIED"}


async def test_a_notification_that_comes_before_the_reply_decides_and_the_reply_changes_nothing(
    door: Door, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = door.desk
    await desk.attach("pm_ok")
    await sandbox.script("notify_first+slow:100")
    payment = await desk.pay()
    assert state_of(payment) == "SUCCEEDED"
    await door.kept(1)
    await apply_all(door)
    async with gateway_database.open("gateway") as pool, pool.transaction(desk.tenant_id) as tx:
        kinds = await tx.fetch("SELECT kind FROM outbox")
    assert [row["kind"] for row in kinds] == ["payment.succeeded"]
    assert await sandbox.taken() == 1


async def test_a_notification_resolves_what_the_reply_left_unknown(
    door: Door, sandbox: SandboxProcess
) -> None:
    desk = door.desk
    await desk.attach("pm_ok")
    await sandbox.script(*["http_500_after"] * 3)
    payment = await desk.pay()
    assert payment.outcome_unknown
    await door.kept(1)
    await apply_all(door)
    assert await desk.state(payment.payment_id) == "SUCCEEDED"
    assert await sandbox.taken() == 1


async def test_the_same_notification_twice_is_kept_once(
    door: Door, sandbox: SandboxProcess
) -> None:
    await door.desk.attach("pm_ok")
    payment = await door.desk.pay()
    (first,) = await door.kept(1)
    signature = sign(first["body"], await door.secret(), datetime.now(UTC))
    assert await door.post(first["body"], signature) == 200
    assert len(await door.rows()) == 1
    await apply_all(door)
    assert await door.desk.state(payment.payment_id) == "SUCCEEDED"


@pytest.mark.parametrize("fault", ["notify_unsigned", "notify_bad_signature"])
async def test_what_is_not_signed_by_the_provider_changes_nothing(
    door: Door, sandbox: SandboxProcess, fault: str
) -> None:
    desk = door.desk
    await desk.attach("pm_ok")
    await sandbox.script(f"http_500_after+{fault}", "http_500_after", "http_500_after")
    payment = await desk.pay()
    (refused,) = await door.kept(1)
    assert (refused["state"], refused["body"]) == ("REFUSED", None)
    await apply_all(door)
    assert (await desk.find(payment.payment_id)).outcome_unknown


async def test_a_tampered_body_an_old_time_and_no_signature_are_refused(
    door: Door, sandbox: SandboxProcess
) -> None:
    desk = door.desk
    await desk.attach("pm_insufficient_funds")
    payment = await desk.pay()
    attempt = payment.attempts[0]
    forged = {
        "id": attempt.provider_payment_id,
        "reference": attempt.attempt_id,
        "amount": 1250,
        "currency": "USD",
        "state": "succeeded",
    }
    body = notification_body("ntf_forged", "payment.succeeded", forged)
    secret, now = await door.secret(), datetime.now(UTC)
    good = sign(body, secret, now)
    assert await door.post(body.replace(b"1250", b"9999"), good) == 401
    assert await door.post(body, sign(body, b"another secret", now)) == 401
    assert await door.post(body, sign(body, secret, now - timedelta(minutes=6))) == 401
    assert await door.post(body, None) == 401
    assert await door.post(body, "t=1,v1=") == 401
    assert await door.post(b"not json", sign(b"not json", secret, now)) == 401
    await apply_all(door)
    assert await desk.state(payment.payment_id) == "OPEN"


async def test_a_signed_lie_is_found_out_by_a_look_at_the_payment(
    door: Door, sandbox: SandboxProcess
) -> None:
    desk = door.desk
    await desk.attach("pm_insufficient_funds")
    payment = await desk.pay()
    await door.kept(1)
    attempt = payment.attempts[0]
    lie = {
        "id": attempt.provider_payment_id,
        "reference": attempt.attempt_id,
        "amount": 1250,
        "currency": "USD",
        "state": "succeeded",
    }
    body = notification_body("ntf_lie", "payment.succeeded", lie)
    assert await door.post(body, sign(body, await door.secret(), datetime.now(UTC))) == 200
    await apply_all(door)
    found = await desk.find(payment.payment_id)
    assert attempt_state(found.attempts[0]) == "DECLINED"


async def test_a_stale_notification_does_not_undo_what_is_known(
    door: Door, sandbox: SandboxProcess
) -> None:
    desk = door.desk
    await desk.attach("pm_ok")
    await sandbox.script("notify_stale")
    payment = await desk.pay()
    (kept,) = await door.kept(1)
    assert kept["kind"] == "payment.processing"
    await apply_all(door)
    assert await desk.state(payment.payment_id) == "SUCCEEDED"


async def test_money_that_goes_back_later_reverses_the_payment(
    door: Door, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = door.desk
    await desk.attach("pm_late_failure:50ms")
    payment = await desk.pay()
    assert state_of(payment) == "SUCCEEDED"
    await door.kept(2)
    await apply_all(door)
    assert await desk.state(payment.payment_id) == "REVERSED"
    async with gateway_database.open("gateway") as pool, pool.transaction(desk.tenant_id) as tx:
        kinds = await tx.fetch("SELECT kind FROM outbox ORDER BY sequence")
    assert [row["kind"] for row in kinds] == ["payment.succeeded", "payment.reversed"]


async def test_a_late_success_is_believed_after_a_look(door: Door, sandbox: SandboxProcess) -> None:
    desk = door.desk
    await desk.attach("pm_late_success:50ms")
    payment = await desk.pay()
    assert state_of(payment) == "OPEN"
    await door.kept(2)
    await apply_all(door)
    assert await desk.state(payment.payment_id) == "SUCCEEDED"


async def test_a_notification_about_a_stranger_is_ignored(door: Door) -> None:
    stranger = {
        "id": "pay_x",
        "reference": "r",
        "amount": 1,
        "currency": "USD",
        "state": "succeeded",
    }
    body = notification_body("ntf_stranger", "payment.succeeded", stranger)
    assert await door.post(body, sign(body, await door.secret(), datetime.now(UTC))) == 200
    await apply_all(door)
    assert [row["state"] for row in await door.rows()] == ["IGNORED"]


async def test_a_look_that_is_not_answered_puts_the_notification_off(
    door: Door, sandbox: SandboxProcess
) -> None:
    desk = door.desk
    await desk.attach("pm_ok_async:50ms")
    payment = await desk.pay()
    await door.kept(2)
    await sandbox.script("http_500_before", on="read")
    await sandbox.script("http_500_before", on="find")
    await apply_all(door)
    assert await desk.state(payment.payment_id) == "PROCESSING"
    assert "RECEIVED" in {row["state"] for row in await door.rows()}
    await desk.notifications.apply_due(datetime.now(UTC) + timedelta(minutes=2))
    assert await desk.state(payment.payment_id) == "SUCCEEDED"


async def test_other_addresses_and_huge_bodies_are_turned_away(door: Door) -> None:
    base = door.address.rpartition("/")[0]
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.post(f"{base}/{uuid4()}", content=b"{}")).status_code == 404
        assert (await client.post(f"{base}/anything", content=b"{}")).status_code == 404
        huge = await client.post(door.address, content=b"x" * (1024 * 1024 + 1))
        assert huge.status_code == 413
