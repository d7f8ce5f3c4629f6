"""Configuration: typed, read once from the environment, printed without secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import CoreSchema, core_schema

PREFIX = "TOLLGATE_"
SECRET_FILE_SUFFIX = "_FILE"  # noqa: S105 - the name of a variable, not a secret
SECRETS_FOLDER = Path("/var/run/secrets/tollgate")
SERVICE_SECRET_BYTES_MIN = 32  # HMAC-SHA-256 keys shorter than their hash are weaker than it
LOOPBACK = ("127.0.0.1", "::1", "[::1]", "localhost")


class SettingsError(Exception):
    """The configuration cannot be used. The message is one sentence for the operator."""


class Secret:
    """Text that does not show itself: `repr` and `str` are ***, `reveal()` is the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._validate)

    @classmethod
    def _validate(cls, value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        if isinstance(value, str):
            return cls(value)
        raise ValueError("a secret is text")


class Settings(BaseModel):
    """What every service is told. A service with settings of its own subclasses this in config.py.

    Each field is read from TOLLGATE_<FIELD>; a `Secret` field, or one that `repr` leaves out, may
    also be read from the file that TOLLGATE_<FIELD>_FILE names, or from
    /var/run/secrets/tollgate/<field>. Tests and supervisors that have the values at hand construct
    the class directly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    service: str = ""
    database_url: Secret = Secret()  # DSN of role <service>_app
    migrate_database_url: Secret = Secret()  # DSN of role <service>_migrate, a direct connection
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)  # may hold a password
    listen: str = "127.0.0.1:0"
    health_listen: str = ""  # empty: health is answered on the main port only
    metrics_listen: str = ""  # empty: no exposition
    peers: Annotated[dict[str, str], Field(default_factory=dict)]
    service_secret: Secret = Secret()
    api_key_pepper: Secret = Secret()  # identity only: "1:<text>,2:<text>", the last is used
    pool_mode: Literal["direct", "transaction"] = "direct"
    pool_size: int = Field(default=10, ge=1, le=200)
    lanes: int = Field(default=2, ge=1, le=64)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str = ""  # empty: nothing is exported
    expose: bool = False
    failpoints: str = ""  # a file that arms places to crash at; for tests on loopback alone
    drain_seconds: float = Field(default=20, ge=0, le=600)  # below Kubernetes' 30, never cut short

    _example: ClassVar[str] = "wallet=127.0.0.1:7102,invoicing=127.0.0.1:7103"

    @field_validator("peers", mode="before")
    @classmethod
    def _parse_peers(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if any(not name.strip() or not address.strip() for name, _, address in pairs):
            raise ValueError(f"write it as {cls._example}")
        return {name.strip(): address.strip() for name, _, address in pairs}

    @field_validator("service_secret", "api_key_pepper", mode="after")
    @classmethod
    def _check_strength(cls, value: Secret) -> Secret:
        if value and len(value.reveal().encode()) < SERVICE_SECRET_BYTES_MIN:
            raise ValueError(f"must be at least {SERVICE_SECRET_BYTES_MIN} bytes long")
        return value

    @field_validator("listen", "health_listen", "metrics_listen", mode="after")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    def model_post_init(self, context: object, /) -> None:
        if self.expose:
            if self.failpoints:
                raise ValueError("failpoints are for tests on loopback, never together with expose")
            return
        for name in ("listen", "health_listen", "metrics_listen"):
            address: str = getattr(self, name)
            if address and split_address(address)[0] not in LOOPBACK:
                raise ValueError(
                    f"{name} {address} is beyond loopback; set {PREFIX}EXPOSE=true if that is meant"
                )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **fixed: object) -> Self:
        """Read the environment once; `fixed` values win. Raises SettingsError."""
        values = _read_environment(cls, os.environ if environ is None else environ)
        values.update(fixed)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(_sentence(error)) from None

    def describe(self) -> dict[str, str]:
        """Every setting as text, secrets as ***."""
        fields = type(self).model_fields.items()
        return {name: str(getattr(self, name)) if field.repr else "***" for name, field in fields}


def split_address(address: str) -> tuple[str, int]:
    """Read "host:port" or "[v6]:port"; raises ValueError where it is neither."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def _read_environment(cls: type[Settings], environ: Mapping[str, str]) -> dict[str, object]:
    secrets = {
        name
        for name, field in cls.model_fields.items()
        if field.annotation is Secret or not field.repr
    }
    values: dict[str, object] = {}
    for name in secrets:
        mounted = SECRETS_FOLDER / name
        if mounted.is_file():
            values[name] = _read_file(mounted)
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in cls.model_fields:
            values[name] = text
        elif (secret := name.removesuffix(SECRET_FILE_SUFFIX.lower())) in secrets:
            values[secret] = _read_file(Path(text))
        else:
            known = ", ".join(PREFIX + field.upper() for field in sorted(cls.model_fields))
            raise SettingsError(f"{variable} is not a setting; there are {known}")
    return values


def _read_file(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"secret file {path} cannot be read: {error.strerror}") from None


def _sentence(error: ValidationError) -> str:
    parts = []
    for fault in error.errors(include_input=False, include_url=False):
        where = "".join(f"{PREFIX}{str(part).upper()}: " for part in fault["loc"][:1])
        parts.append(where + fault["msg"].removeprefix("Value error, "))
    return "; ".join(parts)
