"""The call chain through real gRPC: who is let in, what comes back when it is no."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
import jwt
import pytest

from chassis.auth import Authenticator, make_api_key, mint
from chassis.call import Environment
from chassis.chain import Chain
from chassis.clocks import TenantClocks
from chassis.health import Health
from chassis.metrics import Metrics, render_text
from chassis.peers import IdentityClock, IdentityResolver
from chassis.server import Server, bind
from chassis.telemetry import Telemetry
from tests.chassis.conftest import Echo
from tests.support import echo as echo_service
from tests.support.echo import EchoStub, definition, text
from tests.support.refusals import outcome, refuses
from tests.support.services import SERVICE_SECRET, Services, credential
from tests.support.waiting import until

TENANT = UUID(int=1)
OPERATOR = credential(TENANT)
OTHER_SECRET = "the secret of another deployment, as long as ours"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def test_an_admitted_call_is_answered(echo: Echo) -> None:
    assert (await echo.stub.Echo(text("hi"), metadata=OPERATOR)).value == "hi"


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Basic dXNlcjpwYXNz"),),
        bearer("nonsense"),
        bearer(""),
        bearer("x" * 5_000),
        bearer(
            mint("another deployment's secret, long enough", "operator", TENANT, datetime.now(UTC))
        ),
        bearer(jwt.encode({"iss": "operator", "exp": 1 << 40}, None, algorithm="none")),
        bearer(jwt.encode({"iss": "operator"}, SERVICE_SECRET, algorithm="HS256")),
        bearer(jwt.encode({"iss": "operator", "exp": 1 << 33, "tid": "x"}, SERVICE_SECRET)),
        bearer("tg_live_" + "0" * 32 + "A" * 43 + "_00000000"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_caller_without_a_good_credential_is_refused(
    echo: Echo, metadata: tuple[tuple[str, str], ...]
) -> None:
    with refuses("CREDENTIAL_REFUSED", grpc.StatusCode.UNAUTHENTICATED) as refused:
        await echo.stub.Echo(text("hi"), metadata=metadata)
    assert refused.domain == "probe.tollgate"


async def test_an_expired_service_credential_is_refused(echo: Echo) -> None:
    old = mint(SERVICE_SECRET, "operator", TENANT, datetime.now(UTC) - timedelta(minutes=11))
    with refuses("CREDENTIAL_REFUSED") as refused:
        await echo.stub.Echo(text("hi"), metadata=bearer(old))
    assert refused.facts == {"why": "expired"}


async def test_a_method_without_a_rule_is_closed_to_everybody(echo: Echo) -> None:
    with refuses("CALLER_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await echo.stub.Forgotten(text("hi"), metadata=OPERATOR)


async def test_a_service_that_the_rule_does_not_name_is_denied(echo: Echo) -> None:
    await echo.stub.Echo(text("hi"), metadata=credential(TENANT, service="gateway"))
    with refuses("CALLER_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await echo.stub.Echo(text("hi"), metadata=credential(TENANT, service="metering"))


async def test_a_call_without_a_tenant_passes_only_where_the_rule_says_so(echo: Echo) -> None:
    assert (await echo.stub.Greet(text(""), metadata=credential(None))).value == "hello"
    with refuses("TENANT_MISSING", grpc.StatusCode.PERMISSION_DENIED):
        await echo.stub.Echo(text("hi"), metadata=credential(None))


async def test_an_api_key_is_unavailable_and_not_wrong_while_identity_is_away(
    echo: Echo, services: Services
) -> None:
    away = await services.run(definition(), echo.database, peers={"identity": "127.0.0.1:9"})
    stub = EchoStub(await services.channel(away))
    key = make_api_key(Environment.TEST, UUID(int=5))
    with refuses("UNAVAILABLE", grpc.StatusCode.UNAVAILABLE) as refused:
        await stub.Echo(text("hi"), metadata=bearer(key))
    assert refused.facts == {"what": "identity"}


async def test_a_refusal_carries_its_reason_and_facts(echo: Echo) -> None:
    with refuses("BROKE", grpc.StatusCode.RESOURCE_EXHAUSTED) as refused:
        await echo.stub.Echo(text("refuse"), metadata=OPERATOR)
    assert refused.facts == {"left": "0", "asset": "USD"}
    assert refused.message == "nothing left"
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
        await echo.stub.Echo(text("invalid"), metadata=OPERATOR)
    assert refused.facts == {"field": "value", "why": "is invalid"}


async def test_a_fault_of_ours_shows_an_incident_and_nothing_of_its_inside(
    echo: Echo, capsys: pytest.CaptureFixture[str]
) -> None:
    with refuses("INTERNAL", grpc.StatusCode.INTERNAL) as refused:
        await echo.stub.Echo(text("bug"), metadata=OPERATOR)
    incident = refused.facts["incident"]
    assert incident in refused.message
    assert "hunter2" not in refused.message + str(refused.facts)
    printed = capsys.readouterr().out
    assert incident in printed
    assert "KeyError" in printed


async def test_work_that_nobody_would_wait_for_is_not_begun(echo: Echo) -> None:
    await echo.stub.Echo(text("warm"), metadata=OPERATOR)
    reasons = [
        await outcome(echo.stub.Echo(text("hold"), metadata=OPERATOR, timeout=0.04))
        for _ in range(5)
    ]
    # Whichever side sees the end of the time first, the handler was never entered.
    assert set(reasons) <= {"DEADLINE_TOO_SHORT", "DEADLINE_EXCEEDED"}
    assert not echo.servicer.entered.is_set()


async def test_a_handler_is_cancelled_when_its_callers_time_is_over(echo: Echo) -> None:
    reason = await outcome(echo.stub.Echo(text("hold"), metadata=OPERATOR, timeout=0.2))
    assert reason == "DEADLINE_EXCEEDED"
    await until(lambda: echo.servicer.cancelled == 1, what="the handler's cancellation")
    exceeded = echo.running.platform.metrics.rpc_deadline_exceeded_total.of()
    await until(lambda: exceeded.value == 1, what="the count of calls that ran out of time")


async def test_a_call_without_a_deadline_gets_one(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.chain.DEADLINE_SECONDS_DEFAULT", 0.2)
    with refuses("DEADLINE_EXCEEDED", grpc.StatusCode.DEADLINE_EXCEEDED):
        await echo.stub.Echo(text("hold"), metadata=OPERATOR)
    assert echo.servicer.cancelled == 1


async def test_more_calls_than_a_process_takes_are_refused(echo: Echo) -> None:
    metrics, servicer = Metrics(), echo_service.EchoService(echo.running.platform)
    peers = echo.running.platform.peers
    chain = Chain(
        "probe",
        Authenticator(SERVICE_SECRET, IdentityResolver(peers)),
        TenantClocks(IdentityClock(peers)),
        metrics,
        Telemetry("probe", "", metrics),
        in_flight_max=2,
    )
    server = Server([bind(servicer, echo_service.DESCRIPTOR)], chain, Health(), "127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = EchoStub(channel)
            held = [
                asyncio.ensure_future(outcome(stub.Echo(text("hold"), metadata=OPERATOR)))
                for _ in range(2)
            ]
            await until(lambda: chain.in_flight == 2, what="two calls in flight")
            with refuses("TOO_MANY_CALLS", grpc.StatusCode.RESOURCE_EXHAUSTED):
                await stub.Echo(text("hi"), metadata=OPERATOR)
            servicer.released.set()
            assert await asyncio.gather(*held) == ["OK", "OK"]
            assert (await stub.Echo(text("hi"), metadata=OPERATOR)).value == "hi"
    finally:
        await server.drain(1)


async def test_streams_carry_answers_and_refusals(echo: Echo) -> None:
    counted = [item.value async for item in echo.stub.Count(text("5"), metadata=OPERATOR)]
    assert counted == ["0", "1", "2", "3", "4"]
    with refuses("BROKE"):
        async for _ in echo.stub.Count(text("3"), metadata=OPERATOR):
            pass
    with refuses("CREDENTIAL_REFUSED"):
        async for _ in echo.stub.Count(text("5")):
            pass

    async def said() -> None:
        for number in range(3):
            yield text(f"note {number}")

    answers = [item.value async for item in echo.stub.Chat(said(), metadata=OPERATOR)]
    assert answers == ["note 0", "note 1", "note 2"]


async def test_a_bug_of_the_database_kind_says_nothing_of_the_database(echo: Echo) -> None:
    await echo.stub.Note(text("once"), metadata=OPERATOR)
    with refuses("INTERNAL") as refused:  # the note exists: a unique violation nobody foresaw
        await echo.stub.Note(text("once"), metadata=OPERATOR)
    assert "note_pkey" not in refused.message


async def test_calls_are_counted_by_method_and_code(echo: Echo) -> None:
    await echo.stub.Echo(text("hi"), metadata=OPERATOR)
    with refuses("BROKE"):
        await echo.stub.Echo(text("refuse"), metadata=OPERATOR)
    exposition = render_text(echo.running.platform.metrics)
    method = 'service="probe",method="tollgate.echo.v1.EchoService/Echo"'
    assert f'tollgate_rpc_duration_seconds_count{{{method},code="OK"}} 1' in exposition
    assert f'{{{method},code="RESOURCE_EXHAUSTED"}} 1' in exposition
    assert 'tollgate_rpc_refusals_total{reason="BROKE"} 1' in exposition
    assert "tollgate_rpc_in_flight 0" in exposition


async def test_a_servicer_that_lacks_a_method_is_not_bound() -> None:
    with pytest.raises(TypeError, match=r"lacks tollgate\.echo\.v1\.EchoService/Echo"):
        bind(object(), echo_service.DESCRIPTOR)
