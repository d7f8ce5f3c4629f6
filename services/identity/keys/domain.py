"""API keys: what they hold, how their secret is kept, when they open nothing."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from chassis.call import Environment
from kernel.errors import InvalidValue, Kind, Refusal

NAME_MAX = 100
SCOPES_MAX = 50
SCOPE_FORM = r"[a-z][a-z_]{0,39}:[a-z][a-z_]{0,39}"
ACTIVE_PER_NAME_MAX = 2  # the old one and its successor, while programs move over
LAST_USE_STEP = timedelta(minutes=1)  # a key used a thousand times a second is written once


class KeyUnknown(Refusal):
    """Malformed or never made; which of the two is nobody's business."""

    reason = "KEY_UNKNOWN"
    kind = Kind.UNAUTHENTICATED

    def __init__(self) -> None:
        super().__init__("no such API key")


class KeyExpired(Refusal):
    reason = "KEY_EXPIRED"
    kind = Kind.UNAUTHENTICATED


class KeyRevoked(Refusal):
    reason = "KEY_REVOKED"
    kind = Kind.UNAUTHENTICATED


class KeyNameInUse(Refusal):
    reason = "KEY_NAME_IN_USE"
    kind = Kind.CONFLICT


class ScopeNotHeld(Refusal):
    reason = "SCOPE_NOT_HELD"
    kind = Kind.DENIED


class State(Enum):
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its tenant sees it."""

    key_id: UUID
    name: str
    scopes: tuple[str, ...]
    create_time: datetime
    expire_time: datetime | None = None
    revoke_time: datetime | None = None
    last_use_time: datetime | None = None

    def state(self, now: datetime) -> State:
        if self.revoke_time is not None:
            return State.REVOKED
        if self.expire_time is not None and self.expire_time <= now:
            return State.EXPIRED
        return State.ACTIVE


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """What is kept of a secret: its hash, and the number of the pepper it was made under."""

    digest: bytes
    pepper_number: int


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key as it is found by its id alone, before its tenant is known."""

    tenant_id: UUID
    environment: Environment
    key_id: UUID
    scopes: tuple[str, ...]
    secret: StoredSecret
    expire_time: datetime | None
    revoke_time: datetime | None
    last_use_time: datetime | None


class Peppers:
    """Numbered keys of the hash; new secrets are kept under the highest number.

    A secret is 256 random bits, so one HMAC is enough and a slow hash would only be a way to wear
    the service out. Whoever reads the table without the pepper cannot even test a guess.
    """

    def __init__(self, numbered: Mapping[int, bytes]) -> None:
        if not numbered:
            raise InvalidValue("peppers", "there must be one")
        self._numbered = dict(numbered)
        self.newest = max(numbered)

    def keep(self, secret: str) -> StoredSecret:
        return StoredSecret(_digest(self._numbered[self.newest], secret), self.newest)

    def matches(self, secret: str, stored: StoredSecret) -> bool:
        """Compared in constant time; a pepper that is gone matches nothing."""
        pepper = self._numbered.get(stored.pepper_number)
        return pepper is not None and hmac.compare_digest(_digest(pepper, secret), stored.digest)


def _digest(pepper: bytes, secret: str) -> bytes:
    return hmac.digest(pepper, secret.encode(), "sha256")


def check_known(known: KnownKey, secret: str, peppers: Peppers, now: datetime) -> None:
    """Refuse a key that opens nothing: KeyUnknown first, so that only its holder learns more."""
    if not peppers.matches(secret, known.secret):
        raise KeyUnknown
    if known.revoke_time is not None:
        raise KeyRevoked("the API key was revoked", key_id=known.key_id.hex)
    if known.expire_time is not None and known.expire_time <= now:
        raise KeyExpired(
            "the API key's time is over",
            key_id=known.key_id.hex,
            expire_time=known.expire_time.isoformat(),
        )


def check_scopes(scopes: tuple[str, ...], held: Set[str] | None) -> None:
    """Refuse to hand out what the maker does not hold; None holds everything."""
    if held is None:
        return
    for scope in scopes:
        if scope not in held:
            raise ScopeNotHeld(f"the caller does not hold {scope}", scope=scope)


def check_expiry(expire_time: datetime | None, now: datetime) -> None:
    if expire_time is not None and expire_time <= now:
        raise InvalidValue("expire_time", "must be in the future")
