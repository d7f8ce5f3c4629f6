"""What can be done with API keys; also the resolver of credentials for identity's own calls."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from chassis.auth import Principal, make_api_key, parse_api_key
from chassis.database import Database
from chassis.paging import Page
from chassis.refusals import CredentialRefused
from chassis.requests import claim, record
from identity.keys import store
from identity.keys.domain import (
    ACTIVE_PER_NAME_MAX,
    LAST_USE_STEP,
    ApiKey,
    KeyNameInUse,
    KeyUnknown,
    KnownKey,
    Peppers,
    check_expiry,
    check_known,
    check_scopes,
)
from identity.keys.wire import NewKey, render_key
from kernel.clock import Clock
from kernel.errors import InvalidValue, NotFound
from kernel.ids import new_id
from tollgate.identity.v1 import identity_service_pb2 as pb


class KeyOperations:
    """Credentials live in real time: a test clock makes no key older."""

    def __init__(self, database: Database, clock: Clock, peppers: Peppers) -> None:
        self._database = database
        self._clock = clock
        self._peppers = peppers

    async def create_key(
        self, tenant_id: UUID, request: pb.CreateApiKeyRequest, new: NewKey, held: Set[str] | None
    ) -> pb.CreateApiKeyResponse:
        """A new key with its secret, which no later answer holds. `held` are its maker's scopes,
        None where the maker may give any. Raises ScopeNotHeld, KeyNameInUse, NotFound."""
        now = self._clock.now()
        check_scopes(new.scopes, held)
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                return pb.CreateApiKeyResponse.FromString(recorded)
            check_expiry(new.expire_time, now)
            environment = await store.find_environment(tx, tenant_id)
            if environment is None:
                raise NotFound("tenant", tenant_id)
            # Lock before counting: of two racing makers, the second must find the first's key.
            await store.lock_name(tx, tenant_id, new.name)
            if await store.count_active(tx, tenant_id, new.name, now) >= ACTIVE_PER_NAME_MAX:
                raise KeyNameInUse(
                    f"{ACTIVE_PER_NAME_MAX} keys of that name are active; revoke one first",
                    name=new.name,
                    limit=ACTIVE_PER_NAME_MAX,
                )
            key = ApiKey(new_id(now), new.name, new.scopes, now, new.expire_time)
            credential = make_api_key(environment, key.key_id)
            kept = self._peppers.keep(parse_api_key(credential).secret)
            await store.insert_key(tx, tenant_id, key, kept)
            response = pb.CreateApiKeyResponse(api_key=render_key(key, now))
            await record(tx, tenant_id, request.request_id, response)
        response.secret = credential
        return response

    async def list_keys(self, tenant_id: UUID, page: Page) -> tuple[list[ApiKey], datetime]:
        """A page of keys by creation, and the instant as of which their states hold."""
        try:
            after = UUID(page.after[0]) if page.after else UUID(int=0)
        except ValueError:
            raise InvalidValue("page_token", "is not from this list") from None
        async with self._database.transaction(tenant_id) as tx:
            return await store.list_keys(tx, tenant_id, after, page.size), self._clock.now()

    async def revoke_key(
        self, tenant_id: UUID, request: pb.RevokeApiKeyRequest, key_id: UUID
    ) -> pb.RevokeApiKeyResponse:
        """The key, revoked now or before; raises NotFound."""
        now = self._clock.now()
        async with self._database.transaction(tenant_id) as tx:
            recorded = await claim(tx, tenant_id, request.request_id, request)
            if recorded is not None:
                return pb.RevokeApiKeyResponse.FromString(recorded)
            key = await store.lock_key(tx, tenant_id, key_id)
            if key is None:
                raise NotFound("API key", key_id.hex)
            if key.revoke_time is None:
                key = replace(key, revoke_time=now)
                await store.save_revocation(tx, tenant_id, key_id, now)
            response = pb.RevokeApiKeyResponse(api_key=render_key(key, now))
            await record(tx, tenant_id, request.request_id, response)
            return response

    async def authenticate(self, credential: str) -> KnownKey:
        """Whose a credential is; raises KeyUnknown, KeyRevoked, KeyExpired."""
        try:
            text = parse_api_key(credential)
        except CredentialRefused:
            raise KeyUnknown from None
        async with self._database.unscoped() as connection:
            known = await store.find_known(connection, text.key_id)
        if known is None or known.environment is not text.environment:
            raise KeyUnknown
        now = self._clock.now()
        check_known(known, text.secret, self._peppers, now)
        stale = known.last_use_time is None or known.last_use_time <= now - LAST_USE_STEP
        if stale or known.secret.pepper_number != self._peppers.newest:
            async with self._database.transaction(known.tenant_id) as tx:
                await store.save_use(tx, known, self._peppers.keep(text.secret), now)
        return known

    async def resolve(self, credential: str) -> Principal:
        """The same, as the call chain asks it."""
        known = await self.authenticate(credential)
        return Principal(
            caller=f"key:{known.key_id.hex}",
            service=None,
            tenant_id=known.tenant_id,
            environment=known.environment,
            scopes=frozenset(known.scopes),
            expire_time=known.expire_time,
        )
