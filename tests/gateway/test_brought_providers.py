"""Providers that the operator brings: a process that serves the contract, and a package."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import GatewayApp
from gateway.providers.brought import NotBrought, digest_of, read_brought
from gateway.providers.plan import Target
from tests.gateway.support import Desk, SandboxProcess, attempt_state, refusal_of, state_of
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tests.support.waiting import until
from tollgate.gateway.v1 import payment_service_pb2 as pb

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "corner-bank"


class Bank:
    """The example provider as a process, on one socket and one file of books."""

    def __init__(self, folder: Path) -> None:
        self.books = folder / "books.sqlite"
        self.target = f"unix:{folder}/bank.sock"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "corner_bank", "--books", str(self.books),
            "--listen", self.target, "--demo-customer", "ada",
            cwd=EXAMPLE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert json.loads(await self._process.stdout.readline())["target"] == self.target

    async def kill(self, number: int = signal.SIGKILL) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[Bank]:
    process = Bank(tmp_path)
    await process.start()
    yield process
    await process.kill(signal.SIGTERM)


def brought(folder: Path, **providers: Any) -> str:
    path = folder / "providers.json"
    path.write_text(json.dumps(providers), encoding="utf-8")
    return str(path)


async def open_desk_of(
    services: Services, database: FreshDatabase, provider: str, **settings: Any
) -> Desk:
    """A gateway that knows the provider, with an account of it named "main"."""
    chosen = {
        "provider_call_seconds_max": 2.0,
        "settle_pause_seconds": 0.05,
        "notification_pause_seconds": 0.05,
        "notifications_listen": "127.0.0.1:0",
        "lease_seconds": 2.0,
    }
    running = await services.run("gateway", database, **(chosen | settings))
    assert isinstance(running.app, GatewayApp)
    desk = Desk(await services.channel(running), running.app, uuid.uuid4())
    lines = running.app.lines
    assert lines is not None

    async def known() -> bool:
        return lines.registry.knows(provider)

    await until(known)
    await desk.accounts.CreateProviderAccount(
        pb.CreateProviderAccountRequest(request_id="account", code="main", provider=provider),
        metadata=desk.metadata,
    )
    return desk


async def test_a_served_provider_charges_and_refunds(
    services: Services, gateway_database: FreshDatabase, bank: Bank, tmp_path: Path
) -> None:
    file = brought(tmp_path, corner={"target": bank.target})
    desk = await open_desk_of(services, gateway_database, "corner", providers_file=file)
    await desk.attach("mandate_ok")
    paid = await desk.pay("12.50", "EUR")
    assert state_of(paid) == "SUCCEEDED"
    refund = await desk.refund(paid.payment_id, "2.50", asset="EUR")
    assert refund.amount.value == "2.5"
    reserved = await desk.pay("8.00", "EUR", capture_later=True)
    assert state_of(reserved) == "AUTHORIZED"
    captured = await desk.capture(reserved.payment_id, "3.00", asset="EUR")
    assert captured.payment.attempts[0].captured.value == "3"


async def test_its_notifications_are_read_by_itself(
    services: Services, gateway_database: FreshDatabase, bank: Bank, tmp_path: Path
) -> None:
    file = brought(tmp_path, corner={"target": bank.target})
    desk = await open_desk_of(services, gateway_database, "corner", providers_file=file)
    await desk.attach("mandate_slow")
    payment = await desk.pay("12.50", "EUR")
    assert state_of(payment) == "PROCESSING"

    async def settled() -> bool:
        return await desk.state(payment.payment_id) == "SUCCEEDED"

    await until(settled)
    async with gateway_database.open("gateway") as pool, pool.transaction(desk.tenant_id) as tx:
        witnesses = [row["witness"] for row in await tx.fetch("SELECT witness FROM evidence")]
    assert "NOTIFICATION" in witnesses


async def test_a_forged_notification_of_it_is_refused(
    services: Services, gateway_database: FreshDatabase, bank: Bank, tmp_path: Path
) -> None:
    file = brought(tmp_path, corner={"target": bank.target})
    desk = await open_desk_of(services, gateway_database, "corner", providers_file=file)
    assert desk.app.lines is not None
    accounts = await desk.accounts.ListProviderAccounts(
        pb.ListProviderAccountsRequest(), metadata=desk.metadata
    )
    account_id = accounts.provider_accounts[0].provider_account_id
    url = f"{desk.app.lines.notifications_url}/notifications/{account_id}"
    body = b'{"id": "hap_1", "kind": "debit.taken", "debit": {"id": "debit_1"}}'
    async with httpx.AsyncClient(trust_env=False) as client:
        forged = await client.post(url, content=body, headers={"corner-signature": "t=1,s=00"})
        assert forged.status_code == 401
        await bank.kill()
        # Whoever could tell is away: it is to be sent again, and nothing is believed meanwhile.
        assert (await client.post(url, content=body)).status_code == 503


async def test_a_provider_that_dies_leaves_unknown_and_is_asked_again(
    services: Services, gateway_database: FreshDatabase, bank: Bank, tmp_path: Path
) -> None:
    file = brought(tmp_path, corner={"target": bank.target})
    desk = await open_desk_of(services, gateway_database, "corner", providers_file=file)
    await desk.attach("mandate_ok")
    await bank.kill()
    payment = await desk.pay("12.50", "EUR")
    # Nothing was sent: the request failed before a byte left, and may be tried again.
    assert attempt_state(payment.attempts[0]) == "FAILED"
    assert payment.attempts[0].decline_code == "NOT_SENT"
    await bank.start()
    again = await desk.retry(payment.payment_id)
    assert state_of(again) == "SUCCEEDED"


async def test_a_provider_that_never_answered_is_not_used(
    services: Services, gateway_database: FreshDatabase, tmp_path: Path
) -> None:
    file = brought(tmp_path, corner={"target": f"unix:{tmp_path}/nobody.sock"})
    running = await services.run("gateway", gateway_database, providers_file=file)
    assert isinstance(running.app, GatewayApp)
    desk = Desk(await services.channel(running), running.app, uuid.uuid4())
    call = desk.accounts.CreateProviderAccount(
        pb.CreateProviderAccountRequest(request_id="account", code="main", provider="corner"),
        metadata=desk.metadata,
    )
    assert (await refusal_of(call))[0] == "PROVIDER_UNREACHABLE"


async def test_an_account_cannot_send_it_elsewhere(
    services: Services, gateway_database: FreshDatabase, bank: Bank, tmp_path: Path
) -> None:
    file = brought(tmp_path, corner={"target": bank.target})
    desk = await open_desk_of(services, gateway_database, "corner", providers_file=file)
    call = desk.accounts.CreateProviderAccount(
        pb.CreateProviderAccountRequest(
            request_id="other", code="other", provider="corner", endpoint="https://evil.example"
        ),
        metadata=desk.metadata,
    )
    assert await refusal_of(call) == (
        "INVALID_VALUE",
        {"field": "endpoint", "why": "corner is where the deployment says it is"},
    )


# --- packages -------------------------------------------------------------------------------------

MODULE = """
from dataclasses import replace
from gateway.providers.sandbox import PROVIDER as SANDBOX
PROVIDER = replace(SANDBOX, name="whatever")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PathDistribution:
    """An installed package with an entry point, as an installer leaves it."""
    site = tmp_path / "site"
    (site / "home_pay").mkdir(parents=True)
    (site / "home_pay" / "__init__.py").write_text(MODULE)
    told = site / "home_pay-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: home-pay\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[tollgate.providers]\nhome = home_pay:PROVIDER\n")
    (told / "RECORD").write_text(
        "home_pay/__init__.py,,\nhome_pay-1.0.dist-info/METADATA,,\n"
        "home_pay-1.0.dist-info/entry_points.txt,,\nhome_pay-1.0.dist-info/RECORD,,\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return PathDistribution(told)


async def test_a_package_is_a_provider_once_its_hash_is_pinned(
    services: Services,
    gateway_database: FreshDatabase,
    sandbox: SandboxProcess,
    package: PathDistribution,
    tmp_path: Path,
) -> None:
    pinned = {"entry_point": "home", "distribution_sha256": digest_of(package)}
    desk = await open_desk_of(
        services,
        gateway_database,
        "home",
        providers_file=brought(tmp_path, home=pinned),
        provider_endpoints={"home": sandbox.endpoint},
    )
    await desk.attach("pm_ok")
    assert state_of(await desk.pay()) == "SUCCEEDED"
    assert await sandbox.taken() == 1


def test_a_package_that_changed_is_not_loaded(package: PathDistribution, tmp_path: Path) -> None:
    pinned = {"entry_point": "home", "distribution_sha256": digest_of(package)}
    file = Path(brought(tmp_path, home=pinned))
    assert read_brought(file, frozenset()).providers["home"].name == "home"
    module = Path(str(package.locate_file("home_pay/__init__.py")))
    module.write_text(MODULE + "# changed\n")
    with pytest.raises(NotBrought, match="not the one that is pinned"):
        read_brought(file, frozenset())


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"target": "10.0.0.7:8443"}, "beyond this machine"),
        ({"target": "bank.example:8443", "ca_file": "ca.pem"}, "beyond this machine"),
        ({}, "no target"),
        ({"target": "unix:/x", "password": "y"}, "unknown"),
        ({"target": 5}, "object of texts"),
        ({"entry_point": "nobody", "distribution_sha256": ""}, "0 packages"),
        ({"entry_point": "nobody"}, "takes entry_point and"),
    ],
)
def test_what_cannot_be_brought_is_told(tmp_path: Path, told: Any, why: str) -> None:
    with pytest.raises(NotBrought, match=why):
        read_brought(Path(brought(tmp_path, corner=told)), frozenset())


def test_a_name_that_is_taken_cannot_be_given_again(tmp_path: Path) -> None:
    file = Path(brought(tmp_path, sandbox={"target": "unix:/x"}))
    with pytest.raises(NotBrought, match="taken"):
        read_brought(file, frozenset({"sandbox"}))


def test_a_target_beyond_this_machine_has_tls(tmp_path: Path) -> None:
    told = {
        "target": "bank.example:8443",
        "ca_file": "ca.pem",
        "certificate_file": "me.pem",
        "key_file": "me.key",
        "server_name": "bank",
    }
    found = read_brought(Path(brought(tmp_path, corner=told)), frozenset())
    assert found.targets["corner"] == Target(
        "bank.example:8443", "ca.pem", "me.pem", "me.key", "bank"
    )
