"""Runs the whole suite on loopback: stores, schemas, services; starts again what dies.

    async with running_suite(folder) as suite:
        async with Tollgate(suite.endpoints, await suite.seed_tenant("acme")) as client:
            …
            suite.kill("wallet")
            await suite.wait_until_serving("wallet")

Ports are chosen once and kept for as long as the suite runs, so that a service which was started
again is found where it was.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc

from chassis.database import dsn_with
from chassis.embedded import EmbeddedPostgres, EmbeddedRedis
from chassis.places import is_running, terminate
from tollgate_cli.children import Child, ChildFailed, child_environment
from tollgate_cli.installation import (
    SERVICES,
    Installation,
    Stores,
    SuiteFailed,
    open_stores,
    provision_and_migrate,
    write_private,
)
from tollgate_cli.tenancy import create_tenant
from tollgate_sdk import Endpoints

__all__ = ["SERVICES", "Suite", "SuiteFailed", "running_suite"]

HOST = "127.0.0.1"
NOBODY = f"{HOST}:9"  # the address of a service that does not run: the port where none listens
SANDBOX = "sandbox"
# Settings of the gateway that are taken from this process's environment.
PROVIDER_SETTINGS = (
    "TOLLGATE_PROVIDERS_FILE",
    "TOLLGATE_PROVIDER_ENDPOINTS",
    "TOLLGATE_SECRETS_FOLDER",
)
STATE_SECONDS = 1.0
PROBE_SECONDS_MAX = 2.0
SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}


@dataclass
class Suite:
    """A suite that runs."""

    installation: Installation
    stores: Stores
    addresses: dict[str, str]  # "host:port" of gRPC by service
    sandbox_endpoint: str  # "http://host:port"; empty where the gateway does not run
    notifications_endpoint: str
    applied: dict[str, list[str]]  # migrations, by service
    children: dict[str, Child] = field(default_factory=dict)
    ready: bool = False

    @property
    def endpoints(self) -> Endpoints:
        """The addresses as the client package takes them."""
        return Endpoints(**{name: self.addresses.get(name, NOBODY) for name in SERVICES})

    @property
    def service_secret(self) -> str:
        return self.installation.service_secret

    @property
    def database_url(self) -> str:
        """As superuser; `chassis.database.dsn_with` makes another role of it."""
        return self.stores.database_url

    @property
    def redis_url(self) -> str:
        return self.stores.redis_url

    @property
    def postgres(self) -> EmbeddedPostgres | None:
        """The embedded server, for those who want to kill it; None where one was named."""
        return self.stores.postgres

    @property
    def redis(self) -> EmbeddedRedis | None:
        return self.stores.redis

    @property
    def pids(self) -> dict[str, int | None]:
        """Process ids by service; None where one is dead at the moment."""
        return {name: child.pid for name, child in self.children.items()}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each was started again."""
        return {name: child.restarts for name, child in self.children.items()}

    def kill(self, service: str) -> None:
        """SIGKILL a service; it is started again by itself."""
        self.children[service].kill()

    def send_signal(self, service: str, number: int) -> None:
        """Any signal, for example SIGSTOP and SIGCONT."""
        self.children[service].send_signal(number)

    async def wait_until_serving(self, *services: str) -> None:
        """Wait until these services (all, where none is named) serve. Raises SuiteFailed."""
        names = services or tuple(self.children)
        try:
            await asyncio.gather(*(self.children[name].wait_until_serving() for name in names))
        except ChildFailed as error:
            raise SuiteFailed(str(error)) from error

    async def is_serving(self, service: str) -> bool:
        return await self.children[service].is_serving()

    async def seed_tenant(self, name: str) -> str:
        """Create a test tenant; returns an API key of its owner."""
        return await create_tenant(self.endpoints, self.service_secret, name)

    def mark_ready(self) -> None:
        """Tell whoever waits for the state file that there is nothing more to wait for."""
        self.ready = True
        self.installation.write_state(self.describe())

    def describe(self) -> dict[str, object]:
        """What the state file holds."""
        return {
            "supervisor": os.getpid(),
            "ready": self.ready,
            "services": {
                name: {
                    "pid": child.pid,
                    "address": child.announcement.get("listening", ""),
                    "metrics": child.announcement.get("metrics", ""),
                    "restarts": child.restarts,
                }
                for name, child in self.children.items()
            },
            "endpoints": self.addresses,
            "sandbox": self.sandbox_endpoint,
            "notifications": self.notifications_endpoint,
            "database": "embedded" if self.postgres else "named by DATABASE_URL",
            "redis": "embedded" if self.redis else "named by REDIS_URL",
            "service_secret_file": str(self.installation.service_secret_file),
            "api_key_file": str(self.installation.api_key_file),
        }


@asynccontextmanager
async def running_suite(
    folder: Path | str,
    services: Sequence[str] = SERVICES,
    database_url: str | None = None,
    redis_url: str | None = None,
    *,
    fresh: bool = False,
    port_base: int = 0,
    settings: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[Suite]:
    """Run `services` (and the sandbox provider beside the gateway) while in the block.

    `database_url` is a superuser's DSN. With `fresh`, the suite begins with an empty database that
    is dropped at the end. With `port_base`, services take the ports after it, else any free ones.
    `settings` are further environment variables by service. Raises SuiteFailed, EmbeddedFailed.
    """
    installation = Installation(Path(folder))
    installation.prepare()
    async with AsyncExitStack() as stack:
        stack.enter_context(_alone(installation))
        _end_leftovers(installation)
        stores = await stack.enter_async_context(
            open_stores(installation, database_url, redis_url, fresh=fresh)
        )
        passwords = installation.passwords
        applied = await provision_and_migrate(stores.database_url, passwords, services)
        ports = stack.enter_context(_Ports(port_base))
        addresses = {name: f"{HOST}:{ports.hold()}" for name in services}
        suite = Suite(installation, stores, addresses, "", "", applied)
        if "gateway" in services:
            suite.sandbox_endpoint = f"http://{HOST}:{ports.find()}"
            suite.notifications_endpoint = f"http://{HOST}:{ports.find()}"
            suite.children[SANDBOX] = _sandbox(suite, fresh)
        for name in services:
            extra = (settings or {}).get(name, {})
            suite.children[name] = _service(suite, name, passwords, extra)
        stack.push_async_callback(_stop, suite)
        await _start(suite)
        await suite.wait_until_serving()
        installation.write_state(suite.describe())
        stack.callback(installation.state_file.unlink, missing_ok=True)
        writing = asyncio.create_task(_keep_state(suite))
        stack.callback(writing.cancel)
        yield suite


async def _start(suite: Suite) -> None:
    try:
        await asyncio.gather(*(child.start() for child in suite.children.values()))
    except (ChildFailed, OSError) as error:
        raise SuiteFailed(str(error)) from error


async def _stop(suite: Suite) -> None:
    await asyncio.gather(*(child.stop() for child in suite.children.values()))


async def _keep_state(suite: Suite) -> None:
    written: dict[str, object] = {}
    while True:
        await asyncio.sleep(STATE_SECONDS)
        present = suite.describe()
        if present != written:
            with suppress(OSError):  # a full disk is told by those who must write
                suite.installation.write_state(present)
                written = present


def _service(suite: Suite, name: str, passwords: dict[str, str], extra: Mapping[str, str]) -> Child:
    installation = suite.installation
    app = f"{name}_app"
    environment = {
        "TOLLGATE_DATABASE_URL": dsn_with(suite.database_url, user=app, password=passwords[app]),
        "TOLLGATE_REDIS_URL": suite.redis_url,
        "TOLLGATE_LISTEN": suite.addresses[name],
        "TOLLGATE_METRICS_LISTEN": f"{HOST}:0",
        "TOLLGATE_PEERS": ",".join(f"{peer}={at}" for peer, at in suite.addresses.items()),
        "TOLLGATE_SERVICE_SECRET_FILE": str(installation.service_secret_file),
    }
    if name == "identity":
        environment["TOLLGATE_API_KEY_PEPPER_FILE"] = str(installation.pepper_file)
    if name == "gateway":
        environment["TOLLGATE_SANDBOX_ENDPOINT"] = suite.sandbox_endpoint
        environment["TOLLGATE_NOTIFICATIONS_LISTEN"] = suite.notifications_endpoint[7:]
        # On loopback an answer takes milliseconds: what a crash left open is asked about soon.
        environment["TOLLGATE_LEASE_SECONDS"] = "10"
        # Which providers there are is the operator's to say, here as anywhere.
        environment |= {name: os.environ[name] for name in PROVIDER_SETTINGS if name in os.environ}
    return Child(
        name,
        # The port is ours and held, and the child shares it.
        [sys.executable, "-m", name, "run", "--child", "0"],
        child_environment(**environment, **extra),
        installation.logs / f"{name}.log",
        _answers_health,
    )


def _sandbox(suite: Suite, fresh: bool) -> Child:
    journal = suite.installation.folder / "sandbox.journal"
    if fresh:
        journal.unlink(missing_ok=True)
    port = suite.sandbox_endpoint.rpartition(":")[2]
    return Child(
        SANDBOX,
        [sys.executable, "-m", "gateway.sandbox", "--port", port, "--journal", str(journal)],
        child_environment(),
        suite.installation.logs / "sandbox.log",
        _has_announced,
    )


async def _has_announced(child: Child) -> bool:
    return bool(child.announcement)


async def _answers_health(child: Child) -> bool:
    return await serves_at(child.announcement["listening"])


async def serves_at(address: str) -> bool:
    """Whether a service answers there that it serves."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            # Without stubs: an empty message asks about the whole process.
            check = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
            answer: bytes = await check(b"", timeout=PROBE_SECONDS_MAX)
        except grpc.aio.AioRpcError:
            return False
    return answer == SERVING


class _Ports:
    """Ports for the suite: those after a base, or any free ones; held ones stay ours."""

    def __init__(self, base: int) -> None:
        self._next = base + 1 if base else 0
        self._held: list[socket.socket] = []

    def __enter__(self) -> _Ports:
        return self

    def __exit__(self, *exception: object) -> None:
        for held in self._held:
            held.close()

    def hold(self) -> int:
        """A port that a child shares with us, and nobody takes while the child is dead."""
        port = self.find()
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._held.append(held)
        # Bound and not listening: no connection comes here.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((HOST, port))
        return port

    def find(self) -> int:
        """A port that is free now. Raises SuiteFailed where one that was asked for is not."""
        port = self._next
        if port:
            self._next += 1
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise SuiteFailed(
                    f"port {port} is in use; stop what uses it, or choose others by --port-base"
                ) from error
            found: int = probe.getsockname()[1]
            return found


@contextmanager
def _alone(installation: Installation) -> Iterator[None]:
    """Held while a supervisor runs; a second one in the same folder is told so."""
    path = installation.folder / "supervisor.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SuiteFailed(f"a suite already runs in {path.parent}") from error
        yield


def _end_leftovers(installation: Installation) -> None:
    """End the services of a supervisor that was killed: they have our ports and our database."""
    for pid in leftover_pids(installation):
        with suppress(ProcessLookupError):
            terminate(pid, None, urgent=False, seconds_max=10.0)
    installation.state_file.unlink(missing_ok=True)


def leftover_pids(installation: Installation) -> list[int]:
    """Processes of the last state that live on and are still what they were."""
    state = installation.read_state() or {}
    found = []
    for name, service in state.get("services", {}).items():
        pid = service["pid"]
        if pid is not None and is_running(pid) and _is_ours(pid, name):
            found.append(pid)
    return found


def _is_ours(pid: int, name: str) -> bool:
    module = "gateway.sandbox" if name == SANDBOX else name
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"-m" in arguments and module.encode() in arguments


async def seeded_key(suite: Suite) -> str:
    """The test tenant's key: the one in the folder while it opens something, else a new one."""
    path = suite.installation.api_key_file
    stamp = f"{datetime.now(UTC):%Y-%m-%d}"
    if path.exists() and not any(suite.applied.values()):
        # Nothing was migrated, so this is the database that the key was made in.
        return path.read_text().strip()
    key = await suite.seed_tenant(f"test tenant of {stamp}")
    write_private(path, key + "\n")
    return key
