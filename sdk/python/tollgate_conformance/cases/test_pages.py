"""Customers, hosted pages, and the methods that are stored there."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import (
    CustomerLink,
    CustomerMethods,
    Detach,
    LookSession,
    NewCustomer,
    NewSession,
    Session,
    SessionMode,
    SessionState,
)
from kernel.money import Amount
from tollgate_conformance.bench import LOST, Bench, Loss


def customer(bench: Bench, customer_id: str = "", key: str = "") -> CustomerLink:
    bench.needs("customer_object")
    assert bench.provider.create_customer is not None
    command = NewCustomer(
        customer_id or f"kit-{uuid.uuid4().hex[:12]}", key or str(uuid.uuid4()), bench.rig.contact
    )
    made = bench.play(bench.provider.create_customer(command, bench.login)).result
    assert isinstance(made, CustomerLink), made
    return made


def session(bench: Bench, mode: SessionMode) -> tuple[NewSession, Session]:
    bench.needs("hosted_pay" if mode is SessionMode.PAY else "hosted_setup")
    assert bench.provider.create_session is not None
    amount, link = bench.amount(), ""
    if bench.able.customer_object:
        link = customer(bench).provider_customer_id
    command = NewSession(
        mode=mode,
        reference=str(uuid.uuid4()),
        key=str(uuid.uuid4()),
        customer_id=bench.rig.customer_id,
        return_url="https://shop.example/back",
        amount=amount if mode is SessionMode.PAY else Amount(amount.asset, 0),
        description="Conformance",
        time=datetime.now(UTC),
        expire_time=datetime.now(UTC) + timedelta(hours=1),
        provider_customer_id=link,
        country=bench.rig.country,
        contact=bench.rig.contact,
    )
    made = bench.play(bench.provider.create_session(command, bench.login)).result
    assert isinstance(made, Session), made
    return command, made


def look(bench: Bench, command: NewSession, made: Session) -> Session:
    assert bench.provider.read_session is not None
    asked = LookSession(
        command.reference,
        command.mode,
        made.provider_session_id,
        command.customer_id,
        made.provider_customer_id or command.provider_customer_id,
        notes=made.notes,
    )
    read = bench.play(bench.provider.read_session(asked, bench.login)).result
    assert isinstance(read, Session), read
    return read


def test_a_customer_is_made(bench: Bench) -> None:
    assert customer(bench).provider_customer_id


def test_a_customer_made_twice_is_one(bench: Bench) -> None:
    name, key = f"kit-{uuid.uuid4().hex[:12]}", str(uuid.uuid4())
    assert customer(bench, name, key) == customer(bench, name, key)


@pytest.mark.parametrize("mode", list(SessionMode))
def test_a_page_is_open_and_somewhere(bench: Bench, mode: SessionMode) -> None:
    _, made = session(bench, mode)
    assert made.state is SessionState.OPEN
    assert made.url.startswith(("https://", "http://"))
    assert made.provider_session_id


@pytest.mark.parametrize("mode", list(SessionMode))
def test_a_page_that_nobody_came_to_is_still_open(bench: Bench, mode: SessionMode) -> None:
    command, made = session(bench, mode)
    read = look(bench, command, made)
    assert read.state is SessionState.OPEN
    assert read.payment is None or read.payment.finding not in (
        Finding.SUCCEEDED,
        Finding.AUTHORIZED,
    )
    if mode is SessionMode.PAY:
        assert bench.taken(command.reference) == []


def test_a_person_pays_on_the_page(bench: Bench) -> None:
    command, made = session(bench, SessionMode.PAY)
    if not bench.run(bench.rig.finish(made)):
        pytest.skip("nobody here can act on the provider's page")
    read = look(bench, command, made)
    assert read.state is SessionState.COMPLETED
    assert read.payment is not None
    assert read.payment.finding in (Finding.SUCCEEDED, Finding.PENDING, Finding.AUTHORIZED)
    assert read.payment.stated in (None, command.amount)
    assert bench.taken(command.reference) == [command.amount]


def test_a_person_stores_a_method_on_the_page(bench: Bench) -> None:
    command, made = session(bench, SessionMode.SETUP)
    if not bench.run(bench.rig.finish(made)):
        pytest.skip("nobody here can act on the provider's page")
    read = look(bench, command, made)
    assert read.state is SessionState.COMPLETED
    assert read.method is not None
    assert read.method.provider_token
    assert len(read.method.last_four) <= 4


def test_a_stored_method_is_listed_and_forgotten(bench: Bench) -> None:
    if bench.provider.list_methods is None or bench.provider.detach_method is None:
        pytest.skip("methods are not listed here, or not forgotten")
    command, made = session(bench, SessionMode.SETUP)
    if not bench.run(bench.rig.finish(made)):
        pytest.skip("nobody here can act on the provider's page")
    read = look(bench, command, made)
    assert read.method is not None
    token = read.method.provider_token
    link = read.provider_customer_id or command.provider_customer_id

    def listed() -> list[str]:
        assert bench.provider.list_methods is not None
        wanted = CustomerMethods(command.customer_id, link)
        found = bench.play(bench.provider.list_methods(wanted, bench.login)).result
        assert not isinstance(found, Outcome), found
        return [each.provider_token for each in found if each.usable]

    assert token in listed()
    detach = Detach(token, str(uuid.uuid4()), command.customer_id, link)
    told = bench.play(bench.provider.detach_method(detach, bench.login)).result
    assert told.finding is Finding.CANCELED
    assert token not in listed()


def test_a_page_that_is_not_answered_for_is_no_page(bench: Bench) -> None:
    if not (bench.able.hosted_pay or bench.able.hosted_setup):
        pytest.skip(f"{bench.provider.name} does not declare hosted_pay or hosted_setup")
    assert bench.provider.read_session is not None
    asked = LookSession(str(uuid.uuid4()), SessionMode.PAY, "session_0000000000")
    for loss in (Loss(0, sent=False, reply=LOST),):
        told = bench.play(bench.provider.read_session(asked, bench.login), loss).result
        assert isinstance(told, Outcome)
        assert told.finding is Finding.SILENCE
