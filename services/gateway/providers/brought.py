"""Providers that the operator brings along: processes that serve the contract, and packages.

They are listed in one JSON file, by name:

    {"acme": {"target": "unix:/run/acme/provider.sock"},
     "bank": {"target": "bank.payments.svc:8443", "ca_file": "…", "certificate_file": "…",
              "key_file": "…", "server_name": "bank"},
     "home": {"entry_point": "home", "distribution_sha256": "…"}}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any

from gateway.providers.plan import Provider, Target

GROUP = "tollgate.providers"  # of entry points; each names a Provider
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):\d{1,5}")
_TLS = frozenset({"ca_file", "certificate_file", "key_file", "server_name"})
# Written by installers, of the machine rather than of the package.
_NOT_OF_THE_PACKAGE = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})


class NotBrought(ValueError):
    """The file of providers, or what it names, cannot be used. The message is for the operator."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What a file of providers names: those that are here, and where the others are asked."""

    providers: Mapping[str, Provider]
    targets: Mapping[str, Target]


NOTHING_BROUGHT = Brought({}, {})


def read_brought(path: Path, taken: frozenset[str]) -> Brought:
    """Read the file, and load the packages that it names; raises NotBrought.

    `taken` are names that cannot be given again.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotBrought(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise NotBrought(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise NotBrought(f"{path} is not an object of providers by name")
    providers, targets = {}, {}
    for name, told in content.items():
        if not _NAME.fullmatch(name) or name in taken:
            raise NotBrought(f"{name!r} cannot be a provider's name: it is taken, or is none")
        if not isinstance(told, dict) or not all(isinstance(each, str) for each in told.values()):
            raise NotBrought(f"{name} is not an object of texts")
        if "entry_point" in told:
            providers[name] = _load(name, told)
        else:
            targets[name] = read_target(name, told)
    return Brought(providers, targets)


def read_target(name: str, told: Mapping[str, str]) -> Target:
    """Where a provider serves the contract; raises NotBrought.

    Beyond this machine only with TLS and a certificate of ours: whoever may call it may charge.
    """
    unknown = set(told) - {"target"} - _TLS
    address = told.get("target", "")
    if unknown or not address:
        raise NotBrought(f"{name} has no target, or the unknown {sorted(unknown)}")
    stated = {field for field in _TLS if told.get(field)}
    near = address.startswith("unix:") or _LOOPBACK.fullmatch(address)
    if not near and not {"ca_file", "certificate_file", "key_file"} <= stated:
        raise NotBrought(
            f"{name} at {address} is beyond this machine: it needs ca_file, certificate_file"
            " and key_file"
        )
    return Target(address, **{field: told[field] for field in stated})


def _load(name: str, told: Mapping[str, str]) -> Provider:
    if set(told) != {"entry_point", "distribution_sha256"}:
        raise NotBrought(f"{name} takes entry_point and distribution_sha256")
    found = [each for each in entry_points(group=GROUP) if each.name == told["entry_point"]]
    if len(found) != 1 or found[0].dist is None:
        raise NotBrought(f"{name}: {len(found)} packages have the entry point, not one")
    digest = digest_of(found[0].dist)
    if digest != told["distribution_sha256"]:
        raise NotBrought(f"{name}: its package is of sha256 {digest}, not the one that is pinned")
    return loaded(name, found[0])


def loaded(name: str, entry_point: EntryPoint) -> Provider:
    """The provider of an entry point, under the name it is given here; raises NotBrought."""
    provider: Any = entry_point.load()
    if not isinstance(provider, Provider):
        raise NotBrought(f"{name}: {entry_point.value} is no gateway.providers.plan.Provider")
    return replace(provider, name=name)


def digest_of(distribution: Distribution) -> str:
    """SHA-256 over the names and contents of all files that a package installed.

    Raises NotBrought where it does not list them, or has one outside of itself.
    """
    if distribution.files is None:
        raise NotBrought(f"{distribution.name} does not list its files")
    whole = hashlib.sha256()
    for file in sorted(distribution.files, key=str):
        if file.suffix == ".pyc" or file.name in _NOT_OF_THE_PACKAGE:
            continue
        content = Path(str(distribution.locate_file(file))).read_bytes()
        whole.update(f"{file}\0{len(content)}\0".encode())
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()
