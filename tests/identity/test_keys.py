"""API keys through gRPC on a real Postgres."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import grpc
import pytest

from chassis.auth import parse_api_key
from tests.identity.conftest import Identity, bearer, now
from tests.support.refusals import outcome, refuses
from tests.support.services import PEPPER, Services, credential
from tests.support.waiting import until
from tollgate.identity.v1 import identity_service_pb2 as pb
from tollgate.identity.v1 import identity_service_pb2_grpc as rpc
from tollgate.identity.v1 import tenant_pb2

GATEWAY = credential(None, service="gateway")


async def authenticate(identity: Identity, secret: str) -> pb.AuthenticateKeyResponse:
    return await identity.keys.AuthenticateKey(
        pb.AuthenticateKeyRequest(api_key=secret), metadata=GATEWAY
    )


async def test_a_key_says_whose_it_is_and_what_it_may_do(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    made = await identity.key(tenant_id, "wallet:read", "events:ingest")
    assert made.secret.startswith(f"tg_test_{made.api_key.key_id}")
    answer = await authenticate(identity, made.secret)
    assert UUID(answer.tenant_id) == tenant_id
    assert answer.key_id == made.api_key.key_id
    assert set(answer.scopes) == {"wallet:read", "events:ingest"}
    assert answer.environment == tenant_pb2.ENVIRONMENT_TEST


async def test_a_secret_is_shown_once_and_kept_nowhere(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    first = await identity.key(tenant_id)
    again = await identity.key(tenant_id)
    assert again.api_key == first.api_key
    assert first.secret
    assert not again.secret
    secret = parse_api_key(first.secret).secret
    connection = await asyncpg.connect(identity.database.superuser_dsn)
    try:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'identity'"
        )
        for row in tables:
            found = await connection.fetchval(
                f"SELECT count(*) FROM identity.{row['tablename']} AS t"
                " WHERE position($1 in t::text) > 0",
                secret,
            )
            assert found == 0, row["tablename"]
        assert len(tables) >= 3
    finally:
        await connection.close()


async def test_a_key_that_is_not_exactly_right_opens_nothing(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    made = await identity.key(tenant_id)
    other = await identity.key(tenant_id, request_id="k2")
    start = len("tg_test_") + 32
    swapped = other.secret[:start] + made.secret[start:]  # one key's id, another's secret
    for wrong in ("", "tg_test_x", made.secret[:-1] + "!", swapped, made.secret.upper()):
        with refuses("KEY_UNKNOWN", grpc.StatusCode.UNAUTHENTICATED):
            await authenticate(identity, wrong)


async def test_an_expired_key_opens_nothing(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    made = await identity.key(tenant_id, expire_time=now() + timedelta(seconds=1))

    async def refused() -> bool:
        return await outcome(authenticate(identity, made.secret)) == "KEY_EXPIRED"

    await until(refused, what="the key's expiry")
    listed = await identity.keys.ListApiKeys(
        pb.ListApiKeysRequest(), metadata=credential(tenant_id)
    )
    assert [key.state for key in listed.api_keys] == [tenant_pb2.API_KEY_STATE_EXPIRED]
    # The chain forgets a principal when its key expires, however fresh the memory is.
    with refuses("CREDENTIAL_REFUSED", grpc.StatusCode.UNAUTHENTICATED) as refusal:
        await identity.tenants.GetTenant(pb.GetTenantRequest(), metadata=bearer(made.secret))
    assert refusal.facts == {"why": "KEY_EXPIRED"}


async def test_a_key_cannot_be_made_expired(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    with refuses("INVALID_VALUE") as refused:
        await identity.key(tenant_id, expire_time=now() - timedelta(seconds=1))
    assert refused.facts["field"] == "expire_time"


async def test_a_revoked_key_opens_nothing_and_stays_revoked(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    made = await identity.key(tenant_id)
    request = pb.RevokeApiKeyRequest(request_id="gone", key_id=made.api_key.key_id)
    first = await identity.keys.RevokeApiKey(request, metadata=credential(tenant_id))
    again = await identity.keys.RevokeApiKey(request, metadata=credential(tenant_id))
    assert first == again
    assert first.api_key.state == tenant_pb2.API_KEY_STATE_REVOKED
    later = await identity.keys.RevokeApiKey(
        pb.RevokeApiKeyRequest(request_id="once more", key_id=made.api_key.key_id),
        metadata=credential(tenant_id),
    )
    assert later.api_key.revoke_time == first.api_key.revoke_time
    with refuses("KEY_REVOKED", grpc.StatusCode.UNAUTHENTICATED):
        await authenticate(identity, made.secret)


async def test_another_tenants_key_is_not_found(identity: Identity) -> None:
    ours, theirs = await identity.tenant("ours"), await identity.tenant("theirs")
    made = await identity.key(theirs)
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await identity.keys.RevokeApiKey(
            pb.RevokeApiKeyRequest(request_id="r", key_id=made.api_key.key_id),
            metadata=credential(ours),
        )
    listed = await identity.keys.ListApiKeys(pb.ListApiKeysRequest(), metadata=credential(ours))
    assert not listed.api_keys
    await authenticate(identity, made.secret)


async def test_a_key_gives_no_scope_that_it_does_not_hold(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    maker = await identity.key(tenant_id, "identity:admin", "wallet:read")
    create = identity.keys.CreateApiKey
    given = await create(
        pb.CreateApiKeyRequest(request_id="a", name="reader", scopes=["wallet:read"]),
        metadata=bearer(maker.secret),
    )
    assert list(given.api_key.scopes) == ["wallet:read"]
    with refuses("SCOPE_NOT_HELD", grpc.StatusCode.PERMISSION_DENIED) as refused:
        await create(
            pb.CreateApiKeyRequest(request_id="b", name="writer", scopes=["wallet:write"]),
            metadata=bearer(maker.secret),
        )
    assert refused.facts == {"scope": "wallet:write"}
    with refuses("CALLER_NOT_ALLOWED"):
        await create(
            pb.CreateApiKeyRequest(request_id="c", name="x", scopes=["wallet:read"]),
            metadata=bearer(given.secret),
        )


async def test_at_most_two_keys_of_a_name_are_active_however_many_race(
    identity: Identity,
) -> None:
    tenant_id = await identity.tenant()
    outcomes = await asyncio.gather(
        *(outcome(identity.key(tenant_id, request_id=f"k{number}")) for number in range(6))
    )
    assert sorted(outcomes) == ["KEY_NAME_IN_USE"] * 4 + ["OK"] * 2
    listed = await identity.keys.ListApiKeys(
        pb.ListApiKeysRequest(), metadata=credential(tenant_id)
    )
    await identity.keys.RevokeApiKey(
        pb.RevokeApiKeyRequest(request_id="r", key_id=listed.api_keys[0].key_id),
        metadata=credential(tenant_id),
    )
    assert (await identity.key(tenant_id, request_id="next")).secret


async def test_use_is_noted_by_the_minute(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    made = await identity.key(tenant_id)

    async def last_use() -> int:
        listed = await identity.keys.ListApiKeys(
            pb.ListApiKeysRequest(), metadata=credential(tenant_id)
        )
        return listed.api_keys[0].last_use_time.ToNanoseconds()

    assert await last_use() == 0
    await authenticate(identity, made.secret)
    first = await last_use()
    assert first > 0
    await authenticate(identity, made.secret)
    assert await last_use() == first


async def test_a_new_pepper_takes_over_at_next_use(identity: Identity, services: Services) -> None:
    tenant_id = await identity.tenant()
    made = await identity.key(tenant_id)
    newer = "2:the pepper that comes after the first one"
    both = await services.run("identity", identity.database, api_key_pepper=f"{PEPPER},{newer}")
    await _authenticate_at(services, both.address, made.secret)
    only_new = await services.run("identity", identity.database, api_key_pepper=newer)
    answer = await _authenticate_at(services, only_new.address, made.secret)
    assert answer.key_id == made.api_key.key_id
    with refuses("KEY_UNKNOWN"):
        await authenticate(identity, made.secret)  # the first process knows only the old pepper


async def _authenticate_at(
    services: Services, address: str, secret: str
) -> pb.AuthenticateKeyResponse:
    async with grpc.aio.insecure_channel(address) as channel:
        return await rpc.KeyServiceStub(channel).AuthenticateKey(
            pb.AuthenticateKeyRequest(api_key=secret), metadata=GATEWAY
        )


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("request_id", pb.CreateApiKeyRequest(name="n", scopes=["a:read"])),
        ("name", pb.CreateApiKeyRequest(request_id="r", scopes=["a:read"])),
        ("scopes", pb.CreateApiKeyRequest(request_id="r", name="n")),
        ("scopes[1]", pb.CreateApiKeyRequest(request_id="r", name="n", scopes=["a:read", "*"])),
    ],
)
async def test_every_field_of_a_new_key_is_checked(
    identity: Identity, field: str, request_: pb.CreateApiKeyRequest
) -> None:
    tenant_id = await identity.tenant()
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
        await identity.keys.CreateApiKey(request_, metadata=credential(tenant_id))
    assert refused.facts["field"] == field
