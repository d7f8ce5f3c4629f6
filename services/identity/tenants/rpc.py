"""TenantService: parse, operate, render."""

from __future__ import annotations

from chassis.call import Call
from chassis.paging import next_token, parse_page
from chassis.wire import parse_request_id, parse_text
from identity.tenants.domain import NAME_MAX
from identity.tenants.operations import TenantOperations
from identity.tenants.wire import parse_environment, render_tenant
from tollgate.identity.v1 import identity_service_pb2 as pb


class TenantService:
    """Who runs billing here."""

    def __init__(self, tenants: TenantOperations) -> None:
        self._tenants = tenants

    async def CreateTenant(
        self, request: pb.CreateTenantRequest, call: Call
    ) -> pb.CreateTenantResponse:
        tenant = await self._tenants.create_tenant(
            parse_request_id(request.request_id),
            parse_text(request.name, "name", maximum=NAME_MAX),
            parse_environment(request.environment),
        )
        return pb.CreateTenantResponse(tenant=render_tenant(tenant))

    async def GetTenant(self, request: pb.GetTenantRequest, call: Call) -> pb.GetTenantResponse:
        tenant = await self._tenants.get_tenant(call.tenant_id)
        return pb.GetTenantResponse(tenant=render_tenant(tenant))

    async def ListTenants(
        self, request: pb.ListTenantsRequest, call: Call
    ) -> pb.ListTenantsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=2)
        tenants = await self._tenants.list_tenants(page)
        token = ""
        if len(tenants) == page.size:
            token = next_token(tenants[-1].create_time.isoformat(), str(tenants[-1].tenant_id))
        return pb.ListTenantsResponse(
            tenants=[render_tenant(tenant) for tenant in tenants], next_page_token=token
        )
