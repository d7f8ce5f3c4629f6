"""The gateway's settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from chassis.settings import LOOPBACK, PREFIX, Settings, split_address


class Config(Settings):
    """What the gateway is told beside what every service is told."""

    # Where providers' notifications are taken over HTTP; empty: nowhere. Serving processes only.
    notifications_listen: str = ""
    # The address providers reach it at, without path; empty: the address listened on.
    notifications_url: str = ""
    sandbox_endpoint: str = ""  # where the sandbox provider answers; empty: there is none here
    # Other addresses than a provider's own, by its name: "name=https://host,other=https://host".
    provider_endpoints: Annotated[dict[str, str], Field(default_factory=dict)]
    providers_file: str = ""  # JSON; the providers that the operator brings along
    secrets_folder: str = "/var/run/secrets/tollgate-providers"  # holds what file:<name> names
    provider_proxy: str = ""
    provider_ca_file: str = ""  # PEM bundle; empty: the system's
    provider_call_seconds_max: float = Field(default=30.0, gt=0, le=60)
    # How long a process may be silent about an operation before another asks what became of it.
    lease_seconds: float = Field(default=120.0, ge=1, le=3600)
    settle_pause_seconds: float = Field(default=1.0, gt=0, le=60)
    notification_pause_seconds: float = Field(default=0.2, gt=0, le=60)

    @field_validator("provider_endpoints", mode="before")
    @classmethod
    def _parse_provider_endpoints(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if any(not name.strip() or "://" not in address for name, _, address in pairs):
            raise ValueError("write it as name=https://host,other=https://host")
        return {name.strip(): address.strip() for name, _, address in pairs}

    @field_validator("notifications_listen", mode="after")
    @classmethod
    def _check_notifications_listen(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    def model_post_init(self, context: object, /) -> None:
        super().model_post_init(context)
        address = self.notifications_listen
        if address and not self.expose and split_address(address)[0] not in LOOPBACK:
            raise ValueError(
                f"notifications_listen {address} is beyond loopback;"
                f" set {PREFIX}EXPOSE=true if that is meant"
            )
