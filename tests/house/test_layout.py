"""Rules of the layout that no linter knows."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("metering", "wallet", "invoicing", "gateway", "identity")
LINES_MAX = 500

# In a service, what a file is called says what it holds.
CAPABILITY_FILES = {
    "__init__.py",
    "rpc.py",
    "wire.py",
    "operations.py",
    "domain.py",
    "store.py",
    "jobs.py",
}
SERVICE_FILES = CAPABILITY_FILES | {"app.py", "config.py", "__main__.py"}
# Folders whose files are named freely: rules, migrations, and what is a peer rather than a part.
FREE_FOLDERS = {"domain", "migrations", "versions", "providers", "sandbox", "templates"}

# The trade's words leave these without a use of their own; see docs/style.md.
VAGUE = re.compile(r"(^|_)(manager|helper|helpers|util|utils|common|misc|stuff)(_|$)")


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("service", SERVICES)
def test_a_file_of_a_service_has_one_of_the_listed_names(service: str) -> None:
    wrong = []
    for path in python_files(f"services/{service}"):
        parts = path.relative_to(ROOT / "services" / service).parts
        if FREE_FOLDERS.intersection(parts[:-1]):
            continue
        allowed = SERVICE_FILES if len(parts) == 1 else CAPABILITY_FILES
        if parts[-1] not in allowed:
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def test_no_module_has_more_lines_than_a_reader_keeps_in_mind() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files("libs", "services", "cli", "sdk", "tests", "bench", "proof")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > LINES_MAX
    }
    assert long == {}


def test_no_module_has_a_vague_name() -> None:
    vague = [
        str(path.relative_to(ROOT))
        for path in python_files("libs", "services", "cli", "sdk")
        if VAGUE.search(path.stem)
    ]
    assert vague == []


def test_every_module_opens_with_a_sentence() -> None:
    bare = [
        str(path.relative_to(ROOT))
        for path in python_files("libs", "services", "cli", "sdk", "bench", "proof")
        if (text := path.read_text(encoding="utf-8")).strip()
        and not text.lstrip().startswith('"""')
    ]
    assert bare == []


def test_nothing_is_left_unfinished() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in python_files("libs", "services", "cli", "sdk", "bench", "proof")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if marks.search(line)
    ]
    assert found == []


def test_no_lock_file_names_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    named = {"uv.lock", "package-lock.json", "poetry.lock", "yarn.lock", "pnpm-lock.yaml"}
    assert [name for name in listed if Path(name).name in named] == []
    for lock in (
        "requirements.lock",
        "requirements-test.lock",
        "tests/peers/localstripe.lock",
    ):
        assert "://" not in (ROOT / lock).read_text(encoding="utf-8")


def test_every_service_and_capability_is_described() -> None:
    missing = [s for s in SERVICES if not (ROOT / "services" / s / "README.md").is_file()]
    assert missing == []


def test_the_providers_names_stay_in_their_folder() -> None:
    """Code branches on capabilities, never on who the provider is."""
    names = re.compile(r"\b(stripe|adyen|gocardless|razorpay|paddle|chargebee)\b", re.IGNORECASE)
    found = [
        str(path.relative_to(ROOT))
        for path in python_files("services", "libs")
        if "providers" not in path.parts and names.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
