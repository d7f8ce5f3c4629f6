"""Provider accounts and payment methods through real gRPC."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from tests.gateway.support import Desk, SandboxProcess, attempt_state, refusal_of
from tests.support.databases import FreshDatabase
from tests.support.services import credential
from tollgate.gateway.v1 import payment_pb2
from tollgate.gateway.v1 import payment_service_pb2 as pb


def new_account(**changes: Any) -> pb.CreateProviderAccountRequest:
    fields = {"request_id": str(uuid.uuid4()), "code": "second", "provider": "sandbox"}
    return pb.CreateProviderAccountRequest(**(fields | changes))


async def test_a_code_names_one_provider_account(desk: Desk) -> None:
    request = new_account(request_id="r")
    first = await desk.accounts.CreateProviderAccount(request, metadata=desk.metadata)
    again = await desk.accounts.CreateProviderAccount(request, metadata=desk.metadata)
    assert first == again
    taken = desk.accounts.CreateProviderAccount(new_account(), metadata=desk.metadata)
    assert await refusal_of(taken) == (
        "ALREADY_EXISTS",
        {"what": "provider account", "name": "second"},
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"code": "with a blank"}, "code"),
        ({"code": ""}, "code"),
        ({"provider": "nobody"}, "provider"),
        ({"endpoint": "http://169.254.169.254/"}, "endpoint"),
        ({"secret_reference": "sk_live_of_somebody"}, "secret_reference"),
        ({"secret_reference": "file:../../etc/passwd"}, "secret_reference"),
        ({"notification_secret_reference": "whsec"}, "notification_secret_reference"),
        ({"request_id": ""}, "request_id"),
    ],
)
async def test_a_provider_account_that_cannot_be_is_refused_by_field(
    desk: Desk, changes: dict[str, str], field: str
) -> None:
    call = desk.accounts.CreateProviderAccount(new_account(**changes), metadata=desk.metadata)
    reason, facts = await refusal_of(call)
    assert (reason, facts["field"]) == ("INVALID_VALUE", field)
    # A secret sent in place of its reference is not sent back.
    assert "sk_live" not in str(facts)


async def test_provider_accounts_are_listed_by_code_and_paged(desk: Desk) -> None:
    for code in ("b", "a", "c"):
        await desk.open_account(code=code)
    seen: list[str] = []
    token = ""
    while True:
        page = await desk.accounts.ListProviderAccounts(
            pb.ListProviderAccountsRequest(page_size=3, page_token=token), metadata=desk.metadata
        )
        seen += [account.code for account in page.provider_accounts]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["a", "b", "c", "main"]


async def test_the_first_method_is_the_default_and_another_may_become_it(desk: Desk) -> None:
    first = await desk.attach("pm_ok@1")
    assert first.is_default
    assert not (await desk.attach("pm_ok@2")).is_default
    third = await desk.attach("pm_ok@3", make_default=True)
    listed = await desk.methods.ListPaymentMethods(
        pb.ListPaymentMethodsRequest(customer_id="ada"), metadata=desk.metadata
    )
    assert [each.provider_token for each in listed.payment_methods] == [
        "pm_ok@3",
        "pm_ok@1",
        "pm_ok@2",
    ]
    payment = await desk.pay()
    assert payment.attempts[0].payment_method_id == third.payment_method_id


async def test_of_methods_attached_at_once_one_alone_is_the_default(desk: Desk) -> None:
    made = await asyncio.gather(*(desk.attach(f"pm_ok@{number}") for number in range(8)))
    assert sum(method.is_default for method in made) == 1


async def test_methods_are_paged_default_first(desk: Desk) -> None:
    for number in range(5):
        await desk.attach(f"pm_ok@{number}", make_default=number == 3)
    seen: list[str] = []
    token = ""
    while True:
        page = await desk.methods.ListPaymentMethods(
            pb.ListPaymentMethodsRequest(customer_id="ada", page_size=2, page_token=token),
            metadata=desk.metadata,
        )
        seen += [method.provider_token for method in page.payment_methods]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["pm_ok@3", "pm_ok@0", "pm_ok@1", "pm_ok@2", "pm_ok@4"]


async def test_a_token_is_attached_to_a_customer_once(desk: Desk) -> None:
    await desk.attach("pm_ok")
    assert (await refusal_of(desk.attach("pm_ok")))[0] == "ALREADY_EXISTS"
    await desk.attach("pm_ok", "grace")


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("provider_token", "4242424242424242", "CARD_DATA_REFUSED"),
        ("label", "Visa 4242424242424242", "CARD_DATA_REFUSED"),
        ("label", "Visa 42424", "INVALID_VALUE"),
        ("provider_token", "", "INVALID_VALUE"),
        ("customer_id", "", "INVALID_VALUE"),
        ("provider_account", "unknown", "NOT_FOUND"),
    ],
)
async def test_a_method_that_cannot_be_is_refused(
    desk: Desk, field: str, text: str, reason: str
) -> None:
    request = pb.AttachPaymentMethodRequest(
        request_id="r", customer_id="ada", provider_account="main", provider_token="pm_ok"
    )
    setattr(request, field, text)
    call = desk.methods.AttachPaymentMethod(request, metadata=desk.metadata)
    assert (await refusal_of(call))[0] == reason


async def test_a_method_of_another_customer_is_not_usable(desk: Desk) -> None:
    await desk.attach("pm_insufficient_funds")
    of_grace = await desk.attach("pm_ok", "grace")
    payment = await desk.pay()
    reason, facts = await refusal_of(desk.retry(payment.payment_id, of_grace.payment_method_id))
    assert (reason, facts) == ("METHOD_NOT_USABLE", {"customer_id": "ada"})


async def test_a_disabled_provider_account_takes_no_payments(
    desk: Desk, gateway_database: FreshDatabase, sandbox: SandboxProcess
) -> None:
    await desk.attach("pm_ok")
    async with gateway_database.open("gateway") as pool, pool.transaction(desk.tenant_id) as tx:
        await tx.execute("UPDATE provider_account SET state = 'DISABLED'")
    assert await refusal_of(desk.pay()) == (
        "PROVIDER_ACCOUNT_DISABLED",
        {"provider_account": "main"},
    )
    assert (await sandbox.books())["payments"] == []


async def test_a_secret_that_cannot_be_read_degrades_the_account_and_charges_nothing(
    desk: Desk, sandbox: SandboxProcess
) -> None:
    # Notifications are switched on, so each charge carries the secret of its account.
    assert desk.app.lines is not None
    desk.app.lines.notifications_url = "http://127.0.0.1:9"
    await desk.accounts.CreateProviderAccount(
        new_account(notification_secret_reference="file:absent"), metadata=desk.metadata
    )
    request = pb.AttachPaymentMethodRequest(
        request_id="r", customer_id="eve", provider_account="second", provider_token="pm_ok"
    )
    await desk.methods.AttachPaymentMethod(request, metadata=desk.metadata)
    payment = await desk.pay(customer_id="eve")
    assert attempt_state(payment.attempts[0]) == "FAILED"
    listed = await desk.accounts.ListProviderAccounts(
        pb.ListProviderAccountsRequest(), metadata=desk.metadata
    )
    states = {each.code: each.state for each in listed.provider_accounts}
    assert states["second"] == payment_pb2.PROVIDER_ACCOUNT_STATE_DEGRADED
    assert states["main"] == payment_pb2.PROVIDER_ACCOUNT_STATE_ACTIVE
    assert (await sandbox.books())["payments"] == []


async def test_only_callers_with_the_right_may_collect(desk: Desk) -> None:
    stranger = credential(desk.tenant_id, service="metering")
    call = desk.payments.CreatePayment(pb.CreatePaymentRequest(), metadata=stranger)
    assert (await refusal_of(call))[0] == "CALLER_NOT_ALLOWED"
