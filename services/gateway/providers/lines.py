"""From a provider account to what the driver needs: address, allowed origins, secrets."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID, uuid5

from gateway.domain.provider_account import (
    ProviderAccount,
    ProviderAccountState,
    parse_secret_reference,
)
from gateway.providers.exchange import Line
from gateway.providers.plan import API_SECRET, NOTIFICATION_SECRET, Login, Provider
from gateway.providers.registry import Registry, allowed_origins, check_endpoint

SECRET_BYTES_MAX = 16 * 1024
_PROVIDERS = UUID("6f0a2b1e-5c0d-4a1b-9a5e-7c1d2e3f4a5b")  # names lines that belong to no account


class SecretMissing(Exception):
    """A secret that an account refers to cannot be read. The message names the reference."""


class Lines:
    """Makes lines from what this deployment is configured with. Secrets are read when used."""

    def __init__(
        self,
        own_addresses: Mapping[str, str],
        secrets_folder: Path,
        service_secret: str,
        notifications_url: str,
        registry: Registry | None = None,
    ) -> None:
        self.registry = registry or Registry()
        self._own_addresses = own_addresses  # provider's name → configured address
        self._folder = secrets_folder
        self._service_secret = service_secret.encode()
        self.notifications_url = notifications_url

    def check(self, provider: Provider, endpoint: str) -> None:
        """Raise InvalidValue where an account must not have this endpoint."""
        check_endpoint(provider, self._own_addresses.get(provider.name, ""), endpoint)

    def of(self, account: ProviderAccount) -> tuple[Provider, Line]:
        """An account's provider, and the line to it."""
        provider = self.registry.find(account.provider)
        own_address = self._own_addresses.get(provider.name, "")
        endpoint = account.endpoint or own_address or provider.endpoint
        login = Login(
            account.provider_account_id,
            endpoint,
            self._notification_url(account.provider_account_id),
            account.merchant,
        )
        secrets = {
            API_SECRET: partial(self._read, account.secret_reference),
            NOTIFICATION_SECRET: partial(self._newest_notification_secret, account),
        }
        origins = allowed_origins(provider, own_address, endpoint)
        return provider, Line(account, login, origins, secrets, provider.target)

    def to_provider(self, name: str) -> Line:
        """The line to a provider that serves the contract, on behalf of no account of it."""
        nobody = uuid5(_PROVIDERS, name)
        account = ProviderAccount(
            nobody, name, name, "", ProviderAccountState.ACTIVE, datetime.fromtimestamp(0, UTC)
        )
        return Line(account, Login(nobody, ""), frozenset(), {}, self.registry.targets[name])

    def notification_secrets(self, account: ProviderAccount) -> list[bytes]:
        """The secrets that a notification of the account may be signed with, one a line.

        Two during rotation. A provider that wants Basic credentials too has them as a line of
        their own, "user:password".
        An account without a reference has one that follows from the deployment's own secret, for
        providers that are told the secret with each request. Raises SecretMissing.
        """
        if account.notification_secret_reference:
            lines = self._read(account.notification_secret_reference).splitlines()
            return [line.strip() for line in lines if line.strip()]
        if not self._service_secret:
            raise SecretMissing("the deployment has no secret to derive one from")
        name = f"notification:{account.provider_account_id}".encode()
        return [hmac.new(self._service_secret, name, hashlib.sha256).hexdigest().encode()]

    def _newest_notification_secret(self, account: ProviderAccount) -> bytes:
        return self.notification_secrets(account)[0]

    def _notification_url(self, provider_account_id: UUID) -> str:
        if not self.notifications_url:
            return ""
        return f"{self.notifications_url.rstrip('/')}/notifications/{provider_account_id}"

    def _read(self, reference: str) -> bytes:
        if not reference:
            return b""
        name = parse_secret_reference(reference, "secret_reference").removeprefix("file:")
        try:
            with (self._folder / name).open("rb") as file:
                secret = file.read(SECRET_BYTES_MAX).strip()
        except OSError as error:
            raise SecretMissing(f"{reference} cannot be read: {error.strerror}") from None
        if not secret:
            raise SecretMissing(f"{reference} is empty")
        return secret
