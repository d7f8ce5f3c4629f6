"""The driver against the sandbox as a process: what was and what was not answered, truthfully."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import pytest

from gateway.domain.outcome import Basis, Finding, Outcome
from gateway.domain.provider_account import ProviderAccount, ProviderAccountState
from gateway.providers.driver import Driver, Limits, Line, OriginNotAllowed, Played
from gateway.providers.plan import (
    API_SECRET,
    Answer,
    Bearer,
    Call,
    Charge,
    Login,
    Note,
    Phase,
    Plan,
    Silence,
    ask,
    keep,
)
from gateway.providers.registry import origin_of
from gateway.providers.sandbox import charge
from kernel.money import Amount, Asset
from tests.gateway.support import SandboxProcess
from tests.support.waiting import until

SECRET = b"the api secret"


@pytest.fixture
async def driver() -> AsyncIterator[Driver]:
    opened = Driver(Limits(call_seconds_max=0.5, plan_seconds=5.0))
    yield opened
    await opened.close()


def line_to(endpoint: str) -> Line:
    account_id = uuid.uuid4()
    account = ProviderAccount(
        account_id, "main", "sandbox", endpoint, ProviderAccountState.ACTIVE, datetime.now(UTC)
    )
    return Line(
        account,
        Login(account_id, endpoint),
        frozenset({origin_of(endpoint)}),
        {API_SECRET: lambda: SECRET},
    )


def command(token: str = "pm_ok") -> Charge:
    return Charge(
        reference=str(uuid.uuid4()),
        key=str(uuid.uuid4()),
        amount=Amount(Asset("USD", 2), 1_250),
        provider_token=token,
        customer_id="ada",
        description="",
        time=datetime.now(UTC),
    )


async def no_notes(_: Note) -> None:
    raise AssertionError("this plan keeps no notes")


async def play(driver: Driver, plan: Plan, line: Line) -> Played:
    return await driver.play(plan, line, no_notes)


async def reply_to(driver: Driver, line: Line, call: Call) -> Answer | Silence:
    """What a plan is sent for one call."""
    seen: list[Answer | Silence] = []

    def plan() -> Plan:
        seen.append((yield from ask(call)))
        return Outcome(Finding.SILENCE)

    await play(driver, plan(), line)
    return seen[0]


@pytest.mark.parametrize(
    ("fault", "finding", "taken"),
    [
        ("hang_before", Finding.SILENCE, 0),
        ("reset_before", Finding.SILENCE, 0),
        ("http_500_before", Finding.SILENCE, 0),
        ("hang_after", Finding.SILENCE, 1),
        ("reset_before_reply", Finding.SILENCE, 1),
        ("http_500_after", Finding.SILENCE, 1),
        ("truncated_body", Finding.SILENCE, 1),
        ("slow:900", Finding.SILENCE, 1),
        ("slow:50", Finding.SUCCEEDED, 1),
        ("http_409_in_flight", Finding.SUCCEEDED, 1),
        ("http_429:3", Finding.SUCCEEDED, 1),
        ("http_429:9", Finding.REJECTED, 0),
        ("wrong_amount", Finding.SUCCEEDED, 1),
    ],
)
async def test_every_fault_is_told_for_what_it_is(
    driver: Driver, sandbox: SandboxProcess, fault: str, finding: Finding, taken: int
) -> None:
    await sandbox.script(fault)
    wanted = command()
    played = await play(
        driver, charge(wanted, Login(uuid.uuid4(), sandbox.endpoint)), line_to(sandbox.endpoint)
    )
    assert played.outcome.finding is finding

    async def effect() -> bool:  # a slow charge takes its effect after we have given up
        return await sandbox.taken() == taken

    await until(effect, what=f"{taken} payments are taken")


async def test_too_many_requests_is_no_word_about_the_payment(
    driver: Driver, sandbox: SandboxProcess
) -> None:
    await sandbox.script("http_429:9")
    line = line_to(sandbox.endpoint)
    played = await play(driver, charge(command(), line.login), line)
    assert (played.outcome.basis, played.outcome.retryable) == (Basis.THROTTLED, True)
    assert [call.status for call in played.calls] == [429] * 4


async def test_a_provider_that_is_not_there_was_sent_nothing(
    driver: Driver, sandbox: SandboxProcess
) -> None:
    line = line_to(sandbox.endpoint)
    await sandbox.kill()
    played = await play(driver, charge(command(), line.login), line)
    assert (played.outcome.finding, played.outcome.basis) == (Finding.REJECTED, Basis.NOT_SENT)
    assert len(played.calls) == 3  # asked twice more with the same key
    await sandbox.start()
    assert await sandbox.taken() == 0


async def test_a_connection_that_the_provider_let_go_of_is_no_charge_twice(
    driver: Driver, sandbox: SandboxProcess
) -> None:
    line, wanted = line_to(sandbox.endpoint), command()
    assert (await play(driver, charge(command(), line.login), line)).outcome.finding is (
        Finding.SUCCEEDED
    )
    await sandbox.kill()
    await sandbox.start()
    # The kept connection is dead: either the driver knows before it sends, or it says silence.
    first = await play(driver, charge(wanted, line.login), line)
    assert first.outcome.finding in (Finding.SUCCEEDED, Finding.SILENCE)
    assert (await play(driver, charge(wanted, line.login), line)).outcome.finding is (
        Finding.SUCCEEDED
    )
    assert len(await sandbox.payments_of(wanted.reference)) == 1


async def test_a_provider_that_accepts_and_says_nothing_is_silence_after_sending(
    driver: Driver,
) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        reply = await reply_to(driver, line_to(endpoint), Call("GET", "/"))
    assert isinstance(reply, Silence)
    assert reply.phase is Phase.AFTER_SEND


async def test_a_peer_that_drips_meets_the_wall_clock(driver: Driver) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        gone = False
        while not gone:
            try:
                writer.write(b".")
                await writer.drain()
                gone = await asyncio.wait_for(reader.read(1), timeout=0.1) == b""
            except TimeoutError:
                continue  # still there: one more byte
            except ConnectionError:
                gone = True
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        begun = asyncio.get_running_loop().time()
        reply = await reply_to(driver, line_to(endpoint), Call("GET", "/"))
        assert asyncio.get_running_loop().time() - begun < 2.0
    assert isinstance(reply, Silence)
    assert reply.phase is Phase.AFTER_SEND


async def test_redirects_are_not_followed_and_other_hosts_never_called(driver: Driver) -> None:
    heads: list[bytes] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    async with server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        line = line_to(endpoint)
        reply = await reply_to(driver, line, Call("GET", "/x", auth=Bearer()))
        with pytest.raises(OriginNotAllowed):
            await reply_to(driver, line, Call("GET", "http://127.0.0.1:1/elsewhere"))
    assert isinstance(reply, Answer)
    assert reply.status == 302
    assert b"Bearer the api secret" in heads[0]
    assert "secret" not in repr(line)


async def test_a_note_is_kept_before_the_next_call_leaves(
    driver: Driver, sandbox: SandboxProcess
) -> None:
    order: list[str] = []

    def two_steps() -> Plan:
        order.append("first call")
        yield from ask(Call("GET", "/health"))
        yield from keep("order_id", "order_1")
        order.append("second call")
        yield from ask(Call("GET", "/health"))
        return Outcome(Finding.SILENCE)

    async def commit(note: Note) -> None:
        order.append(f"{note.name}={note.value}")

    await driver.play(two_steps(), line_to(sandbox.endpoint), commit)
    assert order == ["first call", "order_id=order_1", "second call"]


async def test_a_plan_whose_time_is_up_sends_nothing_more(sandbox: SandboxProcess) -> None:
    driver = Driver(Limits(call_seconds_max=0.5, plan_seconds=0.3))
    try:
        await sandbox.script("hang_before")
        line, wanted = line_to(sandbox.endpoint), command()
        seen: list[Mapping[str, object] | Answer | Silence] = []

        def twice() -> Plan:
            yield from charge(wanted, line.login)
            seen.append((yield from ask(Call("GET", "/books"))))
            return Outcome(Finding.SILENCE)

        played = await driver.play(twice(), line, no_notes)
        assert seen == [Silence(Phase.BEFORE_SEND, "the time of this plan is up")]
        assert len(played.calls) == 1
    finally:
        await driver.close()


async def test_calls_of_one_account_are_bounded(sandbox: SandboxProcess) -> None:
    driver = Driver(Limits(call_seconds_max=5, concurrent_calls=3, calls_per_second=1000, burst=50))
    line = line_to(sandbox.endpoint)
    try:
        await sandbox.script(*["slow:100"] * 9)
        begun = asyncio.get_running_loop().time()
        played = await asyncio.gather(
            *(play(driver, charge(command(), line.login), line) for _ in range(9))
        )
        assert {each.outcome.finding for each in played} == {Finding.SUCCEEDED}
        assert asyncio.get_running_loop().time() - begun >= 0.3
        assert await sandbox.taken() == 9
    finally:
        await driver.close()
