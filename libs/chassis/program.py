"""`python -m <service> serve|work|run|migrate|check`: the one program every service is."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

import uvloop

from chassis.database import DatabaseUnavailable
from chassis.migrations import MigrationRefused, SchemaUnfit, check_schema, migrate
from chassis.platform import open_platform
from chassis.server import PortInUse
from chassis.service import App, Job, Running, ServiceDefinition, running
from chassis.settings import Settings, SettingsError, split_address
from chassis.telemetry import configure_logs
from kernel.errors import Refusal

__all__ = ["App", "Job", "Running", "ServiceDefinition", "main", "running"]

EXIT_FAULT = 1
EXIT_SETTINGS = 2
PROCESSES_MAX = 64
CHILD = "--child"  # this process shares a port that its parent reserved


def main(definition: ServiceDefinition, arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave the process; what goes wrong is one sentence on stderr."""
    options = _parse(definition.name, arguments)
    try:
        settings = definition.config.load(service=definition.name)
        configure_logs(definition.name, settings.log_level)
        if options.processes > 1:
            code = _serve_processes(definition, settings, options)
        else:
            code = uvloop.run(_run(definition, settings, options))
    except SettingsError as error:
        _say(definition.name, error)
        code = EXIT_SETTINGS
    except (PortInUse, Refusal, SchemaUnfit, MigrationRefused, OSError) as error:
        _say(definition.name, error)
        code = EXIT_FAULT
    raise SystemExit(code)


def _parse(name: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=f"Tollgate's {name}.")
    parser.add_argument(
        "command",
        choices=("serve", "work", "run", "migrate", "check"),
        help="serve: answer calls; work: background jobs; run: both in one process; "
        "migrate: bring the schema up to date; check: try settings and connections",
    )
    parser.add_argument("--processes", type=int, default=1, help="of serve and run, on one port")
    parser.add_argument(CHILD, type=int, default=-1, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 1 <= options.processes <= PROCESSES_MAX:
        parser.error(f"--processes takes 1 to {PROCESSES_MAX}")
    return options


async def _run(
    definition: ServiceDefinition, settings: Settings, options: argparse.Namespace
) -> int:
    match options.command:
        case "migrate":
            return await _migrate(definition, settings)
        case "check":
            return await _check(definition, settings)
        case command:
            # Of several processes that serve, one works: jobs are safe in many, but idle there.
            serves = command in ("serve", "run")
            works = command in ("work", "run") and options.child <= 0
            return await _run_until_told(definition, settings, serves, works, options.child)


async def _run_until_told(
    definition: ServiceDefinition, settings: Settings, serves: bool, works: bool, child: int
) -> int:
    if not settings.service_secret:
        raise SettingsError("TOLLGATE_SERVICE_SECRET is not set; services know each other by it")
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with running(
        definition, settings, serve=serves, work=works, shared_port=child >= 0
    ) as service:
        configure_logs(definition.name, settings.log_level, service.platform.metrics)
        if child <= 0:
            _announce(definition.name, service)
        await told.wait()
    return 0


def _announce(name: str, service: Running) -> None:
    line = {
        "listening": service.address,
        "service": name,
        "health": service.health_address,
        "metrics": service.metrics_address,
        "process": os.getpid(),
    }
    print(json.dumps(line), flush=True)


async def _migrate(definition: ServiceDefinition, settings: Settings) -> int:
    dsn = settings.migrate_database_url.reveal()
    if not dsn:
        raise SettingsError("TOLLGATE_MIGRATE_DATABASE_URL is not set; migrations need it")
    applied = await migrate(definition.name, dsn, definition.migrations)
    print(json.dumps({"service": definition.name, "applied": applied}), flush=True)
    return 0


async def _check(definition: ServiceDefinition, settings: Settings) -> int:
    """Print the settings without secrets, then try every connection; 0 where all are good."""
    findings: dict[str, str] = {}
    async with open_platform(settings) as platform:
        try:
            async with platform.database.unscoped() as connection:
                await check_schema(connection, definition.name, definition.migrations)
            findings["database"] = "ok"
        except (DatabaseUnavailable, SchemaUnfit) as error:
            findings["database"] = str(error)
        try:
            await platform.redis.ping()
            findings["redis"] = "ok"
        except Exception as error:  # redis-py raises its own, the socket's and the resolver's
            findings["redis"] = f"does not answer: {error}"
    if not settings.service_secret:
        findings["credential"] = "TOLLGATE_SERVICE_SECRET is not set"
    print(json.dumps({"settings": settings.describe(), "findings": findings}), flush=True)
    return 0 if all(finding == "ok" for finding in findings.values()) else EXIT_FAULT


def _serve_processes(
    definition: ServiceDefinition, settings: Settings, options: argparse.Namespace
) -> int:
    """Run N processes on one port until told to stop or until one of them fails."""
    if options.command not in ("serve", "run"):
        raise SettingsError("--processes is for serve and run")
    with contextlib.ExitStack() as stack:
        environment = dict(os.environ)
        for name in ("listen", "health_listen"):
            address: str = getattr(settings, name)
            if address:
                environment[f"TOLLGATE_{name.upper()}"] = stack.enter_context(_reserve(address))
        children = []
        for index in range(options.processes):
            if settings.metrics_listen:
                environment["TOLLGATE_METRICS_LISTEN"] = _shifted(settings.metrics_listen, index)
            command = [sys.executable, "-m", _module(), options.command, CHILD, str(index)]
            children.append(subprocess.Popen(command, env=environment))
        return _wait_for(children)


def _wait_for(children: list[subprocess.Popen[bytes]]) -> int:
    stopping = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            child.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    worst = 0
    for _ in children:
        ended, status = os.wait()
        for child in children:
            if child.pid == ended:
                child.returncode = os.waitstatus_to_exitcode(status)
                worst = worst or abs(child.returncode)
        if not stopping:
            pass_on(signal.SIGTERM, None)  # a supervisor starts all of us again
            worst = worst or EXIT_FAULT
    return worst


@contextlib.contextmanager
def _reserve(address: str) -> Iterator[str]:
    """Hold a port for sister processes; raises PortInUse where another program has it."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bare = host.strip("[]")
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bare, port))
        except OSError as error:
            raise PortInUse(f"cannot listen on {address}: {error.strerror}") from None
    with socket.socket(family, socket.SOCK_STREAM) as held:
        # Bound and not listening: no connection comes here, and nobody else gets the port.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((bare, port))
        yield f"{host}:{held.getsockname()[1]}"


def _module() -> str:
    """The module that `python -m` was told to run, for the children to run it too."""
    spec = sys.modules["__main__"].__spec__
    if spec is None:
        raise SettingsError("--processes needs a program started with python -m")
    return spec.name.removesuffix(".__main__")


def _shifted(address: str, index: int) -> str:
    """Each process has its own metrics, on the ports after the first."""
    host, port = split_address(address)
    return f"{host}:{port + index if port else 0}"


def _say(name: str, error: BaseException) -> None:
    print(f"{name}: {error}", file=sys.stderr, flush=True)


def _main() -> None:
    name = os.environ.get("TOLLGATE_SERVICE", "")
    if not name.isidentifier():
        print("TOLLGATE_SERVICE must name the service to run", file=sys.stderr)
        raise SystemExit(EXIT_SETTINGS)
    try:
        module = importlib.import_module(f"{name}.app")
    except ModuleNotFoundError as error:
        if error.name not in (name, f"{name}.app"):
            raise
        print(f"there is no service {name!r} in this image", file=sys.stderr)
        raise SystemExit(EXIT_SETTINGS) from None
    main(module.SERVICE)


if __name__ == "__main__":
    _main()
