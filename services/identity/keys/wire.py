"""API keys between protobuf and domain."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.wire import find_time, parse_text, render_time
from identity.keys.domain import NAME_MAX, SCOPE_FORM, SCOPES_MAX, ApiKey, KnownKey, State
from identity.tenants.wire import render_environment
from kernel.errors import InvalidValue
from tollgate.identity.v1 import identity_service_pb2 as pb
from tollgate.identity.v1 import tenant_pb2

_STATES = {
    State.ACTIVE: tenant_pb2.API_KEY_STATE_ACTIVE,
    State.EXPIRED: tenant_pb2.API_KEY_STATE_EXPIRED,
    State.REVOKED: tenant_pb2.API_KEY_STATE_REVOKED,
}


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a maker of a key asks for."""

    name: str
    scopes: tuple[str, ...]
    expire_time: datetime | None


def parse_new_key(request: pb.CreateApiKeyRequest) -> NewKey:
    name = parse_text(request.name, "name", maximum=NAME_MAX)
    if not 1 <= len(request.scopes) <= SCOPES_MAX:
        raise InvalidValue("scopes", f"takes 1 to {SCOPES_MAX} scopes")
    for index, scope in enumerate(request.scopes):
        parse_text(scope, f"scopes[{index}]", pattern=SCOPE_FORM)
    return NewKey(name, tuple(sorted(set(request.scopes))), find_time(request, "expire_time"))


def parse_key_id(text: str, field: str = "key_id") -> UUID:
    if re.fullmatch(r"[0-9a-f]{32}", text) is None:
        raise InvalidValue(field, "takes 32 hexadecimal digits")
    return UUID(text)


def render_key(key: ApiKey, now: datetime) -> tenant_pb2.ApiKey:
    return tenant_pb2.ApiKey(
        key_id=key.key_id.hex,
        name=key.name,
        scopes=key.scopes,
        state=_STATES[key.state(now)],
        create_time=render_time(key.create_time),
        expire_time=render_time(key.expire_time) if key.expire_time else None,
        last_use_time=render_time(key.last_use_time) if key.last_use_time else None,
        revoke_time=render_time(key.revoke_time) if key.revoke_time else None,
    )


def render_known(known: KnownKey) -> pb.AuthenticateKeyResponse:
    return pb.AuthenticateKeyResponse(
        tenant_id=str(known.tenant_id),
        key_id=known.key_id.hex,
        environment=render_environment(known.environment),
        scopes=known.scopes,
        expire_time=render_time(known.expire_time) if known.expire_time else None,
    )
