"""KeyService: parse, operate, render."""

from __future__ import annotations

from chassis.call import Call
from chassis.paging import next_token, parse_page
from chassis.wire import parse_request_id
from identity.keys.operations import KeyOperations
from identity.keys.wire import parse_key_id, parse_new_key, render_key, render_known
from tollgate.identity.v1 import identity_service_pb2 as pb


class KeyService:
    """Credentials of a tenant's programs."""

    def __init__(self, keys: KeyOperations) -> None:
        self._keys = keys

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, call: Call
    ) -> pb.CreateApiKeyResponse:
        parse_request_id(request.request_id)
        new = parse_new_key(request)
        # Our own operator may give any scope; a key gives no more than it has.
        held = None if call.service is not None else call.scopes
        return await self._keys.create_key(call.tenant_id, request, new, held)

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, call: Call
    ) -> pb.ListApiKeysResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        keys, now = await self._keys.list_keys(call.tenant_id, page)
        token = next_token(str(keys[-1].key_id)) if len(keys) == page.size else ""
        return pb.ListApiKeysResponse(
            api_keys=[render_key(key, now) for key in keys], next_page_token=token
        )

    async def RevokeApiKey(
        self, request: pb.RevokeApiKeyRequest, call: Call
    ) -> pb.RevokeApiKeyResponse:
        parse_request_id(request.request_id)
        key_id = parse_key_id(request.key_id)
        return await self._keys.revoke_key(call.tenant_id, request, key_id)

    async def AuthenticateKey(
        self, request: pb.AuthenticateKeyRequest, call: Call
    ) -> pb.AuthenticateKeyResponse:
        return render_known(await self._keys.authenticate(request.api_key))
