"""Credentials: the tokens our own programs mint per tenant, and tenants' API keys.

Both arrive as metadata `authorization: Bearer <credential>`. What a credential says is remembered
by the header's text for at most 30 seconds, so that the usual call costs one dictionary look-up.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

import jwt

from chassis.call import Environment
from chassis.refusals import CredentialRefused
from kernel.errors import Kind, Refusal

AUTHORIZATION = "authorization"
BEARER = "Bearer "
CREDENTIAL_CHARACTERS_MAX = 4_096

TOKEN_LIFETIME = timedelta(minutes=10)
TOKEN_RENEWAL = timedelta(minutes=5)  # a token is never sent with less than this to live
CLOCK_SKEW = timedelta(seconds=30)  # between two hosts of one deployment
ALGORITHM = "HS256"

PRINCIPAL_SECONDS = 30.0  # a revoked key opens nothing after this
REFUSAL_SECONDS = 5.0  # a wrong key asked again and again costs identity one call in this time
PRINCIPALS_MAX = 50_000  # remembered at once; beyond that, all are forgotten and learned again

KEY_FORM = re.compile(r"tg_(live|test)_([0-9a-f]{32})([A-Za-z0-9_-]{43})_([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a credential stands for."""

    caller: str  # "key:<id>" or "service:<name>"
    service: str | None
    tenant_id: UUID | None
    environment: Environment | None  # None: the minter did not know; the tenant's clock tells
    scopes: frozenset[str]
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKeyText:
    """The parts of an API key. Whether it opens anything is for identity to say."""

    environment: Environment
    key_id: UUID
    secret: str  # 43 characters: 32 random bytes


class KeyResolver(Protocol):
    """Says whose a well-formed API key is; raises a refusal where it opens nothing."""

    async def resolve(self, credential: str) -> Principal: ...


def mint(
    secret: str,
    service: str,
    tenant_id: UUID | None,
    now: datetime,
    environment: Environment | None = None,
) -> str:
    """A service credential good for ten minutes: `service` acts for a tenant, or for none."""
    claims: dict[str, object] = {"iss": service, "exp": int((now + TOKEN_LIFETIME).timestamp())}
    if tenant_id is not None:
        claims["tid"] = str(tenant_id)
    if environment is not None:
        claims["env"] = environment.value
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


def verify(secret: str, token: str) -> Principal:
    """Read a service credential; raises CredentialRefused."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            options={"require": ["iss", "exp"]},
            leeway=CLOCK_SKEW,
        )
        tenant_id = UUID(claims["tid"]) if "tid" in claims else None
        environment = Environment(claims["env"]) if "env" in claims else None
    except jwt.ExpiredSignatureError:
        raise CredentialRefused("expired") from None
    except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
        raise CredentialRefused("not a credential of this deployment") from None
    name = str(claims["iss"])
    expire_time = datetime.fromtimestamp(claims["exp"], UTC) + CLOCK_SKEW
    return Principal(f"service:{name}", name, tenant_id, environment, frozenset(), expire_time)


def make_api_key(environment: Environment, key_id: UUID) -> str:
    """A new API key: tg_<live|test>_<key id><43 characters>_<checksum>."""
    body = f"tg_{environment.value.lower()}_{key_id.hex}{secrets.token_urlsafe(32)}"
    return f"{body}_{_checksum(body)}"


def parse_api_key(credential: str) -> ApiKeyText:
    """Read an API key and check its checksum; a mistyped one costs nobody a call."""
    form = KEY_FORM.fullmatch(credential)
    if form is None or _checksum(credential[:-9]) != form[4]:
        raise CredentialRefused("not an API key")
    return ApiKeyText(Environment(form[1].upper()), UUID(form[2]), form[3])


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:8]


class Credentials:
    """Mints this program's own credentials and keeps each until half of its life is over."""

    def __init__(self, secret: str, service: str) -> None:
        self._secret = secret
        self._service = service
        self._headers: dict[tuple[UUID | None, Environment | None], tuple[str, datetime]] = {}

    def header(self, tenant_id: UUID | None, environment: Environment | None = None) -> str:
        """The value of the authorization header for a call on behalf of a tenant, or of none."""
        key = (tenant_id, environment)
        now = datetime.now(UTC)  # credentials live in real time, test clocks or not
        found = self._headers.get(key)
        if found is not None and found[1] > now:
            return found[0]
        if len(self._headers) >= PRINCIPALS_MAX:
            self._headers.clear()
        token = mint(self._secret, self._service, tenant_id, now, environment)
        self._headers[key] = (BEARER + token, now + TOKEN_LIFETIME - TOKEN_RENEWAL)
        return BEARER + token


class Authenticator:
    """Says whom an authorization header stands for, and remembers it for 30 seconds."""

    def __init__(self, secret: str, resolver: KeyResolver) -> None:
        self._secret = secret
        self._resolver = resolver
        self._known: dict[str, tuple[Principal, float]] = {}
        self._refused: dict[str, tuple[Refusal, float]] = {}
        self._asking: dict[str, asyncio.Task[Principal]] = {}

    def find(self, header: str) -> Principal | None:
        """What is remembered of a header, without waiting for anything."""
        found = self._known.get(header)
        return found[0] if found is not None and found[1] > time.monotonic() else None

    def learn(self, header: str) -> Awaitable[Principal]:
        """Find out whom a header stands for; calls with one header share one question.

        Raises CredentialRefused or identity's own refusal.
        """
        task = self._asking.get(header)
        if task is None:
            task = asyncio.create_task(self._learn(header))
            self._asking[header] = task
            task.add_done_callback(lambda done: self._asked(header, done))
        return asyncio.shield(task)

    async def _learn(self, header: str) -> Principal:
        refused = self._refused.get(header)
        if refused is not None and refused[1] > time.monotonic():
            raise refused[0].with_traceback(None)
        try:
            principal = await self._read(header)
        except Refusal as refusal:
            if refusal.kind is not Kind.UNAUTHENTICATED:
                raise
            # Identity's own reasons, such as KEY_REVOKED, are the facts of ours.
            same = isinstance(refusal, CredentialRefused)
            answer = refusal if same else CredentialRefused(refusal.reason)
            if len(header) <= CREDENTIAL_CHARACTERS_MAX:
                _bound(self._refused)
                self._refused[header] = (answer, time.monotonic() + REFUSAL_SECONDS)
            raise answer from None
        seconds = PRINCIPAL_SECONDS
        if principal.expire_time is not None:
            left = (principal.expire_time - datetime.now(UTC)).total_seconds()
            seconds = min(seconds, left)
        _bound(self._known)
        self._known[header] = (principal, time.monotonic() + seconds)
        return principal

    async def _read(self, header: str) -> Principal:
        if not header.startswith(BEARER):
            raise CredentialRefused("missing" if not header else "not of the form 'Bearer …'")
        if len(header) > CREDENTIAL_CHARACTERS_MAX:
            raise CredentialRefused("too long")
        credential = header[len(BEARER) :]
        if credential.startswith("tg_"):
            parse_api_key(credential)
            return await self._resolver.resolve(credential)
        if not self._secret:
            raise CredentialRefused("this deployment has no service secret")
        return verify(self._secret, credential)

    def _asked(self, header: str, task: asyncio.Task[Principal]) -> None:
        del self._asking[header]
        if not task.cancelled():
            task.exception()  # looked at, so that nobody warns where every asker went away


def _bound(memory: dict[str, tuple[Principal, float]] | dict[str, tuple[Refusal, float]]) -> None:
    if len(memory) >= PRINCIPALS_MAX:
        memory.clear()
