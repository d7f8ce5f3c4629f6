"""Which providers there are, by name. The one place that knows them all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.providers import adyen, chargebee, gocardless, paddle, razorpay, sandbox, stripe
from gateway.providers.plan import Provider
from kernel.errors import InvalidValue

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


def find_provider(name: str, field: str = "provider") -> Provider:
    """The provider of that name; raises InvalidValue where there is none."""
    provider = PROVIDERS.get(name)
    if provider is None:
        known = ", ".join(sorted(PROVIDERS))
        raise InvalidValue(field, f"{name!r} is not a provider; there are {known}")
    return provider


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
    allowed = allowed_origins(provider, own_address, endpoint)
    if not endpoint and not own_address and not provider.endpoint:
        raise InvalidValue("endpoint", f"no address of {provider.name} is configured here")
    if endpoint and origin_of(endpoint) not in allowed:
        raise InvalidValue("endpoint", f"is no address of {provider.name}")
