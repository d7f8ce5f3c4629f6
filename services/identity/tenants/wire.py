"""Tenants between protobuf and domain."""

from __future__ import annotations

from chassis.call import Environment
from chassis.wire import parse_member, render_time
from identity.tenants.domain import Tenant
from tollgate.identity.v1 import tenant_pb2

_MEMBERS = {
    tenant_pb2.ENVIRONMENT_LIVE: Environment.LIVE,
    tenant_pb2.ENVIRONMENT_TEST: Environment.TEST,
}
_NUMBERS = {member: number for number, member in _MEMBERS.items()}


def parse_environment(value: int) -> Environment:
    return parse_member(value, _MEMBERS, "environment")


def render_environment(environment: Environment) -> tenant_pb2.Environment.ValueType:
    return _NUMBERS[environment]


def render_tenant(tenant: Tenant) -> tenant_pb2.Tenant:
    return tenant_pb2.Tenant(
        tenant_id=str(tenant.tenant_id),
        name=tenant.name,
        environment=render_environment(tenant.environment),
        create_time=render_time(tenant.create_time),
    )
