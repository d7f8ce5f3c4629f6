"""What leaves the house: the example runs as it is written, and the package stands alone."""

from __future__ import annotations

import ast
import asyncio
import os
import sys
import tomllib
from pathlib import Path

from tests.sdk.conftest import Site, api_key

SDK = Path(__file__).resolve().parents[2] / "sdk" / "python"
OWNER_AREAS = ("catalog", "customers", "events", "meters", "subscriptions", "usage", "wallet")
DISTRIBUTIONS = {
    "grpc": "grpcio",
    "google.protobuf": "protobuf",
    "google.rpc": "googleapis-common-protos",
    "tenacity": "tenacity",
}


async def test_the_example_runs_twice_and_charges_what_it_says(site: Site, tmp_path: Path) -> None:
    endpoints = site.endpoints
    named = {name: getattr(endpoints, name) for name in endpoints.__dataclass_fields__}
    environment = os.environ | {
        "TOLLGATE_ENDPOINTS": ",".join(f"{name}={address}" for name, address in named.items()),
        "TOLLGATE_JOURNAL": str(tmp_path / "journal"),
    }
    owner = await api_key(site.identity, site.world.tenant_id, OWNER_AREAS)
    told = []
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", str(SDK / "examples" / "report_usage.py"), owner,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        assert (process.returncode, errors.decode()) == (0, "")
        told.append(output.decode().splitlines())
    assert told[0] == [
        "accepted: 311 tokens cost 0.622 USD, 9.378 left",
        "accepted: 1 tokens cost 0.002 USD, 9.376 left",
        "accepted: 2 tokens cost 0.004 USD, 9.372 left",
        "accepted: 3 tokens cost 0.006 USD, 9.366 left",
        "denied: INSUFFICIENT_FUNDS, short of 2000000 USD",
    ]
    assert told[1][0] == "accepted: 311 tokens cost 0.622 USD, 8.744 left"


def test_the_package_imports_what_it_declares_and_nothing_else() -> None:
    declared = tomllib.loads((SDK / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {line.partition(">")[0] for line in declared}
    assert names == set(DISTRIBUTIONS.values())
    known = {*DISTRIBUTIONS, *sys.stdlib_module_names, "tollgate", "tollgate_sdk"}
    for path in (SDK / "tollgate_sdk").rglob("*.py"):
        foreign = {
            module
            for module in imported(path)
            if not any(module == name or module.startswith(f"{name}.") for name in known)
        }
        assert foreign == set(), path.name


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(f"google.{node.names[0].name}" if node.module == "google" else node.module)
    return found
