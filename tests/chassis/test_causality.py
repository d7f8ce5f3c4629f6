"""Services that ask identity: keys, test clocks, and the order of what a caller saw."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
import pytest

from chassis.call import Call, Environment
from chassis.peers import RemoteRefusal
from chassis.service import Running
from kernel.errors import Kind
from tests.conftest import MakeDatabase
from tests.support.echo import ActingAsGateway, EchoStub, definition, text
from tests.support.probe import PACKAGES
from tests.support.refusals import refuses
from tests.support.services import Services, credential
from tollgate.identity.v1 import identity_service_pb2 as pb
from tollgate.identity.v1 import identity_service_pb2_grpc as rpc
from tollgate.identity.v1 import tenant_pb2

START = datetime(2026, 1, 31, tzinfo=UTC)


class Suite:
    """Identity and an echo service that asks it."""

    def __init__(self, echo: Running, identity: grpc.aio.Channel, stub: EchoStub) -> None:
        self.echo = echo
        self.stub = stub
        self.keys = rpc.KeyServiceStub(identity)
        self.tenants = rpc.TenantServiceStub(identity)
        self.clocks = rpc.TestClockServiceStub(identity)

    async def tenant(self, name: str = "a", environment: int = tenant_pb2.ENVIRONMENT_TEST) -> UUID:
        made = await self.tenants.CreateTenant(
            pb.CreateTenantRequest(request_id=name, name=name, environment=environment),
            metadata=credential(None),
        )
        return UUID(made.tenant.tenant_id)

    async def key(self, tenant_id: UUID, *scopes: str) -> pb.CreateApiKeyResponse:
        return await self.keys.CreateApiKey(
            pb.CreateApiKeyRequest(request_id="k", name="k", scopes=scopes),
            metadata=credential(tenant_id),
        )

    async def describe(self, *metadata: tuple[str, str]) -> list[str]:
        answer = await self.stub.Describe(text(""), metadata=metadata)
        return answer.value.split(" ")


@pytest.fixture
async def suite(fresh_database: MakeDatabase, services: Services) -> Suite:
    database = await fresh_database("identity", "probe", packages=PACKAGES)
    await services.run("identity", database)
    echo = await services.run(definition(config=ActingAsGateway), database)
    return Suite(echo, await services.channel("identity"), EchoStub(await services.channel(echo)))


def bearer(secret: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {secret}")


async def test_a_key_opens_what_its_scopes_say_for_its_own_tenant(suite: Suite) -> None:
    tenant_id = await suite.tenant()
    reader = await suite.key(tenant_id, "echo:read")
    caller, tenant, environment, *_ = await suite.describe(bearer(reader.secret))
    assert caller == f"key:{reader.api_key.key_id}"
    assert tenant == str(tenant_id)
    assert environment == "TEST"
    other = await suite.tenant("b")
    writer = await suite.key(other, "echo:write")
    with refuses("CALLER_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await suite.describe(bearer(writer.secret))


async def test_identitys_reason_is_told_where_a_key_opens_nothing(suite: Suite) -> None:
    tenant_id = await suite.tenant()
    made = await suite.key(tenant_id, "echo:read")
    await suite.keys.RevokeApiKey(
        pb.RevokeApiKeyRequest(request_id="r", key_id=made.api_key.key_id),
        metadata=credential(tenant_id),
    )
    with refuses("CREDENTIAL_REFUSED", grpc.StatusCode.UNAUTHENTICATED) as refused:
        await suite.describe(bearer(made.secret))
    assert refused.facts == {"why": "KEY_REVOKED"}


async def test_whoever_advanced_a_clock_is_answered_at_the_new_time(suite: Suite) -> None:
    tenant_id = await suite.tenant()
    made = await suite.key(tenant_id, "echo:read")
    key = bearer(made.secret)
    before = await suite.describe(key)
    assert before[4] == "0"  # the service now believes for half a minute that there is no clock
    await suite.clocks.CreateTestClock(
        pb.CreateTestClockRequest(request_id="c", time=START), metadata=credential(tenant_id)
    )
    described = await suite.describe(key, ("tollgate-clock-version", "1"))
    assert described[3:5] == [START.isoformat(), "1"]
    for version in range(2, 12):
        later = START + timedelta(days=version)
        advanced = await suite.clocks.AdvanceTestClock(
            pb.AdvanceTestClockRequest(request_id=f"a{version}", time=later),
            metadata=credential(tenant_id),
        )
        assert advanced.test_clock.version == version
        described = await suite.describe(key, ("tollgate-clock-version", str(version)))
        assert described[3:5] == [later.isoformat(), str(version)]
        # And what was seen once is not unseen by a caller that does not say.
        assert await suite.describe(key) == described


async def test_a_version_that_does_not_exist_yet_is_refused(suite: Suite) -> None:
    tenant_id = await suite.tenant()
    made = await suite.key(tenant_id, "echo:read")
    for version in ("7", "-1", "x", "9" * 30):
        with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
            await suite.describe(bearer(made.secret), ("tollgate-clock-version", version))
        assert refused.facts["field"] == "tollgate-clock-version"


async def test_a_call_passes_its_clock_and_trace_on(suite: Suite) -> None:
    """Operator → echo's peers → echo: the second hop sees what the first one carried."""
    tenant_id = await suite.tenant()
    await suite.clocks.CreateTestClock(
        pb.CreateTestClockRequest(request_id="c", time=START), metadata=credential(tenant_id)
    )
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    first = Call(
        method="test/Test",
        tenant=tenant_id,
        caller="key:1",
        scopes=frozenset(),
        environment=Environment.TEST,
        now=START,
        clock_version=1,
        deadline=10.0**12,
        trace=trace,
    )
    peers = suite.echo.platform.peers
    carried = dict(peers.metadata(tenant_id, first))
    assert carried["tollgate-clock-version"] == "1"
    assert carried["traceparent"] == trace
    other = dict(peers.metadata(UUID(int=8), first))
    assert "tollgate-clock-version" not in other  # a version means nothing to another tenant
    answer = await peers.call(
        rpc.TestClockServiceStub(peers.channel("identity")).GetTestClock,
        pb.GetTestClockRequest(),
        tenant_id=tenant_id,
        call=first,
    )
    assert answer.test_clock.version == 1


async def test_a_peers_refusal_keeps_its_reason_and_an_absent_peer_is_unavailable(
    suite: Suite,
) -> None:
    peers = suite.echo.platform.peers
    stub = rpc.TestClockServiceStub(peers.channel("identity"))
    with pytest.raises(RemoteRefusal) as caught:
        await peers.call(stub.GetTestClock, pb.GetTestClockRequest(), tenant_id=UUID(int=99))
    assert (caught.value.reason, caught.value.kind) == ("NOT_FOUND", Kind.NOT_FOUND)
    assert caught.value.facts["what"] == "tenant"
    async with grpc.aio.insecure_channel("127.0.0.1:9") as nobody:
        with pytest.raises(RemoteRefusal) as caught:
            await peers.call(
                rpc.TestClockServiceStub(nobody).GetTestClock,
                pb.GetTestClockRequest(),
                tenant_id=None,
            )
    assert (caught.value.reason, caught.value.kind) == ("UNAVAILABLE", Kind.UNAVAILABLE)


async def test_a_live_tenant_is_served_while_identity_is_away(
    suite: Suite, services: Services
) -> None:
    tenant_id = UUID(int=5)
    described = await suite.describe(*credential(tenant_id, environment=Environment.LIVE))
    assert described[:3] == ["service:operator", str(tenant_id), "LIVE"]
    assert abs(datetime.fromisoformat(described[3]) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_credential_that_does_not_say_its_environment_is_looked_up(suite: Suite) -> None:
    live = await suite.tenant("live", tenant_pb2.ENVIRONMENT_LIVE)
    described = await suite.describe(*credential(live, environment=None))
    assert described[2] == "LIVE"
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await suite.describe(*credential(UUID(int=77), environment=None))
