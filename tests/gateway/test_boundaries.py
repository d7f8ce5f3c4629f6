"""Where the gateway does I/O, and where it must not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GATEWAY = ROOT / "services" / "gateway"
IMPURE = {"httpx", "aiohttp", "asyncio", "asyncpg", "google", "grpc", "tollgate", "chassis"}


def imports_of(path: Path) -> set[str]:
    """Top-level names of the packages that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_plans_and_rules_do_no_io() -> None:
    pure = [*(GATEWAY / "domain").glob("*.py")]
    with_io = {"driver.py", "exchange.py", "lines.py"}
    pure += [path for path in (GATEWAY / "providers").rglob("*.py") if path.name not in with_io]
    # The plans of the contract are written in its messages, which are values.
    messages = {"google", "tollgate"}
    impure = {
        path.name: found
        for path in pure
        if (
            found := imports_of(path)
            & IMPURE - (messages if path.parent.name == "remote" else set())
        )
    }
    assert impure == {}


def test_only_the_collector_calls_providers() -> None:
    callers = {
        path.relative_to(GATEWAY).as_posix()
        for path in GATEWAY.rglob("*.py")
        if re.search(r"_driver\.play\(", path.read_text(encoding="utf-8"))
    }
    assert callers == {"collection/operations.py"}
