"""Hosted pages: a person pays or stores a method, and only what the provider says counts."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.support import (
    Desk,
    SandboxProcess,
    attempt_state,
    open_desk,
    refusal_of,
    state_of,
    told_kinds,
)
from tests.support.databases import FreshDatabase
from tests.support.services import Services
from tests.support.waiting import until
from tollgate.gateway.v1 import payment_pb2
from tollgate.gateway.v1 import payment_service_pb2 as calls
from tollgate.gateway.v1 import session_pb2 as pb

BACK = "https://shop.example/back"


async def checkout(desk: Desk, request_id: str = "", **changes: Any) -> pb.Session:
    request = pb.CreateCheckoutSessionRequest(
        request_id=request_id or str(uuid.uuid4()),
        customer_id="ada",
        provider_account="main",
        source=payment_pb2.SourceDocument(kind="invoice", id="INV-1"),
        description="March",
        return_url=BACK,
    )
    request.amount.asset, request.amount.value = "USD", "12.50"
    for name, value in changes.items():
        setattr(request, name, value)
    answer = await desk.sessions.CreateCheckoutSession(request, metadata=desk.metadata, timeout=10)
    return answer.session


async def setup(desk: Desk, request_id: str = "") -> pb.Session:
    request = pb.CreateSetupSessionRequest(
        request_id=request_id or str(uuid.uuid4()),
        customer_id="ada",
        provider_account="main",
        asset="USD",
        return_url=BACK,
    )
    answer = await desk.sessions.CreateSetupSession(request, metadata=desk.metadata, timeout=10)
    return answer.session


async def look(desk: Desk, session: pb.Session) -> pb.Session:
    answer = await desk.sessions.GetSession(
        pb.GetSessionRequest(session_id=session.session_id), metadata=desk.metadata
    )
    return answer.session


def state(session: pb.Session) -> str:
    return pb.SessionState.Name(session.state).removeprefix("SESSION_STATE_")


async def act(session: pb.Session, result: str) -> None:
    """What a person does on the page."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(session.url, data={"result": result})
    assert answer.status_code == 303, answer.text


async def test_a_person_pays_on_a_page(desk: Desk, sandbox: SandboxProcess) -> None:
    session = await checkout(desk)
    assert state(session) == "OPEN"
    assert session.url.startswith(sandbox.endpoint)
    payment = await desk.find(session.payment_id)
    assert state_of(payment) == "ACTION_REQUIRED"
    assert await sandbox.taken() == 0
    await act(session, "complete")
    done = await look(desk, session)
    assert (state(done), done.url) == ("COMPLETED", "")
    payment = await desk.find(session.payment_id)
    assert state_of(payment) == "SUCCEEDED"
    assert payment.attempts[0].captured.value == "12.5"
    assert await sandbox.taken() == 1


async def test_what_was_stored_with_a_payment_can_be_charged_again(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    session = await checkout(desk)
    await act(session, "complete")
    await look(desk, session)
    done = await look(desk, session)
    assert done.payment_method_id
    assert state_of(await desk.pay()) == "SUCCEEDED"
    assert await sandbox.taken() == 2


async def test_coming_back_from_a_page_proves_nothing(desk: Desk, sandbox: SandboxProcess) -> None:
    session = await checkout(desk)
    assert state(await look(desk, session)) == "OPEN"
    assert state_of(await desk.find(session.payment_id)) == "ACTION_REQUIRED"


async def test_a_decline_leaves_the_page_open(desk: Desk, sandbox: SandboxProcess) -> None:
    session = await checkout(desk)
    await act(session, "decline")
    assert state(await look(desk, session)) == "OPEN"
    await act(session, "complete")
    assert state(await look(desk, session)) == "COMPLETED"
    assert await sandbox.taken() == 1


async def test_a_page_that_was_called_off_ends_its_payment(desk: Desk) -> None:
    session = await checkout(desk)
    await act(session, "cancel")
    assert state(await look(desk, session)) == "CANCELED"
    payment = await desk.find(session.payment_id)
    assert (state_of(payment), attempt_state(payment.attempts[0])) == ("OPEN", "CANCELED")


async def test_the_same_request_opens_one_page(desk: Desk) -> None:
    first, again = await checkout(desk, "once"), await checkout(desk, "once")
    assert (first.session_id, first.url) == (again.session_id, again.url)


@pytest.mark.parametrize("fault", ["hang_after", "hang_before", "reset_before_reply"])
async def test_a_page_whose_answer_is_lost_is_opened_once(
    desk: Desk, sandbox: SandboxProcess, fault: str
) -> None:
    await sandbox.script(fault, on="session")
    session = await checkout(desk)
    assert state(session) == "OPEN"
    await act(session, "complete")
    assert state(await look(desk, session)) == "COMPLETED"
    assert await sandbox.taken() == 1


async def test_no_other_attempt_starts_while_a_page_is_open(desk: Desk) -> None:
    await desk.attach("pm_ok")
    session = await checkout(desk)
    assert (await refusal_of(desk.retry(session.payment_id)))[0] == "ATTEMPT_IN_FLIGHT"
    await act(session, "cancel")
    await look(desk, session)
    assert state_of(await desk.retry(session.payment_id)) == "SUCCEEDED"


async def test_a_notification_completes_a_page_that_nobody_looks_at(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(
        services, gateway_database, sandbox, work=True, notifications_listen="127.0.0.1:0"
    )
    await desk.open_account()
    paid, stored = await checkout(desk), await setup(desk)
    await act(paid, "later")
    await act(stored, "complete")

    async def over() -> bool:
        methods = await desk.methods.ListPaymentMethods(
            calls.ListPaymentMethodsRequest(customer_id="ada"), metadata=desk.metadata
        )
        return bool(methods.payment_methods) and await desk.state(paid.payment_id) == "SUCCEEDED"

    await until(over, what="both pages are told to be over")
    assert "payment.succeeded" in await told_kinds(gateway_database, desk.tenant_id)


async def test_a_person_stores_a_method_that_is_charged_and_forgotten(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    session = await setup(desk)
    assert state(session) == "OPEN"
    await act(session, "complete")
    done = await look(desk, session)
    assert state(done) == "COMPLETED"
    listed = await desk.methods.ListPaymentMethods(
        calls.ListPaymentMethodsRequest(customer_id="ada"), metadata=desk.metadata
    )
    (method,) = listed.payment_methods
    assert method.payment_method_id == done.payment_method_id
    assert (method.brand, method.last_four, method.expire_year) == ("visa", "4242", 2034)
    assert method.is_default
    assert state_of(await desk.pay()) == "SUCCEEDED"
    gone = await desk.methods.DetachPaymentMethod(
        calls.DetachPaymentMethodRequest(
            request_id="gone", customer_id="ada", payment_method_id=method.payment_method_id
        ),
        metadata=desk.metadata,
    )
    assert gone.forgotten_by_provider
    assert (await refusal_of(desk.pay()))[0] == "METHOD_NOT_USABLE"
    listed = await desk.methods.ListPaymentMethods(
        calls.ListPaymentMethodsRequest(customer_id="ada"), metadata=desk.metadata
    )
    assert not listed.payment_methods


@pytest.mark.parametrize(
    "url", ["http://shop.example/back", "javascript:alert(1)", "https://", "", "https://a b/"]
)
async def test_a_browser_is_sent_back_to_https_alone(desk: Desk, url: str) -> None:
    reason, facts = await refusal_of(checkout(desk, return_url=url))
    assert (reason, facts["field"]) == ("INVALID_VALUE", "return_url")


async def test_a_provider_without_pages_opens_none(
    services: Services, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    desk = await open_desk(services, gateway_database, sandbox)
    await desk.open_account(f"{sandbox.endpoint}/?without=pages")
    reason, facts = await refusal_of(checkout(desk))
    assert (reason, facts["capability"]) == ("CAPABILITY_MISSING", "hosted_pay")


async def test_the_page_is_for_people(desk: Desk, tmp_path: Path) -> None:
    """A browser shows what is paid, and what may be done; looked at where there is a browser."""
    session = await checkout(desk)
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(session.url)).text
    assert "12.5 USD" in page
    assert "March" in page
    assert page.count("<button") == 4
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
         if (path := shutil.which(name))), None,
    )  # fmt: skip
    if browser is None:
        pytest.skip("there is no Chromium here: the page was read, not seen")
    import asyncio

    shot = tmp_path / "page.png"
    process = await asyncio.create_subprocess_exec(
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={shot}",
        "--window-size=800,700", session.url,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await process.wait()
    assert shot.stat().st_size > 5_000
