"""Tenants through gRPC on a real Postgres."""

from __future__ import annotations

import asyncio
from uuid import UUID

import grpc

from chassis.call import Environment
from tests.identity.conftest import Identity, bearer
from tests.support.refusals import refuses
from tests.support.services import credential
from tollgate.identity.v1 import identity_service_pb2 as pb
from tollgate.identity.v1 import tenant_pb2


def ask(request_id: str = "r1", name: str = "Acme") -> pb.CreateTenantRequest:
    return pb.CreateTenantRequest(
        request_id=request_id, name=name, environment=tenant_pb2.ENVIRONMENT_TEST
    )


async def test_a_request_id_makes_one_tenant_however_often_it_comes(identity: Identity) -> None:
    create = identity.tenants.CreateTenant
    answers = await asyncio.gather(*(create(ask(), metadata=credential(None)) for _ in range(8)))
    assert len({answer.tenant.tenant_id for answer in answers}) == 1
    assert {answer.tenant.create_time.ToNanoseconds() for answer in answers} == {
        answers[0].tenant.create_time.ToNanoseconds()
    }
    listed = await identity.tenants.ListTenants(pb.ListTenantsRequest(), metadata=credential(None))
    assert list(listed.tenants) == [answers[0].tenant]


async def test_a_request_id_with_other_content_is_a_conflict(identity: Identity) -> None:
    await identity.tenants.CreateTenant(ask(), metadata=credential(None))
    with refuses("IDEMPOTENCY_CONFLICT", grpc.StatusCode.ALREADY_EXISTS):
        await identity.tenants.CreateTenant(ask(name="Other"), metadata=credential(None))


async def test_nobody_but_the_operator_makes_or_lists_tenants(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    key = await identity.key(tenant_id, "identity:admin")
    for stranger in (bearer(key.secret), credential(None, service="gateway")):
        with refuses("CALLER_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
            await identity.tenants.CreateTenant(ask("r2"), metadata=stranger)
    with refuses("CALLER_NOT_ALLOWED"):
        await identity.tenants.ListTenants(pb.ListTenantsRequest(), metadata=bearer(key.secret))


async def test_tenants_are_listed_in_pages_by_creation(identity: Identity) -> None:
    made = [await identity.tenant(f"tenant {number}") for number in range(5)]
    found: list[UUID] = []
    token, pages = "", 0
    while True:
        page = await identity.tenants.ListTenants(
            pb.ListTenantsRequest(page_size=2, page_token=token), metadata=credential(None)
        )
        found += [UUID(tenant.tenant_id) for tenant in page.tenants]
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    assert found == made
    assert pages == 3


async def test_a_page_token_of_another_list_is_refused(identity: Identity) -> None:
    tenant_id = await identity.tenant()
    for number in range(2):
        await identity.key(tenant_id, name=f"key {number}", request_id=f"k{number}")
    keys = await identity.keys.ListApiKeys(
        pb.ListApiKeysRequest(page_size=1), metadata=credential(tenant_id)
    )
    assert keys.next_page_token
    for token in (keys.next_page_token, "nonsense", keys.next_page_token[:-2] + "AA"):
        with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
            await identity.tenants.ListTenants(
                pb.ListTenantsRequest(page_token=token), metadata=credential(None)
            )
        assert refused.facts["field"] == "page_token"


async def test_a_tenant_sees_itself_and_an_unmade_one_is_not_found(identity: Identity) -> None:
    tenant_id = await identity.tenant("Live & Co", Environment.LIVE)
    answer = await identity.tenants.GetTenant(pb.GetTenantRequest(), metadata=credential(tenant_id))
    assert answer.tenant.name == "Live & Co"
    assert answer.tenant.environment == tenant_pb2.ENVIRONMENT_LIVE
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await identity.tenants.GetTenant(pb.GetTenantRequest(), metadata=credential(UUID(int=9)))


async def test_every_field_of_a_new_tenant_is_checked(identity: Identity) -> None:
    wrong = {
        "request_id": pb.CreateTenantRequest(name="a", environment=1),
        "name": pb.CreateTenantRequest(request_id="r", name="n" * 201, environment=1),
        "environment": pb.CreateTenantRequest(request_id="r", name="a"),
    }
    for field, request in wrong.items():
        with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
            await identity.tenants.CreateTenant(request, metadata=credential(None))
        assert refused.facts["field"] == field
