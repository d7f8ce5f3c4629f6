"""Which installation a command speaks to, and as which tenant."""

from __future__ import annotations

import os
from pathlib import Path

from tollgate_cli.installation import Installation, SuiteFailed
from tollgate_cli.supervisor import SERVICES
from tollgate_sdk import Endpoints

API_KEY_VARIABLE = "TOLLGATE_API_KEY"


def find_endpoints(folder: Path, stated: str) -> Endpoints:
    """The stated addresses (wallet=host:port,…), else those of the installation in a folder.

    Raises SuiteFailed.
    """
    return _parse(stated) if stated else _read(Installation(folder))


def find_key(folder: Path) -> str:
    """The API key of the environment, else that of the seeded tenant. Raises SuiteFailed."""
    return os.environ.get(API_KEY_VARIABLE) or _read_key(Installation(folder))


def _parse(text: str) -> Endpoints:
    pairs = dict(pair.strip().partition("=")[::2] for pair in text.split(","))
    wrong = [name for name, address in pairs.items() if name not in SERVICES or not address]
    if wrong:
        raise SuiteFailed(f"--endpoints: {wrong[0]!r} is not one of {', '.join(SERVICES)}")
    return Endpoints(**{name: pairs.get(name, "127.0.0.1:9") for name in SERVICES})


def _read(installation: Installation) -> Endpoints:
    state = installation.read_state()
    if state is None:
        raise SuiteFailed("nothing is running here; `tollgate up` starts it")
    return Endpoints(**{name: state["endpoints"].get(name, "") for name in SERVICES})


def _read_key(installation: Installation) -> str:
    try:
        return installation.api_key_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SuiteFailed(
            f"there is no API key; set {API_KEY_VARIABLE} to one of the tenant's"
        ) from error
