"""Which providers there are, by name: those that come along, and those that are brought."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.providers import adyen, chargebee, gocardless, paddle, razorpay, sandbox, stripe
from gateway.providers.brought import NOTHING_BROUGHT, Brought
from gateway.providers.plan import Provider, Target
from kernel.errors import InvalidValue, Kind, Refusal

PROVIDERS: Mapping[str, Provider] = {
    each.name: each
    for each in (
        adyen.PROVIDER,
        chargebee.PROVIDER,
        gocardless.PROVIDER,
        paddle.PROVIDER,
        razorpay.PROVIDER,
        sandbox.PROVIDER,
        stripe.PROVIDER,
    )
}


class ProviderUnreachable(Refusal):
    """A provider that is brought along has not yet said what it offers. Nothing was done."""

    reason = "PROVIDER_UNREACHABLE"
    kind = Kind.UNAVAILABLE

    def __init__(self, name: str) -> None:
        super().__init__(f"provider {name!r} has not answered yet", provider=name)


class Registry:
    """The providers of this deployment. Those that a process serves are known once it answered."""

    def __init__(self, brought: Brought = NOTHING_BROUGHT) -> None:
        self._known = {**PROVIDERS, **brought.providers}
        self.targets: Mapping[str, Target] = brought.targets

    def learn(self, provider: Provider) -> None:
        """What a provider that is served elsewhere offers, now."""
        self._known[provider.name] = provider

    def knows(self, name: str) -> bool:
        return name in self._known

    def find(self, name: str, field: str = "provider") -> Provider:
        """The provider of that name; raises InvalidValue, ProviderUnreachable."""
        provider = self._known.get(name)
        if provider is not None:
            return provider
        if name in self.targets:
            raise ProviderUnreachable(name)
        known = ", ".join(sorted({*self._known, *self.targets}))
        raise InvalidValue(field, f"{name!r} is not a provider; there are {known}")


def origin_of(url: str) -> str:
    """scheme://host:port of a URL, with the port stated; empty where it is not http or https."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return ""
    standard = {"http": 80, "https": 443}.get(parts.scheme)
    if standard is None or not parts.hostname or parts.username or parts.password:
        return ""
    return f"{parts.scheme}://{parts.hostname.lower()}:{port or standard}"


def allowed_origins(provider: Provider, own_address: str, endpoint: str = "") -> frozenset[str]:
    """Where a provider may be called: its module's origins, or the address configured for it.

    An endpoint's own origin is among them where it is one of those that "*" stands for.
    """
    origin, allowed = origin_of(endpoint), {origin_of(own_address)}
    for stated in provider.origins:
        if "*" not in stated:
            allowed.add(origin_of(stated))
        elif re.fullmatch(re.escape(stated).replace(r"\*", "[a-z0-9-]{1,63}") + ":443", origin):
            allowed.add(origin)
    return frozenset(allowed - {""})


def check_endpoint(provider: Provider, own_address: str, endpoint: str) -> None:
    """Raise InvalidValue where an account's endpoint would send calls elsewhere.

    An endpoint is sent by tenants: without this rule it would reach into the operator's network.
    """
    if provider.target is not None:
        if endpoint:
            raise InvalidValue("endpoint", f"{provider.name} is where the deployment says it is")
        return
    allowed = allowed_origins(provider, own_address, endpoint)
    if not endpoint and not own_address and not provider.endpoint:
        raise InvalidValue("endpoint", f"no address of {provider.name} is configured here")
    if endpoint and origin_of(endpoint) not in allowed:
        raise InvalidValue("endpoint", f"is no address of {provider.name}")
