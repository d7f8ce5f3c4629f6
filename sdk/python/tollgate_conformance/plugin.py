"""The kit as a plugin of pytest: which provider is on the bench, and what came of its cases."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from gateway.providers.brought import GROUP, loaded, read_target
from gateway.providers.plan import Provider
from gateway.providers.registry import PROVIDERS
from tollgate_conformance.bench import Bench
from tollgate_conformance.rig import Rig

RESULTS = pytest.StashKey[dict[str, dict[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tollgate", "conformance of payment providers")
    group.addoption("--provider", help="builtin:NAME, entrypoint:NAME or grpc:TARGET")
    group.addoption("--rig", help="module:class of a tollgate_conformance.Rig")
    group.addoption("--report", help="file that takes the results as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = {}


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The provider on the bench, for all cases of a run."""
    made = Bench(rig_of(request.config))
    made.open()
    yield made
    made.close()


def rig_of(config: pytest.Config) -> Rig:
    """The rig that the options name, with its provider in it."""
    named, rig_path = config.getoption("--provider"), config.getoption("--rig")
    if not named or not rig_path:
        raise pytest.UsageError("state --provider and --rig")
    module, _, kind = rig_path.partition(":")
    rig = getattr(importlib.import_module(module), kind)()
    if not isinstance(rig, Rig):
        raise pytest.UsageError(f"{rig_path} is no Rig")
    sort, _, name = named.partition(":")
    if sort == "builtin" and name in PROVIDERS:
        rig.provider = PROVIDERS[name]
    elif sort == "entrypoint":
        found = [each for each in entry_points(group=GROUP) if each.name == name]
        if len(found) != 1:
            raise pytest.UsageError(f"{len(found)} packages have the entry point {name}, not one")
        rig.provider = loaded(name, found[0])
    elif sort == "grpc":
        rig.provider = _served(name)
    else:
        raise pytest.UsageError(f"{named} is not builtin:NAME, entrypoint:NAME or grpc:TARGET")
    return rig


def _served(address: str) -> Provider:
    """A provider that a process serves, once it has said what it offers."""
    import grpc

    from gateway.providers.remote import provider_of
    from tollgate.gateway.provider.v1 import provider_service_pb2 as pb
    from tollgate.gateway.provider.v1 import provider_service_pb2_grpc as rpc

    target = read_target("provider", {"target": address})
    with grpc.insecure_channel(target.address) as channel:
        told = rpc.ProviderServiceStub(channel).GetCapabilities(
            pb.GetCapabilitiesRequest(), timeout=10.0, wait_for_ready=True
        )
    return provider_of(told.name or "provider", target, told)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    results = item.config.stash[RESULTS]
    if report.when == "call" or report.outcome != "passed":
        why = ""
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            why = report.longrepr[2].removeprefix("Skipped: ")
        results[item.nodeid.rpartition("cases/")[2]] = {"outcome": report.outcome, "why": why}


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--report")
    if path:
        results = session.config.stash[RESULTS]
        Path(path).write_text(json.dumps(results, indent=1, sort_keys=True), encoding="utf-8")


def pytest_unconfigure() -> None:
    asyncio.set_event_loop(None)
